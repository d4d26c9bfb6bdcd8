"""Scan and label on one grid, or a message that says how they differ."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from palpate.cohort import LabelledScan, target_of
from palpate.errors import GeometryError, ScanError

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


def pair(folder: Path, label_affine: np.ndarray, shape: tuple[int, ...] = (4, 5, 6)) -> LabelledScan:
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), AFFINE), folder / "i.nii")
    nib.save(nib.Nifti1Image(np.ones(shape, np.uint8), label_affine), folder / "l.nii")
    return LabelledScan("x", folder / "i.nii", folder / "l.nii", "x")


def test_a_label_within_rounding_is_taken(tmp_path: Path) -> None:
    volume, label = pair(tmp_path, AFFINE + 1e-4 * (AFFINE > 1)).load()
    assert volume.shape == label.shape


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.diag([-1.0, 2.0, 3.0, 1.0]), "directions LAS, the scan's RAS"),
        (
            np.diag([1.0, 2.0, 4.0, 1.0]),
            r"spacing \(1, 2, 4\) mm, the scan's \(1, 2, 3\)",
        ),
        (AFFINE + np.array([[0, 0, 0, 3], [0, 0, 0, 4], [0] * 4, [0] * 4]), r"origin \(3, 4, 0\) mm"),
    ],
)
def test_grids_that_differ(tmp_path: Path, affine: np.ndarray, message: str) -> None:
    with pytest.raises(GeometryError, match=rf"l\.nii: not on the grid of its scan .*i\.nii: .*{message}"):
        pair(tmp_path, affine).load()


def test_shapes_that_differ(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match=r"shape \(4, 5, 7\), the scan's \(4, 5, 6\)"):
        pair(tmp_path, AFFINE, (4, 5, 7)).load()


def test_files_that_are_gone(tmp_path: Path) -> None:
    scan = pair(tmp_path, AFFINE)
    scan.label.unlink()
    with pytest.raises(ScanError, match=r"l\.nii: no such file"):
        scan.load()


def test_which_labels_are_target() -> None:
    label = np.array([0, 1, 2, 3])
    for values, target in (((), [0, 1, 1, 1]), ((2,), [0, 0, 1, 0]), ((1, 3), [0, 1, 0, 1]), ((9,), [0, 0, 0, 0])):
        assert target_of(label, values).tolist() == [bool(x) for x in target]
