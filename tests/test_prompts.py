from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palpate.errors import PromptError
from palpate.prompts import Box, Click, Lasso, Prior, Prompt, Scribble, check_inside
from palpate.volume import Grid, Mask

# 2 x 3 x 4 mm voxels, x to the left: voxel (1, 2, 3) lies at (10 - 2, 20 + 6, 30 + 12) mm.
GRID = Grid((5, 6, 7), np.array([[-2, 0, 0, 10], [0, 3, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1.0]]))


def test_whole_numbers_of_any_kind_are_a_click() -> None:
    assert Click((1, 2, 3)) == Click((np.int16(1), 2.0, 3))  # type: ignore[arg-type]
    assert Click((1, 2, 3)).index == (1, 2, 3)


@pytest.mark.parametrize("index", [(1, 2), (1, 2, 3, 4), ("a", 1, 2), (np.nan, 1, 2), (1.5, 2, 3), ()])
def test_anything_else_is_not(index: object) -> None:
    with pytest.raises(PromptError, match="a click"):
        Click(index)  # type: ignore[arg-type]


def test_a_place_falls_into_the_nearest_voxel() -> None:
    assert Click.at_mm(GRID, (8, 26, 42)).index == (1, 2, 3)
    assert Click.at_mm(GRID, (8.9, 24.6, 43.9)).index == (1, 2, 3)


def test_a_place_midway_goes_to_the_higher_index() -> None:
    assert Click.at_mm(GRID, (9, 26, 42)).index == (1, 2, 3)


@given(st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 6)))
def test_every_voxel_centre_finds_its_voxel(index: tuple[int, int, int]) -> None:
    assert Click.at_mm(GRID, GRID.to_mm(index).tolist()).index == index


def test_a_place_outside_is_refused_with_the_scan_s_span() -> None:
    with pytest.raises(PromptError, match=r"R 1\.0 to 11\.0, A 18\.5 to 36\.5, S 28\.0 to 56\.0 mm"):
        Click.at_mm(GRID, (12, 26, 42))
    with pytest.raises(PromptError, match="three RAS millimetres"):
        Click.at_mm(GRID, (np.inf, 0, 0))


def test_clicks_must_be_there_and_inside() -> None:
    check_inside([Click((0, 0, 0)), Click((4, 5, 6))], GRID)
    with pytest.raises(PromptError, match="at least one"):
        check_inside([], GRID)
    for index in ((5, 0, 0), (0, -1, 0)):
        with pytest.raises(PromptError, match="x 0 to 4, y 0 to 5, z 0 to 6"):
            check_inside([Click(index)], GRID)


def test_too_many_prompts() -> None:
    grid = Grid((4, 4, 4), np.eye(4))
    check_inside([Click((1, 2, 3))] * 2000, grid)
    with pytest.raises(PromptError, match="10000 prompts are more than the 2000 that one lesion may have; give many"):
        check_inside([Click((1, 2, 3))] * 10_000, grid)


def test_a_place_beyond_all_integers_is_outside() -> None:
    with pytest.raises(PromptError, match="lies outside the scan, which spans"):
        Click.at_mm(Grid((4, 4, 4), np.eye(4)), (1e20, 0, 0))


def test_boxes_are_put_in_order() -> None:
    box = Box((5, 2, 9), (1, 8, 9))
    assert (box.first, box.last) == ((1, 2, 9), (5, 8, 9))
    assert box.places.tolist() == [[1, 2, 9], [5, 8, 9]]
    with pytest.raises(PromptError, match="whole numbers"):
        Box((0.5, 0, 0), (1, 1, 1))  # type: ignore[arg-type]


def test_a_stroke_runs_straight_and_names_each_voxel_once() -> None:
    stroke = Scribble.along([(0, 0, 0), (2, 2, 0), (2, 0, 0), (0, 0, 0)])
    expected = [(0, 0, 0), (1, 1, 0), (2, 2, 0), (2, 1, 0), (2, 0, 0), (1, 0, 0)]
    assert [tuple(place) for place in stroke.places.tolist()] == expected
    assert Scribble.along([(4, 4, 4)]).places.tolist() == [[4, 4, 4]]


def test_a_painted_array_is_a_stroke() -> None:
    grid = Grid((4, 5, 6), np.eye(4))
    mask = np.zeros(grid.shape, bool)
    mask[1, 2, 3] = mask[0, 0, 0] = True
    assert Scribble.of(mask, grid, positive=False).places.tolist() == [[0, 0, 0], [1, 2, 3]]
    with pytest.raises(PromptError, match=r"a scribble of shape \(4, 5\) does not fit a scan of \(4, 5, 6\)"):
        Scribble.of(mask[..., 0], grid)
    with pytest.raises(PromptError, match="at least one"):
        Scribble.of(mask & False, grid)


