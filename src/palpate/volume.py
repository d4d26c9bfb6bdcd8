"""Scans and masks on their own grid: the one room where array order, spacing and orientation live.

Arrays are `[X, Y, Z]` as the file stores them; an affine takes zero-based voxel indices, counted at
voxel centres, to RAS millimetres (NIfTI's convention: +x right, +y anterior, +z superior).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import GeometryError, ScanError

Index3 = tuple[int, int, int]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Source:
    """Where a scan came from: opaque to all but the format that made it.

    Attributes:
        path: the file or folder that was read.
        format: the family that read it: "nifti", "nrrd", "metaimage" or "dicom".
        header: what that family needs to write a mask with exactly the same geometry.
    """

    path: str
    format: str
    header: Any


@dataclass(frozen=True, eq=False)
class Grid:
    """A voxel grid in space.

    Attributes:
        shape: voxels along the array's axes `(X, Y, Z)`.
        affine: float64 `[4, 4]`, voxel index to RAS millimetres; read-only.

    Raises:
        GeometryError: empty shape, affine of another shape, not finite, or not invertible.
    """

    shape: Index3
    affine: FloatArray

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise GeometryError(f"a scan needs three axes of at least one voxel, not shape {tuple(self.shape)}")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4):
            raise GeometryError(f"an affine is 4 x 4, this one is {affine.shape}")
        if not np.isfinite(affine).all():
            raise GeometryError(f"the affine holds NaN or infinity: {affine.tolist()}. Repair the file's header")
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        # Relative to the voxel's own edges: a 1e-3 mm voxel is small, not degenerate.
        if (lengths == 0).any() or abs(np.linalg.det(affine[:3, :3])) < 1e-6 * lengths.prod():
            raise GeometryError(
                f"the affine cannot be inverted (voxel edges {lengths.tolist()} mm): {affine.tolist()}. "
                "Repair the file's header"
            )
        if not np.allclose(affine[3], (0, 0, 0, 1)):
            raise GeometryError(f"the last row of an affine is 0 0 0 1, not {affine[3].tolist()}")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "affine", affine)

    @cached_property
    def spacing(self) -> FloatArray:
        """Edge of a voxel along each array axis, `[3]`, mm."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0), dtype=np.float64)

    @cached_property
    def inverse(self) -> FloatArray:
        """RAS millimetres to voxel index, `[4, 4]`."""
        return np.asarray(np.linalg.inv(self.affine), dtype=np.float64)

    @cached_property
    def anatomical_axes(self) -> tuple[tuple[int, int], ...]:
        """For R, A and S in turn: the array axis that runs closest along it, and its sign (+1 or -1).

        Each array axis is given to one direction; the assignment with the largest total cosine wins,
        so that an oblique grid is as well defined as a straight one.
        """
        from itertools import permutations

        cosines = self.affine[:3, :3] / self.spacing
        best = max(permutations(range(3)), key=lambda order: sum(abs(cosines[r, a]) for r, a in enumerate(order)))
        return tuple((axis, 1 if cosines[row, axis] >= 0 else -1) for row, axis in enumerate(best))

    @cached_property
    def directions(self) -> tuple[int, int, int]:
        """For each array axis, whether it runs towards right, front or head (+1), or the other way (-1)."""
        found = dict(self.anatomical_axes)
        return found[0], found[1], found[2]

    @cached_property
    def orientation(self) -> str:
        """Where the array's axes point, as three letters: "RAS", "LPS", ..."""
        letters = [""] * 3
        for (axis, sign), pair in zip(self.anatomical_axes, ("RL", "AP", "SI"), strict=True):
            letters[axis] = pair[0] if sign > 0 else pair[1]
        return "".join(letters)

    @property
    def description(self) -> str:
        """Shape, spacing in mm and orientation, in a few words."""
        spacing = " x ".join(f"{edge:.4g}" for edge in self.spacing)
        return f"{_times(self.shape)} voxels of {spacing} mm, {self.orientation}"

    def __repr__(self) -> str:
        """On one line."""
        return f"Grid({self.description})"

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel, mL."""
        return float(abs(np.linalg.det(self.affine[:3, :3])) / 1000)

    def to_mm(self, index: npt.ArrayLike) -> FloatArray:
        """Voxel indices `[..., 3]` to RAS millimetres `[..., 3]`."""
        return np.asarray(index, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_index(self, mm: npt.ArrayLike) -> FloatArray:
        """RAS millimetres `[..., 3]` to (fractional) voxel indices `[..., 3]`."""
        return np.asarray(mm, dtype=np.float64) @ self.inverse[:3, :3].T + self.inverse[:3, 3]

    def same_as(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Whether two grids have one shape and their corners agree within `tolerance` of a voxel's edge."""
        if self.shape != other.shape:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape])).reshape(3, -1).T
        gap = np.linalg.norm(self.to_mm(corners) - other.to_mm(corners), axis=1).max()
        return bool(gap <= tolerance * self.spacing.min())


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan: one number a voxel, on its own grid.

    Attributes:
        array: `[X, Y, Z]` as the file stores it, any real dtype; a trailing axis of 1 is dropped.
        affine: float64 `[4, 4]`, voxel index to RAS millimetres.
        source: the file's own header, or None for a volume made in memory.
        notes: what the file's reader doubts, a sentence each with the file's path: a header that contradicts itself,
            a unit that could not be found. Empty where all is clear.

    Raises:
        ScanError: not three axes, empty, not real numbers, or NaN or infinity among the voxels.
        GeometryError: an affine that is not a grid's.
    """

    array: npt.NDArray[Any]
    affine: FloatArray
    source: Source | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        array = np.asarray(self.array)
        while array.ndim > 3 and array.shape[-1] == 1:
            array = array[..., 0]
        if array.ndim != 3:
            what = "one volume at a time: split a series of volumes first" if array.ndim > 3 else "a 3-D scan is needed"
            raise ScanError(f"the scan has {array.ndim} axes, shape {array.shape}; {what}")
        if array.size == 0:
            raise ScanError(f"the scan is empty: shape {array.shape}")
        if array.dtype.kind not in "buif":
            raise ScanError(f"the scan's voxels are {array.dtype}, not real numbers; convert it to one channel first")
        if array.dtype.kind == "f":
            # A sum is not finite if a voxel is not; only then is the dearer count made.
            with np.errstate(over="ignore", invalid="ignore"):
                suspicious = not np.isfinite(array.sum(dtype=np.float64))
            bad = int(np.count_nonzero(~np.isfinite(array))) if suspicious else 0
            if bad:
                raise ScanError(f"{bad} of {array.size} voxels are NaN or infinite; replace them (by air, say) first")
        object.__setattr__(self, "array", array)
        object.__setattr__(self, "affine", self.grid.affine)

    def __repr__(self) -> str:
        """On one line: grid, type and source."""
        return f"Volume({self.grid.description}, {self.array.dtype}, {_from(self.source)})"

    @cached_property
    def grid(self) -> Grid:
        """The scan's grid."""
        return Grid(np.asarray(self.array).shape, self.affine)

    @property
    def shape(self) -> Index3:
        """Voxels along the array's axes."""
        return self.grid.shape

    @property
    def spacing(self) -> FloatArray:
        """Edge of a voxel along each array axis, `[3]`, mm."""
        return self.grid.spacing


