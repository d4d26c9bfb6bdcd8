"""Slices of a scan with what is seen on them, cut and turned as on a viewing box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import GeometryError
from ..masks import Mask
from ..prompts import Box, Click, InitialMask, Lasso, Prompt, check_fits
from ..volume import FloatArray, Grid, Index3, Volume
from .choice import central_voxel, choose_slices
from .slice_counts import Slice, prompt_slice_counts, slice_counts

MARGIN_MM = 30.0

# Which of R, A and S a plane is cut across, and which run down it and from its left to its right.
_PLANES = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}
_SIDES = (("R", "L"), ("A", "P"), ("S", "I"))


@dataclass(frozen=True)
class Place:
    """A slice as a reader finds it.

    Attributes:
        name: "axial", "coronal" or "sagittal".
        axis: the array axis that the slice is cut across.
        index: the slice's index along it.
        offset_mm: how far it lies from the picture's first slice of this name, mm towards the patient's head, front or
            right; 0 for that slice itself.
    """

    name: str
    axis: int
    index: int
    offset_mm: float


@dataclass(frozen=True, eq=False)
class Mark:
    """A prompt on a slice where it lies.

    Attributes:
        number: the prompt's place in the list, from 1.
        kind: the prompt's, as `Prompt.kind`.
        positive: whether it is a foreground prompt.
        points: `[N, 2]`, rows and columns counted from the first voxel's centre: a click's voxel, the corners of a box,
            the outline of a lasso on its own slice; None where the prompt is a region.
        region: `[rows, columns]`, the voxels of a stroke, of an initial mask, or of a lasso on a slice across its own.
    """

    number: int
    kind: str
    positive: bool
    points: FloatArray | None
    region: npt.NDArray[np.bool_] | None


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice of a scan as it is shown: row 0 is the picture's top, column 0 its left.

    Attributes:
        place: which slice.
        values: `[rows, columns]`, float32, the scan's own numbers.
        masks: of each mask `[rows, columns]`, whether a voxel is in it.
        truth: the same of the truth, or None where none was given.
        marks: the prompts that lie on this slice, in their order.
        spacing: edges of a voxel down and across, mm.
        letters: the patient's sides at the picture's left, right, top and bottom.
        focus: row and column of the voxel that the three planes go through, or of the one nearest to it here.
        view_mm: edge of the square around its middle that shows it at the same scale as the others, mm.
    """

    place: Place
    values: npt.NDArray[np.float32]
    masks: tuple[npt.NDArray[np.bool_], ...]
    truth: npt.NDArray[np.bool_] | None
    marks: tuple[Mark, ...]
    spacing: tuple[float, float]
    letters: tuple[str, str, str, str]
    focus: tuple[int, int]
    view_mm: float

    @property
    def size_mm(self) -> tuple[float, float]:
        """Height and width, mm."""
        return self.values.shape[0] * self.spacing[0], self.values.shape[1] * self.spacing[1]


@dataclass(frozen=True, eq=False)
class Sheet:
    """The slices that are shown of a scan, and what none of them shows.

    Attributes:
        planes: axial, coronal and sagittal through one voxel, then up to three further slices.
        masks_left_out: of masks that no plane shows, their places in the list from 1, each with a slice that would.
        prompts_left_out: the same of prompts.
    """

    planes: tuple[Plane, ...]
    masks_left_out: tuple[tuple[int, Place], ...]
    prompts_left_out: tuple[tuple[int, Place], ...]


def lay_out(
    volume: Volume, masks: Sequence[Mask], prompts: Sequence[Prompt] = (), *, truth: Mask | None = None
) -> Sheet:
    """The slices that show masks and prompts, with at least 30 mm around them where the scan has them.

    Which slices: see `choice.central_voxel` and `choice.choose_slices`. A prompt is marked on the slices where it lies,
    and on no other. All slices are cut to one box, which holds every mask, every prompt and the truth.

    Raises:
        GeometryError: a mask or a truth on another grid than the scan.
        PromptError: a prompt that does not lie in the scan.
    """
    grid = volume.grid
    for name, given in (*(("mask", mask) for mask in masks), ("truth", truth)):
        differences = [] if given is None else given.grid.differences(grid)
        if differences:
            raise GeometryError(
                f"the {name} lies on another grid than the scan: {'; '.join(differences)}; bring it onto the scan's "
                "grid first (palpate resample MASK --like SCAN -o OUT)"
            )
    for prompt in prompts:
        check_fits(prompt, grid)
    centre = central_voxel(grid, masks, prompts, truth)
    chosen, unseen = choose_slices(grid, centre, [*map(slice_counts, masks), *map(prompt_slice_counts, prompts)])
    cut = _Cut(volume, tuple(masks), tuple(prompts), truth, centre)
    count = len(masks)
    return Sheet(
        tuple(cut.plane(place) for place in chosen),
        tuple((number + 1, _place(grid, centre, place)) for number, place in unseen if number < count),
        tuple((number + 1 - count, _place(grid, centre, place)) for number, place in unseen if number >= count),
    )


def _place(grid: Grid, centre: Index3, place: Slice) -> Place:
    """A slice's name, and how far it lies from the centre's."""
    across, (axis, sign) = next(
        (across, found) for across, found in enumerate(grid.anatomical_axes) if found[0] == place.axis
    )
    name = next(name for name, order in _PLANES.items() if order[0] == across)
    offset = (place.index - centre[axis]) * sign * float(grid.spacing[axis])
    return Place(name, axis, place.index, offset)


