"""Region growing on balls."""

import numpy as np
import pytest

from palpate.cohort import LabelledVolume
from palpate.errors import PromptError
from palpate.evaluation import RegionGrowing, corrected, dice
from palpate.evaluation.region_growing import GrowingSettings
from palpate.prompts import Box, Click
from palpate.volume import Volume

SPACING = (1.0, 1.5, 2.0)
SHARP = GrowingSettings(smoothing=0, reach_mm=40)


def balls(*centres: tuple[int, int, int], radius_mm: float = 9, noise: float = 5) -> tuple[Volume, list[np.ndarray]]:
    """Bright balls in noise, and where each is."""
    index = np.indices((60, 40, 30)).T
    found = [(np.linalg.norm((index - c) * SPACING, axis=-1) <= radius_mm).T for c in centres]
    values = 100.0 * np.any(found, axis=0) + np.random.default_rng(0).normal(0, noise, (60, 40, 30))
    return Volume(values.astype(np.int16), np.diag([*SPACING, 1.0])), found


def test_a_ball_is_found_from_any_click_in_it() -> None:
    volume, (ball,) = balls((20, 20, 15))
    growing = RegionGrowing(SHARP)
    growing.set_volume(volume)
    for place in ((20, 20, 15), (25, 20, 15), (20, 24, 13)):
        assert dice(growing.predict([Click(place)]).mask.full(), ball) > 0.95


def test_it_grows_no_further_than_its_reach() -> None:
    volume, (ball,) = balls((20, 20, 15))
    growing = RegionGrowing(GrowingSettings(smoothing=0, reach_mm=5))
    growing.set_volume(volume)
    index = np.indices(volume.shape).T
    near = (np.linalg.norm((index - (20, 20, 15)) * SPACING, axis=-1) <= 5).T
    assert dice(growing.predict([Click((20, 20, 15))]).mask.full(), near & ball) > 0.98


def test_a_background_click_cuts_a_ball_that_touches() -> None:
    """Two balls in contact are one region; a click in each parts them in the middle."""
    volume, (one, other) = balls((20, 20, 15), (37, 20, 15))
    growing = RegionGrowing(SHARP)
    growing.set_volume(volume)
    first = Click((20, 20, 15))
    assert dice(growing.predict([first]).mask.full(), one | other) > 0.95
    assert dice(growing.predict([first, Click((37, 20, 15), positive=False)]).mask.full(), one) > 0.95
    (result,) = corrected(growing, [LabelledVolume("a", "p", volume, one)], 3)
    assert result.dice[2] > result.dice[0]
    assert result.predicted_iou == ()


def test_several_clicks_grow_several_regions() -> None:
    volume, (one, other) = balls((12, 20, 15), (44, 20, 15))
    growing = RegionGrowing(SHARP)
    growing.set_volume(volume)
    found = growing.predict([Click((12, 20, 15)), Click((44, 20, 15))]).mask.full()
    assert dice(found, one | other) > 0.95


def test_what_it_cannot_do_is_said() -> None:
    growing = RegionGrowing()
    with pytest.raises(PromptError, match="call set_volume"):
        growing.predict([Click((1, 1, 1))])
    growing.set_volume(balls((20, 20, 15))[0])
    with pytest.raises(PromptError, match="clicks only, not Box"):
        growing.predict([Box((1, 1, 1), (3, 3, 3))])
    with pytest.raises(PromptError, match="needs a foreground click"):
        growing.predict([Click((1, 1, 1), positive=False)])
