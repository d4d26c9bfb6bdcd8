from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palpate.errors import GeometryError, ScanError
from palpate.volume import FloatArray, Grid, Mask, Patch, Probability, Source, Volume

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
    moved[0, 3] += 1e-2
    assert not GRID.same_as(Grid((5, 6, 7), moved))
    assert not GRID.same_as(Grid((5, 6, 8), AFFINE))


def test_same_as_looks_at_the_far_corner() -> None:
    stretched = AFFINE.copy()
    stretched[0, 0] *= 1.001
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


def test_a_mask_by_hand() -> None:
    inside = np.zeros((3, 2, 2), bool)
    inside[0, 0, 0] = inside[2, 1, 0] = True
    mask = Mask(inside, (1, 3, 4), GRID)
    assert mask.voxels == 2
    assert mask.volume_ml == pytest.approx(0.048)
    assert mask.bounds == ((1, 3, 4), (3, 4, 4))
    assert mask.extent_mm == (6, 6, 4)
    assert not mask.empty
    assert np.argwhere(mask.full()).tolist() == [[1, 3, 4], [3, 4, 4]]
    assert mask.full().shape == GRID.shape


def test_an_empty_mask() -> None:
    mask = Mask(np.zeros((2, 2, 2)), (0, 0, 0), GRID)
    assert mask.empty
    assert mask.bounds is None
    assert mask.extent_mm == (0, 0, 0)
    assert mask.volume_ml == 0


@pytest.mark.parametrize("start", [(-1, 0, 0), (4, 0, 0)])
def test_a_patch_lies_in_its_grid(start: tuple[int, int, int]) -> None:
    with pytest.raises(GeometryError, match="does not lie in a grid"):
        Patch(np.zeros((2, 2, 2)), start, GRID)


def test_a_probability_is_cut_above_its_threshold() -> None:
    probability = Probability(np.array([[[0.4, 0.5, 0.6]]], np.float32), (1, 1, 1), GRID)
    assert probability.threshold().array.tolist() == [[[False, False, True]]]
    assert probability.threshold(0.3).voxels == 3
    assert probability.threshold().start == (1, 1, 1)


def test_a_cropped_mask_is_the_same_mask_in_less_room() -> None:
    array = np.zeros((4, 5, 6), bool)
    array[1, 2, 3] = array[2, 2, 5] = True
    mask = Mask(array, (1, 0, 1), GRID)
    cropped = mask.cropped()
    assert (cropped.start, cropped.array.shape) == ((2, 2, 4), (2, 1, 3))
    assert np.array_equal(cropped.full(), mask.full())
    nothing = Mask(np.zeros((2, 2, 2), bool), (1, 1, 1), GRID).cropped()
    assert nothing.empty
    assert nothing.bounds is None
    assert nothing.array.size == 0
    assert np.array_equal(nothing.full(), np.zeros(GRID.shape, bool))
    assert nothing.cropped().full().shape == GRID.shape


def test_directions_are_those_of_each_array_axis() -> None:
    """Axes stored front to back, head to feet, left to right: A, S and R, of which the first two run backwards."""
    affine = np.zeros((4, 4))
    affine[1, 0], affine[2, 1], affine[0, 2], affine[3, 3] = -1, -2, 3, 1
    assert Grid((3, 4, 5), affine).directions == (-1, -1, 1)


def test_each_shows_itself_on_one_line() -> None:
    inside = np.ones((3, 2, 2), bool)
    grid = "5 x 6 x 7 voxels of 2 x 3 x 4 mm, LPS"
    assert repr(GRID) == f"Grid({grid})"
    volume = Volume(np.zeros((5, 6, 7), np.int16), AFFINE, Source("a.nii.gz", "nifti", None))
    assert repr(volume) == f"Volume({grid}, int16, from a.nii.gz)"
    mask = Mask(inside, (1, 3, 4), GRID)
    assert mask.description == f"0.288 mL, 12 voxels in 3 x 2 x 2 at (1, 3, 4) of {grid}, made in memory"
    assert repr(mask) == f"Mask({mask.description})"
    for kind in (Patch, Probability):
        shown = f"{kind.__name__}(3 x 2 x 2 at (1, 3, 4) of {grid}, from a.nii.gz)"
        assert repr(kind(inside, (1, 3, 4), GRID, volume.source)) == shown


def test_numpy_takes_a_mask_as_its_whole_grid() -> None:
    mask = Mask(np.ones((3, 2, 2), bool), (1, 3, 4), GRID)
    array = np.asarray(mask)
    assert array.dtype == bool
    assert np.array_equal(array, mask.full())
    assert np.asarray(mask, dtype=np.uint8).dtype == np.uint8
    assert np.array(mask, copy=True).sum() == 12
    with pytest.raises(ValueError, match="copy=False"):
        np.array(mask, copy=False)
    probability = Probability(np.full((1, 1, 1), 0.5, np.float32), (0, 0, 0), GRID)
    assert np.asarray(probability).dtype == np.float32
    assert np.asarray(probability)[0, 0, 0] == 0.5