@dataclass(frozen=True, eq=False)
class Patch:
    """Values in a box of a scan's grid; zero elsewhere. The full grid exists only when asked for.

    Attributes:
        array: `[x, y, z]`, the values inside the box.
        start: the box's first voxel in the scan's grid.
        grid: the scan's grid.
        source: the scan's header, which a saved file repeats.

    Raises:
        GeometryError: the box does not lie in the grid.
    """

    array: npt.NDArray[Any]
    start: Index3
    grid: Grid
    source: Source | None = None

    def __post_init__(self) -> None:
        stop = [s + n for s, n in zip(self.start, self.array.shape, strict=True)]
        if min(self.start) < 0 or any(e > n for e, n in zip(stop, self.grid.shape, strict=True)):
            raise GeometryError(f"box {self.start} to {tuple(stop)} does not lie in a grid of {self.grid.shape}")
        object.__setattr__(self, "start", tuple(int(s) for s in self.start))

    @property
    def description(self) -> str:
        """The box, the grid and the source, in a few words."""
        return f"{_times(self.array.shape)} at {self.start} of {self.grid.description}, {_from(self.source)}"

    def __repr__(self) -> str:
        """On one line."""
        return f"{type(self).__name__}({self.description})"

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """The box as slices of the scan's array."""
        x, y, z = (slice(s, s + n) for s, n in zip(self.start, self.array.shape, strict=True))
        return x, y, z

    def __getitem__(self, box: tuple[slice, slice, slice]) -> npt.NDArray[Any]:
        """The values in a box of the scan's grid, zero where there are none: a patch can be cut as a scan is."""
        starts, stops = zip(*(part.indices(n)[:2] for part, n in zip(box, self.grid.shape, strict=True)), strict=True)
        out = np.zeros([max(0, b - a) for a, b in zip(starts, stops, strict=True)], dtype=self.array.dtype)
        low = np.maximum(starts, self.start)
        high = np.minimum(stops, np.add(self.start, self.array.shape))
        if (high > low).all():
            there = tuple(slice(a, b) for a, b in zip(low - starts, high - starts, strict=True))
            here = tuple(slice(a, b) for a, b in zip(low - self.start, high - self.start, strict=True))
            out[there] = self.array[here]
        return out

    def full(self) -> npt.NDArray[Any]:
        """The values on the whole grid, `[X, Y, Z]`."""
        out = np.zeros(self.grid.shape, dtype=self.array.dtype)
        out[self.box] = self.array
        return out

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """The values on the whole grid, `[X, Y, Z]`, for `np.asarray` and its like.

        Raises:
            ValueError: `copy=False`; the whole grid is made anew.
        """
        if copy is False:
            raise ValueError("a patch holds its box alone: its whole grid is a copy, so copy=False cannot be had")
        return self.full() if dtype is None else self.full().astype(dtype, copy=False)

    def save(self, path: str | Path) -> None:
        """Write to NIfTI, NRRD or MetaImage (by the path's ending), on the scan's grid, geometry kept exactly.

        Raises:
            OutputError: unknown ending, missing folder, no permission, or a full disk; an old file is left intact.
        """
        # The one place where a grid meets a file; imported here so that `volume` needs no file library.
        from .formats import write

        write(self, path)


