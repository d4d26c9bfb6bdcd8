"""`palpate segment`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import OutputError, PromptError, SettingsError
from .automatic import check_auto, propose, told_beside
from .batch import check_alone, segment_all
from .console import (
    BaseOption,
    BudgetOption,
    Console,
    DeviceOption,
    JsonOption,
    ModelOption,
    PrecisionOption,
    ZoomOption,
    app,
    predictor_of,
)
from .prompting import (
    HOW_TO_POINT,
    BoxOption,
    ClickMmOption,
    ClickOption,
    InitialMaskOption,
    LassoOption,
    NotOption,
    PromptsOption,
    ScribbleOption,
    given_prompts,
    prompt_files,
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
    "`palpate segment scan.nii.gz --lasso z=45:110,80:130,80:120,100 -o lesion.nii.gz`\n\n"
    "`palpate segment scan.nii.gz --auto --model automatic.safetensors -o proposals.nii.gz`\n\n"
    "`palpate segment --batch jobs.csv --workers 4`"
)
def segment(
    context: typer.Context,
    scan: Annotated[
        Path | None, typer.Argument(help="NIfTI, NRRD or MetaImage file, or a folder of DICOM slices.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The mask: .nii, .nii.gz, .nrrd, .mha or .mhd.")
    ] = None,
    click: ClickOption = None,
    click_mm: ClickMmOption = None,
    no: NotOption = None,
    box: BoxOption = None,
    scribble: ScribbleOption = None,
    lasso: LassoOption = None,
    prior: InitialMaskOption = None,
    prompts: PromptsOption = None,
    model: ModelOption = "palpate-tiny",
    base: BaseOption = None,
    picture: Annotated[
        Path | None, typer.Option(help="Also save a picture: three planes through the lesion (.png, .pdf, .svg).")
    ] = None,
    probability: Annotated[Path | None, typer.Option(help="Also save the lesion's probability, 0 to 1.")] = None,
    uncertainty: Annotated[
        Path | None, typer.Option(help="Also save how unsure each voxel is: 0 sure, 1 not at all.")
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="A known mask on the same grid: prints Dice against it.")] = None,
    series: Annotated[str | None, typer.Option(help="Which DICOM series, where a folder holds several.")] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    zoom: ZoomOption = True,
    budget: BudgetOption = None,
    batch: Annotated[
        Path | None,
        typer.Option(help="A CSV of scan,prompts,output to do instead (docs/batch.md); again: what is missing."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="With --batch: processes, each with the model; one by default.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="With --batch: the results' CSV; by default beside the list.")
    ] = None,
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
        check_alone(context, batch)
        if batch is not None:
            segment_all(console, batch, results, model, base, device, precision, zoom, budget, workers)  # type: ignore[arg-type]
            return
        if scan is None or output is None:
            raise SettingsError(
                "what and where to? `palpate segment SCAN --click X,Y,Z -o MASK`, or `palpate segment --batch jobs.csv`"
            )
        if auto and (uncertainty is not None or not zoom or budget is not None):
            raise SettingsError("--auto has no --uncertainty, --no-zoom or --budget; leave them out")
        check_auto(auto, least_ml, output, any((prompts, prior, box, scribble, lasso, click, click_mm, no)))
        _check_outputs((output, probability, uncertainty), picture, truth)
        with console.step("read", f"reading {scan}"):
            from ..formats import check_spared, read
            from ..prompts import check_inside

            volume = read(scan, series=series)
            known = _truth(truth, volume)
        _check_outputs((output, probability, uncertainty), picture, truth, volume)
        if auto:
            check_spared(told_beside(output), volume)
            load_options = (model, base, device, precision)
            propose(console, load_options, scan, volume, known, least_ml, output, probability, picture)
            return
        _check_kept((output, probability, uncertainty, picture), prompt_files(prompts, prior, scribble))
        given = given_prompts(volume, prompts, prior, box, scribble, lasso, click, click_mm, no)
        if not given:
            raise PromptError(f"where is the lesion? {HOW_TO_POINT}; or --auto, with an automatic model")
        check_inside(given, volume.grid)
        with console.step("load", f"loading {model}"):
            predictor = predictor_of(model, base, device, precision, zoom, budget)
        with console.step("segment", "segmenting") as progress:
            predictor.progress = progress
            predictor.set_volume(volume)
            prediction = predictor.predict(given)
        with console.step("save", f"saving {output}"):
            from ..files import all_or_none
            from ..formats import written_files
            from ..pictures import lesion_picture, save_picture

            with all_or_none(*written_files(output, probability, uncertainty), picture):
                prediction.mask.save(output)
                if probability is not None:
                    prediction.probability.save(probability)
                if uncertainty is not None:
                    prediction.uncertainty.save(uncertainty)
                if picture is not None:
                    from ..prompts import Click

                    clicks = [prompt for prompt in given if isinstance(prompt, Click) and prompt.positive]
                    save_picture(lesion_picture(volume, prediction.mask, clicks, truth=known), picture)
        record = _record(scan, output, predictor.bundle, given, prediction, known)
        record |= {"probability": _text(probability), "uncertainty": _text(uncertainty), "picture": _text(picture)}
        console.result(record, _sentences(record, console.seconds))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _check_outputs(
    images: tuple[Path | None, ...], picture: Path | None, truth: Path | None, scan: Volume | None = None
) -> None:
    """Refuse, before any work, results that could not be written; once the scan is known, those in its place too."""
    from ..formats import check_output, check_spared
    from ..pictures import check_picture

    for path in images:
        if path is not None:
            check_output(path, scan)
    if picture is not None:
        check_picture(picture)
        if scan is not None:
            check_spared(picture, scan)
    named = [path.resolve() for path in (*images, picture) if path is not None]
    if len(set(named)) < len(named):
        raise OutputError(f"two results would go to one file: {', '.join(map(str, named))}; name them apart")
    if truth is not None and truth.resolve() in named:
        raise OutputError(f"cannot write {truth}: it is the --truth to compare with, and would be lost; name another")


def _check_kept(results: tuple[Path | None, ...], read: tuple[Path, ...]) -> None:
    """Refuse results in place of what prompts are read from."""
    places = {path.resolve() for path in results if path is not None}
    for path in read:
        if path.resolve() in places:
            raise OutputError(f"cannot write {path}: prompts are read from it, and it would be lost; name another")


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
    return Mask(known.array > 0, (0, 0, 0), volume.grid)  # from which another program's header may differ by rounding


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
        "quality": None if prediction.quality is None else round(prediction.quality, 4),
        "scale": prediction.view.scale,
        "crops": prediction.crops,
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
        if record["quality"] is not None:
            found += f", overlap with the truth expected {record['quality']:.2f}"
    lines = [f"{record['mask']}: {found}; {sum(seconds.values()):.1f} s ({times})"]
    if "dice" in record:
        lines.append(f"Dice against the known mask: {record['dice']:.3f}")
    return lines
