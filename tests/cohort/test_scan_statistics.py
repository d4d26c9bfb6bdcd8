"""A scan in numbers, by hand."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from palpate.cohort import LabelledScan
from palpate.cohort.scan_statistics import MAX_BACKGROUND, ScanStatistics, _subsampled, scan_statistics


def scan(folder: Path, image: np.ndarray, label: np.ndarray, affine: np.ndarray | None = None) -> LabelledScan:
    affine = np.diag([1.0, 2.0, 3.0, 1.0]) if affine is None else affine
    nib.save(nib.Nifti1Image(image, affine), folder / "image.nii.gz")
    nib.save(nib.Nifti1Image(label, affine), folder / "label.nii.gz")
    return LabelledScan("name", folder / "image.nii.gz", folder / "label.nii.gz", "patient", "test")


def blocks() -> tuple[np.ndarray, np.ndarray]:
    """A scan of 10, with two pieces of label 1 (at 100) and one voxel of label 3 (at 50), touching by a corner."""
    image, label = np.full((10, 10, 10), 10, np.int16), np.zeros((10, 10, 10), np.uint8)
    label[2:4, 2:4, 2:4] = 1
    label[7, 5, 0] = 1
    label[4, 4, 4] = 3
    image[label == 1], image[label == 3] = 100, 50
    return image, label


def test_by_hand(tmp_path: Path) -> None:
    found = scan_statistics(scan(tmp_path, *blocks()))
    assert found.error is None
    assert (found.name, found.patient, found.subset) == ("name", "patient", "test")
    assert (found.shape, found.spacing, found.orientation) == ((10, 10, 10), (1.0, 2.0, 3.0), "RAS")
    assert found.dtype == "int16"
    assert found.labels == {1: 9, 3: 1}
    assert [component.volume_ml for component in found.components] == pytest.approx([0.054, 0.006]), (
        "9 and 1 voxels of 6 µL"
    )
    assert found.components[0].extent_mm == (9.0, 6.0, 3.0), "three voxels along S, A and R, corners joined"
    assert found.touched_faces == ("feet",)
    assert found.target_ml == pytest.approx(0.06)
    assert found.target_intensities is not None
    assert found.target_intensities.mean == pytest.approx(95)
    assert found.target_intensities.percentiles[2] == 100
    assert found.background_intensities is not None
    assert (found.background_intensities.mean, found.background_intensities.std) == (10, 0)
    assert found.surroundings == 10
    assert set(found.target_sample) <= {50.0, 100.0}
    assert len(found.target_sample) == 10


def test_a_target_of_some_labels(tmp_path: Path) -> None:
    found = scan_statistics(scan(tmp_path, *blocks()), target_labels=(3,))
    assert len(found.components) == 1
    assert found.target_ml == pytest.approx(0.006)
    assert found.touched_faces == ()
    assert scan_statistics(scan(tmp_path, *blocks()), target_labels=(9,)).components == ()


def test_surroundings_are_near_the_target(tmp_path: Path) -> None:
    """Three voxels around a cube count, and what lies farther does not; a target that fills its scan has none."""
    image, label = np.full((20, 20, 20), 500, np.int16), np.zeros((20, 20, 20), np.uint8)
    label[8:12, 8:12, 8:12] = 1
    image[5:15, 5:15, 5:15], image[label > 0] = 30, 90
    assert scan_statistics(scan(tmp_path, image, label)).surroundings == 30
    assert scan_statistics(scan(tmp_path, image, np.ones_like(label))).surroundings is None


def test_faces_are_the_patients(tmp_path: Path) -> None:
    """Array axes (P, S, L): the first slice along the first axis is the patient's front."""
    affine = np.array([[0, 0, -1, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], float)
    image, label = np.zeros((5, 6, 7), np.int16), np.zeros((5, 6, 7), np.uint8)
    label[0, 5, 3] = 1
    found = scan_statistics(scan(tmp_path, image, label, affine))
    assert found.orientation == "PSL"
    assert set(found.touched_faces) == {"front", "head"}


def test_numbers_do_not_depend_on_the_turn_but_for_the_sample(tmp_path: Path) -> None:
    image, label = blocks()
    (tmp_path / "turned").mkdir()
    one = scan_statistics(scan(tmp_path, image, label))
    flipped = np.diag([-1.0, 2.0, 3.0, 1.0])
    flipped[0, 3] = 9
    two = scan_statistics(scan(tmp_path / "turned", image[::-1], label[::-1], flipped))
    assert (one.components, one.touched_faces, one.target_intensities, one.labels) == (
        two.components,
        two.touched_faces,
        two.target_intensities,
        two.labels,
    )


def test_copies_are_known_by_their_voxels(tmp_path: Path) -> None:
    image, label = blocks()
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    other = image.copy()
    other[0, 0, 0] = 11
    keys = [
        scan_statistics(scan(folder, i, label)).sha256 for folder, i in zip(folders, (image, image, other), strict=True)
    ]
    assert keys[0] == keys[1] != keys[2]


def error_of(found: ScanStatistics) -> tuple[str, str]:
    assert found.error is not None
    return found.error_kind, found.error


def test_errors_name_their_file(tmp_path: Path) -> None:
    made = scan(tmp_path, *blocks())
    whole = made.image.read_bytes()
    made.image.write_bytes(whole[: len(whole) // 2])
    kind, message = error_of(scan_statistics(made))
    assert kind == "unreadable"
    assert str(made.image) in message
    made.image.write_bytes(whole)
    image, label = blocks()
    nib.save(nib.Nifti1Image(label[:9], np.diag([1.0, 2.0, 3.0, 1.0])), made.label)
    kind, message = error_of(scan_statistics(made))
    assert kind == "grids differ"
    assert f"{made.label}: not on the grid of its scan" in message
    assert "shape (9, 10, 10), the scan's (10, 10, 10)" in message
    nib.save(nib.Nifti1Image(label + 0.5 * (image > 50), np.diag([1.0, 2.0, 3.0, 1.0])), made.label)
    kind, message = error_of(scan_statistics(made))
    assert kind == "label with fractions"
    assert str(made.label) in message


def test_a_copy_saved_as_another_type_is_a_copy(tmp_path: Path) -> None:
    image, label = blocks()
    keys = []
    for number, dtype in enumerate(("int16", "float32", ">i2")):
        folder = tmp_path / str(number)
        folder.mkdir()
        keys.append(scan_statistics(scan(folder, image.astype(dtype), label)).sha256)
    assert keys[0] == keys[1] == keys[2]


def test_an_unusable_affine_is_no_difference_of_grids(tmp_path: Path) -> None:
    made = scan(tmp_path, *blocks())
    plain = tmp_path / "image.nii"
    nib.save(nib.load(made.image), plain)
    content = bytearray(plain.read_bytes())
    content[280:328] = bytes(48)  # srow_x, srow_y, srow_z
    content[252:256] = b"\0\0\1\0"  # qform_code 0, sform_code 1
    plain.write_bytes(content)
    kind, message = error_of(scan_statistics(LabelledScan("name", plain, made.label, "patient")))
    assert kind == "unreadable"
    assert str(plain) in message


def test_a_header_that_contradicts_itself_is_a_note(tmp_path: Path) -> None:
    """Nothing is printed, for a worker's warnings would reach nobody; here pytest would raise them."""
    made = scan(tmp_path, *blocks())
    image = nib.load(made.image)
    moved = image.affine.copy()
    moved[0, 3] += 30
    image.set_sform(image.affine, code=2)
    image.set_qform(moved, code=1)
    nib.save(image, made.image)
    (note,) = scan_statistics(made).notes
    assert str(made.image) in note
    assert "the sform was believed" in note


def test_statistics_are_of_every_slice() -> None:
    """A step of 3 would take one slice of three of an edge of 45."""
    array = np.broadcast_to(np.arange(45) % 3, (150, 90, 45)).copy()
    sample = _subsampled(array, np.zeros(array.shape, bool))
    assert sample.size <= MAX_BACKGROUND
    assert sample.mean() == pytest.approx(1, abs=0.01)
