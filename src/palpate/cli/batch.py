"""`palpate batch`."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import FAULTY, STOPPED, Console, app
from .inference import Inference
from .outputs import OverwriteOption, PictureDisplayOptions, check_display, text
from .postprocessing import PostprocessingOptions
from .verbs import verb

if TYPE_CHECKING:
    from ..batch import Summary
    from ..batch.jobs import Job


@verb(
    app,
    examples=(
        "palpate batch jobs.csv",
        "palpate batch jobs.csv --workers 4 --results masks/results.csv --json",
        "palpate batch jobs.csv --pictures pictures/",
    ),
)
def batch(
    console: Console,
    context: typer.Context,
    *,
    jobs: Annotated[Path, typer.Argument(help="A CSV of scan,prompts,output (docs/how-to/batch.md).")],
    results: Annotated[Path | None, typer.Option(help="The results' CSV; by default beside the list.")] = None,
    workers: Annotated[int, typer.Option(help="Processes, each with the model.")] = 1,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="Stop a job that takes longer.")] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Also save a picture of each mask there, as OUTPUT's name with .png."),
    ] = None,
    loose_box: Annotated[
        bool, typer.Option("--loose-box", help="Boxes are hints: the mask may go on outside them.")
    ] = False,
    overwrite: OverwriteOption = False,
    display: PictureDisplayOptions,
    inference: Inference,
    postprocessing: PostprocessingOptions,
) -> None:
    """Segment a list of scans; the same command again does what is missing.

    Exit code 1: some jobs failed or have no picture, and are listed.
    """
    from ..batch import Batch, JobPictures, read_jobs, results_path

    check_display(context, pictures, "--pictures")
    listed = read_jobs(jobs, loose_boxes=loose_box)
    drawn = None if pictures is None else JobPictures(pictures, display.unit, display.window)
    target = results_path(jobs) if results is None else results
    with _stoppable(console) as reached:
        with console.step("load", f"loading {inference.model}"):
            todo = Batch(
                listed,
                target,
                inference.settings(),
                overwrite=overwrite,
                pictures=drawn,
                postprocessing=postprocessing,
            )
        before = len(listed) - len(todo.missing)
        if todo.of_earlier_rules:
            console.info(
                f"{len(todo.of_earlier_rules)} finished masks were made by the rules of an earlier version, and stay; "
                "delete those files to have them made anew"
            )
        reached(before, len(listed))
        with console.bar("segmenting", len(listed), done=before) as advance:

            def progress(done: int, job: Job) -> None:
                reached(done, len(listed))
                advance(done, job.output.name)

            summary = todo.run(workers, progress, timeout)
    record = _record(jobs, target, summary) | postprocessing.record | {"pictures": text(pictures)}
    console.result(record, [_sentence(record)], _problems(record))
    if summary.failed or summary.undrawn:
        raise typer.Exit(FAULTY)


@contextmanager
def _stoppable(console: Console) -> Iterator[Callable[[int, int], None]]:
    """Let SIGTERM and Ctrl-C stop it, in a shell's background too, where Ctrl-C is ignored; print how to go on.

    Yields a function that takes how many of how many jobs are finished.
    """
    finished = ""

    def reached(count: int, total: int) -> None:
        nonlocal finished
        finished = f" after {count} of {total}"

    def stop(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield reached
    except KeyboardInterrupt:
        console.info(f"stopped{finished}; what was finished is kept. Run the same command again to do the rest")
        raise typer.Exit(STOPPED) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _record(listing: Path, results: Path, summary: Summary) -> dict[str, Any]:
    return {
        "batch": str(listing),
        "results": str(results),
        "jobs": len(summary.jobs),
        "done": len(summary.jobs) - len(summary.failed),
        "done_before": summary.before,
        "failed": [
            {"row": job.row, "scan": row.scan, "output": row.output, "error": row.error, "message": row.message}
            for job, row in summary.failed
        ],
        "odd": [
            {"row": job.row, "scan": row.scan, "message": row.warnings}
            for job, row in zip(summary.jobs, summary.rows, strict=True)
            if row.warnings
        ],
        "undrawn": [
            {"row": job.row, "scan": job.listed(job.source.scan), "message": reason} for job, reason in summary.undrawn
        ],
    }


def _problems(record: dict[str, Any]) -> list[str]:
    """What failed or is doubtful, a sentence each."""
    return [
        *(f"failed: row {one['row']}, {one['error']}: {one['message']}" for one in record["failed"]),
        *(f"warning: row {one['row']}: {one['message']}" for one in record["odd"]),
        *(f"no picture: row {one['row']}: {one['message']}" for one in record["undrawn"]),
    ]


def _sentence(record: dict[str, Any]) -> str:
    before = f" ({record['done_before']} of them before)" if record["done_before"] else ""
    pictures = f"; pictures: {record['pictures']}" if record["pictures"] else ""
    return (
        f"{record['batch']}: {record['done']} of {record['jobs']} done{before}, {len(record['failed'])} failed; "
        f"results: {record['results']}{pictures}"
    )
