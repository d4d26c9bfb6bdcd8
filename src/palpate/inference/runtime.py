"""A model at work in one process: what it can do, and the two calls that compute."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from ..bundle import Bundle, Calibration
from ..devices import Precision, arithmetic, check_precision, device_named
from ..frame import Preprocessing
from ..model import Features, NetworkConfig
from .crop_prompts import CropPrompts, decode_logits, foreground_probability

KINDS = frozenset({"click", "box", "scribble", "lasso", "initial_mask"})  # `Prompt.kind` of each


@dataclass(frozen=True)
class Capabilities:
    """What a model can do.

    Attributes:
        prompt_kinds: the kinds of prompts that it takes, of `KINDS`; none of them: it is automatic.
        background: whether it takes background prompts too.
        predicts_iou: whether it predicts the intersection over union of its masks with the truth.
    """

    prompt_kinds: frozenset[str]
    background: bool
    predicts_iou: bool

    @classmethod
    def of(cls, config: NetworkConfig) -> Self:
        """Those of a network."""
        dense = config.dense_width > 0 and not config.promptless
        kinds = KINDS if dense else frozenset() if config.promptless else frozenset({"click"})
        return cls(kinds, background=dense, predicts_iou=config.quality_width > 0)

    @property
    def promptless(self) -> bool:
        """Whether it is automatic: it takes no prompt."""
        return not self.prompt_kinds

    @property
    def takes_initial_mask(self) -> bool:
        """Whether a mask can be refined: then prompts are applied one by one, each to the mask so far."""
        return "initial_mask" in self.prompt_kinds


@dataclass(frozen=True, eq=False)
class EncodedCrop:
    """Features of a crop.

    Attributes:
        features: the runtime's own.
        nbytes: what they take.
    """

    features: Any
    nbytes: int


class Runtime(ABC):
    """One model at work in one process.

    Several threads may share it, each with scans and lesions of its own. They share its weights, which nobody changes,
    and one lock (`compute`): one crop is encoded or decoded at a time, since one crop uses all threads of the device.
    So calls take turns crop by crop, and a short one does not wait for all of a long one. The lock of the cache
    (`ByteCache`) is never held while this one is asked for. A progress hook is called with this lock held: it must not
    wait for another thread that uses the runtime.

    Attributes:
        name: what the model calls itself.
        preprocessing: how a scan becomes its input.
        calibration: how its certainty is read.
        capabilities: what it can do.
        device: where its tensors lie.
        precision: its arithmetic.
        compute: the lock.
    """

    name: str
    preprocessing: Preprocessing
    calibration: Calibration
    capabilities: Capabilities
    device: torch.device
    precision: Precision
    compute: threading.RLock

    @abstractmethod
    def sha256(self) -> str:
        """A hash of what its masks come from."""

    @abstractmethod
    def encode(self, image: Tensor, progress: Callable[[float], None] | None = None) -> EncodedCrop:
        """Features of a normalised crop.

        Args:
            image: float32 `[1, 1, D, H, W]`.
            progress: called with the share of the encoding that is done, 0 to 1; what it raises ends the call.
        """

    @abstractmethod
    def decode(self, crop: EncodedCrop, prompts: CropPrompts | None) -> Tensor:
        """The foreground's probability in a crop, float32 `[D, H, W]`.

        Args:
            crop: its features.
            prompts: in the crop; None: of an automatic model.
        """

    @abstractmethod
    def predicted_iou(self, crop: EncodedCrop, probability: Tensor) -> float | None:
        """The intersection over union with the truth that it predicts of a mask, 0 to 1; None: it predicts none.

        Args:
            crop: its features.
            probability: of the foreground, `[D, H, W]`.
        """


class TorchRuntime(Runtime):
    """A network of PyTorch.

    Args:
        bundle: the model. Its network is moved to the device, and is neither trained nor changed.
        device: "cpu", "cuda", "cuda:1", ... or "auto": a CUDA device where there is one.
        precision: arithmetic; the weights stay in float32.
        threads: of this process's arithmetic, for all of its models; None: as it is.

    Attributes:
        bundle: the model.

    Raises:
        DeviceError: no such device or precision here.
    """

    def __init__(
        self, bundle: Bundle, device: str = "auto", precision: Precision = "float32", threads: int | None = None
    ):
        check_precision(precision)
        if threads is not None:
            torch.set_num_threads(threads)
        self.bundle, self.precision, self.device = bundle, precision, device_named(device)
        self.name, self.preprocessing = bundle.provenance.name, bundle.preprocessing
        self.calibration = bundle.calibration
        self.capabilities = Capabilities.of(bundle.network.config)
        self.network = bundle.network.to(self.device)
        self.compute = threading.RLock()

    def sha256(self) -> str:
        """The bundle's."""
        return self._sha256

    @cached_property
    def _sha256(self) -> str:
        return self.bundle.sha256()

    def encode(self, image: Tensor, progress: Callable[[float], None] | None = None) -> EncodedCrop:
        """See `Runtime.encode`; progress comes block by block."""
        with self.compute, torch.inference_mode(), arithmetic(self.device, self.precision):
            features = self.network.encode(image, progress)
        return EncodedCrop(features, _nbytes(features))

    def decode(self, crop: EncodedCrop, prompts: CropPrompts | None) -> Tensor:
        """See `Runtime.decode`."""
        tensors = None if prompts is None else prompts.tensors(self.capabilities.takes_initial_mask, self.device)
        with self.compute:
            with torch.inference_mode(), arithmetic(self.device, self.precision):
                logits = decode_logits(self.network, crop.features, tensors)
            return foreground_probability(logits)[0].clone()  # not a view that holds the background's too

    def predicted_iou(self, crop: EncodedCrop, probability: Tensor) -> float | None:
        """See `Runtime.predicted_iou`."""
        if not self.capabilities.predicts_iou:
            return None
        with self.compute, torch.inference_mode():
            return float(self.network.predict_iou(crop.features, probability[None]).sigmoid())


def _nbytes(features: Features) -> int:
    """Bytes of a crop's features."""
    partial, levels, _ = features.prepared
    image = () if features.image is None else (features.image,)
    return sum(part.numel() * part.element_size() for part in (features.deepest, partial, *levels, *image))
