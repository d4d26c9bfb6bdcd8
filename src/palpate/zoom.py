"""Lesions of any size: when to look wider or closer, and where to look again in detail (not in the paper).

A crop sees one field. A mask that reaches its border may go on outside, so the field doubles until it does not, or the
scan ends; a lesion that fills little of it is looked at again from nearer. What was drawn from afar is then refined by
overlapping crops along its edge, each with the mask so far as its prior.

Everything here is arithmetic on places and probabilities: the `Predictor` asks the network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import PromptError
from .frame import Frame, Preprocessing, whole
from .prompts import Box, InitialMask, Prompt
from .resampling import EDGE, spanned
from .volume import Grid, Index3, Probability, Source

STEP = 2.0  # how much wider the next field is
TOUCHING = 0.002  # share of a crop's face that a mask covers where it may go on outside; less is a speck
FITTING = 0.8  # longest edge of a mask that its crop cuts, as a share of the crop's, up to which that is moved to it
SMALL = 0.22  # longest edge of a lesion, as a share of the crop's, below which it is looked at from nearer
NEGLIGIBLE = 1e-3  # probability that a patch from afar may leave out
STRIDE = 0.625  # distance of two neighbouring crops of a refinement, as a share of their edge: they overlap by 3/8
RAMP = 0.1875  # share of a crop's edge over which its word gains weight: half of that overlap
ABOUT = 0.125  # distance from a click, as a share of the crop's edge, at which a look about it alone counts nothing
DOUBT = 0.25  # change of a probability that is worth another look


@dataclass(frozen=True)
class View:
    """A crop, and how wide it is.

    Attributes:
        frame: where it lies.
        scale: its voxels' edge, times the model's own.
    """

    frame: Frame
    scale: float


def planned(grid: Grid, prompts: Sequence[Prompt], preprocessing: Preprocessing, scale: float, widest: float) -> View:
    """The closest view from `scale` on that holds all prompts.

    Raises:
        PromptError: prompts too far apart for the widest field.
    """
    while True:
        try:
            return View(Frame.around(grid, prompts, preprocessing.zoomed(scale)), scale)
        except PromptError:
            if scale >= widest:
                raise
        scale = min(scale * STEP, widest)


def reaches_border(probability: Tensor, frame: Frame) -> bool:
    """Whether a mask, of a crop's probability `[D, H, W]`, covers some of a face beyond which the scan goes on."""
    mask = (probability > 0.5).cpu().numpy()
    for axis in range(3):
        for place, beyond in ((0, -1), (frame.size[axis] - 1, frame.size[axis])):
            ranges = [np.arange(n) for n in frame.size]
            ranges[axis] = np.array([beyond])
            neighbours = frame.scan_index(np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1)).squeeze(axis)
            goes_on = ((neighbours > -0.5) & (neighbours < np.array(frame.grid.shape) - 0.5)).all(axis=-1)
            face = mask.take(place, axis=axis)
            if np.count_nonzero(face & goes_on) > max(2, TOUCHING * face.size):
                return True
    return False


def drawn(probability: Tensor) -> bool:
    """Whether there is a mask in a crop's probability."""
    return bool((probability > 0.5).any())


def closer(
    view: View, probability: Tensor, prompts: Sequence[Prompt], preprocessing: Preprocessing, closest: float
) -> View | None:
    """A narrower field for a lesion that fills little of this one; None where it does not, or prompts would not fit."""
    places = torch.nonzero(probability > 0.5)
    if not len(places) or view.scale <= closest:
        return None
    extent = (places.amax(dim=0) - places.amin(dim=0) + 1).cpu().numpy() / np.array(view.frame.size)
    if float(extent.max()) >= SMALL:
        return None
    try:
        return around(view, probability, prompts, preprocessing, max(closest, view.scale / STEP))
    except PromptError:  # they lie too far apart for it
        return None


