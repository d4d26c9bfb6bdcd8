"""Cohorts in the Decathlon's layout, and who is in which part of a split."""

import json
from pathlib import Path

import numpy as np
import pytest

from palpate.cohort import list_scans, split_of
from palpate.errors import FormatError, GeometryError, ScanError
from palpate.phantom import make_phantom
from palpate.volume import Grid, Patch


def lay_out(folder: Path, names: list[str], label_shift: float = 0.0) -> None:
    made = make_phantom(shape=(48, 48, 32), spacing=(4, 4, 5))
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    pairs = []
    for name in names:
        volume = made.volume
        Patch(volume.array, (0, 0, 0), volume.grid).save(folder / "imagesTr" / f"{name}.nii.gz")
        affine = np.array(volume.affine)
        affine[0, 3] += label_shift
        lesion = made.lesion.full().astype(np.uint8) * 2
        Patch(lesion, (0, 0, 0), Grid(volume.shape, affine)).save(folder / "labelsTr" / f"{name}.nii.gz")
        pairs.append({"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"})
    (folder / "dataset.json").write_text(json.dumps({"training": pairs}))


def test_scans_are_listed_and_loaded(tmp_path: Path) -> None:
    lay_out(tmp_path, ["b", "a"])
    scans = list_scans(tmp_path)
    assert [scan.name for scan in scans] == ["a", "b"]
    volume, lesion = scans[0].load()
    assert volume.shape == lesion.shape
    assert lesion.dtype == np.bool_
    assert np.array_equal(lesion, make_phantom(shape=(48, 48, 32), spacing=(4, 4, 5)).lesion.full())


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="a Decathlon cohort has dataset"):
        list_scans(tmp_path)
    (tmp_path / "dataset.json").write_text("[]")
    with pytest.raises(FormatError, match="not a Decathlon listing"):
        list_scans(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps({"training": [{"image": "a.nii", "label": "b.nii"}]}))
    with pytest.raises(ScanError, match=r"names .*a\.nii, which does not exist"):
        list_scans(tmp_path)
    lay_out(tmp_path / "shifted", ["a"], label_shift=1.0)
    with pytest.raises(GeometryError, match="its grid differs from its scan's"):
        list_scans(tmp_path / "shifted")[0].load()


def test_a_split_is_fixed_and_of_the_size_that_was_asked_for() -> None:
    parts = [split_of(f"patient-{i}") for i in range(5000)]
    assert parts == [split_of(f"patient-{i}") for i in range(5000)]
    shares = {part: parts.count(part) / 5000 for part in ("train", "validation", "test")}
    assert shares["test"] == pytest.approx(0.1, abs=0.02)
    assert shares["validation"] == pytest.approx(0.1, abs=0.02)
    # Pinned: a changed rule would move patients between parts of published figures.
    pinned = {"hippocampus_001": "train", "hippocampus_007": "test", "hippocampus_010": "test"}
    assert {name: split_of(name) for name in pinned} == pinned
