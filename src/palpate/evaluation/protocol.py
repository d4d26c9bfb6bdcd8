"""Protocols of evaluation: through the Predictor, or the Proposer, on each scan's own grid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from ..automatic import Proposer
from ..cohort import LabelledVolume
from ..masks import Mask
from ..predictor import Predictor
from ..prompts import Click, Prompt
from ..randomness import counted_rng
from ..simulation import SimulatedUser, UserModel, random_clicks
from ..volume import Volume
from .metrics import dice, iou

AXIS_ORDERS = {  # how clients send arrays without an orientation: the order of the axes, and which are reversed
    "reversed order": ((2, 1, 0), (False, False, False)),
    "next axis first": ((1, 2, 0), (False, False, False)),
    "all reversed": ((0, 1, 2), (True, True, True)),
    "swapped, two reversed": ((1, 0, 2), (True, False, True)),
}


class Answer(Protocol):
    """What an answer to prompts must have to be evaluated."""

    @property
    def mask(self) -> Mask:
        """On the scan's grid."""

    @property
    def predicted_iou(self) -> float | None:
        """The intersection over union with the truth that is predicted of the mask; None: none is predicted."""


AnswerT_co = TypeVar("AnswerT_co", bound=Answer, covariant=True)


class Answering(Protocol[AnswerT_co]):
    """What answers prompts on a scan: a `Predictor`, or a baseline."""

    def set_volume(self, volume: Volume) -> None:
        """Turn to a scan."""

    def predict(self, prompts: Sequence[Prompt]) -> AnswerT_co:
        """The answer to an ordered list of prompts."""


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


def in_axis_orders(predictor: Answering[Answer], scan: LabelledVolume, seed: int = 0) -> Iterator[tuple[str, float]]:
    """The Dice of one click on a scan as it is, then on its array in other axis orders, without an orientation.

    The click is the same voxel throughout. A client that knows no orientation sends spacings alone.

    Args:
        predictor: answers prompts.
        scan: the labelled scan.
        seed: of the click, as in `one_click`.
    """
    click = random_clicks(scan.target, 1, counted_rng(seed, f"one click on {scan.name}"))[0]
    where = np.zeros(scan.volume.shape, bool)
    where[click.index] = True
    as_it_is = (scan.volume, scan.target, where)
    others = ((name, _reordered(scan, where, *how)) for name, how in AXIS_ORDERS.items())
    for name, (volume, target, clicked) in [("as it is", as_it_is), *others]:
        x, y, z = np.argwhere(clicked)[0].tolist()
        predictor.set_volume(volume)
        yield name, dice(predictor.predict([Click((x, y, z))]).mask.full(), target)


def _reordered(
    scan: LabelledVolume, clicked: npt.NDArray[np.bool_], order: tuple[int, ...], reverse: tuple[bool, ...]
) -> tuple[Volume, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """A scan, its target and a clicked voxel with other array axes; of its grid the spacings alone remain."""
    steps = tuple(slice(None, None, -1 if flip else 1) for flip in reverse)
    arrays = [np.transpose(array, order)[steps].copy() for array in (scan.volume.full(), scan.target, clicked)]
    spacing = scan.volume.spacing[list(order)]
    return Volume(arrays[0], np.diag([*spacing, 1.0]), unit=scan.volume.unit), arrays[1], arrays[2]


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
        volumes_ml: of the mask after each prompt.
        target_ml: volume of the target.
    """

    name: str
    prompts: tuple[Prompt, ...]
    dice: tuple[float, ...]
    effects: tuple[CorrectionEffect, ...]
    predicted_iou: tuple[float, ...]
    iou: tuple[float, ...]
    volumes_ml: tuple[float, ...]
    target_ml: float


def corrected(
    predictor: Answering[Answer],
    scans: Iterable[LabelledVolume],
    count: int,
    kind: str = "click",
    seed: int = 0,
    user_model: UserModel | None = None,
) -> Iterator[Corrected]:
    """A simulated user's first prompt on each scan, then corrections, each of the mask so far.

    Args:
        predictor: answers prompts; it must know negative clicks.
        scans: the labelled scans.
        count: prompts a scan.
        kind: of the first prompt, one of `simulation.FIRST_PROMPT_KINDS`.
        seed: of all draws, with the scan's name.
        user_model: how the user places prompts.
    """
    for scan in scans:
        effects: list[CorrectionEffect] = []
        results: list[tuple[float, float, float | None, float]] = []
        before: npt.NDArray[np.bool_] | None = None
        prompts: tuple[Prompt, ...] = ()
        for prompts, prediction in interact(predictor, scan, count, kind, seed, user_model):
            mask, last = prediction.mask.full(), prompts[-1]
            volume_ml = prediction.mask.volume_ml
            results.append((dice(mask, scan.target), iou(mask, scan.target), prediction.predicted_iou, volume_ml))
            if before is not None:
                effect = _effect(last, scan, before, mask)
                effects += [] if effect is None else [effect]
            before = mask
        reached, overlaps, expected, volumes = zip(*results, strict=True)
        reached += reached[-1:] * (count - len(reached))
        predicted = tuple(value for value in expected if value is not None)
        target_ml = float(np.count_nonzero(scan.target)) * scan.volume.grid.voxel_ml
        yield Corrected(scan.name, prompts, reached, tuple(effects), predicted, overlaps, volumes, target_ml)


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
    predictor: Answering[AnswerT_co],
    scan: LabelledVolume,
    count: int,
    kind: str = "click",
    seed: int = 0,
    user_model: UserModel | None = None,
) -> Iterator[tuple[tuple[Prompt, ...], AnswerT_co]]:
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
