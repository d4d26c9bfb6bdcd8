"""On which slices prompts and masks are seen: counted by hand."""

import numpy as np
import pytest

from palpate.masks import Mask
from palpate.pictures.slice_counts import Slice, prompt_slice_counts, slice_counts, voxel_of
from palpate.prompts import Box, Click, InitialMask, Lasso, Prompt, Scribble
from scans import cube, empty, plain

GRID = plain((20, 20, 20)).grid
LASSO = Lasso(2, 7, np.array([(3.5, 3.5), (8.5, 3.5), (8.5, 8.5), (3.5, 8.5)]))  # 4 to 8 along x and y, on z = 7


def seen(prompt: Prompt) -> list[set[int]]:
    """Of each axis, the slices that show a prompt."""
    found = prompt_slice_counts(prompt)
    return [{index for index in range(20) if found.shown_on(Slice(axis, index))} for axis in range(3)]


@pytest.mark.parametrize(
    ("prompt", "slices"),
    [
        (Click((3, 4, 5)), [{3}, {4}, {5}]),
        (Click((3, 4, 5), positive=False), [{3}, {4}, {5}]),
        # A box is cut by each slice within it; one voxel thick it is seen on its own slice alone.
        (Box((2, 3, 4), (5, 6, 7)), [{2, 3, 4, 5}, {3, 4, 5, 6}, {4, 5, 6, 7}]),
        (Box((2, 3, 9), (8, 7, 9)), [set(), set(), {9}]),
        # Nine voxels on z = 6; every other slice holds one of them, but for y = 5, which holds all.
        (Scribble.along([(4, 5, 6), (12, 5, 6)]), [set(), {5}, {6}]),
        (LASSO, [set(), set(), {7}]),
        (InitialMask(cube(GRID, (4, 4, 4), (6, 6, 6))), [{4, 5, 6}, {4, 5, 6}, {4, 5, 6}]),
    ],
    ids=["click", "background", "box", "slice box", "stroke", "lasso", "initial mask"],
)
def test_slices_that_show_a_prompt(prompt: Prompt, slices: list[set[int]]) -> None:
    assert seen(prompt) == slices


def test_counts_are_those_of_the_voxels() -> None:
    for prompt in (LASSO, Box((2, 3, 4), (5, 7, 4)), Scribble(np.array([(1, 2, 3), (1, 3, 3), (4, 2, 3)]))):
        found = prompt_slice_counts(prompt)
        painted = np.zeros((20, 20, 20), dtype=bool)
        if isinstance(prompt, Box):
            painted[2:6, 3:8, 4] = True
        else:
            painted[tuple(prompt.places.T)] = True
        for axis in range(3):
            counts = painted.sum(axis=tuple(a for a in range(3) if a != axis))
            assert [found.on(Slice(axis, index)) for index in range(20)] == counts.tolist()


def test_an_empty_mask_is_seen_nowhere() -> None:
    found = slice_counts(empty(GRID))
    assert found.most == 0
    assert not found.shown_on(Slice(0, 0))
    assert list(found.candidates((0, 1, 2))) == []


def test_candidates_begin_with_the_fullest_and_most_central() -> None:
    lesion = np.zeros((10, 10, 9), dtype=bool)
    lesion[1:9, 1:9, 1:8] = True  # 64 voxels on each of z = 1 to 7
    lesion[0, 0:3, 6] = True  # 67 on z = 6
    found = list(slice_counts(Mask(lesion, (2, 2, 2), GRID)).candidates([2]))
    assert found[0] == (Slice(2, 8), 1.0)
    assert [place.index for place, _ in found[1:]] == [6, 5, 7, 4, 3, 9]
    assert found[1][1] == pytest.approx(64 / 67)


def test_middle_has_most_of_the_lesion_near_its_middle() -> None:
    lesion = np.zeros((12, 12, 12), dtype=bool)
    lesion[5:7, 5:7, 1:10] = True  # nine slices; the middle half is 3 to 7
    lesion[3:9, 3:9, 1] = True  # the largest, but at the end
    lesion[4:7, 5:7, 6] = True  # the largest in the middle
    assert slice_counts(Mask(lesion, (0, 0, 0), GRID)).middle(2) == 6
    lesion[:] = False
    lesion[5, 5, [0, 11]] = True
    lesion[5, 6, 11] = True
    assert slice_counts(Mask(lesion, (0, 0, 0), GRID)).middles == (5, 5, 11)


def test_voxel_of_a_prompt_is_one_of_its_own() -> None:
    bent = Scribble.along([(0, 0, 3), (10, 0, 3), (10, 10, 3)])
    assert voxel_of(Click((1, 2, 3))) == (1, 2, 3)
    assert voxel_of(Box((2, 3, 9), (8, 6, 9))) == (5, 4, 9)
    assert voxel_of(bent) in set(map(tuple, bent.places.tolist()))
    assert voxel_of(LASSO) == (6, 6, 7)
    assert voxel_of(InitialMask(cube(GRID, (4, 4, 4), (8, 8, 8)))) == (6, 6, 6)
