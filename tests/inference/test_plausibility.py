"""Why a mask may be wrong is data, and a sentence that fits the prompts."""

import numpy as np
import pytest

from palpate.inference import plausibility
from palpate.inference.plausibility import mask_warnings
from palpate.masks import Mask
from palpate.prompts import Box, Click, InitialMask, Lasso, Prompt, Scribble
from palpate.volume import Grid

GRID = Grid((20, 20, 10), np.eye(4))
EMPTY = Mask(np.zeros((1, 1, 1), bool), (0, 0, 0), GRID)
CLICK = Click((5, 5, 5))
BOX = Box((4, 4, 3), (7, 7, 6))
LOOSE = Box((4, 4, 3), (7, 7, 6), loose=True)


def block(first: tuple[int, int, int], size: tuple[int, int, int]) -> Mask:
    return Mask(np.ones(size, bool), first, GRID)


def kinds(prompts: list[Prompt], mask: Mask, iou: float | None = None, cut: float = 0.0) -> list[str]:
    return [warning.kind for warning in mask_warnings(prompts, mask, iou, cut)]


INITIAL = InitialMask(block((4, 4, 4), (2, 2, 2)))
LASSO = Lasso(2, 5, np.array([[3.5, 3.5], [7.5, 3.5], [7.5, 7.5], [3.5, 7.5]]))


@pytest.mark.parametrize(
    ("prompts", "cut", "message"),
    [
        ([CLICK], 0.0, "click nearer the lesion's middle"),
        ([CLICK, Click((1, 1, 1), positive=False)], 0.0, "take one back"),
        ([BOX], 0.0, "no lesion in the box; check its corners"),
        ([BOX], 1.0, "outside the box; check the box's corners, or give it as a hint"),
        ([Click((1, 1, 1)), BOX], 1.0, "prompts before the box mark something outside it"),
        ([LASSO], 0.0, "under the lasso"),
        ([Scribble([(5, 5, 5), (6, 5, 5)])], 0.0, "under the scribble"),  # type: ignore[arg-type]
        ([INITIAL], 0.0, "at the initial mask"),
    ],
)
def test_an_empty_mask_is_answered_by_what_was_pointed_with(prompts: list[Prompt], cut: float, message: str) -> None:
    (warning,) = mask_warnings(prompts, EMPTY, 0.1, cut)
    assert warning.kind == "empty"
    assert warning.message.startswith("the mask is empty: ")
    assert message in warning.message
    assert ("click nearer" in warning.message) == (prompts == [CLICK])


def test_a_mask_that_is_much_larger_than_what_was_pointed_at() -> None:
    small, large = block((4, 4, 3), (4, 4, 4)), block((4, 4, 3), (8, 4, 4))
    assert kinds([LOOSE], small) == []
    (warning,) = mask_warnings([LOOSE], large, None, 0.0)
    assert (warning.kind, warning.value, warning.limit) == ("beyond_box", 0.5, plausibility.MAX_BEYOND)
    assert "50% of the mask lies outside the box" in warning.message
    assert kinds([LOOSE, Click((10, 5, 5))], large) == [], "the user marked what lies there"
    assert kinds([Click((10, 5, 5)), LOOSE], large) == ["beyond_box"], "but drew a box since"
    assert kinds([LOOSE, Click((10, 5, 5), positive=False)], large) == ["beyond_box"]
    assert kinds([BOX], small, cut=0.6) == ["beyond_box"]
    assert kinds([BOX], small, cut=0.1) == []
    (warning,) = mask_warnings([Click((10, 5, 5)), BOX], small, None, 0.6)
    assert "prompts before the box mark something outside it; take them back" in warning.message
    on_slice = Box((4, 4, 5), (7, 7, 5))
    assert kinds([on_slice], small) == [], "on the other slices there may be as much"
    assert kinds([on_slice], large) == ["beyond_box"]
    assert kinds([on_slice], block((4, 4, 7), (8, 8, 2))) == [], "nothing on that slice"
    assert kinds([LASSO], small) == []
    assert kinds([LASSO], large) == ["beyond_outline"]
    assert kinds([INITIAL], small) == ["growth"]
    assert kinds([INITIAL], block((4, 4, 4), (2, 4, 2))) == []
    assert kinds([INITIAL, BOX], small) == [], "the last of them counts"


def test_a_mask_that_lies_beside_the_box_that_bounds_it() -> None:
    """In its margin; what was marked outside it later is meant to lie there."""
    beside = block((7, 4, 3), (4, 4, 4))  # a quarter of it in the box
    (warning,) = mask_warnings([BOX], beside, None, 0.0)
    assert (warning.kind, warning.value, warning.limit) == ("beyond_box", 0.75, plausibility.MAX_BESIDE)
    assert "only 25% of the mask lies in the box" in warning.message
    assert kinds([Click((10, 5, 5)), BOX], beside) == ["beyond_box"]
    assert kinds([BOX, Click((10, 5, 5))], beside) == []
    assert kinds([BOX], block((6, 4, 3), (4, 4, 4))) == [], "half of it lies in the box"


def test_a_background_prompt_that_changed_nothing_is_said() -> None:
    mask, far = block((4, 4, 3), (4, 4, 4)), Click((19, 5, 5), positive=False)
    (warning,) = mask_warnings([CLICK, far], mask, None, 0.0, ignored=(1,))
    assert (warning.kind, warning.value, warning.limit) == ("ignored_background", 12, 5)
    assert warning.message == "the background click at 19,5,5 lies 12 mm outside the mask and changes nothing"
    (grown,) = mask_warnings([CLICK, far], block((4, 4, 3), (14, 4, 4)), None, 0.0, ignored=(1,))
    assert grown.message.endswith("lay outside the mask when it was given; give it again")
    (empty,) = mask_warnings([CLICK, far], EMPTY, None, 0.0, ignored=(1,))
    assert "click nearer the lesion's middle" in empty.message, "the background prompt took nothing"


def test_a_mask_that_became_empty_is_said_with_the_reason() -> None:
    (warning,) = mask_warnings([CLICK], EMPTY, None, 0.0, emptied="no probability exceeds 0.9")
    assert (warning.kind, warning.message) == ("empty", "no probability exceeds 0.9")


def test_a_mask_of_clicks_that_is_larger_than_lesions_are() -> None:
    """Litres: of voxels of a centimetre, 990 are not too many. Who draws a box says how large it is."""
    grid = Grid((20, 20, 10), np.diag([10.0, 10.0, 10.0, 1.0]))
    most, more = (Mask(np.ones(size, bool), (0, 0, 0), grid) for size in ((9, 11, 10), (10, 11, 10)))
    assert kinds([CLICK], most) == []
    (warning,) = mask_warnings([CLICK], more, None, 0.0)
    assert (warning.kind, round(warning.value), warning.limit) == ("large", 1100, 1000)
    assert warning.message.startswith("1100 mL is more than most lesions")
    assert kinds([CLICK, Box((0, 0, 0), (19, 19, 9))], more) == []


def test_a_low_overlap_is_said() -> None:
    mask = block((4, 4, 3), (4, 4, 4))
    low = plausibility.MIN_OVERLAP - 0.01
    (warning,) = mask_warnings([CLICK], mask, low, 0.0)
    assert (warning.kind, warning.value) == ("low_overlap", low)
    assert kinds([CLICK], mask, plausibility.MIN_OVERLAP) == []
    assert kinds([CLICK], mask, None) == []
