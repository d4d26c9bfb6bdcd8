"""From a probability to the mask that is saved."""

import numpy as np
import numpy.typing as npt
import pytest

from palpate.errors import SettingsError
from palpate.lesions import Keep, Postprocessing
from palpate.masks import Mask, Probability
from palpate.prompts import Box, Click, InitialMask, Lasso, Prompt, Scribble
from palpate.volume import Grid

GRID = Grid((12, 12, 12), np.eye(4))
START = (2, 2, 2)


def probability() -> Probability:
    """Two components above 0.5 in a box of the grid: eight voxels at 0.9, and two at 0.6."""
    array = np.zeros((8, 8, 8), np.float32)
    array[0:2, 0:2, 0:2] = 0.9
    array[5, 5, 4:6] = 0.6
    array[7, 7, 7] = 0.4
    return Probability(array, START, GRID)


def places(mask: Mask) -> npt.NDArray[np.int64]:
    return np.argwhere(mask.full())


def kept(keep: str, *prompts: Prompt) -> int:
    """How many voxels stay."""
    answer = probability()
    return Postprocessing(keep=Keep(keep)).apply(answer.threshold(), answer, prompts).voxels


def test_the_default_leaves_the_very_mask() -> None:
    answer = probability()
    mask = answer.threshold()
    assert Postprocessing().is_default
    assert Postprocessing().apply(mask, answer, []) is mask
    assert Postprocessing().record == {"threshold": 0.5, "keep": "all"}


@pytest.mark.parametrize(("threshold", "voxels"), [(0.3, 11), (0.55, 10), (0.7, 8), (0.95, 0)])
def test_a_threshold_by_hand(threshold: float, voxels: int) -> None:
    answer = probability()
    assert Postprocessing(threshold).apply(answer.threshold(), answer, []).voxels == voxels


def test_a_mask_without_probability_has_no_threshold() -> None:
    mask = probability().threshold()
    assert Postprocessing(0.95).apply(mask, None, []) is mask


def test_the_largest_lies_where_it_lay() -> None:
    answer = probability()
    mask = Postprocessing(keep=Keep.LARGEST).apply(answer.threshold(), answer, [])
    assert places(mask).tolist() == [[x, y, z] for x in (2, 3) for y in (2, 3) for z in (2, 3)]


@pytest.mark.parametrize(
    ("prompt", "voxels"),
    [
        (Click((3, 3, 3)), 8),
        (Click((7, 7, 6)), 2),
        (Click((11, 0, 0)), 0),
        (Click((3, 3, 3), positive=False), 0),
        (Scribble.along([(0, 3, 3), (4, 3, 3)]), 8),
        (Lasso(2, 7, np.array([(6.5, 6.5), (9, 6.5), (9, 9), (6.5, 9)])), 2),
        (Box((0, 0, 0), (2, 2, 2)), 8),
        (Box((4, 4, 4), (11, 11, 11)), 2),
        (Box((4, 4, 0), (6, 6, 11)), 0),
        (Box((0, 0, 0), (11, 11, 11)), 10),
        (InitialMask(Mask(np.ones((1, 1, 3), bool), (7, 7, 7), GRID)), 2),
    ],
)
def test_clicked_components_by_hand(prompt: Prompt, voxels: int) -> None:
    assert kept("clicked", prompt) == voxels


def test_several_prompts_keep_several_components() -> None:
    assert kept("clicked", Click((3, 3, 3)), Click((7, 7, 6)), Click((0, 0, 0), positive=False)) == 10


def test_a_mask_that_becomes_empty_is_told() -> None:
    answer = probability()
    before = answer.threshold()
    for made, words in (
        (Postprocessing(keep=Keep.CLICKED), "holds a foreground prompt"),
        (Postprocessing(0.95), "0.95"),
    ):
        note = made.note(before, made.apply(before, answer, []))
        assert note is not None
        assert words in note
        assert made.note(before, before) is None


@pytest.mark.parametrize("threshold", [0.0, 1.0, -1.0, float("nan")])
def test_what_is_no_threshold(threshold: float) -> None:
    with pytest.raises(SettingsError, match="give a probability between 0 and 1"):
        Postprocessing(threshold)


def test_what_is_no_choice() -> None:
    with pytest.raises(SettingsError, match="keep 'biggest': one of all, largest, clicked"):
        Postprocessing(keep="biggest")  # type: ignore[arg-type]
