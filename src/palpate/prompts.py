"""What a user points at, on the scan's own grid."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from .errors import PromptError
from .volume import Grid, Index3, Mask, Volume

Places = npt.NDArray[np.int64]  # [N, 3], zero-based voxel indices (x, y, z)
MOST_PROMPTS = 2_000  # of one lesion: each is a step of its own
MOST = 1_000_000  # voxels of one prompt: more is a mask, not a stroke
LARGEST = 2**31  # no scan has a voxel of so large an index
TOLERANCE = 1e-2  # of a voxel's edge: by so much the corners of one grid may lie apart in two files
WRITTEN_OUT = 80  # characters of a value that an error quotes


class Prompt(Protocol):
    """What every prompt has."""

    @property
    def positive(self) -> bool:
        """Whether it says what is lesion; else what is not."""

    @property
    def places(self) -> Places:
        """The voxels that it names, `[N, 3]`; of a box its two corners."""

    @property
    def digest(self) -> bytes:
        """SHA-256 of its kind, side and content: equal for equal prompts, in every process."""


class _Digested:
    """Names a prompt by a hash of what it says."""

    kind: ClassVar[str]
    positive: bool

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of its kind, side and content: equal for equal prompts, in every process."""
        found = hashlib.sha256(f"{self.kind} {self.positive:d} ".encode())
        for array in self._content():
            # The shape keeps two arrays apart from one that is as long as both.
            found.update(f"{array.shape} ".encode() + array.astype(array.dtype.newbyteorder("<")).tobytes())
        return found.digest()

    def _content(self) -> tuple[npt.NDArray[Any], ...]:
        raise NotImplementedError


@dataclass(frozen=True)
class Click(_Digested):
    """A voxel inside the lesion, or outside it.

    Attributes:
        index: zero-based voxel index `(x, y, z)` in the scan's array.
        positive: inside the lesion; False: outside it.
    """

    kind: ClassVar[str] = "click"
    index: Index3
    positive: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", _index(self.index, "a click"))
        object.__setattr__(self, "positive", _side(self.positive))

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
        given = _numbers(mm)
        if given is None or given.shape != (3,) or not np.isfinite(given).all():
            raise PromptError(f"a place is three RAS millimetres x, y, z, not {shown(mm)}")
        place = given.astype(np.float64)
        # A tiny lift makes a point midway between voxels fall the same way on grids that differ by rounding.
        index = np.floor(grid.to_index(place) + 0.5 + 1e-6)
        if (index < 0).any() or (index >= grid.shape).any():
            corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in grid.shape])).reshape(3, -1).T
            low, high = grid.to_mm(corners).min(axis=0), grid.to_mm(corners).max(axis=0)
            spans = ", ".join(f"{a} {lo:.1f} to {hi:.1f}" for a, lo, hi in zip(("R", "A", "S"), low, high, strict=True))
            raise PromptError(f"click at {place.tolist()} mm lies outside the scan, which spans {spans} mm (RAS)")
        x, y, z = index.astype(int).tolist()
        return cls((x, y, z), positive)

    def _content(self) -> tuple[npt.NDArray[Any], ...]:
        return (self.places,)


@dataclass(frozen=True)
class Box(_Digested):
    """A box around the lesion, or, one voxel thick, around its outline on one slice.

    Attributes:
        first: one corner's voxel, which is in the box.
        last: the opposite corner's, which is in it too; the two are put in order. The same voxel twice is a box
            around that voxel alone.
    """

    kind: ClassVar[str] = "box"
    first: Index3
    last: Index3
    positive: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        corners = [_index(corner, "a box's corner") for corner in (self.first, self.last)]
        low, high = np.min(corners, axis=0), np.max(corners, axis=0)
        object.__setattr__(self, "first", tuple(int(v) for v in low))
        object.__setattr__(self, "last", tuple(int(v) for v in high))

    @property
    def places(self) -> Places:
        """Both corners, `[2, 3]`."""
        return np.array([self.first, self.last], dtype=np.int64)

    def _content(self) -> tuple[npt.NDArray[Any], ...]:
        return (self.places,)


