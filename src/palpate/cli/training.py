"""`palpate prepare` and `palpate train`."""

from __future__ import annotations

import dataclasses
import shlex
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import SettingsError
from ..extras import needed
from .completion import BUNDLED, PRESETS, PRETRAINED, complete_from
from .console import FAULTY, SECONDS_BETWEEN_LINES, STOPPED, Console, app, given_options
from .inference import ThreadsOption
from .outputs import check_replaced
from .verbs import verb

if TYPE_CHECKING:
    from ..training.outcome import TrainingOutcome, TrainingProgress
    from ..training.run import Run

EXAMPLES = 48  # training crops in a picture of them
OF_ANY_RUN = {
    "resume",
    "hours",
    "test",
    "workers",
    "device",
    "threads",
    "dry_run",
    "examples",
    "overwrite",
    "machine",
    "quiet",
    "log",
}  # options not of its beginning alone


@verb(
    app,
    examples=(
        "palpate prepare Task04_Hippocampus -o prepared/hippocampus",
        "palpate prepare nodules/ -o prepared/nodules --patient '^(LIDC-IDRI-[0-9]+)'",
        "palpate prepare cohort.csv -o prepared/mine --workers 8 --licence 'CC BY 4.0'",
    ),
)
def prepare(
    console: Console,
    cohort: Annotated[
        Path, typer.Argument(help="A folder of scans and labels in a layout that `audit` knows, or a CSV.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The prepared scans' folder; made, or resumed.")],
    patient: Annotated[
        str | None, typer.Option(help="A regular expression whose first group, in a scan's name, is its patient.")
    ] = None,
    channel: Annotated[int, typer.Option(help="Which channel, in layouts that have several.")] = 0,
    licence: Annotated[
        str | None,
        typer.Option(help="Licence of scans and contours, for the models' provenance; by default dataset.json's."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; by default one a core, at most eight.", min=1)] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace another cohort's scans that the folder holds.")
    ] = False,
) -> None:
    """Pack scans and labels once, on their own grid, for fast training; run again after changes or a kill."""
    from ..cohort.layouts import find_cohort
    from ..cohort.prepare import prepare as pack

    found = find_cohort(cohort, patient=patient, channel=channel)
    if licence is not None:
        found = dataclasses.replace(found, licence=licence.strip())
    if found.absent:
        console.warn(found.absent)
    with console.bar("preparing", len(found.scans)) as advance:
        prepared = pack(
            found,
            output,
            workers=workers,
            overwrite=overwrite,
            progress=lambda done, _, name: advance(done, name),
        )
    size = sum(file.stat().st_size for file in (output / "scans").rglob("*") if file.is_file())
    index = prepared.index
    record = {
        "prepared": str(output),
        "layout": index.layout,
        "scans": len(index.scans),
        "patients": len({entry.patient for entry in index.scans}),
        "left_out": [one.model_dump() for one in index.left_out],
        "megabytes": round(size / 1e6, 1),
        "content": prepared.sha256,
        "licence": index.licence or None,
    }
    console.result(
        record,
        [
            f"{output}: {record['scans']} scans of {record['patients']} patients, {record['megabytes']} MB",
            f"content (SHA-256): {prepared.sha256}",
            f"licence: {index.licence or 'not stated; --licence TEXT says it'}",
            *(f"left out: {one.reason}" for one in index.left_out),
            f"next: `{training_command(output, 'FILE')}` (FILE: a preset, from `palpate audit {cohort} --preset FILE`)",
        ],
    )
    if index.left_out:
        raise typer.Exit(FAULTY)


def training_command(prepared: Path, preset: str) -> str:
    """What to type to train on a prepared cohort, quoted as a shell wants it."""
    run = f"runs/{prepared.resolve().name}"
    return shlex.join(["palpate", "train", str(prepared), "--preset", preset, "--interactive", "--out", run])


