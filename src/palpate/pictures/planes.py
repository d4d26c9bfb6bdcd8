"""Which slices of a scan show a lesion, cut and turned as on a viewing box, and the window that suits them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import GeometryError
from ..masks import Mask
from ..prompts import Click, check_fits
from ..volume import Index3, Volume

MARGIN_MM = 30.0
_LUNG_WINDOW = (-1350.0, 150.0)
_NEAR_MM = 8.0

# Which of R, A and S a plane is cut across, and which run down it and from its left to its right.
_PLANES = (("axial", 2, 1, 0), ("coronal", 1, 2, 0), ("sagittal", 0, 2, 1))
_SIDES = (("R", "L"), ("A", "P"), ("S", "I"))


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice of a scan as it is shown: row 0 is the picture's top, column 0 its left.

    Attributes:
        name: "axial", "coronal" or "sagittal".
        axis: the array axis that the slice is cut across.
        index: the slice's index along it.
        values: `[rows, columns]`, float32, the scan's own numbers.
        lesion: `[rows, columns]`, whether a voxel is in the mask.
        truth: the same of the truth, or None where none was given.
        spacing: edges of a voxel down and across, mm.
        letters: the patient's sides at the picture's left, right, top and bottom.
        clicks: of each click its row, its column, and whether it lies in this slice.
        view_mm: edge of the square around its middle that shows it at the same scale as the other two, mm.
    """

    name: str
    axis: int
    index: int
    values: npt.NDArray[np.float32]
    lesion: npt.NDArray[np.bool_]
    truth: npt.NDArray[np.bool_] | None
    spacing: tuple[float, float]
    letters: tuple[str, str, str, str]
    clicks: tuple[tuple[int, int, bool], ...]
    view_mm: float

    @property
    def size_mm(self) -> tuple[float, float]:
        """Height and width, mm."""
        return self.values.shape[0] * self.spacing[0], self.values.shape[1] * self.spacing[1]


def lesion_planes(
    volume: Volume, mask: Mask, clicks: Sequence[Click] = (), *, truth: Mask | None = None
) -> tuple[Plane, Plane, Plane]:
    """The axial, coronal and sagittal slices through a lesion, with at least 30 mm around it where the scan has them.

    A slice is the one with most of the lesion among those near its middle; of an empty mask it goes through the last
    click, else the middle of the truth, else of the scan. All clicks and the whole truth lie in what is shown.

    Raises:
        GeometryError: a mask or a truth on another grid than the scan.
        PromptError: a click outside the scan.
    """
    grid = volume.grid
    for name, given in (("mask", mask), ("truth", truth)):
        if given is not None and not grid.same_as(given.grid):
            raise GeometryError(
                f"the {name} lies on another grid (shape {given.grid.shape}, {given.grid.orientation}) than the scan "
                f"(shape {grid.shape}, {grid.orientation}); bring it onto the scan's grid first"
            )
    for click in clicks:
        check_fits(click, grid)
    shown = _Shown(volume, mask, tuple(clicks), truth)
    first, second, third = (shown.plane(*plane) for plane in _PLANES)
    return first, second, third


