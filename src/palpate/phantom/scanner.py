"""The synthetic scanner: tissues to Hounsfield units on a grid, a slab at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from ..randomness import counted_rng
from ..volume import FloatArray, Grid
from .shapes import Tissue, Values

_AIR_HU = -1000.0
_RANGE_HU = (-1024, 3071)
_BLUR_MM = 1.0
_NOISE_GRAIN_VOXELS = 0.7
# About 8 MB an array of a slab: a scan of any length costs the same memory beside its result.
_SLAB_VOXELS = 1 << 21
_Ints = npt.NDArray[np.int64]


def scan(tissues: Sequence[Tissue], grid: Grid, scale: float, noise_hu: float, seed: int) -> npt.NDArray[np.int16]:
    """What a scanner sees of `tissues`, int16 HU `[X, Y, Z]`.

    Args:
        tissues: in the order in which they are painted over air.
        grid: where the voxels are.
        scale: millimetres of the grid to one millimetre of the tissues.
        noise_hu: the noise's standard deviation.
        seed: of the noise.
    """
    out = np.empty(grid.shape, dtype=np.int16)
    axis = grid.anatomical_axes[2][0]
    blur = _BLUR_MM / scale
    affine = body_affine(grid, scale)
    for start, stop in _slabs(grid, axis):
        hu = np.full((stop - start).tolist(), _AIR_HU, dtype=np.float32)
        places = coordinates(affine, start - 1, stop + 1)
        for tissue in tissues:
            first, last = (edge - start for edge in box_around(tissue.low, tissue.high, affine, start, stop))
            if (first < last).all():
                _paint(hu[_slices(first, last)], tissue, [_cut(place, first, last + 2) for place in places], blur)
        if noise_hu:
            hu += _noise(hu.shape, axis, int(start[axis]), seed) * np.float32(noise_hu)
        np.clip(np.rint(hu, out=hu), *_RANGE_HU, out=hu)
        out[_slices(start, stop)] = hu
    return out


def body_affine(grid: Grid, scale: float) -> FloatArray:
    """Voxel index to the millimetres of a body that is `scale` times as large in the scan, `[3, 4]`."""
    return np.asarray(grid.affine[:3] / scale)


def coordinates(affine: FloatArray, start: _Ints, stop: _Ints) -> tuple[Values, Values, Values]:
    """Where the voxels of a box lie, float32, one array a coordinate; they broadcast to the box's shape."""
    out = []
    for row in affine:
        total = np.full((1, 1, 1), row[3], dtype=np.float32)
        for axis in range(3):
            # A straight grid's coordinate depends on one axis only, and stays that small.
            if abs(row[axis]) > 1e-12:
                shape = [-1 if a == axis else 1 for a in range(3)]
                total = total + (row[axis] * np.arange(start[axis], stop[axis])).reshape(shape).astype(np.float32)
        out.append(total)
    return out[0], out[1], out[2]


def box_around(
    low: npt.ArrayLike, high: npt.ArrayLike, affine: FloatArray, start: _Ints, stop: _Ints
) -> tuple[_Ints, _Ints]:
    """The part of the voxels `start` to `stop` that may touch a box of space; empty where stop ≤ start."""
    corners = np.array(np.meshgrid(*np.stack([low, high], axis=1))).reshape(3, -1)
    index = np.linalg.solve(affine[:, :3], corners - affine[:, 3:])
    first = np.clip(np.floor(index.min(axis=1)) - 2, start, stop).astype(np.int64)
    last = np.clip(np.ceil(index.max(axis=1)) + 3, start, stop).astype(np.int64)
    return first, last


def _slabs(grid: Grid, axis: int) -> Iterator[tuple[_Ints, _Ints]]:
    """Slabs of whole slices across `axis`, as first voxel and end."""
    count = max(1, _SLAB_VOXELS * grid.shape[axis] // int(np.prod(grid.shape)))
    for first in range(0, grid.shape[axis], count):
        start, stop = np.zeros(3, dtype=np.int64), np.array(grid.shape)
        start[axis], stop[axis] = first, min(first + count, grid.shape[axis])
        yield start, stop


def _slices(start: _Ints, stop: _Ints) -> tuple[slice, ...]:
    return tuple(slice(a, b) for a, b in zip(start.tolist(), stop.tolist(), strict=True))


def _cut(place: Values, start: _Ints, stop: _Ints) -> Values:
    """A box of an array that broadcasts: axes of one stay."""
    box = zip(place.shape, _slices(start, stop), strict=True)
    return place[tuple(slice(None) if n == 1 else part for n, part in box)]


def _paint(hu: Values, tissue: Tissue, places: Sequence[Values], blur: float) -> None:
    """Mix a tissue into voxels by the share of each that it fills; `places` reach one voxel beyond at every side."""
    x, y, z = places
    distance = np.broadcast_to(tissue.distance(x, y, z), [n + 2 for n in hu.shape])
    hu += _share(distance, blur) * (np.float32(tissue.hu) - hu)


def _share(distance: Values, blur: float) -> Values:
    """How much of each voxel lies inside, 0 to 1; `distance` has one voxel more at every side.

    A border crosses a voxel while its distance changes by the sum of its slopes along the voxel's edges: thick slices
    blur only what is not upright in them.
    """
    inner = slice(1, -1)
    width = np.abs(distance[2:, inner, inner] - distance[:-2, inner, inner])
    width += np.abs(distance[inner, 2:, inner] - distance[inner, :-2, inner])
    width += np.abs(distance[inner, inner, 2:] - distance[inner, inner, :-2])
    width *= 0.5
    width = np.hypot(width, np.float32(blur), out=width)
    share = np.divide(distance[inner, inner, inner], width, out=width)
    np.subtract(np.float32(0.5), share, out=share)
    np.clip(share, 0, 1, out=share)
    return np.asarray(share * share * (3 - 2 * share), dtype=np.float32)


def _noise(shape: Sequence[int], axis: int, first: int, seed: int) -> Values:
    """Grainy noise of unit variance for slices `first`, `first` + 1, ... across `axis`."""
    plane = [n for a, n in enumerate(shape) if a != axis]
    white = [counted_rng(seed, "noise", first + i).standard_normal(plane, dtype=np.float32) for i in range(shape[axis])]
    grain = gaussian_filter(np.stack(white), (0, _NOISE_GRAIN_VOXELS, _NOISE_GRAIN_VOXELS), mode="wrap", truncate=3)
    kernel = gaussian_filter1d(np.eye(1, 9, 4, dtype=np.float64)[0], _NOISE_GRAIN_VOXELS, truncate=3)
    # Along each of its two axes the filter leaves the sum of its squared weights of the variance.
    return np.moveaxis(grain / np.float32((kernel**2).sum()), 0, axis)
