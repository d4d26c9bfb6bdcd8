"""Sampling arrays on another grid: linear between voxels, of levels averaged first where the grid is coarser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from .volume import FloatArray, Index3

SLAB = 2**24  # places that are resampled at once, a crop of 256³: what the arithmetic needs beside is 0.6 GB
EDGE = 1e-3  # voxels by which a place may overrun the scan's border and still count as inside: rounding, not distance


class Sliceable(Protocol):
    """Anything that gives its voxels `[X, Y, Z]` by a box: an array, or one that lies in chunks on a disk."""

    def __getitem__(self, box: tuple[slice, slice, slice], /) -> Any:  # noqa: ANN401 - arrays and tensors share no type
        """The voxels of a box."""


def resample(
    arrays: Sequence[Sliceable],
    extent: Index3,
    matrix: FloatArray,
    shape: Index3,
    device: torch.device | str,
    backwards: Sequence[int] = (),
) -> tuple[Tensor, Tensor]:
    """Sample `arrays` (each of size `extent`) at `matrix @ index` for every index of an output of `shape`.

    Linear interpolation between voxels, of a level averaged over as many voxels as an output voxel spans. An output of
    more than `SLAB` places is made slab by slab.

    Args:
        arrays: what to sample.
        extent: their size.
        matrix: from an output's index to theirs.
        shape: the output's.
        device: where to compute.
        backwards: axes along which the arrays are read from their ends, as `matrix` counts them.

    Returns:
        Values, float32 `[N, *shape]`, and whether each place lies within half a voxel of the arrays.
    """
    if 0 in shape:
        return torch.zeros(len(arrays), *shape, device=device), torch.zeros(shape, dtype=torch.bool, device=device)
    values = torch.empty(len(arrays), *shape, device=device)
    inside = torch.empty(shape, dtype=torch.bool, device=device)
    thickness = max(1, SLAB // (shape[1] * shape[2]))
    for first in range(0, shape[0], thickness):
        offset = np.eye(4)
        offset[0, 3] = first
        size = (min(thickness, shape[0] - first), shape[1], shape[2])
        part, moved = slice(first, first + size[0]), matrix @ offset
        for number, array in enumerate(arrays):
            values[number, part] = _slab(array, extent, moved, size, device, backwards)
        inside[part] = _inside(moved, size, extent).to(device)
    return values, inside


def downsampling_factors(matrix: FloatArray) -> npt.NDArray[np.int64]:
    """How many voxels along each axis a step of an affine `[4, 4]` spans, `[3]`: whole ones, at least one.

    Midway the fewer count. A header's last bits must not decide it, so what is midway but for rounding is midway.
    """
    spans = np.round(np.linalg.norm(matrix[:3, :3], axis=1), 3)
    whole: npt.NDArray[np.int64] = np.maximum(1, np.ceil(spans - 0.5)).astype(np.int64)
    return whole


def _slab(
    array: Sliceable,
    extent: Index3,
    matrix: FloatArray,
    shape: Index3,
    device: torch.device | str,
    backwards: Sequence[int],
) -> Tensor:
    """Values of one array, float32 of `shape`, as `resample`, at once."""
    factors = downsampling_factors(matrix)
    start, stop = _touched(matrix, shape, extent, factors)
    level = _level(array, extent, start, stop, factors, device, backwards)
    to_level = np.diag([*(1 / factors), 1.0])
    to_level[:3, 3] = -(start + (factors - 1) / 2) / factors  # a block counts at its centre
    grid = _sampling_grid(to_level @ matrix, shape, level.shape).to(device)
    return F.grid_sample(level[None, None], grid, mode="bilinear", padding_mode="border", align_corners=True)[0, 0]


def _level(
    array: Sliceable,
    extent: Index3,
    start: npt.NDArray[np.int64],
    stop: npt.NDArray[np.int64],
    factors: npt.NDArray[np.int64],
    device: torch.device | str,
    backwards: Sequence[int],
) -> Tensor:
    """An array's box from `start` to `stop`, float32, averaged over whole blocks of `factors` voxels.

    No more of the array is turned to float at once than a slab holds: a scan may be a gigabyte as it is.
    """
    size = stop - start
    kernel = np.minimum(factors, size).tolist()  # a part thinner than a block is one block
    layers = max(1, SLAB // int(size[1] * size[2] * factors[0])) * int(factors[0])
    parts = []
    for first in range(int(start[0]), int(stop[0]), layers):
        lows, highs = [first, *start[1:].tolist()], [min(first + layers, int(stop[0])), *stop[1:].tolist()]
        for axis in backwards:
            lows[axis], highs[axis] = extent[axis] - highs[axis], extent[axis] - lows[axis]
        x, y, z = (slice(a, b) for a, b in zip(lows, highs, strict=True))
        part = _float(array[x, y, z], device)
        part = part.flip(*backwards) if backwards else part
        if max(kernel) > 1:
            kernel[0] = min(int(factors[0]), len(part))
            part = F.avg_pool3d(part[None], kernel, kernel, ceil_mode=True, count_include_pad=False)[0]
        parts.append(part)
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _float(part: Any, device: torch.device | str) -> Tensor:  # noqa: ANN401 - as Sliceable
    if not isinstance(part, Tensor):
        part = torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32))
    return part.to(device=device, dtype=torch.float32)  # type: ignore[no-any-return]


def _touched(
    matrix: FloatArray, shape: Index3, extent: Index3, factors: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The box of voxels that linear interpolation reads: whole blocks of the level, at least one an axis."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape])).reshape(3, -1).T
    places = corners @ matrix[:3, :3].T + matrix[:3, 3]
    size = np.array(extent)
    first = np.clip(np.floor(places.min(axis=0)) - factors, 0, size - 1).astype(np.int64)
    last = np.clip(np.ceil(places.max(axis=0)) + factors, 0, size - 1).astype(np.int64)
    # Blocks are counted from the scan's first voxel, so that a level does not depend on the crop.
    return first // factors * factors, np.minimum((last // factors + 1) * factors, size)


def _sampling_grid(matrix: FloatArray, shape: Index3, level: Sequence[int]) -> Tensor:
    """`grid_sample`'s places for an affine from output to level index: float32 `[1, *shape, 3]`, last axis first."""
    scale = np.array([2 / (n - 1) if n > 1 else 0.0 for n in level])  # a level of one voxel is the same everywhere
    normalised = matrix[:3] * scale[:, None]
    normalised[:, 3] -= scale > 0
    return places_of(normalised, shape)[None].flip(-1)


def _inside(matrix: FloatArray, shape: Index3, extent: Index3) -> Tensor:
    """Whether each place lies within half a voxel of the array: bool of `shape`."""
    places = places_of(matrix[:3], shape)
    high = torch.tensor([n - 0.5 + EDGE for n in extent])
    return ((places >= -0.5 - EDGE) & (places <= high)).all(dim=-1)


def places_of(rows: FloatArray, shape: Index3) -> Tensor:
    """`rows @ (index, 1)` for every index of a shape, `rows` being `[3, 4]`: float32 `[*shape, 3]`."""
    x, y, z = (torch.from_numpy(np.arange(n)[:, None] * rows[:, axis]) for axis, n in enumerate(shape))
    plane = (y[:, None] + z[None, :] + torch.from_numpy(rows[:, 3].copy())).float()
    return x.float()[:, None, None] + plane[None]
