"""`palpate segment`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PromptError
from .changes import prompt_changes
from .console import Console, app
from .inference import Inference
from .outputs import (
    OverwriteOption,
    PictureDisplay,
    PictureDisplayOptions,
    check_display,
    check_inputs_stay,
    check_outputs,
    check_replaced,
    read_truth,
    text,
)
from .postprocessing import PostprocessingOptions, postprocessed
from .prompting import HOW_TO_POINT, PromptOptions
from .verbs import verb

if TYPE_CHECKING:
    from ..masks import Mask
    from ..predictor import Prediction, Predictor
    from ..prompts import Prompt
    from ..volume import Volume

SeriesOption = Annotated[str | None, typer.Option(help="Which DICOM series, where a folder holds several.")]
TruthOption = Annotated[
    Path | None,
    typer.Option(help="A known mask on the same grid: prints Dice against it, and the picture shows its contour."),
]
ScanArgument = Annotated[Path, typer.Argument(help="NIfTI, NRRD or MetaImage file, or a folder of DICOM slices.")]


@dataclass(frozen=True)
class Outputs:
    """The files that a segmentation writes; those that are None are not asked for."""

    mask: Path
    probability: Path | None
    uncertainty: Path | None
    picture: Path | None
    display: PictureDisplay  # of the picture

    @property
    def images(self) -> tuple[Path | None, ...]:
        """Those on the scan's grid."""
        return self.mask, self.probability, self.uncertainty


