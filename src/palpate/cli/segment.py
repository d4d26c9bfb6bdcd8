"""`palpate segment`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import OutputError, PromptError
from .automatic import check_auto, propose
from .console import BaseOption, Console, JsonOption, ModelOption, app

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
    "`palpate segment scan.nii.gz --lasso z=45:110,80:130,80:120,100 -o lesion.nii.gz`\n\n"
    "`palpate segment scan.nii.gz --auto --model automatic.safetensors -o proposals.nii.gz`"
)
def segment(
    scan: Annotated[Path, typer.Argument(help="NIfTI, NRRD or MetaImage file, or a folder of DICOM slices.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The mask: .nii, .nii.gz, .nrrd, .mha or .mhd.")],
    click: Annotated[
        list[str] | None, typer.Option(help="Voxel index X,Y,Z in the file's array, from 0; may be repeated.")
    ] = None,
    click_mm: Annotated[list[str] | None, typer.Option(help="Place X,Y,Z in RAS mm; may be repeated.")] = None,
    no: Annotated[
        list[str] | None, typer.Option("--not", help="Voxel index X,Y,Z outside the lesion; may be repeated.")
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(help="Two corners' voxels X,Y,Z,X,Y,Z; with one coordinate equal, a box on that slice."),
    ] = None,
    scribble: Annotated[
        list[str] | None,
        typer.Option(help="A stroke X,Y,Z:X,Y,Z:... or a painted mask's file; `not:` before it: outside the lesion."),
    ] = None,
    lasso: Annotated[
        list[str] | None,
        typer.Option(help="A slice and an outline on it, z=45:X,Y:X,Y:X,Y; `not:` before it: outside the lesion."),
    ] = None,
    prior: Annotated[Path | None, typer.Option(help="A mask to start from, on the scan's grid.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="A JSON file of prompts, in order (docs/prompts.md); taken before the others.")
    ] = None,
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
    auto: Annotated[
        bool,
        typer.Option("--auto", help="Propose lesions without prompts: labels 1, 2, ..., and a JSON beside the mask."),
    ] = False,
    least_ml: Annotated[
        float | None, typer.Option(help="With --auto: leave out proposals smaller than this, mL; 0.1 by default.")
    ] = None,
    machine: JsonOption = False,
) -> None:
    """Segment the lesion under one or several clicks, and save its mask on the scan's own grid."""
    console = Console(machine)
    with console.reporting():
        check_auto(auto, least_ml, output, any((prompts, prior, box, scribble, lasso, click, click_mm, no)))
        _check_outputs(output, probability, picture)
        with console.step("read", f"reading {scan}"):
            from ..formats import read

            volume = read(scan, series=series)
            known = _truth(truth, volume)
        _check_outputs(output, probability, picture, volume)
        if auto:
            load_options = (model, base, device, precision)
            propose(console, load_options, scan, volume, known, least_ml, output, probability, picture)
            return
        given = _prompts(
            volume, prompts, prior, box or [], scribble or [], lasso or [], click or [], click_mm or [], no or []
        )
        with console.step("load", f"loading {model}"):
            from ..bundle import load
            from ..predictor import Predictor

            predictor = Predictor(load(model, base=base), device, precision)  # type: ignore[arg-type]
        with console.step("segment", "segmenting") as progress:
            predictor.progress = progress
            predictor.set_volume(volume)
            prediction = predictor.predict(given)
        with console.step("save", f"saving {output}"):
            from ..atomic import all_or_none
            from ..pictures import lesion_picture, save_picture

            with all_or_none(output, probability, picture):
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
    mask = prediction.mask
    record: dict[str, Any] = {
        "scan": str(scan),
        "mask": str(output),
        "model": bundle.provenance.name,
        "prompts": [_told(prompt) for prompt in given],
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


def _numbers(text: str, option: str, kind: type[int] | type[float], count: int = 3) -> tuple[Any, ...]:
    """Numbers separated by commas."""
    try:
        values = tuple(kind(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count:
        example = {2: "110,80", 3: "120,88,45" if kind is int else "-31.5,12,80.2", 6: "100,70,40,140,110,52"}[count]
        words = {2: "two", 3: "three", 6: "six"}[count]
        raise PromptError(f"{option} {text!r}: {words} {'whole ' if kind is int else ''}numbers, such as {example}")
    return values


def _prompts(
    volume: Volume,
    file: Path | None,
    prior: Path | None,
    boxes: list[str],
    scribbles: list[str],
    lassos: list[str],
    clicks: list[str],
    clicks_mm: list[str],
    nots: list[str],
) -> list[Prompt]:
    """All that was pointed at: the file's prompts, the prior, then large things before small ones."""
    from ..prompt_file import read_prior, read_prompts
    from ..prompts import Box, Click, check_inside

    given: list[Prompt] = read_prompts(file, volume.grid) if file is not None else []
    if prior is not None:
        given.append(read_prior(prior))
    for text in boxes:
        corners = _numbers(text, "--box", int, 6)
        given.append(Box(corners[:3], corners[3:]))
    given += [_scribble(text, volume) for text in scribbles]
    given += [_lasso(text) for text in lassos]
    given += [Click(_numbers(text, "--click", int)) for text in clicks]
    given += [Click.at_mm(volume.grid, _numbers(text, "--click-mm", float)) for text in clicks_mm]
    given += [Click(_numbers(text, "--not", int), positive=False) for text in nots]
    if not given:
        raise PromptError(
            "where is the lesion? Give --click X,Y,Z (voxel index), --click-mm X,Y,Z (RAS millimetres), "
            "--box, --scribble, --lasso, --prior or --prompts; or --auto, with an automatic model"
        )
    check_inside(given, volume.grid)
    return given


def _scribble(text: str, volume: Volume) -> Prompt:
    from ..formats import read
    from ..prompts import Scribble

    positive, rest = not text.startswith("not:"), text.removeprefix("not:")
    if Path(rest).is_file():
        return Scribble.of(read(rest).array > 0, volume.grid, positive)
    return Scribble.along([_numbers(part, "--scribble", int) for part in rest.split(":")], positive)


def _lasso(text: str) -> Prompt:
    import numpy as np

    from ..prompts import Lasso

    positive, rest = not text.startswith("not:"), text.removeprefix("not:")
    plane, *corners = rest.split(":")
    axis, _, number = plane.partition("=")
    if axis not in ("x", "y", "z") or not number.isdigit() or len(corners) < 3:
        raise PromptError(
            f"--lasso {text!r}: a slice and at least three corners on it, such as z=45:110,80:130,80:120,100"
        )
    outline = np.array([_numbers(corner, "--lasso", float, 2) for corner in corners])
    return Lasso("xyz".index(axis), int(number), outline, positive)


def _told(prompt: Prompt) -> dict[str, Any]:
    """A prompt as a result's reader wants it; strokes and masks by their size."""
    from ..prompt_file import record
    from ..prompts import Prior, Scribble

    if isinstance(prompt, Prior):
        return {"kind": "prior", "voxels": prompt.mask.voxels}
    if isinstance(prompt, Scribble):
        return {"kind": "scribble", "voxels": len(prompt.places), "positive": prompt.positive}
    return record(prompt)
