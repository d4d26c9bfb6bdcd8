"""The one inference path: prompts taken in one by one, at whatever size the lesion has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch

from . import zoom
from .bundle import Bundle, load
from .devices import Precision, check_precision, device_named
from .errors import ModelError, PromptError
from .frame import Frame
from .looks import Looks
from .prompts import Box, Click, InitialMask, Prompt, check_inside
from .volume import Grid, Index3, Mask, Probability, Volume
from .zoom import View

BUDGET = 32  # crops of a refinement: on two cores five seconds of tiny
KEPT = 32  # last predictions of a list that undoing finds again; going back further takes the prompts in anew
KEPT_ANSWERS = 2**30  # bytes of these; the last one is kept, however large


@dataclass(frozen=True, eq=False)
class Prediction:
    """What came back for a list of prompts.

    Attributes:
        mask: the lesion, on the scan's grid.
        probability: the model's probability, on the scan's grid, before the threshold of 0.5.
        view: the crop that all of the lesion was looked at in, and how wide it is.
        quality: the intersection over union with the truth that the model expects of the mask, 0 to 1; None: it
            expects nothing.
        crops: how many crops were looked at for the last prompt.
        temperature: what the probability's logit is divided by before it says how sure it is (`Calibration`).
    """

    mask: Mask
    probability: Probability
    view: View
    quality: float | None
    crops: int
    temperature: float = 1.0

    @cached_property
    def uncertainty(self) -> Probability:
        """How unsure each voxel is, on the scan's grid: entropy of its calibrated probability, bits (0 sure, 1 not)."""
        from scipy.special import entr, expit, logit

        calibrated = expit(logit(self.probability.array.clip(1e-6, 1 - 1e-6)) / self.temperature)
        bits = ((entr(calibrated) + entr(1 - calibrated)) / np.log(2)).astype(np.float32)
        # A patch ends where there is nothing; what is as little inside it must not show where that was.
        bits[self.probability.array < zoom.NEGLIGIBLE] = 0
        return replace(self.probability, array=bits)

    @property
    def frame(self) -> Frame:
        """The crop that all of the lesion was looked at in."""
        return self.view.frame


@dataclass(frozen=True, eq=False)
class _Answer:
    """A prediction, and what was seen in its view before closer looks, `[D, H, W]`; None: there were none."""

    prediction: Prediction
    seen: torch.Tensor | None

    @property
    def bytes(self) -> int:
        """What it takes to keep it."""
        made = self.prediction
        patches = [made.probability, made.mask, *([made.uncertainty] if "uncertainty" in made.__dict__ else [])]
        arrays = sum(patch.array.nbytes for patch in patches)
        return arrays + (0 if self.seen is None else self.seen.numel() * self.seen.element_size())


@dataclass
class _Step:
    """A prompt that was taken in, and the answer after it; None: no longer kept."""

    prompt: Prompt
    answer: _Answer | None