@verb(
    app,
    examples=(
        "palpate segment scan.nii.gz --click 120,88,45 -o lesion.nii.gz",
        "palpate segment series/ --click-mm=-31.5,12,80.2 -o lesion.nrrd --picture lesion.png",
        "palpate segment scan.mha --click 60,70,20 --background 66,64,22 -o lesion.mha --json",
        "palpate segment scan.nii.gz --box 100,70,40,140,110,52 -o lesion.nii.gz",
        "palpate segment scan.nii.gz --initial-mask before.nii.gz --scribble 118,80,45:124,92,45 "
        "--scribble background:90,80,45:95,84,45 -o after.nii.gz",
        "palpate segment scan.nii.gz --lasso z=45:110,80:130,80:120,100 -o lesion.nii.gz",
    ),
)
def segment(
    console: Console,
    context: typer.Context,
    scan: ScanArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The mask: .nii, .nii.gz, .nrrd, .mha or .mhd.")],
    prompts: PromptOptions,
    inference: Inference,
    postprocessing: PostprocessingOptions,
    display: PictureDisplayOptions,
    picture: Annotated[
        Path | None, typer.Option(help="Also save a picture of the lesion and the prompts (.png, .jpg, .pdf, .svg).")
    ] = None,
    probability: Annotated[Path | None, typer.Option(help="Also save the lesion's probability, 0 to 1.")] = None,
    uncertainty: Annotated[
        Path | None, typer.Option(help="Also save how unsure each voxel is: 0 sure, 1 not at all.")
    ] = None,
    alternative: Annotated[
        int | None,
        typer.Option(min=1, help="Save this one of the other masks that are offered where views of the scan disagree."),
    ] = None,
    truth: TruthOption = None,
    series: SeriesOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Segment the lesion under one or several prompts, and save its mask on the scan's own grid.

    Many scans: `palpate batch`. Lesions without a prompt: `palpate propose`.
    """
    from ..prompts import check_inside

    check_display(context, picture, "--picture")
    outputs = Outputs(output, probability, uncertainty, picture, display)
    check_outputs(outputs.images, picture, truth)
    volume = console.read(scan, series)
    known = read_truth(console, truth, volume, scan)
    check_outputs(outputs.images, picture, truth, volume)
    check_inputs_stay((*outputs.images, picture), prompts.read_from())
    check_replaced(overwrite, *outputs.images, picture=picture)
    given = prompts.read(volume, console.warn)
    if not given:
        raise PromptError(f"where is the lesion? {HOW_TO_POINT}; or run `palpate propose`, with an automatic model")
    check_inside(given, volume.grid)
    with console.step("load", f"loading {inference.model}"):
        from ..predictor import Predictor

        predictor = Predictor(inference.settings())
    with console.step("segment", "segmenting") as progress:
        predictor.set_volume(volume)
        _warn_of_padding(console, scan, predictor)
        prediction = predictor.predict(given, progress=progress)
    # Of an alternative nothing is printed: what prompts changed was another mask.
    changes = prompt_changes(predictor, given, postprocessing) if alternative is None else []
    offered = _offered(prediction, alternative)
    if alternative is not None:
        prediction = prediction.with_alternative(alternative)
    prediction = postprocessed(prediction, postprocessing, given, console)
    with console.step("save", f"saving {output}"):
        _save(prediction, outputs, volume, given, known)
    record = _record(scan, outputs, predictor.runtime.name, given, prediction, known) | postprocessing.record
    record["alternative"] = alternative
    console.result(record, [*_lines(record, prediction.expected_dice, console.seconds), *changes, *offered])


def _warn_of_padding(console: Console, path: Path, predictor: Predictor) -> None:
    """Say which value of a scan counts as outside it; a user may know better."""
    scan = predictor.scan
    if scan is not None and scan.padding is not None:
        console.warn(f"{path}: {scan.padding.note}; --rules 1 takes it as any other value")


def _save(prediction: Prediction, outputs: Outputs, volume: Volume, prompts: list[Prompt], known: Mask | None) -> None:
    """Write all results, or none."""
    from ..files import all_or_none
    from ..formats import written_files
    from ..pictures import lesion_picture, save_picture

    with all_or_none(*written_files(*outputs.images), outputs.picture):
        prediction.mask.save(outputs.mask)
        if outputs.probability is not None:
            prediction.probability.save(outputs.probability)
        if outputs.uncertainty is not None:
            prediction.uncertainty.save(outputs.uncertainty)
        if outputs.picture is not None:
            shown = asdict(outputs.display)
            figure = lesion_picture(volume, prediction.mask, prompts, truth=known, **shown)
            save_picture(figure, outputs.picture)


def _record(
    scan: Path, outputs: Outputs, model: str, given: list[Prompt], prediction: Prediction, known: Mask | None
) -> dict[str, Any]:
    from ..prompt_file import summary

    mask = prediction.mask
    record: dict[str, Any] = {
        "scan": str(scan),
        "mask": str(outputs.mask),
        "model": model,
        "prompts": [summary(prompt) for prompt in given],
        "empty": mask.empty,
        "voxels": mask.voxels,
        "volume_ml": round(mask.volume_ml, 4),
        "extent_mm": [round(edge, 2) for edge in mask.extent_mm],
        "bounds": mask.bounds,
        "quality": _rounded(prediction.predicted_iou),
        "mask_warnings": [asdict(warning) for warning in prediction.warnings],
        "scale": prediction.view.scale,
        "crops": prediction.crops,
        "alternatives": [
            {
                "volume_ml": round(other.volume_ml, 4),
                "quality": _rounded(other.predicted_iou),
                "scale": other.view.scale,
            }
            for other in prediction.alternatives
        ],
        "probability": text(outputs.probability),
        "uncertainty": text(outputs.uncertainty),
        "picture": text(outputs.picture),
    }
    if known is not None:
        from ..evaluation.metrics import dice

        record["dice"] = round(dice(mask.full(), known.full()), 4)
    return record


def _rounded(iou: float | None) -> float | None:
    return None if iou is None else round(iou, 4)


def _offered(prediction: Prediction, taken: int | None) -> list[str]:
    """A line for each mask that could be had instead."""
    lines = []
    for number, other in enumerate(prediction.alternatives, start=1):
        expected = "" if other.expected_dice is None else f", expected Dice {other.expected_dice:.2f}"
        if number != taken:
            lines.append(f"another view marks {other.volume_ml:.2f} mL{expected}: --alternative {number}")
    return lines


def _lines(record: dict[str, Any], expected_dice: float | None, seconds: dict[str, float]) -> list[str]:
    times = ", ".join(f"{step} {value:.1f}" for step, value in seconds.items())
    if record["empty"]:
        found = "the mask is empty"
    else:
        extent = " x ".join(f"{edge:.1f}" for edge in record["extent_mm"])
        found = f"{record['volume_ml']:.2f} mL, {extent} mm (x, y, z)"
        if expected_dice is not None:
            found += f", expected Dice {expected_dice:.2f}"
    lines = [f"{record['mask']}: {found}; {sum(seconds.values()):.1f} s ({times})"]
    if "dice" in record:
        lines.append(f"Dice against the known mask: {record['dice']:.3f}")
    return lines
