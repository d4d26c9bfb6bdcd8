"""What a user points at, on the scan's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import PromptError
from .volume import Grid, Index3


@dataclass(frozen=True)
class Click:
    """A voxel inside the lesion.

    Attributes:
        index: zero-based voxel index `(x, y, z)` in the scan's array.
    """

    index: Index3

    def __post_init__(self) -> None:
        values = np.asarray(self.index)
        if values.shape != (3,) or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
            raise PromptError(f"a click is three voxel indices x, y, z, not {self.index!r}")
        if (values != np.rint(values)).any():
            raise PromptError(f"a click names a voxel by whole numbers, not {self.index!r}; use Click.at_mm for places")
        object.__setattr__(self, "index", tuple(int(v) for v in values))

    @classmethod
    def at_mm(cls, grid: Grid, mm: Sequence[float]) -> Click:
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
        return cls((x, y, z))


def check_inside(clicks: Sequence[Click], grid: Grid) -> None:
    """Refuse clicks that are missing or outside.

    Raises:
        PromptError: no click at all, or one outside the grid (the message gives the valid range).
    """
    if not clicks:
        raise PromptError("at least one click is needed")
    for click in clicks:
        if not grid.contains(click.index):
            valid = ", ".join(f"{a} 0 to {n - 1}" for a, n in zip("xyz", grid.shape, strict=True))
            raise PromptError(f"click {click.index} lies outside the scan; valid voxel indices: {valid}")
