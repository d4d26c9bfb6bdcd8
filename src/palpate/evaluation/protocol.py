"""How a model is measured: through the Predictor, on the scan's own grid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..predictor import Predictor
from ..prompts import Click
from ..simulation import counted_rng, random_clicks
from ..volume import Volume
from .metrics import dice


class OneClick(NamedTuple):
    """A scan's answer to one random click.

    Attributes:
        name: the scan.
        click: where it was clicked.
        dice: on the whole native grid; lesion outside the crop counts as missed.
    """

    name: str
    click: Click
    dice: float


def one_click(
    predictor: Predictor, scans: Iterable[tuple[str, Volume, npt.NDArray[np.bool_]]], seed: int = 0
) -> Iterator[OneClick]:
    """One voxel of each lesion, drawn at random by `(seed, scan's name)`, clicked (paper, section 4.1).

    Args:
        predictor: the model at work.
        scans: name, scan, and lesion `[X, Y, Z]` of each.
        seed: of the clicks.
    """
    for name, volume, truth in scans:
        click = random_clicks(truth, 1, counted_rng(seed, f"one click on {name}"))[0]
        predictor.set_volume(volume)
        yield OneClick(name, click, dice(predictor.predict([click]).mask.full(), truth))


def bootstrap_interval(values: npt.ArrayLike, seed: int = 0, draws: int = 10_000) -> tuple[float, float]:
    """A 95 % percentile interval of the mean, by resampling the values (Efron 1979)."""
    sample = np.asarray(values, dtype=np.float64)
    rng = counted_rng(seed, "bootstrap")
    means = sample[rng.integers(sample.size, size=(draws, sample.size))].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5)).tolist()
    return low, high
