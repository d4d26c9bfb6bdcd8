"""`palpate segment`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import OutputError, PalpateError, PromptError
from .console import BaseOption, Console, JsonOption, ModelOption, app
from .prompting import (
    HOW_TO_POINT,
    BoxOption,
    ClickMmOption,
    ClickOption,
    LassoOption,
    NotOption,
    PriorOption,
    PromptsOption,
    ScribbleOption,
    given_prompts,
)

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..predictor import Prediction
    from ..prompts import Prompt
    from ..volume import Mask, Volume


@app.command(
    epilog="Examples:\n\n"
    "`palpate segment scan.nii.gz --click 120,88,45 -o lesion.nii.gz`\n\n"
    "`palpate segment series/ --click-mm -31.5,12,80.2 -o lesion.nrrd --picture lesion.png`\n\n"
    "`palpate segment scan.mha --click 60,70,20 --not 66,64,22 -o lesion.mha --json`\n\n"
    "`palpate segment scan.nii.gz --box 100,70,40,140,110,52 -o lesion.nii.gz`\n\n"
    "`palpate segment scan.nii.gz --prior before.nii.gz --scribble 118,80,45:124,92,45 "
    "--scribble not:90,80,45:95,84,45 -o after.nii.gz`\n\n"
    "`palpate segment scan.nii.gz --lasso z=45:110,80:130,80:120,100 -o lesion.nii.gz`"
)
def segment(
    scan: Annotated[Path, typer.Argument(help="NIfTI, NRRD or MetaImage file, or a folder of DICOM slices.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The mask: .nii, .nii.gz, .nrrd, .mha or .mhd.")],
    click: ClickOption = None,
    click_mm: ClickMmOption = None,
    no: NotOption = None,
    box: BoxOption = None,
    scribble: ScribbleOption = None,
    lasso: LassoOption = None,
    prior: PriorOption = None,
    prompts: PromptsOption = None,
    model: ModelOption = "palpate-tiny",
    base: BaseOption = None,
    picture: Annotated[
        Path | None, typer.Option(help="Also save a picture: three planes through the lesion (.png, .pdf, .svg).")
    ] = None,
    probability: Annotated[Path | None, typer.Option(help="Also save the lesion's probability, 0 to 1.")] = None,
    truth: Annotated[Path | None, typer.Option(help="A known mask on the same grid: prints Dice against it.")] = None,
    series: Annotated[str | None, typer.Option(help="Which DICOM series, where a folder holds several.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    machine: JsonOption = False,
) -> None:
    """Segment the lesion under one or several clicks, and save its mask on the scan's own grid."""
    console = Console(machine)
    with console.reporting():
        _check_outputs(output, probability, picture)
        with console.step("read", f"reading {scan}"):
            from ..formats import read
            from ..prompts import check_inside

            volume = read(scan, series=series)
            known = _truth(truth, volume)
        _check_outputs(output, probability, picture, volume)
        given = given_prompts(volume, prompts, prior, box, scribble, lasso, click, click_mm, no)
        if not given:
            raise PromptError(f"where is the lesion? {HOW_TO_POINT}")
        check_inside(given, volume.grid)
        with console.step("load", f"loading {model}"):
            from ..bundle import load
            from ..predictor import Predictor

            predictor = Predictor(load(model, base=base), device, precision)  # type: ignore[arg-type]
        with console.step("segment", "segmenting") as progress:
            predictor.progress = progress
            predictor.set_volume(volume)
            prediction = predictor.predict(given)
        with console.step("save", f"saving {output}"):
            from ..pictures import lesion_picture, save_picture

            with _all_or_none(output, probability, picture):
                prediction.mask.save(output)
                if probability is not None:
                    prediction.probability.save(probability)
                if picture is not None:
                    from ..prompts import Click

                    clicks = [prompt for prompt in given if isinstance(prompt, Click) and prompt.positive]
                    save_picture(lesion_picture(volume, prediction.mask, clicks, truth=known), picture)
        record = _record(scan, output, predictor.bundle, given, prediction, known)
        record |= {"probability": _text(probability), "picture": _text(picture)}
        console.result(record, _sentences(record, console.seconds))


@contextmanager
def _all_or_none(*paths: Path | None) -> Iterator[None]:
    """After an error, take away the files that were new: a caller that sees exit code 2 finds no result."""
    new = [path for path in paths if path is not None and not path.exists()]
    try:
        yield
    except PalpateError:
        for path in new:
            path.unlink(missing_ok=True)
        raise


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _check_outputs(output: Path, probability: Path | None, picture: Path | None, scan: Volume | None = None) -> None:
    """Refuse, before any work, results that could not be written (or not in that format, once the scan is known)."""
    from ..formats import check_output
    from ..pictures import check_picture

    for path in (output, probability):
        if path is not None:
            check_output(path, scan)
    if picture is not None:
        check_picture(picture)
    named = [path.resolve() for path in (output, probability, picture) if path is not None]
    if len(set(named)) < len(named):
        raise OutputError(f"two results would go to one file: {', '.join(map(str, named))}; name them apart")


def _truth(path: Path | None, volume: Volume) -> Mask | None:
    """A known mask on the scan's grid, or None."""
    if path is None:
        return None
    from ..errors import GeometryError
    from ..formats import read
    from ..volume import Mask

    known = read(path)
    if not known.grid.same_as(volume.grid, tolerance=1e-2):
        raise GeometryError(f"{path}: not on the scan's grid, so it cannot be compared; resample it first")
    return Mask(known.array > 0, (0, 0, 0), known.grid)


def _record(
    scan: Path, output: Path, bundle: Bundle, given: list[Prompt], prediction: Prediction, known: Mask | None
) -> dict[str, Any]:
    from ..prompt_file import summary

    mask = prediction.mask
    record: dict[str, Any] = {
        "scan": str(scan),
        "mask": str(output),
        "model": bundle.provenance.name,
        "prompts": [summary(prompt) for prompt in given],
        "empty": mask.empty,
        "voxels": mask.voxels,
        "volume_ml": round(mask.volume_ml, 4),
        "extent_mm": [round(edge, 2) for edge in mask.extent_mm],
        "bounds": mask.bounds,
    }
    if known is not None:
        from ..evaluation.metrics import dice

        record["dice"] = round(dice(mask.full(), known.full()), 4)
    return record


def _sentences(record: dict[str, Any], seconds: dict[str, float]) -> list[str]:
    times = ", ".join(f"{step} {value:.1f}" for step, value in seconds.items())
    if record["empty"]:
        found = "the mask is empty: the model sees no lesion here. Click nearer the lesion's middle, or add a click"
    else:
        extent = " x ".join(f"{edge:.1f}" for edge in record["extent_mm"])
        found = f"{record['volume_ml']:.2f} mL, {extent} mm (x, y, z)"
    lines = [f"{record['mask']}: {found}; {sum(seconds.values()):.1f} s ({times})"]
    if "dice" in record:
        lines.append(f"Dice against the known mask: {record['dice']:.3f}")
    return lines