@verb(
    app,
    examples=(
        "palpate train prepared/mine --preset mine.yaml --interactive --out runs/mine --dry-run",
        "palpate train prepared/mine --preset mine.yaml --interactive --out runs/mine",
        "palpate train prepared/kits --preset kits21 --init sam_vit_b --out runs/kits --hours 20",
        "palpate train prepared/mine --preset mine.yaml --init dinov2_vits14 --tune full --depth 8 --out runs/mine",
        "palpate train prepared/kits --preset kits21 --automatic --out runs/kits-automatic",
        "palpate train --resume runs/mine",
        "torchrun --nproc-per-node 4 -m palpate.cli train prepared/kits --preset kits21 --out runs/kits",
    ),
)
def train(
    console: Console,
    context: typer.Context,
    prepared: Annotated[list[Path] | None, typer.Argument(help="Folders that `palpate prepare` made.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="kits21, msd-pancreas, lits17, msd-colon, or a file (`palpate audit DIR --preset FILE`).",
            autocompletion=complete_from(*PRESETS, endings=(".yaml",)),
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The run's folder, a new one.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Resume the run in this folder, with all its settings.")] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="Start from sam_vit_b, sam_vit_l, sam_vit_h, medsam, dinov2_vits14, dinov2_vitb14, dinov2_vitl14, "
            "none, or a model's name or file.",
            autocompletion=complete_from(*PRETRAINED, "none", *BUNDLED, endings=(".safetensors",)),
        ),
    ] = None,
    tune: Annotated[
        str | None, typer.Option(help="What is tuned: spatial (the paper), frozen, full, bottleneck, st or lora.")
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(help="Size where --init is none: tiny, vit_b, vit_l, vit_h, dinov2_s, dinov2_b, dinov2_l."),
    ] = None,
    depth: Annotated[
        int | None, typer.Option(help="The first so many blocks of SAM's or DINOv2's transformer, at least 4.")
    ] = None,
    interactive: Annotated[
        bool,
        typer.Option(
            "--interactive", help="A model that takes boxes, strokes, corrections and initial masks, and zooms."
        ),
    ] = False,
    automatic: Annotated[
        bool,
        typer.Option("--automatic", help="A model without prompts, for `palpate propose`; crops of 128 become 256."),
    ] = False,
    fold: Annotated[int | None, typer.Option(help="Fold 0 to 4 of one of the paper's presets.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps, instead of the preset's.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs, instead of the preset's.")] = None,
    batch: Annotated[int | None, typer.Option(help="Crops of a step, in each process.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")] = None,
    checkpointing: Annotated[
        bool | None, typer.Option("--checkpointing/--no-checkpointing", help="Recompute blocks to save memory.")
    ] = None,
    weights_dtype: Annotated[
        str | None, typer.Option(help="Data type of the weights in the model's file: float32 or bfloat16.")
    ] = None,
    num_validations: Annotated[int | None, typer.Option(help="Validations in the whole training.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of fresh weights, crops and clicks.")] = None,
    share: Annotated[
        list[float] | None, typer.Option(help="How often each cohort is drawn; one for each, in their order.")
    ] = None,
    hours: Annotated[float | None, typer.Option(help="End after this time; the state and the best model stay.")] = None,
    test: Annotated[
        bool,
        typer.Option(
            "--test/--no-test",
            help="At the end, evaluate the test patients, and record it. --resume keeps the choice, if it has none of "
            "its own.",
        ),
    ] = True,
    workers: Annotated[int, typer.Option(help="Processes that cut crops; 0: none beside the training's.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto or cpu; GPUs are chosen by CUDA_VISIBLE_DEVICES.")] = "auto",
    threads: ThreadsOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Measure a step, print expected time and memory, and leave nothing.")
    ] = False,
    examples: Annotated[
        Path | None,
        typer.Option(help=f"Draw the first {EXAMPLES} training crops into this picture, and train nothing."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a picture of --examples that Palpate did not write.")
    ] = False,
) -> None:
    """Train a model on prepared cohorts; stop it any time, and resume it with --resume."""
    from ..training.launch import Changes, new, resumed

    given = given_options(context)
    _check_asked(given)
    _check_picture(examples, overwrite)
    trial = dry_run or examples is not None
    accelerator = _accelerator(device, threads)
    console.silent = not accelerator.is_main_process
    if resume is not None:
        # A dry run leaves nothing, so it keeps no choice either.
        choice = test if "test" in given and not trial else None
        run = resumed(resume, accelerator, workers, console.info, choice)
    else:
        changes = Changes(
            init=init, tuning=tune, network=network, depth=depth, interactive=interactive, automatic=automatic,
            fold=fold, steps=steps, epochs=epochs,
            batch=batch, learning_rate=learning_rate, precision=precision, checkpointing=checkpointing,
            weights_dtype=weights_dtype,
            num_validations=num_validations,
            seed=seed,
        )  # fmt: skip
        if not prepared or preset is None or (out is None and not trial):
            raise SettingsError(
                "nothing to train is named, or no preset: `palpate train PREPARED --preset PRESET --out RUN`, "
                "or `--resume RUN`"
            )
        where = None if trial else out
        run = new(prepared, preset, changes, where, share, accelerator, workers, console.info, test)
    if trial:
        _dry_run(console, run) if examples is None else _draw_examples(console, run, examples)
        return
    console.info(_plan(run))
    with _stopping(console) as asked, _display(console, run) as report:
        outcome = run.train(report, lambda: bool(asked), hours)
    accelerator.end_training()  # take leave of the other processes, or the first one's exit may abort them
    console.result(_record(run, outcome), _sentences(run, outcome))
    if outcome.why == "stopped" and signal.SIGINT in asked:  # a scheduler's SIGTERM is no fault
        raise typer.Exit(STOPPED)


