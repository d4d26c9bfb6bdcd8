"""The one inference path: encode a crop once, decode for every prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch

from . import zoom
from .bundle import Bundle, load
from .devices import Precision, arithmetic, check_precision, device_named
from .errors import ModelError, PromptError
from .frame import Frame
from .model import Features
from .prompts import Box, Click, Prior, Prompt, check_inside
from .volume import Grid, Mask, Patch, Probability, Volume
from .zoom import View

BUDGET = 32  # crops of a refinement: on two cores five seconds of tiny
KEPT_BYTES = 2**29  # of crops' features: three of vit_b's, some fifty of tiny's
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
        temperature: what the probability's logit is divided by before it says how sure it is (`Confidence`).
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
        """What it takes to keep it; its uncertainty, where someone asked for that, included."""
        arrays = 2 * self.prediction.probability.array.nbytes + self.prediction.mask.array.nbytes
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
        progress: called with the share of the crop's encoding that is done, 0 to 1; None: nobody is told.

    Raises:
        ModelError: see `bundle.load`; or a model that takes no prompts.
        DeviceError: no such device or precision here.
    """

    progress: Callable[[float], None] | None = None

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
        self.zoom, self.budget = zoom, budget
        self.bundle = model if isinstance(model, Bundle) else load(model)
        if self.bundle.network.prompt is None:
            raise ModelError(
                f"{self.bundle.provenance.name}: an automatic model takes no prompts: use `palpate segment --auto`, or "
                "palpate.Proposer in Python"
            )
        self.network = self.bundle.network.to(self.device)
        self._volume: Volume | None = None
        self._features: dict[bytes, Features] = {}  # by place, the one last asked for last
        self._feature_bytes = 0  # of one crop's
        self._steps: list[_Step] = []

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
        self._features = {}
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
        prompts = tuple(prompts)
        check_inside(prompts, self._volume.grid)
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
        view, seen, crops = self._settled(first, prompts, True, lambda v: self._seen(v, prompts))
        return self._prediction(view, seen, zoom.spread(view, seen, volume.source), crops)

    def _taken_in(self, prompts: tuple[Prompt, ...], volume: Volume) -> _Answer:
        """The answer to the last of the prompts, after all the others."""
        before = self._steps[-1].answer if self._steps else None
        start, last = before.prediction.probability if before is not None else None, prompts[-1]
        held = None if isinstance(last, (Box, Prior)) else start  # what a correction only adds to, or only takes from
        if isinstance(last, Prior):
            start = Probability(last.mask.array.astype(np.float32), last.mask.start, volume.grid, volume.source)
        first = self._planned(prompts, before, volume.grid)
        anew = before is None or first is not before.prediction.view
        view, seen, crops = self._settled(first, prompts, anew, lambda v: self._seen(v, prompts, start))
        if view.scale <= 1:
            near = zoom.spread(view, seen, volume.source)
            if held is not None:
                near = _as_said(last.positive, near, held, view.frame)
                near, more = self._heard(near, prompts, view)
                seen, crops = self._cut(near, view), crops + more
            elif start is not None:  # a box or a prior speaks of its crop; what lies outside stays
                mosaic = zoom.Mosaic(start)
                mosaic.add(view.frame, seen, torch.ones_like(seen))
                near = mosaic.merged()
            return _Answer(self._prediction(view, seen, near, crops), None)
        known = None if start is None else self._cut(start, view)
        if before is not None and before.seen is not None and view is before.prediction.view:
            known = known if isinstance(last, Prior) else before.seen
        features = self._encoded(view.frame, volume)
        probability, more = self._refined(view, seen, prompts, start, known)
        self._keep(view.frame, features)  # closer looks may have taken its place
        if held is not None:
            probability = _as_said(last.positive, probability, held, view.frame)
            probability, looks = self._heard(probability, prompts, view)
            more += looks
        final = self._cut(probability, view)
        if known is not None:
            # What changed too little to be taken over is compared with what was: many small steps are a large one.
            seen = torch.where(zoom.changed(seen, known) > 0, seen, known)
            if held is not None:
                seen = torch.maximum(seen, known) if last.positive else torch.minimum(seen, known)
        return _Answer(self._prediction(view, final, probability, crops + more), seen)

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
        best, expected = (view, seen), self._expected(view, seen)
        near = zoom.closer(view, seen, prompts, settings, closest) if anew and view.scale <= 1 else None
        if near is not None:
            again = look(near)
            crops += 1
            better = self._expected(near, again)
            ends = zoom.drawn(again) and not zoom.reaches_border(again, near.frame)
            if ends and (better is None or expected is None or better > expected):
                best, expected = (near, again), better
        return *best, crops

    def _expected(self, view: View, seen: torch.Tensor) -> float | None:
        """The intersection over union expected of what is seen in a view, as the network itself says; None: nothing."""
        if self.network.quality is None:
            return None
        assert self._volume is not None
        features = self._encoded(view.frame, self._volume)
        with torch.inference_mode():
            return float(self.network.judge(features, seen[None]).sigmoid())

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
        worth, anchor = zoom.doubtful(seen, known), prompts[0].places[0]
        tiles = zoom.tiles(view, worth, prompts[-1], anchor, self.bundle.preprocessing, self.budget)
        mosaic = zoom.Mosaic(base)
        for tile in tiles:
            mosaic.add(tile.frame, self._seen(tile, prompts, base), zoom.weight(tile.frame.size).to(self.device))
        return mosaic.merged(), len(tiles)

    def _heard(self, probability: Probability, prompts: Sequence[Prompt], view: View) -> tuple[Probability, int]:
        """A click that was not heeded is looked at from nearer, in a crop around its very voxel; how many looks.

        A crop's voxels are wider than many a scan's, and what lies between two of them is drawn as both say.
        """
        assert self._volume is not None
        last, closest = prompts[-1], self._range[0]
        nearest = min(view.scale, 1.0)  # of the crops that the click was looked at in
        if not isinstance(last, Click) or closest >= nearest:
            return probability, 0
        x, y, z = last.index
        if bool(probability[x : x + 1, y : y + 1, z : z + 1] > 0.5) is last.positive:
            return probability, 0
        scale = max(closest, nearest / zoom.STEP)
        settings = self.bundle.preprocessing.zoomed(scale)
        nearer = View(Frame.centred(self._volume.grid, last.index, settings), scale)
        mosaic = zoom.Mosaic(probability)
        look = self._seen(nearer, prompts, probability)
        mosaic.add(nearer.frame, look, zoom.weight(nearer.frame.size).to(self.device))
        return _as_said(last.positive, mosaic.merged(), probability, nearer.frame), 1

    def _cut(self, probability: Probability, view: View) -> torch.Tensor:
        """A probability in a view's crop, `[D, H, W]`; nothing outside the scan."""
        values, inside = view.frame.extract(probability, self.device)
        return values * inside

    def _seen(self, view: View, prompts: Sequence[Prompt], prior: Patch | None = None) -> torch.Tensor:
        """The lesion's probability `[D, H, W]` in a crop."""
        assert self._volume is not None
        features = self._encoded(view.frame, self._volume)
        points, labels = (part.to(self.device) for part in view.frame.tokens(prompts))
        dense = self.network.dense is not None
        maps = view.frame.maps(prompts, prior, self.device) if dense else None
        with torch.inference_mode(), arithmetic(self.device, self.precision):
            logits = self.network.decode(features, points, labels if dense else None, maps)
        return logits[0].float().softmax(dim=0)[1]

    def _prediction(self, view: View, seen: torch.Tensor, probability: Probability, crops: int) -> Prediction:
        read, quality = self.bundle.confidence, self._expected(view, seen)
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

    def _encoded(self, frame: Frame, volume: Volume) -> Features:
        found = self._features.get(frame.to_scan.tobytes())
        if found is None:
            image = frame.image(volume.array, self.bundle.preprocessing.normalisation, self.device)
            self._make_room()
            with torch.inference_mode(), arithmetic(self.device, self.precision), self._told():
                found = self.network.encode(image)
            self._feature_bytes = _size(found)
        self._keep(frame, found)
        return found

    def _keep(self, frame: Frame, features: Features) -> None:
        """Keep a crop's features, as those last asked for."""
        key = frame.to_scan.tobytes()
        if self._features.pop(key, None) is None:
            self._make_room()
        self._features[key] = features

    def _make_room(self) -> None:
        """Let go of features, of the crop not asked for the longest first, until one more crop's fit."""
        while self._features and (len(self._features) + 1) * self._feature_bytes > KEPT_BYTES:
            del self._features[next(iter(self._features))]

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Report each finished block of the encoder."""
        report, blocks = self.progress, self.network.encoder.blocks
        if report is None:
            yield
            return
        shares = {id(block): (number + 1) / len(blocks) for number, block in enumerate(blocks)}
        hooks = [block.register_forward_hook(lambda b, i, o: report(shares[id(b)])) for block in blocks]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _only_denies(prompt: Prompt) -> bool:
    """Whether a prompt says nothing of where the lesion is."""
    return not isinstance(prompt, (Box, Prior)) and not prompt.positive


def _as_said(positive: bool, new: Probability, old: Probability, frame: Frame) -> Probability:
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


def _size(features: Features) -> int:
    """Bytes of a crop's features."""
    partial, levels, _ = features.prepared
    return sum(part.numel() * part.element_size() for part in (features.deepest, partial, *levels))
