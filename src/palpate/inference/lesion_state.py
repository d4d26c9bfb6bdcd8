"""What a lesion's prompts have led to: each prompt is a pure step from one state to the next.

States are cached by the prompts that lead to them. So a further prompt is one step, and undoing, redoing, replacing and
switching between lesions find what is known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..errors import PromptError
from ..masks import Mask, Probability
from ..prompts import Box, InitialMask, Prompt, check_grid, check_inside
from .blending import (
    PatchBlender,
    one_sided_patch,
    one_sided_update,
    resample_to_scan,
    without,
)
from .bounds import bounded, bounding_boxes
from .cache import Key
from .checks import check_allowed, check_capabilities
from .encoded_scan import EncodedScan
from .plausibility import mask_warnings
from .prediction import Alternative, Prediction
from .progress import Cancel, Progress, ProgressHook
from .reach import background_only, in_order, out_of_reach
from .refinement import changed_region, refine
from .retry import retry_ignored_click
from .views import Chosen, View, ViewPolicy


@dataclass(frozen=True, eq=False)
class LesionState:
    """A lesion after some prompts; nothing of it is ever changed.

    Attributes:
        prompts: in their order.
        applied: those that the answer comes from, in the order in which they were applied (`reach`).
        answer: the answer to them; None: they are background prompts alone, or there is none.
        reference: the wide view's prediction that the next one is compared with, `[D, H, W]`; None: the view is no
            wider than the model's own.
    """

    prompts: tuple[Prompt, ...] = ()
    applied: tuple[Prompt, ...] = ()
    answer: Prediction | None = None
    reference: Tensor | None = None

    @property
    def prediction(self) -> Prediction:
        """The answer to the prompts.

        Raises:
            PromptError: no prompt says where the lesion is.
        """
        if self.answer is None:
            raise PromptError("nothing says where the lesion is; give a foreground click, a box or an initial mask too")
        return self.answer

    @property
    def nbytes(self) -> int:
        """What its arrays take."""
        reference = 0 if self.reference is None else self.reference.numel() * self.reference.element_size()
        return (0 if self.answer is None else self.answer.nbytes) + reference


def predict(
    scan: EncodedScan,
    policy: ViewPolicy,
    budget: int,
    prompts: Sequence[Prompt],
    *,
    forbidden: Mask | None = None,
    progress: ProgressHook | None = None,
    cancel: Cancel | None = None,
) -> LesionState:
    """The state after an ordered list of prompts; it is a function of the scan, the model and the list.

    A model that takes initial masks applies prompts one by one, each to the mask so far; the state after a beginning of
    the list that is cached is not computed again. A model of the paper takes them all at once.

    Args:
        scan: the scan.
        policy: how views are chosen.
        budget: most crops of a refinement.
        prompts: in their order.
        forbidden: where the lesion cannot be, on the scan's grid.
        progress: called with the share that is done, 0 to 1, which never falls.
        cancel: asked now and then whether to stop.

    Raises:
        PromptError: no prompt, one outside the scan or in the forbidden region, prompts that no crop holds or that
            contradict each other, a kind that the model does not take, or a forbidden region on another grid.
        CancelledError: it was cancelled; nothing was changed.
    """
    check_inside(prompts, scan.volume.grid)
    watch = Progress(progress, cancel)
    if forbidden is not None:
        check_grid("the forbidden region", forbidden.grid, scan.volume.grid)
        check_allowed(prompts, forbidden)
    check_capabilities(prompts, scan.runtime)
    keys = state_keys(scan, policy, budget, prompts, forbidden)
    state, count = _known(scan, keys)
    if not scan.runtime.capabilities.takes_initial_mask:
        if count < len(prompts):
            with watch.part(1.0):
                state = _apply_all(scan, policy, tuple(prompts), forbidden, watch)
            scan.cache.put(keys[-1], state, state.nbytes)
        return state
    for number in range(count, len(prompts)):
        with watch.part(1 / (len(prompts) - number)):
            state = apply_prompt(scan, policy, budget, state, prompts[number], forbidden, watch)
        if state.answer is not None:
            scan.cache.put(keys[number], state, state.nbytes)
    return state


def state_keys(
    scan: EncodedScan, policy: ViewPolicy, budget: int, prompts: Sequence[Prompt], forbidden: Mask | None
) -> list[Key]:
    """The cache's key of the state after each of the prompts."""
    region = b"" if forbidden is None else _region_digest(forbidden)
    versions = (scan.rules, policy.rules)
    rules = "" if versions == (1, 1) else f"rules {versions} "  # so states of before there were versions stay
    so_far = hashlib.sha256(f"{policy.zoom} {budget} {rules}".encode() + region).digest()
    keys = []
    for prompt in prompts:
        so_far = hashlib.sha256(so_far + prompt.digest).digest()
        keys.append(Key(scan.number, "state", so_far))
    return keys


