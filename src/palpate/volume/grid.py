"""A voxel grid in space: the one place where array order, spacing and orientation meet."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..errors import GeometryError

Index3 = tuple[int, int, int]
FloatArray = npt.NDArray[np.float64]
SAME_GRID = 1e-2  # of a voxel's edge: how far apart the corners of one grid may lie in files of two programs


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
        return f"{times(self.shape)} voxels of {spacing} mm, {self.orientation}"

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

    def same_as(self, other: Grid, tolerance: float = SAME_GRID) -> bool:
        """Whether two grids have one shape and their corners agree within `tolerance` of a voxel's edge."""
        if self.shape != other.shape:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape])).reshape(3, -1).T
        gap = np.linalg.norm(self.to_mm(corners) - other.to_mm(corners), axis=1).max()
        return bool(gap <= tolerance * self.spacing.min())

    def differences(self, scan: Grid) -> list[str]:
        """In what this grid differs from a scan's, with the values of both; empty: they are the same (`SAME_GRID`)."""
        if self.same_as(scan):
            return []
        found = [] if self.shape == scan.shape else [f"shape {self.shape}, the scan's {scan.shape}"]
        # Each part's share of how far apart the corners lie: if none were above a third, the grids would be the same.
        tolerance = SAME_GRID * min(self.spacing.min(), scan.spacing.min()) / 3
        steps = np.array(scan.shape) - 1
        if steps @ np.abs(self.spacing - scan.spacing) > tolerance:
            found.append(f"spacing {_listed(self.spacing)} mm, the scan's {_listed(scan.spacing)}")
        origins = self.affine[:3, 3], scan.affine[:3, 3]
        if np.linalg.norm(origins[0] - origins[1]) > tolerance:
            found.append(f"origin {_listed(origins[0])} mm (RAS), the scan's {_listed(origins[1])}")
        one, other = (grid.affine[:3, :3] / grid.spacing for grid in (self, scan))
        apart = np.linalg.norm(one - other, axis=0)
        if (steps * scan.spacing) @ apart > tolerance:
            if self.orientation != scan.orientation:
                found.append(f"directions {self.orientation}, the scan's {scan.orientation}")
            else:
                turned = np.degrees(2 * np.arcsin(np.minimum(apart.max() / 2, 1)))
                found.append(f"directions {turned:.2g} degrees off the scan's")
        return found


def _listed(values: FloatArray) -> str:
    return f"({', '.join(f'{value:.7g}' for value in values)})"


def times(shape: tuple[int, ...]) -> str:
    """A shape in words: "3 x 4 x 5"."""
    return " x ".join(map(str, shape))
