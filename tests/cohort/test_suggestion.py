"""Suggested settings, against numbers worked by hand."""

from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from palpate.cohort import Cohort, LabelledScan, Split
from palpate.cohort.audit import audit
from palpate.frame import ClipZScore, CropPercentiles
from small import small_cohort


def test_a_split_that_was_given_is_kept(tmp_path: Path) -> None:
    cohort = small_cohort(tmp_path, 4)
    given = Split(train=("scan_0", "scan_3"), validation=("scan_1",), test=("patient_2",))
    suggestion = audit(cohort, split=given, workers=1).suggestion
    assert suggestion is not None
    assert suggestion.split == given
    assert suggestion.reasons["split"] == "the one that was given"
    strange = audit(cohort, split=Split(train=("a",)), workers=1).suggestion
    assert strange is not None
    assert "by a hash" in strange.reasons["split"]


@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e6])
def test_any_unit_keeps_its_digits(tmp_path: Path, unit: float) -> None:
    """Diffusion in mm²/s is about 1e-3, and whoever counts in m²/s is no worse off."""
    cohort = small_cohort(tmp_path, 3)
    for scan in cohort.scans:
        image = nib.load(scan.image)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj, np.float32) * unit, image.affine), scan.image)
    suggestion = audit(cohort, workers=1).suggestion
    assert suggestion is not None
    found = suggestion.preprocessing.normalisation
    assert isinstance(found, ClipZScore)
    inside = np.concatenate([_voxels(scan) for scan in cohort.scans])
    low, high = np.percentile(inside, (0.5, 99.5))
    clipped = inside.clip(low, high)
    for name, value in (("low", low), ("high", high), ("mean", clipped.mean()), ("std", clipped.std())):
        assert getattr(found, name) == pytest.approx(value, rel=0.05, abs=0.05 * clipped.std()), name


def _voxels(scan: LabelledScan) -> npt.NDArray[np.float32]:
    return np.asarray(nib.load(scan.image).dataobj)[np.asarray(nib.load(scan.label).dataobj) > 0]


def written(folder: Path, number: int, scale: float, edge: int, spacing: float = 1.0) -> LabelledScan:
    """A scan of noise about 0 with a bright cube, all times `scale`."""
    rng = np.random.default_rng(number)
    image, label = rng.normal(0, 10, (40, 40, 40)), np.zeros((40, 40, 40), np.uint8)
    label[5 : 5 + edge, 5 : 5 + edge, 5 : 5 + edge] = 1
    image[label > 0] += 100
    affine = np.diag([spacing, spacing, spacing, 1.0])
    paths = folder / f"i{number}.nii", folder / f"l{number}.nii"
    nib.save(nib.Nifti1Image((image * scale).astype(np.float32), affine), paths[0])
    nib.save(nib.Nifti1Image(label, affine), paths[1])
    return LabelledScan(f"s{number}", *paths, f"p{number}")


def test_comparable_intensities_are_clipped_and_scaled(tmp_path: Path) -> None:
    """Normal with mean 100 and deviation 10: the 0.5 percentile lies 2.58 deviations below."""
    scans = tuple(written(tmp_path, n, 1.0, 12) for n in range(6))
    suggestion = audit(Cohort(tmp_path, "", scans), workers=1).suggestion
    assert suggestion is not None
    rule = suggestion.preprocessing.normalisation
    assert isinstance(rule, ClipZScore)
    assert rule.low == pytest.approx(100 - 25.8, abs=1)
    assert rule.high == pytest.approx(100 + 25.8, abs=1)
    assert rule.mean == pytest.approx(100, abs=0.5)
    assert rule.std == pytest.approx(9.9, abs=0.3)


def test_arbitrary_units_are_normalised_by_the_crop(tmp_path: Path) -> None:
    scans = tuple(written(tmp_path, n, 1.0 + n, 12) for n in range(6))
    suggestion = audit(Cohort(tmp_path, "", scans), workers=1).suggestion
    assert suggestion is not None
    assert suggestion.preprocessing.normalisation == CropPercentiles()
    assert "numbers mean another thing in each scan" in suggestion.reasons["intensities"]


def test_spacing_by_hand(tmp_path: Path) -> None:
    """Cubes of 12 voxels of 3 mm in a crop of 32: 36 mm may fill 24 voxels, so 1.5 mm would do; the scans have 3."""
    scans = tuple(written(tmp_path, n, 1.0, 12, spacing=3.0) for n in range(4))
    cohort = Cohort(tmp_path, "", scans)
    for crop, spacing in ((32, 3.0), (8, 6.0), (13, 3.7)):
        suggestion = audit(cohort, crop=(crop, crop, crop), workers=1).suggestion
        assert suggestion is not None
        assert suggestion.preprocessing.spacing == (spacing,) * 3
        assert 0.75 * crop * spacing >= 36


