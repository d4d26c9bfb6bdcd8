"""The kinds of prompt."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import PromptError
from ..formats import as_grid, as_volume, is_image
from ..masks import Mask, Patch
from ..volume import Grid, Index3, Volume
from .given import (
    MAX_INDEX,
    MAX_VOXELS,
    Places,
    checked_index,
    checked_places,
    checked_side,
    frozen,
    is_whole,
    numbers,
    shown,
    unrepeated,
)
from .grids import check_grid
from .outline import enclosed
from .outside import mm_advice

if TYPE_CHECKING:
    from ..formats.reading import GridLike, ImageLike


class Prompt(Protocol):
    """What every prompt has."""

    kind: ClassVar[str]

    @property
    def positive(self) -> bool:
        """Whether it is a foreground prompt; else a background prompt."""

    @property
    def places(self) -> Places:
        """Its voxels, `[N, 3]`; of a box its two corners."""

    @property
    def digest(self) -> bytes:
        """SHA-256 of its kind, side and content: equal for equal prompts, in every process."""

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes of the image that it was made of, as `Volume.notes`; not part of its content."""


class _PromptBase:
    """The digest of a prompt, from the arrays that make up its content; prompts of one digest are equal."""

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

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, _PromptBase) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def _content(self) -> tuple[npt.NDArray[Any], ...]:
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Click(_PromptBase):
    """A voxel inside the lesion, or outside it.

    Attributes:
        index: zero-based voxel index `(x, y, z)` in the scan's array.
        positive: inside the lesion; False: outside it.
    """

    kind: ClassVar[str] = "click"
    notes: ClassVar[tuple[str, ...]] = ()
    index: Index3
    positive: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", checked_index(self.index, "a click"))
        object.__setattr__(self, "positive", checked_side(self.positive))

    @property
    def places(self) -> Places:
        """The voxel, `[1, 3]`."""
        return np.array([self.index], dtype=np.int64)

    @classmethod
    def at_mm(cls, scan: GridLike, mm: Sequence[float], positive: bool = True) -> Click:
        """The click on the voxel that holds a point.

        Args:
            scan: the scan's grid, or what has one: a `Volume`, a mask, a path (read at each call), a nibabel or
                SimpleITK image.
            mm: the point, RAS millimetres `(x, y, z)`.
            positive: inside the lesion; False: outside it.

        Raises:
            PromptError: not three finite numbers, or a point outside the scan.
            TypeError: a scan that is none of these.
            ScanError: a path or an image that cannot be read.
        """
        option = "--click-mm" if positive else "--background-mm"
        return cls(_voxel_at(as_grid(scan), mm, "click", option), positive)

    def _content(self) -> tuple[npt.NDArray[Any], ...]:
        return (self.places,)


def _voxel_at(grid: Grid, mm: Sequence[float], what: str, option: str | None = None) -> Index3:
    """The voxel that holds a point, RAS millimetres.

    Args:
        grid: the scan's.
        mm: the point.
        what: what the errors call it.
        option: what it alone is typed after on the command line; None: it is a part of what is typed.
    """
    given = numbers(mm)
    if given is None or given.shape != (3,) or not np.isfinite(given).all():
        raise PromptError(f"a place is three RAS millimetres x, y, z, not {shown(mm)}")
    place = given.astype(np.float64)
    # A tiny lift makes a point midway between voxels fall the same way on grids that differ by rounding.
    index = np.floor(grid.to_index(place) + 0.5 + 1e-6)
    if (index < 0).any() or (index >= grid.shape).any():
        corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in grid.shape])).reshape(3, -1).T
        low, high = grid.to_mm(corners).min(axis=0), grid.to_mm(corners).max(axis=0)
        spans = ", ".join(f"{a} {lo:.1f} to {hi:.1f}" for a, lo, hi in zip(("R", "A", "S"), low, high, strict=True))
        raise PromptError(
            f"{what} at {place.tolist()} mm lies outside the scan, which spans {spans} mm (RAS); "
            f"{mm_advice(place, grid, option)}"
        )
    x, y, z = index.astype(int).tolist()
    return x, y, z


