"""Padding: which constant is one, by hand; and that what is padding is outside the scan, in training and inference."""

import numpy as np
import pytest
import torch

from palpate.cohort.augmentation import Augmentation, PromptSampling
from palpate.cohort.sampling import CropSampler
from palpate.frame import CropPercentiles, Frame, Preprocessing, padding_value
from palpate.frame.padding import without_padding
from palpate.volume import Grid, Volume
from small import prepared_scan

SETTINGS = Preprocessing(crop=(16, 16, 16), spacing=(1.0, 1.0, 1.0), normalisation=CropPercentiles(low=0, high=100))
GRID = Grid((24, 24, 24), np.eye(4))


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
        image = Frame.centred(GRID, (12, 12, 12), SETTINGS).image(head(fill), SETTINGS.normalisation, padding=fill)
        torch.testing.assert_close(image, expected, atol=1e-3, rtol=1e-3)  # places are rounded
    assert int((expected == 0).sum()) == 16**3 - 12**3


def test_beside_padding_its_part_is_taken_out() -> None:
    """Crop voxels of two scan voxels each, one of which is padding: what is left is the other, not their mean."""
    array = np.full((16, 16, 16), -3024.0, dtype=np.float32)
    array[3:12, 3:12, 3:12] = 50
    frame = Frame.centred(
        Grid(array.shape, np.eye(4)), (8, 8, 8), SETTINGS.zoomed(2.0).model_copy(update={"crop": (8, 8, 8)})
    )
    values, inside, _ = frame.extract_scan(array, -3024.0)
    mixed, _ = frame.extract(array)
    assert int(((mixed < 0) & inside).sum()) > 30, "on the edge, half of each is padding"
    assert values[inside].min() >= 50 - 1e-3
    assert values[inside].max() <= 50 + 1e-3


def test_a_spot_within_the_patient_stays() -> None:
    share = torch.zeros(6, 6, 6)
    share[:2] = 1
    share[4, 3, 3] = 1
    values = torch.where(share > 0, 0.0, 7.0)
    left, inside = without_padding(values, torch.ones(6, 6, 6, dtype=torch.bool), share, 0.0)
    assert torch.equal(inside, share.cumsum(0) != torch.arange(1, 7)[:, None, None])
    assert torch.equal(left[inside], values[inside])
    assert left[4, 3, 3] == 0


def test_what_lies_in_padding_alone_is_blank() -> None:
    corner = Frame.centred(GRID, (0, 0, 0), SETTINGS.model_copy(update={"crop": (4, 4, 4)}))
    assert not corner.image(head(0), SETTINGS.normalisation, padding=0.0).any()


def test_training_and_inference_see_the_same() -> None:
    target = np.zeros(GRID.shape, dtype=bool)
    target[12, 12, 12] = True
    scan = prepared_scan(Volume(head(-2000), GRID.affine), target)
    assert scan.padding == -2000
    still = Augmentation(
        zoom=(1, 1), stretch=1, rotation_degrees=(0, 0, 0), translation=0,
        flip_prob=(0, 0, 0), contrast=0, brightness=0, noise=0
    )  # fmt: skip
    sampler = CropSampler([[scan]], None, SETTINGS, still, PromptSampling(), 0)
    image = Frame.centred(GRID, (12, 12, 12), SETTINGS).image(head(-2000), SETTINGS.normalisation, padding=-2000.0)
    torch.testing.assert_close(sampler.example(0, 1).image, image[0])
