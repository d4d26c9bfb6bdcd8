"""What a user points at, on the scan's own grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .errors import PromptError
from .volume import Grid, Index3, Mask

Places = npt.NDArray[np.int64]  # [N, 3], zero-based voxel indices (x, y, z)
MOST_PROMPTS = 2_000  # of one lesion: each is a step of its own
MOST = 1_000_000  # voxels of one prompt: more is a mask, not a stroke
LARGEST = 2**31  # no scan has a voxel of so large an index


class Prompt(Protocol):
    """What every prompt has."""

    @property
    def positive(self) -> bool:
        """Whether it says what is lesion; else what is not."""

    @property
    def places(self) -> Places:
        """The voxels that it names, `[N, 3]`; of a box its two corners."""


@dataclass(frozen=True)
class Click:
    """A voxel inside the lesion, or outside it.

    Attributes:
        index: zero-based voxel index `(x, y, z)` in the scan's array.
        positive: inside the lesion; False: outside it.
    """

    index: Index3
    positive: bool = True

    def __post_init__(self) -> None:
        values = np.asarray(self.index)
        if values.shape != (3,) or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
            raise PromptError(f"a click is three voxel indices x, y, z, not {self.index!r}")
        if (values != np.rint(values)).any():
            raise PromptError(f"a click names a voxel by whole numbers, not {self.index!r}; use Click.at_mm for places")
        if (values < -LARGEST).any() or (values > LARGEST).any():
            raise PromptError(f"a click at {self.index!r} lies outside any scan; give a voxel's index in its array")
        object.__setattr__(self, "index", tuple(int(v) for v in values))
        object.__setattr__(self, "positive", bool(self.positive))

    @property
    def places(self) -> Places:
        """The voxel, `[1, 3]`."""
        return np.array([self.index], dtype=np.int64)

    @classmethod
    def at_mm(cls, grid: Grid, mm: Sequence[float], positive: bool = True) -> Click:
        """The click on the voxel of `grid` that holds a point, RAS millimetres `(x, y, z)`.

        Raises:
            PromptError: not three finite numbers, or a point outside the scan.
        """
        place = np.asarray(mm, dtype=np.float64)
        if place.shape != (3,) or not np.isfinite(place).all():
            raise PromptError(f"a place is three RAS millimetres x, y, z, not {mm!r}")
        # A tiny lift makes a point midway between voxels fall the same way on grids that differ by rounding.
        index = np.floor(grid.to_index(place) + 0.5 + 1e-6)
        if (index < 0).any() or (index >= grid.shape).any():
            corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in grid.shape])).reshape(3, -1).T
            low, high = grid.to_mm(corners).min(axis=0), grid.to_mm(corners).max(axis=0)
            spans = ", ".join(f"{a} {lo:.1f} to {hi:.1f}" for a, lo, hi in zip(("R", "A", "S"), low, high, strict=True))
            raise PromptError(f"click at {place.tolist()} mm lies outside the scan, which spans {spans} mm (RAS)")
        x, y, z = index.astype(int).tolist()
        return cls((x, y, z), positive)


@dataclass(frozen=True)
class Box:
    """A box around the lesion, or, one voxel thick, around its outline on one slice.

    Attributes:
        first: one corner's voxel, which is in the box.
        last: the opposite corner's, which is in it too; the two are put in order.
    """

    first: Index3
    last: Index3
    positive: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        corners = [Click(corner).index for corner in (self.first, self.last)]
        low, high = np.min(corners, axis=0), np.max(corners, axis=0)
        object.__setattr__(self, "first", tuple(int(v) for v in low))
        object.__setattr__(self, "last", tuple(int(v) for v in high))

    @property
    def places(self) -> Places:
        """Both corners, `[2, 3]`."""
        return np.array([self.first, self.last], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Scribble:
    """A stroke of voxels inside the lesion, or outside it.

    Attributes:
        places: its voxels, `[N, 3]`, each once.
        positive: inside the lesion; False: outside it.
    """

    places: Places
    positive: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "places", _unrepeated(_places(self.places, "a scribble")))
        object.__setattr__(self, "positive", bool(self.positive))

    @classmethod
    def along(cls, corners: Sequence[Sequence[float]], positive: bool = True) -> Scribble:
        """The stroke through voxels, straight from one to the next."""
        line = _places(corners, "a scribble")
        length = int(np.abs(np.diff(line, axis=0)).max(axis=1).sum())
        if length > MOST:
            raise PromptError(f"a scribble of {length} voxels is more than {MOST}; give it as a prior mask")
        strokes = [line[:1]]
        for a, b in itertools.pairwise(line):
            steps = int(np.abs(b - a).max())
            strokes.append(np.rint(np.linspace(a, b, steps + 1)[1:]).astype(np.int64))
        return cls(np.concatenate(strokes), positive)

    @classmethod
    def of(cls, mask: npt.NDArray[Any], grid: Grid, positive: bool = True) -> Scribble:
        """The voxels of a painted array.

        Raises:
            PromptError: an array of another shape than the scan, or an empty one.
        """
        if mask.shape != grid.shape:
            raise PromptError(f"a scribble of shape {mask.shape} does not fit a scan of {grid.shape}")
        return cls(np.argwhere(mask), positive)


@dataclass(frozen=True, eq=False)
class Lasso:
    """What an outline on one slice encloses: inside the lesion, or outside it.

    Attributes:
        axis: the array axis that the slice lies across: 0, 1 or 2.
        slice_index: which slice.
        outline: corners `[N, 2]` along the two other axes, in their order; the last joins the first.
        positive: inside the lesion; False: outside it.
    """

    axis: int
    slice_index: int
    outline: npt.NDArray[np.float64]
    positive: bool = True
    places: Places = field(init=False)

    def __post_init__(self) -> None:
        outline = np.asarray(self.outline, dtype=np.float64)
        if self.axis not in (0, 1, 2):
            raise PromptError(f"a lasso's axis is 0, 1 or 2, not {self.axis!r}")
        if self.slice_index not in range(-MOST, MOST):
            raise PromptError(f"a lasso's slice is a whole number, not {self.slice_index!r}")
        if outline.ndim != 2 or outline.shape[1] != 2 or len(outline) < 3 or not np.isfinite(outline).all():
            raise PromptError("a lasso is at least three corners of two finite numbers each")
        if np.abs(outline).max() > LARGEST:
            raise PromptError("a lasso lies outside any scan; give corners as indices in its array")
        inside = _enclosed(outline)
        if not len(inside):
            raise PromptError("the lasso encloses no voxel; draw it larger, or click")
        object.__setattr__(self, "outline", outline)
        object.__setattr__(self, "axis", int(self.axis))
        object.__setattr__(self, "slice_index", int(self.slice_index))
        object.__setattr__(self, "positive", bool(self.positive))
        object.__setattr__(self, "places", np.insert(inside, self.axis, self.slice_index, axis=1))


@dataclass(frozen=True, eq=False)
class Prior:
    """A mask to start from and to be made better.

    Attributes:
        mask: on the scan's grid.
    """

    mask: Mask
    positive: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        if self.mask.empty:
            raise PromptError("the prior mask is empty: there is nothing to refine; click instead")

    @property
    def places(self) -> Places:
        """The corners of its bounding box, `[2, 3]`."""
        return np.array(self.mask.bounds, dtype=np.int64)


def check_inside(prompts: Sequence[Prompt], grid: Grid) -> None:
    """Refuse prompts that are missing, outside, or at odds.

    Raises:
        PromptError: no prompt, or too many; one outside the grid (the message gives the valid range); nothing that
            says where the lesion is; one voxel called lesion and not lesion; a prior on another grid.
    """
    if not prompts:
        raise PromptError("at least one click is needed")
    if len(prompts) > MOST_PROMPTS:
        raise PromptError(
            f"{len(prompts)} prompts are more than the {MOST_PROMPTS} that one lesion may have; give many voxels as "
            "one scribble, or a whole mask as a prior"
        )
    for prompt in prompts:
        if isinstance(prompt, Prior) and not prompt.mask.grid.same_as(grid, tolerance=1e-2):
            raise PromptError(
                f"the prior mask lies on another grid ({prompt.mask.grid.shape}) than the scan ({grid.shape})"
            )
        outside = ((prompt.places < 0) | (prompt.places >= grid.shape)).any(axis=1)
        if outside.any():
            place = tuple(prompt.places[outside.argmax()].tolist())
            valid = ", ".join(f"{a} 0 to {n - 1}" for a, n in zip("xyz", grid.shape, strict=True))
            name = type(prompt).__name__.lower()
            raise PromptError(f"{name} {place} lies outside the scan; valid voxel indices: {valid}")
    if not any(prompt.positive for prompt in prompts):
        raise PromptError("nothing says where the lesion is; give a positive click, a box or a prior mask too")
    _check_agreement(prompts, grid)


def _check_agreement(prompts: Sequence[Prompt], grid: Grid) -> None:
    """A voxel cannot be lesion and not lesion: a later word does not take back an earlier one, undo does."""
    named = [prompt for prompt in prompts if not isinstance(prompt, (Box, Prior))]
    flat = [np.ravel_multi_index(tuple(prompt.places.T), grid.shape) for prompt in named]
    sides = [[f for f, p in zip(flat, named, strict=True) if p.positive is side] for side in (True, False)]
    if all(sides):
        both = np.intersect1d(np.concatenate(sides[0]), np.concatenate(sides[1]))
        if both.size:
            place = tuple(int(v) for v in np.unravel_index(int(both[0]), grid.shape))
            raise PromptError(f"voxel {place} is called lesion and not lesion; take one of the two back")


def _places(values: Any, what: str) -> Places:  # noqa: ANN401 - whatever a user gave
    array = np.asarray(values)
    if array.ndim != 2 or array.shape[1] != 3 or array.dtype.kind not in "iuf" or not len(array):
        raise PromptError(f"{what} is a list of voxel indices x, y, z, at least one")
    if not np.isfinite(array).all() or (array != np.rint(array)).any():
        raise PromptError(f"{what} names voxels by whole numbers")
    if (array < -LARGEST).any() or (array > LARGEST).any():
        raise PromptError(f"{what} lies outside any scan; give voxels' indices in its array")
    if len(array) > MOST:
        raise PromptError(f"{what} of {len(array)} voxels is more than {MOST}; give it as a prior mask")
    return array.astype(np.int64)


def _unrepeated(places: Places) -> Places:
    """Each voxel once, in the order of the stroke."""
    _, first = np.unique(places, axis=0, return_index=True)
    return places[np.sort(first)]


def _enclosed(outline: npt.NDArray[np.float64]) -> Places:
    """Pixels `[N, 2]` whose centres an outline encloses, by the even-odd rule."""
    low = np.ceil(outline.min(axis=0)).astype(np.int64)
    high = np.floor(outline.max(axis=0)).astype(np.int64)
    if (high < low).any() or math.prod((high - low + 1).tolist()) > MOST:
        return np.zeros((0, 2), np.int64)
    u, v = (np.arange(a, b + 1) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    odd = np.zeros((len(u), len(v)), dtype=bool)
    for (u0, v0), (u1, v1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        crosses = (u0 > u) != (u1 > u)
        if crosses.any():
            at = v0 + (u[crosses] - u0) * (v1 - v0) / (u1 - u0)
            odd[crosses] ^= v[None, :] < at[:, None]
    places: Places = np.argwhere(odd) + low
    return places
