"""`palpate segment --auto`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OutputError, PromptError, SettingsError
from .console import Console

if TYPE_CHECKING:
    from ..automatic import Proposal
    from ..volume import Mask, Volume

SHOWN = 10  # proposals that are told one by one on a terminal; all are in the JSON


def check_auto(auto: bool, least_ml: float | None, output: Path, prompted: bool) -> None:
    """Refuse prompts beside --auto, and its options without it; and a place where its JSON could not be written.

    Raises:
        PromptError, SettingsError, OutputError: the message names what to leave out.
    """
    if not auto:
        if least_ml is not None:
            raise SettingsError("--least-ml is for proposals: give --auto too, or leave it out")
        return
    if prompted:
        raise PromptError(
            "--auto looks for lesions by itself and takes no prompts: leave out --click and its like, or --auto"
        )
    from ..files import check_writable

    _check_ours(check_writable(told_beside(output)))
    if least_ml is not None:
        from ..automatic import check_least

        check_least(least_ml)


def _check_ours(beside: Path) -> None:
    """Refuse to replace a JSON that tells of something else: a scan's or a mask's sidecar is called so too."""
    try:
        ours = "proposals" in json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else True
    except (OSError, ValueError, TypeError):
        ours = False
    if not ours:
        raise OutputError(
            f"cannot write {beside}: the proposals would be told there, and it tells of something else; name another -o"
        )


def told_beside(output: Path) -> Path:
    """The JSON beside a label map: the same name, ending in .json."""
    from ..formats import WRITABLE

    ending = next((e for e in sorted(WRITABLE, key=len, reverse=True) if output.name.endswith(e)), output.suffix)
    return output.with_name(output.name.removesuffix(ending) + ".json")


def propose(
    console: Console,
    load_options: tuple[str, Path | None, str, str],
    scan: Path,
    volume: Volume,
    known: Mask | None,
    least_ml: float | None,
    output: Path,
    probability: Path | None,
    picture: Path | None,
) -> None:
    """Propose lesions, and save them as a label map and as JSON."""
    model, base, device, precision = load_options
    with console.step("load", f"loading {model}"):
        from ..automatic import LEAST_ML, Proposer, proposals
        from ..bundle import load

        proposer = Proposer(load(model, base=base), device, precision)  # type: ignore[arg-type]
    with console.step("propose", "looking for lesions") as progress:
        proposer.progress = progress
        seen = proposer.probability(volume)
        least = LEAST_ML if least_ml is None else least_ml
        found = proposals(seen, least)
    record = {
        "version": 1,
        "scan": str(scan),
        "labels": str(output),
        "model": proposer.bundle.provenance.name,
        "least_ml": least,
        "score": "mean probability over the proposal, not calibrated",
        "proposals": [told(one, number) for number, one in enumerate(found, start=1)],
    }
    if known is not None:
        from ..evaluation.metrics import dice

        record["dice"] = round(dice(seen.threshold().full(), known.full()), 4)
    with console.step("save", f"saving {output}"):
        from ..files import all_or_none, replacing
        from ..formats import written_files
        from ..lesions import label_map

        beside = told_beside(output)
        with all_or_none(*written_files(output, probability), beside, picture):
            masks = [(number, one.mask) for number, one in enumerate(found, start=1)]
            label_map(masks, volume.grid, volume.source).save(output)
            with replacing(beside) as (staged,):
                staged.write_text(json.dumps(record, indent=1) + "\n")
            if probability is not None:
                seen.save(probability)
            if picture is not None:
                save_first(volume, found, known, picture)
    files = {"json": beside, "probability": probability, "picture": picture}
    record |= {name: None if path is None else str(path) for name, path in files.items()}
    console.result(record, sentences(record, console.seconds))


def told(proposal: Proposal, label: int) -> dict[str, Any]:
    """A proposal as a result's reader wants it."""
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


def save_first(volume: Volume, found: list[Proposal], known: Mask | None, picture: Path) -> None:
    """A picture of the proposal with the highest score, or of a scan in which there is none."""
    import numpy as np

    from ..pictures import lesion_picture, save_picture
    from ..volume import Mask

    if found:
        first = found[0]
        title = f"proposal 1 of {len(found)}, score {first.score:.2f}"
        figure = lesion_picture(volume, first.mask, [first.click], truth=known, title=title)
    else:
        nothing = Mask(np.zeros((0, 0, 0), dtype=bool), (0, 0, 0), volume.grid, volume.source)
        figure = lesion_picture(volume, nothing, truth=known, title="no proposal")
    save_picture(figure, picture)


def sentences(record: dict[str, Any], seconds: dict[str, float]) -> list[str]:
    """The proposals with the highest scores, a line each, and where all of them are."""
    times = ", ".join(f"{step} {value:.1f}" for step, value in seconds.items())
    found = record["proposals"]
    told_in = f"{record['labels']}, {record['json']}: " if found else f"{record['labels']}: "
    if not found:
        count = f"no proposal of {record['least_ml']:g} mL or more (--least-ml)"
    else:
        count = f"{len(found)} proposal{'s' if len(found) > 1 else ''}"
    lines = [f"{told_in}{count}; {sum(seconds.values()):.1f} s ({times})"]
    for one in found[:SHOWN]:
        place = ",".join(map(str, one["click"]))
        lines.append(f"{one['label']}: score {one['score']:.2f}, {one['volume_ml']:.2f} mL; --click {place}")
    if len(found) > SHOWN:
        lines.append(f"and {len(found) - SHOWN} more, in {record['json']}")
    if "dice" in record:
        lines.append(f"Dice of all above 0.5 against the known mask: {record['dice']:.3f}")
    return lines
