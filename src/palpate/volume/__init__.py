"""Scans and masks on their own grid: the one room where array order, spacing and orientation live.

Arrays are `[X, Y, Z]` as the file stores them; an affine takes zero-based voxel indices, counted at
voxel centres, to RAS millimetres (NIfTI's convention: +x right, +y anterior, +z superior).
"""

from .grid import FloatArray, Grid, Index3
from .patch import Mask, Patch, Probability
from .scan import Source, Volume

__all__ = ["FloatArray", "Grid", "Index3", "Mask", "Patch", "Probability", "Source", "Volume"]
