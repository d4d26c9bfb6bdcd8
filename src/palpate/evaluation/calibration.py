"""Whether a model knows how sure it may be: measured on held-out patients, then corrected by three numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..bundle import Calibration
from ..errors import PromptError, ScanError
from ..predictor import Prediction, Predictor
from ..randomness import counted_rng
from ..volume import Volume
from .metrics import iou
from .protocol import answered

Floats = npt.NDArray[np.float64]
VOXELS = 20_000  # of one prediction's, drawn at random: what doubt there is, not what lies far from any lesion
DOUBTFUL = 0.001  # a voxel counts where the model gives it at least this; what it is in truth must not choose it
BINS = 10
DECIMALS = 4
LINE = ((-2.0, 2.0), (-5.0, 5.0))  # of a slope's logarithm, and of an offset: masks all alike would ask for infinity


@dataclass(frozen=True)
class Reliability:
    """Predicted against observed, in bins of equal width.

    Attributes:
        predicted: mean prediction of each bin, `[BINS]`; NaN where it is empty.
        observed: what was observed there.
        share: of all samples.
        error: expected calibration error, Σ share · |predicted - observed| (Naeini et al. 2015).
    """

    predicted: Floats
    observed: Floats
    share: Floats
    error: float

    @classmethod
    def of(cls, predicted: npt.ArrayLike, observed: npt.ArrayLike) -> Self:
        """The reliability of predictions 0 to 1 for what was observed, 0 to 1."""
        p, y = np.asarray(predicted, np.float64), np.asarray(observed, np.float64)
        place = np.minimum((p * BINS).astype(int), BINS - 1)
        count = np.bincount(place, minlength=BINS)
        with np.errstate(invalid="ignore"):
            mean, seen = (np.bincount(place, v, BINS) / count for v in (p, y))
        share = count / max(1, p.size)
        return cls(mean, seen, share, float(np.nansum(share * np.abs(mean - seen))))


@dataclass
class Samples:
    """What a model said and what was so.

    Attributes:
        voxels: logits of voxels' probabilities, and whether they are lesion, one array a prediction.
        masks: expected and true intersection over union of each prediction.
        missed: of each prediction, lesion voxels that it gives less than `DOUBTFUL`, or that lie outside its patch, and
            all of the lesion's. They do not count, and no temperature could make the map speak of them: their share is
            told instead.
        broken_off: simulated users whose prompts no crop holds, and where: the field of the model, or of its zoom.
    """

    voxels: list[tuple[Floats, Floats]] = field(default_factory=list)
    masks: list[tuple[float, float]] = field(default_factory=list)
    missed: list[tuple[int, int]] = field(default_factory=list)
    broken_off: list[str] = field(default_factory=list)

    def add(self, prediction: Prediction, truth: npt.NDArray[np.bool_], rng: np.random.Generator) -> None:
        """Take in one mask and some of its doubtful voxels.

        Args:
            prediction: what the model said.
            truth: the lesion, `[X, Y, Z]`.
            rng: draws the voxels.
        """
        from scipy.special import logit

        if prediction.predicted_iou is not None:
            self.masks.append((prediction.predicted_iou, iou(prediction.mask.full(), truth)))
        p = prediction.probability.array
        lesion = truth[prediction.probability.box]
        whole = int(np.count_nonzero(truth))
        doubtful = p >= DOUBTFUL
        self.missed.append((whole - int(np.count_nonzero(lesion & doubtful)), whole))
        places = np.flatnonzero(doubtful)
        drawn = places[rng.integers(places.size, size=min(VOXELS, places.size))] if places.size else places
        logits = logit(p.reshape(-1)[drawn].astype(np.float64).clip(1e-6, 1 - 1e-6))
        self.voxels.append((logits, lesion.reshape(-1)[drawn].astype(np.float64)))


def sampled(
    predictor: Predictor,
    scans: Iterable[tuple[str, Volume, npt.NDArray[np.bool_]]],
    count: int,
    kinds: Sequence[str],
    seed: int = 0,
) -> Samples:
    """Every mask of a simulated user's corrections, as far as crops hold its prompts, and some of its doubtful voxels.

    Args:
        predictor: the model at work.
        scans: name, scan, and lesion `[X, Y, Z]` of each.
        count: prompts a scan and kind.
        kinds: of the first prompt.
        seed: of all draws.
    """
    samples = Samples()
    for name, volume, truth in scans:
        for kind in kinds:
            try:
                for prompts, prediction in answered(predictor, name, volume, truth, count, kind, seed):
                    rng = counted_rng(seed, f"calibration on {name} by {kind}", len(prompts))
                    samples.add(prediction, truth, rng)
            except PromptError as error:  # a box, or a correction, further out than the widest crop reaches
                samples.broken_off.append(f"{name}, first a {kind}: {error}")
    return samples


def calibrated(samples: Samples) -> Calibration:
    """The temperature and the quality's line that make a model's words likeliest, each kept only where it errs less.

    Raises:
        ScanError: nothing was sampled.
    """
    from scipy.optimize import minimize, minimize_scalar
    from scipy.special import expit

    if not samples.voxels:
        why = samples.broken_off[0] if samples.broken_off else "the cohort has no lesion in that part"
        raise ScanError(f"no scan to calibrate on: {why}")
    logits, lesion = (np.concatenate(parts) for parts in zip(*samples.voxels, strict=True))
    found = minimize_scalar(lambda t: _loss(logits / np.exp(t), lesion), bounds=(-2, 2), method="bounded")
    temperature = float(np.exp(found.x))
    before, after = (Reliability.of(expit(logits / t), lesion).error for t in (1.0, temperature))
    record: dict[str, Any] = {
        "predictions": len(samples.voxels),
        "voxels": int(logits.size),
        "voxels' calibration error": [round(before, DECIMALS), round(after, DECIMALS)],
    }
    if samples.missed:
        outside, whole = np.sum(samples.missed, axis=0).tolist()
        record[f"share of the lesions given less than {DOUBTFUL}"] = round(outside / max(1, whole), DECIMALS)
    if samples.broken_off:
        record["simulated users whose prompts no crop holds"] = len(samples.broken_off)
    kept = temperature if after < before else 1.0
    if not samples.masks:
        return Calibration(temperature=kept, measured=record)
    expected, ratio = np.array(samples.masks).T
    x = np.log(expected.clip(1e-6, 1 - 1e-6)) - np.log1p(-expected.clip(1e-6, 1 - 1e-6))
    line = minimize(lambda ab: _loss(np.exp(ab[0]) * x + ab[1], ratio), x0=(0.0, 0.0), bounds=LINE).x
    slope, offset = float(np.exp(line[0])), float(line[1])
    errors = [float(np.abs(expit(a * x + b) - ratio).mean()) for a, b in ((1.0, 0.0), (slope, offset))]
    record["expected IoU's mean error"] = [round(error, DECIMALS) for error in errors]
    if expected.std() > 0 and ratio.std() > 0:
        correlation = float(np.corrcoef(expected, ratio)[0, 1])
        record["expected IoU's correlation with the IoU"] = round(correlation, DECIMALS)
    if errors[1] >= errors[0]:
        slope, offset = 1.0, 0.0
    return Calibration(temperature=kept, quality_slope=slope, quality_offset=offset, measured=record)


def _loss(logits: Floats, target: Floats) -> float:
    """Mean cross-entropy of logits against targets 0 to 1."""
    return float(np.mean(np.logaddexp(0, logits) - target * logits))
