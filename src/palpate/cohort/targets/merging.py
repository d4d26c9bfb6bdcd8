"""Regions of a crop merged along a graph of neighbours (Felzenszwalb and Huttenlocher 2004)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int32]


def touching_regions(regions: Labels, own: int) -> npt.NDArray[np.int32]:
    """The regions above 0 that share a face with one."""
    found = []
    for axis in range(3):
        a, b = _faces(regions, axis)
        found += [b[(a == own) & (b != own)], a[(b == own) & (a != own)]]
    beside = np.unique(np.concatenate(found))
    return np.asarray(beside[beside > 0])


def merged_regions(
    regions: Labels, values: npt.NDArray[np.float32], slope: npt.NDArray[np.float32], size: float
) -> Labels:
    """Regions joined while the step between two is not larger than the unevenness of each.

    A pair is joined where the step between them is at most the largest step within either plus scale / its voxels, the
    scale being such that regions of `size` voxels stop growing at steps of the crop's usual unevenness.

    Args:
        regions: `[D, H, W]`, numbers above 0.
        values: `[D, H, W]`.
        slope: `[D, H, W]`, of the values.
        size: voxels of a usual region.

    Returns:
        `[D, H, W]`, the number of one of its parts for each region.
    """
    counts = np.bincount(regions.ravel())
    means = np.bincount(regions.ravel(), values.ravel()) / np.maximum(counts, 1)
    pairs, border = _pairs(regions, slope)
    # What divides two regions: their means, and how steep the values are where they touch.
    steps = np.abs(means[pairs[:, 0]] - means[pairs[:, 1]]) + border
    scale = size * float(np.median(steps)) if len(steps) else 0.0
    parent = np.arange(len(counts))
    uneven, voxels = np.zeros(len(counts)), counts.astype(np.float64)
    for pair, step in sorted(zip(pairs.tolist(), steps.tolist(), strict=True), key=lambda one: one[1]):
        a, b = (_root(parent, one) for one in pair)
        if a != b and step <= min(uneven[a] + scale / voxels[a], uneven[b] + scale / voxels[b]):
            parent[b], uneven[a] = a, step
            voxels[a] += voxels[b]
    roots = np.array([_root(parent, number) for number in range(len(parent))], dtype=np.int32)
    return np.asarray(roots[regions])


def _root(parent: npt.NDArray[np.int64], number: int) -> int:
    while parent[number] != number:
        parent[number] = parent[parent[number]]
        number = int(parent[number])
    return number


def _faces(array: npt.NDArray[np.generic], axis: int) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]:
    """The two sides of each face between voxels along an axis."""
    ahead, behind = [slice(None)] * 3, [slice(None)] * 3
    ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
    return array[tuple(behind)], array[tuple(ahead)]


def _pairs(regions: Labels, slope: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Pairs of regions that share a face, `[N, 2]`, and the mean slope where they do, `[N]`."""
    keys, slopes, count = [], [], int(regions.max()) + 1
    for axis in range(3):
        a, b = _faces(regions, axis)
        differ = a != b
        first, second = a[differ].astype(np.int64), b[differ].astype(np.int64)
        keys.append(np.minimum(first, second) * count + np.maximum(first, second))
        slopes.append(np.maximum(*(side[differ] for side in _faces(slope, axis))))
    found, place = np.unique(np.concatenate(keys), return_inverse=True)
    total = np.bincount(place, np.concatenate(slopes), minlength=len(found))
    means = total / np.maximum(np.bincount(place, minlength=len(found)), 1)
    return np.stack([found // count, found % count], axis=1), means
