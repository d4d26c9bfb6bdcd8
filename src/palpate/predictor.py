"""The one inference path: encode a crop once, decode for every prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from .bundle import Bundle, load
from .errors import DeviceError, PromptError
from .frame import Frame
from .model import Features
from .prompts import Click, Prior, Prompt, check_inside
from .volume import Mask, Patch, Probability, Volume

Precision = Literal["float32", "bfloat16", "float16"]
KEPT = 32  # last predictions of a list that undoing finds again; going back further takes the prompts in anew


@dataclass(frozen=True, eq=False)
class Prediction:
    """What came back for a list of prompts.

    Attributes:
        mask: the lesion, on the scan's grid.
        probability: the model's probability, on the scan's grid, before the threshold of 0.5.
        frame: the crop that was looked at.
    """

    mask: Mask
    probability: Probability
    frame: Frame


class Predictor:
    """Answers prompts on one scan at a time.

    Args:
        model: a bundle in memory, a bundled model's name, or a file.
        device: "cpu", "cuda", "cuda:1", ... or "auto": a CUDA device where there is one.
        precision: arithmetic of the network; the weights stay in float32.

    Attributes:
        progress: called with the share of the crop's encoding that is done, 0 to 1; None: nobody is told.

    Raises:
        ModelError: see `bundle.load`.
        DeviceError: no such device or precision here.
    """

    progress: Callable[[float], None] | None = None

    def __init__(
        self, model: Bundle | str | Path = "palpate-tiny", device: str = "auto", precision: Precision = "float32"
    ):
        self.device = _device(device)
        if precision not in get_args(Precision):
            raise DeviceError(f"precision {precision!r} is not one of {', '.join(get_args(Precision))}")
        self.precision: Precision = precision
        self.bundle = model if isinstance(model, Bundle) else load(model)
        self.network = self.bundle.network.to(self.device)
        self._volume: Volume | None = None
        self._frame: Frame | None = None
        self._features: Features | None = None
        self._steps: list[tuple[Prompt, Prediction | None]] = []

    @property
    def knows_priors(self) -> bool:
        """Whether the model takes prompts beyond positive clicks: a mask to refine among them."""
        return self.network.dense is not None

    def set_volume(self, volume: Volume) -> None:
        """Turn to a scan; nothing is computed before the first prompt."""
        self._volume = volume
        self._frame = self._features = None
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
        for count in range(len(self._steps) + 1, len(prompts) + 1):
            self._steps.append((prompts[count - 1], self._step(prompts[:count], self._volume)))
            if count > KEPT:
                self._steps[count - KEPT - 1] = (prompts[count - KEPT - 1], None)
        prediction = self._steps[-1][1]
        assert prediction is not None
        return prediction

    def _known(self, prompts: tuple[Prompt, ...]) -> int:
        """How many of the prompts, from the first, were taken in already and have their prediction still."""
        same = 0
        for (before, _), prompt in zip(self._steps, prompts, strict=False):
            if before is not prompt and before != prompt:
                break
            same += 1
        while same and self._steps[same - 1][1] is None:
            same -= 1
        return same

    def _at_once(self, prompts: tuple[Prompt, ...], volume: Volume) -> Prediction:
        if not all(isinstance(prompt, Click) and prompt.positive for prompt in prompts):
            raise PromptError(
                f"{self.bundle.provenance.name} knows positive clicks only, as the paper's network does; "
                "train a model with dense prompts (docs/prompts.md) for anything else"
            )
        frame = Frame.following(volume.grid, prompts, self.bundle.preprocessing)
        features = self._encoded(frame, volume)
        with torch.inference_mode(), self._arithmetic():
            logits = self.network.decode(features, frame.tokens(prompts)[0].to(self.device))
        return self._prediction(logits, frame, volume)

    def _step(self, prompts: tuple[Prompt, ...], volume: Volume) -> Prediction:
        """Take in the last of the prompts, after all the others."""
        frame = Frame.following(volume.grid, prompts, self.bundle.preprocessing)
        features = self._encoded(frame, volume)
        before = self._steps[-1][1] if self._steps else None
        prior: Patch | None = before.probability if before is not None else None
        if isinstance(prompts[-1], Prior):
            prior = prompts[-1].mask
        maps = frame.maps(prompts, prior, self.device)
        points, labels = (part.to(self.device) for part in frame.tokens(prompts))
        with torch.inference_mode(), self._arithmetic():
            logits = self.network.decode(features, points, labels, maps)
        return self._prediction(logits, frame, volume)

    def _prediction(self, logits: torch.Tensor, frame: Frame, volume: Volume) -> Prediction:
        probability = frame.spread(logits[0].float().softmax(dim=0)[1], volume)
        return Prediction(probability.threshold(), probability, frame)

    def _encoded(self, frame: Frame, volume: Volume) -> Features:
        kept = self._frame
        if self._features is not None and kept is not None and (kept.to_scan == frame.to_scan).all():
            return self._features
        image = frame.image(volume.array, self.bundle.preprocessing.normalisation, self.device)
        self._features = None  # free the old crop's before the new one's are made
        with torch.inference_mode(), self._arithmetic(), self._told():
            self._features = self.network.encode(image)
        self._frame = frame
        return self._features

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

    def _arithmetic(self) -> torch.autocast:
        wanted = getattr(torch, self.precision)
        reduced = self.precision != "float32"
        return torch.autocast(self.device.type, dtype=wanted if reduced else torch.bfloat16, enabled=reduced)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        reason = str(error).splitlines()[0][:120]
        raise DeviceError(f"device {name!r} is not here ({reason}); try --device cpu") from error
    return device
