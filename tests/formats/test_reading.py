"""Whatever people have of a scan gives one and the same volume."""

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from palpate.errors import GeometryError, GeometryWarning, ScanError
from palpate.formats import as_grid, as_volume, is_image, read
from palpate.masks import Mask, Probability
from palpate.phantom import oblique_affine
from palpate.volume import Grid, Volume

ARRAY = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)
AFFINE = oblique_affine(ARRAY.shape, (2.0, 3.0, 4.0))
VOLUME = Volume(ARRAY, AFFINE)


@pytest.fixture(params=["volume", "path", "text", "nibabel", "nibabel in memory", "SimpleITK"])
def given(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    path = tmp_path / "scan.nii.gz"
    nib.Nifti1Image(ARRAY, AFFINE).to_filename(path)
    makers: dict[str, Callable[[], Any]] = {
        "volume": lambda: VOLUME,
        "path": lambda: path,
        "text": lambda: str(path),
        "nibabel": lambda: nib.load(path),
        "nibabel in memory": lambda: nib.Nifti1Image(ARRAY, AFFINE),
        "SimpleITK": lambda: SimpleITK.ReadImage(str(path)),
    }
    return makers[request.param]()


def test_each_is_the_same_scan(given: Any) -> None:
    assert is_image(given)
    volume = as_volume(given)
    assert np.array_equal(volume.array, ARRAY)
    assert volume.array.dtype == np.int16
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
    np.testing.assert_allclose(as_grid(given).affine, volume.affine)
    assert as_grid(given).shape == ARRAY.shape


def test_a_volume_is_taken_as_it_is() -> None:
    assert as_volume(VOLUME) is VOLUME


def test_grids_of_what_has_one() -> None:
    mask = Mask(np.ones((1, 1, 1), bool), (0, 0, 0), VOLUME.grid)
    assert as_grid(VOLUME.grid) is as_grid(mask) is VOLUME.grid


def test_a_simpleitk_image_by_hand() -> None:
    """Index (i, j, k), LPS: origin plus spacing along the direction's columns; RAS has the first two turned."""
    image = SimpleITK.Image([3, 4, 5], SimpleITK.sitkInt16)
    image.SetSpacing((2, 3, 4))
    image.SetOrigin((10, 20, 30))
    image.SetDirection((0, 1, 0, 1, 0, 0, 0, 0, -1))  # columns: i along +y, j along +x, k along -z
    image[1, 2, 3] = 7
    volume = as_volume(image)
    assert np.argwhere(volume.array).tolist() == [[1, 2, 3]]
    assert volume.affine.tolist() == [[0, -3, 0, -10], [-2, 0, 0, -20], [0, 0, -4, 30], [0, 0, 0, 1]]
    assert volume.grid.to_mm((1, 2, 3)).tolist() == [-16, -22, 18]
    image[1, 2, 3] = 0
    assert volume.array[1, 2, 3] == 7, "the voxels are the volume's own"


def test_a_header_in_metres_counts_and_a_scale_is_applied(tmp_path: Path) -> None:
    image = nib.Nifti1Image(ARRAY, np.diag([0.002, 0.003, 0.004, 1]))
    image.header.set_xyzt_units("meter")
    image.header.set_slope_inter(2, 1)
    image.to_filename(tmp_path / "a.nii")
    stored = read(tmp_path / "a.nii")
    volume = as_volume(nib.load(tmp_path / "a.nii"))
    np.testing.assert_allclose(volume.spacing, (2, 3, 4), rtol=1e-6)
    assert np.array_equal(volume.affine, stored.affine)
    assert np.array_equal(volume.array, stored.array)
    assert volume.array.dtype == stored.array.dtype == np.float32


def test_a_mask_of_a_nibabel_file_repeats_its_header(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    nib.Nifti1Image(ARRAY, AFFINE).to_filename(path)
    volume = as_volume(nib.load(path))
    assert volume.source is not None
    assert (volume.source.path, volume.source.format) == (str(path), "nifti")
    Mask(np.ones((1, 1, 1), bool), (0, 0, 0), volume.grid, volume.source).save(tmp_path / "m.nii")
    for field in ("srow_x", "srow_y", "srow_z", "quatern_b", "pixdim", "sform_code", "qform_code"):
        assert np.array_equal(nib.load(tmp_path / "m.nii").header[field], nib.load(path).header[field])
    moved = nib.load(path)
    moved.affine[0, 3] += 5  # in memory only: the header's own place no longer holds
    assert as_volume(moved).source is None


def test_notes_of_images_and_paths_are_issued_once(tmp_path: Path) -> None:
    image, path = nib.Nifti1Image(ARRAY, AFFINE), tmp_path / "a.nii"
    image.set_qform(np.diag([2, 3, 4, 1]), code=1)
    image.to_filename(path)
    for given in (image, path):
        with pytest.warns(GeometryWarning) as caught:
            volume = as_volume(as_volume(given))
        assert volume.notes == (f"{path}: the header's sform and qform differ; the sform was believed",)
        assert [str(one.message) for one in caught] == list(volume.notes)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ARRAY,
            r"a scan is a Volume, a path, .* not ndarray; an array alone has no spacing .* Volume\(arr",
        ),
        (Probability(np.ones((1, 1, 1), np.float32), (0, 0, 0), VOLUME.grid), "not Probability$"),
        (VOLUME.grid, "not Grid$"),
        (None, "not NoneType$"),
    ],
)
def test_anything_else_is_refused_at_once(given: Any, message: str) -> None:
    assert not is_image(given)
    with pytest.raises(TypeError, match=message):
        as_volume(given)


