"""Whose a voxel is that lies in several lesions."""

from typing import get_args

import numpy as np
import pytest

from palpate.errors import SessionError
from palpate.lesions import Overlap, OverlapLoss, label_map
from palpate.masks import Mask, Probability
from palpate.volume import Grid

GRID = Grid((6, 1, 1), np.eye(4))


def row(first: int, last: int) -> Mask:
    return Mask(np.ones((last - first + 1, 1, 1), bool), (first, 0, 0), GRID)


def sure(*values: float) -> Probability:
    return Probability(np.array(values, np.float32).reshape(6, 1, 1), (0, 0, 0), GRID)


LESIONS = [(1, row(0, 3)), (5, row(2, 4)), (2, row(3, 5))]
SURE: dict[int, Probability | float] = {1: sure(0.6, 0.6, 0.9, 0.7, 0, 0), 5: sure(0, 0, 0.8, 0.7, 0.6, 0), 2: 0.9}


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        ("later", [1, 1, 5, 2, 2, 2]),
        ("earlier", [1, 1, 1, 1, 5, 2]),
        ("highest", [1, 1, 1, 2, 2, 2]),
    ],
)
def test_the_three_rules_by_hand(overlap: Overlap, expected: list[int]) -> None:
    labels = label_map(LESIONS, GRID, None, overlap, SURE.__getitem__)
    assert labels.full().ravel().tolist() == expected
    assert labels.array.dtype == np.uint8


def test_of_equally_probable_ones_the_earlier() -> None:
    labels = label_map(LESIONS[:2], GRID, None, "highest", lambda _: 0.5)
    assert labels.full().ravel().tolist() == [1, 1, 1, 1, 5, 0]


@pytest.mark.parametrize("overlap", get_args(Overlap))
def test_every_voxel_of_a_lesion_is_some_lesions(overlap: Overlap) -> None:
    rng = np.random.default_rng(0)
    grid = Grid((7, 6, 5), np.eye(4))
    masks = [Mask(rng.random(grid.shape) < 0.2, (0, 0, 0), grid) for _ in range(4)]
    lesions = [(number, mask) for number, mask in enumerate(masks, start=1)]
    labels = label_map(lesions, grid, None, overlap, lambda value: value / 10).full()
    assert np.array_equal(labels > 0, np.any([mask.full() for mask in masks], axis=0))
    for number, mask in lesions:
        assert mask.full()[labels == number].all(), "no lesion where it is not"
    if overlap != "earlier":  # more probable the later
        assert np.array_equal(labels == 4, masks[3].full())


def test_values_and_types() -> None:
    wide = label_map([(256, row(1, 1)), (65535, row(2, 2))], GRID)
    assert wide.array.dtype == np.uint16
    assert wide.full().ravel().tolist() == [0, 256, 65535, 0, 0, 0]
    assert label_map([(65536, row(1, 1))], GRID).array.dtype == np.uint32
    assert label_map([(255, row(1, 1))], GRID).array.dtype == np.uint8
    assert label_map([], GRID).array.dtype == np.uint8
    empty = Mask(np.zeros((2, 1, 1), bool), (0, 0, 0), GRID)
    assert label_map([], GRID).full().ravel().tolist() == [0] * 6
    assert label_map([(3, empty)], GRID).full().ravel().tolist() == [0] * 6
    assert label_map([(3, empty), (4, row(5, 5))], GRID).full().ravel().tolist() == [0, 0, 0, 0, 0, 4]


def test_no_other_rule() -> None:
    with pytest.raises(SessionError, match="no overlap rule 'first'; there are later, earlier, highest"):
        label_map([], GRID, None, "first")  # type: ignore[arg-type]
    with pytest.raises(SessionError, match="compares probabilities: give them"):
        label_map([], GRID, None, "highest")


def test_what_the_rule_takes_is_reported() -> None:
    later = label_map(LESIONS, GRID).losses
    assert later == (OverlapLoss(1, 2, 4), OverlapLoss(5, 2, 3))
    assert label_map(LESIONS, GRID, None, "earlier").losses == (OverlapLoss(5, 2, 3), OverlapLoss(2, 2, 3))
    assert label_map(LESIONS[::2], GRID).losses == (OverlapLoss(1, 1, 4),)
    covered = label_map([(1, row(1, 2)), (2, row(0, 3))], GRID).losses
    assert covered == (OverlapLoss(1, 2, 2),)
    assert covered[0].whole
    assert label_map([(1, row(0, 1)), (2, row(2, 3))], GRID).losses == ()
    assert label_map([(1, row(0, 3)), (1, row(2, 4))], GRID).losses == (), "one value: nothing is lost"


def test_probabilities_are_asked_of_lesions_that_overlap_only_and_once() -> None:
    asked: list[int] = []

    def probability(value: int) -> float:
        asked.append(value)
        return 0.5

    apart = [(9, row(5, 5)), (1, row(0, 1)), (2, row(1, 2)), (3, row(4, 4))]
    labels = label_map(apart, GRID, None, "highest", probability)
    assert sorted(asked) == [1, 2]
    assert labels.full().ravel().tolist() == [1, 1, 2, 0, 3, 9]
