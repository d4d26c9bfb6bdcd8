"""`palpate propose`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import OutputError
from .completion import complete_model
from .console import Console, app
from .inference import BaseOption, Machine
from .outputs import (
    OverwriteOption,
    PictureDisplay,
    PictureDisplayOptions,
    check_display,
    check_outputs,
    check_replaced,
    read_truth,
    text,
)
from .postprocessing import ThresholdOption
from .segment import ScanArgument, SeriesOption, TruthOption
from .verbs import verb

if TYPE_CHECKING:
    from ..automatic import Proposal
    from ..masks import Mask, Probability
    from ..volume import Volume

SHOWN = 10  # proposals that are listed on a terminal; all are in the JSON


@verb(
    app,
    examples=(
        "palpate propose scan.nii.gz --model automatic.safetensors -o proposals.nii.gz",
        "palpate propose scan.nii.gz -m automatic.safetensors -o proposals.nii.gz --min-ml 0.5 --picture first.png",
    ),
)
def propose(
    console: Console,
    context: typer.Context,
    scan: ScanArgument,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The label map: .nii, .nii.gz, .nrrd, .mha or .mhd; the list goes to .json beside it.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="An automatic model's file (docs/how-to/propose.md).", autocompletion=complete_model
        ),
    ],
    machine: Machine,
    display: PictureDisplayOptions,
    base: BaseOption = None,
    min_ml: Annotated[
        float | None, typer.Option(help="Leave out proposals smaller than this, mL; 0.1 by default.")
    ] = None,
    threshold: ThresholdOption = 0.5,
    picture: Annotated[
        Path | None, typer.Option(help="Also save a picture of the first proposal (.png, .jpg, .pdf, .svg).")
    ] = None,
    probability: Annotated[Path | None, typer.Option(help="Also save the probability of lesion, 0 to 1.")] = None,
    truth: TruthOption = None,
    series: SeriesOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Propose lesions without a prompt: labels 1, 2, ... by falling score, and a JSON beside the label map."""
    from ..automatic import MIN_VOLUME_ML, Proposer, check_min_volume, proposals
    from ..formats import check_spared
    from ..lesions import check_threshold

    least = MIN_VOLUME_ML if min_ml is None else min_ml
    check_display(context, picture, "--picture")
    check_min_volume(least)
    check_threshold(threshold)
    listing = listing_beside(output)
    _check_listing(listing)
    check_outputs((output, probability), picture, truth)
    volume = console.read(scan, series)
    known = read_truth(console, truth, volume, scan)
    check_outputs((output, probability), picture, truth, volume)
    check_spared(listing, volume)
    check_replaced(overwrite, output, probability, picture=picture)
    with console.step("load", f"loading {model}"):
        proposer = Proposer(machine.settings(model, base))
    with console.step("propose", "proposing lesions") as progress:
        lesion = proposer.probability(volume, progress=progress)
        found = proposals(lesion, least, threshold)
    record = _record(scan, output, proposer.runtime.name, least, threshold, found)
    if known is not None:
        from ..evaluation.metrics import dice

        record["dice"] = round(dice(lesion.threshold(threshold).full(), known.full()), 4)
    with console.step("save", f"saving {output}"):
        _save(record, found, lesion, volume, known, (output, listing, probability, picture), display)
    record |= {"json": str(listing), "probability": text(probability), "picture": text(picture)}
    console.result(record, lines(record, console.seconds))


def _check_listing(listing: Path) -> None:
    """Refuse to replace a JSON of other content: a scan's or a mask's sidecar has such a name too."""
    from ..files import check_writable

    check_writable(listing)
    try:
        ours = "proposals" in json.loads(listing.read_text(encoding="utf-8")) if listing.exists() else True
    except (OSError, ValueError, TypeError):
        ours = False
    if not ours:
        raise OutputError(
            f"cannot write {listing}: the proposals would be listed there, and it holds something else; name another -o"
        )


