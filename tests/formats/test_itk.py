"""NRRD and MetaImage: LPS against RAS, and that a mask repeats the scan's own numbers."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from palpate.errors import FormatError, GeometryWarning, ScanError
from palpate.formats import read, write
from palpate.masks import Mask, Patch
from palpate.volume import Grid, Volume

ARRAY = np.arange(24, dtype=np.int16).reshape(2, 3, 4)  # [X, Y, Z]
HEADER = "NRRD0004\ntype: short\ndimension: 3\nsizes: 2 3 4\nencoding: raw\nendian: little\n"


def nrrd(path: Path, geometry: str) -> Path:
    path.write_bytes((HEADER + geometry + "\n").encode() + ARRAY.tobytes(order="F"))
    return path


def mask_of(volume: Volume, path: Path) -> Path:
    Mask(np.ones((1, 1, 1), bool), (0, 1, 2), volume.grid, volume.source).save(path)
    return path


def test_lps_by_hand(tmp_path: Path) -> None:
    path = nrrd(
        tmp_path / "a.nrrd",
        "space: left-posterior-superior\nspace directions: (2,0,0) (0,3,0) (0,0,4)\nspace origin: (10,20,30)\n",
    )
    volume = read(path)
    assert volume.affine.tolist() == [[-2, 0, 0, -10], [0, -3, 0, -20], [0, 0, 4, 30], [0, 0, 0, 1]]
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, ARRAY)
    assert volume.source is not None
    assert volume.source.format == "nrrd"


def test_ras_by_hand(tmp_path: Path) -> None:
    path = nrrd(
        tmp_path / "a.nrrd",
        "space: right-anterior-superior\nspace directions: (0,2,0) (3,0,0) (0,0,4)\nspace origin: (10,20,30)\n",
    )
    assert read(path).affine.tolist() == [[0, 3, 0, 10], [2, 0, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1]]


def test_no_anatomical_space_is_noted(tmp_path: Path) -> None:
    path = nrrd(tmp_path / "a.nrrd", "spacings: 2 3 4\n")
    with pytest.warns(GeometryWarning, match=r"a\.nrrd: the header names no anatomical space; orientation LPS"):
        assert read(path).spacing.tolist() == [2, 3, 4]


def test_sheared_directions_are_repeated(tmp_path: Path) -> None:
    path = nrrd(
        tmp_path / "a.nrrd",
        "space: left-posterior-superior\nspace directions: (2,0,0) (1,3,0) (0,0,4)\nspace origin: (10,20,30)\n",
    )
    volume = read(path)
    assert volume.affine[:3, 1].tolist() == pytest.approx([-1, -3, 0])
    assert read(mask_of(volume, tmp_path / "m.nrrd")).grid.same_as(volume.grid, 1e-9)


@pytest.mark.parametrize("ending", [".mha", ".mhd"])
def test_metaimage_repeats_its_numbers_exactly(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"scan{ending}"
    image = SimpleITK.GetImageFromArray(ARRAY.T)
    turn = np.radians(33)
    image.SetDirection([np.cos(turn), -np.sin(turn), 0, np.sin(turn), np.cos(turn), 0, 0, 0, -1])
    image.SetSpacing([1 / 3, 0.7, 3.27])
    image.SetOrigin([1 / 7, -100.123456789012, 2e-3])
    SimpleITK.WriteImage(image, str(path))
    mask = SimpleITK.ReadImage(str(mask_of(read(path), tmp_path / f"mask{ending}")))
    assert mask.GetOrigin() == image.GetOrigin()
    assert mask.GetSpacing() == image.GetSpacing()
    assert mask.GetDirection() == image.GetDirection()
    assert mask.GetPixelIDTypeAsString() == "8-bit unsigned integer"
    assert np.argwhere(SimpleITK.GetArrayFromImage(mask)).tolist() == [[2, 1, 0]]


def test_nrrd_repeats_its_numbers(tmp_path: Path) -> None:
    # An NRRD keeps spacing times direction: apart again they may differ in the last bit.
    geometry = "(0.31844549637520198,0.098506735553779839,0) (-0.20686414466293768,0.6687355423879241,0) (0,0,3.27)"
    path = nrrd(
        tmp_path / "a.nrrd",
        f"space: left-posterior-superior\nspace directions: {geometry}\nspace origin: (0.1,-100.123456789012,7)\n",
    )
    scan = SimpleITK.ReadImage(str(path))
    mask = SimpleITK.ReadImage(str(mask_of(read(path), tmp_path / "m.nrrd")))
    assert mask.GetOrigin() == scan.GetOrigin()
    np.testing.assert_allclose(mask.GetSpacing(), scan.GetSpacing(), rtol=1e-15)
    np.testing.assert_allclose(mask.GetDirection(), scan.GetDirection(), rtol=0, atol=1e-15)


def test_files_are_compressed_and_mhd_names_its_own_voxels(tmp_path: Path) -> None:
    grid = Grid((64, 64, 64), np.eye(4))
    for ending in (".nrrd", ".mha", ".mhd"):
        write(Patch(np.zeros(grid.shape, np.uint8), (0, 0, 0), grid), tmp_path / f"m{ending}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.mha", "m.mhd", "m.nrrd", "m.zraw"]
    assert all(path.stat().st_size < 5000 for path in tmp_path.iterdir())
    assert "ElementDataFile = m.zraw" in (tmp_path / "m.mhd").read_text()


def test_a_detached_header_without_its_voxels(tmp_path: Path) -> None:
    grid = Grid((2, 3, 4), np.eye(4))
    write(Patch(ARRAY, (0, 0, 0), grid), tmp_path / "a.mhd")
    (tmp_path / "a.zraw").unlink()
    with pytest.raises(FormatError, match="copy it and its second file, which holds the voxels, again"):
        read(tmp_path / "a.mhd")


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_colour(tmp_path: Path, ending: str) -> None:
    image = SimpleITK.GetImageFromArray(np.zeros((4, 3, 2, 3), np.uint8), isVector=True)
    SimpleITK.WriteImage(image, str(tmp_path / f"a{ending}"))
    with pytest.raises(ScanError, match=r"each voxel holds 3 numbers \(colour or vector\)"):
        read(tmp_path / f"a{ending}")


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_two_and_four_axes(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    for shape, message in (((4, 3), "2 axes, shape"), ((5, 4, 3, 2), r"4 axes, shape \(2, 3, 4, 5\); one volume")):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros(shape, np.uint8), isVector=False), str(path))
        with pytest.raises(ScanError, match=message):
            read(path)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_a_trailing_axis_of_one(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    image = SimpleITK.GetImageFromArray(ARRAY.T[None], isVector=False)
    image.SetSpacing([2, 3, 4, 1])
    SimpleITK.WriteImage(image, str(path))
    volume = read(path) if ending == ".mha" else _read_without_space(path)
    assert np.array_equal(volume.array, ARRAY)
    assert volume.spacing.tolist() == [2, 3, 4]


def _read_without_space(path: Path) -> Volume:
    # ITK names no anatomical space in a four-dimensional NRRD.
    with pytest.warns(GeometryWarning, match="no anatomical space"):
        return read(path)
