"""`palpate look`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import SettingsError
from .console import Console, JsonOption, app

if TYPE_CHECKING:
    from ..cohort import Split
    from ..cohort.look import Look

SPOILT = 1  # exit code of a cohort that was looked at and would spoil a training
TOLD = {"spoils": 12, "warns": 3}  # faults of a kind on the terminal; the page and --json have all of them
CROPS = {"vit_b": 128, "tiny": 64}


@app.command(
    epilog="Examples:\n\n`palpate look Task04_Hippocampus --page look.html`\n\n"
    "`palpate look nodules/ --patient '^(LIDC-IDRI-[0-9]+)' --preset nodules.yaml`\n\n"
    "`palpate look cohort.csv --lesion 2 --network tiny --preset mine.yaml`\n\n"
    "`palpate look kits/ --lesion 2 --split-from kits21`"
)
def look(
    cohort: Annotated[Path, typer.Argument(help="A folder of scans and labels, or a CSV: image,label[,patient].")],
    lesion: Annotated[
        list[int] | None, typer.Option(help="A label value that is lesion; may be repeated. None: all above 0.")
    ] = None,
    patient: Annotated[
        str | None, typer.Option(help="A regular expression whose first group, in a scan's name, is its patient.")
    ] = None,
    channel: Annotated[int, typer.Option(help="Which channel, in layouts that have several.")] = 0,
    network: Annotated[
        str,
        typer.Option(help="For which network settings are proposed: vit_b (crop 128), tiny (crop 64, from nothing)."),
    ] = "vit_b",
    page: Annotated[Path | None, typer.Option(help="Also write the report as a page, with pictures (.html).")] = None,
    preset: Annotated[Path | None, typer.Option(help="Write what is proposed as a preset (.yaml) for `train`.")] = None,
    split_from: Annotated[
        str | None, typer.Option(help="Check the cohort against a preset's split, and keep it.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; by default one a core, at most eight.")] = None,
    machine: JsonOption = False,
) -> None:
    """Look at a cohort: what it holds, what is wrong with it, and what a training on it should be told."""
    console = Console(machine)
    with console.reporting():
        from ..cohort.layouts import find_cohort
        from ..cohort.look import look as examine
        from ..files import check_writable

        if network not in CROPS:
            raise SettingsError(f"--network {network!r}: one of {', '.join(CROPS)}")
        for path in (page, preset):
            if path is not None:
                check_writable(path)
        found = find_cohort(cohort, patient=patient, channel=channel)
        values = tuple(lesion or ())
        edge = CROPS[network]
        with console.bar("looking", len(found.scans)) as advance:
            seen = examine(
                found,
                lesion=values,
                split=_split(split_from),
                crop=(edge, edge, edge),
                workers=workers,
                progress=advance,
            )
        if page is not None:
            with console.step("page", f"writing {page}"):
                from ..cohort.page import write_page

                write_page(seen, page)
        # Without a proposal there is nothing to write; the faults say why, and must be told all the same.
        written = preset if seen.proposal else None
        if written is not None:
            _write_preset(seen, written, cohort, network)
        again = [f"--{name}={value}" for name, value in (("patient", patient), ("channel", channel)) if value]
        lines = _sentences(seen, cohort, page, written, again)
        if preset is not None and written is None:
            lines.append(f"{preset}: not written, since nothing can be proposed")
        console.result(_record(seen, page, written), lines)
    if seen.spoilt:
        raise typer.Exit(SPOILT)


def _split(name: str | None) -> Split | None:
    if name is None:
        return None
    from ..cohort import PaperSplit
    from ..training.preset import Preset

    split = Preset.load(name).split
    if split is None:
        raise SettingsError(f"--split-from {name}: this preset has no split of its own")
    return split.resolve() if isinstance(split, PaperSplit) else split


def _write_preset(seen: Look, path: Path, cohort: Path, network: str) -> None:
    from ..training.preset import adapting, starting_from_nothing

    proposal = seen.proposal
    assert proposal is not None, "asked before"
    make = starting_from_nothing if network == "tiny" else adapting
    name = cohort.stem if cohort.is_file() else cohort.resolve().name
    made = make(name, proposal.lesion, proposal.preprocessing, proposal.split)
    about = f"{len(seen.usable)} scans of {len({one.patient for one in seen.usable})} patients; {seen.cohort.layout}"
    made.model_copy(update={"about": about}).write(path)


def _record(seen: Look, page: Path | None, preset: Path | None) -> dict[str, Any]:
    from dataclasses import asdict

    from ..cohort.page import summary

    proposal = seen.proposal
    return {
        **summary(seen),
        "faults": [asdict(fault) for fault in seen.faults],
        "proposal": None
        if proposal is None
        else {
            "preprocessing": proposal.preprocessing.model_dump(mode="json"),
            "split": proposal.split.model_dump(mode="json"),
            "reasons": proposal.reasons,
        },
        "page": None if page is None else str(page),
        "preset": None if preset is None else str(preset),
    }


def _sentences(seen: Look, cohort: Path, page: Path | None, preset: Path | None, again: list[str]) -> list[str]:
    """The report; `again`: options that `prepare` must be given too."""
    from ..cohort.page import summary

    numbers = summary(seen)
    lines = [
        f"{cohort}: {numbers['layout']}; {numbers['scans']} scans of {numbers['patients']} patients, "
        f"{numbers['usable']} to train on"
    ]
    if numbers["spacings_mm"]:
        lines += [
            f"voxels {_edges(numbers['shapes'])}",
            f"spacing {_edges(numbers['spacings_mm'])} mm",
            f"axes {_counts(numbers['orientations'])}; stored as {_counts(numbers['types'])}",
            "labels "
            + ", ".join(f"{v} {one['name']}".strip() + f" (in {one['scans']})" for v, one in numbers["labels"].items()),
        ]
    if numbers["lesion_ml"]:
        ml = numbers["lesion_ml"]
        lines += [
            f"lesion {ml['least']:g} to {ml['most']:g} mL, median {ml['median']:g}; "
            f"lesions a scan: {_counts(numbers['lesions_a_scan'])}",
            f"intensity in the lesion: {_intensity(numbers['intensity_inside'])}",
            f"intensity outside: {_intensity(numbers['intensity_outside'])}",
        ]
    lines += ["", *_faults(seen, page)]
    if seen.proposal is not None:
        lines += ["", "proposed:", *(f"  {what}: {why}" for what, why in seen.proposal.reasons.items())]
    lines += ["", *(f"{path}: written" for path in (page, preset) if path is not None)]
    if page is None:
        lines.append("pictures and distributions: --page look.html")
    if preset is not None:
        lines.append(_next(cohort, preset, again))
    elif seen.proposal is not None:
        lines.append("settings for a training: --preset mine.yaml")
    return lines


def _next(cohort: Path, preset: Path, again: list[str]) -> str:
    """What to type next; quoted as a shell wants it."""
    import shlex

    name = cohort.stem if cohort.is_file() else cohort.resolve().name
    prepare = ["palpate", "prepare", str(cohort), "-o", f"prepared/{name}", *again]
    train = ["palpate", "train", f"prepared/{name}", "--preset", str(preset), "--out", f"runs/{name}"]
    return f"next: `{shlex.join(prepare)}`, then `{shlex.join(train)}`"


def _faults(seen: Look, page: Path | None) -> list[str]:
    if not seen.faults:
        return ["nothing wrong was found"]
    spoiling = sum(fault.severity == "spoils" for fault in seen.faults)
    lines = [f"faults that spoil training: {spoiling}; to be known: {len(seen.faults) - spoiling}"]
    told: dict[str, int] = {}
    for fault in seen.faults:
        told[fault.kind] = told.get(fault.kind, 0) + 1
        # Some of each kind: a common fault must not hide a rare one.
        if told[fault.kind] <= TOLD[fault.severity]:
            lines.append(f"  {'SPOILS' if fault.severity == 'spoils' else 'warns'}  {fault.kind}: {fault.message}")
    severities = {fault.kind: fault.severity for fault in seen.faults}
    for kind, count in told.items():
        if count > TOLD[severities[kind]]:
            lines.append(f"  ... {kind}: {count} in all{'' if page else ' (--page lists them)'}")
    return lines


def _edges(levels: dict[str, list[float]]) -> str:
    median, least, most = (" x ".join(f"{edge:g}" for edge in levels[name]) for name in ("median", "least", "most"))
    return f"{median} (median; {least} to {most})"


def _counts(counts: dict[Any, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in list(counts.items())[:6])


def _intensity(levels: dict[str, float] | None) -> str:
    return "none" if levels is None else ", ".join(f"{name} {value:g}" for name, value in levels.items())
