"""DICOM slices as one grid: their order, their affine, and whether they make a grid at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import SeriesError
from ..volume import FloatArray

if TYPE_CHECKING:
    from pydicom import Dataset

# Attributes that place a slice in space.
PLACEMENT = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
_LPS = np.array([-1.0, -1.0, 1.0])  # DICOM's patient axes to RAS and back
_EVEN = 0.1  # of the step between slices: how far one may lie from its place on an even grid


@dataclass(frozen=True)
class Slice:
    """One file of a series.

    Attributes:
        path: the file.
        header: its attributes before its pixels.
    """

    path: Path
    header: Dataset

    def vector(self, keyword: str) -> FloatArray:
        """An attribute's numbers."""
        return np.array(self.header[keyword].value, dtype=np.float64)

    @property
    def normal(self) -> FloatArray:
        """The direction across the slice, LPS, `[3]`."""
        row, column = self.vector("ImageOrientationPatient").reshape(2, 3)
        return np.cross(row, column)


def in_order(slices: Sequence[Slice]) -> list[Slice]:
    """Slices by their position along the first's normal.

    Raises:
        SeriesError: they cannot be stacked: they differ in size, spacing or direction.
    """
    _check_alike(slices)
    normal = slices[0].normal
    return sorted(slices, key=lambda part: float(normal @ part.vector("ImagePositionPatient")))


def affine(slices: Sequence[Slice]) -> FloatArray:
    """Voxel index to RAS millimetres, `[4, 4]`, of slices in order (DICOM PS3.3, C.7.6.2.1.1).

    Raises:
        SeriesError: positions missing, repeated or off the line, or one slice of unknown thickness.
    """
    first = slices[0]
    row, column = first.vector("ImageOrientationPatient").reshape(2, 3)
    down, along = first.vector("PixelSpacing")  # between rows, between columns
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([row * along, column * down, _step(slices)], axis=1)
    matrix[:3, 3] = first.vector("ImagePositionPatient")
    matrix[:3] *= _LPS[:, None]
    return matrix


def _check_alike(slices: Sequence[Slice]) -> None:
    """Refuse a series whose slices cannot be stacked: other size, spacing or direction."""
    first = slices[0]
    for part in slices[1:]:
        for keyword in ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient"):
            if not np.allclose(first.vector(keyword), part.vector(keyword), rtol=1e-3, atol=1e-3):
                raise SeriesError(
                    f"slices of one series differ in {keyword}: {first.header[keyword].value} in {first.path.name}, "
                    f"{part.header[keyword].value} in {part.path.name}; split the series first"
                )


def _step(slices: Sequence[Slice]) -> FloatArray:
    """From one slice to the next, LPS mm, `[3]`; not along the normal if the gantry was tilted."""
    normal = slices[0].normal
    if len(slices) == 1:
        return normal * _thickness(slices[0])
    positions = np.stack([part.vector("ImagePositionPatient") for part in slices])
    _check_even(slices, positions @ normal)
    _check_straight(slices, positions)
    step: FloatArray = (positions[-1] - positions[0]) / (len(slices) - 1)
    straight = normal * (step @ normal)
    # Rounded positions lean the stack a little; a lean too small to matter is not worth a sheared grid.
    lean = np.linalg.norm(step - straight) * (len(slices) - 1)
    return straight if lean <= _EVEN * float(slices[0].vector("PixelSpacing").min()) else step


def _thickness(only: Slice) -> float:
    thickness = only.header.get("SpacingBetweenSlices") or only.header.get("SliceThickness")
    if not thickness:
        raise SeriesError("holds one slice, of unknown thickness; give the folder with the whole series")
    return float(thickness)


def _check_straight(slices: Sequence[Slice], positions: FloatArray) -> None:
    """Refuse slices that lie beside the line from the first to the last."""
    even = np.linspace(positions[0], positions[-1], len(positions))
    astray = np.linalg.norm(positions - even, axis=1)
    if astray.max() > _EVEN * float(np.linalg.norm(even[1] - even[0])):
        worst = slices[int(astray.argmax())].path.name
        raise SeriesError(f"{worst} lies {astray.max():.2f} mm beside the line of the others; split the series first")


def _check_even(slices: Sequence[Slice], heights: FloatArray) -> None:
    """Refuse repeated and missing slices; `heights` in order, mm along the normal."""
    steps = np.diff(heights)
    usual = float(np.median(steps))
    k = int(steps.argmin())
    if steps[k] <= _EVEN * usual or steps[k] < 1e-3:
        raise SeriesError(
            f"two slices at {heights[k]:.2f} mm: {slices[k].path.name} and {slices[k + 1].path.name}; the series "
            "repeats positions (several times, echoes or copies): split it, or take one out"
        )
    even = np.linspace(heights[0], heights[-1], len(heights))
    if np.abs(heights - even).max() <= _EVEN * (even[1] - even[0]):
        return
    k = int(np.abs(steps - usual).argmax())
    raise SeriesError(
        f"slices are not evenly spaced: {steps[k]:.2f} mm between {slices[k].path.name} (at {heights[k]:.2f} mm) and "
        f"{slices[k + 1].path.name} (at {heights[k + 1]:.2f} mm), {usual:.2f} mm elsewhere; find the missing slices"
    )
