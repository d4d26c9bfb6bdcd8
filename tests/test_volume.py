from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palpate.errors import GeometryError, ScanError
from palpate.volume import FloatArray, Grid, Volume

# 2 x 3 x 4 mm voxels, x to the left, y to the back.
AFFINE = np.array([[-2, 0, 0, 10], [0, -3, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1.0]])
GRID = Grid((5, 6, 7), AFFINE)


def test_a_grid_by_hand() -> None:
    assert GRID.spacing.tolist() == [2, 3, 4]
    assert GRID.voxel_ml == pytest.approx(0.024)
    assert GRID.orientation == "LPS"
    assert GRID.to_mm((1, 2, 3)).tolist() == [8, 14, 42]
    assert GRID.to_index([[8, 14, 42], [9, 20, 30]]).tolist() == [[1, 2, 3], [0.5, 0, 0]]


def test_orientation_of_turned_axes() -> None:
    # Sagittal slices: x backwards, y down, z to the right.
    affine = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    grid = Grid((2, 2, 2), affine)
    assert grid.orientation == "PIR"
    assert grid.anatomical_axes == ((2, 1), (0, -1), (1, -1))


def test_an_oblique_grid_names_each_direction_once() -> None:
    tilt = np.radians(44)
    affine = np.eye(4)
    affine[:3, :3] = [[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]]
    assert Grid((2, 2, 2), affine).orientation == "RAS"


@given(st.integers(0, 2**32 - 1))
def test_millimetres_and_indices_are_inverse(seed: int) -> None:
    random = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(random.normal(size=(3, 3)))[0] * random.uniform(0.1, 8, 3)
    affine[:3, 3] = random.uniform(-500, 500, 3)
    grid = Grid((9, 8, 7), affine)
    index = random.uniform(-20, 20, (4, 3))
    np.testing.assert_allclose(grid.to_index(grid.to_mm(index)), index, atol=1e-9)
    assert sorted(axis for axis, _ in grid.anatomical_axes) == [0, 1, 2]


def test_a_grid_is_not_changed_from_outside() -> None:
    affine = AFFINE.copy()
    grid = Grid((5, 6, 7), affine)
    affine[0, 3] = 99
    assert grid.affine[0, 3] == 10
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 3] = 99


def test_tiny_voxels_are_a_grid() -> None:
    assert Grid((2, 2, 2), np.diag([1e-4, 1e-4, 1e-4, 1])).voxel_ml == pytest.approx(1e-15)


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.zeros((4, 4)), "cannot be inverted"),
        (np.diag([1.0, 0, 1, 1]), "cannot be inverted"),
        (np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "cannot be inverted"),
        (np.diag([1.0, np.nan, 1, 1]), "NaN or infinity"),
        (np.eye(3), r"4 x 4, this one is \(3, 3\)"),
        (np.diag([1.0, 1, 1, 2]), "last row"),
    ],
)
def test_an_affine_that_is_not_a_grid_s(affine: FloatArray, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        Grid((2, 2, 2), affine)


def test_a_grid_without_voxels() -> None:
    with pytest.raises(GeometryError, match=r"shape \(2, 0, 2\)"):
        Grid((2, 0, 2), np.eye(4))


def test_same_as_allows_rounding_only() -> None:
    moved = AFFINE.copy()
    moved[0, 3] += 1e-4
    assert GRID.same_as(Grid((5, 6, 7), moved))
    moved[0, 3] += 3e-2  # 0.015 of the shortest edge, 2 mm
    assert not GRID.same_as(Grid((5, 6, 7), moved))
    assert not GRID.same_as(Grid((5, 6, 8), AFFINE))


def test_differences_name_the_part_and_both_values() -> None:
    assert GRID.differences(Grid((5, 6, 7), AFFINE + 1e-4 * np.eye(4, k=3))) == []
    moved = AFFINE.copy()
    moved[:3, 3] += (3, 0, -0.5)
    origin = ", ".join(f"{value:g}" for value in moved[:3, 3])
    (only,) = Grid((5, 6, 7), moved).differences(GRID)
    assert only.startswith(f"origin ({origin}) mm (RAS), the scan's (")
    flipped = AFFINE @ np.diag([-1.0, 1.0, 1.0, 1.0])
    assert "directions" in Grid((5, 6, 7), flipped).differences(GRID)[0]
    assert Grid((5, 6, 8), AFFINE).differences(GRID) == ["shape (5, 6, 8), the scan's (5, 6, 7)"]


def test_same_as_compares_the_far_corner() -> None:
    stretched = AFFINE.copy()
    stretched[0, 0] *= 1.003  # 4 steps of 6 µm: 0.012 of an edge
    assert not GRID.same_as(Grid((5, 6, 7), stretched))


def test_a_volume_drops_trailing_axes_of_one() -> None:
    volume = Volume(np.zeros((5, 6, 7, 1, 1), np.int16), AFFINE)
    assert volume.array.shape == volume.shape == (5, 6, 7)
    assert volume.array.dtype == np.int16


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4)), r"2 axes, shape \(4, 4\)"),
        (np.zeros((4, 4, 4, 2)), "split a series of volumes"),
        (np.zeros((4, 0, 4)), "empty"),
        (np.zeros((2, 2, 2), complex), "not real numbers"),
        (np.zeros((2, 2, 2), [("R", "u1"), ("G", "u1")]), "not real numbers"),
        (np.array([[[0, np.nan], [np.inf, 1.0]]]), "2 of 4 voxels are NaN or infinite"),
    ],
)
def test_what_is_no_scan(array: Any, message: str) -> None:
    with pytest.raises(ScanError, match=message):
        Volume(array, np.eye(4))


def test_large_values_are_not_taken_for_infinite() -> None:
    Volume(np.full((2, 2, 2), 3e38, np.float32), np.eye(4))
    Volume(np.full((2, 2, 2), 1.7e308), np.eye(4))


def test_directions_are_those_of_each_array_axis() -> None:
    """Axes stored front to back, head to feet, left to right: A, S and R, of which the first two run backwards."""
    affine = np.zeros((4, 4))
    affine[1, 0], affine[2, 1], affine[0, 2], affine[3, 3] = -1, -2, 3, 1
    assert Grid((3, 4, 5), affine).directions == (-1, -1, 1)