@dataclass(frozen=True, eq=False, repr=False)
class Mask(Patch):
    """A lesion on its scan's grid: a `Patch` of booleans, with what people ask of one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "array", np.asarray(self.array, dtype=bool))
        super().__post_init__()

    @property
    def description(self) -> str:
        """Volume, box, grid and source, in a few words."""
        return f"{self.volume_ml:.4g} mL, {self.voxels} voxels in {super().description}"

    @property
    def voxels(self) -> int:
        """How many voxels are lesion."""
        return int(np.count_nonzero(self.array))

    @property
    def empty(self) -> bool:
        """Whether no voxel is lesion."""
        return not self.array.any()

    @property
    def volume_ml(self) -> float:
        """The lesion's volume, mL."""
        return self.voxels * self.grid.voxel_ml

    @cached_property
    def bounds(self) -> tuple[Index3, Index3] | None:
        """First and last lesion voxel along each array axis (both inclusive), or None for an empty mask."""
        if self.empty:
            return None
        first, last = [], []
        for axis in range(3):
            hit = np.flatnonzero(self.array.any(axis=tuple(a for a in range(3) if a != axis)))
            first.append(self.start[axis] + int(hit[0]))
            last.append(self.start[axis] + int(hit[-1]))
        return (first[0], first[1], first[2]), (last[0], last[1], last[2])

    def cropped(self) -> Mask:
        """The same mask, holding no more of the grid than its bounding box."""
        if self.bounds is None:
            return Mask(np.zeros((0, 0, 0), dtype=bool), (0, 0, 0), self.grid, self.source)
        first, last = self.bounds
        x, y, z = (slice(a, b + 1) for a, b in zip(first, last, strict=True))
        return Mask(self[x, y, z], first, self.grid, self.source)

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Edges of the lesion's bounding box along the array's axes, mm; zeros for an empty mask."""
        if self.bounds is None:
            return (0.0, 0.0, 0.0)
        first, last = np.array(self.bounds)
        x, y, z = ((last - first + 1) * self.grid.spacing).tolist()
        return x, y, z


@dataclass(frozen=True, eq=False, repr=False)
class Probability(Patch):
    """The model's lesion probability, float32 in 0 to 1, in a box of the scan's grid."""

    def threshold(self, at: float = 0.5) -> Mask:
        """The mask of voxels whose probability exceeds `at`."""
        return Mask(self.array > at, self.start, self.grid, self.source)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _from(source: Source | None) -> str:
    return "made in memory" if source is None else f"from {source.path}"
