"""`palpate resample`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ScanError
from .completion import complete_from
from .console import Console, app
from .outputs import OverwriteOption, check_replaced
from .segment import SeriesOption
from .verbs import verb

if TYPE_CHECKING:
    from ..resampling import ResampledLabels
    from ..volume import Volume

MAX_SHOWN = 20  # labels on a terminal; all are in the JSON


@verb(
    app,
    examples=(
        "palpate resample mask.nrrd --like scan.nii.gz -o mask.nii.gz",
        "palpate resample labels.nii.gz --like series/ -o labels-on-series.nii.gz --interpolation nearest",
    ),
)
def resample(
    console: Console,
    mask: Annotated[Path, typer.Argument(help="A mask or a label map: NIfTI, NRRD or MetaImage.")],
    like: Annotated[
        Path, typer.Option("--like", help="The scan whose grid it gets: a file, or a folder of DICOM slices.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The result: .nii, .nii.gz, .nrrd, .mha or .mhd.")],
    interpolation: Annotated[
        str,
        typer.Option(
            metavar="linear|nearest",
            help="linear: each voxel gets the label that fills most of it; nearest: that of the nearest voxel.",
            autocompletion=complete_from("linear", "nearest"),
        ),
    ] = "linear",
    series: SeriesOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Bring a mask or a label map to a scan's grid; its labels and their type stay what they are."""
    from ..formats import check_output, check_spared, write

    check_output(output)
    labels, scan = console.read(mask), console.read(like, series)
    check_output(output, scan)
    check_spared(output, labels, "mask")
    check_replaced(overwrite, output)
    with console.step("resample", f"resampling {mask}"):
        from ..resampling import resample_labels

        try:
            made = resample_labels(labels, scan.grid, scan.source, interpolation)  # type: ignore[arg-type]
        except ScanError as error:
            raise type(error)(f"{mask}: {error}") from error
    with console.step("save", f"saving {output}"):
        write(made.volume, output)
    _warn(console, made)
    record = _record(mask, like, output, interpolation, made)
    console.result(record, _lines(record, scan))


def _warn(console: Console, made: ResampledLabels) -> None:
    """Warn of labels that are cut, or gone."""
    if not made.changes:
        console.warn("the mask is empty: no voxel is above 0")
    if made.outside:
        share = made.outside / sum(change.voxels[0] for change in made.changes)
        console.warn(
            f"the mask reaches outside the scan: {made.outside} of its voxels ({share:.1%}) are cut off; check that it "
            "is of this scan"
        )
    gone = [str(change.value) for change in made.changes if not change.voxels[1]]
    if gone:
        console.warn(
            f"nothing is left of label {', '.join(gone)}, which fills no voxel of the scan by more than half, or lies "
            "outside it"
        )


def _record(mask: Path, like: Path, output: Path, interpolation: str, made: ResampledLabels) -> dict[str, Any]:
    return {
        "mask": str(mask),
        "like": str(like),
        "output": str(output),
        "interpolation": interpolation,
        "type": str(made.volume.full().dtype),
        "outside_voxels": made.outside,
        "labels": [
            {
                "label": change.value,
                "voxels_before": change.voxels[0],
                "voxels": change.voxels[1],
                "volume_ml_before": round(change.volume_ml[0], 4),
                "volume_ml": round(change.volume_ml[1], 4),
            }
            for change in made.changes
        ],
    }


def _lines(record: dict[str, Any], scan: Volume) -> list[str]:
    lines = [f"{record['output']}: on the grid of {record['like']}, {scan.grid.description}; {record['interpolation']}"]
    for one in record["labels"][:MAX_SHOWN]:
        lines.append(
            f"label {one['label']}: {one['volume_ml']:.2f} mL in {one['voxels']} voxels; before "
            f"{one['volume_ml_before']:.2f} mL in {one['voxels_before']}"
        )
    if len(record["labels"]) > MAX_SHOWN:
        lines.append(f"and {len(record['labels']) - MAX_SHOWN} more labels; --json lists all")
    return lines
