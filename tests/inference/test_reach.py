"""A background prompt that lies far off the mask changes nothing."""

import numpy as np
import pytest

from fakes import ball, blank_scan, knowing
from palpate.inference.reach import REACH_MM, out_of_reach
from palpate.masks import Mask
from palpate.prompts import Click, Prompt, Scribble
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


def test_a_far_background_prompt_costs_no_crop_and_no_voxel() -> None:
    """With a model that would take away half of the lesion; it counts with the next prompt again."""
    truth = ball((60, 50, 30), 14)
    predictor, runtime = knowing(truth, blur=False)
    predictor.set_volume(blank_scan())
    before = predictor.predict([Click((60, 50, 30))])
    half = truth.copy()
    half[:60] = False
    whole, runtime.draw = runtime.draw, lambda prompts: prompts.view.frame.extract(half)[0]
    asked = len(runtime.decoded)
    far, near = background(75, 50, 30), background(68, 50, 30)
    after = predictor.predict([Click((60, 50, 30)), far])
    assert np.array_equal(after.mask.full(), before.mask.full())
    assert (after.crops, len(runtime.decoded)) == (0, asked)
    cut = predictor.predict([Click((60, 50, 30)), near])
    assert cut.mask.voxels < before.mask.voxels, "beside the mask it is asked"
    runtime.draw = whole
    predictor.predict([Click((60, 50, 30)), far, Click((61, 50, 30))])
    assert [len(prompts.prompts) for prompts in runtime.decoded[-1:]] == [3]