def test_a_lasso_by_hand() -> None:
    """A triangle: pixel centres strictly inside, and those on its left edges."""
    lasso = Lasso(2, 7, np.array([(0.5, 0.5), (4.5, 0.5), (0.5, 4.5)]))
    assert {tuple(place) for place in lasso.places.tolist()} == {
        (1, 1, 7), (1, 2, 7), (1, 3, 7), (2, 1, 7), (2, 2, 7), (3, 1, 7),
    }  # fmt: skip
    square = Lasso(0, 3, np.array([(0.5, 0.5), (2.5, 0.5), (2.5, 3.5), (0.5, 3.5)]), positive=False)
    assert {tuple(place) for place in square.places.tolist()} == {(3, u, v) for u in (1, 2) for v in (1, 2, 3)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Lasso(3, 0, np.zeros((3, 2))), "axis is 0, 1 or 2, not 3"),
        (lambda: Lasso(0, 0, np.zeros((2, 2))), "at least three corners"),
        (lambda: Lasso(0, 0, np.array([(0, 0), (1, np.nan), (1, 1)])), "two finite numbers"),
        (lambda: Lasso(0, 0, np.array([(0.2, 0.2), (0.4, 0.2), (0.3, 0.4)])), "encloses no voxel"),
        (lambda: Scribble.along([(0, 0, 0.5)]), "whole numbers"),
        (lambda: Scribble.along([(0, 0, np.nan)]), "whole numbers"),
        (lambda: Scribble(np.zeros((3, 2), int)), "a list of voxel indices"),
        (lambda: Scribble(np.zeros((1_000_001, 3), int)), "give it as a prior mask"),
        (lambda: Click((10**19, 0, 0)), "lies outside any scan"),
        (lambda: Click((10**400, 0, 0)), "three voxel indices"),
        (lambda: Click((int(1e300), 0, 0)), "three voxel indices"),
        (lambda: Box((0, 0, 0), (0, -(10**18), 0)), "lies outside any scan"),
        (lambda: Scribble.along([(0, 0, 0), (0, 0, 10**18)]), "a scribble lies outside any scan"),
        (lambda: Scribble.along([(0, 0, 0), (0, 0, 10**9)]), "a scribble of 1000000000 voxels is more than 1000000"),
        (lambda: Lasso(0, 0, np.array([(0, 0), (2**32, 0), (0, 2**32)])), "a lasso lies outside any scan"),
        (lambda: Lasso(0, 0, np.array([(0, 0), (2**31, 0), (0, 2**31)])), "encloses no voxel"),
        (lambda: Prior(Mask(np.zeros((2, 2, 2)), (0, 0, 0), Grid((2, 2, 2), np.eye(4)))), "the prior mask is empty"),
    ],
)
def test_prompts_that_are_none(make: Callable[[], object], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        make()


def test_prompts_that_do_not_fit_the_scan_or_each_other() -> None:
    grid = Grid((10, 10, 10), np.eye(4))
    lesion = np.zeros((10, 10, 9), bool)
    lesion[2, 2, 2] = True
    cases: list[tuple[list[Prompt], str]] = [
        ([], "at least one click"),
        ([Click((1, 1, 1), positive=False)], "nothing says where the lesion is"),
        ([Box((0, 0, 0), (3, 3, 10))], r"box \(3, 3, 10\) lies outside the scan; valid voxel indices: x 0 to 9"),
        ([Scribble.along([(8, 8, 8), (8, 8, 12)])], r"scribble \(8, 8, 10\) lies outside"),
        ([Click((1, 1, 1)), Click((1, 1, 1), positive=False)], r"voxel \(1, 1, 1\) is called lesion and not lesion"),
        ([Scribble.along([(0, 0, 0), (4, 4, 4)]), Click((2, 2, 2), positive=False)], r"voxel \(2, 2, 2\) is called"),
        ([Prior(Mask(lesion, (0, 0, 0), Grid((10, 10, 9), np.eye(4))))], "lies on another grid"),
    ]
    for prompts, message in cases:
        with pytest.raises(PromptError, match=message):
            check_inside(prompts, grid)
    check_inside([Box((0, 0, 0), (9, 9, 9)), Click((1, 1, 1)), Click((1, 1, 2), positive=False)], grid)
