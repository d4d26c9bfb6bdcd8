"""A lesion with its mask and what follows from it."""

import numpy as np

from palpate.lesions import LesionRecord, NumberedPrompt, measure_lesion
from palpate.masks import Mask
from palpate.prompts import Click
from palpate.volume import Grid

GRID = Grid((20, 20, 10), np.diag([2.0, 2.0, 5.0, 1.0]))


def test_prompts_in_their_order_and_measurements_of_the_mask() -> None:
    mask = Mask(np.ones((4, 3, 2), bool), (5, 5, 5), GRID)
    clicks = Click((6, 6, 5)), Click((1, 1, 1), positive=False)
    record = LesionRecord(3, "liver", "open", mask, (NumberedPrompt(7, clicks[0]), NumberedPrompt(2, clicks[1])))
    assert record.prompts == clicks
    assert record.measurements == measure_lesion(mask)
    assert record.measurements is record.measurements, "measured once"
    assert (record.initial_mask, record.score) == (None, None)
