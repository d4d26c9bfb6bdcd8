"""Boxes that bound the mask: the one place where that is decided.

A box bounds with a margin. People draw boxes a little too small or off: a mask that is cut at such a box loses lesion,
one that is cut at this margin does not (docs/design/experiments.md). Outside the margin there is lesion
only where a foreground prompt after the last box says so: what is connected with one of its voxels, out there, stays.
A prompt before it does not, for boxes are drawn after a click that went wrong. An initial mask that comes after a box
begins anew, and lifts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..masks import Mask, Probability
from ..prompts import Box, InitialMask, Places, Prompt

Bools = npt.NDArray[np.bool_]
MARGIN = 0.15  # of a box's edge, beyond each of its faces, and at least one voxel


def bounding_boxes(prompts: Sequence[Prompt]) -> tuple[Box, ...]:
    """The boxes that bound the mask of a list of prompts; together, where there are several."""
    began = max((place for place, prompt in enumerate(prompts) if isinstance(prompt, InitialMask)), default=0)
    return tuple(prompt for prompt in prompts[began:] if isinstance(prompt, Box) and prompt.bounds_mask)


def bounded(
    probability: Probability, prompts: Sequence[Prompt], before: Probability | None = None
) -> tuple[Probability, float]:
    """A probability that is 0 where boxes leave no lesion, and the share of its mask's voxels that this took.

    Args:
        probability: after the last prompt, on the scan's grid.
        prompts: all so far.
        before: the probability before the last prompt, if that was a correction, which takes none of that mask away.
    """
    boxes = bounding_boxes(prompts)
    if not boxes:
        return probability, 0.0
    allowed = inside(boxes, probability)
    mask = probability.array > 0.5
    allowed |= _marked(mask & ~allowed, probability, prompts_after(boxes[-1], prompts))
    if before is not None:
        allowed |= before[probability.box] > 0.5
    taken, voxels = int(np.count_nonzero(mask & ~allowed)), int(np.count_nonzero(mask))
    kept = replace(probability, array=np.where(allowed, probability.array, np.float32(0)))
    return kept, taken / voxels if voxels else 0.0


def prompts_after(box: Box, prompts: Sequence[Prompt]) -> Sequence[Prompt]:
    """The prompts after a box of a list; of an equal one given again, after the last."""
    return prompts[max(place for place, prompt in enumerate(prompts) if prompt == box) + 1 :]


def inside(boxes: Sequence[Box], patch: Mask | Probability, margin: float = MARGIN) -> Bools:
    """Where a patch lies in any of some boxes or their margins: bool, of the patch's shape.

    Args:
        boxes: on the scan's grid.
        patch: on the same grid.
        margin: share of a box's edge, beyond each of its faces, and at least one voxel; 0: none.
    """
    found = np.zeros(patch.array.shape, dtype=bool)
    for box in boxes:
        first, stop = np.array(box.first), np.array(box.last) + 1
        beyond = np.maximum(np.rint(margin * (stop - first)), 1 if margin else 0).astype(np.int64)
        low, high = (np.subtract(place, patch.start).clip(0) for place in (first - beyond, stop + beyond))
        found[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return found


def _marked(outside: Bools, patch: Probability, prompts: Sequence[Prompt]) -> Bools:
    """The connected pieces outside the boxes in which a foreground prompt has a voxel."""
    from scipy import ndimage

    marks = [p.places for p in prompts if p.positive and not isinstance(p, (Box, InitialMask))]
    places: Places = np.concatenate([np.zeros((0, 3), np.int64), *marks]) - np.array(patch.start, np.int64)
    places = places[((places >= 0) & (places < outside.shape)).all(axis=1)]
    places = places[outside[tuple(places.T)]]
    if not len(places):
        return np.zeros_like(outside)
    pieces, _ = ndimage.label(outside)
    found: Bools = np.isin(pieces, np.unique(pieces[tuple(places.T)]))
    return found
