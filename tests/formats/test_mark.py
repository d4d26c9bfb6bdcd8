"""The mark in the headers of images that Palpate wrote."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from palpate.formats import is_own, read, write
from palpate.formats.mark import OWN, mark
from palpate.masks import Mask, Probability
from palpate.volume import Volume

GRID = Volume(np.zeros((5, 6, 7), np.int16), np.diag([1.0, 2, 3, 1])).grid


def patches() -> tuple[Mask, Probability]:
    generator = np.random.default_rng(0)
    soft = generator.random((5, 6, 7), np.float32)
    return Mask(soft > 0.5, (0, 0, 0), GRID), Probability(soft, (0, 0, 0), GRID)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
def test_what_was_written_is_known_again_until_it_changes(tmp_path: Path, ending: str) -> None:
    for number, patch in enumerate(patches()):
        path = tmp_path / f"{number}{ending}"
        write(patch, path)
        assert is_own(path)
        image = SimpleITK.ReadImage(str(path))
        value = image[2, 2, 2]
        SimpleITK.WriteImage(image, str(path))
        assert is_own(path), "the same voxels, with the same texts"
        image[2, 2, 2] = 1 - value
        SimpleITK.WriteImage(image, str(path))
        assert not is_own(path)


def test_a_scan_of_either_byte_order(tmp_path: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    array = np.arange(210, dtype=np.int16).reshape(5, 6, 7)
    nib.save(nib.Nifti1Image(array, np.eye(4), header), tmp_path / "big.nii")
    assert not is_own(tmp_path / "big.nii")
    write(read(tmp_path / "big.nii", warn=False), tmp_path / "ours.nii")
    assert is_own(tmp_path / "ours.nii")


def test_others_and_damaged_files_are_not_ours(tmp_path: Path) -> None:
    assert not is_own(tmp_path / "none.nii.gz")
    for name in ("a.nii.gz", "a.nrrd", "a.mha", "a.txt"):
        (tmp_path / name).write_bytes(b"old")
        assert not is_own(tmp_path / name)
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4))
    image.header["descrip"] = OWN.encode() + b"0" * 48
    nib.save(image, tmp_path / "claimed.nii")
    assert not is_own(tmp_path / "claimed.nii")


def test_a_mark_fits_into_a_header_and_tells_type_and_shape() -> None:
    marks = {mark(np.zeros(shape, kind)) for shape in ((2, 3, 4), (4, 3, 2)) for kind in (np.uint8, np.int8, np.uint16)}
    assert len(marks) == 6
    assert max(map(len, marks)) <= 80