def _region_digest(region: Mask) -> bytes:
    """A hash of a region's voxels."""
    cropped = region.cropped()
    found = hashlib.sha256(f"{cropped.start} {cropped.array.shape} ".encode())
    found.update(np.packbits(cropped.array).tobytes())
    return found.digest()


def cached_state(
    scan: EncodedScan, policy: ViewPolicy, budget: int, prompts: Sequence[Prompt], forbidden: Mask | None = None
) -> LesionState | None:
    """The state after some prompts, if `predict` would compute nothing; None: it would."""
    found = scan.cache.get(state_keys(scan, policy, budget, prompts, forbidden)[-1]) if prompts else None
    return found if isinstance(found, LesionState) else None


def _known(scan: EncodedScan, keys: Sequence[Key]) -> tuple[LesionState, int]:
    """The state after as many of the prompts as one is cached of, and how many these are."""
    for count in range(len(keys), 0, -1):
        found = scan.cache.get(keys[count - 1])
        if found is not None:
            assert isinstance(found, LesionState)
            return found, count
    return LesionState(), 0


def apply_prompt(
    scan: EncodedScan,
    policy: ViewPolicy,
    budget: int,
    state: LesionState,
    prompt: Prompt,
    forbidden: Mask | None,
    progress: Progress,
) -> LesionState:
    """The state after a further prompt: a pure step.

    A background prompt before any that says where the lesion is changes nothing yet; it is applied after that one.

    Args:
        scan: the scan.
        policy: how views are chosen.
        budget: most crops of a refinement.
        state: after the prompts before.
        prompt: the further one.
        forbidden: where the lesion cannot be, on the scan's grid.
        progress: of the call.

    Raises:
        PromptError: prompts that no crop holds.
        CancelledError: it was cancelled.
    """
    whole = LesionState((*state.prompts, prompt), state.applied, state.answer, state.reference)
    order = in_order(whole.prompts) if state.answer is None else [len(state.prompts)]
    crops = 0
    for number, place in enumerate(order):
        with progress.part(1 / (len(order) - number)):
            whole = _applied(scan, policy, budget, whole, place, forbidden, progress)
        crops += whole.prediction.crops
    return whole if whole.answer is None else replace(whole, answer=replace(whole.answer, crops=crops))


