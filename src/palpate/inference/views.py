"""Which crop of a scan a lesion is predicted in: planned around prompts, then recentred, widened or narrowed.

A crop sees one field. A mask that reaches its border may go on outside, so the field doubles until it does not, or the
scan ends. A lesion that fills little of its crop is predicted again in a narrower one (not in the paper).
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
from ..prompts import Box, Prompt
from ..volume import Grid

STEP = 2.0  # how much wider the next field is
TOUCHING = 0.002  # share of a crop's face that a mask covers where it may go on outside; less is a speck
FITTING = 0.8  # longest edge of a mask that its crop cuts, as a share of the crop's, up to which the crop is recentred
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


class Chosen(NamedTuple):
    """The view that was chosen.

    Attributes:
        view: the crop.
        probability: the foreground's in it, `[D, H, W]`.
        crops: how many crops were predicted to choose it.
    """

    view: View
    probability: Tensor
    crops: int


@dataclass(frozen=True)
class ViewPolicy:
    """How views are chosen.

    Attributes:
        preprocessing: the model's.
        zoom: whether wider and narrower fields are tried, as far as the model was trained for (`Preprocessing.zoom`).
    """

    preprocessing: Preprocessing
    zoom: bool = True

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

        A new view is recentred, once, on a lesion that it cuts and could hold. A small lesion is predicted in a
        narrower field too; of the two the prediction is taken whose intersection over union is predicted higher.

        Args:
            view: the crop to begin with.
            prompts: which lesion it is.
            new: whether the crop was planned anew for the last prompt; a correction stays in its view.
            predict: the foreground's probability `[D, H, W]` in a view.
            predicted_iou: what the network predicts for a probability in a view; None: nothing.
        """
        chosen = self._recentred(Chosen(view, predict(view), 1), prompts, new, predict)
        chosen = self._widened(chosen, prompts, predict)
        if new and chosen.view.scale <= 1:
            return self._narrowed(chosen, prompts, predict, predicted_iou)
        return chosen

    def _recentred(
        self, chosen: Chosen, prompts: Sequence[Prompt], new: bool, predict: Callable[[View], Tensor]
    ) -> Chosen:
        view, probability, crops = chosen
        if not new or view.scale >= self.range[1] or not reaches_border(probability, view.frame):
            return chosen
        centred = recentre(view, probability, prompts, self.preprocessing)
        if centred is None:
            return chosen
        again = predict(centred)
        if has_foreground(again) and not reaches_border(again, centred.frame):
            return Chosen(centred, again, crops + 1)
        return Chosen(view, probability, crops + 1)

    def _widened(self, chosen: Chosen, prompts: Sequence[Prompt], predict: Callable[[View], Tensor]) -> Chosen:
        view, probability, crops = chosen
        scale, ends, widest = view.scale, not reaches_border(probability, view.frame), self.range[1]
        while scale < widest and not ends:
            scale = min(scale * STEP, widest)
            wider = fit_to(view, probability, prompts, self.preprocessing, scale)
            again, crops = predict(wider), crops + 1
            if has_foreground(again):  # an empty prediction, where a narrower field had a mask, is no evidence
                view, probability, ends = wider, again, not reaches_border(again, wider.frame)
        return Chosen(view, probability, crops)

    def _narrowed(
        self,
        chosen: Chosen,
        prompts: Sequence[Prompt],
        predict: Callable[[View], Tensor],
        predicted_iou: Callable[[View, Tensor], float | None],
    ) -> Chosen:
        view, probability, crops = chosen
        narrower = zoom_in(view, probability, prompts, self.preprocessing, self.range[0])
        if narrower is None:
            return chosen
        expected = predicted_iou(view, probability)
        again = predict(narrower)
        better = predicted_iou(narrower, again)
        ends = has_foreground(again) and not reaches_border(again, narrower.frame)
        if ends and (better is None or expected is None or better > expected):
            return Chosen(narrower, again, crops + 1)
        return Chosen(view, probability, crops + 1)


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
