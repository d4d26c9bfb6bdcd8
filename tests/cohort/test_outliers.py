"""Outlying scans planted in a cohort, each named; and none named where scans differ as scans do."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from palpate.cohort import Cohort, LabelledScan
from palpate.cohort.audit import Audit, audit
from palpate.cohort.layouts import find_cohort
from palpate.cohort.outliers import KINDS
from palpate.frame import ClipZScore, CropPercentiles

Change = Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]


def as_uint8(image: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    low, high = float(image.min()), float(image.max())
    return np.round((image - low) / (high - low) * 255).astype(np.uint8)


def times_400(image: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    return image * np.float32(400)


def inverted(image: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    return float(image.max()) + float(image.min()) - image


def shifted(image: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    return image + np.float32(1024)


def body(number: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Air at -1000, a body at 0, and in it a target at 80; each scan with its own noise and levels."""
    rng = np.random.default_rng(number)
    image, label = np.full((24, 24, 24), -1000.0), np.zeros((24, 24, 24), np.uint8)
    image[4:20, 4:20, 4:20] = rng.normal(0, 10)
    label[8:14, 8:14, 8:14] = 1
    image[label > 0] += rng.normal(80, 8)
    return (image + rng.normal(0, 15, image.shape)).astype(np.float32), label


def cohort(folder: Path, count: int, changes: dict[int, Change], scale: Sequence[float] = ()) -> Cohort:
    """Scans 0 to `count`, some of them changed, and each times its scale."""
    scans = []
    for number in range(count):
        image, label = body(number)
        if scale:
            image = image * np.float32(scale[number])
        paths = folder / f"i{number:02d}.nii", folder / f"l{number:02d}.nii"
        stored = changes[number](image) if number in changes else image
        nib.save(nib.Nifti1Image(stored, np.eye(4)), paths[0])
        nib.save(nib.Nifti1Image(label, np.eye(4)), paths[1])
        scans.append(LabelledScan(f"s{number:02d}", *paths, f"p{number}"))
    return Cohort(folder, "", tuple(scans))


def outlying(found: Audit) -> dict[str, tuple[str, ...]]:
    """The kinds of each scan that is named as outlying."""
    names = sorted({issue.name for issue in found.issues if issue.kind in KINDS})
    return {
        name: tuple(issue.kind for issue in found.issues if issue.name == name and issue.kind in KINDS)
        for name in names
    }


def test_each_kind_is_named_and_nothing_else(tmp_path: Path) -> None:
    changes: dict[int, Change] = {3: times_400, 7: inverted, 11: shifted, 14: lambda image: image / np.float32(1000)}
    found = audit(cohort(tmp_path, 24, changes), workers=1)
    assert outlying(found) == {
        "s03": ("another scale",),
        "s07": ("inverted intensities",),
        "s11": ("shifted intensities",),
        "s14": ("another scale",),
    }
    messages = {issue.name: issue.message for issue in found.issues}
    assert "i03.nii: intensities from" in messages["s03"]
    assert re.search(r"(39|40)\d times as wide a range as the cohort's median scan", messages["s03"])
    assert re.search(r"1/(9\d\d|1,0\d\d) of the range of the cohort's median scan", messages["s14"])
    assert "above the others; export it with its rescale intercept" in messages["s11"]
    assert "looks inverted: its target is" in messages["s07"]
    assert "darker than its surroundings" in messages["s07"]


def test_another_data_type(tmp_path: Path) -> None:
    found = audit(cohort(tmp_path, 20, {2: as_uint8, 5: as_uint8}), workers=1)
    kinds = outlying(found)
    assert set(kinds) == {"s02", "s05"}
    assert all("another data type" in each for each in kinds.values())
    (first, _) = [issue for issue in found.issues if issue.kind == "another data type"]
    assert "i02.nii: stored as uint8, from " in first.message
    assert "the others as float32 (18): 8 bits hold 256 values" in first.message


def test_the_same_values_in_a_wider_type_are_nothing(tmp_path: Path) -> None:
    assert outlying(audit(cohort(tmp_path, 20, {2: lambda image: image.astype(np.int16)}), workers=1)) == {}


