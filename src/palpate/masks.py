"""Values in a box of a scan's grid: masks and probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import GeometryError
from .volume import Grid, Index3, Source, origin, times


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
        return f"{times(self.array.shape)} at {self.start} of {self.grid.description}, {origin(self.source)}"

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
        from .formats import write  # file libraries are loaded where they are needed

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