def moved(view: View, probability: Tensor, prompts: Sequence[Prompt], preprocessing: Preprocessing) -> View | None:
    """As wide a field around a mask that this one cuts; None where the mask all but fills it, or prompts do not fit."""
    places = torch.nonzero(probability > 0.5)
    extent = (places.amax(dim=0) - places.amin(dim=0) + 1).cpu().numpy() / np.array(view.frame.size)
    if float(extent.max()) > FITTING:
        return None
    try:
        return around(view, probability, prompts, preprocessing, view.scale)
    except PromptError:  # they lie too far apart for it
        return None


def around(
    view: View, probability: Tensor, prompts: Sequence[Prompt], preprocessing: Preprocessing, scale: float
) -> View:
    """A field of another width, around the mask that was drawn in a view and all prompts.

    Raises:
        PromptError: prompts too far apart for it.
    """
    grid, zoomed = view.frame.grid, preprocessing.zoomed(scale)
    places = [prompt.places.astype(np.float64) for prompt in prompts]
    mask = torch.nonzero(probability > 0.5)
    if len(mask):
        corners = torch.stack([mask.amin(dim=0), mask.amax(dim=0)]).cpu().numpy()
        places.append(view.frame.scan_index(corners))
    both = np.concatenate(places)
    centre = whole(grid, (both.min(axis=0) + both.max(axis=0)) / 2)
    frame = Frame.centred(grid, np.clip(centre, 0, np.array(grid.shape) - 1), zoomed)
    if not all(frame.holds(prompt, 0.0) for prompt in prompts):
        frame = Frame.around(grid, prompts, zoomed)
    return View(frame, scale)


def finest(grid: Grid, preprocessing: Preprocessing) -> float:
    """The scale at which a refinement looks: the model's own, or the scan's voxels where these are coarser."""
    return max(1.0, float(np.median(grid.spacing) / np.mean(preprocessing.spacing)))


def tiles(
    view: View,
    doubtful: npt.NDArray[np.bool_],
    prompt: Prompt,
    first: Prompt,
    preprocessing: Preprocessing,
    budget: int,
) -> list[View]:
    """Overlapping crops, closer than `view`, over what is doubtful and around a prompt; as close as a budget lets.

    They lie on a lattice through the first prompt, so that the next one finds the same crops, and what was encoded of
    them.
    Where no spacing brings all within the budget, the coarsest serves as far as it goes.

    Args:
        view: what was drawn from afar.
        doubtful: `[D, H, W]` of the view's crop.
        prompt: the last one.
        first: the first one.
        preprocessing: the model's.
        budget: most crops.
    """
    grid = view.frame.grid
    places = view.frame.scan_index(np.argwhere(doubtful))
    places = places[((places > -0.5) & (places < np.array(grid.shape) - 0.5)).all(axis=-1)]
    anchor = whole(grid, (first.places.min(axis=0) + first.places.max(axis=0)) / 2)
    found: list[View] = []
    scale = finest(grid, preprocessing)
    while scale < view.scale / 1.2:
        zoomed = preprocessing.zoomed(scale)
        unit = Frame.centred(grid, anchor, zoomed)
        middle, stride = np.array(unit.size) // 2, STRIDE * np.array(unit.size)
        cells = Counter(_cells(unit.crop_index(places), middle, stride))
        # A speck of doubt is not worth a crop; a prompt always is.
        least = 0.002 * np.prod(unit.size) * (scale / view.scale) ** 3 * STRIDE**3
        named: set[tuple[int, ...]] = set()
        if not isinstance(prompt, (Box, InitialMask)):
            named = set(_cells(unit.crop_index(prompt.places), middle, stride))
        wanted = named | {cell for cell, count in cells.items() if count > least}
        # Where the budget does not do, the prompt's own crops come first, then those with most to look at.
        chosen = sorted(wanted, key=lambda cell: (cell not in named, -cells[cell], cell))[:budget]
        centres = [whole(grid, unit.scan_index(middle + np.array(cell) * stride)) for cell in sorted(chosen)]
        found = [View(Frame.centred(grid, centre, zoomed), scale) for centre in centres]
        if len(wanted) <= budget:
            break
        scale *= STEP
    return found


