"""Lesions proposed on whole scans, without a prompt (the paper's automatic variant, Table 2).

A scan is resampled once, as a whole, to the model's spacing; windows of the model's crop slide over it, each normalised
by itself, as a crop is; their probabilities are blended and brought back to the scan's own grid. What exceeds a
threshold there, 0.5 by default, falls into connected pieces, and each piece is a proposal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .bundle import Bundle
from .errors import ModelError, SettingsError
from .extras import needed
from .frame import Frame, find_padding
from .inference.progress import Cancel, Progress, ProgressHook
from .inference.runtime import Runtime
from .inference.settings import InferenceSettings
from .lesions import THRESHOLD, check_threshold, connected_components
from .masks import Mask, Probability
from .predictor import started
from .prompts import Click
from .volume import Index3, Volume

MIN_VOLUME_ML = 0.1  # a ball 5.8 mm wide: smaller pieces are dropped, unless asked for
OVERLAP = 0.5  # of neighbouring windows, as a share of their edge


@dataclass(frozen=True, eq=False)
class Proposal:
    """A connected piece of what the model takes for lesion.

    Attributes:
        mask: the piece, on the scan's grid.
        score: the mean of the model's probability over the piece, from the threshold to 1. It puts the proposals of one
            model in order. It is not calibrated: of proposals with a score of 0.9, nine in ten need not be lesions.
    """

    mask: Mask
    score: float

    @cached_property
    def click(self) -> Click:
        """The voxel farthest from the piece's surface: a click with which a model that takes prompts can go on."""
        from scipy import ndimage

        inside = np.pad(self.mask.array, 1)
        depth = ndimage.distance_transform_edt(inside, sampling=self.mask.grid.spacing)
        place = np.unravel_index(int(depth.argmax()), inside.shape)
        x, y, z = (int(p) - 1 + s for p, s in zip(place, self.mask.start, strict=True))
        return Click((x, y, z))


class Proposer:
    """Proposes lesions without prompts.

    Args:
        model: settings that name the model; or a bundle in memory, a model at work, or an automatic model's file.
        settings: all other settings, where `model` is none; zoom and budget are for models that take prompts.

    Attributes:
        settings: how it infers.
        runtime: the model at work.

    Raises:
        ModelError: see `bundle.load`; or a model that takes prompts.
        DeviceError: no such device here.
        SettingsError: the package monai is missing.
    """

    def __init__(
        self, model: InferenceSettings | Bundle | Runtime | str | Path, settings: InferenceSettings | None = None
    ):
        self.settings, self.runtime = started(model, settings)
        if not self.runtime.capabilities.promptless:
            raise ModelError(
                f"{self.runtime.name}: takes prompts and proposes nothing by itself; train an automatic "
                "model: `palpate train PREPARED --preset PRESET --automatic --out RUN` (docs/how-to/propose.md)"
            )
        self._slide = sliding_window()

    def propose(
        self,
        volume: Volume,
        min_volume_ml: float = MIN_VOLUME_ML,
        *,
        threshold: float = THRESHOLD,
        progress: ProgressHook | None = None,
    ) -> list[Proposal]:
        """What the model takes for lesions in a scan, the highest score first.

        Args:
            volume: the scan.
            min_volume_ml: smaller pieces are dropped, mL.
            threshold: see `proposals`.
            progress: called with the share of the windows that is done, 0 to 1.

        Raises:
            SettingsError: see `proposals`.
        """
        check_min_volume(min_volume_ml)
        check_threshold(threshold)
        return proposals(self.probability(volume, progress=progress), min_volume_ml, threshold)

    def probability(
        self, volume: Volume, *, progress: ProgressHook | None = None, cancel: Cancel | None = None
    ) -> Probability:
        """The foreground's probability on the whole of a scan's own grid.

        Windows overlap by half and weigh most in their middle (a Gaussian of an eighth of their edge). A scan smaller
        than a window lies in the middle of one; what is outside the scan is zero after normalisation and not counted.

        Args:
            volume: the scan.
            progress: called with the share of the windows that is done, 0 to 1.
            cancel: asked before each window whether to stop.

        Raises:
            CancelledError: it was cancelled.
        """
        settings, watch = self.runtime.preprocessing, Progress(progress, cancel)
        frame = Frame.whole(volume.grid, settings)
        padding = find_padding(volume.array, volume.grid) if self.settings.rules > 1 else None
        values, inside, _ = frame.extract_scan(volume.array, padding)
        both = torch.stack([values, inside.float()])[None]
        del values, inside
        total, done = windows(frame.size, settings.crop), 0

        def predict(window: Tensor) -> Tensor:
            nonlocal done
            with watch.part(1 / (total - done) if done < total else 1.0):
                predicted = self._predict(window)
            done += 1
            return predicted

        with torch.inference_mode():
            blended = self._slide(
                both, settings.crop, 1, predict, OVERLAP, mode="gaussian", sw_device=self.runtime.device, device="cpu"
            )
        del both
        return frame.resample_to_scan(blended[0, 0], volume.source)

    def _predict(self, window: Tensor) -> Tensor:
        """A window's values, and whether they lie in the scan, `[1, 2, D, H, W]`, to probability `[1, 1, D, H, W]`."""
        image = self.runtime.preprocessing.normalisation.apply(window[0, 0], window[0, 1] > 0.5)[None, None]
        return self.runtime.decode(self.runtime.encode(image), None)[None, None]


def proposals(
    probability: Probability, min_volume_ml: float = MIN_VOLUME_ML, threshold: float = THRESHOLD
) -> list[Proposal]:
    """The connected pieces of what exceeds a threshold, the highest score first, of equal scores the largest.

    Voxels that touch by a face, an edge or a corner are connected. Pieces of equal score and size are ordered by place.

    Args:
        probability: on a scan's grid.
        min_volume_ml: pieces smaller than this are dropped, mL.
        threshold: the probability that a voxel of a piece exceeds.

    Raises:
        SettingsError: see `check_min_volume`; or a threshold that is not between 0 and 1.
    """
    check_min_volume(min_volume_ml)
    check_threshold(threshold)
    grid, source = probability.grid, probability.source
    found = []
    for piece in connected_components(probability.array > threshold):
        x, y, z = (part.start + first for part, first in zip(piece.box, probability.start, strict=True))
        mask = Mask(piece.inside, (x, y, z), grid, source)
        if mask.volume_ml >= min_volume_ml:
            score = probability.array[piece.box][piece.inside].mean(dtype=np.float64)
            found.append(Proposal(mask, float(score)))
    return sorted(found, key=lambda one: (-one.score, -one.mask.voxels, one.mask.start))


def check_min_volume(min_volume_ml: float) -> None:
    """Refuse a smallest volume that is none; asked before long work.

    Raises:
        SettingsError: it is negative, infinite or not a number.
    """
    if not (math.isfinite(min_volume_ml) and min_volume_ml >= 0):
        raise SettingsError(f"a smallest volume of {min_volume_ml} mL; give 0 or more")


def windows(size: Index3, crop: Index3) -> int:
    """How many windows slide over a scan of a size, in crop voxels."""
    steps = [max(1, int(c * (1 - OVERLAP))) for c in crop]
    return math.prod(1 + max(0, -(-(n - c) // step)) for n, c, step in zip(size, crop, steps, strict=True))


def sliding_window() -> Any:  # noqa: ANN401 - monai has no types
    """MONAI's sliding window; asked for before long work that will need it.

    Raises:
        SettingsError: the package is missing.
    """
    with needed("monai", "automatic models need"):
        from monai.inferers import sliding_window_inference
    return sliding_window_inference