def _applied(
    scan: EncodedScan,
    policy: ViewPolicy,
    budget: int,
    state: LesionState,
    place: int,
    forbidden: Mask | None,
    progress: Progress,
) -> LesionState:
    """The state after one of its own prompts is applied, or ignored: a background prompt out of reach (`reach`).

    Args:
        scan: the scan.
        policy: how views are chosen.
        budget: most crops of a refinement.
        state: with all prompts, and the answer to those that were applied.
        place: which of the prompts, from 0.
        forbidden: where the lesion cannot be, on the scan's grid.
        progress: of the call.
    """
    prompt = state.prompts[place]
    ignored = () if state.answer is None else state.answer.ignored
    if state.answer is not None and background_only(prompt) and out_of_reach(prompt, state.answer.mask):
        return replace(state, answer=_unchanged(state.answer, state.prompts, (*ignored, place)))
    prompts = (*state.applied, prompt)
    before = None if state.answer is None else state.answer.probability
    initial = _initial(prompt, before, scan)
    chosen, same_view = _choose(scan, policy, state, prompts, initial, progress)
    # A click, a stroke or a lasso corrects the mask before: it only adds to it, or only takes away.
    corrected = None if isinstance(prompt, (Box, InitialMask)) else before
    view, crops = chosen.view, chosen.crops
    if view.scale <= 1:
        probability, reference = _narrow(scan, chosen, initial if corrected is None else None), None
    else:
        known = _reference(scan, state, prompt, initial, view, same_view)
        features = scan.features(view.frame)
        probability, more = refine(scan, view, chosen.probability, prompts, budget, initial, known, progress)
        scan.cache_features(view.frame, features)
        crops += more
        side = None if corrected is None else prompt.positive
        reference = chosen.probability if known is None else _updated_reference(chosen.probability, known, side)
    if corrected is not None:
        probability = one_sided_patch(prompt.positive, probability, corrected, view.frame)
        probability, more = retry_ignored_click(scan, policy, probability, prompts, view, progress)
        crops += more
    probability, cut = bounded(probability, prompts, corrected)
    if not isinstance(prompt, Box) and state.answer is not None:
        cut = state.answer.cut
    if forbidden is not None:
        probability = without(probability, forbidden)
    in_view = chosen.probability
    if view.scale > 1 or corrected is not None or forbidden is not None or bounding_boxes(prompts):
        in_view = scan.crop_probability(probability, view)
    answer = _prediction(scan, state.prompts, view, in_view, probability, crops, cut, ignored, chosen.agreement)
    others = _alternatives(scan, chosen, prompts, forbidden) if corrected is None else ()
    answer = replace(answer, alternatives=others, corrected=corrected is not None)
    return LesionState(state.prompts, prompts, answer, reference)


def _alternatives(
    scan: EncodedScan, chosen: Chosen, prompts: tuple[Prompt, ...], forbidden: Mask | None
) -> tuple[Alternative, ...]:
    """The masks of the views that were not chosen."""
    source = scan.volume.source
    return tuple(
        Alternative(view, probability, _calibrated(iou, chosen.agreement, scan), prompts, source, forbidden)
        for view, probability, iou in chosen.others
    )


def _apply_all(
    scan: EncodedScan, policy: ViewPolicy, prompts: tuple[Prompt, ...], forbidden: Mask | None, progress: Progress
) -> LesionState:
    """The state after prompts that are taken all at once, as the paper does it."""
    chosen = policy.choose(
        policy.all_at_once(scan.volume.grid, prompts),
        prompts,
        True,
        lambda view: _predicted(scan, policy, view, prompts, None, progress),
        scan.predicted_iou,
    )
    view, probability, crops = chosen[:3]
    on_scan = resample_to_scan(view, probability, scan.volume.source)
    if forbidden is not None:
        on_scan = without(on_scan, forbidden)
    answer = _prediction(scan, prompts, view, probability, on_scan, crops, agreement=chosen.agreement)
    answer = replace(answer, alternatives=_alternatives(scan, chosen, prompts, forbidden))
    return LesionState(prompts, prompts, answer)


def _initial(prompt: Prompt, before: Probability | None, scan: EncodedScan) -> Probability | None:
    """What the network starts from: an initial mask that is just given, else the probability so far."""
    if not isinstance(prompt, InitialMask):
        return before
    mask = prompt.mask
    return Probability(mask.array.astype(np.float32), mask.start, scan.volume.grid, scan.volume.source)


