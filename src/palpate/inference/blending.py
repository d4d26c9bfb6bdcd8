"""Crops' probabilities put together on the scan's grid, and corrections held to their side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..frame import Frame
from ..masks import Mask, Probability
from ..resampling import downsampling_factors
from ..volume import Index3, Source
from .views import View

NEGLIGIBLE = 1e-3  # probability that a patch of a wide view may leave out
RAMP = 0.1875  # share of a crop's edge over which its weight rises: half of what neighbours overlap by
NEAR_CLICK = 0.125  # distance from a click, as a share of the crop's edge, at which a crop around it weighs nothing

Values = TypeVar("Values", Tensor, npt.NDArray[np.float32])


def resample_to_scan(view: View, probability: Tensor, source: Source | None) -> Probability:
    """A view's probability `[D, H, W]` on the scan's grid; of a wide view, only where it is not negligible.

    A wide field covers much of a scan, and so would its patch.
    """
    if view.scale <= 1:
        return view.frame.resample_to_scan(probability, source)
    part, (d, h, w) = _part(view.frame, probability > NEGLIGIBLE)
    return part.resample_to_scan(probability[d, h, w], source)


def _part(frame: Frame, wanted: Tensor) -> tuple[Frame, tuple[slice, slice, slice]]:
    """The part of a crop around what is wanted of it, bool `[D, H, W]`: its frame, and its place in the crop.

    Whole blocks of as many crop voxels as one of the scan's spans, and one block around them: on the scan's grid the
    part then reads as the whole crop would.
    """
    places = torch.nonzero(wanted).cpu().numpy()
    if not len(places):
        places = np.zeros((1, 3), np.int64)
    block = downsampling_factors(frame.from_scan)
    low = np.maximum(places.min(axis=0) // block - 1, 0) * block
    high = np.minimum((places.max(axis=0) // block + 2) * block, frame.size)
    (d, h, w), (nd, nh, nw) = low.tolist(), (high - low).tolist()
    return frame.part((d, h, w), (nd, nh, nw)), (slice(d, d + nd), slice(h, h + nh), slice(w, w + nw))


@dataclass
class PatchBlender:
    """A probability put together on the scan's grid: a base, and crops that outweigh it.

    Crops stay crops until they are put together, one after the other: on the scan's grid a wide one is gigabytes.

    Attributes:
        base: the probability to begin with.
        crops: each a part of a crop's frame, its probability there, and its weight, 0 to 1.
    """

    base: Probability
    crops: list[tuple[Frame, Tensor, Tensor]] = field(default_factory=list)

    def add(self, frame: Frame, probability: Tensor, weight: Tensor) -> None:
        """Add a crop's probability `[D, H, W]` with its weight; nothing is stored where that is 0."""
        if bool((weight > 0).any()):
            part, (d, h, w) = _part(frame, weight > 0)
            self.crops.append((part, probability[d, h, w], weight[d, h, w]))

    def blended(self) -> Probability:
        """All of it, in the smallest box that holds every part."""
        if not self.crops:
            return self.base
        boxes = [part.covered() for part, _, _ in self.crops]
        first, last = _hull(boxes)
        total, weights = self._sums(boxes, first, last)
        base = self.base
        if base.array.any():  # else it is a speck of nothing, wherever that lies
            boxes = [*boxes, (base.start, base.array.shape)]
        start, stop = _hull(boxes)
        x, y, z = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
        blended = base[x, y, z].astype(np.float32, copy=False)
        inner = blended[tuple(slice(a, b) for a, b in zip(first - start, last - start, strict=True))]
        rest = np.minimum(weights, 1)  # in place from here on: these may be as large as a scan
        inner *= np.subtract(1, rest, out=rest)
        total /= np.maximum(weights, 1, out=weights)
        inner += total
        return Probability(blended, (x.start, y.start, z.start), base.grid, base.source)

    def _sums(
        self, boxes: Sequence[tuple[Index3, Index3]], first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """The crops' weighted probabilities and weights, summed in the box from `first` to `last` of the scan."""
        total, weights = np.zeros(last - first, np.float32), np.zeros(last - first, np.float32)
        for (part, probability, weight), (place, size) in zip(self.crops, boxes, strict=True):
            box = tuple(slice(a, a + n) for a, n in zip(np.subtract(place, first), size, strict=True))
            counts, crop = part.resample_to_scan(weight, None).array, part.resample_to_scan(probability, None).array
            crop *= counts
            total[box] += crop
            weights[box] += counts
        return total, weights


def _hull(boxes: Sequence[tuple[Sequence[int], Sequence[int]]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The smallest box around boxes of (first voxel, size): its first voxel, and the one after its last."""
    starts, sizes = (np.array(part, dtype=np.int64) for part in zip(*boxes, strict=True))
    return starts.min(axis=0), (starts + sizes).max(axis=0)


def one_sided_update(foreground: bool, new: Values, old: Values) -> Values:
    """A correction's probability: a foreground prompt takes no lesion away, a background prompt adds none.

    The network predicts all of a crop anew, and elsewhere a little differently each time; a user who corrects one place
    does not ask for that (measured in docs/design/experiments.md).

    Args:
        foreground: the prompt's side.
        new: the probability after the prompt.
        old: the probability before it, of the same shape.
    """
    if isinstance(new, Tensor):
        return torch.maximum(new, old) if foreground else torch.minimum(new, old)
    return np.maximum(old, new) if foreground else np.minimum(old, new)


def one_sided_patch(foreground: bool, new: Probability, old: Probability, frame: Frame) -> Probability:
    """`one_sided_update` of probabilities on the scan's grid.

    Args:
        foreground: the prompt's side.
        new: the probability after the prompt.
        old: the probability before it.
        frame: the crop in which the new one was predicted; outside it the old one stays.
    """
    if foreground:
        (start, stop), whole = _hull([(old.start, old.array.shape), (new.start, new.array.shape)]), None
    else:
        first, size = (np.array(part) for part in frame.covered())
        start = np.maximum(first, old.start)
        stop = np.maximum(np.minimum(first + size, np.add(old.start, old.array.shape)), start)
        whole = old.array.copy()
    x, y, z = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    updated = one_sided_update(foreground, new[x, y, z], old[x, y, z])
    if whole is None:
        return replace(old, array=updated, start=(x.start, y.start, z.start))
    whole[tuple(slice(a, b) for a, b in zip(start - old.start, stop - old.start, strict=True))] = updated
    return replace(old, array=whole)


def without(probability: Probability, forbidden: Mask) -> Probability:
    """A probability that is 0 wherever a mask is.

    Args:
        probability: on the scan's grid.
        forbidden: a mask on the same grid.
    """
    return replace(probability, array=np.where(forbidden[probability.box], np.float32(0), probability.array))


def weight_near_click(size: Index3) -> Tensor:
    """The weight of a crop that is to change little, `[D, H, W]`: 1 in the middle, 0 an eighth of an edge away."""
    d, h, w = (((torch.arange(n) + 0.5) / n - 0.5).square() for n in size)
    distance = (d[:, None, None] + h[None, :, None] + w[None, None, :]).sqrt()
    return (2 - distance / (NEAR_CLICK / 2)).clamp(0, 1)


def weight_inside(size: Index3) -> Tensor:
    """The weight of a refining crop, `[D, H, W]`: 1 inside, falling to nearly nothing towards each face."""
    ramps = []
    for n in size:
        distance = torch.minimum(torch.arange(n) + 0.5, n - torch.arange(n) - 0.5)
        ramps.append((distance / (RAMP * n)).clamp(max=1.0))
    d, h, w = ramps
    return d[:, None, None] * h[None, :, None] * w[None, None, :]
