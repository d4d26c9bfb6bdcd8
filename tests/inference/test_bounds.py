"""Boxes bound the mask, but for what a foreground prompt marks outside them."""

import numpy as np
import pytest

from fakes import ball, balls_around, blank_scan, faking, knowing
from palpate.inference.bounds import bounded, bounding_boxes
from palpate.masks import Mask, Probability
from palpate.prompts import Box, Click, InitialMask, Lasso, Prompt, Scribble
from palpate.volume import Grid

GRID = Grid((20, 12, 8), np.eye(4))
BOX = Box((2, 2, 2), (9, 9, 6))
START = InitialMask(Mask(np.ones((2, 2, 2), bool), (3, 3, 3), GRID))


def blobs(*pieces: tuple[slice, slice, slice]) -> Probability:
    """A probability of 0.9 in some pieces of a patch that begins at (1, 1, 1), 0.2 in the rest of it."""
    array = np.full((18, 10, 6), 0.2, np.float32)
    for piece in pieces:
        array[piece] = 0.9
    return Probability(array, (1, 1, 1), GRID)


ACROSS = (slice(6, 14), slice(2, 5), slice(1, 5))  # scan x 7 to 14: over the box's margin, which ends at x 10
APART = (slice(15, 18), slice(2, 5), slice(1, 5))  # scan x 16 to 18: outside the box


def test_which_boxes_bound() -> None:
    """Those that are thick and no hint, after the last initial mask; all of them together."""
    flat, other = Box((2, 2, 4), (9, 9, 4)), Box((11, 2, 2), (14, 9, 6))
    assert bounding_boxes([BOX, Click((3, 3, 3)), other]) == (BOX, other)
    assert bounding_boxes([Box(BOX.first, BOX.last, loose=True), flat, Click((3, 3, 3))]) == ()
    assert bounding_boxes([START, BOX]) == (BOX,)
    assert bounding_boxes([BOX, START]) == (), "an initial mask begins anew"


def test_nothing_is_left_outside_a_box() -> None:
    given = blobs(ACROSS, APART)
    kept, taken = bounded(given, [BOX])
    inside = np.zeros(GRID.shape, bool)
    inside[1:11, 1:11, 1:8] = True  # a voxel around it: 15 % of 8 and of 5 voxels
    assert np.array_equal(kept.full()[inside], given.full()[inside])
    assert not kept.full()[~inside].any()
    assert taken == pytest.approx(1 - 4 / 11)
    both, taken = bounded(given, [BOX, Box((11, 2, 2), (18, 9, 6))])
    assert np.array_equal(both.threshold().full(), given.threshold().full())
    assert taken == 0
    same, taken = bounded(given, [Click((8, 4, 3))])
    assert same is given
    assert taken == 0
    assert bounded(blobs(), [BOX])[1] == 0, "of no mask, nothing is taken"


@pytest.mark.parametrize(
    "mark",
    [Click((12, 4, 3)), Scribble.along([(9, 4, 3), (12, 4, 3)]), Lasso(2, 3, np.array([[10, 2], [13, 2], [11, 6]]))],
    ids=["click", "scribble", "lasso"],
)
def test_what_a_foreground_prompt_marks_outside_stays(mark: Prompt) -> None:
    """All that is connected with it out there, and no other piece; a box that comes later takes it away."""
    kept, _ = bounded(blobs(ACROSS, APART), [BOX, mark])
    assert np.array_equal(kept.threshold().full(), blobs(ACROSS).threshold().full())
    for prompts in ([mark, BOX], [BOX, mark, Box((1, 1, 1), (8, 8, 6))], [BOX, mark, BOX]):
        later, taken = bounded(blobs(ACROSS, APART), prompts)
        assert later.threshold().bounds == ((7, 3, 2), (10, 5, 5))
        assert taken > 0.5
    elsewhere, _ = bounded(blobs(ACROSS, APART), [BOX, Click((12, 9, 3)), Click((17, 4, 3), positive=False)])
    assert elsewhere.threshold().bounds == ((7, 3, 2), (10, 5, 5)), "on no mask, and no foreground prompt"


def test_a_correction_loses_nothing_of_the_mask_before() -> None:
    """A background stroke cuts a piece off from the click that marked it: the rest of it stays."""
    before = blobs(ACROSS)
    cut = blobs(ACROSS)
    cut.array[11, :, :] = 0.1
    prompts: list[Prompt] = [BOX, Click((11, 4, 3)), Click((12, 4, 3), positive=False)]
    kept, taken = bounded(cut, prompts, before)
    assert np.array_equal(kept.threshold().full(), cut.threshold().full())
    assert taken == 0


def test_the_predictor_keeps_to_the_box() -> None:
    """With a model that draws more; as a hint, the box takes nothing."""
    truth = ball((60, 50, 30), 20)
    box = Box((56, 46, 28), (64, 54, 32))
    predictor, _ = knowing(truth, blur=False, predicted_iou={0.5: 0.8, 1: 0.8, 2: 0.8, 4: 0.8, 8: 0.8})
    predictor.set_volume(blank_scan())
    loose = predictor.predict([Box(box.first, box.last, loose=True)])
    tight = predictor.predict([box])
    within = np.zeros(truth.shape, bool)
    within[55:66, 45:56, 27:34] = True
    assert np.array_equal(tight.mask.full(), loose.mask.full() & within)
    assert tight.cut == pytest.approx(1 - tight.mask.voxels / loose.mask.voxels)
    assert loose.cut == 0
    again = predictor.predict([box, Click((60, 50, 30))])
    assert np.array_equal(again.mask.full(), tight.mask.full()), "a click inside does not lift it"
    assert again.cut == tight.cut, "of the last box"
    out = predictor.predict([box, Click((52, 50, 30))])
    assert np.count_nonzero(out.mask.full() & ~within) > 20, "a click outside marks what lies there"
    assert out.mask.full()[52, 50, 30]


def test_a_box_after_a_wrong_click_leaves_nothing_at_the_click() -> None:
    """And a click in the box counts as ever; what it marks outside, after the box, stays."""
    predictor, _ = faking(balls_around(9.0))
    predictor.set_volume(blank_scan())
    wrong, right, box = Click((60, 50, 30)), Click((74, 50, 30)), Box((70, 46, 28), (78, 54, 32))
    lost = predictor.predict([wrong, box])
    assert not lost.mask.full()[:69].any()
    assert lost.cut > 0.3
    mended = predictor.predict([wrong, box, right]).mask.full()
    assert mended[74, 50, 30]
    assert not mended[:69].any()
    marked = predictor.predict([box, right, wrong]).mask.full()
    assert marked[74, 50, 30]
    assert marked[60, 50, 30]


def test_the_margin_grows_with_the_box() -> None:
    whole = Probability(np.ones((40, 40, 40), np.float32), (0, 0, 0), Grid((40, 40, 40), np.eye(4)))
    kept, _ = bounded(whole, [Box((10, 10, 10), (29, 19, 12))])
    assert kept.threshold().bounds == ((7, 8, 9), (32, 21, 13)), "15 % of 20, of 10 (rounded to even), and one voxel"
    at_the_edge, _ = bounded(whole, [Box((0, 0, 0), (39, 39, 39))])
    assert at_the_edge.threshold().voxels == 40**3
