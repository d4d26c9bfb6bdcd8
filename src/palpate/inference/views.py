"""Which crop of a scan a lesion is predicted in: planned around prompts, then recentred, widened or narrowed.

A crop sees one field. A mask that reaches its border may go on outside, so the field doubles until it does not, or the
scan ends. A wider view counts where it agrees with the nearer one about what both see: else it has lost the target, and
taken the organ, or the body, for it. A lesion that fills little of its crop is predicted again in a narrower one (not
in the paper).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import PromptError
from ..frame import Frame, Preprocessing, round_half
from ..masks import Mask
from ..prompts import Box, InitialMask, Prompt
from ..resampling import resample
from ..volume import Grid
from .rules import RULES

STEP = 2.0  # how much wider the next field is
TOUCHING = 0.002  # share of a crop's face that a mask covers where it may go on outside; less is a speck
FITTING = 0.8  # longest edge of a mask that its crop cuts, as a share of the crop's, up to which the crop is recentred
AGREEMENT = 0.6  # Dice of two views' masks in the nearer one's crop, from which on the wider one may go on outside
LEAST_AGREEMENT = 0.3  # that the expected overlap is lowered by: masks far apart do not show that neither is right
DOUBTFUL = 0.4  # predicted IoU of a mask below which it is predicted in a wider view too
LIKELY = 0.6  # predicted IoU of the wider view's mask from which on it replaces a doubtful one
SAME = 0.9  # Dice of two views' masks in the nearer one's crop, from which on they are one mask
SMALL = 0.22  # longest edge of a lesion, as a share of the crop's, below which a narrower field is tried


@dataclass(frozen=True)
class View:
    """A crop, and how wide it is.

    Attributes:
        frame: where it lies.
        scale: its voxels' edge, times the model's own.
    """

    frame: Frame
    scale: float


class Candidate(NamedTuple):
    """A view's prediction.

    Attributes:
        view: the crop.
        probability: the foreground's in it, `[D, H, W]`.
        predicted_iou: what the network predicts of its mask, before calibration; None: nothing.
    """

    view: View
    probability: Tensor
    predicted_iou: float | None


class Chosen(NamedTuple):
    """The view that was chosen.

    Attributes:
        view: the crop.
        probability: the foreground's in it, `[D, H, W]`.
        crops: how many crops were predicted to choose it.
        others: predictions of another mask in other views, which were not taken.
        agreement: the least `agreement` of two views in turn that saw a cut mask, or the root of that of two that saw a
            doubtful one, at least `LEAST_AGREEMENT`; 1: none were asked.
    """

    view: View
    probability: Tensor
    crops: int
    others: tuple[Candidate, ...] = ()
    agreement: float = 1.0


@dataclass(frozen=True)
class ViewPolicy:
    """How views are chosen.

    Attributes:
        preprocessing: the model's.
        zoom: whether wider and narrower fields are tried, as far as the model was trained for (`Preprocessing.zoom`).
        rules: version of the rules (`InferenceSettings.rules`). By the first a wider view always counts.
    """

    preprocessing: Preprocessing
    zoom: bool = True
    rules: int = RULES

    @property
    def range(self) -> tuple[float, float]:
        """The narrowest and the widest field, times the model's own."""
        return self.preprocessing.zoom if self.zoom else (1.0, 1.0)

    @property
    def zooms(self) -> bool:
        """Whether any field but the model's own may be chosen."""
        return self.range != (1.0, 1.0)

    def first(self, grid: Grid, prompts: Sequence[Prompt]) -> View:
        """The narrowest view from the model's own on that holds all prompts.

        Raises:
            PromptError: prompts too far apart for the widest field.
        """
        return plan_view(grid, prompts, self.preprocessing, 1.0, self.range[1])

    def all_at_once(self, grid: Grid, prompts: Sequence[Prompt]) -> View:
        """The view of a model that takes all prompts at once, as the paper's does.

        Raises:
            PromptError: prompts too far apart.
        """
        if self.range[1] > 1:
            return self.first(grid, prompts)
        return View(Frame.following(grid, prompts, self.preprocessing), 1.0)

    def next(self, grid: Grid, prompts: Sequence[Prompt], view: View, mask: Mask) -> View:
        """The same view while it holds the last prompt, else one that holds all prompts, and the mask so far.

        Raises:
            PromptError: prompts too far apart for the widest field.
        """
        settings, widest = self.preprocessing, self.range[1]
        if view.frame.holds(prompts[-1], settings.margin):
            return view
        if widest > 1 and mask.bounds is not None:
            with suppress(PromptError):  # no crop may hold all of the mask; the prompts are another matter
                return plan_view(grid, (*prompts, Box(*mask.bounds)), settings, view.scale, widest)
        return plan_view(grid, prompts, settings, view.scale, widest)

    def choose(
        self,
        view: View,
        prompts: Sequence[Prompt],
        new: bool,
        predict: Callable[[View], Tensor],
        predicted_iou: Callable[[View, Tensor], float | None],
    ) -> Chosen:
        """The view in which the mask ends before the crop does.

        A new view is recentred, once, on a lesion that it cuts and could hold. A mask that is cut is predicted in wider
        fields, as long as these agree with it about what both see; a doubtful one that is not cut, in one. A small
        lesion is predicted in a narrower field too; of the two the prediction is taken whose intersection over union is
        predicted higher.

        Args:
            view: the crop to begin with.
            prompts: which lesion it is.
            new: whether the crop was planned anew for the last prompt; a correction stays in its view.
            predict: the foreground's probability `[D, H, W]` in a view.
            predicted_iou: what the network predicts for a probability in a view; None: nothing.
        """
        chosen = self._recentred(Chosen(view, predict(view), 1), prompts, new, predict)
        cut = reaches_border(chosen.probability, chosen.view.frame)
        if cut:
            chosen = self._widened(chosen, prompts, predict, predicted_iou)
        elif new and self.rules > 1:
            chosen = self._looked_at_wider(chosen, prompts, predict, predicted_iou)
        if new and chosen.view.scale <= 1:
            chosen = self._narrowed(chosen, prompts, predict, predicted_iou)
        others = (other for other in chosen.others if not _same(other, chosen))
        return chosen._replace(
            others=tuple(sorted(others, key=lambda other: -(other.predicted_iou or 0))),
            agreement=max(chosen.agreement, LEAST_AGREEMENT),
        )

    def _recentred(
        self, chosen: Chosen, prompts: Sequence[Prompt], new: bool, predict: Callable[[View], Tensor]
    ) -> Chosen:
        view, probability, crops = chosen[:3]
        if not new or view.scale >= self.range[1] or not reaches_border(probability, view.frame):
            return chosen
        centred = recentre(view, probability, prompts, self.preprocessing)
        if centred is None:
            return chosen
        again = predict(centred)
        if has_foreground(again) and not reaches_border(again, centred.frame):
            return Chosen(centred, again, crops + 1)
        return Chosen(view, probability, crops + 1)

    def _widened(
        self,
        chosen: Chosen,
        prompts: Sequence[Prompt],
        predict: Callable[[View], Tensor],
        predicted_iou: Callable[[View, Tensor], float | None],
    ) -> Chosen:
        view, probability, crops, others, agreed = chosen
        scale, ends, widest = view.scale, False, self.range[1]
        while scale < widest and not ends:
            scale = min(scale * STEP, widest)
            wider = fit_to(view, probability, prompts, self.preprocessing, scale)
            again, crops = predict(wider), crops + 1
            if not has_foreground(again):  # where a narrower field had a mask, this is no evidence
                continue
            shared = agreement(view, probability, wider, again) if self.rules > 1 else 1.0
            if shared < AGREEMENT:
                found, near = (Candidate(v, p, predicted_iou(v, p)) for v, p in ((wider, again), (view, probability)))
                if not _much_likelier(found, near):
                    others, agreed = (*others, found), min(agreed, shared)
                    break
            else:
                agreed = min(agreed, shared)
            view, probability, ends = wider, again, not reaches_border(again, wider.frame)
        return Chosen(view, probability, crops, others, agreed)

    def _looked_at_wider(
        self,
        chosen: Chosen,
        prompts: Sequence[Prompt],
        predict: Callable[[View], Tensor],
        predicted_iou: Callable[[View, Tensor], float | None],
    ) -> Chosen:
        """A doubtful mask of clicks and strokes that ends inside its crop: a large target may look like nothing there.

        Boxes and initial masks say how large the target is.
        """
        view, probability, crops, others, _ = chosen
        if view.scale >= self.range[1] or any(isinstance(prompt, (Box, InitialMask)) for prompt in prompts):
            return chosen
        near = Candidate(view, probability, predicted_iou(view, probability))
        if not _is_doubtful(near):
            return chosen
        wider = fit_to(view, probability, prompts, self.preprocessing, min(view.scale * STEP, self.range[1]))
        again = predict(wider)
        if not has_foreground(again):
            return chosen._replace(crops=crops + 1)
        found = Candidate(wider, again, predicted_iou(wider, again))
        agreed = agreement(view, probability, wider, again)
        if agreed < SAME and _much_likelier(found, near) and not reaches_border(again, wider.frame):
            return Chosen(wider, again, crops + 1, (*others, near))
        # Of two that are the same the finer one. A mask that ends by itself is contradicted less than one that is cut.
        return Chosen(view, probability, crops + 1, (*others, found), agreed**0.5)

    def _narrowed(
        self,
        chosen: Chosen,
        prompts: Sequence[Prompt],
        predict: Callable[[View], Tensor],
        predicted_iou: Callable[[View, Tensor], float | None],
    ) -> Chosen:
        view, probability, crops, others, agreed = chosen
        narrower = zoom_in(view, probability, prompts, self.preprocessing, self.range[0])
        if narrower is None:
            return chosen
        expected = predicted_iou(view, probability)
        again = predict(narrower)
        better = predicted_iou(narrower, again)
        ends = has_foreground(again) and not reaches_border(again, narrower.frame)
        if ends and (better is None or expected is None or better > expected):
            return Chosen(narrower, again, crops + 1, others, agreed)
        if has_foreground(again):
            others = (*others, Candidate(narrower, again, better))
        return Chosen(view, probability, crops + 1, others, agreed)


