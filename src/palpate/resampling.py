"""Sampling arrays on another grid: linear between voxels, of levels averaged first where the grid is coarser.

Labels too: each voxel of a mask or a label map keeps one label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import GeometryError, ScanError, SettingsError
from .volume import FloatArray, Grid, Index3, Source, Volume

SLAB = 2**24  # places that are resampled at once, a crop of 256³: what the arithmetic needs beside is 0.6 GB
MAX_LABELS = 1000  # different values of a mask or a label map; a scan has more
Interpolation = Literal["linear", "nearest"]
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
    more than `SLAB` places is made slab by slab. On the arrays' own grid they are copied.

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
    if shape == tuple(extent) and not backwards and np.array_equal(matrix, np.eye(4)):
        x, y, z = (slice(0, n) for n in shape)
        copies = torch.stack([_float(array[x, y, z], device) for array in arrays])
        return copies, torch.ones(shape, dtype=torch.bool, device=device)
    values = torch.empty(len(arrays), *shape, device=device)
    inside = torch.empty(shape, dtype=torch.bool, device=device)
    thickness = max(1, SLAB // (shape[1] * shape[2]))
    for first in range(0, shape[0], thickness):
        size = (min(thickness, shape[0] - first), shape[1], shape[2])
        part, moved = slice(first, first + size[0]), matrix @ _offset((first, 0, 0))
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


@dataclass(frozen=True)
class LabelChange:
    """What resampling made of one label.

    Attributes:
        value: the label.
        voxels: how many voxels had it, and how many have it now.
        volume_ml: their volume before and now, mL.
    """

    value: int
    voxels: tuple[int, int]
    volume_ml: tuple[float, float]


@dataclass(frozen=True, eq=False)
class ResampledLabels:
    """A mask or a label map on another grid.

    Attributes:
        volume: the labels there, of the type that they had.
        changes: each label before and now, by rising value.
        outside: labelled voxels, before, whose centre lies outside the other grid.
    """

    volume: Volume
    changes: tuple[LabelChange, ...]
    outside: int


def resample_labels(
    labels: Volume, scan: Grid, source: Source | None = None, interpolation: Interpolation = "linear"
) -> ResampledLabels:
    """A mask or a label map on a scan's grid; labels stay what they are, and none is mixed from two.

    "linear": of each label, the fraction of a voxel that it fills is interpolated between voxels, averaged first where
    the scan is coarser; each voxel gets the label, or the background, that fills most of it. "nearest": each voxel gets
    the label of the nearest voxel. On an equal grid both change nothing.

    Args:
        labels: whole numbers, 0 for the background.
        scan: the scan's grid.
        source: the scan's header, which a saved file repeats.
        interpolation: see above.

    Raises:
        ScanError: values that are no labels: fractions, negative ones, or more than `MAX_LABELS` different ones.
        GeometryError: no labelled voxel lies in the scan.
        SettingsError: no such interpolation.
    """
    if interpolation not in get_args(Interpolation):
        raise SettingsError(f"interpolation {interpolation!r}: one of {', '.join(get_args(Interpolation))}")
    array = np.asarray(labels.array)
    values = label_values(array)
    before = {value: int(np.count_nonzero(array == value)) for value in values}
    outside = _count_outside(array, scan.inverse @ labels.grid.affine, scan.shape)
    if values and outside == sum(before.values()):
        raise GeometryError(
            f"the mask and the scan do not overlap: the mask's grid is {labels.grid.description}, first voxel at "
            f"{_place(labels.grid)}; the scan's {scan.description}, first voxel at {_place(scan)}. Check that both are "
            "of one patient and visit, and that no program has lost the mask's origin"
        )
    to_labels = labels.grid.inverse @ scan.affine
    resampled = (_nearest if interpolation == "nearest" else _most_filled)(array, values, to_labels, scan.shape)
    changes = []
    for value in values:
        count = int(np.count_nonzero(resampled == value))
        volume_ml = (before[value] * labels.grid.voxel_ml, count * scan.voxel_ml)
        changes.append(LabelChange(value, (before[value], count), volume_ml))
    return ResampledLabels(Volume(resampled, scan.affine, source), tuple(changes), outside)


def label_values(array: npt.NDArray[Any]) -> tuple[int, ...]:
    """The labels above 0 in an array, by rising value.

    Raises:
        ScanError: values that are no labels: fractions, negative ones, or more than `MAX_LABELS` different ones.
    """
    found: set[float] = set()
    for z in range(array.shape[2]):
        found.update(np.unique(array[:, :, z]).tolist())
        if len(found) > MAX_LABELS:
            raise ScanError(f"more than {MAX_LABELS} different values: this is a scan, not a mask; give a mask")
    wrong = sorted(value for value in found if value < 0 or value != int(value))
    if wrong:
        raise ScanError(
            f"holds the value {wrong[0]:g}, and labels are whole numbers from 0 on: this is no mask. A scan cannot be "
            "resampled here; in place of a probability, give the mask that was saved with it"
        )
    return tuple(sorted(int(value) for value in found if value))


def _place(grid: Grid) -> str:
    return "({}) mm RAS".format(", ".join(f"{value:.1f}" for value in grid.affine[:3, 3]))


def _count_outside(array: npt.NDArray[Any], to_scan: FloatArray, shape: Index3) -> int:
    """How many labelled voxels have their centre outside a grid of a shape."""
    count, thickness = 0, max(1, SLAB // (array.shape[1] * array.shape[2]))
    for first in range(0, array.shape[0], thickness):
        part = array[first : first + thickness]
        inside = _inside(to_scan @ _offset((first, 0, 0)), part.shape, shape).numpy()
        count += int(np.count_nonzero(part[~inside]))
    return count


def _nearest(array: npt.NDArray[Any], values: Sequence[int], matrix: FloatArray, shape: Index3) -> npt.NDArray[Any]:
    """The label of the voxel nearest to each place, 0 outside the array."""
    out = np.zeros(shape, dtype=array.dtype)
    if not values:
        return out
    y, z = np.arange(shape[1]), np.arange(shape[2])
    for x in range(shape[0]):  # a plane at a time, so that float64 indices stay small
        plane = matrix[:3, 1][:, None, None] * y[:, None] + matrix[:3, 2][:, None, None] * z
        # The lift makes what lies midway between voxels fall the same way on grids that differ by rounding.
        index = np.floor(plane + (matrix[:3, 0] * x + matrix[:3, 3])[:, None, None] + 0.5 + 1e-6).astype(np.int64)
        inside = ((index >= 0) & (index < np.array(array.shape)[:, None, None])).all(axis=0)
        i, j, k = index[:, inside]
        out[x][inside] = array[i, j, k]
    return out


def _most_filled(array: npt.NDArray[Any], values: Sequence[int], matrix: FloatArray, shape: Index3) -> npt.NDArray[Any]:
    """The label that fills most of each voxel, where it fills more than the background does."""
    out = np.zeros(shape, dtype=array.dtype)
    most, all_of_them = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    to_scan = np.asarray(np.linalg.inv(matrix), dtype=np.float64)
    for value in values:
        indicator = array == value
        start, stop = _box_there(indicator, to_scan, shape)
        x, y, z = (slice(a, b) for a, b in zip(start, stop, strict=True))
        size = (x.stop - x.start, y.stop - y.start, z.stop - z.start)
        filled, inside = resample((indicator,), indicator.shape, matrix @ _offset(start), size, "cpu")
        fraction = (filled[0] * inside).numpy()
        larger = fraction > most[x, y, z]
        out[x, y, z][larger] = value
        most[x, y, z][larger] = fraction[larger]
        all_of_them[x, y, z] += fraction
    out[most <= 1 - all_of_them] = 0
    return out


def _box_there(indicator: npt.NDArray[np.bool_], to_scan: FloatArray, shape: Index3) -> tuple[Index3, Index3]:
    """The box of a grid's voxels that a label may fill in part: its own box with a margin, first and end."""
    bounds = []
    for axis in range(3):
        hit = np.flatnonzero(indicator.any(axis=tuple(other for other in range(3) if other != axis)))
        bounds.append((int(hit[0]) - 1, int(hit[-1]) + 1))
    places = np.array(np.meshgrid(*bounds)).reshape(3, -1).T @ to_scan[:3, :3].T + to_scan[:3, 3]
    low = np.clip(np.floor(places.min(axis=0)) - 2, 0, shape).astype(int).tolist()
    high = np.clip(np.ceil(places.max(axis=0)) + 3, 0, shape).astype(int).tolist()
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def _offset(first: Index3) -> FloatArray:
    """The affine from an index of a part to that of the whole."""
    offset = np.eye(4)
    offset[:3, 3] = first
    return offset
