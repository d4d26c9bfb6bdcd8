"""Lesions proposed on whole scans, without a prompt (the paper's automatic variant, Table 2).

A scan is resampled once, as a whole, to the model's spacing; windows of the model's crop slide over it, each normalised
by itself, as a crop is; their probabilities are blended and brought back to the scan's own grid. What exceeds 0.5 there
falls into connected pieces, and each piece is a proposal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .bundle import Bundle, load
from .devices import Precision, arithmetic, check_precision, device_named
from .errors import ModelError, SettingsError
from .extras import needed
from .frame import Frame
from .lesions import connected_components
from .prompts import Click
from .volume import Index3, Mask, Probability, Volume

LEAST_ML = 0.1  # a ball 5.8 mm wide: smaller pieces are dropped, unless asked for
OVERLAP = 0.5  # of neighbouring windows, as a share of their edge


@dataclass(frozen=True, eq=False)
class Proposal:
    """A connected piece of what the model takes for lesion.

    Attributes:
        mask: the piece, on the scan's grid.
        score: the mean of the model's probability over the piece, 0.5 to 1. It puts the proposals of one model in
            order; it is not calibrated: of proposals with score 0.9, no one says that nine in ten are lesions.
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
    """Looks for lesions by itself.

    Args:
        model: a bundle in memory, or an automatic model's file.
        device: "cpu", "cuda", "cuda:1", ... or "auto": a CUDA device where there is one.
        precision: arithmetic of the network; the weights stay in float32.

    Attributes:
        progress: called with the share of the windows that is done, 0 to 1; None: nobody is told.

    Raises:
        ModelError: see `bundle.load`; or a model that answers prompts.
        DeviceError: no such device or precision here.
        SettingsError: the package monai is missing.
    """

    progress: Callable[[float], None] | None = None

    def __init__(self, model: Bundle | str | Path, device: str = "auto", precision: Precision = "float32"):
        self.device = device_named(device)
        check_precision(precision)
        self.precision: Precision = precision
        self.bundle = model if isinstance(model, Bundle) else load(model)
        if self.bundle.network.prompt is not None:
            raise ModelError(
                f"{self.bundle.provenance.name}: answers prompts and proposes nothing by itself; train an automatic "
                "model: `palpate train PREPARED --preset PRESET --automatic --out RUN` (docs/automatic.md)"
            )
        self.network = self.bundle.network.to(self.device)
        self._slide = sliding_window()

    def propose(self, volume: Volume, least_ml: float = LEAST_ML) -> list[Proposal]:
        """What the model takes for lesions in a scan, the highest score first.

        Args:
            volume: the scan.
            least_ml: pieces smaller than this are dropped, mL.

        Raises:
            SettingsError: see `check_least`.
        """
        check_least(least_ml)
        return proposals(self.probability(volume), least_ml)

    def probability(self, volume: Volume) -> Probability:
        """The lesion's probability on the whole of a scan's own grid.

        Windows overlap by half and count most in their middle (a Gaussian of an eighth of their edge). A scan smaller
        than a window lies in the middle of one; what is outside the scan is zero after normalisation and not counted.
        """
        settings = self.bundle.preprocessing
        frame = Frame.whole(volume.grid, settings)
        values, inside = frame.extract(volume.array)
        both = torch.stack([values, inside.float()])[None]
        del values, inside
        total, done = windows(frame.size, settings.crop), 0

        def look(window: Tensor) -> Tensor:
            nonlocal done
            seen = self._seen(window)
            done += 1
            if self.progress is not None:
                self.progress(done / total)
            return seen

        with torch.inference_mode():
            blended = self._slide(
                both, settings.crop, 1, look, OVERLAP, mode="gaussian", sw_device=self.device, device="cpu"
            )
        del both
        return frame.spread(blended[0, 0], volume.source)

    def _seen(self, window: Tensor) -> Tensor:
        """A window's values, and whether they lie in the scan, `[1, 2, D, H, W]`, to probability `[1, 1, D, H, W]`."""
        image = self.bundle.preprocessing.normalisation.apply(window[0, 0], window[0, 1] > 0.5)[None, None]
        with arithmetic(self.device, self.precision):
            logits = self.network.decode(self.network.encode(image))
        return logits.float().softmax(dim=1)[:, 1:]


def proposals(probability: Probability, least_ml: float = LEAST_ML) -> list[Proposal]:
    """The connected pieces of what exceeds 0.5, the highest score first, of equal scores the largest.

    Voxels that touch by a face, an edge or a corner are connected. Pieces of equal score and size are ordered by place.

    Args:
        probability: on a scan's grid.
        least_ml: pieces smaller than this are dropped, mL.

    Raises:
        SettingsError: see `check_least`.
    """
    check_least(least_ml)
    grid, source = probability.grid, probability.source
    found = []
    for piece in connected_components(probability.array > 0.5):
        x, y, z = (part.start + first for part, first in zip(piece.box, probability.start, strict=True))
        mask = Mask(piece.inside, (x, y, z), grid, source)
        if mask.volume_ml >= least_ml:
            score = probability.array[piece.box][piece.inside].mean(dtype=np.float64)
            found.append(Proposal(mask, float(score)))
    return sorted(found, key=lambda one: (-one.score, -one.mask.voxels, one.mask.start))


def check_least(least_ml: float) -> None:
    """Refuse a least volume that is none; asked before long work.

    Raises:
        SettingsError: it is negative, infinite or not a number.
    """
    if not (math.isfinite(least_ml) and least_ml >= 0):
        raise SettingsError(f"a least volume of {least_ml} mL: give 0 or more")


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
