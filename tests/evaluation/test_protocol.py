"""The protocols of evaluation, against predictors of known masks."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest

from fakes import FakeRuntime, truth_in
from palpate.automatic import Proposer
from palpate.bundle import without_prompt_encoder
from palpate.cohort import LabelledVolume
from palpate.evaluation import automatic, corrected, dice, in_axis_orders, one_click
from palpate.evaluation.protocol import _near
from palpate.frame import Frame
from palpate.inference import View
from palpate.masks import Mask, Probability
from palpate.phantom import make_phantom, oblique_affine
from palpate.predictor import Prediction, Predictor
from palpate.prompts import Click, Prompt, Scribble
from palpate.randomness import counted_rng
from palpate.simulation import UserModel, random_clicks
from palpate.volume import Volume
from small import CPU, small_bundle


def test_one_click_is_a_click_of_the_predictor() -> None:
    made = make_phantom(shape=(48, 48, 32), spacing=(4, 4, 5))
    truth = made.lesion.full()
    predictor = Predictor(small_bundle(), CPU)
    first, again = (
        next(one_click(predictor, [LabelledVolume("a", "p", made.volume, truth)], seed=5)) for _ in range(2)
    )
    assert first == again
    (click,) = random_clicks(truth, 1, counted_rng(5, "one click on a"))
    assert first.click == click
    predictor.set_volume(made.volume)
    assert first.dice == dice(predictor.predict([click]).mask.full(), truth)


class Obeying(Predictor):
    """Draws a fixed mask, and the truth where it was clicked: a ball of a radius around each click."""

    def __init__(self, start: np.ndarray, reach: int):
        super().__init__(FakeRuntime(truth_in(start)))
        self.start, self.reach = start, reach

    def predict(self, prompts: Sequence[Prompt], **_: object) -> Prediction:
        assert self.scan is not None
        mask = self.start.copy()
        for prompt in prompts[1:]:
            far = np.linalg.norm(np.indices(mask.shape).T - prompt.places[0], axis=-1).T
            mask[far <= self.reach] = prompt.positive
        grid = self.scan.volume.grid
        view = View(Frame.centred(grid, (0, 0, 0), self.runtime.preprocessing), 1)
        drawn = Mask(mask, (0, 0, 0), grid)
        return Prediction(drawn, Probability(mask.astype(np.float32), (0, 0, 0), grid), view, 0.7, 1)


def test_corrections_are_evaluated_one_by_one() -> None:
    volume = Volume(np.zeros((20, 20, 20), np.int16), np.diag([2.0, 2.0, 2.0, 1.0]))
    truth, start = np.zeros((20, 20, 20), bool), np.zeros((20, 20, 20), bool)
    truth[4:12, 4:12, 4:12] = True
    start[8:16, 4:12, 4:12] = True
    steady = UserModel(jitter_mm=0, error_rate=0)
    (obeyed,) = corrected(Obeying(start, 3), [LabelledVolume("a", "p", volume, truth)], 5, user_model=steady)
    assert len(obeyed.prompts) == len(obeyed.dice) == len(obeyed.iou) == len(obeyed.predicted_iou) == 5
    assert obeyed.dice[0] == pytest.approx(0.5)
    assert obeyed.iou[0] == pytest.approx(1 / 3)
    assert (obeyed.volumes_ml[0], obeyed.target_ml) == pytest.approx((8**3 * 8 / 1000, 8**3 * 8 / 1000))
    assert len(obeyed.volumes_ml) == 5
    assert len(obeyed.effects) == 4
    assert all(step.followed for step in obeyed.effects)
    assert {step.positive for step in obeyed.effects} == {True, False}
    assert all(step.near_after > step.near_before for step in obeyed.effects)
    (ignored,) = corrected(Obeying(start, -1), [LabelledVolume("a", "p", volume, truth)], 3, user_model=steady)
    assert not any(step.followed for step in ignored.effects)
    assert all(step.near_after == step.near_before for step in ignored.effects)
    (perfect,) = corrected(Obeying(truth, 1), [LabelledVolume("a", "p", volume, truth)], 4)
    assert perfect.dice == (1, 1, 1, 1)
    assert len(perfect.prompts) == 1
    assert perfect.effects == ()


def test_a_stroke_is_followed_as_far_as_its_wrong_voxels_are() -> None:
    """Obeying draws a ball of one voxel around the stroke's first: of a stroke's wrong voxels those in it follow."""
    volume = Volume(np.zeros((20, 20, 20), np.int16), np.diag([2.0, 2.0, 2.0, 1.0]))
    truth, start = np.zeros((20, 20, 20), bool), np.zeros((20, 20, 20), bool)
    truth[4:14, 4:14, 4:14] = True
    start[4:5, 4:14, 4:14] = True
    user_model = UserModel(jitter_mm=0, error_rate=0, stroke_prob=1)
    for seed in range(6):
        (result,) = corrected(
            Obeying(start, 1), [LabelledVolume("a", "p", volume, truth)], 2, seed=seed, user_model=user_model
        )
        (step,), stroke = result.effects, result.prompts[1]
        due = ~start[tuple(stroke.places.T)] & truth[tuple(stroke.places.T)]
        reached = np.linalg.norm(stroke.places - stroke.places[0], axis=1) <= 1
        assert step.positive
        assert step.followed == pytest.approx(reached[due].mean())
        assert len(stroke.places) > 1


def test_near_is_ten_millimetres() -> None:
    """On voxels of 2 x 2 x 5 mm, a ball of 10 mm around a corner voxel, counted by brute force."""
    volume = Volume(np.zeros((12, 12, 6), np.int16), np.diag([2.0, 2.0, 5.0, 1.0]))
    near = np.zeros(volume.shape, bool)
    near[_near(Click((1, 2, 0)), volume)] = True
    far = np.linalg.norm((np.indices(volume.shape).T - (1, 2, 0)) * (2, 2, 5), axis=-1).T
    assert np.array_equal(near, far <= 10)
    both = np.zeros(volume.shape, bool)
    both[_near(Scribble(np.array([(1, 2, 0), (9, 9, 4)])), volume)] = True
    other = np.linalg.norm((np.indices(volume.shape).T - (9, 9, 4)) * (2, 2, 5), axis=-1).T
    assert np.array_equal(both, (far <= 10) | (other <= 10))


def test_automatic_is_all_that_is_proposed_in_the_whole_scan() -> None:
    made = make_phantom(shape=(24, 24, 20), spacing=(4, 4, 5))
    truth = made.lesion.full()
    proposer = Proposer(without_prompt_encoder(small_bundle()), CPU)
    (found,) = automatic(proposer, [LabelledVolume("a", "p", made.volume, truth)])
    everything = np.zeros(made.volume.shape, bool)
    for one in proposer.propose(made.volume, min_volume_ml=0):
        everything |= one.mask.full()
    assert everything.any()
    assert found == ("a", dice(everything, truth))


class Directional:
    """A ball of 6 mm around the click, without what lies before it along the array's first axis; no matter which."""

    def __init__(self, whole: bool) -> None:
        self.whole, self.volumes = whole, list[Volume]()

    def set_volume(self, volume: Volume) -> None:
        self.volumes.append(volume)

    def predict(self, prompts: Sequence[Prompt]) -> "Drawn":
        volume, place = self.volumes[-1], prompts[0].places[0]
        away = (np.indices(volume.shape).T - place) * volume.spacing
        ball = (np.linalg.norm(away, axis=-1) <= 6).T
        ball[: 0 if self.whole else place[0]] = False
        return Drawn(Mask(ball, (0, 0, 0), volume.grid))