def _check_asked(given: dict[str, str]) -> None:
    """Refuse options that would have no effect.

    Raises:
        SettingsError: beside --resume, what the run knows already; two lengths; or two ways to train nothing.
    """
    known = [option for name, option in given.items() if name not in OF_ANY_RUN]
    if "resume" in given and known:
        raise SettingsError(
            f"{', '.join(known)}: a resumed run keeps its settings; leave it out, or start another run with "
            "--init RUN/last.safetensors"
        )
    if "dry_run" in given and "examples" in given:
        raise SettingsError("--dry-run measures a step and --examples draws crops; give one of the two")
    if "steps" in given and "epochs" in given:
        raise SettingsError("--steps and --epochs both say how long; give one of the two")


def _check_picture(examples: Path | None, overwrite: bool) -> None:
    """Refuse, before any work, a picture of crops that could not be written or would replace another's file.

    Raises:
        OutputError: the message names the file and what to do.
        SettingsError: --overwrite without a picture.
    """
    from ..pictures import check_picture

    if examples is not None:
        check_picture(examples)
        check_replaced(overwrite, picture=examples)
    elif overwrite:
        raise SettingsError(
            "--overwrite is for the picture of --examples; no training replaces a run: name another folder with --out"
        )


def _accelerator(device: str, threads: int | None) -> Any:  # noqa: ANN401 - accelerate has no types
    if device not in ("auto", "cpu"):
        raise SettingsError(f"--device {device!r}: auto or cpu; choose a GPU with CUDA_VISIBLE_DEVICES=1")
    with needed("accelerate", "training needs"):
        from accelerate import Accelerator
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    return Accelerator(cpu=device == "cpu")


def _plan(run: Run) -> str:
    from ..cohort.split import SUBSETS

    counts = ", ".join(f"{len(run.scans(subset))} {subset}" for subset in SUBSETS)
    trainer, preset = run.trainer, run.settings.preset
    tuned = sum(p.numel() for p in trainer.tuned.values())
    spared = "" if run.settings.test else "; no use of test patients"
    return (
        f"{preset.name}: {counts} scans; {tuned:,} tuned parameters; step {trainer.step} of {trainer.total}, "
        f"batch {preset.recipe.batch}, on {trainer.device.type}{spared}"
    )


def _draw_examples(console: Console, run: Run, path: Path) -> None:
    from ..cohort.example_sheet import example_sheet
    from ..pictures import save_picture

    sampler = run.trainer.sampler
    save_picture(example_sheet(sampler, EXAMPLES), path)
    counts = Counter(sampler.kind(number) for number in range(EXAMPLES))
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    console.result(
        {"examples": str(path), "kinds": dict(counts)},
        [f"{path}: the first {EXAMPLES} training crops by what their targets are: {kinds}", "nothing else was written"],
    )


def _dry_run(console: Console, run: Run) -> None:
    from ..training.cost import estimate_cost

    record = estimate_cost(run)
    scans = ", ".join(f"{count} {subset}" for subset, count in record["scans"].items())
    console.result(
        record,
        [
            f"scans: {scans}",
            f"tuned parameters: {record['tuned_parameters']:,} of {record['parameters']:,} "
            f"({record['model_file_mb']} MB in the model's file)",
            f"a step: {record['step_seconds']} s (the first {record['first_step_seconds']} s), "
            f"{record['micro_batch']} crops at a time; a validation scan: {record['validation_scan_seconds']} s",
            f"peak memory: {record['peak_memory_gb']} GB",
            f"expected: {_duration(record['expected_hours'])} for {record['steps']:,} steps ({record['epochs']} "
            f"epochs) and {record['validations']} validations",
            "nothing was written; leave --dry-run out to train",
        ],
    )


