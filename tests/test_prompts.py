import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palpate.errors import PromptError
from palpate.prompts import Click, check_inside
from palpate.volume import Grid

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


def test_a_place_beyond_all_integers_is_outside() -> None:
    with pytest.raises(PromptError, match="lies outside the scan, which spans"):
        Click.at_mm(Grid((4, 4, 4), np.eye(4)), (1e20, 0, 0))