@dataclass(frozen=True, eq=False)
class Box(_PromptBase):
    """A box around the lesion, or, one voxel thick, around its outline on one slice.

    Attributes:
        first: one corner's voxel, which is in the box.
        last: the opposite corner's, which is in it too; the two are put in order. The same voxel twice is a box
            around that voxel alone.
        loose: the box is a hint; else it bounds the mask, with a margin (`inference.bounds`). A box on a slice is
            always a hint.
    """

    kind: ClassVar[str] = "box"
    notes: ClassVar[tuple[str, ...]] = ()
    first: Index3
    last: Index3
    positive: bool = field(default=True, init=False)
    loose: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.loose, (bool, np.bool_)):
            raise PromptError(f"a box's loose is True (a hint) or False (a bound), not {shown(self.loose)}")
        object.__setattr__(self, "loose", bool(self.loose))
        corners = [checked_index(corner, "a box's corner") for corner in (self.first, self.last)]
        low, high = np.min(corners, axis=0), np.max(corners, axis=0)
        object.__setattr__(self, "first", tuple(int(v) for v in low))
        object.__setattr__(self, "last", tuple(int(v) for v in high))

    @classmethod
    def at_mm(cls, scan: GridLike, first: Sequence[float], last: Sequence[float], *, loose: bool = False) -> Box:
        """The box between the voxels that hold two opposite corners, such as those of a region of interest in a viewer.

        On an oblique scan the box runs along the scan's own axes, through those two voxels.

        Args:
            scan: as of `Click.at_mm`.
            first: one corner, RAS millimetres `(x, y, z)`.
            last: the opposite one.
            loose: the box is a hint.

        Raises:
            PromptError: not three finite numbers, or a corner outside the scan.
            TypeError: a scan that is none of these.
            ScanError: a path or an image that cannot be read.
        """
        grid = as_grid(scan)
        corner, opposite = (_voxel_at(grid, mm, "a box's corner") for mm in (first, last))
        return cls(corner, opposite, loose=loose)

    @property
    def places(self) -> Places:
        """Both corners, `[2, 3]`."""
        return np.array([self.first, self.last], dtype=np.int64)

    @property
    def on_slice(self) -> bool:
        """Whether it is one voxel thick: a box on that slice."""
        return any(low == high for low, high in zip(self.first, self.last, strict=True))

    @property
    def bounds_mask(self) -> bool:
        """Whether it bounds the mask."""
        return not self.loose and not self.on_slice

    def _content(self) -> tuple[npt.NDArray[Any], ...]:
        # What bounded no mask has the digest that it had before any box did.
        return (self.places, np.array([1])) if self.bounds_mask else (self.places,)


@dataclass(frozen=True, eq=False)
class Scribble(_PromptBase):
    """A stroke of voxels inside the lesion, or outside it.

    Attributes:
        places: its voxels, `[N, 3]`, each once; a copy, read-only.
        positive: inside the lesion; False: outside it.
        notes: of the painted image that it was made of.
    """

    kind: ClassVar[str] = "scribble"
    places: Places
    positive: bool = True
    notes: tuple[str, ...] = field(default=(), kw_only=True, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "places", frozen(unrepeated(checked_places(self.places, "a scribble"))))
        object.__setattr__(self, "positive", checked_side(self.positive))

    @classmethod
    def along(cls, corners: Sequence[Sequence[float]], positive: bool = True) -> Scribble:
        """The stroke through voxels, straight from one to the next; through one alone, that voxel."""
        line = checked_places(corners, "a scribble")
        length = int(np.abs(np.diff(line, axis=0)).max(axis=1).sum())
        if length > MAX_VOXELS:
            raise PromptError(f"a scribble of {length} voxels is more than {MAX_VOXELS}; give it as an initial mask")
        strokes = [line[:1]]
        for a, b in itertools.pairwise(line):
            steps = int(np.abs(b - a).max())
            strokes.append(np.rint(np.linspace(a, b, steps + 1)[1:]).astype(np.int64))
        return cls(np.concatenate(strokes), positive)

    @classmethod
    def of(cls, painted: npt.NDArray[Any] | Mask | ImageLike, scan: GridLike, positive: bool = True) -> Scribble:
        """The stroke of all voxels where a painted mask is above 0.

        Args:
            painted: an array `[X, Y, Z]` of numbers, taken to lie on the scan's grid; or a mask, a volume, a path, a
                nibabel or a SimpleITK image, whose own grid must be the scan's.
            scan: the scan's grid, or what has one, as for `Click.at_mm`.
            positive: inside the lesion; False: outside it.

        Raises:
            PromptError: another shape or another grid than the scan's, NaN or infinity, or nothing painted.
            TypeError: a scan that has no grid.
            ScanError: a path or an image that cannot be read.
        """
        grid = as_grid(scan)
        array, notes = _painted(as_volume(painted) if is_image(painted) else painted, grid)
        if array.shape != grid.shape:
            raise PromptError(
                f"a scribble of shape {array.shape} does not fit a scan of {grid.shape}; paint on the scan's own grid"
            )
        if not np.isfinite(array).all():
            raise PromptError("a painted mask holds NaN or infinity; give 0 where nothing is painted, and 1 elsewhere")
        places = np.argwhere(array > 0)
        if not len(places):
            raise PromptError("the painted mask is empty: no voxel of it is above 0; paint some, or leave it out")
        return cls(places, positive, notes=notes)

    def _content(self) -> tuple[npt.NDArray[Any], ...]:
        return (self.places,)


