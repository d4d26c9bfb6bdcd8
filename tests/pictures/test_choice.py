"""Which slices are shown: the first prompt's where the mask misses it, and one for each prompt as far as they reach."""

import numpy as np

from palpate.pictures.choice import MAX_FURTHER, central_voxel, choose_slices
from palpate.pictures.slice_counts import Slice, prompt_slice_counts, slice_counts
from palpate.prompts import Box, Click, Lasso, Prompt, Scribble
from scans import cube, empty, plain

GRID = plain((60, 60, 60)).grid
MASK = cube(GRID, (20, 20, 20), (29, 29, 29))  # its middle slices are 24, of equals the lower one


def chosen(*prompts: Prompt) -> tuple[list[Slice], list[int]]:
    """The slices for the mask and prompts, and the numbers of the prompts that none shows; 0 is the mask."""
    centre = central_voxel(GRID, [MASK], prompts, None)
    slices, unseen = choose_slices(GRID, centre, [slice_counts(MASK), *map(prompt_slice_counts, prompts)])
    return list(slices), [place for place, _ in unseen]


def test_planes_go_through_the_first_prompt_inside_the_mask() -> None:
    assert chosen(Click((22, 25, 28)), Click((24, 24, 24)))[0][:3] == [Slice(2, 28), Slice(1, 25), Slice(0, 22)]


def test_planes_go_through_the_first_foreground_prompt_where_the_mask_misses_it() -> None:
    off = Click((40, 41, 42))
    slices, unseen = chosen(Click((24, 24, 24), positive=False), off)
    assert slices[:3] == [Slice(2, 42), Slice(1, 41), Slice(0, 40)]
    assert unseen == []
    # Further slices show the mask and the background click: here one shows both.
    assert slices[3:] == [Slice(2, 24)]


def test_a_plane_with_little_of_the_mask_gives_way_to_the_middle() -> None:
    lesion = np.zeros((10, 10, 10), dtype=bool)
    lesion[2:8, 2:8, 2:8] = True
    lesion[4, 4, 9] = lesion[4, 4, 8] = True  # a thin tip, in which the click lies
    mask = type(MASK)(lesion, (20, 20, 20), GRID)
    x, y, z = central_voxel(GRID, [mask], [Click((24, 24, 29))], None)
    assert (x, y) == (24, 24)
    assert 22 <= z <= 27


def test_an_empty_mask_is_shown_at_the_first_prompt_else_the_truth_else_the_middle() -> None:
    nothing, truth = empty(GRID), cube(GRID, (2, 3, 4), (2, 3, 4))
    clicks = [Click((1, 1, 1)), Click((7, 8, 9))]
    assert central_voxel(GRID, [nothing], clicks, truth) == (1, 1, 1)
    assert central_voxel(GRID, [nothing], [Click((5, 5, 5), positive=False)], truth) == (5, 5, 5)
    assert central_voxel(GRID, [nothing], (), truth) == (2, 3, 4)
    assert central_voxel(GRID, [nothing], (), nothing) == (30, 30, 30)


def test_of_several_masks_the_largest_is_in_the_middle() -> None:
    small = cube(GRID, (2, 2, 2), (3, 3, 3))
    assert central_voxel(GRID, [small, MASK, empty(GRID)], (), None) == (24, 24, 24)


def test_prompts_on_other_slices_have_further_ones() -> None:
    first, second, third = Click((24, 24, 24)), Click((40, 10, 35), positive=False), Click((10, 45, 35))
    slices, unseen = chosen(first, second, third)
    # One axial slice shows both; each alone would lie on three.
    assert slices == [Slice(2, 24), Slice(1, 24), Slice(0, 24), Slice(2, 35)]
    assert unseen == []


def test_of_slices_that_show_as_much_an_axial_one_is_taken() -> None:
    small = cube(GRID, (40, 50, 40), (45, 51, 46))  # 12 voxels on an axial slice, 42 on a coronal and 14 on a sagittal
    centre = central_voxel(GRID, [MASK, small], (), None)
    slices, unseen = choose_slices(GRID, centre, [slice_counts(MASK), slice_counts(small)])
    assert slices[3:] == (Slice(1, 50),)  # no other shows half of it
    ball = cube(GRID, (40, 50, 40), (45, 54, 46))  # 30, 42 and 35
    slices, unseen = choose_slices(GRID, centre, [slice_counts(MASK), slice_counts(ball)])
    assert slices[3:] == (Slice(2, 43),)
    assert unseen == ()


def test_a_prompt_on_any_of_the_planes_needs_no_further_one() -> None:
    assert len(chosen(Click((24, 24, 24)), Click((24, 50, 7)))[0]) == 3


def test_lassos_and_slice_boxes_are_shown_on_their_own_slice() -> None:
    lasso = Lasso(0, 33, np.array([(10, 10), (30, 10), (30, 30), (10, 30)]))
    slices, _ = chosen(Click((24, 24, 24)), lasso, Box((10, 50, 10), (40, 50, 40)))
    # Both cross the three planes, as a line of voxels.
    assert slices[3:] == [Slice(0, 33), Slice(1, 50)]


def test_what_is_too_much_is_left_out_and_named() -> None:
    clicks = [Click((24, 24, 24)), *(Click((n, n, n), positive=False) for n in range(40, 50))]
    slices, unseen = chosen(*clicks)
    assert len(slices) == 3 + MAX_FURTHER
    assert slices[3:] == [Slice(2, 40), Slice(2, 41), Slice(2, 42)]
    assert unseen == [5, 6, 7, 8, 9, 10, 11]
    centre = central_voxel(GRID, [MASK], clicks, None)
    places = choose_slices(GRID, centre, [slice_counts(MASK), *map(prompt_slice_counts, clicks)])[1]
    assert places[0] == (5, Slice(2, 43))


def test_two_thousand_prompts_are_chosen_from() -> None:
    random = np.random.default_rng(0)
    prompts: list[Prompt] = [Click(tuple(index)) for index in random.integers(0, 60, (1990, 3)).tolist()]
    for n in range(10):
        prompts.append(Scribble.along([(5, n, 9), (50, n, 9)]))
    slices, unseen = chosen(*prompts)
    assert len(slices) == 6
    assert 1500 < len(unseen) < 2000