@dataclass(frozen=True, eq=False)
class Scribble(_Digested):
    """A stroke of voxels inside the lesion, or outside it.

    Attributes:
        places: its voxels, `[N, 3]`, each once; a copy, read-only.
        positive: inside the lesion; False: outside it.
    """

    kind: ClassVar[str] = "scribble"
    places: Places
    positive: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "places", _frozen(_unrepeated(_places(self.places, "a scribble"))))
        object.__setattr__(self, "positive", _side(self.positive))

    @classmethod
    def along(cls, corners: Sequence[Sequence[float]], positive: bool = True) -> Scribble:
        """The stroke through voxels, straight from one to the next; through one alone, that voxel."""
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
    def of(cls, painted: npt.NDArray[Any] | Volume | Mask, grid: Grid, positive: bool = True) -> Scribble:
        """The voxels where a painted mask is above 0.

        Args:
            painted: an array `[X, Y, Z]` of numbers, taken to lie on the scan's grid; or a volume or a mask, whose own
                grid must be the scan's.
            grid: the scan's.
            positive: inside the lesion; False: outside it.

        Raises:
            PromptError: another shape or another grid than the scan's, NaN or infinity, or nothing painted.
        """
        if isinstance(painted, (Volume, Mask)):
            check_grid("the painted mask", painted.grid, grid)
            painted = painted.full() if isinstance(painted, Mask) else painted.array
        try:
            array = np.asarray(painted)
        except (ValueError, TypeError, RuntimeError):  # ragged, or on another device
            array = np.array(None)
        if array.dtype.kind not in "buif":
            raise PromptError(f"a painted mask is an array of numbers [X, Y, Z], not {shown(painted)}")
        if array.shape != grid.shape:
            raise PromptError(
                f"a scribble of shape {array.shape} does not fit a scan of {grid.shape}; paint on the scan's own grid"
            )
        if not np.isfinite(array).all():
            raise PromptError("a painted mask holds NaN or infinity; give 0 where nothing is painted, and 1 elsewhere")
        places = np.argwhere(array > 0)
        if not len(places):
            raise PromptError("the painted mask is empty: no voxel of it is above 0; paint some, or leave it out")
        return cls(places, positive)

    def _content(self) -> tuple[npt.NDArray[Any], ...]:
        return (self.places,)


@dataclass(frozen=True, eq=False)
class Lasso(_Digested):
    """What an outline on one slice encloses: inside the lesion, or outside it.

    Attributes:
        axis: the array axis that the slice lies across: 0, 1 or 2.
        slice_index: which slice.
        outline: corners `[N, 2]` along the two other axes, in their order; the last joins the first. A copy, read-only.
        positive: inside the lesion; False: outside it.
    """

    kind: ClassVar[str] = "lasso"
    axis: int
    slice_index: int
    outline: npt.NDArray[np.float64]
    positive: bool = True
    places: Places = field(init=False)

    def __post_init__(self) -> None:
        if not _whole(self.axis) or self.axis not in (0, 1, 2):
            raise PromptError(f"a lasso's axis is 0, 1 or 2, not {shown(self.axis)}")
        if not _whole(self.slice_index):
            raise PromptError(f"a lasso's slice is a whole number, not {shown(self.slice_index)}")
        if abs(self.slice_index) > LARGEST:
            raise PromptError(f"a lasso on slice {shown(self.slice_index)} lies outside any scan; give a slice's index")
        given = _numbers(self.outline)
        shape = () if given is None else given.shape
        if given is None or len(shape) != 2 or shape[1] != 2 or shape[0] < 3 or not np.isfinite(given).all():
            raise PromptError(
                f"a lasso is at least three corners of two finite numbers each, not {shown(self.outline)}"
            )
        outline = given.astype(np.float64)
        if np.abs(outline).max() > LARGEST:
            raise PromptError("a lasso lies outside any scan; give corners as indices in its array")
        inside = _enclosed(outline)
        if not len(inside):
            raise PromptError("the lasso encloses no voxel; draw it larger, or click")
        object.__setattr__(self, "outline", _frozen(outline))
        object.__setattr__(self, "axis", int(self.axis))
        object.__setattr__(self, "slice_index", int(self.slice_index))
        object.__setattr__(self, "positive", _side(self.positive))
        object.__setattr__(self, "places", _frozen(np.insert(inside, self.axis, self.slice_index, axis=1)))

    def _content(self) -> tuple[npt.NDArray[Any], ...]:
        return np.array([self.axis, self.slice_index]), self.outline + 0.0  # -0.0 becomes 0.0


@dataclass(frozen=True, eq=False)
class InitialMask(_Digested):
    """A mask to start from and to be made better.

    Attributes:
        mask: on the scan's grid; a copy, read-only.
    """

    kind: ClassVar[str] = "initial_mask"
    mask: Mask
    positive: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.mask, Mask):
            raise PromptError(
                f"a prior is a Mask, not {type(self.mask).__name__}; of an array on the scan's grid, make one by "
                "Mask(array, (0, 0, 0), volume.grid)"
            )
        object.__setattr__(self, "mask", replace(self.mask, array=_frozen(self.mask.array.copy())))
        if self.mask.empty:
            raise PromptError("the prior mask is empty: there is nothing to refine; click instead")

    @property
    def places(self) -> Places:
        """The corners of its bounding box, `[2, 3]`."""
        return np.array(self.mask.bounds, dtype=np.int64)

    def _content(self) -> tuple[npt.NDArray[Any], ...]:
        held = self.mask.cropped()  # however much of the grid around it was given
        return np.array(held.start), np.array(held.array.shape), np.packbits(held.array)


