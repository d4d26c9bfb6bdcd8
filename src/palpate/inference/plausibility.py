"""Why a mask may be wrong, as data: it is empty, larger than what was pointed at, or expected to overlap little.

So is a prompt that changed nothing.

The limits were chosen on validation patients of the bundled model (docs/design/experiments.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..masks import Mask
from ..prompts import Box, InitialMask, Lasso, Prompt
from .bounds import prompts_after
from .reach import REACH_MM, applied_prompts, distance_to, out_of_reach

MIN_OVERLAP = 0.5  # predicted intersection over union below which a mask is doubtful
MAX_CLICKED_ML = 1000.0  # of a mask that clicks and strokes alone point at
MAX_BEYOND = 0.3  # share of a mask outside the box or the outline that it was pointed at with
MAX_BESIDE = 2 / 3  # share of a mask outside the box that bounds it: what is left lies in the margin
MAX_GROWTH = 3.0  # times an initial mask's volume


@dataclass(frozen=True)
class MaskWarning:
    """A reason to doubt a mask.

    Attributes:
        kind: "empty"; "low_overlap": the model expects little; "large": more than lesions are, and nothing but clicks
            and strokes was given; "beyond_box", "beyond_outline": much of the mask lay outside the last box, or lies
            outside the last lasso on its slice; "growth": many times the initial mask; "ignored_background": a
            background prompt that was out of the mask's reach changed nothing.
        value: what was found: an intersection over union, mL, a share of the mask, a factor, or a distance in mm.
        limit: what it may be.
        message: one sentence, with what to do.
    """

    kind: Literal["empty", "low_overlap", "large", "beyond_box", "beyond_outline", "growth", "ignored_background"]
    value: float
    limit: float
    message: str


def mask_warnings(
    prompts: Sequence[Prompt],
    mask: Mask,
    predicted_iou: float | None,
    cut: float,
    ignored: Sequence[int] = (),
    emptied: str | None = None,
) -> tuple[MaskWarning, ...]:
    """The reasons to doubt the mask of some prompts; none for most masks.

    Args:
        prompts: all of them, in their order.
        mask: their mask.
        predicted_iou: the intersection over union with the truth that the model predicts of it; None: it predicts none.
        cut: the share of the model's mask that boxes cut off (`Prediction.cut`).
        ignored: which of the prompts were out of reach (`Prediction.ignored`).
        emptied: why the mask is empty, where the model's was not; None: the model's is what it is.
    """
    applied = applied_prompts(prompts, ignored)
    if mask.empty:
        return (MaskWarning("empty", 0.0, 0.0, emptied or _empty_message(applied, cut)),)
    without_effect = (_ignored(prompts[place], mask) for place in ignored)
    return (*_larger(applied, mask, cut), *_overlap(predicted_iou), *without_effect)


def _ignored(prompt: Prompt, mask: Mask) -> MaskWarning:
    """What to say of a background prompt that was out of reach; the mask may have grown there since."""
    mm, place = distance_to(prompt, mask)
    named = f"the background {prompt.kind} at {','.join(map(str, place))}"
    message = f"{named} lies {mm:.0f} mm outside the mask and changes nothing"
    if not out_of_reach(prompt, mask):
        message = f"{named} changed nothing, since it lay outside the mask when it was given; give it again"
    return MaskWarning("ignored_background", mm, REACH_MM, message)


def dice_of_iou(iou: float) -> float:
    """The Dice of two masks with this intersection over union: people read the one, the network predicts the other."""
    return 2 * iou / (1 + iou)


def _overlap(predicted_iou: float | None) -> Iterator[MaskWarning]:
    if predicted_iou is not None and predicted_iou < MIN_OVERLAP:
        message = (
            f"the model expects a Dice of only {dice_of_iou(predicted_iou):.2f} for this mask; look at it, and correct "
            "it or draw a box"
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
    else:
        yield from _beyond_box(last, prompts, mask, cut)


def _beyond_box(box: Box, prompts: Sequence[Prompt], mask: Mask, cut: float) -> Iterator[MaskWarning]:
    """Whether much of a mask lay outside the last box and was cut off, or lies outside it."""
    beyond = 0.0 if _marked_outside(box, prompts) else _share_outside_box(box, mask)
    limit = MAX_BEYOND
    if box.bounds_mask and cut > MAX_BEYOND:
        beyond, advice = cut, "the box is too small, or the model does not know this structure; look at the mask"
        if _outside_before(box, prompts):
            advice = "prompts before the box mark something outside it; take them back, or draw another box"
        message = f"{cut:.0%} of what the model marks lay outside the box and was cut off: {advice}"
    elif box.bounds_mask:
        limit = MAX_BESIDE
        message = f"only {1 - beyond:.0%} of the mask lies in the box; look at it, and check the box's corners"
    elif box.on_slice:
        message = f"{beyond:.0%} of the mask on the box's slice lies outside the box; look at it and correct it"
    else:
        message = f"{beyond:.0%} of the mask lies outside the box; look at it, or let the box bound it"
    if beyond > limit:
        yield MaskWarning("beyond_box", beyond, limit, message)


def _marked_outside(box: Box, prompts: Sequence[Prompt]) -> bool:
    """Whether a foreground prompt after a box lies outside it: then so may the mask."""
    return any(_points_outside(box, prompt) for prompt in prompts_after(box, prompts))


def _outside_before(box: Box, prompts: Sequence[Prompt]) -> bool:
    """Whether a foreground prompt before a box lies outside it: the box takes back what it marked there."""
    before = prompts[: len(prompts) - len(prompts_after(box, prompts))]
    return any(_points_outside(box, prompt) for prompt in before)


def _points_outside(box: Box, prompt: Prompt) -> bool:
    """Whether a prompt is foreground, marks voxels, and has one outside a box."""
    if not prompt.positive or isinstance(prompt, (Box, InitialMask)):
        return False
    return bool(((prompt.places < box.first) | (prompt.places > box.last)).any())


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
        return f"the mask is empty: {_empty_in_box(last, prompts, cut)}"
    if isinstance(last, InitialMask):
        return "the mask is empty: the model sees no lesion at the initial mask; check that mask, or click the lesion"
    if last.kind in ("scribble", "lasso"):
        return f"the mask is empty: the model sees no lesion under the {last.kind}; check its slice, or draw a box"
    return "the mask is empty: the model sees no lesion here; click nearer the lesion's middle, or draw a box around it"


def _empty_in_box(box: Box, prompts: Sequence[Prompt], cut: float) -> str:
    """Why there is no mask after a box, and what to do about it."""
    if cut == 0:
        return "the model sees no lesion in the box; check its corners, or click inside the lesion"
    if _outside_before(box, prompts):
        return (
            "prompts before the box mark something outside it, and the model sees no lesion in it; take them back, or "
            "click inside the box"
        )
    return (
        "all that the model marks lies outside the box; check the box's corners, or give it as a hint (--loose-box; in "
        "Python loose=True)"
    )
