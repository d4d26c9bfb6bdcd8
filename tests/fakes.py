"""A model at work that is no network: it draws what a test wants, and writes down what it was asked."""

import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from palpate.bundle import Calibration
from palpate.frame import Preprocessing
from palpate.inference import Capabilities, InferenceSettings, Runtime, View
from palpate.inference.crop_prompts import CropPrompts
from palpate.inference.runtime import KINDS, EncodedCrop
from palpate.phantom import oblique_affine
from palpate.predictor import Predictor
from palpate.volume import Volume
from small import PREPROCESSING

Draw = Callable[[CropPrompts], Tensor]
FAKE_SHA256 = "0" * 64


class FakeRuntime(Runtime):
    """Draws in each crop what `draw` gives for it.

    Args:
        draw: the foreground's probability `[D, H, W]` for prompts in a crop; may be another one later.
        preprocessing: crops, and how wide they may become.
        dense: whether it takes all kinds of prompts; else foreground clicks only.
        predicted_iou: what it predicts, by a view's scale; None: it predicts nothing.
        crop_bytes: what a crop's features take.

    Attributes:
        encoded: the image of each crop that was encoded.
        decoded: the prompts in each crop that was decoded.
    """

    def __init__(
        self,
        draw: Draw,
        preprocessing: Preprocessing = PREPROCESSING,
        *,
        dense: bool = True,
        predicted_iou: Mapping[float, float] | None = None,
        crop_bytes: int = 1000,
    ):
        self.name, self.preprocessing, self.calibration = "fake", preprocessing, Calibration()
        kinds = KINDS if dense else frozenset({"click"})
        self.capabilities = Capabilities(kinds, background=dense, predicts_iou=predicted_iou is not None)
        self.device, self.precision, self.compute = torch.device("cpu"), "float32", threading.RLock()
        self.draw = draw
        self.encoded: list[Tensor] = []
        self.decoded: list[CropPrompts] = []
        self._predicted_iou, self._crop_bytes = predicted_iou, crop_bytes

    def sha256(self) -> str:
        return FAKE_SHA256

    def encode(self, image: Tensor, progress: Callable[[float], None] | None = None) -> EncodedCrop:
        with self.compute:
            for share in (0.5, 1.0):
                if progress is not None:
                    progress(share)
            self.encoded.append(image)
            return EncodedCrop({"scale": 0.0}, self._crop_bytes)

    def decode(self, crop: EncodedCrop, prompts: CropPrompts | None) -> Tensor:
        assert prompts is not None
        with self.compute:
            self.decoded.append(prompts)
            crop.features["scale"] = prompts.view.scale
            return self.draw(prompts)

    def predicted_iou(self, crop: EncodedCrop, probability: Tensor) -> float | None:
        return None if self._predicted_iou is None else self._predicted_iou[crop.features["scale"]]

    @property
    def views(self) -> list[View]:
        """The crop of each decoding."""
        return [prompts.view for prompts in self.decoded]


def truth_in(truth: np.ndarray, blur: bool = False) -> Draw:
    """Draws a truth `[X, Y, Z]`; blurred, no finer than a few of the crop's voxels, as a network does."""

    def draw(prompts: CropPrompts) -> Tensor:
        share = prompts.view.frame.extract(truth)[0]
        if not blur:
            return share
        return torch.nn.functional.avg_pool3d(share[None, None], 5, 1, 2, count_include_pad=False)[0, 0]

    return draw


def balls_around(radius_mm: float) -> Draw:
    """Draws a ball around each foreground prompt but where a background prompt has one, and what it starts from."""

    def draw(prompts: CropPrompts) -> Tensor:
        frame = prompts.view.frame
        spacing = np.linalg.norm(frame.to_scan[:3, :3] * frame.grid.spacing[:, None], axis=0)
        index = np.stack(np.meshgrid(*map(np.arange, frame.size), indexing="ij"), axis=-1)
        drawn = torch.zeros(frame.size)
        if prompts.initial is not None:
            values, inside = frame.extract(prompts.initial)
            drawn = values * inside
        for prompt in prompts.prompts:
            for place in frame.crop_index(prompt.places):
                near = np.linalg.norm((index - place) * spacing, axis=-1) <= radius_mm
                drawn[torch.from_numpy(near)] = 0.9 if prompt.positive else 0.1
        return drawn

    return draw


def faking(draw: Draw, preprocessing: Preprocessing = PREPROCESSING) -> tuple[Predictor, FakeRuntime]:
    """A predictor on a fake model, and the model."""
    runtime = FakeRuntime(draw, preprocessing)
    return Predictor(runtime), runtime


def knowing(
    truth: np.ndarray,
    *,
    dense: bool = True,
    blur: bool = True,
    predicted_iou: Mapping[float, float] | None = None,
    zoom: tuple[float, float] = (0.5, 8.0),
    settings: InferenceSettings | None = None,
) -> tuple[Predictor, FakeRuntime]:
    """A predictor whose model draws the truth of whatever crop it gets, in fields from half to 8 times its own."""
    preprocessing = PREPROCESSING.model_copy(update={"zoom": zoom})
    runtime = FakeRuntime(truth_in(truth, blur), preprocessing, dense=dense, predicted_iou=predicted_iou)
    return Predictor(runtime, settings), runtime


def scales(views: Sequence[View]) -> list[float]:
    """How wide each view is."""
    return [view.scale for view in views]


SHAPE, SPACING = (120, 110, 60), (2.0, 2.0, 4.0)  # of a scan that is larger than a crop of 64 mm
RANGE = PREPROCESSING.model_copy(update={"zoom": (0.5, 8.0)})


def blank_scan(oblique: bool = False) -> Volume:
    """A scan of zeros: a fake model needs no more."""
    affine = oblique_affine(SHAPE, SPACING, orientation="LPI", angles_deg=(9, -5, 8)) if oblique else None
    return Volume(np.zeros(SHAPE, np.int16), np.diag([*SPACING, 1.0]) if affine is None else affine)


def ball(centre: tuple[int, int, int], radius_mm: float, stretch: tuple[float, float, float] = (1, 1, 1)) -> np.ndarray:
    """The voxels of such a scan within a distance of one of them, `[X, Y, Z]`."""
    index = np.indices(SHAPE).T - np.array(centre)
    inside: np.ndarray = ((index * SPACING / np.array(stretch)) ** 2).sum(axis=-1) <= radius_mm**2
    return inside.T