def listing_beside(output: Path) -> Path:
    """The JSON beside a label map: the same name, ending in .json."""
    from ..formats import WRITABLE

    ending = next((e for e in sorted(WRITABLE, key=len, reverse=True) if output.name.endswith(e)), output.suffix)
    return output.with_name(output.name.removesuffix(ending) + ".json")


def _record(
    scan: Path, output: Path, model: str, least_ml: float, threshold: float, found: list[Proposal]
) -> dict[str, Any]:
    """The content of the JSON beside the label map."""
    return {
        "version": 1,
        "scan": str(scan),
        "labels": str(output),
        "model": model,
        "least_ml": least_ml,
        "threshold": threshold,
        "score": "mean probability over the proposal, not calibrated",
        "proposals": [proposal_record(one, number) for number, one in enumerate(found, start=1)],
    }


def _save(
    record: dict[str, Any],
    found: list[Proposal],
    lesion: Probability,
    volume: Volume,
    known: Mask | None,
    places: tuple[Path, Path, Path | None, Path | None],
    display: PictureDisplay,
) -> None:
    """Write label map, list, probability and picture, or none of them."""
    from ..files import all_or_none, replacing
    from ..formats import written_files
    from ..lesions import label_map

    output, listing, probability, picture = places
    with all_or_none(*written_files(output, probability), listing, picture):
        masks = [(number, one.mask) for number, one in enumerate(found, start=1)]
        label_map(masks, volume.grid, volume.source).save(output)
        with replacing(listing) as (staged,):
            staged.write_text(json.dumps(record, indent=1) + "\n")
        if probability is not None:
            lesion.save(probability)
        if picture is not None:
            save_first(volume, found, known, picture, display)


def proposal_record(proposal: Proposal, label: int) -> dict[str, Any]:
    """A proposal in the JSON."""
    mask, click = proposal.mask, proposal.click
    return {
        "label": label,
        "score": round(proposal.score, 4),
        "voxels": mask.voxels,
        "volume_ml": round(mask.volume_ml, 4),
        "extent_mm": [round(edge, 2) for edge in mask.extent_mm],
        "bounds": mask.bounds,
        "click": click.index,
        "click_mm": [round(float(mm), 3) for mm in mask.grid.to_mm(click.index)],
    }


def save_first(
    volume: Volume, found: list[Proposal], known: Mask | None, picture: Path, display: PictureDisplay
) -> None:
    """A picture of the proposal with the highest score, or of a scan in which there is none."""
    import numpy as np

    from ..masks import Mask
    from ..pictures import lesion_picture, save_picture

    if found:
        first = found[0]
        title = f"proposal 1 of {len(found)}, score {first.score:.2f}"
        figure = lesion_picture(volume, first.mask, [first.click], truth=known, title=title, **asdict(display))
    else:
        nothing = Mask(np.zeros((0, 0, 0), dtype=bool), (0, 0, 0), volume.grid, volume.source)
        figure = lesion_picture(volume, nothing, truth=known, title="no proposal", **asdict(display))
    save_picture(figure, picture)


def lines(record: dict[str, Any], seconds: dict[str, float]) -> list[str]:
    """The proposals with the highest scores, a line each, and where all of them are."""
    times = ", ".join(f"{step} {value:.1f}" for step, value in seconds.items())
    found = record["proposals"]
    files = f"{record['labels']}, {record['json']}: " if found else f"{record['labels']}: "
    if not found:
        count = f"no proposal of {record['least_ml']:g} mL or more (--min-ml)"
    else:
        count = f"{len(found)} proposal{'s' if len(found) > 1 else ''}"
    shown = [f"{files}{count}; {sum(seconds.values()):.1f} s ({times})"]
    for one in found[:SHOWN]:
        place = ",".join(map(str, one["click"]))
        shown.append(f"{one['label']}: score {one['score']:.2f}, {one['volume_ml']:.2f} mL; --click {place}")
    if len(found) > SHOWN:
        shown.append(f"and {len(found) - SHOWN} more, in {record['json']}")
    if "dice" in record:
        shown.append(f"Dice of all above {record['threshold']:g} against the known mask: {record['dice']:.3f}")
    return shown
