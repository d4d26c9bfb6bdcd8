"""Connected components: every voxel once, by corners too, in the order of their first voxels."""

import numpy as np
import pytest

from palpate.lesions import connected_components


def test_by_hand() -> None:
    array = np.zeros((5, 4, 3), bool)
    array[4, 0, 0] = array[1, 1, 1] = array[2, 2, 2] = array[1, 3, 0] = True
    diagonal, alone, last = connected_components(array)
    assert diagonal.box == np.s_[1:3, 1:3, 1:3]
    assert diagonal.inside.tolist() == [[[True, False], [False, False]], [[False, False], [False, True]]]
    assert (diagonal.first, alone.first, last.first) == ((1, 1, 1), (1, 3, 0), (4, 0, 0))


@pytest.mark.parametrize("shape", [(0, 3, 3), (3, 3, 3)])
def test_nothing_has_no_component(shape: tuple[int, int, int]) -> None:
    assert connected_components(np.zeros(shape, bool)) == []


def test_every_voxel_is_in_one_component() -> None:
    array = np.random.default_rng(0).random((12, 11, 10)) < 0.08
    count = np.zeros(array.shape, int)
    for component in connected_components(array):
        count[component.box] += component.inside
    assert np.array_equal(count, array.astype(int))


def test_an_array_that_may_not_be_written_is_labelled_too() -> None:
    """As a mask from a session's cache is."""
    array = np.zeros((4, 4, 4), bool)
    array[1, 1, 1] = array[3, 3, 3] = True
    array.flags.writeable = False
    assert [component.first for component in connected_components(array)] == [(1, 1, 1), (3, 3, 3)]
