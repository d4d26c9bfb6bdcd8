"""Padding: which constant is one, by hand; and that what is padding is outside the scan, in training and inference."""

import numpy as np
import pytest
import torch

from palpate.cohort.augmentation import Augmentation, PromptSampling
from palpate.cohort.sampling import CropSampler
from palpate.frame import CropPercentiles, Frame, Padding, Preprocessing, find_padding
from palpate.frame.padding import Cells, FilledVoxels, padding_value
from palpate.volume import Grid, Volume
from small import prepared_scan

SETTINGS = Preprocessing(crop=(16, 16, 16), spacing=(1.0, 1.0, 1.0), normalisation=CropPercentiles(low=0, high=100))
GRID = Grid((24, 24, 24), np.eye(4))

STILL = Augmentation(
    zoom=(1, 1), stretch=1, rotation_degrees=(0, 0, 0), translation=0,
    flip_prob=(0, 0, 0), contrast=0, brightness=0, noise=0
)  # fmt: skip


def padding_of(array: np.ndarray) -> Padding:
    found = find_padding(array, Grid(array.shape, np.eye(4)))
    assert found is not None
    return found


def head(fill: float) -> np.ndarray:
    """Noise about 100 in a block of 12 voxels of a scan of 24; the rest is filled."""
    array = np.full(GRID.shape, fill, dtype=np.float32)
    array[6:18, 6:18, 6:18] = np.random.default_rng(0).normal(100, 10, (12, 12, 12))
    return array


@pytest.mark.parametrize(
    ("fill", "found"),
    [(0, 0.0), (4095, 4095.0), (-3024, -3024.0), (-2000, -2000.0), (-1025, -1025.0), (-1024, None), (-1000, None)],
)
def test_a_constant_border_pads_unless_it_is_air(fill: float, found: float | None) -> None:
    assert padding_value(head(fill), GRID.shape) == found


@pytest.mark.parametrize(("fill", "found"), [(-3024, -3024), (0, None)])
def test_outside_the_scanners_circle(fill: int, found: int | None) -> None:
    """A fifth of the faces: too little for a value that is measured somewhere, enough for one that never is."""
    x, y = np.meshgrid(np.arange(40) - 19.5, np.arange(40) - 19.5, indexing="ij")
    array = np.random.default_rng(0).normal(-850, 20, (40, 40, 10)).astype(np.int16)
    array[np.hypot(x, y) > 19.5] = fill
    assert padding_value(array, array.shape) == found


@pytest.mark.parametrize("radius", [50, 55, 60])
def test_a_fill_that_nothing_measures_may_be_rarer_than_air(radius: int) -> None:
    """-3024 outside a circle of 55 in a square of 100 is 11 % of the scan's faces, constant air far more."""
    x, y = np.meshgrid(np.arange(100) - 49.5, np.arange(100) - 49.5, indexing="ij")
    array = np.full((100, 100, 10), -1024, np.int16)
    array[20:80, 20:80] = np.random.default_rng(0).normal(0, 50, (60, 60, 10))
    array[np.hypot(x, y) > radius] = -3024
    assert padding_value(array, array.shape) == -3024


def test_noise_and_a_corner_are_no_padding() -> None:
    rng = np.random.default_rng(0)
    few = rng.integers(0, 2, (30, 30, 30))
    assert padding_value(few, few.shape) is None, "half of the faces have the value, but not beside its like"
    array = rng.normal(0, 50, (30, 30, 30))
    assert padding_value(array, array.shape) is None
    array[:8, :8, :8] = -3024  # 3.6 % of the faces, and a little less has its like on all sides
    assert padding_value(array, array.shape) is None
    array[:11, :11, :11] = -3024  # 6.7 %
    assert padding_value(array, array.shape) == -3024


def test_a_scan_of_one_slice() -> None:
    flat = np.zeros((30, 30, 1), np.uint8)
    flat[5:25, 5:25, 0] = np.random.default_rng(0).integers(50, 200, (20, 20))
    assert padding_value(flat, flat.shape) == 0


@pytest.mark.parametrize("values", [(0, 1), (100, 100), (0, 700, 950)])
def test_a_drawing_has_no_padding(values: tuple[int, ...]) -> None:
    """Its background is all that what is drawn stands out from."""
    array = np.full((24, 24, 24), values[0], np.int16)
    for number, value in enumerate(values):
        array[6 + 4 * number : 9 + 4 * number, 8:16, 8:16] = value
    assert padding_value(array, array.shape) is None
    assert padding_value(array > 0, array.shape) is None


def test_padding_is_outside_the_scan() -> None:
    """The image is that of the block alone, wherever the padding's value lies; and zero outside it."""
    alone = Volume(head(0)[6:18, 6:18, 6:18], np.diag([1.0, 1, 1, 1]))
    expected = Frame.centred(alone.grid, (6, 6, 6), SETTINGS).image(alone.array, SETTINGS.normalisation)
    for fill in (0.0, -3024.0, 9999.0):
        image = Frame.centred(GRID, (12, 12, 12), SETTINGS).image(
            head(fill), SETTINGS.normalisation, padding=padding_of(head(fill))
        )
        torch.testing.assert_close(image, expected, atol=1e-3, rtol=1e-3)  # places are rounded
    assert int((expected == 0).sum()) == 16**3 - 12**3