class _Cut:
    """Cuts slices of a scan, and of all that is seen on them, to one box."""

    def __init__(
        self, volume: Volume, masks: tuple[Mask, ...], prompts: tuple[Prompt, ...], truth: Mask | None, centre: Index3
    ) -> None:
        self.volume, self.masks, self.prompts, self.truth, self.centre = volume, masks, prompts, truth, centre
        self.box, self.view_mm = self._find_box()

    def _find_box(self) -> tuple[tuple[slice, slice, slice], float]:
        """All that is marked, with a margin; equally long along every axis as far as the scan allows; and that length.

        The length is the same for each plane, so that they have one scale.
        """
        corners: list[Sequence[int]] = [self.centre]
        for prompt in self.prompts:
            corners += (prompt.places.min(axis=0).tolist(), prompt.places.max(axis=0).tolist())
        for known in (*self.masks, self.truth):
            if known is not None and known.bounds is not None:
                corners += known.bounds
        low, high = np.min(corners, axis=0), np.max(corners, axis=0)
        spacing, shape = self.volume.spacing, np.array(self.volume.shape)
        side = float(((high - low + 1) * spacing).max() + 2 * MARGIN_MM)
        count = np.minimum(np.ceil(side / spacing).astype(int), shape)
        # Near the scan's border the box moves inward, rather than showing nothing on one side.
        start = np.clip((low + high + 1 - count) // 2, 0, shape - count)
        x, y, z = (slice(a, a + n) for a, n in zip(start.tolist(), count.tolist(), strict=True))
        # The box's whole voxels reach a little beyond `side`, unless the scan ends before.
        return (x, y, z), float(np.minimum(count * spacing, side).max())

    def plane(self, place: Slice) -> Plane:
        """A slice; rows and columns begin at the R, A or S side, as on a viewing box."""
        spacing, found = self.volume.spacing, _place(self.volume.grid, self.centre, place)
        _, down, along = _PLANES[found.name]
        turned = _Turned(self.volume.grid, self.box, place, down, along)
        row, column = turned.points(np.array([self.centre]))[0].astype(int).tolist()
        marks = (turned.mark(number, prompt) for number, prompt in enumerate(self.prompts, 1))
        return Plane(
            place=found,
            values=turned.array(self.volume.array).astype(np.float32),
            masks=tuple(turned.array(mask) for mask in self.masks),
            truth=None if self.truth is None else turned.array(self.truth),
            marks=tuple(mark for mark in marks if mark is not None),
            spacing=(float(spacing[turned.rows]), float(spacing[turned.columns])),
            letters=(*_SIDES[along], *_SIDES[down]),
            focus=(row, column),
            view_mm=self.view_mm,
        )


class _Turned:
    """A slice within a box, turned so that its rows and columns begin at the R, A or S side."""

    def __init__(self, grid: Grid, box: tuple[slice, slice, slice], place: Slice, down: int, along: int) -> None:
        self.place, self.box = place, box
        self.rows, self.row_sign = grid.anatomical_axes[down]
        self.columns, self.column_sign = grid.anatomical_axes[along]

    def array(self, values: Any) -> npt.NDArray[Any]:  # noqa: ANN401 - an array, or a patch, which is cut as one
        """The slice of a scan's array or of a patch, `[rows, columns]`."""
        axis, index = self.place.axis, self.place.index
        cut_x, cut_y, cut_z = (slice(index, index + 1) if a == axis else self.box[a] for a in range(3))
        cut: npt.NDArray[Any] = values[cut_x, cut_y, cut_z].transpose(axis, self.rows, self.columns)[0]
        return cut[:: -self.row_sign, :: -self.column_sign]

    def points(self, places: npt.NDArray[Any]) -> FloatArray:
        """Rows and columns `[N, 2]` of voxel indices `[N, 3]`, which may lie between voxels."""
        found = (
            self.box[a].stop - 1 - places[:, a] if sign > 0 else places[:, a] - self.box[a].start
            for a, sign in ((self.rows, self.row_sign), (self.columns, self.column_sign))
        )
        return np.stack(list(found), axis=1).astype(np.float64)

    def mark(self, number: int, prompt: Prompt) -> Mark | None:
        """A prompt's mark; None where it does not lie on this slice."""
        axis, index = self.place.axis, self.place.index
        points: FloatArray | None = None
        region: npt.NDArray[np.bool_] | None = None
        here = prompt.places[prompt.places[:, axis] == index]
        if isinstance(prompt, InitialMask):
            region = self.array(prompt.mask)
        elif isinstance(prompt, Box):
            if prompt.first[axis] <= index <= prompt.last[axis]:
                points = self._corners(prompt)
        elif isinstance(prompt, Click):
            points = self.points(here)
        elif isinstance(prompt, Lasso) and Slice(prompt.axis, prompt.slice_index) == self.place:
            points = self.points(np.insert(prompt.outline, axis, index, axis=1))
        elif len(here):
            region = self._region(here)
        if (points is None or not len(points)) and (region is None or not region.any()):
            return None
        return Mark(number, prompt.kind, prompt.positive, points, region)

    def _corners(self, box: Box) -> FloatArray:
        """The corners `[4, 2]` of a box, at its voxels' outer edges."""
        low, high = np.sort(self.points(box.places), axis=0)
        (top, left), (bottom, right) = low - 0.5, high + 0.5
        return np.array([(top, left), (top, right), (bottom, right), (bottom, left)])

    def _region(self, places: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """The slice with these voxels alone, `[rows, columns]`."""
        extents = [self.box[a].stop - self.box[a].start for a in (self.rows, self.columns)]
        region = np.zeros(extents, dtype=bool)
        region[tuple(self.points(places).astype(int).T)] = True
        return region
