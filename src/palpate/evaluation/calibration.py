"""Calibration of a model's probabilities and predicted IoU on held-out patients, by three numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..bundle import Calibration
from ..cohort import LabelledVolume
from ..errors import PromptError, ScanError
from ..predictor import Prediction, Predictor
from ..randomness import counted_rng
from ..simulation import SEED_WORDS
from .metrics import iou
from .protocol import interact

Floats = npt.NDArray[np.float64]
MAX_VOXELS = 20_000  # of one prediction's, drawn at random
UNCERTAIN = 0.001  # a voxel counts where its probability is at least this; its truth must not choose it
BINS = 10
DECIMALS = 4
LINE = ((-2.0, 2.0), (-5.0, 5.0))  # bounds of log slope and offset: of equal masks both would be infinite


@dataclass(frozen=True)
class Reliability:
    """Predicted against observed, in bins of equal width.

    Attributes:
        predicted: mean prediction of each bin, `[BINS]`; NaN where it is empty.
        observed: mean observation of each bin.
        fraction: of all samples.
        error: expected calibration error, Σ fraction · |predicted - observed| (Naeini et al. 2015).
    """

    predicted: Floats
    observed: Floats
    fraction: Floats
    error: float

    @classmethod
    def of(cls, predicted: npt.ArrayLike, observed: npt.ArrayLike) -> Self:
        """The reliability of predictions 0 to 1 for what was observed, 0 to 1."""
        p, y = np.asarray(predicted, np.float64), np.asarray(observed, np.float64)
        place = np.minimum((p * BINS).astype(int), BINS - 1)
        count = np.bincount(place, minlength=BINS)
        with np.errstate(invalid="ignore"):
            mean, seen = (np.bincount(place, v, BINS) / count for v in (p, y))
        fraction = count / max(1, p.size)
        return cls(mean, seen, fraction, float(np.nansum(fraction * np.abs(mean - seen))))


@dataclass
class Samples:
    """Predictions and truth.

    Attributes:
        voxels: logits of voxels' probabilities, and whether they are target, one pair of arrays a prediction.
        masks: predicted and true intersection over union of each prediction.
        missed: of each prediction, target voxels with a probability below `UNCERTAIN` or outside its patch, and all of
            the target's. No temperature changes them, so they do not count; their fraction is reported.
        too_wide: scans and first prompts whose prompts no crop holds, with the reason.
    """

    voxels: list[tuple[Floats, Floats]] = field(default_factory=list)
    masks: list[tuple[float, float]] = field(default_factory=list)
    missed: list[tuple[int, int]] = field(default_factory=list)
    too_wide: list[str] = field(default_factory=list)

    def add(self, prediction: Prediction, truth: npt.NDArray[np.bool_], rng: np.random.Generator) -> None:
        """Add one mask and some of its uncertain voxels.

        Args:
            prediction: of the model.
            truth: the target, `[X, Y, Z]`.
            rng: draws the voxels.
        """
        from scipy.special import logit

        if prediction.predicted_iou is not None:
            self.masks.append((prediction.predicted_iou, iou(prediction.mask.full(), truth)))
        p = prediction.probability.array
        target = truth[prediction.probability.box]
        whole = int(np.count_nonzero(truth))
        uncertain = p >= UNCERTAIN
        self.missed.append((whole - int(np.count_nonzero(target & uncertain)), whole))
        places = np.flatnonzero(uncertain)
        drawn = places[rng.integers(places.size, size=min(MAX_VOXELS, places.size))] if places.size else places
        logits = logit(p.reshape(-1)[drawn].astype(np.float64).clip(1e-6, 1 - 1e-6))
        self.voxels.append((logits, target.reshape(-1)[drawn].astype(np.float64)))


def sampled(
    predictor: Predictor,
    scans: Iterable[LabelledVolume],
    count: int,
    kinds: Sequence[str],
    seed: int = 0,
) -> Samples:
    """Every mask of a simulated user's prompts, as far as crops hold them, and some of its uncertain voxels.

    Args:
        predictor: runs the model.
        scans: the labelled scans.
        count: prompts a scan and kind.
        kinds: of the first prompt.
        seed: of all draws.
    """
    samples = Samples()
    for scan in scans:
        for kind in kinds:
            try:
                for prompts, prediction in interact(predictor, scan, count, kind, seed):
                    word = SEED_WORDS.get(kind, kind)
                    rng = counted_rng(seed, f"calibration on {scan.name} by {word}", len(prompts))
                    samples.add(prediction, scan.target, rng)
            except PromptError as error:  # a box, or a correction, further out than the widest crop reaches
                samples.too_wide.append(f"{scan.name}, first a {kind}: {error}")
    return samples


def calibrated(samples: Samples) -> Calibration:
    """The temperature, and the line of the predicted IoU, of maximum likelihood; each used only where it errs less.

    Raises:
        ScanError: nothing was sampled.
    """
    from scipy.optimize import minimize, minimize_scalar
    from scipy.special import expit

    if not samples.voxels:
        why = samples.too_wide[0] if samples.too_wide else "no scan of that subset has any target"
        raise ScanError(f"no scan to calibrate on: {why}")
    logits, target = (np.concatenate(parts) for parts in zip(*samples.voxels, strict=True))
    found = minimize_scalar(lambda t: _loss(logits / np.exp(t), target), bounds=(-2, 2), method="bounded")
    temperature = float(np.exp(found.x))
    before, after = (Reliability.of(expit(logits / t), target).error for t in (1.0, temperature))
    record: dict[str, Any] = {
        "predictions": len(samples.voxels),
        "voxels": int(logits.size),
        "voxels' calibration error": [round(before, DECIMALS), round(after, DECIMALS)],
    }
    if samples.missed:
        outside, whole = np.sum(samples.missed, axis=0).tolist()
        record[f"fraction of the targets below a probability of {UNCERTAIN}"] = round(outside / max(1, whole), DECIMALS)
    if samples.too_wide:
        record["simulated users whose prompts no crop holds"] = len(samples.too_wide)
    temperature = temperature if after < before else 1.0
    if not samples.masks:
        return Calibration(temperature=temperature, measured=record)
    predicted, ratio = np.array(samples.masks).T
    x = np.log(predicted.clip(1e-6, 1 - 1e-6)) - np.log1p(-predicted.clip(1e-6, 1 - 1e-6))
    line = minimize(lambda ab: _loss(np.exp(ab[0]) * x + ab[1], ratio), x0=(0.0, 0.0), bounds=LINE).x
    slope, offset = float(np.exp(line[0])), float(line[1])
    errors = [float(np.abs(expit(a * x + b) - ratio).mean()) for a, b in ((1.0, 0.0), (slope, offset))]
    record["predicted IoU's mean error"] = [round(error, DECIMALS) for error in errors]
    if predicted.std() > 0 and ratio.std() > 0:
        correlation = float(np.corrcoef(predicted, ratio)[0, 1])
        record["predicted IoU's correlation with the IoU"] = round(correlation, DECIMALS)
    if errors[1] >= errors[0]:
        slope, offset = 1.0, 0.0
    return Calibration(temperature=temperature, quality_slope=slope, quality_offset=offset, measured=record)


def _loss(logits: Floats, target: Floats) -> float:
    """Mean cross-entropy of logits against targets 0 to 1."""
    return float(np.mean(np.logaddexp(0, logits) - target * logits))
