"""A background prompt that lies far off the mask changes nothing."""

import numpy as np
import pytest

from fakes import ball, balls_around, blank_scan, faking, knowing
from palpate.inference.reach import REACH_MM, applied_prompts, distance_to, in_order, out_of_reach
from palpate.masks import Mask
from palpate.prompts import Box, Click, Prompt, Scribble
from palpate.volume import Grid

GRID = Grid((40, 40, 20), np.diag([2.0, 2.0, 3.0, 1.0]))
MASK = Mask(np.ones((4, 4, 4), bool), (10, 10, 8), GRID)  # x 10 to 13, z 8 to 11


def background(*index: int) -> Click:
    return Click((index[0], index[1], index[2]), positive=False)


@pytest.mark.parametrize(
    ("prompt", "far"),
    [
        (background(11, 11, 9), False),  # in the mask
        (background(15, 11, 9), False),  # 4 mm beside it
        (background(16, 11, 9), True),  # 6 mm
        (background(11, 11, 12), False),  # 3 mm above it
        (background(11, 11, 13), True),  # 6 mm
        (background(15, 15, 9), True),  # 5.7 mm off its edge
        (background(0, 0, 0), True),
        (Scribble.along([(30, 11, 9), (15, 11, 9)], positive=False), False),  # one end is near
        (Scribble.along([(30, 11, 9), (16, 11, 9)], positive=False), True),
    ],
)
def test_the_distance_is_in_millimetres(prompt: Prompt, far: bool) -> None:
    assert REACH_MM == 5
    assert out_of_reach(prompt, MASK) == far


def test_nothing_is_near_an_empty_mask() -> None:
    assert out_of_reach(background(1, 1, 1), Mask(np.zeros((2, 2, 2), bool), (0, 0, 0), GRID))


def test_how_far_and_which_voxel() -> None:
    stroke = Scribble.along([(30, 11, 9), (16, 11, 9)], positive=False)
    for prompt, nearest in ((stroke, (16, 11, 9)), (background(11, 11, 13), (11, 11, 13))):
        mm, place = distance_to(prompt, MASK)
        assert mm == pytest.approx(6)
        assert place == nearest


def test_background_prompts_at_the_beginning_follow_the_first_that_says_where() -> None:
    one, two, click, box = background(1, 1, 1), background(2, 2, 2), Click((3, 3, 3)), Box((1, 1, 1), (5, 5, 5))
    assert in_order([one, two, click, one, box]) == [2, 0, 1, 3, 4]
    assert in_order([click, one, box]) == [0, 1, 2]
    assert in_order([one, two]) == []
    assert applied_prompts([one, two, click, one, box], {0, 3}) == (click, two, box)


def test_a_far_background_prompt_costs_no_crop_and_no_voxel() -> None:
    """With a model that would take away half of the lesion."""
    truth = ball((60, 50, 30), 14)
    predictor, runtime = knowing(truth, blur=False)
    predictor.set_volume(blank_scan())
    before = predictor.predict([Click((60, 50, 30))])
    half = truth.copy()
    half[:60] = False
    runtime.draw = lambda prompts: prompts.view.frame.extract(half)[0]
    asked = len(runtime.decoded)
    far, near = background(75, 50, 30), background(68, 50, 30)
    after = predictor.predict([Click((60, 50, 30)), far])
    assert np.array_equal(after.mask.full(), before.mask.full())
    assert (after.crops, len(runtime.decoded)) == (0, asked)
    cut = predictor.predict([Click((60, 50, 30)), near])
    assert cut.mask.voxels < before.mask.voxels, "beside the mask it is asked"


def test_no_later_prompt_gives_a_far_background_prompt_to_the_network() -> None:
    """Nor does the view follow it: the mask is the one without it, and the answer says which prompt was ignored."""
    click, far, other, near = (
        Click((60, 50, 30)),
        background(100, 50, 30),
        Click((62, 50, 30)),
        background(68, 50, 30),
    )
    predictor, runtime = faking(balls_around(9.0))
    scan = predictor.encode_scan(blank_scan())
    state = predictor.predict_on(scan, [click, far, other, near])
    assert [prompts.prompts for prompts in runtime.decoded] == [(click,), (click, other), (click, other, near)]
    assert (state.prompts, state.applied) == ((click, far, other, near), (click, other, near))
    assert state.prediction.ignored == (1,)
    without = predictor.predict_on(predictor.encode_scan(blank_scan()), [click, other, near])
    assert np.array_equal(state.prediction.probability.full(), without.prediction.probability.full())
    (warning,) = state.prediction.warnings
    assert warning.kind == "ignored_background"
    assert warning.message.startswith("the background click at 100,50,30 lies ")
    assert warning.message.endswith(" mm outside the mask and changes nothing")
    assert warning.value > warning.limit == REACH_MM
    assert without.prediction.warnings == ()


def test_a_background_prompt_at_the_beginning_has_the_same_reach() -> None:
    click, far, near = Click((60, 50, 30)), background(100, 50, 30), background(64, 50, 30)
    predictor, _ = faking(balls_around(9.0))
    answers = []
    for prompts in ([far, near, click], [click, far, near]):
        state = predictor.predict_on(predictor.encode_scan(blank_scan()), prompts)
        answers.append(state.prediction)
        assert state.applied == (click, near)
        assert [each.kind for each in state.prediction.warnings] == ["ignored_background"]
    assert np.array_equal(answers[0].probability.full(), answers[1].probability.full())
    assert [answer.ignored for answer in answers] == [(0,), (1,)]
    assert [answer.crops for answer in answers] == [2, 1], "the first click's own crop counts where it came last"
