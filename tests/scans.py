"""Plain scans and cubes, for tests of what is shown of them."""

import numpy as np

from palpate.masks import Mask
from palpate.volume import Grid, Index3, Volume


def cube(grid: Grid, low: Index3, high: Index3) -> Mask:
    """A mask that fills the voxels `low` to `high`, both inclusive."""
    return Mask(np.ones(np.subtract(high, low) + 1, dtype=bool), low, grid)


def empty(grid: Grid) -> Mask:
    """A mask of no voxel."""
    return Mask(np.zeros((0, 0, 0), dtype=bool), (0, 0, 0), grid)


def plain(shape: Index3, spacing: tuple[float, float, float] = (1, 1, 1), value: int = 0) -> Volume:
    """A straight RAS scan of one value, which takes no memory."""
    return Volume(np.broadcast_to(np.int16(value), shape), np.diag([*spacing, 1.0]))