def check_inside(prompts: Sequence[Prompt], grid: Grid) -> None:
    """Refuse prompts that are missing, outside, or at odds.

    Raises:
        PromptError: no list, what is no prompt, none, or too many; what `check_fits` refuses; nothing that says where
            the lesion is; one voxel called lesion and not lesion.
    """
    check_listed(prompts)
    if not prompts:
        raise PromptError("at least one click is needed")
    if len(prompts) > MOST_PROMPTS:
        raise PromptError(
            f"{len(prompts)} prompts are more than the {MOST_PROMPTS} that one lesion may have; give many voxels as "
            "one scribble, or a whole mask as a prior"
        )
    for prompt in prompts:
        check_fits(prompt, grid)
    if not any(prompt.positive for prompt in prompts):
        raise PromptError("nothing says where the lesion is; give a positive click, a box or a prior mask too")
    _check_agreement(prompts, grid)


def check_listed(prompts: Sequence[Prompt]) -> None:
    """Refuse what is no list of prompts.

    Raises:
        PromptError: a single prompt, above all.
    """
    if not isinstance(prompts, Sequence):
        raise PromptError(f"prompts come as a list, not {type(prompts).__name__}; give a list, if only of one prompt")


def check_fits(prompt: Prompt, grid: Grid) -> None:
    """Refuse a prompt that does not lie in a scan.

    Raises:
        PromptError: no prompt; one outside the grid (the message gives the valid range); a prior on another grid.
    """
    if not isinstance(prompt, (Click, Box, Scribble, Lasso, InitialMask)):
        raise PromptError(f"a prompt is a Click, Box, Scribble, Lasso or InitialMask, not {type(prompt).__name__}")
    if isinstance(prompt, InitialMask):
        check_grid("the prior mask", prompt.mask.grid, grid)
    outside = ((prompt.places < 0) | (prompt.places >= grid.shape)).any(axis=1)
    if outside.any():
        place = tuple(prompt.places[outside.argmax()].tolist())
        valid = ", ".join(f"{a} 0 to {n - 1}" for a, n in zip("xyz", grid.shape, strict=True))
        name = type(prompt).__name__.lower()
        raise PromptError(f"{name} {place} lies outside the scan; valid voxel indices: {valid}")


def check_grid(what: str, given: Grid, scan: Grid) -> None:
    """Refuse a mask that does not lie on the scan's grid, to a hundredth of a voxel.

    Args:
        what: the mask, as the error calls it.
        given: its grid.
        scan: the scan's.

    Raises:
        PromptError: another grid; the message says in what they differ.
    """
    if not given.same_as(scan, TOLERANCE):
        raise PromptError(
            f"{what} lies on another grid than the scan: {'; '.join(_differences(given, scan))}; resample it to the "
            "scan's grid, by nearest neighbour"
        )


def _differences(given: Grid, scan: Grid) -> list[str]:
    """In what two grids differ that are not the same, with the values of both."""
    told = [] if given.shape == scan.shape else [f"shape {given.shape}, the scan's {scan.shape}"]
    # Each part's share of how far apart the corners lie: if no share were above a third, the grids would be the same.
    least = TOLERANCE * min(given.spacing.min(), scan.spacing.min()) / 3
    steps = np.array(scan.shape) - 1
    if steps @ np.abs(given.spacing - scan.spacing) > least:
        told.append(f"spacing {_listed(given.spacing)} mm, the scan's {_listed(scan.spacing)}")
    origins = given.affine[:3, 3], scan.affine[:3, 3]
    if np.linalg.norm(origins[0] - origins[1]) > least:
        told.append(f"origin {_listed(origins[0])} mm (RAS), the scan's {_listed(origins[1])}")
    one, other = (grid.affine[:3, :3] / grid.spacing for grid in (given, scan))
    apart = np.linalg.norm(one - other, axis=0)
    if (steps * scan.spacing) @ apart > least:
        if given.orientation != scan.orientation:
            told.append(f"directions {given.orientation}, the scan's {scan.orientation}")
        else:
            turned = np.degrees(2 * np.arcsin(np.minimum(apart.max() / 2, 1)))
            told.append(f"directions {turned:.2g} degrees off the scan's")
    return told


