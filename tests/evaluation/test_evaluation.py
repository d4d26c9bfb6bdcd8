"""Metrics by hand, and the one-click protocol."""

import numpy as np
import pytest

from palpate.evaluation import bootstrap_interval, dice, one_click
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