def _cells(
    places: npt.NDArray[np.float64], middle: npt.NDArray[np.int64], stride: npt.NDArray[np.float64]
) -> list[tuple[int, ...]]:
    """Which crop of a lattice each place `[N, 3]` (d, h, w) of its middle one is nearest to."""
    nearest = np.floor((places - middle) / stride + 0.5 + EDGE)  # what is midway but for rounding is midway
    return [tuple(cell) for cell in nearest.astype(int).tolist()]


def doubtful(probability: Tensor, before: Tensor | None) -> npt.NDArray[np.bool_]:
    """Where a crop's probability `[D, H, W]` is worth a closer look: along the mask's edge, where it changed.

    Args:
        probability: what was drawn from afar.
        before: what was known before in the same crop; None: nothing was, and all of the edge is new.
    """
    mask = (probability > 0.5).float()[None, None]
    edge = F.max_pool3d(mask, 3, 1, 1) + F.max_pool3d(1 - mask, 3, 1, 1) > 1.5
    unsure = (probability > 0.1) & (probability < 0.9)
    worth = edge[0, 0] | unsure
    if before is not None:
        worth &= changed(probability, before) > 0
    return worth.cpu().numpy()


def spread(view: View, probability: Tensor, source: Source | None) -> Probability:
    """A view's probability `[D, H, W]` on the scan's grid; from afar, only where it is not negligible.

    A wide field covers much of a scan, and so would its patch.
    """
    if view.scale <= 1:
        return view.frame.spread(probability, source)
    part, (d, h, w) = _part(view.frame, probability > NEGLIGIBLE)
    return part.spread(probability[d, h, w], source)