def agreement(near: View, probability: Tensor, wider: View, again: Tensor) -> float:
    """Dice of two views' masks in the nearer one's crop, as far as that lies in the scan and in the wider one; 0 to 1.

    Args:
        near: the nearer view.
        probability: the foreground's in it, `[D, H, W]`.
        wider: the wider view.
        again: the foreground's in that, `[D, H, W]`.
    """
    place = wider.frame.from_scan @ near.frame.to_scan
    (seen,), both = resample((again,), wider.frame.size, place, near.frame.size, again.device)
    _, inside = resample((), near.frame.grid.shape, near.frame.to_scan, near.frame.size, again.device)
    one, other = ((values > 0.5) & both & inside for values in (probability, seen))
    return float(2 * (one & other).sum() / (one.sum() + other.sum()).clamp_min(1))


def _same(other: Candidate, chosen: Chosen) -> bool:
    """Whether a prediction is all but the one that was chosen."""
    first, second = (other.view, other.probability), (chosen.view, chosen.probability)
    near, wider = sorted((first, second), key=lambda each: each[0].scale)
    return agreement(*near, *wider) >= SAME


def _is_doubtful(candidate: Candidate) -> bool:
    return candidate.predicted_iou is not None and candidate.predicted_iou < DOUBTFUL


def _much_likelier(wider: Candidate, near: Candidate) -> bool:
    """Whether a wider view is taken against a nearer one: this is doubtful, and of the model's own field or less."""
    return near.view.scale <= 1 and _is_doubtful(near) and (wider.predicted_iou or 0) >= LIKELY