class Predictor:
    """Answers prompts on one scan at a time.

    Args:
        model: a bundle in memory, a bundled model's name, or a file.
        device: "cpu", "cuda", "cuda:1", ... or "auto": a CUDA device where there is one.
        precision: arithmetic of the network; the weights stay in float32.
        zoom: look wider where a mask reaches its crop's border, and closer at small lesions and along the edges of
            large ones, as far as the model was trained for (`Preprocessing.zoom`); False: one crop at its own spacing.
        budget: most crops of a refinement along a large lesion's edge, a prompt; 0: none.

    Attributes:
        bundle: the model.
        device: where it computes.
        precision: as given.
        looks: the network at work on the scan.

    Raises:
        ModelError: see `bundle.load`; or a model that takes no prompts.
        DeviceError: no such device or precision here.
    """

    def __init__(
        self,
        model: Bundle | str | Path = "palpate-tiny",
        device: str = "auto",
        precision: Precision = "float32",
        zoom: bool = True,
        budget: int = BUDGET,
    ):
        self.device = device_named(device)
        check_precision(precision)
        if budget < 0:
            raise PromptError(f"a budget of {budget} crops; give 0 or more")
        self.precision: Precision = precision
        self._zoom, self._budget = zoom, budget
        self.bundle = model if isinstance(model, Bundle) else load(model)
        if self.bundle.network.prompt is None:
            raise ModelError(
                f"{self.bundle.provenance.name}: an automatic model takes no prompts: use `palpate propose`, or "
                "palpate.Proposer in Python"
            )
        self.network = self.bundle.network.to(self.device)
        self.looks = Looks(self.network, self.bundle.preprocessing, self.device, precision)
        self._volume: Volume | None = None
        self._steps: list[_Step] = []

    @property
    def zoom(self) -> bool:
        """Whether it was asked to look wider and closer."""
        return self._zoom

    @property
    def budget(self) -> int:
        """Most crops of a refinement, a prompt."""
        return self._budget

    @property
    def progress(self) -> Callable[[float], None] | None:
        """Called with the share of a crop's encoding that is done, 0 to 1; None: nobody is told."""
        return self.looks.progress

    @progress.setter
    def progress(self, report: Callable[[float], None] | None) -> None:
        self.looks.progress = report

    @property
    def knows_priors(self) -> bool:
        """Whether the model takes prompts beyond positive clicks: a mask to refine among them."""
        return self.network.dense is not None

    @property
    def zooms(self) -> bool:
        """Whether it looks wider and closer: it was asked to, and the model was trained for it."""
        return self._range != (1.0, 1.0)

    @property
    def volume(self) -> Volume | None:
        """The scan that it is turned to; None: none yet."""
        return self._volume

    def set_volume(self, volume: Volume) -> None:
        """Turn to a scan; nothing is computed before the first prompt."""
        self._volume = volume
        self.looks.turn_to(volume)
        self._steps = []

    def predict(self, prompts: Sequence[Prompt]) -> Prediction:
        """The lesion under an ordered list of prompts.

        The mask is a function of the scan, the model and the list. A network with dense prompts takes them in one by
        one, each with the mask so far as its prior; what a beginning of the list gave is kept, so that a further
        prompt costs its own step only. A network without takes them all at once, as the paper does.

        Raises:
            PromptError: no scan set, no prompt, one outside the scan, prompts that no crop holds or that contradict
                each other, or a kind that the model does not know.
        """
        if self._volume is None:
            raise PromptError("no scan yet: call set_volume before predict")
        check_inside(prompts, self._volume.grid)
        prompts = tuple(prompts)
        if not self.knows_priors:
            return self._at_once(prompts, self._volume)
        del self._steps[self._known(prompts) :]
        if not self._steps:  # what comes before any word of where the lesion is, is taken in with it
            self._steps = [_Step(prompt, None) for prompt in takewhile(_only_denies, prompts)]
        for count in range(len(self._steps) + 1, len(prompts) + 1):
            self._steps.append(_Step(prompts[count - 1], self._taken_in(prompts[:count], self._volume)))
            self._forget()
        answer = self._steps[-1].answer
        assert answer is not None
        return answer.prediction

    def _forget(self) -> None:
        """Let go of all answers but the last few."""
        taken = 0
        for kept, step in enumerate(reversed(self._steps)):
            if step.answer is None:
                break
            taken += step.answer.bytes
            if kept and (kept >= KEPT or taken > KEPT_ANSWERS):
                step.answer = None

    def _known(self, prompts: tuple[Prompt, ...]) -> int:
        """How many of the prompts, from the first, were taken in already and have their prediction still."""
        same = 0
        for step, prompt in zip(self._steps, prompts, strict=False):
            if step.prompt is not prompt and step.prompt != prompt:
                break
            same += 1
        while same and self._steps[same - 1].answer is None:
            same -= 1
        return same

    def _at_once(self, prompts: tuple[Prompt, ...], volume: Volume) -> Prediction:
        if not all(isinstance(prompt, Click) and prompt.positive for prompt in prompts):
            raise PromptError(
                f"{self.bundle.provenance.name} knows positive clicks only, as the paper's network does; "
                "train a model with dense prompts (docs/prompts.md) for anything else"
            )
        settings, (_, widest) = self.bundle.preprocessing, self._range
        if widest > 1:
            first = zoom.planned(volume.grid, prompts, settings, 1.0, widest)
        else:
            first = View(Frame.following(volume.grid, prompts, settings), 1.0)
        view, seen, crops = self._settled(first, prompts, True, lambda v: self.looks.seen(v, prompts))
        return self._prediction(view, seen, zoom.spread(view, seen, volume.source), crops)

    def _taken_in(self, prompts: tuple[Prompt, ...], volume: Volume) -> _Answer:
        """The answer to the last of the prompts, after all the others."""
        before = self._steps[-1].answer if self._steps else None
        start, last = before.prediction.probability if before is not None else None, prompts[-1]
        held = (
            None if isinstance(last, (Box, InitialMask)) else start
        )  # what a correction only adds to, or only takes from
        if isinstance(last, InitialMask):
            start = Probability(last.mask.array.astype(np.float32), last.mask.start, volume.grid, volume.source)
        first = self._planned(prompts, before, volume.grid)
        anew = before is None or first is not before.prediction.view
        view, seen, crops = self._settled(first, prompts, anew, lambda v: self.looks.seen(v, prompts, start))
        if view.scale <= 1:
            probability, kept = self._near(view, seen, start if held is None else None, volume), None
        else:
            known = None if start is None else self.looks.cut(start, view)
            if before is not None and before.seen is not None and view is before.prediction.view:
                known = known if isinstance(last, InitialMask) else before.seen
            features = self.looks.encoded(view.frame)
            probability, more = self._refined(view, seen, prompts, start, known)
            self.looks.keep(view.frame, features)  # closer looks may have taken its place
            crops += more
            kept = seen if known is None else _moved_on(seen, known, None if held is None else last.positive)
        if held is not None:
            probability = zoom.held(last.positive, probability, held, view.frame)
            probability, more = self._heard(probability, prompts, view)
            crops += more
        if view.scale > 1 or held is not None:
            seen = self.looks.cut(probability, view)
        return _Answer(self._prediction(view, seen, probability, crops), kept)

    def _near(self, view: View, seen: torch.Tensor, start: Probability | None, volume: Volume) -> Probability:
        """A look from near on the scan's grid; a box or a prior speaks of its crop, and what lies outside stays."""
        if start is None:
            return zoom.spread(view, seen, volume.source)
        mosaic = zoom.Mosaic(start)
        mosaic.add(view.frame, seen, torch.ones_like(seen))
        return mosaic.merged()

    def _planned(self, prompts: tuple[Prompt, ...], before: _Answer | None, grid: Grid) -> View:
        """The view before while it holds the last prompt, else one that holds all of them, and the mask so far."""
        settings, (_, widest) = self.bundle.preprocessing, self._range
        if before is None:
            return zoom.planned(grid, prompts, settings, 1.0, widest)
        view, bounds = before.prediction.view, before.prediction.mask.bounds
        if view.frame.holds(prompts[-1], settings.margin):
            return view
        if widest > 1 and bounds is not None:
            with suppress(PromptError):  # all of the mask may be more than any crop holds; the prompts are not
                return zoom.planned(grid, (*prompts, Box(*bounds)), settings, view.scale, widest)
        return zoom.planned(grid, prompts, settings, view.scale, widest)

    def _settled(
        self, view: View, prompts: Sequence[Prompt], anew: bool, look: Callable[[View], torch.Tensor]
    ) -> tuple[View, torch.Tensor, int]:
        """The view in which the mask ends before the crop does, what is seen in it, and how many were tried.

        A view that was planned anew is moved, once, to a lesion that it cuts and could hold. A small lesion is looked
        at from nearer too; the look that the model expects more of is taken.
        """
        settings, (closest, widest) = self.bundle.preprocessing, self._range
        seen, crops = look(view), 1
        if anew and view.scale < widest and zoom.reaches_border(seen, view.frame):
            moved = zoom.moved(view, seen, prompts, settings)
            if moved is not None:
                again, crops = look(moved), crops + 1
                if zoom.drawn(again) and not zoom.reaches_border(again, moved.frame):
                    view, seen = moved, again
        scale, ends = view.scale, not zoom.reaches_border(seen, view.frame)
        while scale < widest and not ends:
            scale = min(scale * zoom.STEP, widest)
            further = zoom.around(view, seen, prompts, settings, scale)
            again, crops = look(further), crops + 1
            if zoom.drawn(again):  # what draws nothing, where a nearer look drew something, says nothing
                view, seen, ends = further, again, not zoom.reaches_border(again, further.frame)
        best, expected = (view, seen), self.looks.expected(view, seen)
        near = zoom.closer(view, seen, prompts, settings, closest) if anew and view.scale <= 1 else None
        if near is not None:
            again = look(near)
            crops += 1
            better = self.looks.expected(near, again)
            ends = zoom.drawn(again) and not zoom.reaches_border(again, near.frame)
            if ends and (better is None or expected is None or better > expected):
                best, expected = (near, again), better
        return *best, crops

    def _refined(
        self,
        view: View,
        seen: torch.Tensor,
        prompts: tuple[Prompt, ...],
        start: Probability | None,
        known: torch.Tensor | None,
    ) -> tuple[Probability, int]:
        """A look from afar, put together with what was known and closer looks along the edge; how many these were.

        Where the last prompt changed nothing of the look from afar, what it started from stays.

        Args:
            view: the look's crop.
            seen: the look, `[D, H, W]`.
            prompts: all so far.
            start: what was known before the last prompt, on the scan's grid; None: nothing.
            known: the look from afar before the last prompt, in the same crop, or what was known of it; None: nothing.
        """
        assert self._volume is not None
        if start is None or known is None:
            base = zoom.spread(view, seen, self._volume.source)
        else:
            mosaic = zoom.Mosaic(start)
            mosaic.add(view.frame, seen, zoom.changed(seen, known))
            base = mosaic.merged()
        worth, settings = zoom.doubtful(seen, known), self.bundle.preprocessing
        tiles = zoom.tiles(view, worth, prompts[-1], prompts[0], settings, self.budget)
        mosaic = zoom.Mosaic(base)
        for tile in tiles:
            mosaic.add(tile.frame, self.looks.seen(tile, prompts, base), zoom.weight(tile.frame.size).to(self.device))
        return mosaic.merged(), len(tiles)

    def _heard(self, probability: Probability, prompts: Sequence[Prompt], view: View) -> tuple[Probability, int]:
        """A click that was not heeded is asked again, in crops around its very voxel, until it is; how many looks.

        First from nearer: a crop's voxels are wider than many a scan's, and what lies between two of them is drawn as
        both say. Then alone, from near to far, since what others say, a box above all, may drown it; the mask so far
        knows of them. At last with the others and without that mask. Only the first of these counts in all of its
        crop, the others about their click; and none that loses an earlier click, or more than half of the lesion. Where
        no look heeds it, the one that comes nearest to that counts.
        """
        assert self._volume is not None
        last, (closest, widest) = prompts[-1], self._range
        if not isinstance(last, Click) or closest >= widest:
            return probability, 0
        given, best, crops = probability, probability, 0
        voxels = _voxels(given)
        right = [p for p in prompts[:-1] if isinstance(p, Click) and _said(p, given) > 0.5]
        nearest, further = min(view.scale, 1.0), min(zoom.STEP, widest)
        asked: list[tuple[float, Sequence[Prompt], Probability | None, Callable[[Index3], torch.Tensor]]] = []
        if closest < nearest:
            asked.append((max(closest, nearest / zoom.STEP), prompts, given, zoom.weight))
        asked += [(scale, (last,), given, zoom.weight_about) for scale in dict.fromkeys((closest, 1.0, further))]
        asked.append((further, prompts, None, zoom.weight_about))
        for scale, told, known, weigh in asked:
            if _said(last, best) > 0.5:
                break
            again = View(Frame.centred(self._volume.grid, last.index, self.bundle.preprocessing.zoomed(scale)), scale)
            mosaic = zoom.Mosaic(given)
            mosaic.add(again.frame, self.looks.seen(again, told, known), weigh(again.frame.size).to(self.device))
            held = zoom.held(last.positive, mosaic.merged(), given, again.frame)
            crops += 1
            harmless = all(_said(click, held) > 0.5 for click in right)
            if harmless and _voxels(held) >= voxels / 2 and _said(last, held) > _said(last, best):
                best = held
        return best, crops

    def _prediction(self, view: View, seen: torch.Tensor, probability: Probability, crops: int) -> Prediction:
        read, quality = self.bundle.calibration, self.looks.expected(view, seen)
        if quality is not None:
            logit = float(np.log(max(quality, 1e-9)) - np.log(max(1 - quality, 1e-9)))
            quality = float(1 / (1 + np.exp(-(read.quality_slope * logit + read.quality_offset))))
        mask = probability.threshold()
        for array in (mask.array, probability.array):
            array.setflags(write=False)  # the next prompt starts from them, and so does the same list asked again
        return Prediction(mask, probability, view, quality, crops, read.temperature)

    @property
    def _range(self) -> tuple[float, float]:
        return self.bundle.preprocessing.zoom if self.zoom else (1.0, 1.0)


def _moved_on(seen: torch.Tensor, known: torch.Tensor, positive: bool | None) -> torch.Tensor:
    """What the next look from afar is compared with, `[D, H, W]`: many small steps are a large one.

    Args:
        seen: the look from afar.
        known: what it was compared with; where it changed too little to be taken over, that stays.
        positive: the side that a correction is held to; None: it was none.
    """
    moved = torch.where(zoom.changed(seen, known) > 0, seen, known)
    if positive is None:
        return moved
    return torch.maximum(moved, known) if positive else torch.minimum(moved, known)


def _said(click: Click, probability: Probability) -> float:
    """How likely it is at a click's voxel that the click is right."""
    x, y, z = click.index
    value = float(probability[x : x + 1, y : y + 1, z : z + 1].item())
    return value if click.positive else float(np.nextafter(1 - value, 1))  # at 0.5, a voxel is none


def _voxels(probability: Probability) -> int:
    return int(np.count_nonzero(probability.array > 0.5))


def _only_denies(prompt: Prompt) -> bool:
    """Whether a prompt says nothing of where the lesion is."""
    return not isinstance(prompt, (Box, InitialMask)) and not prompt.positive
