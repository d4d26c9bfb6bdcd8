import numpy as np
import pytest

from palpate.errors import GeometryError
from palpate.masks import Mask, Patch, Probability
from palpate.volume import Grid, Source, Volume

# 2 x 3 x 4 mm voxels, x to the left, y to the back.
AFFINE = np.array([[-2, 0, 0, 10], [0, -3, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1.0]])
GRID = Grid((5, 6, 7), AFFINE)


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
