"""A click that the network ignores is given to it again."""

from collections.abc import Callable

import numpy as np
import pytest

from fakes import SPACING, FakeRuntime, ball, blank_scan, knowing
from palpate.inference import InferenceSettings
from palpate.inference.crop_prompts import CropPrompts
from palpate.prompts import Box, Click, Prompt


def draw_otherwise(runtime: FakeRuntime, when: Callable[[CropPrompts], bool], truth: np.ndarray) -> None:
    """Let a fake model draw another truth, sharply, in some crops."""
    draw = runtime.draw
    runtime.draw = lambda prompts: prompts.view.frame.extract(truth)[0] if when(prompts) else draw(prompts)


def test_an_ignored_click_is_given_again_in_a_narrower_crop() -> None:
    """Around its very voxel; one that is followed is not, nor is any where nothing narrower is known."""
    truth = ball((60, 50, 30), 20)
    predictor, runtime = knowing(truth, blur=False)
    hole = truth.copy()
    hole[65:68, 49:52, 30] = False
    draw_otherwise(runtime, lambda prompts: prompts.view.scale < 1, hole)
    predictor.set_volume(blank_scan())
    prompts: list[Prompt] = [Click((60, 50, 30))]
    before = predictor.predict(prompts)
    prompts.append(Click((66, 50, 30), positive=False))
    answer = predictor.predict(prompts)
    assert [view.scale for view in runtime.views] == [1, 1, 0.5]
    assert answer.crops == 2
    assert not answer.mask.full()[66, 50, 30]
    assert np.array_equal(runtime.views[-1].frame.scan_index([16, 16, 16]), (66, 50, 30))
    assert np.count_nonzero(before.mask.full() & ~answer.mask.full()) < 30
    predictor.predict([*prompts, Click((71, 50, 30), positive=False)])
    assert [view.scale for view in runtime.views[3:]] == [1], "that is background anyway"


@pytest.mark.parametrize(
    ("follows", "scales", "followed"),
    [
        (lambda crop: len(crop.prompts) == 1 and crop.view.scale == 0.5, [1, 0.5, 0.5], True),
        (lambda crop: len(crop.prompts) == 1 and crop.view.scale == 2, [1, 0.5, 0.5, 1, 2], True),
        (lambda crop: crop.initial is None, [1, 0.5, 0.5, 1, 2, 2], True),
        (lambda crop: False, [1, 0.5, 0.5, 1, 2, 2], False),
    ],
)
def test_a_click_is_given_again_until_it_is_followed(
    follows: Callable[[CropPrompts], bool], scales: list[float], followed: bool
) -> None:
    """In a narrower crop, then alone, then without the mask so far; only what lies near the click counts of these."""
    truth = ball((60, 50, 30), 20)
    predictor, runtime = knowing(truth, blur=False)
    predictor.set_volume(blank_scan())
    prompts: list[Prompt] = [Click((60, 50, 30))]
    before = predictor.predict(prompts).mask.full()
    half = truth.copy()
    half[62:] = False
    draw_otherwise(runtime, follows, half)
    prompts.append(Click((66, 50, 30), positive=False))
    answer = predictor.predict(prompts)
    assert [view.scale for view in runtime.views] == [1, *scales]
    assert answer.crops == len(scales)
    mask = answer.mask.full()
    assert bool(mask[66, 50, 30]) is not followed
    gone = np.argwhere(before & ~mask)
    if not followed:
        assert len(gone) == 0
        return
    reach = np.linalg.norm((gone - (66, 50, 30)) * SPACING, axis=1).max()
    assert 1 < reach <= 64 * scales[-1] / 8, "an eighth of the crop's edge"


@pytest.mark.parametrize(
    ("radius", "first", "last"),
    [(5, Click((60, 50, 30)), (61, 50, 30)), (3, Box((57, 47, 29), (63, 53, 31)), (60, 50, 30))],
    ids=["an earlier click", "all of the lesion"],
)
def test_no_attempt_may_lose(radius: float, first: Click | Box, last: tuple[int, int, int]) -> None:
    truth = ball((60, 50, 30), radius)
    predictor, runtime = knowing(truth, blur=False)
    predictor.set_volume(blank_scan())
    background = Click(last, positive=False)
    assert predictor.predict([first]).mask.full()[60, 50, 30]
    draw_otherwise(runtime, lambda crop: crop.view.scale == 2 and len(crop.prompts) == 1, np.zeros_like(truth))
    mask = predictor.predict([first, background]).mask.full()
    assert mask[60, 50, 30]
    assert mask.any()


def test_within_a_large_lesion_too_an_ignored_click_is_given_again() -> None:
    truth = ball((60, 50, 30), 70)
    predictor, runtime = knowing(truth)
    hole = truth.copy()
    hole[64:69, 48:53, 29:32] = False
    draw_otherwise(runtime, lambda prompts: prompts.view.scale < 1, hole)
    predictor.set_volume(blank_scan())
    prompts: list[Prompt] = [Click((60, 50, 30))]
    before = predictor.predict(prompts)
    assert before.view.scale == 4
    count = len(runtime.views)
    answer = predictor.predict([*prompts, Click((66, 50, 30), positive=False)])
    assert [view.scale for view in runtime.views[count:]].count(0.5) == 1
    assert answer.crops == len(runtime.views) - count
    assert answer.view is before.view
    assert not answer.mask.full()[66, 50, 30]
    assert np.count_nonzero(before.mask.full() & ~answer.mask.full()) < 5 * 5 * 3 + 1


def test_a_part_that_a_correction_preserved_can_be_taken_away() -> None:
    """A stays though the model, in a wider view, draws B alone; a background click on A is then followed."""
    here, there = ball((30, 50, 30), 24), ball((95, 50, 30), 24)
    truth = here.copy()
    predictor, _ = knowing(truth, settings=InferenceSettings(budget=0))
    predictor.set_volume(blank_scan())
    prompts: list[Prompt] = [Click((30, 50, 30))]
    predictor.predict(prompts)
    truth[:] = there
    prompts.append(Click((95, 50, 30)))
    both = predictor.predict(prompts).mask.full()
    assert both[30, 50, 30]
    assert both[95, 50, 30]
    prompts.append(Click((30, 50, 30), positive=False))
    prompts[0] = Click((31, 50, 30))
    truth[:] = here
    predictor.predict(prompts[:1])
    truth[:] = there
    left = predictor.predict(prompts).mask.full()
    assert not left[30, 50, 30]
    assert left[95, 50, 30]
