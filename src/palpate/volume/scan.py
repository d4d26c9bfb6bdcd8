"""A scan on its grid, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..errors import ScanError
from .grid import FloatArray, Grid, Index3


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


@runtime_checkable
class OnGrid(Protocol):
    """Values on a scan's grid: a `Volume`, a mask, a probability."""

    @property
    def grid(self) -> Grid:
        """The scan's grid."""

    @property
    def source(self) -> Source | None:
        """The scan's header, which a saved file repeats."""

    def full(self) -> npt.NDArray[Any]:
        """The values on the whole grid, `[X, Y, Z]`."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan: one number a voxel, on its own grid.

    Attributes:
        array: `[X, Y, Z]` as the file stores it, any real dtype; a trailing axis of 1 is dropped.
        affine: float64 `[4, 4]`, voxel index to RAS millimetres.
        source: the file's own header, or None for a volume made in memory.
        notes: what the file's reader doubts, a sentence each with the file's path: a header that contradicts itself,
            a unit that could not be found. Empty where all is clear.
        unit: what its values are, as its reader found: "HU", "SUV", "Bq/mL", "counts", "arbitrary units"; None: the
            file does not say.

    Raises:
        ScanError: not three axes, empty, not real numbers, or NaN or infinity among the voxels.
        GeometryError: an affine that is not a grid's.
    """

    array: npt.NDArray[Any]
    affine: FloatArray
    source: Source | None = None
    notes: tuple[str, ...] = ()
    unit: str | None = None

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
        return f"Volume({self.grid.description}, {self.array.dtype}, {origin(self.source)})"

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

    def full(self) -> npt.NDArray[Any]:
        """The array, `[X, Y, Z]`."""
        return np.asarray(self.array)


def origin(source: Source | None) -> str:
    """Where a scan came from, in a few words."""
    return "made in memory" if source is None else f"from {source.path}"
