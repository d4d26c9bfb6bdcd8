"""`palpate audit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import OutputError, SettingsError
from .completion import complete_from
from .console import Console, app
from .outputs import check_own
from .verbs import verb

if TYPE_CHECKING:
    from ..cohort import Split
    from ..cohort.audit import Audit

HAS_ERRORS = 1  # exit code of a cohort with errors
MAX_OF_KIND = {"error": 12, "warning": 3}  # issues of a kind on the terminal; the page and --json have all of them
CROPS = {"vit_b": 128, "tiny": 64}
MODALITIES = ("CT", "MR", "PET")


@verb(
    app,
    examples=(
        "palpate audit Task04_Hippocampus --page audit.html",
        "palpate audit nodules/ --patient '^(LIDC-IDRI-[0-9]+)' --preset nodules.yaml",
        "palpate audit cohort.csv --target 2 --network tiny --preset mine.yaml",
        "palpate audit brains/ --modality MR --preset brains.yaml",
        "palpate audit kits/ --target 2 --split-from kits21",
    ),
)
def audit(
    console: Console,
    cohort: Annotated[Path, typer.Argument(help="A folder of scans and labels, or a CSV: image,label[,patient].")],
    target: Annotated[
        list[int] | None, typer.Option(help="A label value of the target; may be repeated. None: all above 0.")
    ] = None,
    patient: Annotated[
        str | None, typer.Option(help="A regular expression whose first group, in a scan's name, is its patient.")
    ] = None,
    channel: Annotated[int, typer.Option(help="Which channel, in layouts that have several.")] = 0,
    modality: Annotated[
        str | None,
        typer.Option(
            metavar="CT|MR|PET",
            help="What the scans are, where the layout does not say it: MR's intensities have no unit.",
            autocompletion=complete_from(*MODALITIES),
        ),
    ] = None,
    network: Annotated[
        str,
        typer.Option(
            help="The network that settings are suggested for: vit_b (crop 128), tiny (crop 64, from nothing)."
        ),
    ] = "vit_b",
    page: Annotated[Path | None, typer.Option(help="Also write the report as a page, with pictures (.html).")] = None,
    preset: Annotated[
        Path | None, typer.Option(help="Write the suggested settings as a preset (.yaml) for `train`.")
    ] = None,
    split_from: Annotated[
        str | None, typer.Option(help="Check the cohort against a preset's split, and keep it.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; by default one a core, at most eight.")] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace a preset that exists, or a page that Palpate did not write."),
    ] = False,
) -> None:
    """Audit a cohort: its statistics, its issues, and settings that suit a training on it.

    Exit code 0: no errors, perhaps warnings; 1: errors, with which a training would be wrong; 2: it could not be done.
    """
    from ..cohort.audit import audit as audit_cohort
    from ..cohort.layouts import find_cohort
    from ..files import check_writable

    if network not in CROPS:
        raise SettingsError(f"--network {network!r}: one of {', '.join(CROPS)}")
    for path in (page, preset):
        if path is not None:
            check_writable(path)
    if not overwrite:
        _check_replaced(page, preset)
    scans = find_cohort(cohort, patient=patient, channel=channel, modality=_modality(modality))
    labels = tuple(target or ())
    edge = CROPS[network]
    with console.bar("auditing", len(scans.scans)) as advance:
        found = audit_cohort(
            scans,
            target_labels=labels,
            split=_split(split_from),
            crop=(edge, edge, edge),
            workers=workers,
            progress=advance,
        )
    if page is not None:
        with console.step("page", f"writing {page}"):
            from ..cohort.page import write_page

            write_page(found, page)
    # Without suggested settings there is nothing to write; the issues say why.
    written = preset if found.suggestion else None
    if written is not None:
        _write_preset(found, written, cohort, network)
    again = [f"--{name}={value}" for name, value in (("patient", patient), ("channel", channel)) if value]
    lines = _sentences(found, cohort, page, written, again)
    if preset is not None and written is None:
        lines.insert(-1, f"{preset}: not written, since no settings can be suggested")  # before what is next
    console.result(_record(found, page, written), lines, _issues(found, page))
    if found.has_errors:
        raise typer.Exit(HAS_ERRORS)


def _modality(given: str | None) -> str | None:
    """What `--modality` says, in capitals."""
    if given is None or given.upper() in MODALITIES:
        return given and given.upper()
    raise SettingsError(f"--modality {given!r}: one of {', '.join(MODALITIES)}")


def _split(name: str | None) -> Split | None:
    if name is None:
        return None
    from ..cohort import PaperSplit
    from ..training.preset import Preset

    split = Preset.load(name).split
    if split is None:
        raise SettingsError(f"--split-from {name}: this preset has no split of its own")
    return split.resolve() if isinstance(split, PaperSplit) else split


def _check_replaced(page: Path | None, preset: Path | None) -> None:
    """Refuse to replace a page that Palpate did not write, or any preset."""
    from ..cohort.page import is_own_page

    if page is not None:
        check_own(page, is_own_page)
    if preset is not None and preset.exists():
        raise OutputError(f"{preset} exists; give --overwrite to replace it, name another, or leave --preset out")


def _write_preset(found: Audit, path: Path, cohort: Path, network: str) -> None:
    from ..training.preset import adapting, starting_from_nothing

    suggestion = found.suggestion
    assert suggestion is not None, "checked before"
    make = starting_from_nothing if network == "tiny" else adapting
    name = cohort.stem if cohort.is_file() else cohort.resolve().name
    made = make(name, suggestion.target_labels, suggestion.preprocessing, suggestion.split)
    about = f"{len(found.usable)} scans of {len({one.patient for one in found.usable})} patients; {found.cohort.layout}"
    made.model_copy(update={"about": about}).write(path)


def _record(found: Audit, page: Path | None, preset: Path | None) -> dict[str, Any]:
    from dataclasses import asdict

    from ..cohort.page import summary

    suggestion = found.suggestion
    return {
        **summary(found),
        "issues": [asdict(issue) for issue in found.issues],
        "suggestion": None
        if suggestion is None
        else {
            "preprocessing": suggestion.preprocessing.model_dump(mode="json"),
            "split": suggestion.split.model_dump(mode="json"),
            "reasons": suggestion.reasons,
        },
        "page": None if page is None else str(page),
        "preset": None if preset is None else str(preset),
    }


def _sentences(found: Audit, cohort: Path, page: Path | None, preset: Path | None, again: list[str]) -> list[str]:
    """The report, in which the issues are counted; `again`: options that `prepare` must be given too."""
    from ..cohort.page import summary

    numbers = summary(found)
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
    if numbers["target_ml"]:
        ml = numbers["target_ml"]
        lines += [
            f"target {ml['min']:g} to {ml['max']:g} mL, median {ml['median']:g}; "
            f"components per scan: {_counts(numbers['components_per_scan'])}",
            f"intensity in the target, medians over scans: {_intensity(numbers['target_intensities'])}",
            f"intensity outside, medians over scans: {_intensity(numbers['background_intensities'])}",
        ]
    errors = sum(issue.severity == "error" for issue in found.issues)
    counts = f"errors: {errors}; warnings: {len(found.issues) - errors}"
    lines += ["", counts if found.issues else "nothing wrong was found"]
    if found.suggestion is not None:
        lines += ["", "suggested settings:", *(f"  {what}: {why}" for what, why in found.suggestion.reasons.items())]
    lines += ["", *(f"{path}: written" for path in (page, preset) if path is not None)]
    if page is None:
        lines.append("pictures and distributions: --page audit.html")
    if found.has_errors:
        lines.append(_mend_first(preset))
    elif preset is not None:
        lines.append(_next(cohort, preset, again))
    elif found.suggestion is not None:
        lines.append("settings for a training: --preset mine.yaml")
    return lines


def _mend_first(preset: Path | None) -> str:
    """What to do where a training would be wrong; a preset of such a cohort is to be made anew."""
    end = f", with --overwrite, which replaces {preset}: it was made of the cohort as it is" if preset else ""
    return f"next: mend the errors, then audit again{end}"


def _next(cohort: Path, preset: Path, again: list[str]) -> str:
    """What to type next; quoted as a shell wants it."""
    import shlex

    from .training import training_command

    prepared = Path("prepared") / preset.stem  # as docs/how-to/train.md names it
    prepare = ["palpate", "prepare", str(cohort), "-o", str(prepared), *again]
    return f"next: `{shlex.join(prepare)}`, then `{training_command(prepared, str(preset))}`"


def _issues(found: Audit, page: Path | None) -> list[str]:
    """The errors and warnings, a sentence each; of many of a kind the first few, and how many there are."""
    lines = []
    shown: dict[str, int] = {}
    for issue in found.issues:
        shown[issue.kind] = shown.get(issue.kind, 0) + 1
        # Some of each kind: a common issue must not hide a rare one.
        if shown[issue.kind] <= MAX_OF_KIND[issue.severity]:
            lines.append(f"{issue.severity}: {issue.kind}: {issue.message}")
    severities = {issue.kind: issue.severity for issue in found.issues}
    for kind, count in shown.items():
        if count > MAX_OF_KIND[severities[kind]]:
            lines.append(f"{severities[kind]}: {kind}: {count} in all{'' if page else ' (--page lists them)'}")
    return lines


def _edges(levels: dict[str, list[float]]) -> str:
    median, low, high = (" x ".join(f"{edge:g}" for edge in levels[name]) for name in ("median", "min", "max"))
    return f"{median} (median; {low} to {high})"


def _counts(counts: dict[Any, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in list(counts.items())[:6])


def _intensity(levels: dict[str, float] | None) -> str:
    return "none" if levels is None else ", ".join(f"{name} {value:g}" for name, value in levels.items())
