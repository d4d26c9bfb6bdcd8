"""Why a mask may be wrong, as data: it is empty, larger than what was pointed at, or expected to overlap little.

The limits were chosen on validation patients of the bundled model (docs/design/experiments.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..masks import Mask
from ..prompts import Box, InitialMask, Lasso, Prompt

MIN_OVERLAP = 0.5  # predicted intersection over union below which a mask is doubtful
MAX_CLICKED_ML = 1000.0  # of a mask that clicks and strokes alone point at
MAX_BEYOND = 0.3  # share of a mask outside the box or the outline that it was pointed at with
MAX_GROWTH = 3.0  # times an initial mask's volume


@dataclass(frozen=True)
class MaskWarning:
    """A reason to doubt a mask.

    Attributes:
        kind: "empty"; "low_overlap": the model expects little; "large": more than lesions are, and nothing but clicks
            and strokes was given; "beyond_box", "beyond_outline": much of the mask lay outside the last box, or lies
            outside the last lasso on its slice; "growth": many times the initial mask.
        value: what was found: an overlap, mL, a share of the mask, or a factor.
        limit: what it may be.
        message: one sentence, with what to do.
    """

    kind: Literal["empty", "low_overlap", "large", "beyond_box", "beyond_outline", "growth"]
    value: float
    limit: float
    message: str


def mask_warnings(
    prompts: Sequence[Prompt], mask: Mask, predicted_iou: float | None, cut: float
) -> tuple[MaskWarning, ...]:
    """The reasons to doubt the mask of some prompts; none for most masks.

    Args:
        prompts: all of them, in their order.
        mask: their mask.
        predicted_iou: the intersection over union with the truth that the model predicts of it; None: it predicts none.
        cut: the share of the model's mask that boxes cut off (`Prediction.cut`).
    """
    if mask.empty:
        return (MaskWarning("empty", 0.0, 0.0, _empty_message(prompts, cut)),)
    return (*_larger(prompts, mask, cut), *_overlap(predicted_iou))


def _overlap(predicted_iou: float | None) -> Iterator[MaskWarning]:
    if predicted_iou is not None and predicted_iou < MIN_OVERLAP:
        message = (
            f"the model expects this mask to overlap little with the truth ({predicted_iou:.2f}); look at it, and "
            "correct it or draw a box"
        )
        yield MaskWarning("low_overlap", predicted_iou, MIN_OVERLAP, message)


def _larger(prompts: Sequence[Prompt], mask: Mask, cut: float) -> Iterator[MaskWarning]:
    """Whether a mask is much larger than the last box, lasso or initial mask, or than lesions are."""
    pointed = [prompt for prompt in prompts if isinstance(prompt, (Box, Lasso, InitialMask)) and prompt.positive]
    last = pointed[-1] if pointed else None
    if last is None:
        if mask.volume_ml > MAX_CLICKED_ML:
            message = f"{mask.volume_ml:.0f} mL is more than most lesions; look at it, and draw a box if it is wrong"
            yield MaskWarning("large", mask.volume_ml, MAX_CLICKED_ML, message)
    elif isinstance(last, InitialMask):
        factor = mask.voxels / last.mask.voxels
        if factor > MAX_GROWTH:
            message = f"the mask is {factor:.1f} times as large as the initial mask; look at it, and correct it"
            yield MaskWarning("growth", factor, MAX_GROWTH, message)
    elif isinstance(last, Lasso):
        beyond = _share_outside_lasso(last, mask)
        if beyond > MAX_BEYOND:
            message = f"{beyond:.0%} of the mask on the lasso's slice lies outside the lasso; look at it and correct it"
            yield MaskWarning("beyond_outline", beyond, MAX_BEYOND, message)
    elif last.bounds_mask:
        if cut > MAX_BEYOND:
            message = (
                f"{cut:.0%} of what the model marks lay outside the box and was cut off: the box is too small, or the "
                "model does not know this structure; look at the mask"
            )
            yield MaskWarning("beyond_box", cut, MAX_BEYOND, message)
    elif not _marked_outside(last, prompts):
        beyond = _share_outside_box(last, mask)
        if beyond > MAX_BEYOND:
            message = f"{beyond:.0%} of the mask lies outside the box; look at it, or let the box bound it"
            yield MaskWarning("beyond_box", beyond, MAX_BEYOND, message)


def _marked_outside(box: Box, prompts: Sequence[Prompt]) -> bool:
    """Whether a foreground prompt lies outside a box: then so may the mask."""
    others = [p.places for p in prompts if p.positive and not isinstance(p, (Box, InitialMask))]
    return any(bool(((places < box.first) | (places > box.last)).any()) for places in others)


def _share_outside_box(box: Box, mask: Mask) -> float:
    """Of a mask, the share outside a box; of a box on a slice, of the mask on that slice."""
    x, y, z = (slice(low, high + 1) for low, high in zip(box.first, box.last, strict=True))
    within = int(np.count_nonzero(mask[x, y, z]))
    if not box.on_slice:
        return 1 - within / mask.voxels
    thin = [low == high for low, high in zip(box.first, box.last, strict=True)]
    whole = [part if flat else slice(None) for part, flat in zip((x, y, z), thin, strict=True)]
    there = int(np.count_nonzero(mask[whole[0], whole[1], whole[2]]))
    return 1 - within / there if there else 0.0


def _share_outside_lasso(lasso: Lasso, mask: Mask) -> float:
    """Of a mask on a lasso's slice, the share outside the lasso."""
    whole = [slice(None)] * 3
    whole[lasso.axis] = slice(lasso.slice_index, lasso.slice_index + 1)
    there = mask[whole[0], whole[1], whole[2]].copy()
    count = int(np.count_nonzero(there))
    places = lasso.places.copy()
    places[:, lasso.axis] = 0
    there[tuple(places.T)] = False
    return int(np.count_nonzero(there)) / count if count else 0.0


def _empty_message(prompts: Sequence[Prompt], cut: float) -> str:
    """What to do about an empty mask, by the prompts that led to it."""
    foreground = [prompt for prompt in prompts if prompt.positive]
    if any(not prompt.positive for prompt in prompts) and not any(isinstance(p, Box) for p in foreground):
        return "the mask is empty: the background prompts left nothing; take one back, or click inside the lesion"
    last = foreground[-1]
    if isinstance(last, Box):
        if cut > 0:
            return (
                "the mask is empty: all that the model marks lies outside the box; check the box's corners, or give it "
                "as a hint (--loose-box; in Python loose=True)"
            )
        return "the mask is empty: the model sees no lesion in the box; check its corners, or click inside the lesion"
    if isinstance(last, InitialMask):
        return "the mask is empty: the model sees no lesion at the initial mask; check that mask, or click the lesion"
    if last.kind in ("scribble", "lasso"):
        return f"the mask is empty: the model sees no lesion under the {last.kind}; check its slice, or draw a box"
    return "the mask is empty: the model sees no lesion here; click nearer the lesion's middle, or draw a box around it"
