"""What a network sees in crops of one scan: a crop is encoded once, and decoded for every prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from .devices import Precision, arithmetic
from .frame import Frame, Preprocessing
from .model import Features, Network
from .prompts import Prompt
from .volume import Patch, Probability, Volume
from .zoom import View

KEPT_BYTES = 2**29  # of crops' features: three of vit_b's, some fifty of tiny's


class Looks:
    """A network at work on one scan at a time.

    Args:
        network: with a prompt encoder, on its device.
        preprocessing: the model's.
        device: where it computes.
        precision: arithmetic of the network; the weights stay in float32.

    Attributes:
        progress: called with the share of a crop's encoding that is done, 0 to 1; None: nobody is told.
    """

    progress: Callable[[float], None] | None = None

    def __init__(self, network: Network, preprocessing: Preprocessing, device: torch.device, precision: Precision):
        self.network, self.preprocessing, self.device, self.precision = network, preprocessing, device, precision
        self._volume: Volume | None = None
        self._features: dict[bytes, Features] = {}  # by place, the one last asked for last
        self._feature_bytes = 0  # of one crop's

    @property
    def kept(self) -> int:
        """How many crops' features are kept."""
        return len(self._features)

    def turn_to(self, volume: Volume) -> None:
        """Look at another scan; what was kept of the one before is let go."""
        self._volume = volume
        self._features = {}

    def seen(self, view: View, prompts: Sequence[Prompt], prior: Patch | None = None) -> Tensor:
        """The lesion's probability `[D, H, W]` in a crop.

        Without a prior a single prompt says little: a model that is asked to (`Preprocessing.mirror`) then looks at
        the crop and at its mirror image, and the two are averaged.
        """
        seen = self._seen(view.frame, prompts, prior)
        if prior is None and self.preprocessing.mirror:
            seen = (seen + self._seen(view.frame.mirrored(), prompts, None).flip(-1)) / 2
        return seen

    def _seen(self, frame: Frame, prompts: Sequence[Prompt], prior: Patch | None) -> Tensor:
        features = self.encoded(frame)
        points, labels = (part.to(self.device) for part in frame.tokens(prompts))
        dense = self.network.dense is not None
        maps = frame.maps(prompts, prior, self.device) if dense else None
        with torch.inference_mode(), arithmetic(self.device, self.precision):
            logits = self.network.decode(features, points, labels if dense else None, maps)
        return logits[0].float().softmax(dim=0)[1]

    def expected(self, view: View, seen: Tensor) -> float | None:
        """The intersection over union expected of what is seen in a view, as the network itself says; None: nothing."""
        if self.network.quality is None:
            return None
        features = self.encoded(view.frame)
        with torch.inference_mode():
            return float(self.network.predict_iou(features, seen[None]).sigmoid())

    def cut(self, probability: Probability, view: View) -> Tensor:
        """A probability in a view's crop, `[D, H, W]`; nothing outside the scan."""
        values, inside = view.frame.extract(probability, self.device)
        return values * inside

    def encoded(self, frame: Frame) -> Features:
        """A crop's features; from now on they are those last asked for, which are let go last."""
        assert self._volume is not None
        key = frame.to_scan.tobytes()
        found = self._features.pop(key, None)
        if found is None:
            image = frame.image(self._volume.array, self.preprocessing.normalisation, self.device)
            self._make_room()
            with torch.inference_mode(), arithmetic(self.device, self.precision), self._told():
                found = self.network.encode(image)
            self._feature_bytes = _size(found)
        self.keep(frame, found)
        return found

    def keep(self, frame: Frame, features: Features) -> None:
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


def _size(features: Features) -> int:
    """Bytes of a crop's features."""
    partial, levels, _ = features.prepared
    return sum(part.numel() * part.element_size() for part in (features.deepest, partial, *levels))
