"""Metrics by hand, and the one-click protocol."""

import numpy as np
import pytest

from palpate.automatic import Proposer
from palpate.bundle import promptless
from palpate.evaluation import Figure, automatic, bootstrap_interval, dice, one_click
from palpate.phantom import make_phantom
from palpate.predictor import Predictor
from palpate.simulation import counted_rng, random_clicks
from small import small_bundle


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
    predictor = Predictor(small_bundle(), "cpu")
    first, again = (next(one_click(predictor, [("a", made.volume, truth)], seed=5)) for _ in range(2))
    assert first == again
    (click,) = random_clicks(truth, 1, counted_rng(5, "one click on a"))
    assert first.click == click
    predictor.set_volume(made.volume)
    assert first.dice == dice(predictor.predict([click]).mask.full(), truth)


def test_interval_by_hand() -> None:
    assert bootstrap_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)
    low, high = bootstrap_interval([0.0, 1.0] * 50)
    assert low == pytest.approx(0.4, abs=0.02)
    assert high == pytest.approx(0.6, abs=0.02)
    assert bootstrap_interval([0.0, 1.0, 0.3]) == bootstrap_interval([0.0, 1.0, 0.3])


def test_a_figure_by_hand() -> None:
    """Two patients, one with two scans, two seeds each: the mean is over all, the interval over patients' means."""
    rows = [("a1", "a", 0.2), ("a1", "a", 0.4), ("a2", "a", 0.6), ("a2", "a", 0.8), ("b", "b", 1.0), ("b", "b", 0.9)]
    figure = Figure.of(rows)
    assert figure.dice == pytest.approx(0.65)
    assert figure.interval == bootstrap_interval([0.5, 0.95])
    assert (figure.scans, figure.patients) == (3, 2)
    assert figure.record() == {"dice": 0.65, "interval": [0.5, 0.95], "scans": 3, "patients": 2}


def test_automatic_is_all_that_is_proposed_in_the_whole_scan() -> None:
    made = make_phantom(shape=(24, 24, 20), spacing=(4, 4, 5))
    truth = made.lesion.full()
    proposer = Proposer(promptless(small_bundle()), "cpu")
    (found,) = automatic(proposer, [("a", made.volume, truth)])
    everything = np.zeros(made.volume.shape, bool)
    for one in proposer.propose(made.volume, least_ml=0):
        everything |= one.mask.full()
    assert everything.any()
    assert found == ("a", dice(everything, truth))
