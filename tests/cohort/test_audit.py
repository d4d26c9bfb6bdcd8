"""What is wrong with a cohort, each issue planted and found by its file's name."""

import dataclasses
import gzip
import re
import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from palpate.cohort import Cohort, LabelledScan, Split, Subset
from palpate.cohort.audit import Audit, audit
from palpate.cohort.issues import Issue
from palpate.cohort.layouts import find_cohort
from palpate.frame import ClipZScore, CropPercentiles
from small import small_cohort


def of_kind(found: Audit, kind: str) -> list[Issue]:
    return [issue for issue in found.issues if issue.kind == kind]


def relabelled(path: Path, change: str) -> None:
    """Change a label's file."""
    image = nib.load(path)
    array = np.asarray(image.dataobj).copy()
    affine = image.affine.copy()
    if change == "empty":
        array[:] = 0
    elif change == "to the border":
        array[0] = 1
    elif change == "moved":
        affine[0, 3] += 5
    elif change == "fractions":
        array = array * 0.5
    nib.save(nib.Nifti1Image(array, affine), path)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Fourteen scans, one issue of each kind planted among them."""
    folder = tmp_path_factory.mktemp("planted")
    scans = list(small_cohort(folder, 14).scans)
    scans[0].image.write_bytes(scans[0].image.read_bytes()[:1000])
    for number, change in ((1, "moved"), (2, "empty"), (3, "to the border"), (4, "fractions")):
        relabelled(scans[number].label, change)
    shutil.copy(scans[5].image, scans[6].image)  # two patients
    shutil.copy(scans[5].label, scans[6].label)
    shutil.copy(scans[7].image, scans[8].image)  # one patient
    shutil.copy(scans[7].label, scans[8].label)
    scans[8] = dataclasses.replace(scans[8], patient=scans[7].patient)
    scans[10] = dataclasses.replace(scans[10], patient=scans[9].patient, subset="test")
    scans[9] = dataclasses.replace(scans[9], subset="train")
    scans[11] = dataclasses.replace(scans[11], subset="validation")
    incomplete = (f"scan_99: {folder / 'label_99.nii.gz'} is missing",)
    return Cohort(folder, "phantoms", tuple(scans), incomplete=incomplete)


@pytest.mark.parametrize(
    ("kind", "severity", "file"),
    [
        ("unreadable", "error", "scan_0.nii.gz"),
        ("incomplete", "error", "label_99.nii.gz"),
        ("grids differ", "error", "label_1.nii.gz"),
        ("empty label", "error", "label_2.nii.gz"),
        ("cut by the border", "warning", "label_3.nii.gz"),
        ("label with fractions", "error", "label_4.nii.gz"),
        ("copies of two patients", "error", "scan_6.nii.gz"),
        ("copies", "warning", "scan_8.nii.gz"),
        ("patient in two subsets", "error", "scan_10.nii.gz"),
    ],
)
def test_each_issue_is_found_with_its_file(planted: Cohort, kind: str, severity: str, file: str) -> None:
    found = audit(planted, workers=1)
    (issue,) = of_kind(found, kind)
    assert issue.severity == severity
    assert file in issue.message
    assert found.has_errors


def test_the_worst_come_first_and_workers_change_nothing(planted: Cohort) -> None:
    found = audit(planted, workers=1)
    severities = [issue.severity for issue in found.issues]
    assert severities == sorted(severities)
    assert found.issues[0].kind == "unreadable"
    assert audit(planted, workers=2) == found


def test_a_header_that_contradicts_itself_is_reported_by_any_process(tmp_path: Path) -> None:
    cohort = small_cohort(tmp_path, 4)
    image = nib.load(cohort.scans[2].image)
    moved = image.affine.copy()
    moved[0, 3] += 30
    image.set_sform(image.affine, code=2)
    image.set_qform(moved, code=1)
    nib.save(image, cohort.scans[2].image)
    for workers in (1, 2):
        found = audit(cohort, workers=workers)
        (issue,) = of_kind(found, "header contradicts itself")
        assert "scan_2.nii.gz" in issue.message
        assert not found.has_errors


def test_copies_in_two_subsets(tmp_path: Path) -> None:
    cohort = small_cohort(tmp_path, 5)
    shutil.copy(cohort.scans[0].image, cohort.scans[1].image)
    shutil.copy(cohort.scans[0].label, cohort.scans[1].label)
    split = Split(train=("scan_0", "scan_2", "scan_4"), validation=("scan_1",), test=("patient_3",))
    found = audit(cohort, split=split, workers=1)
    (issue,) = of_kind(found, "copies in two subsets")
    assert "scan_0.nii.gz and " in issue.message
    assert issue.scans == ("scan_0", "scan_1")
    assert found.has_errors


def test_a_split_of_another_cohort_and_one_that_forgets(tmp_path: Path) -> None:
    cohort = small_cohort(tmp_path, 4)
    (issue,) = of_kind(audit(cohort, split=Split(train=("a",)), workers=1), "split of another cohort")
    assert issue.severity == "error"
    found = audit(cohort, split=Split(train=("scan_0",), validation=("scan_1",), test=("scan_2",)), workers=1)
    (issue,) = of_kind(found, "in no subset")
    assert "scan_3.nii.gz: in no subset of the split, and so left out" in issue.message
    assert not found.has_errors


def test_scans_without_the_target_warn(tmp_path: Path) -> None:
    cohort = small_cohort(tmp_path, 4, labels=(2,))
    label = nib.load(cohort.scans[2].label)
    nib.save(nib.Nifti1Image(np.minimum(np.asarray(label.dataobj), 1), label.affine), cohort.scans[2].label)
    found = audit(cohort, target_labels=(2,), workers=1)
    assert any(
        "label_2.nii.gz: has no voxel of the target's labels [2]" in f.message for f in of_kind(found, "no target")
    )
    assert not found.has_errors


def test_names_that_tell_of_patients(tmp_path: Path) -> None:
    scans = small_cohort(tmp_path, 4).scans
    names = ("anna_1", "anna_2", "ben_1", "carl_1")
    alone = tuple(dataclasses.replace(s, name=n, patient=n) for s, n in zip(scans, names, strict=True))
    (issue,) = of_kind(audit(Cohort(tmp_path, "", alone), workers=1), "patients unknown")
    assert "anna..." in issue.message
    dashed = tuple(dataclasses.replace(s, name=s.name.replace("_", "-"), patient=s.name) for s in alone)
    (issue,) = of_kind(audit(Cohort(tmp_path, "", dashed), workers=1), "patients unknown")
    assert "anna..." in issue.message
    assert "--patient" in issue.message
    named = tuple(dataclasses.replace(s, patient=s.name.split("_")[0]) for s in alone)
    assert not of_kind(audit(Cohort(tmp_path, "", named), workers=1), "patients unknown")


def test_a_hint_at_patients_never_takes_one_person_for_two(tmp_path: Path) -> None:
    """STS_001's scans have two and three words after the patient's; what is hinted at joins them all."""
    scans = small_cohort(tmp_path, 5).scans
    names = ("STS_001_CT", "STS_001_MR_T1", "STS_001_PET", "STS_002_CT", "STS_002_MR_T1")
    alone = tuple(dataclasses.replace(s, name=n, patient=n) for s, n in zip(scans, names, strict=True))
    (issue,) = of_kind(audit(Cohort(tmp_path, "", alone), workers=1), "patients unknown")
    assert "2 beginnings of names" in issue.message
    assert "STS_001_CT, STS_001_MR_T1, STS_001_PET" in issue.message
    hinted = re.search(r"--patient '(.*?)'\)", issue.message)
    assert hinted
    assert [re.search(hinted[1], name)[1] for name in names] == ["STS_001"] * 3 + ["STS_002"] * 2  # type: ignore[index]


def test_a_parted_patient_is_found_though_a_scan_is_unreadable(tmp_path: Path) -> None:
    cohort = small_cohort(tmp_path, 4)
    first, second, *rest = cohort.scans
    second.image.write_bytes(b"nothing")
    scans = (
        dataclasses.replace(first, subset="train"),
        dataclasses.replace(second, patient=first.patient, subset="test"),
        *(dataclasses.replace(scan, subset="validation") for scan in rest),
    )
    found = audit(Cohort(tmp_path, "", scans), workers=1)
    (issue,) = of_kind(found, "patient in two subsets")
    assert "scan_0.nii.gz" in issue.message
    assert "scan_1.nii.gz" in issue.message
    assert [one.name for one in of_kind(found, "unreadable")] == ["scan_1"]


def test_a_split_that_leaves_a_subset_empty(tmp_path: Path) -> None:
    cohort = small_cohort(tmp_path, 3)
    subsets: tuple[Subset, ...] = ("train", "train", "test")
    scans = tuple(dataclasses.replace(scan, subset=subset) for scan, subset in zip(cohort.scans, subsets, strict=True))
    (issue,) = of_kind(audit(dataclasses.replace(cohort, scans=scans), workers=1), "subset without scans")
    assert issue.severity == "error"
    assert issue.message.startswith("the split has no usable scan under validation, and nothing to choose the best")


def test_too_few_patients_are_no_cohort(tmp_path: Path) -> None:
    found = audit(small_cohort(tmp_path, 2), workers=1)
    assert found.suggestion is None
    assert found.has_errors
    assert of_kind(found, "too few patients")


@pytest.mark.parametrize(
    ("name", "pattern", "rule", "spacing"),
    [
        ("hippocampus", None, CropPercentiles, 1.0),
        ("lung_nodules", r"^(LIDC-IDRI-\d+)", ClipZScore, 0.7),
        ("sarcoma", r"^(STS_\d+)", CropPercentiles, 2.8),
    ],
)
def test_real_cohorts(data: Path, name: str, pattern: str | None, rule: type, spacing: float) -> None:
    found = audit(find_cohort(data / name, patient=pattern), workers=2)
    assert not found.has_errors
    assert found.suggestion is not None
    assert isinstance(found.suggestion.preprocessing.normalisation, rule)
    assert found.suggestion.preprocessing.spacing == (spacing,) * 3
    kinds = {issue.kind for issue in found.issues}
    assert kinds <= {"cut by the border", "another scale", "few patients in a subset"}
    assert ("few patients in a subset" in kinds) == (name == "sarcoma"), "of 20 patients"
    # Of these hippocampi 31 reach 440,000 and the others about 1,000 (float32) or 100 (uint8).
    bright = [one.name for one in found.usable if one.background_intensities and one.background_intensities.mean > 1e4]
    assert [issue.name for issue in of_kind(found, "another scale")] == bright
    assert (len(bright) > 0) == (name == "hippocampus")


@pytest.mark.parametrize("name", ["hippocampus", "lung_nodules", "sarcoma"])
def test_issues_planted_in_real_cohorts(data: Path, tmp_path: Path, name: str) -> None:
    scans = list(find_cohort(data / name).scans[:12:2])
    moved = []
    for number, scan in enumerate(scans):
        image, label = tmp_path / f"{number}_{scan.image.name}", tmp_path / f"{number}_label_{scan.label.name}"
        shutil.copy(scan.image, image)
        shutil.copy(scan.label, label)
        moved.append(LabelledScan(f"s{number}", image, label, f"p{number}", "train"))
    moved[0].image.write_bytes(moved[0].image.read_bytes()[:3000])
    relabelled(moved[1].label, "moved")
    relabelled(moved[2].label, "empty")
    relabelled(moved[3].label, "to the border")
    shutil.copy(moved[4].image, moved[5].image)
    shutil.copy(moved[4].label, moved[5].label)
    moved[5] = dataclasses.replace(moved[5], patient="p3", subset="test")
    found = audit(Cohort(tmp_path, "", tuple(moved)), workers=1)
    for kind, file in (
        ("unreadable", moved[0].image),
        ("grids differ", moved[1].label),
        ("empty label", moved[2].label),
        ("copies in two subsets", moved[5].image),
        ("patient in two subsets", moved[5].image),
    ):
        assert any(str(file) in issue.message for issue in of_kind(found, kind)), kind
    assert any(str(moved[3].label) in issue.message for issue in of_kind(found, "cut by the border"))


def many(folder: Path, count: int) -> Iterator[LabelledScan]:
    """Scans of 6³ voxels: one file's bytes with another first voxel each."""
    label = np.zeros((6, 6, 6), np.uint8)
    label[2:4, 2:4, 2:4] = 1
    path = folder / "template.nii"
    nib.save(nib.Nifti1Image(np.arange(216, dtype=np.int32).reshape(6, 6, 6), np.eye(4)), path)
    template = bytearray(path.read_bytes())
    nib.save(nib.Nifti1Image(label, np.eye(4)), folder / "label.nii.gz")
    for number in range(count):
        template[352:356] = number.to_bytes(4, "little")
        image = folder / f"{number}.nii.gz"
        image.write_bytes(gzip.compress(bytes(template), 1))
        yield LabelledScan(f"scan {number:05d}", image, folder / "label.nii.gz", f"patient {number}")


@pytest.mark.slow
def test_ten_thousand_scans_without_their_voxels(tmp_path: Path) -> None:
    cohort = Cohort(tmp_path, "many", tuple(many(tmp_path, 10_000)))
    tracemalloc.start()
    try:
        found = audit(cohort, workers=2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found.usable) == 10_000
    assert not found.issues
    assert peak < 150e6, "a few numbers a scan"