def test_what_has_no_grid() -> None:
    with pytest.raises(TypeError, match=r"a grid is a Grid, a Mask, a Volume, a path, or .*, not list"):
        as_grid([1, 2, 3])


def test_images_that_are_no_scan() -> None:
    colours = SimpleITK.Image([3, 4, 5], SimpleITK.sitkVectorUInt8, 3)
    with pytest.raises(ScanError, match="each voxel holds 3 numbers"):
        as_volume(colours)
    with pytest.raises(ScanError, match="2 axes"):
        as_volume(SimpleITK.Image([3, 4], SimpleITK.sitkUInt8))
    with pytest.raises(ScanError, match="4 axes"):
        as_volume(nib.Nifti1Image(np.zeros((3, 4, 5, 2)), AFFINE))
    with pytest.raises(GeometryError, match="no affine"):
        as_volume(nib.spatialimages.SpatialImage(ARRAY, None))
    with pytest.raises(ScanError, match="no such file"):
        as_volume("nowhere.nii.gz")


def test_a_grid_needs_no_voxels() -> None:
    class Unread:
        shape, ndim, dtype = (3, 4, 5), 3, np.dtype(np.int16)

        def __array__(self, dtype: object = None, copy: object = None) -> None:
            raise AssertionError("a voxel was read")

    assert isinstance(as_grid(nib.Nifti1Image(Unread(), AFFINE)), Grid)


def test_threads_that_read_get_the_notes_of_their_own_files(tmp_path: Path) -> None:
    filters = list(warnings.filters)
    paths = [tmp_path / f"{number}.nii" for number in range(8)]
    for number, path in enumerate(paths):
        image = nib.Nifti1Image(ARRAY, AFFINE)
        image.set_qform(np.diag([2, 3, 4, 1]) if number % 2 else AFFINE, code=1)
        image.to_filename(path)
    with ThreadPoolExecutor(4) as pool:
        notes = list(pool.map(lambda path: read(path, warn=False).notes, paths * 4))
    doubt = "the header's sform and qform differ; the sform was believed"
    assert notes == [(f"{path}: {doubt}",) if number % 2 else () for number, path in enumerate(paths)] * 4
    assert list(warnings.filters) == filters