def _part(frame: Frame, wanted: Tensor) -> tuple[Frame, tuple[slice, slice, slice]]:
    """The part of a crop around what is wanted of it, bool `[D, H, W]`: its frame, and its place in the crop.

    Whole blocks of as many crop voxels as one of the scan's spans, and one block around them: on the scan's grid the
    part then reads as the whole crop would.
    """
    places = torch.nonzero(wanted).cpu().numpy()
    if not len(places):
        places = np.zeros((1, 3), np.int64)
    block = spanned(frame.from_scan)
    low = np.maximum(places.min(axis=0) // block - 1, 0) * block
    high = np.minimum((places.max(axis=0) // block + 2) * block, frame.size)
    (d, h, w), (nd, nh, nw) = low.tolist(), (high - low).tolist()
    return frame.part((d, h, w), (nd, nh, nw)), (slice(d, d + nd), slice(h, h + nh), slice(w, w + nw))


@dataclass
class Mosaic:
    """A probability put together on the scan's grid: a first look, then others that outweigh it.

    Looks stay crops until they are put together, one after the other: on the scan's grid a wide one is gigabytes.

    Attributes:
        base: the first look.
        looks: each other one: a part of its crop, its probability there, and how much that counts, 0 to 1.
    """

    base: Probability
    looks: list[tuple[Frame, Tensor, Tensor]] = field(default_factory=list)

    def add(self, frame: Frame, probability: Tensor, weight: Tensor) -> None:
        """Another look: a crop's probability `[D, H, W]` and how much it counts; nothing is kept where that is 0."""
        if bool((weight > 0).any()):
            part, (d, h, w) = _part(frame, weight > 0)
            self.looks.append((part, probability[d, h, w], weight[d, h, w]))

    def merged(self) -> Probability:
        """All of it, in the smallest box that holds every part."""
        if not self.looks:
            return self.base
        boxes = [part.covered() for part, _, _ in self.looks]
        first, last = _hull(boxes)
        total, weights = np.zeros(last - first, np.float32), np.zeros(last - first, np.float32)
        for (part, probability, weight), (place, size) in zip(self.looks, boxes, strict=True):
            box = tuple(slice(a, a + n) for a, n in zip(np.subtract(place, first), size, strict=True))
            counts, look = part.spread(weight, None).array, part.spread(probability, None).array
            look *= counts
            total[box] += look
            weights[box] += counts
        base = self.base
        if base.array.any():  # else it is a speck of nothing, wherever that lies
            boxes = [*boxes, (base.start, base.array.shape)]
        start, stop = _hull(boxes)
        x, y, z = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
        merged = base[x, y, z].astype(np.float32, copy=False)
        inner = merged[tuple(slice(a, b) for a, b in zip(first - start, last - start, strict=True))]
        rest = np.minimum(weights, 1)  # in place from here on: these may be as large as a scan
        inner *= np.subtract(1, rest, out=rest)
        total /= np.maximum(weights, 1, out=weights)
        inner += total
        return Probability(merged, (x.start, y.start, z.start), base.grid, base.source)


def _hull(boxes: Sequence[tuple[Sequence[int], Sequence[int]]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The smallest box around boxes of (first voxel, size): its first voxel, and the one after its last."""
    starts, sizes = (np.array(part, dtype=np.int64) for part in zip(*boxes, strict=True))
    return starts.min(axis=0), (starts + sizes).max(axis=0)


def held(positive: bool, new: Probability, old: Probability, frame: Frame) -> Probability:
    """A correction's answer, held to its side: what says lesion takes nothing away, what says none adds nothing.

    The network draws all of a crop anew, and elsewhere a little differently each time; who points at what is missing
    does not ask for that (measured in docs/architecture.md).

    Args:
        positive: whether the correction said lesion.
        new: the network's answer to it.
        old: what was there before.
        frame: the crop that the answer speaks of; outside it the old stays.
    """
    if positive:
        start = np.minimum(old.start, new.start)
        stop = np.maximum(np.add(old.start, old.array.shape), np.add(new.start, new.array.shape))
        x, y, z = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
        return replace(old, array=np.maximum(old[x, y, z], new[x, y, z]), start=(x.start, y.start, z.start))
    start, size = (np.array(part) for part in frame.covered())
    low = np.maximum(start, old.start)
    high = np.maximum(np.minimum(start + size, np.add(old.start, old.array.shape)), low)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    array = old.array.copy()
    here = array[tuple(slice(a, b) for a, b in zip(low - old.start, high - old.start, strict=True))]
    np.minimum(here, new[x, y, z], out=here)
    return replace(old, array=array)


def changed(seen: Tensor, known: Tensor) -> Tensor:
    """Where a look from afar disagrees with what was known, 0 to 1 with soft edges; both `[D, H, W]`."""
    differs = ((seen - known).abs() > DOUBT).float()[None, None]
    near = F.max_pool3d(differs, 3, 1, 1)
    return F.avg_pool3d(near, 3, 1, 1, count_include_pad=False)[0, 0]


def weight_about(size: Index3) -> Tensor:
    """What a look counts that is to change little, `[D, H, W]`: 1 in the middle, nothing an eighth of an edge away."""
    d, h, w = (((torch.arange(n) + 0.5) / n - 0.5).square() for n in size)
    distance = (d[:, None, None] + h[None, :, None] + w[None, None, :]).sqrt()
    return (2 - distance / (ABOUT / 2)).clamp(0, 1)


def weight(size: Index3) -> Tensor:
    """What a closer look counts, `[D, H, W]`: 1 inside, falling to nearly nothing towards each face."""
    ramps = []
    for n in size:
        distance = torch.minimum(torch.arange(n) + 0.5, n - torch.arange(n) - 0.5)
        ramps.append((distance / (RAMP * n)).clamp(max=1.0))
    d, h, w = ramps
    return d[:, None, None] * h[None, :, None] * w[None, None, :]