def plan_view(grid: Grid, prompts: Sequence[Prompt], preprocessing: Preprocessing, scale: float, widest: float) -> View:
    """The narrowest view from `scale` on that holds all prompts.

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


def has_foreground(probability: Tensor) -> bool:
    """Whether there is a mask in a crop's probability."""
    return bool((probability > 0.5).any())


def zoom_in(
    view: View, probability: Tensor, prompts: Sequence[Prompt], preprocessing: Preprocessing, closest: float
) -> View | None:
    """A narrower field for a lesion that fills little of this one; None where it does not, or prompts would not fit."""
    if not has_foreground(probability) or view.scale <= closest or _longest_edge(view, probability) >= SMALL:
        return None
    try:
        return fit_to(view, probability, prompts, preprocessing, max(closest, view.scale / STEP))
    except PromptError:  # they lie too far apart for it
        return None


def recentre(view: View, probability: Tensor, prompts: Sequence[Prompt], preprocessing: Preprocessing) -> View | None:
    """As wide a field around a mask that this one cuts; None where the mask all but fills it, or prompts do not fit."""
    if _longest_edge(view, probability) > FITTING:
        return None
    try:
        return fit_to(view, probability, prompts, preprocessing, view.scale)
    except PromptError:  # they lie too far apart for it
        return None


def _longest_edge(view: View, probability: Tensor) -> float:
    """The longest edge of a mask's bounding box, as a share of its crop's edge."""
    places = torch.nonzero(probability > 0.5)
    extent = (places.amax(dim=0) - places.amin(dim=0) + 1).cpu().numpy() / np.array(view.frame.size)
    return float(extent.max())


def fit_to(
    view: View, probability: Tensor, prompts: Sequence[Prompt], preprocessing: Preprocessing, scale: float
) -> View:
    """A field of another width, around the mask that was predicted in a view and all prompts.

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
    centre = round_half(grid, (both.min(axis=0) + both.max(axis=0)) / 2)
    frame = Frame.centred(grid, np.clip(centre, 0, np.array(grid.shape) - 1), zoomed)
    if not all(frame.holds(prompt, 0.0) for prompt in prompts):
        frame = Frame.around(grid, prompts, zoomed)
    return View(frame, scale)