def _listed(values: npt.NDArray[np.float64]) -> str:
    return f"({', '.join(f'{value:.7g}' for value in values)})"


def shown(value: object) -> str:
    """A value as an error quotes it: on one line, and not longer than a line."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python writes no number of more than 4300 digits
        return f"{type(value).__name__} of thousands of digits"
    return text if len(text) <= WRITTEN_OUT else f"{text[:WRITTEN_OUT]}..."


def _check_agreement(prompts: Sequence[Prompt], grid: Grid) -> None:
    """A voxel cannot be lesion and not lesion: a later word does not take back an earlier one, undo does."""
    named = [prompt for prompt in prompts if not isinstance(prompt, (Box, InitialMask))]
    flat = [np.ravel_multi_index(tuple(prompt.places.T), grid.shape) for prompt in named]
    sides = [[f for f, p in zip(flat, named, strict=True) if p.positive is side] for side in (True, False)]
    if all(sides):
        both = np.intersect1d(np.concatenate(sides[0]), np.concatenate(sides[1]))
        if both.size:
            place = tuple(int(v) for v in np.unravel_index(int(both[0]), grid.shape))
            raise PromptError(f"voxel {place} is called lesion and not lesion; take one of the two back")


def _numbers(values: Any) -> npt.NDArray[Any] | None:  # noqa: ANN401 - whatever a user gave
    """What was given, as an array of numbers; None where it is none: ragged, words, objects, True or False."""
    try:
        array = np.asarray(values)
        # In a list, True beside numbers becomes 1 without a word.
        members = np.array(values, dtype=object).ravel().tolist() if isinstance(values, (list, tuple)) else []
    except (ValueError, TypeError, OverflowError, RuntimeError):
        return None
    if array.dtype == object and members and all(type(member) is int for member in members):
        array = array.clip(-2 * LARGEST, 2 * LARGEST).astype(np.int64)  # larger than numpy's: outside is all they are
    if array.dtype.kind not in "iuf" or any(isinstance(member, (bool, np.bool_)) for member in members):
        return None
    return array


def _whole(value: object) -> bool:
    """Whether it is one whole number, and not True or False."""
    if isinstance(value, (float, np.floating)):
        return float(value).is_integer()
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _side(positive: object) -> bool:
    if not isinstance(positive, (bool, np.bool_)):
        raise PromptError(f"positive is True (inside the lesion) or False (outside it), not {shown(positive)}")
    return bool(positive)


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array of ours, which nobody shall change: what was asked stays what was asked."""
    array.setflags(write=False)
    return array


def _index(index: object, what: str) -> Index3:
    values = _numbers(index)
    if values is None or values.shape != (3,) or not np.isfinite(values).all():
        raise PromptError(f"{what} is three voxel indices x, y, z, not {shown(index)}")
    if (values != np.rint(values)).any():
        raise PromptError(f"{what} names a voxel by whole numbers, not {shown(index)}; use Click.at_mm for places")
    if (values < -LARGEST).any() or (values > LARGEST).any():
        raise PromptError(f"{what} at {shown(index)} lies outside any scan; give a voxel's index in its array")
    x, y, z = (int(value) for value in values)
    return x, y, z


def _places(values: Any, what: str) -> Places:  # noqa: ANN401 - whatever a user gave
    array = _numbers(values)
    if array is None or array.ndim != 2 or array.shape[1] != 3 or not len(array):
        raise PromptError(f"{what} is a list of voxel indices x, y, z, at least one, not {shown(values)}")
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
    """Pixels `[N, 2]` whose centres an outline encloses, by the even-odd rule.

    Raises:
        PromptError: an outline around more pixels than a prompt may have.
    """
    low = np.ceil(outline.min(axis=0)).astype(np.int64)
    high = np.floor(outline.max(axis=0)).astype(np.int64)
    if (high < low).any():
        return np.zeros((0, 2), np.int64)
    across, down = (high - low + 1).tolist()
    if across * down > MOST:
        raise PromptError(
            f"the lasso's outline spans {across} x {down} voxels, more than {MOST}; draw it smaller, or give a prior"
        )
    u, v = (np.arange(a, b + 1) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    odd = np.zeros((len(u), len(v)), dtype=bool)
    for (u0, v0), (u1, v1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        crosses = (u0 > u) != (u1 > u)
        if crosses.any():
            at = v0 + (u[crosses] - u0) * (v1 - v0) / (u1 - u0)
            odd[crosses] ^= v[None, :] < at[:, None]
    places: Places = np.argwhere(odd) + low
    return places