@pytest.mark.parametrize("modality", ["MRI", "mpMRI", "FLAIR", "T1w", "T2", "ADC"])
def test_mr_is_clipped_at_its_own_percentiles_however_alike_its_numbers_are(tmp_path: Path, modality: str) -> None:
    scans = [written(tmp_path, n, 400.0 if n == 5 else 1.0, 12) for n in range(6)]
    found = audit(Cohort(tmp_path, "", tuple(scans), modality=modality), workers=1)
    assert found.suggestion is not None
    assert found.suggestion.preprocessing.normalisation == CropPercentiles()
    said = f"the scans are {modality}, and MR's intensities have no unit"
    assert found.suggestion.reasons["intensities"].endswith(said)
    assert [(issue.kind, issue.severity) for issue in found.issues] == [("another scale", "warning")]


@pytest.mark.parametrize("modality", ["", "PET", "CT", "CT, MR T1 or PET", "noNorm"])
def test_without_mr_alike_numbers_are_fixed(tmp_path: Path, modality: str) -> None:
    scans = tuple(written(tmp_path, n, 1.0, 12) for n in range(6))
    suggestion = audit(Cohort(tmp_path, "", scans, modality=modality), workers=1).suggestion
    assert suggestion is not None
    assert isinstance(suggestion.preprocessing.normalisation, ClipZScore)
    assert ("the scans are" in suggestion.reasons["intensities"]) == (modality == "CT")
    assert suggestion.reasons["intensities"].endswith("; MR? give --modality MR") == (not modality)


def shifted(scan: LabelledScan, inside: float, outside: float = 0.0) -> LabelledScan:
    """A scan with a number added in its target, and outside of it."""
    image, label = nib.load(scan.image), np.asarray(nib.load(scan.label).dataobj)
    voxels = np.asarray(image.dataobj, np.float32) + np.where(label > 0, inside, outside).astype(np.float32)
    nib.save(nib.Nifti1Image(voxels, image.affine), scan.image)
    return scan


@pytest.mark.parametrize(
    ("modality", "step", "outside", "fixed"),
    [
        ("CT", 50.0, -1000.0, True),  # HU: targets of several tissues may differ more than they vary
        ("CT", 50.0, 0.0, False),  # no HU: the values contradict
        ("", 50.0, -1000.0, False),
        ("", 6.0, 0.0, False),  # differ by more than a target's own deviation
        ("", 6.0, -1000.0, True),  # as HU do
        ("PET", 6.0, 0.0, False),
    ],
)
def test_a_modality_and_the_values_decide_together(
    tmp_path: Path, modality: str, step: float, outside: float, fixed: bool
) -> None:
    """Medians 100 + step n of eight scans: by quartiles they differ by 2.6 steps, a target's voxels by 10."""
    scans = tuple(shifted(written(tmp_path, n, 1.0, 12), step * n, outside) for n in range(8))
    suggestion = audit(Cohort(tmp_path, "", scans, modality=modality), workers=1).suggestion
    assert suggestion is not None
    assert isinstance(suggestion.preprocessing.normalisation, ClipZScore) == fixed


def test_a_split_of_few_patients_is_a_warning(tmp_path: Path) -> None:
    scans = tuple(written(tmp_path, n, 1.0, 12) for n in range(20))
    cohort = Cohort(tmp_path, "", scans)
    names = tuple(scan.name for scan in scans)
    for validation, test, few in ((4, 3, ["test"]), (1, 2, ["validation", "test"]), (4, 4, []), (4, 0, [])):
        end = validation + test
        split = Split(train=names[end:], validation=names[:validation], test=names[validation:end])
        issues = [one for one in audit(cohort, split=split, workers=1).issues if one.kind == "few patients in a subset"]
        assert sorted(one.name for one in issues) == sorted(few)
        assert all(one.severity == "warning" and "`split` in the preset" in one.message for one in issues)
    assert issues == []
    small = Cohort(tmp_path, "", scans[:19])
    split = Split(train=names[2:], validation=names[:1], test=names[1:2])
    assert not [one for one in audit(small, split=split, workers=1).issues if one.kind.startswith("few")]


def test_how_many_patients_are_few(tmp_path: Path) -> None:
    scans = tuple(written(tmp_path, n, 1.0, 12) for n in range(20))
    names = tuple(scan.name for scan in scans)
    split = Split(train=names[6:], validation=names[2:6], test=names[:2])
    (issue,) = audit(Cohort(tmp_path, "", scans), split=split, workers=1).issues
    assert issue.message.startswith("2 of 20 patients in test, so few that its Dice and interval say little")
