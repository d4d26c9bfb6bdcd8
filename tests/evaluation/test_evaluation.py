"""Metrics by hand, and the one-click protocol."""

from collections.abc import Sequence

import numpy as np
import pytest

from fakes import FakeRuntime, truth_in
from palpate.automatic import Proposer
from palpate.bundle import without_prompt_encoder
from palpate.cohort import LabelledVolume
from palpate.evaluation import Figure, automatic, bootstrap_interval, corrected, dice, iou, one_click
from palpate.evaluation.protocol import _near
from palpate.frame import Frame
from palpate.inference import View
from palpate.phantom import make_phantom
from palpate.predictor import Prediction, Predictor
from palpate.prompts import Click, Prompt, Scribble
from palpate.randomness import counted_rng
from palpate.simulation import UserModel, random_clicks
from palpate.volume import Mask, Probability, Volume
from small import CPU, small_bundle


def test_dice_by_hand() -> None:
    a = np.array([1, 1, 0, 0], dtype=bool)
    b = np.array([1, 0, 1, 1], dtype=bool)
    assert dice(a, b) == pytest.approx(2 * 1 / (2 + 3))
    assert dice(a, a) == 1
    assert dice(a, ~a) == 0
    assert dice(a & ~a, b & ~b) == 1, "nothing found where nothing is"


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


def test_interval_by_hand() -> None:
    assert bootstrap_interval([[0.5], [0.5], [0.5]]) == (0.5, 0.5)
    found = bootstrap_interval([[0.0], [1.0]] * 50)
    assert found is not None
    low, high = found
    assert low == pytest.approx(0.4, abs=0.02)
    assert high == pytest.approx(0.6, abs=0.02)
    assert bootstrap_interval([[0.0], [1.0], [0.3]]) == bootstrap_interval([[0.0], [1.0], [0.3]])


def test_an_interval_is_of_the_mean_beside_it() -> None:
    """One patient with many good scans, eight with one poor one each: the mean of all lies within."""
    rows = [(f"a{n}", "a", 0.9) for n in range(20)] + [(p, p, 0.5 + 0.01 * n) for n, p in enumerate("bcdefghi")]
    figure = Figure.of(rows)
    assert figure.interval is not None
    low, high = figure.interval
    assert low < figure.dice < high
    assert low == pytest.approx(0.535, abs=0.02), "without the first patient, who is drawn not at all one time in three"


def test_a_figure_by_hand() -> None:
    """Two patients, one with two scans, two seeds each: the mean is over all, the interval by patients."""
    rows = [("a1", "a", 0.2), ("a1", "a", 0.4), ("a2", "a", 0.6), ("a2", "a", 0.8), ("b", "b", 1.0), ("b", "b", 0.9)]
    figure = Figure.of(rows)
    assert figure.dice == pytest.approx(0.65)
    assert figure.interval == bootstrap_interval([[0.2, 0.4, 0.6, 0.8], [1.0, 0.9]])
    assert (figure.scans, figure.patients) == (3, 2)
    assert figure.plain() == {"dice": 0.65, "interval": [0.5, 0.95], "scans": 3, "patients": 2}


def test_one_patient_has_no_interval() -> None:
    """Every resample of one patient is that patient: a width of zero would be a lie."""
    assert bootstrap_interval([[0.2, 0.8]]) is None
    figure = Figure.of([("a1", "a", 0.2), ("a2", "a", 0.8)])
    assert figure.interval is None
    assert figure.plain() == {"dice": 0.5, "interval": None, "scans": 2, "patients": 1}
    record = figure.record("test", "one click", seeds=(0, 1), cohort="mine")
    assert (record.title, record.text) == ("test patients, one click, seeds 0, 1", "0.500, n = 2, 1 patient")


def test_iou_by_hand() -> None:
    a = np.array([1, 1, 0, 0], dtype=bool)
    b = np.array([1, 0, 1, 1], dtype=bool)
    assert iou(a, b) == pytest.approx(1 / 4)
    assert iou(a & ~a, b & ~b) == 1


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
        (told,) = corrected(
            Obeying(start, 1), [LabelledVolume("a", "p", volume, truth)], 2, seed=seed, user_model=user_model
        )
        (step,), stroke = told.effects, told.prompts[1]
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