@dataclass(frozen=True, eq=False)
class Lasso(_PromptBase):
    """What an outline on one slice encloses: inside the lesion, or outside it.

    Attributes:
        axis: the array axis that the slice lies across: 0, 1 or 2.
        slice_index: which slice.
        outline: corners `[N, 2]` along the two other axes, in their order; the last joins the first. A copy, read-only.
        positive: inside the lesion; False: outside it.
    """

    kind: ClassVar[str] = "lasso"
    notes: ClassVar[tuple[str, ...]] = ()
    axis: int
    slice_index: int
    outline: npt.NDArray[np.float64]
    positive: bool = True
    places: Places = field(init=False)

    def __post_init__(self) -> None:
        if not is_whole(self.axis) or self.axis not in (0, 1, 2):
            raise PromptError(f"a lasso's axis is 0, 1 or 2, not {shown(self.axis)}")
        if not is_whole(self.slice_index):
            raise PromptError(f"a lasso's slice is a whole number, not {shown(self.slice_index)}")
        if abs(self.slice_index) > MAX_INDEX:
            raise PromptError(f"a lasso on slice {shown(self.slice_index)} lies outside any scan; give a slice's index")
        given = numbers(self.outline)
        shape = () if given is None else given.shape
        if given is None or len(shape) != 2 or shape[1] != 2 or shape[0] < 3 or not np.isfinite(given).all():
            raise PromptError(
                f"a lasso is at least three corners of two finite numbers each, not {shown(self.outline)}"
            )
        outline = given.astype(np.float64)
        if np.abs(outline).max() > MAX_INDEX:
            raise PromptError("a lasso lies outside any scan; give corners as indices in its array")
        inside = enclosed(outline)
        if not len(inside):
            raise PromptError("the lasso encloses no voxel; draw it larger, or click")
        object.__setattr__(self, "outline", frozen(outline))
        object.__setattr__(self, "axis", int(self.axis))
        object.__setattr__(self, "slice_index", int(self.slice_index))
        object.__setattr__(self, "positive", checked_side(self.positive))
        object.__setattr__(self, "places", frozen(np.insert(inside, self.axis, self.slice_index, axis=1)))

    def _content(self) -> tuple[npt.NDArray[Any], ...]:
        return np.array([self.axis, self.slice_index]), self.outline + 0.0  # -0.0 becomes 0.0


@dataclass(frozen=True, eq=False, init=False)
class InitialMask(_PromptBase):
    """The mask that the segmentation starts from, to be corrected by further prompts.

    Attributes:
        mask: on the scan's grid; a copy, read-only.
        notes: of the image that it was made of.
    """

    kind: ClassVar[str] = "initial_mask"
    mask: Mask
    notes: tuple[str, ...] = field(repr=False)
    positive: bool = field(default=True, init=False)

    def __init__(self, mask: Mask | ImageLike):
        """An initial mask.

        Args:
            mask: a `Mask`; or the voxels above 0 of a `Volume`, of a path's file, or of a nibabel or SimpleITK image.

        Raises:
            PromptError: no voxel is above 0.
            TypeError: none of these; of an array on the scan's grid, make `Mask(array, (0, 0, 0), volume.grid)`.
            ScanError: a path or an image that cannot be read.
        """
        notes: tuple[str, ...] = ()
        if not isinstance(mask, Mask):
            volume = as_volume(mask, "an initial mask is a Mask,")
            notes = volume.notes
            mask = Mask(volume.array > 0, (0, 0, 0), volume.grid).cropped()
        if mask.empty:
            raise PromptError("the initial mask is empty: there is nothing to refine; click instead")
        object.__setattr__(self, "mask", replace(mask, array=frozen(mask.array.copy())))
        object.__setattr__(self, "notes", notes)
        object.__setattr__(self, "positive", True)

    @property
    def places(self) -> Places:
        """The corners of its bounding box, `[2, 3]`."""
        return np.array(self.mask.bounds, dtype=np.int64)

    def _content(self) -> tuple[npt.NDArray[Any], ...]:
        held = self.mask.cropped()  # the same for every patch that holds the mask
        return np.array(held.start), np.array(held.array.shape), np.packbits(held.array)


def _painted(painted: object, grid: Grid) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """The numbers of a painted mask, and its notes; one that has a grid of its own must lie on the scan's."""
    if isinstance(painted, (Mask, Volume)):
        check_grid("the painted mask", painted.grid, grid)
        return (painted.full(), ()) if isinstance(painted, Mask) else (painted.array, painted.notes)
    if isinstance(painted, Patch):
        raise PromptError(f"a painted mask is no {type(painted).__name__}; of a probability, give its threshold()")
    try:
        array = np.asarray(painted)
    except (ValueError, TypeError, RuntimeError):  # ragged, or on another device
        array = np.array(None)
    if array.dtype.kind not in "buif":
        raise PromptError(f"a painted mask is an array of numbers [X, Y, Z], not {shown(painted)}")
    return array, ()
