"""How far a model goes beyond what it was trained on: one record a scan and seed, and what is read off many of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from .figure import Figure, bootstrap_interval
from .protocol import Corrected

RUNAWAY_RATIO, CONFIDENT, GOOD_DICE = 5.0, 0.5, 0.8


class ScanResult(BaseModel):
    """What was measured of one target with one seed; a line of a log."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    part: str = Field(description="which measurement it belongs to")
    kind: str = Field(description="what its figure is counted under: a cohort, a modality, an organ")
    name: str = Field(description="the target's, unique in its part")
    patient: str = Field(description="whose scan it is")
    seed: int = Field(description="of the simulated user")
    dice: tuple[float, ...] = Field(
        min_length=1, description="after each prompt; the last repeated once nothing is wrong"
    )
    iou: tuple[float, ...] = Field((), description="of each mask that was predicted")
    predicted_iou: tuple[float, ...] = Field((), description="the model's, of each mask; none: it predicts none")
    volumes_ml: tuple[float, ...] = Field((), description="of each mask")
    target_ml: float = Field(0.0, ge=0, description="volume of the target")
    followed: tuple[float, ...] = Field(
        (), description="of each correction's wrong voxels, the fraction that followed it"
    )
    baseline: tuple[float, ...] = Field((), description="Dice of region growing after each prompt of its own user")
    tags: dict[str, str] = Field({}, description="what else it is grouped by")
    seconds: float = Field(0.0, ge=0, description="of the processor, that it took")

    @property
    def key(self) -> str:
        """What tells it from all others of a log."""
        return f"{self.part}: {self.name}, seed {self.seed}"

    @classmethod
    def of(
        cls,
        result: Corrected,
        part: str,
        kind: str,
        patient: str,
        seed: int,
        *,
        seconds: float = 0.0,
        baseline: Corrected | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> ScanResult:
        """The record of a simulated user's prompts and corrections, beside which a baseline may have been measured."""
        return cls(
            part=part,
            kind=kind,
            name=result.name,
            patient=patient,
            seed=seed,
            dice=result.dice,
            iou=result.iou,
            predicted_iou=result.predicted_iou,
            volumes_ml=result.volumes_ml,
            target_ml=result.target_ml,
            followed=tuple(effect.followed for effect in result.effects),
            baseline=() if baseline is None else baseline.dice,
            tags=dict(tags or {}),
            seconds=round(seconds, 2),
        )


def grouped(results: Iterable[ScanResult], by: Callable[[ScanResult], str]) -> dict[str, list[ScanResult]]:
    """Records by some text, in the order of the texts."""
    found: dict[str, list[ScanResult]] = defaultdict(list)
    for result in results:
        found[by(result)].append(result)
    return dict(sorted(found.items()))


def dice_after(results: Iterable[ScanResult], prompts: int) -> Figure:
    """Mean Dice after so many prompts, with its interval by patient."""
    return Figure.of((result.name, result.patient, result.dice[prompts - 1]) for result in results)


def baseline_after(results: Iterable[ScanResult], prompts: int) -> Figure:
    """The same of the baseline, where it was measured."""
    return Figure.of((r.name, r.patient, r.baseline[prompts - 1]) for r in results if r.baseline)


def followed_share(results: Iterable[ScanResult]) -> tuple[float, int]:
    """Mean fraction of corrections' wrong voxels that followed, and of how many corrections; NaN of none."""
    shares = [share for result in results for share in result.followed]
    return (float(np.mean(shares)) if shares else float("nan")), len(shares)


def rises(results: Sequence[ScanResult]) -> bool:
    """Whether mean Dice falls after no prompt."""
    means = np.mean([result.dice for result in results], axis=0)
    return bool((np.diff(means) >= 0).all())


class Difference(NamedTuple):
    """The paired difference of two models.

    Attributes:
        mean: Dice of the second less that of the first, over targets and seeds that both were measured on.
        interval: 95 %, by patient; None for a single one.
        pairs: how many.
    """

    mean: float
    interval: tuple[float, float] | None
    pairs: int


def difference(first: Iterable[ScanResult], second: Iterable[ScanResult], prompts: int) -> Difference | None:
    """What the second model gains over the first after so many prompts; None: they share no target."""
    before = {result.key: result for result in first}
    by_patient: dict[str, list[float]] = defaultdict(list)
    for result in second:
        if result.key in before:
            by_patient[result.patient].append(result.dice[prompts - 1] - before[result.key].dice[prompts - 1])
    if not by_patient:
        return None
    groups = list(by_patient.values())
    values = [value for group in groups for value in group]
    return Difference(float(np.mean(values)), bootstrap_interval(groups), len(values))


class Confidence(NamedTuple):
    """How honest the overlap is that a model predicts of its masks. Overlap: intersection over union, as it predicts.

    Attributes:
        masks: how many.
        runaway: how many have more than `RUNAWAY_RATIO` times the target's volume and are given more than `CONFIDENT`.
        error: mean of |predicted - actual overlap|.
        good: how many have a Dice of at least `GOOD_DICE`.
        good_share: of these, the share that is given more than `CONFIDENT`; NaN of none.
        rank_correlation: Spearman's, of predicted overlap with Dice; NaN where either does not vary.
    """

    masks: int
    runaway: int
    error: float
    good: int
    good_share: float
    rank_correlation: float


def confidence(results: Iterable[ScanResult], prompts: int = 1) -> Confidence | None:
    """The confidence in the masks after so many prompts; None where no overlap was predicted of any."""
    from scipy.stats import spearmanr

    at = prompts - 1
    known = [result for result in results if len(result.predicted_iou) > at]
    if not known:
        return None
    predicted, actual, reached = (
        np.array(values) for values in zip(*((r.predicted_iou[at], r.iou[at], r.dice[at]) for r in known), strict=True)
    )
    ratio = np.array([r.volumes_ml[at] / r.target_ml for r in known])
    sure, good = predicted > CONFIDENT, reached >= GOOD_DICE
    varies = len(known) > 1 and np.ptp(predicted) > 0 and np.ptp(reached) > 0
    return Confidence(
        masks=len(known),
        runaway=int(((ratio > RUNAWAY_RATIO) & sure).sum()),
        error=float(np.abs(predicted - actual).mean()),
        good=int(good.sum()),
        good_share=float(sure[good].mean()) if good.any() else float("nan"),
        rank_correlation=float(spearmanr(predicted, reached).statistic) if varies else float("nan"),
    )
