"""How a model is measured: through the Predictor, or the Proposer, on the scan's own grid."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..automatic import Proposer
from ..predictor import Prediction, Predictor
from ..prompts import Click, Prompt
from ..randomness import counted_rng
from ..simulation import SimulatedUser, UserModel, random_clicks
from ..volume import Volume
from .metrics import dice, iou


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


class Automatic(NamedTuple):
    """What was found in a scan without a prompt.

    Attributes:
        name: the scan.
        dice: of all that is proposed, of whatever size, against all of the scan's lesion, on the whole native grid.
    """

    name: str
    dice: float


def automatic(proposer: Proposer, scans: Iterable[tuple[str, Volume, npt.NDArray[np.bool_]]]) -> Iterator[Automatic]:
    """The whole of each scan's probability above 0.5, against the truth; nothing is drawn at random.

    Args:
        proposer: the model at work.
        scans: name, scan, and lesion `[X, Y, Z]` of each.
    """
    for name, volume, truth in scans:
        yield Automatic(name, dice(proposer.probability(volume).threshold().full(), truth))


class Heeded(NamedTuple):
    """What a correction did.

    Attributes:
        positive: whether it said lesion.
        followed: share of its voxels that had been wrong, and of which it spoke rightly, that came out as was said.
        near_before: Dice within 10 mm of the click or stroke, before it.
        near_after: the same, after it.
    """

    positive: bool
    followed: float
    near_before: float
    near_after: float


class Corrected(NamedTuple):
    """A scan's answers to one prompt, to two, and so on.

    Attributes:
        name: the scan.
        prompts: in their order; fewer than asked where nothing was left to correct.
        dice: after each of as many prompts as were asked, the last one's repeated where nothing was left.
        heeded: of each correction that named a wrong voxel rightly, what it did.
        quality: what the model expected of the mask after each prompt given; empty where it expects nothing.
        iou: what the mask after each prompt given was.
    """

    name: str
    prompts: tuple[Prompt, ...]
    dice: tuple[float, ...]
    heeded: tuple[Heeded, ...]
    quality: tuple[float, ...]
    iou: tuple[float, ...]


def corrected(
    predictor: Predictor,
    scans: Iterable[tuple[str, Volume, npt.NDArray[np.bool_]]],
    count: int,
    kind: str = "click",
    seed: int = 0,
    user_model: UserModel | None = None,
) -> Iterator[Corrected]:
    """A simulated user's first prompt on each scan, then corrections, each after seeing the mask so far.

    Args:
        predictor: the model at work; it must know negative clicks.
        scans: name, scan, and lesion `[X, Y, Z]` of each.
        count: prompts a scan.
        kind: of the first prompt, one of `simulation.KINDS`.
        seed: of all draws, with the scan's name.
        user_model: how the user points.
    """
    for name, volume, truth in scans:
        heeded: list[Heeded] = []
        answers: list[tuple[float, float, float | None]] = []
        before: npt.NDArray[np.bool_] | None = None
        prompts: tuple[Prompt, ...] = ()
        for prompts, prediction in answered(predictor, name, volume, truth, count, kind, seed, user_model):
            mask, last = prediction.mask.full(), prompts[-1]
            answers.append((dice(mask, truth), iou(mask, truth), prediction.predicted_iou))
            if before is not None:
                named, said = tuple(last.places.T), last.positive
                due = (before[named] != said) & (truth[named] == said)
                if due.any():
                    near = _near(last, volume)
                    values = [dice(m[near], truth[near]) for m in (before, mask)]
                    heeded.append(Heeded(said, float((mask[named] == said)[due].mean()), values[0], values[1]))
            before = mask
        reached = [value for value, _, _ in answers]
        reached += reached[-1:] * (count - len(reached))
        qualities = tuple(quality for _, _, quality in answers if quality is not None)
        ratios = tuple(ratio for _, ratio, _ in answers)
        yield Corrected(name, prompts, tuple(reached), tuple(heeded), qualities, ratios)


def answered(
    predictor: Predictor,
    name: str,
    volume: Volume,
    truth: npt.NDArray[np.bool_],
    count: int,
    kind: str = "click",
    seed: int = 0,
    user_model: UserModel | None = None,
) -> Iterator[tuple[tuple[Prompt, ...], Prediction]]:
    """A simulated user at work on one scan: the prompts so far and the answer to them, `count` times at most."""
    user = SimulatedUser(truth, volume.grid, seed, name, user_model)
    predictor.set_volume(volume)
    prompts: tuple[Prompt, ...] = (user.first(kind),)
    while True:
        prediction = predictor.predict(prompts)
        yield prompts, prediction
        following = user.correction(prediction.mask.full(), prompts) if len(prompts) < count else None
        if following is None:
            return
        prompts = (*prompts, following)


def _near(prompt: Prompt, volume: Volume, mm: float = 10.0) -> tuple[npt.NDArray[np.intp], ...]:
    """The voxels within some millimetres of those that a prompt names, as indices of the scan's array."""
    from scipy.spatial import KDTree

    reach = np.ceil(mm / volume.spacing).astype(int)
    low = np.maximum(prompt.places.min(axis=0) - reach, 0)
    high = np.minimum(prompt.places.max(axis=0) + reach + 1, volume.shape)
    places = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), axis=-1).reshape(-1, 3)
    distance, _ = KDTree(volume.grid.to_mm(prompt.places)).query(volume.grid.to_mm(places))
    return tuple(places[distance <= mm].T)


class Figure(NamedTuple):
    """A measured mean, and how sure it is.

    Attributes:
        dice: mean over all scans and seeds.
        interval: 95 %, by patients: (low, high).
        scans: how many scans.
        patients: how many patients.
    """

    dice: float
    interval: tuple[float, float]
    scans: int
    patients: int

    @classmethod
    def of(cls, rows: Iterable[tuple[str, str, float]]) -> Figure:
        """The figure of rows of (scan, patient, Dice), several a scan if several seeds were clicked."""
        rows = list(rows)
        by_patient: dict[str, list[float]] = defaultdict(list)
        for _, patient, value in rows:
            by_patient[patient].append(value)
        low, high = bootstrap_interval(list(by_patient.values()))
        mean = float(np.mean([value for _, _, value in rows]))
        return cls(mean, (low, high), len({name for name, _, _ in rows}), len(by_patient))

    def record(self) -> dict[str, Any]:
        """Plain data, rounded to what the numbers can carry."""
        interval = [round(edge, 3) for edge in self.interval]
        return {"dice": round(self.dice, 4), "interval": interval, "scans": self.scans, "patients": self.patients}


def bootstrap_interval(groups: Sequence[Sequence[float]], seed: int = 0, draws: int = 10_000) -> tuple[float, float]:
    """A 95 % percentile interval of the mean of all values, by resampling whole groups (Efron 1979).

    Args:
        groups: values that may depend on each other, such as one patient's, lie in one group.
        seed: of the draws.
        draws: how many.
    """
    sums, counts = (np.array([measure(group) for group in groups], dtype=np.float64) for measure in (sum, len))
    rng = counted_rng(seed, "bootstrap")
    drawn = rng.integers(len(groups), size=(draws, len(groups)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5)).tolist()
    return low, high