def _duration(hours: float) -> str:
    """Hours as people say them: minutes below two hours."""
    if hours >= 2:
        return f"{hours:.1f} hours"
    minutes = max(1, round(60 * hours))
    return f"{minutes} minute{'s' * (minutes > 1)}"


@contextmanager
def _stopping(console: Console) -> Iterator[list[int]]:
    """The signals that came, SIGTERM or Ctrl-C's; a second Ctrl-C ends at once."""
    asked: list[int] = []

    def ask(number: int, _: FrameType | None) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)
        console.info("stopping after this step; the state will be saved (Ctrl-C again: stop now, from the last state)")

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _display(console: Console, run: Run) -> Iterator[Callable[[TrainingProgress], None]]:
    """Progress with loss, Dice, time left and memory on a terminal; a line now and then elsewhere."""
    total, printed = run.trainer.total, -SECONDS_BETWEEN_LINES  # so that the first step has its line

    def words(now: TrainingProgress) -> str:
        dice = "" if now.dice is None else f", validation Dice {now.dice:.3f}"
        return f"loss {now.loss:.3f}{dice}, {now.memory_gb:.1f} GB"

    def line(now: TrainingProgress) -> None:
        nonlocal printed
        if now.dice is not None or now.seconds - printed >= SECONDS_BETWEEN_LINES:
            printed = now.seconds
            console.info(f"step {now.step} of {total}: {words(now)}, {now.seconds:.0f} s")

    if not console.live:
        yield line
        return
    with console.bar("training", total, done=run.trainer.step) as advance:
        yield lambda now: advance(now.step, words(now))


def _record(run: Run, outcome: TrainingOutcome) -> dict[str, Any]:
    return {
        "run": str(run.folder),
        "ended": outcome.why,
        "step": outcome.step,
        "steps": run.trainer.total,
        "validation": outcome.best,
        "test": outcome.test,
        "test_set_uses": outcome.test_uses,
        "model": None if outcome.model is None else str(outcome.model),
    }


def _sentences(run: Run, outcome: TrainingOutcome) -> list[str]:
    ending = {
        "finished": f"finished after {outcome.step} steps",
        "plateau": f"ended at step {outcome.step}: no gain in {run.since_best} validations",
        "hours": f"time is up at step {outcome.step} of {run.trainer.total}; "
        f"more: `palpate train --resume {run.folder}`",
        "stopped": f"stopped at step {outcome.step} of {run.trainer.total}; "
        f"resume it with `palpate train --resume {run.folder}`",
    }[outcome.why]
    lines = [ending]
    if outcome.best is not None:
        lines.append(
            f"validation, {run.evaluation.protocol.short}: {_figure(outcome.best)} at step {outcome.best['step']}"
        )
        lines += _by_cohort(outcome.best)
    if outcome.test is not None:
        lines.append(
            f"test, {run.evaluation.protocol.on_test}: {_figure(outcome.test)}, {outcome.test['scans']} scans of "
            f"{outcome.test['patients']} patients (use number {outcome.test_uses} of them)"
        )
        lines += _by_cohort(outcome.test)
    if outcome.model is not None:
        lines.append(f"model: {outcome.model}; curves: {run.folder / 'curves.png'}")
        lines += _next(run, outcome.model) if outcome.why == "finished" else []
    return lines


def _next(run: Run, model: Path) -> list[str]:
    """What to type to use the model."""
    prompt = [] if run.settings.preset.automatic else ["--click", "X,Y,Z"]
    verb = "segment" if prompt else "propose"
    command = ["palpate", verb, "SCAN", *prompt, "-o", "lesion.nii.gz", "--model", str(model)]
    return [f"next: `{shlex.join(command)}`"]


def _by_cohort(figure: dict[str, Any]) -> list[str]:
    """A line for each of several cohorts."""
    return [f"    {name}: {_figure(one)}, {one['scans']} scans" for name, one in figure.get("cohorts", {}).items()]


def _figure(figure: dict[str, Any]) -> str:
    interval = "" if figure["interval"] is None else " [{:.3f}, {:.3f}]".format(*figure["interval"])
    return f"Dice {figure['dice']:.3f}{interval}"
