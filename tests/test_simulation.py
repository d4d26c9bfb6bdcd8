"""The simulated user."""

import numpy as np
import pytest

from palpate.errors import ScanError
from palpate.simulation import counted_rng, random_clicks


def test_draws_are_counted_not_streamed() -> None:
    first = counted_rng(0, "clicks", 3).random(4).tolist()
    assert counted_rng(0, "clicks", 3).random(4).tolist() == first
    assert counted_rng(0, "clicks", 4).random(4).tolist() != first
    assert counted_rng(1, "clicks", 3).random(4).tolist() != first
    assert counted_rng(0, "crops", 3).random(4).tolist() != first


def test_clicks_fall_on_the_lesion_and_on_all_of_it() -> None:
    truth = np.zeros((6, 5, 4), dtype=bool)
    truth[1, 2, 3] = truth[4, 0, 1] = truth[5, 4, 0] = True
    clicks = random_clicks(truth, 200, counted_rng(0, "test"))
    assert {click.index for click in clicks} == {(1, 2, 3), (4, 0, 1), (5, 4, 0)}


def test_no_lesion_to_click() -> None:
    with pytest.raises(ScanError, match="the truth is empty"):
        random_clicks(np.zeros((2, 2, 2), dtype=bool), 1, counted_rng(0, "test"))
