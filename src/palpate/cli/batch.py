"""`palpate segment --batch`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer

from ..errors import SettingsError
from .console import FAULTY, Console, given_options

if TYPE_CHECKING:
    from ..batch import Summary
    from ..devices import Precision

OF_A_LIST = {"batch", "workers", "results"}  # options that only a list has
OF_BOTH = {"model", "base", "device", "precision", "zoom", "budget", "machine"}
STOPPED = 130  # exit code after Ctrl-C, as shells have it


def check_alone(context: typer.Context, batch: Path | None) -> None:
    """Refuse options of one scan beside a list, and a list's without one.

    Raises:
        SettingsError: the message names them.
    """
    given = given_options(context)
    of_a_list = [given[name] for name in given if name in OF_A_LIST]
    of_a_scan = [given[name] for name in given if name not in OF_A_LIST | OF_BOTH]
    if batch is None and of_a_list:
        raise SettingsError(f"{', '.join(of_a_list)}: for a list of jobs only; give --batch jobs.csv, or leave it out")
    if batch is not None and of_a_scan:
        raise SettingsError(
            f"{', '.join(of_a_scan)}: for one scan; with --batch, scans, prompts and outputs are in the list, so leave "
            "it out"
        )


def segment_all(
    console: Console,
    listing: Path,
    results: Path | None,
    model: str,
    base: Path | None,
    device: str,
    precision: Precision,
    zoom: bool,
    budget: int | None,
    workers: int | None,
) -> None:
    """Do what is missing of a list, and tell what became of it; exit code 1 if something failed."""
    from ..batch import Batch, read_jobs, results_path
    from ..predictor import BUDGET

    jobs = read_jobs(listing)
    most = BUDGET if budget is None else budget
    target = results_path(listing) if results is None else results
    with _stoppable(console):
        with console.step("load", f"loading {model}"):
            batch = Batch(jobs, target, model, base=base, device=device, precision=precision, zoom=zoom, budget=most)
        with console.bar("segmenting", len(jobs), done=len(jobs) - len(batch.missing)) as advance:
            summary = batch.run(1 if workers is None else workers, lambda done, job: advance(done, job.output.name))
    record = _record(listing, target, summary)
    console.result(record, _sentences(record))
    if summary.failed:
        raise typer.Exit(FAULTY)


@contextmanager
def _stoppable(console: Console) -> Iterator[None]:
    """Let SIGTERM and Ctrl-C stop it, in a shell's background too, where Ctrl-C is ignored; say how to go on."""

    def stop(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except KeyboardInterrupt:
        console.say("stopped; what was finished is kept. Run the same command again to do the rest")
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
    }


def _sentences(record: dict[str, Any]) -> list[str]:
    before = f" ({record['done_before']} of them before)" if record["done_before"] else ""
    return [
        *(f"failed: row {one['row']}, {one['error']}: {one['message']}" for one in record["failed"]),
        *(f"warning: row {one['row']}: {one['message']}" for one in record["odd"]),
        f"{record['batch']}: {record['done']} of {record['jobs']} done{before}, {len(record['failed'])} failed; "
        f"results: {record['results']}",
    ]