def test_beside_padding_its_part_is_taken_out() -> None:
    """Crop voxels of two scan voxels each, one of which is padding: what is left is the other, not their mean."""
    array = np.full((16, 16, 16), -3024.0, dtype=np.float32)
    array[3:12, 3:12, 3:12] = 50
    array[8, 3:12, 3:12] += np.linspace(-1e-3, 1e-3, 81).reshape(9, 9)  # else a drawing, which has no padding
    frame = Frame.centred(
        Grid(array.shape, np.eye(4)), (8, 8, 8), SETTINGS.zoomed(2.0).model_copy(update={"crop": (8, 8, 8)})
    )
    values, inside, _ = frame.extract_scan(array, padding_of(array))
    mixed, _ = frame.extract(array)
    assert int(((mixed < 0) & inside).sum()) > 30, "on the edge, half of each is padding"
    assert values[inside].min() >= 50 - 2e-3
    assert values[inside].max() <= 50 + 2e-3


def with_cavity() -> tuple[np.ndarray, np.ndarray]:
    """A block of 32 voxels in a scan of 40 that is padded with 0, and in the block a cavity of 16 of the same value."""
    array, block = np.zeros((40, 40, 40), np.float32), np.zeros((40, 40, 40), bool)
    block[4:36, 4:36, 4:36] = True
    array[block] = np.random.default_rng(0).normal(100, 10, 32**3)
    array[12:28, 12:28, 12:28] = 0
    return array, block


@pytest.mark.parametrize("crop", [8, 16, 40])
@pytest.mark.parametrize("centre", [(20, 20, 20), (12, 20, 20), (24, 12, 28)])
def test_a_cavity_of_the_patient_stays_in_every_crop(crop: int, centre: tuple[int, int, int]) -> None:
    """It has the padding's value, and small crops cut it, or lie in it."""
    array, block = with_cavity()
    settings = SETTINGS.model_copy(update={"crop": (crop, crop, crop)})
    frame = Frame.centred(Grid(array.shape, np.eye(4)), centre, settings)
    values, inside, (patient,) = frame.extract_scan(array, padding_of(array), beside=(block,))
    _, scan = frame.extract(array)
    assert torch.equal(inside, (patient > 0.5) & scan)
    assert float(values[inside].min()) == 0


def test_training_keeps_a_target_that_is_a_cavity() -> None:
    array, block = with_cavity()
    scan = prepared_scan(Volume(array, np.eye(4)), block & (array == 0))
    small = SETTINGS.model_copy(update={"crop": (8, 8, 8)})
    sampler = CropSampler([[scan]], None, small, STILL, PromptSampling(), 0)
    for index in range(4):
        image, truth, _, _ = sampler.example(index, 1)
        assert torch.equal(truth > 0, image[0] < image.min() + 0.1)
        assert truth.any()


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1)])
def test_on_cells_of_several_voxels(monkeypatch: pytest.MonkeyPatch, signs: tuple[int, int, int]) -> None:
    """A large scan: a wall of one voxel keeps a cavity that lies further than a cell from what is padding."""
    monkeypatch.setattr("palpate.frame.padding.MAX_CELLS", 1000)
    array = np.zeros((41, 40, 30), np.float32)
    array[2:37, 4:36, 4:26] = np.random.default_rng(0).normal(100, 10, (35, 32, 22))
    array[16:28, 12:28, 12:18] = 0
    grid = Grid(array.shape, np.diag([*signs, 1.0]))
    assert Cells.of(grid) == Cells(array.shape, (5, 4, 3), (4 if signs[0] < 0 else 0, 0, 0))
    padding = find_padding(array, grid)
    assert padding is not None
    whole = Frame(grid, array.shape, np.eye(4))
    _, inside, _ = whole.extract_scan(array, padding)
    expected = np.zeros(array.shape, dtype=bool)
    expected[2:37, 4:36, 4:26] = True
    np.testing.assert_array_equal(inside.numpy(), expected)


def test_cells_are_few_and_full_where_all_voxels_are() -> None:
    cells = Cells.of(Grid((512, 512, 400), np.eye(4)))
    assert np.prod(cells.counts) <= 2**20
    cells = Cells((5, 4, 2), (2, 3, 1), (1, 0, 0))
    filled = np.ones((5, 4, 2), np.int16)
    filled[0, 0, 0] = filled[3, 3, 1] = 0
    expected = np.ones((3, 2, 2), dtype=bool)
    expected[0, 0, 0] = expected[2, 1, 1] = False
    np.testing.assert_array_equal(cells.full(FilledVoxels(filled, 1)), expected)
    np.testing.assert_array_equal(cells.full(FilledVoxels(np.asfortranarray(filled), 1)), expected)


def test_what_lies_in_padding_alone_is_blank() -> None:
    corner = Frame.centred(GRID, (0, 0, 0), SETTINGS.model_copy(update={"crop": (4, 4, 4)}))
    assert not corner.image(head(0), SETTINGS.normalisation, padding=padding_of(head(0))).any()


def test_training_and_inference_see_the_same() -> None:
    target = np.zeros(GRID.shape, dtype=bool)
    target[12, 12, 12] = True
    scan = prepared_scan(Volume(head(-2000), GRID.affine), target)
    assert scan.padding is not None
    assert scan.padding.value == -2000
    sampler = CropSampler([[scan]], None, SETTINGS, STILL, PromptSampling(), 0)
    image = Frame.centred(GRID, (12, 12, 12), SETTINGS).image(head(-2000), SETTINGS.normalisation, padding=scan.padding)
    torch.testing.assert_close(sampler.example(0, 1).image, image[0])
