"""Labels on another grid."""

import numpy as np
import numpy.typing as npt
import pytest

from palpate.errors import GeometryError, ScanError, SettingsError
from palpate.phantom import oblique_affine
from palpate.resampling import Interpolation, resample_labels
from palpate.volume import Grid, Volume

BOTH: tuple[Interpolation, ...] = ("linear", "nearest")


def blocks(dtype: npt.DTypeLike = np.uint8) -> Volume:
    """Two touching blocks, labels 1 and 7, on an oblique grid of 2 x 2 x 3 mm."""
    array = np.zeros((20, 18, 12), dtype)
    array[4:10, 5:12, 3:9] = 1
    array[10:15, 5:12, 3:9] = 7
    return Volume(array, oblique_affine((20, 18, 12), (2, 2, 3), orientation="LPS", angles_deg=(5, -8, 10)))


@pytest.mark.parametrize("interpolation", BOTH)
def test_an_equal_grid_changes_nothing(interpolation: Interpolation) -> None:
    labels = blocks()
    made = resample_labels(labels, labels.grid, None, interpolation)
    assert np.array_equal(made.volume.array, labels.array)
    assert [(change.value, change.voxels) for change in made.changes] == [(1, (252, 252)), (7, (210, 210))]
    assert made.changes[0].volume_ml == pytest.approx((3.024, 3.024))
    assert made.outside == 0


@pytest.mark.parametrize("interpolation", BOTH)
def test_turned_axes_are_turned_exactly(interpolation: Interpolation) -> None:
    labels = blocks()
    turned = labels.grid.affine @ np.array([[-1, 0, 0, 19], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    made = resample_labels(labels, Grid((20, 12, 18), turned), None, interpolation)
    assert np.array_equal(made.volume.array, np.asarray(labels.array)[::-1].transpose(0, 2, 1))


@pytest.mark.parametrize("interpolation", BOTH)
def test_a_finer_grid_keeps_the_volume_and_the_labels(interpolation: Interpolation) -> None:
    labels = blocks()
    finer = labels.grid.affine @ np.diag([0.5, 0.5, 0.5, 1])
    finer[:3, 3] = labels.grid.to_mm((-0.25, -0.25, -0.25))
    made = resample_labels(labels, Grid((40, 36, 24), finer), None, interpolation)
    assert set(np.unique(made.volume.array)) == {0, 1, 7}
    for change in made.changes:
        # Linear interpolation rounds a block's edges and corners.
        assert change.volume_ml[1] == pytest.approx(change.volume_ml[0], rel=0.1 if interpolation == "linear" else 1e-6)
    if interpolation == "nearest":
        assert np.array_equal(made.volume.array, np.kron(labels.array, np.ones((2, 2, 2), np.uint8)))


def test_a_coarser_grid_takes_the_label_that_fills_most() -> None:
    array = np.zeros((8, 4, 4), np.int16)
    array[0:2, 0:2, 0:2] = 3  # a whole voxel of the coarser grid
    array[2:4, 0:2, 0:2] = 300
    array[2, 0, 0] = 3  # an eighth of the next
    array[4, 0:2, 0:2] = 5  # one half: not more than the background
    coarser = np.diag([2.0, 2, 2, 1])
    coarser[:3, 3] = 0.5
    made = resample_labels(Volume(array, np.eye(4)), Grid((4, 2, 2), coarser))
    assert made.volume.full().dtype == np.int16
    assert made.volume.array[:, 0, 0].tolist() == [3, 300, 0, 0]
    assert [change.voxels for change in made.changes] == [(9, 1), (4, 0), (7, 1)]


@pytest.mark.parametrize("interpolation", BOTH)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.uint16])
def test_the_type_stays(interpolation: Interpolation, dtype: npt.DTypeLike) -> None:
    labels = blocks(dtype)
    shifted = Grid(labels.grid.shape, labels.grid.affine @ np.block([[np.eye(3), np.ones((3, 1))], [np.zeros(3), 1]]))
    made = resample_labels(labels, shifted, None, interpolation)
    assert made.volume.full().dtype == dtype
    assert np.array_equal(made.volume.array[3:9, 4:11, 2:8], np.ones((6, 7, 6)))


@pytest.mark.parametrize("interpolation", BOTH)
def test_what_reaches_outside_is_counted(interpolation: Interpolation) -> None:
    labels = blocks()
    made = resample_labels(labels, Grid((10, 18, 12), labels.grid.affine), None, interpolation)
    assert made.outside == 210
    assert [change.voxels for change in made.changes] == [(252, 252), (210, 0)]
    # Nothing is continued beyond the mask's own grid.
    part = Volume(np.asarray(labels.array)[4:10], labels.grid.affine)
    wider = Grid((16, 18, 12), labels.grid.affine)
    assert np.count_nonzero(resample_labels(part, wider, None, interpolation).volume.array) == 252


def test_no_overlap_is_refused() -> None:
    labels = blocks()
    far = labels.grid.affine.copy()
    far[:3, 3] += 500
    with pytest.raises(GeometryError, match="the mask and the scan do not overlap"):
        resample_labels(labels, Grid(labels.grid.shape, far))


def test_an_empty_mask_stays_empty() -> None:
    made = resample_labels(Volume(np.zeros((3, 3, 3), np.uint8), np.eye(4)), Grid((4, 4, 4), np.eye(4)))
    assert made.changes == ()
    assert made.outside == 0
    assert not made.volume.array.any()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.full((2, 2, 2), 0.5, np.float32),
            "holds the value 0.5, and labels are whole numbers from 0 on",
        ),
        (
            np.full((2, 2, 2), -3, np.int16),
            "holds the value -3, and labels are whole numbers from 0 on",
        ),
        (np.arange(1331, dtype=np.int16).reshape(11, 11, 11), "more than 1000 different values: this is a scan"),
    ],
)
def test_what_is_no_mask(array: np.ndarray, message: str) -> None:
    with pytest.raises(ScanError, match=message):
        resample_labels(Volume(array, np.eye(4)), Grid((2, 2, 2), np.eye(4)))


def test_what_is_no_interpolation() -> None:
    with pytest.raises(SettingsError, match="interpolation 'cubic': one of linear, nearest"):
        resample_labels(blocks(), blocks().grid, None, "cubic")  # type: ignore[arg-type]
