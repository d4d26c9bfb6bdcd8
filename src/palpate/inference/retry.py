"""A click that the network ignored, given to it again in crops around its voxel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ..frame import Frame
from ..masks import Probability
from ..prompts import Click, Prompt
from ..volume import Index3
from .blending import PatchBlender, one_sided_patch, weight_inside, weight_near_click
from .encoded_scan import EncodedScan
from .progress import Progress
from .views import STEP, View, ViewPolicy


class _Attempt(NamedTuple):
    """How the click is given again.

    Attributes:
        scale: of the crop around its voxel.
        prompts: the prompts that the network gets.
        initial: whether it gets the mask so far.
        weight: the crop's, by its size.
    """

    scale: float
    prompts: Sequence[Prompt]
    initial: bool
    weight: Callable[[Index3], Tensor]


def retry_ignored_click(
    scan: EncodedScan,
    policy: ViewPolicy,
    probability: Probability,
    prompts: Sequence[Prompt],
    view: View,
    progress: Progress,
) -> tuple[Probability, int]:
    """The probability after the last prompt, a click, has been followed, and how many crops that took.

    Attempts go on until one follows the click. First a narrower crop: a crop's voxels are wider than many a scan's, and
    between two of them both are blended. Then the click alone, from narrow to wide, since others, a box above all, may
    outweigh it; the mask so far knows of them. At last the click with the others and without that mask. Only the first
    of these crops counts as a whole, the others near the click; and none that loses an earlier click, or more than half
    of the lesion. Where no attempt follows the click, the one that comes nearest to that counts.

    Args:
        scan: the scan.
        policy: how wide crops may be.
        probability: after the last prompt, on the scan's grid.
        prompts: all so far.
        view: in which the lesion is predicted.
        progress: of the call.
    """
    last = prompts[-1]
    if not isinstance(last, Click) or not policy.zooms:
        return probability, 0
    best, crops, size = probability, 0, _voxels(probability)
    followed = [p for p in prompts[:-1] if isinstance(p, Click) and probability_at(p, probability) > 0.5]
    for attempt in _attempts(policy, view, prompts):
        if probability_at(last, best) > 0.5:
            break
        crop = View(
            Frame.centred(scan.volume.grid, last.index, policy.preprocessing.zoomed(attempt.scale)), attempt.scale
        )
        with progress.part(0.5) as report:
            predicted = scan.predict_crop(crop, attempt.prompts, probability if attempt.initial else None, report)
        blender = PatchBlender(probability)
        blender.add(crop.frame, predicted, attempt.weight(crop.frame.size).to(predicted.device))
        new = one_sided_patch(last.positive, blender.blended(), probability, crop.frame)
        crops += 1
        harmless = all(probability_at(click, new) > 0.5 for click in followed) and _voxels(new) >= size / 2
        if harmless and probability_at(last, new) > probability_at(last, best):
            best = new
    return best, crops


def _attempts(policy: ViewPolicy, view: View, prompts: Sequence[Prompt]) -> Iterator[_Attempt]:
    (closest, widest), last = policy.range, prompts[-1]
    nearest, wider = min(view.scale, 1.0), min(STEP, widest)
    if closest < nearest:
        yield _Attempt(max(closest, nearest / STEP), prompts, True, weight_inside)
    for scale in dict.fromkeys((closest, 1.0, wider)):
        yield _Attempt(scale, (last,), True, weight_near_click)
    yield _Attempt(wider, prompts, False, weight_near_click)


def probability_at(click: Click, probability: Probability) -> float:
    """How likely it is, at a click's voxel, that the click is right."""
    x, y, z = click.index
    value = float(probability[x : x + 1, y : y + 1, z : z + 1].item())
    return value if click.positive else float(np.nextafter(1 - value, 1))  # at 0.5, a voxel is background


def _voxels(probability: Probability) -> int:
    return int(np.count_nonzero(probability.array > 0.5))