def test_what_would_ruin_a_training_is_an_error(tmp_path: Path) -> None:
    """Equal numbers are to mean the same under fixed intensities; by percentiles of each crop a scale is harmless."""
    fixed, relative = tmp_path / "fixed", tmp_path / "relative"
    fixed.mkdir()
    relative.mkdir()
    found = audit(cohort(fixed, 10, {3: times_400}), workers=1)
    assert found.suggestion is not None
    assert isinstance(found.suggestion.preprocessing.normalisation, ClipZScore)
    assert found.has_errors
    scale = [float(2 ** (number % 5)) for number in range(10)]
    found = audit(cohort(relative, 10, {3: times_400}, scale), workers=1)
    assert found.suggestion is not None
    assert found.suggestion.preprocessing.normalisation == CropPercentiles()
    assert outlying(found) == {"s03": ("another scale",)}
    assert not found.has_errors


def test_a_third_of_the_scans_is_another_kind_of_scan(tmp_path: Path) -> None:
    """PET beside CT: no outliers; but the one scan that is on neither scale is one."""
    scale = [0.005 if number % 3 == 0 else 1.0 for number in range(18)]
    assert outlying(audit(cohort(tmp_path, 18, {}, scale), workers=1)) == {}
    assert outlying(audit(cohort(tmp_path, 18, {4: times_400}, scale), workers=1)) == {"s04": ("another scale",)}


def test_a_few_scans_have_no_habit(tmp_path: Path) -> None:
    assert outlying(audit(cohort(tmp_path, 4, {1: times_400}), workers=1)) == {}


def test_scans_of_one_intensity_are_no_reason_to_stumble(tmp_path: Path) -> None:
    found = audit(cohort(tmp_path, 6, dict.fromkeys(range(6), np.zeros_like)), workers=1)
    assert outlying(found) == {}
    assert found.suggestion is not None
    assert found.suggestion.preprocessing.normalisation == CropPercentiles()


def test_suggestions_do_not_follow_a_few_scans(tmp_path: Path) -> None:
    """What is pooled of all voxels would be: a tenth of the scans is times 400."""
    clean, planted = tmp_path / "clean", tmp_path / "planted"
    clean.mkdir()
    planted.mkdir()
    rules = []
    for folder, changes in ((clean, {}), (planted, {4: times_400, 9: times_400, 13: as_uint8, 17: inverted})):
        suggestion = audit(cohort(folder, 20, dict(changes)), workers=1).suggestion
        assert suggestion is not None
        assert "each a median over scans" in suggestion.reasons["intensities"]
        rules.append(suggestion.preprocessing.normalisation)
    before, after = rules
    assert isinstance(before, ClipZScore)
    assert isinstance(after, ClipZScore)
    assert before.low == pytest.approx(80 - 2.58 * 15, abs=8)
    for name in ("low", "high", "mean", "std"):
        assert getattr(after, name) == pytest.approx(getattr(before, name), abs=0.3 * before.std), name


@pytest.mark.parametrize("modality", ["CT", "MR_T1", "PET"])
def test_no_modality_of_a_real_cohort_has_outliers(data: Path, modality: str) -> None:
    whole = find_cohort(data / "sarcoma", patient=r"^(STS_\d+)")
    scans = tuple(scan for scan in whole.scans if scan.name.endswith(modality))
    assert len(scans) == 20
    assert outlying(audit(Cohort(whole.origin, whole.layout, scans), workers=2)) == {}


def test_outliers_planted_in_a_real_cohort(data: Path, tmp_path: Path) -> None:
    """Forty T1 crops of the hippocampus; each kind that was planted is named, and no other scan."""
    found = find_cohort(data / "hippocampus").scans
    scans = [scan for scan in found if nib.load(scan.image).get_data_dtype() == np.float32][:40]
    planted = {
        3: times_400,
        17: times_400,
        5: as_uint8,
        11: as_uint8,
        20: as_uint8,
        26: as_uint8,
        8: inverted,
        23: inverted,
    }
    for number, change in planted.items():
        original = nib.load(scans[number].image)
        path = tmp_path / scans[number].image.name
        nib.save(nib.Nifti1Image(change(np.asarray(original.dataobj)), original.affine), path)
        scans[number] = LabelledScan(scans[number].name, path, scans[number].label, scans[number].patient)
    kinds = outlying(audit(Cohort(data, "", tuple(scans)), workers=2))
    assert set(kinds) == {scans[number].name for number in planted}
    for number, change in planted.items():
        kind = {times_400: "another scale", as_uint8: "another data type", inverted: "inverted intensities"}[change]
        assert kind in kinds[scans[number].name]