class Drawn(NamedTuple):
    mask: Mask
    predicted_iou: None = None


def test_axis_orders_move_the_click_with_the_scan() -> None:
    """A ball knows no axes: one Dice in all orders. What looks along the first axis of an array has several."""
    target = np.zeros((14, 12, 10), bool)
    target[4:9, 3:8, 2:7] = True
    values = np.arange(target.size, dtype=np.int16).reshape(target.shape)
    affine = oblique_affine((14, 12, 10), (1.0, 2.0, 3.0), orientation="LPI", angles_deg=(9, -5, 8))
    scan = LabelledVolume("a", "p", Volume(values, affine, unit="HU"), target)
    even, odd = Directional(whole=True), Directional(whole=False)
    found = dict(in_axis_orders(even, scan, seed=3))
    assert list(found) == ["as it is", "reversed order", "next axis first", "all reversed", "swapped, two reversed"]
    assert len(set(found.values())) == 1
    assert 0 < found["as it is"] < 1
    assert len(set(dict(in_axis_orders(odd, scan, seed=3)).values())) > 1
    volumes = dict(zip(found, even.volumes, strict=True))
    assert volumes["as it is"] is scan.volume
    assert np.array_equal(volumes["reversed order"].array, values.T)
    assert np.array_equal(volumes["swapped, two reversed"].array, values.transpose(1, 0, 2)[::-1, :, ::-1])
    assert np.allclose(volumes["next axis first"].affine, np.diag([2.0, 3.0, 1.0, 1.0])), "no orientation, no origin"
    assert {volume.unit for volume in volumes.values()} == {"HU"}
