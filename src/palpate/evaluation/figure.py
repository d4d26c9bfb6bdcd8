"""Means with intervals: what scans' values become before they are reported."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..figures import FigureRecord
from ..randomness import counted_rng


class Figure(NamedTuple):
    """A measured mean Dice, and how sure it is.

    Attributes:
        dice: mean over all scans and seeds.
        interval: 95 %, by patients: (low, high); None for a single patient.
        scans: how many scans.
        patients: how many patients.
    """

    dice: float
    interval: tuple[float, float] | None
    scans: int
    patients: int

    @classmethod
    def of(cls, rows: Iterable[tuple[str, str, float]]) -> Figure:
        """The figure of rows of (scan, patient, Dice), several a scan where several seeds were drawn."""
        rows = list(rows)
        by_patient: dict[str, list[float]] = defaultdict(list)
        for _, patient, value in rows:
            by_patient[patient].append(value)
        mean = float(np.mean([value for _, _, value in rows]))
        interval = bootstrap_interval(list(by_patient.values()))
        return cls(mean, interval, len({name for name, _, _ in rows}), len(by_patient))

    def plain(self) -> dict[str, Any]:
        """Plain data, rounded to what the numbers can carry."""
        interval = None if self.interval is None else [round(edge, 3) for edge in self.interval]
        return {"dice": round(self.dice, 4), "interval": interval, "scans": self.scans, "patients": self.patients}

    def record(self, subset: str, protocol: str, **more: Any) -> FigureRecord:
        """The figure as a record; `more`: further fields of it, such as `seeds` and `cohort`."""
        interval = None if self.interval is None else (round(self.interval[0], 3), round(self.interval[1], 3))
        known = {"value": round(self.dice, 4), "interval": interval, "n": self.scans, "patients": self.patients}
        return FigureRecord.model_validate({"subset": subset, "protocol": protocol, **known, **more})


def bootstrap_interval(
    groups: Sequence[Sequence[float]], seed: int = 0, draws: int = 10_000
) -> tuple[float, float] | None:
    """A 95 % percentile interval of the mean of all values, by resampling whole groups (Efron 1979).

    Args:
        groups: values that may depend on each other, such as one patient's, lie in one group.
        seed: of the draws.
        draws: how many.

    Returns:
        Low and high end; None for fewer than two groups, of which every resample is the same.
    """
    if len(groups) < 2:
        return None
    sums, counts = (np.array([total(group) for group in groups], dtype=np.float64) for total in (sum, len))
    rng = counted_rng(seed, "bootstrap")
    drawn = rng.integers(len(groups), size=(draws, len(groups)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5)).tolist()
    return low, high