class _Shown:
    """What is shown of a scan: one voxel whose slices are cut, and the box to which they are cut."""

    def __init__(self, volume: Volume, mask: Mask, clicks: tuple[Click, ...], truth: Mask | None) -> None:
        self.volume, self.mask, self.clicks, self.truth = volume, mask, clicks, truth
        self.centre = self._find_centre()
        self.box, self.view_mm = self._find_box()

    def _find_centre(self) -> Index3:
        if not self.mask.empty:
            return _middle(self.mask)
        if self.clicks:
            return self.clicks[-1].index
        if self.truth is not None and not self.truth.empty:
            return _middle(self.truth)
        x, y, z = (n // 2 for n in self.volume.shape)
        return x, y, z

    def _find_box(self) -> tuple[tuple[slice, slice, slice], float]:
        """Masks and clicks with a margin, equally long along every axis as far as the scan allows; and that length."""
        marks = [self.centre, *(click.index for click in self.clicks)]
        for known in (self.mask, self.truth):
            if known is not None and known.bounds is not None:
                marks += known.bounds
        low, high = np.min(marks, axis=0), np.max(marks, axis=0)
        spacing, shape = self.volume.spacing, np.array(self.volume.shape)
        side = float(((high - low + 1) * spacing).max() + 2 * MARGIN_MM)
        count = np.minimum(np.ceil(side / spacing).astype(int), shape)
        # Near the scan's border the box moves inward, rather than showing nothing on one side.
        start = np.clip((low + high + 1 - count) // 2, 0, shape - count)
        x, y, z = (slice(a, a + n) for a, n in zip(start.tolist(), count.tolist(), strict=True))
        # The box's whole voxels reach a little beyond `side`, unless the scan ends before.
        return (x, y, z), float(np.minimum(count * spacing, side).max())

    def plane(self, name: str, across: int, down: int, along: int) -> Plane:
        """The slice across one of R, A and S; rows and columns begin at the R, A or S side, as on a viewing box."""
        directions, spacing = self.volume.grid.anatomical_axes, self.volume.spacing
        axis, (rows, row_sign), (columns, column_sign) = directions[across][0], directions[down], directions[along]
        index = self.centre[axis]
        cut_x, cut_y, cut_z = (slice(index, index + 1) if a == axis else self.box[a] for a in range(3))
        cut = cut_x, cut_y, cut_z

        def turned(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return array.transpose(axis, rows, columns)[0, ::-row_sign, ::-column_sign]

        def place(click: Click) -> tuple[int, int, bool]:
            row, column = (
                self.box[a].stop - 1 - click.index[a] if sign > 0 else click.index[a] - self.box[a].start
                for a, sign in ((rows, row_sign), (columns, column_sign))
            )
            return row, column, click.index[axis] == index

        return Plane(
            name=name,
            axis=axis,
            index=index,
            values=turned(self.volume.array[cut]).astype(np.float32),
            lesion=turned(self.mask[cut]),
            truth=None if self.truth is None else turned(self.truth[cut]),
            spacing=(float(spacing[rows]), float(spacing[columns])),
            letters=(*_SIDES[along], *_SIDES[down]),
            clicks=tuple(place(click) for click in self.clicks),
            view_mm=self.view_mm,
        )


def _middle(mask: Mask) -> Index3:
    """Along each axis, the slice with most of the lesion in the middle half of it; of equals the most central."""
    found = []
    for axis in range(3):
        counts = mask.array.sum(axis=tuple(a for a in range(3) if a != axis))
        inside = np.flatnonzero(counts)
        from_centre = np.abs(np.arange(len(counts)) - (inside[0] + inside[-1]) / 2)
        near = np.flatnonzero(counts * (from_centre <= max((inside[-1] - inside[0] + 1) / 4, 0.5)))
        # Two parts far from each other leave nothing in the middle.
        candidates = (near if near.size else inside).tolist()
        best = min(candidates, key=lambda i: (-int(counts[i]), float(from_centre[i])))
        found.append(mask.start[axis] + best)
    return found[0], found[1], found[2]


def automatic_window(volume: Volume, planes: Sequence[Plane]) -> tuple[float, float]:
    """The values to show as black and as white: on CT a window for lung or for soft tissue, else percentiles 1 to 99.

    CT is what has values below -500; it is a lung's where most around the lesion is neither tissue nor plain air.
    """
    shown = np.concatenate([plane.values.ravel() for plane in planes])
    thinned = volume.array[tuple(slice(None, None, max(1, n // 64)) for n in volume.shape)]
    if min(float(thinned.min()), float(shown.min())) < -500:
        around = np.concatenate([plane.values[_near(plane)] for plane in planes])
        if np.count_nonzero((around > -970) & (around < -500)) > np.count_nonzero(around >= -500):
            return _LUNG_WINDOW
        tissue = shown[(shown > -160) & (shown < 300)]
        if tissue.size:
            low, high = (float(v) for v in np.percentile(tissue, (1, 99)))
            # Less than 300 HU from black to white would show little but noise.
            more = max(0.0, 300 - (high - low)) / 2
            return low - more, high + more
    low, high = (float(v) for v in np.percentile(shown, (1, 99)))
    return (low, high) if low < high else (low - 0.5, low + 0.5)


def _near(plane: Plane) -> npt.NDArray[np.bool_]:
    """What lies beside the lesion, within about 8 mm of its box; of an empty mask, beside the last click or middle."""
    marked = plane.lesion.copy()
    if not marked.any():
        row, column = plane.clicks[-1][:2] if plane.clicks else (marked.shape[0] // 2, marked.shape[1] // 2)
        marked[row, column] = True
    box = []
    for side, spacing in enumerate(plane.spacing):
        hit = np.flatnonzero(marked.any(axis=1 - side))
        grow = int(np.ceil(_NEAR_MM / spacing))
        box.append(slice(max(0, int(hit[0]) - grow), int(hit[-1]) + grow + 1))
    near = np.zeros_like(marked)
    near[tuple(box)] = True
    return near & ~plane.lesion
