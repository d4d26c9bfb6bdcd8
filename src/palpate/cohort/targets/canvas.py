"""A crop that a target is made in, and what makes a region of it a target that one click can mean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Self

import cc3d
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ...volume import Index3

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
FEWEST = 20  # voxels of a target
LARGEST = 0.6  # of a crop that a target fills
ROUGHEST = 3.0  # times the faces of a cube of a region's volume: rougher than the contours of lesions and organs are
CORE = 0.3  # of a region of some size that lies deeper than a voxel: less is threads
SOME = 200  # voxels from which on a region has a core
FLATTEST = 40  # percentile of the slopes at a region's border: three fifths of it are steeper
STEEP = 1.2  # times as steep at a region's border as within it
STEEP_NOISE = 0.6  # of the noise's deviation: slopes of smoothed noise are about half as steep


class MadeTarget(NamedTuple):
    """A target, and the crop in which it lies.

    Attributes:
        values: float32 `[D, H, W]`, the crop's, painted over where the target was painted.
        target: bool `[D, H, W]`.
        click: a voxel of it (d, h, w).
    """

    values: Floats
    target: Bools
    click: Index3


@dataclass(frozen=True, eq=False)
class Canvas:
    """A crop before it is normalised.

    Attributes:
        values: float32 `[D, H, W]`, in the scan's units.
        inside: bool `[D, H, W]`, whether a voxel lies in the scan.
        contour: bool `[D, H, W]`, the cohort's own target; no made target cuts a part out of it.
        click: a voxel (d, h, w) inside the scan.
        scan_voxel: how many of the crop's voxels one voxel of the scan spans along D, H, W.
    """

    values: Floats
    inside: Bools
    contour: Bools
    click: Index3
    scan_voxel: tuple[float, float, float]

    def with_click_near(self, rng: np.random.Generator) -> Self:
        """The same crop with a click up to an eighth of an edge from this one, inside the scan."""
        size = np.array(self.values.shape)
        drawn = np.array(self.click) + np.rint(rng.uniform(-0.125, 0.125, (20, 3)) * size).astype(int)
        fitting = [place for place in drawn.clip(0, size - 1).tolist() if self.inside[tuple(place)]]
        d, h, w = fitting[0] if fitting else self.click
        moved = replace(self, click=(d, h, w))
        moved.__dict__.update({name: getattr(self, name) for name in ("noise", "range")})  # they do not depend on it
        return moved

    def holds(self, target: Bools) -> bool:
        """Whether a region can be a target: with the click in it, neither tiny nor most of the crop."""
        count = np.count_nonzero(target)
        return bool(target[self.click] and FEWEST <= count <= LARGEST * target.size)

    def cuts_contour(self, target: Bools) -> bool:
        """Whether a region is a part of the cohort's contour, or holds a part: a click there means the contour."""
        common = np.count_nonzero(target & self.contour)
        both = np.count_nonzero(target) + np.count_nonzero(self.contour)
        smaller = min(np.count_nonzero(target), np.count_nonzero(self.contour))
        return bool(common > 0.2 * smaller and 2 * common < 0.7 * both)

    @property
    def empty_at_click(self) -> bool:
        """Whether the crop is constant around the click: the air that a program put around a patient."""
        near = self.values[tuple(slice(max(0, place - 1), place + 2) for place in self.click)]
        return float(np.ptp(near)) <= 1e-3 * self.range

    @cached_property
    def noise(self) -> float:
        """Deviation of the noise: of each voxel from the mean of its neighbours, by the median; above 0."""
        rough = self.values - ndimage.uniform_filter(self.values, 3)
        deviation = 1.4826 * float(np.median(np.abs(rough[self.inside])))
        return max(deviation, 0.005 * self.range)

    @cached_property
    def range(self) -> float:
        """Between the 2nd and the 98th percentile of the values inside the scan, above 0."""
        low, high = np.percentile(self.values[self.inside], (2, 98))
        return max(float(high - low), 1e-6 * (1 + abs(float(low))))


def piece_with(mask: Bools, place: Index3) -> Bools:
    """The connected piece of a mask with a voxel in it (faces touch); empty where the voxel is not in the mask."""
    if not mask[place]:
        return np.zeros_like(mask)
    pieces = cc3d.connected_components(mask, connectivity=6)
    return np.asarray(pieces == pieces[place])


def smoothed(target: Bools, deviation: float) -> Bools:
    """A region without its roughness: at least half filled after a Gaussian of so many voxels."""
    near = boxed(target, int(3 * deviation) + 1)
    out = np.zeros_like(target)
    out[near] = ndimage.gaussian_filter(target[near].astype(np.float32), deviation, truncate=3) > 0.5
    return out


def boxed(mask: Bools, margin: int) -> tuple[slice, slice, slice]:
    """The box of a mask that is not empty, with a margin of so many voxels as far as the crop has them."""
    slices = []
    for axis, size in enumerate(mask.shape):
        hit = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        slices.append(slice(max(0, int(hit[0]) - margin), min(size, int(hit[-1]) + margin + 1)))
    return slices[0], slices[1], slices[2]


def roughness(mask: Bools) -> float:
    """Faces of a region that is not empty, over those of a cube of its volume; 1.2 for a ball."""
    faces = sum(int(np.count_nonzero(np.diff(mask, axis=axis))) for axis in range(3))
    return float(faces / (6 * np.count_nonzero(mask) ** (2 / 3)))


def stands_out(values: Floats, target: Bools, noise: float) -> bool:
    """Whether a region has an edge that a reader sees, and a body: what one click can mean.

    Args:
        values: float32 `[D, H, W]`.
        target: the region, not empty; its border on the crop's own faces does not count.
        noise: deviation of the values' noise.
    """
    near = boxed(target, 3)
    smooth, mask = ndimage.gaussian_filter(values[near], 0.8, truncate=2), target[near]
    slope = np.sqrt(sum(np.square(step) for step in np.gradient(smooth)))
    inner = ndimage.binary_erosion(mask, border_value=1)
    border = np.asarray(ndimage.binary_dilation(mask) & ~inner)
    thread = mask.sum() >= SOME and inner.sum() < CORE * mask.sum()
    if not border.any() or thread or roughness(mask) > ROUGHEST:
        return False
    steep = float(np.percentile(slope[border], FLATTEST))
    # The region's own unevenness counts: a border in texture is as steep as the texture.
    return steep >= STEEP_NOISE * noise and steep >= STEEP * float(np.median(slope[inner if inner.any() else mask]))