def _choose(
    scan: EncodedScan,
    policy: ViewPolicy,
    state: LesionState,
    prompts: tuple[Prompt, ...],
    initial: Probability | None,
    progress: Progress,
) -> tuple[Chosen, bool]:
    """The view after a further prompt, and whether it is the one before."""
    grid, answer = scan.volume.grid, state.answer
    first = policy.first(grid, prompts) if answer is None else policy.next(grid, prompts, answer.view, answer.mask)
    chosen = policy.choose(
        first,
        prompts,
        answer is None or first is not answer.view,
        lambda view: _predicted(scan, policy, view, prompts, initial, progress),
        scan.predicted_iou,
    )
    return chosen, answer is not None and chosen.view is answer.view


def _predicted(
    scan: EncodedScan,
    policy: ViewPolicy,
    view: View,
    prompts: Sequence[Prompt],
    initial: Probability | None,
    progress: Progress,
) -> Tensor:
    """A crop's prediction; where other views may follow, it takes half of the progress that is left."""
    with progress.part(0.5 if policy.zooms else 1.0) as report:
        return scan.predict_crop(view, prompts, initial, report)


def _narrow(scan: EncodedScan, chosen: Chosen, initial: Probability | None) -> Probability:
    """A view that is not wide, on the scan's grid; where a mask so far is given, what lies outside the crop stays."""
    if initial is None:
        return resample_to_scan(chosen.view, chosen.probability, scan.volume.source)
    blender = PatchBlender(initial)
    blender.add(chosen.view.frame, chosen.probability, torch.ones_like(chosen.probability))
    return blender.blended()


def _reference(
    scan: EncodedScan,
    state: LesionState,
    prompt: Prompt,
    initial: Probability | None,
    view: View,
    same_view: bool,
) -> Tensor | None:
    """What a wide view's prediction is compared with: the one before in the same view, else what it started from."""
    if state.reference is not None and same_view and not isinstance(prompt, InitialMask):
        return state.reference
    return None if initial is None else scan.crop_probability(initial, view)


def _updated_reference(probability: Tensor, reference: Tensor, side: bool | None) -> Tensor:
    """The reference of the next wide view, `[D, H, W]`: many small changes add up to a large one.

    Args:
        probability: the wide view's prediction.
        reference: its own reference; where the prediction changed too little to be taken over, that stays.
        side: the side that a correction is held to; None: the prompt was no correction.
    """
    updated = torch.where(changed_region(probability, reference) > 0, probability, reference)
    return updated if side is None else one_sided_update(side, updated, reference)


def _unchanged(answer: Prediction, prompts: Sequence[Prompt], ignored: tuple[int, ...]) -> Prediction:
    """The answer to prompts of which the last one that was applied changes nothing."""
    warnings = mask_warnings(prompts, answer.mask, answer.predicted_iou, answer.cut, ignored)
    return replace(answer, crops=0, ignored=ignored, warnings=warnings)


def _prediction(
    scan: EncodedScan,
    prompts: Sequence[Prompt],
    view: View,
    in_view: Tensor,
    probability: Probability,
    crops: int,
    cut: float = 0.0,
    ignored: tuple[int, ...] = (),
    agreement: float = 1.0,
) -> Prediction:
    """The answer, with what the model predicts of its overlap, as far as views agreed, and calibrated."""
    read, iou = scan.runtime.calibration, _calibrated(scan.predicted_iou(view, in_view), agreement, scan)
    mask = probability.threshold()
    for array in (mask.array, probability.array):
        array.setflags(write=False)  # the next prompt starts from them, and so does the same list asked again
    warnings = mask_warnings(prompts, mask, iou, cut, ignored)
    return Prediction(mask, probability, view, iou, crops, read.temperature, cut, ignored, warnings)


def _calibrated(iou: float | None, agreement: float, scan: EncodedScan) -> float | None:
    """A predicted intersection over union times the agreement of views, by the model's line; None: it predicts none.

    A model that has lost its target is as sure as ever; that its views contradict each other shows it.
    """
    if iou is None:
        return None
    iou, read = iou * agreement, scan.runtime.calibration
    logit = float(np.log(max(iou, 1e-9)) - np.log(max(1 - iou, 1e-9)))
    return float(1 / (1 + np.exp(-(read.quality_slope * logit + read.quality_offset))))
