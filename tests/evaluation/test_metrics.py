"""Metrics by hand."""

import numpy as np
import pytest

from palpate.evaluation import dice, iou


def test_dice_by_hand() -> None:
    a = np.array([1, 1, 0, 0], dtype=bool)
    b = np.array([1, 0, 1, 1], dtype=bool)
    assert dice(a, b) == pytest.approx(2 * 1 / (2 + 3))
    assert dice(a, a) == 1
    assert dice(a, ~a) == 0
    assert dice(a & ~a, b & ~b) == 1, "nothing found where nothing is"


def test_iou_by_hand() -> None:
    a = np.array([1, 1, 0, 0], dtype=bool)
    b = np.array([1, 0, 1, 1], dtype=bool)
    assert iou(a, b) == pytest.approx(1 / 4)
    assert iou(a & ~a, b & ~b) == 1
