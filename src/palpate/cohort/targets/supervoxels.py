"""Supervoxels: the one with the click in it, at a size that is drawn, alone or with its neighbours.

Three divisions of a crop: SLIC (Achanta et al. 2012), the watershed of the slope (Beucher and Lantuéjoul 1979), and
watershed basins merged as Felzenszwalb and Huttenlocher (2004) merge pixels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ...extras import needed
from ...volume import Index3
from .canvas import Bools, Canvas, Floats, MadeTarget, piece_with, smoothed, stands_out
from .merging import merged_regions, touching_regions

Labels = npt.NDArray[np.int32]
SMALLEST = 5.0  # voxels: diameter of a ball of the smallest supervoxels
UNION_PROB = 0.3  # that a target is a supervoxel and neighbours


def supervoxel(canvas: Canvas, rng: np.random.Generator) -> MadeTarget | None:
    """A supervoxel of the crop, or a union of neighbours; None where the drawn one is none that a click can mean."""
    if canvas.empty_at_click:
        return None
    divide = (_slic, _watershed, _merged)[int(rng.integers(3))]
    diameter = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(0.8 * min(canvas.values.shape)))))
    box, click = _around(canvas, 5 * diameter)
    values, inside = canvas.values[box], canvas.inside[box]
    values = np.where(inside, values, values[inside].mean())
    regions = divide((values - values.mean()) / max(float(values.std()), 1e-6 * canvas.range), diameter, rng)
    regions = np.where(inside, regions, 0)
    chosen = regions == regions[click]
    if rng.random() < UNION_PROB:
        chosen |= _neighbours(regions, int(regions[click]), rng)
    chosen = piece_with(smoothed(chosen, float(np.clip(diameter / 16, 0.8, 2))) & inside, click)
    target = np.zeros_like(canvas.inside)
    target[box] = ndimage.binary_fill_holes(chosen) & inside
    if not canvas.holds(target) or canvas.cuts_contour(target) or _overruns(target, box):
        return None
    return MadeTarget(canvas.values, target, canvas.click) if stands_out(values, target[box], canvas.noise) else None


def _around(canvas: Canvas, edge: float) -> tuple[tuple[slice, slice, slice], Index3]:
    """A box of the crop around the click, and the click in it."""
    half = max(12, round(edge / 2))
    low = [max(0, place - half) for place in canvas.click]
    d, h, w = (
        slice(first, min(size, place + half + 1))
        for first, place, size in zip(low, canvas.click, canvas.values.shape, strict=True)
    )
    a, b, c = (place - first for place, first in zip(canvas.click, low, strict=True))
    return (d, h, w), (a, b, c)


def _overruns(target: Bools, box: tuple[slice, slice, slice]) -> bool:
    """Whether a region ends where the box ends in which it was found, and the crop does not."""
    for axis, (part, size) in enumerate(zip(box, target.shape, strict=True)):
        for face, last in ((part.start, 0), (part.stop - 1, size - 1)):
            if face != last and target.take(face, axis=axis).any():
                return True
    return False


def _slic(values: Floats, diameter: float, rng: np.random.Generator) -> Labels:
    """Regions of similar values and positions; large ones are found at half the resolution."""
    with needed("scikit-image", "supervoxels need"):
        from skimage.segmentation import slic
    step = 2 if diameter > 12 else 1
    small = ndimage.uniform_filter(values, step)[::step, ::step, ::step]
    count = max(2, round(small.size / (diameter / step) ** 3))
    compactness = float(np.exp(rng.uniform(np.log(0.03), np.log(0.3))))
    regions = slic(small, count, compactness=compactness, max_num_iter=5, channel_axis=None, start_label=1)
    for axis in range(3):
        regions = np.repeat(regions, step, axis=axis)
    d, h, w = values.shape
    return np.ascontiguousarray(regions[:d, :h, :w], np.int32)


def _watershed(values: Floats, diameter: float, rng: np.random.Generator) -> Labels:
    """Basins of the slope, at a smoothness that suits their size."""
    smooth = ndimage.gaussian_filter(values, diameter / rng.uniform(6, 12), truncate=2)
    return _basins(_slope(smooth), max(3, round(diameter / 2)))


def _merged(values: Floats, diameter: float, rng: np.random.Generator) -> Labels:
    """Small basins merged while what divides two is weaker than what each is made of."""
    slope = _slope(ndimage.gaussian_filter(values, rng.uniform(0.6, 1.2), truncate=2))
    return merged_regions(_basins(slope, 4), values, slope, diameter**3 / 2)


def _slope(values: Floats) -> Floats:
    return np.asarray(np.sqrt(sum(np.square(step) for step in np.gradient(values))), dtype=np.float32)


def _basins(slope: Floats, window: int) -> Labels:
    """The watershed's basins from each place that is the flattest within a window."""
    with needed("scikit-image", "supervoxels need"):
        from skimage.segmentation import watershed
    flattest = ndimage.minimum_filter(slope, window) == slope
    markers, _ = ndimage.label(flattest)
    return np.asarray(watershed(slope, markers), dtype=np.int32)


def _neighbours(regions: Labels, own: int, rng: np.random.Generator) -> Bools:
    """One to three regions that touch one, drawn at random."""
    beside = touching_regions(regions, own)
    count = min(len(beside), int(rng.integers(1, 4)))
    return np.isin(regions, rng.choice(beside, count, replace=False)) if count else np.zeros(regions.shape, bool)
