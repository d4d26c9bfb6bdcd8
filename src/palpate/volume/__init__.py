"""Scans on their own grid: the one room where array order, spacing and orientation live.

Arrays are `[X, Y, Z]` as the file stores them; an affine takes zero-based voxel indices, counted at
voxel centres, to RAS millimetres (NIfTI's convention: +x right, +y anterior, +z superior).
"""

from .grid import FloatArray, Grid, Index3, times
from .scan import OnGrid, Source, Volume, origin

__all__ = ["FloatArray", "Grid", "Index3", "OnGrid", "Source", "Volume", "origin", "times"]
