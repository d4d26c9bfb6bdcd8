"""Protocols of evaluation: through the Predictor, or the Proposer, on each scan's own grid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..automatic import Proposer
from ..cohort import LabelledVolume
from ..predictor import Prediction, Predictor
from ..prompts import Click, Prompt
from ..randomness import counted_rng
from ..simulation import SimulatedUser, UserModel, random_clicks
from ..volume import Volume
from .metrics import dice, iou


class OneClick(NamedTuple):
    """The result of one random click on a scan.

    Attributes:
        name: the scan.
        click: the click.
        dice: on the whole native grid; target outside the crop counts as missed.
    """

    name: str
    click: Click
    dice: float


def one_click(predictor: Predictor, scans: Iterable[LabelledVolume], seed: int = 0) -> Iterator[OneClick]:
    """A click on one voxel of each target, drawn at random by `(seed, scan's name)` (paper, section 4.1).

    Args:
        predictor: runs the model.
        scans: the labelled scans.
        seed: of the clicks.
    """
    for scan in scans:
        click = random_clicks(scan.target, 1, counted_rng(seed, f"one click on {scan.name}"))[0]
        predictor.set_volume(scan.volume)
        yield OneClick(scan.name, click, dice(predictor.predict([click]).mask.full(), scan.target))


class Automatic(NamedTuple):
    """The result of a whole scan without a prompt.

    Attributes:
        name: the scan.
        dice: of all voxels above 0.5 against the whole target, on the whole native grid.
    """

    name: str
    dice: float


def automatic(proposer: Proposer, scans: Iterable[LabelledVolume]) -> Iterator[Automatic]:
    """Each whole scan's probability above 0.5 against its target; nothing is drawn at random.

    Args:
        proposer: runs the model.
        scans: the labelled scans.
    """
    for scan in scans:
        yield Automatic(scan.name, dice(proposer.probability(scan.volume).threshold().full(), scan.target))


class CorrectionEffect(NamedTuple):
    """The effect of a correction.

    Attributes:
        positive: whether it was a foreground prompt.
        followed: of its voxels that were wrong before and whose truth is the prompt's side, the fraction now on it.
        near_before: Dice within 10 mm of the prompt, before it.
        near_after: the same, after it.
    """

    positive: bool
    followed: float
    near_before: float
    near_after: float


class Corrected(NamedTuple):
    """The results of one prompt on a scan, of two, and so on.

    Attributes:
        name: the scan.
        prompts: in their order; fewer than asked where nothing was left to correct.
        dice: after each of as many prompts as were asked, the last one's repeated where nothing was left.
        effects: of each correction that covers a wrong voxel whose truth is the prompt's side.
        predicted_iou: the model's, of the mask after each prompt; empty where it predicts none.
        iou: of the mask after each prompt.
    """

    name: str
    prompts: tuple[Prompt, ...]
    dice: tuple[float, ...]
    effects: tuple[CorrectionEffect, ...]
    predicted_iou: tuple[float, ...]
    iou: tuple[float, ...]


def corrected(
    predictor: Predictor,
    scans: Iterable[LabelledVolume],
    count: int,
    kind: str = "click",
    seed: int = 0,
    user_model: UserModel | None = None,
) -> Iterator[Corrected]:
    """A simulated user's first prompt on each scan, then corrections, each of the mask so far.

    Args:
        predictor: the model at work; it must know negative clicks.
        scans: the labelled scans.
        count: prompts a scan.
        kind: of the first prompt, one of `simulation.FIRST_PROMPT_KINDS`.
        seed: of all draws, with the scan's name.
        user_model: how the user places prompts.
    """
    for scan in scans:
        effects: list[CorrectionEffect] = []
        results: list[tuple[float, float, float | None]] = []
        before: npt.NDArray[np.bool_] | None = None
        prompts: tuple[Prompt, ...] = ()
        for prompts, prediction in interact(predictor, scan, count, kind, seed, user_model):
            mask, last = prediction.mask.full(), prompts[-1]
            results.append((dice(mask, scan.target), iou(mask, scan.target), prediction.predicted_iou))
            if before is not None:
                effect = _effect(last, scan, before, mask)
                effects += [] if effect is None else [effect]
            before = mask
        reached = [value for value, _, _ in results]
        reached += reached[-1:] * (count - len(reached))
        predicted = tuple(value for _, _, value in results if value is not None)
        yield Corrected(scan.name, prompts, tuple(reached), tuple(effects), predicted, tuple(r for _, r, _ in results))


def _effect(
    prompt: Prompt, scan: LabelledVolume, before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_]
) -> CorrectionEffect | None:
    """The effect of a correction on a mask; None where it covers no wrong voxel whose truth is its side."""
    places, side = tuple(prompt.places.T), prompt.positive
    due = (before[places] != side) & (scan.target[places] == side)
    if not due.any():
        return None
    near = _near(prompt, scan.volume)
    near_before, near_after = (dice(mask[near], scan.target[near]) for mask in (before, after))
    return CorrectionEffect(side, float((after[places] == side)[due].mean()), near_before, near_after)


def interact(
    predictor: Predictor,
    scan: LabelledVolume,
    count: int,
    kind: str = "click",
    seed: int = 0,
    user_model: UserModel | None = None,
) -> Iterator[tuple[tuple[Prompt, ...], Prediction]]:
    """A simulated user's prompts so far on one scan and the prediction of them, after each of at most `count`."""
    user = SimulatedUser(scan.target, scan.volume.grid, seed, scan.name, user_model)
    predictor.set_volume(scan.volume)
    prompts: tuple[Prompt, ...] = (user.first(kind),)
    while True:
        prediction = predictor.predict(prompts)
        yield prompts, prediction
        following = user.correction(prediction.mask.full(), prompts) if len(prompts) < count else None
        if following is None:
            return
        prompts = (*prompts, following)


def _near(prompt: Prompt, volume: Volume, mm: float = 10.0) -> tuple[npt.NDArray[np.intp], ...]:
    """The voxels within some millimetres of a prompt's voxels, as indices of the scan's array."""
    from scipy.spatial import KDTree

    reach = np.ceil(mm / volume.spacing).astype(int)
    low = np.maximum(prompt.places.min(axis=0) - reach, 0)
    high = np.minimum(prompt.places.max(axis=0) + reach + 1, volume.shape)
    places = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), axis=-1).reshape(-1, 3)
    distance, _ = KDTree(volume.grid.to_mm(prompt.places)).query(volume.grid.to_mm(places))
    return tuple(places[distance <= mm].T)
