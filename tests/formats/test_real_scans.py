"""Real scans, where PALPATE_DATA names their folder: DICOM against its NIfTI twin, and masks on real headers."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from palpate.errors import SeriesError
from palpate.formats import list_series, read
from palpate.masks import Mask
from palpate.volume import Volume

STUDIES = [f"STS_{number}/{kind}" for number in ("002", "008", "019") for kind in ("CT", "MR_T1", "PET")]


def mask_of(volume: Volume, path: Path) -> Path:
    Mask(volume.array > np.median(volume.array), (0, 0, 0), volume.grid, volume.source).save(path)
    return path


@pytest.mark.parametrize("study", STUDIES)
def test_a_dicom_series_is_its_nifti_twin(data: Path, tmp_path: Path, study: str) -> None:
    ours = read(data / "dicom" / study)
    twin = read(data / "sarcoma" / "imagesTr" / f"{study.replace('/', '_')}.nii.gz")
    assert ours.array.dtype == twin.array.dtype
    np.testing.assert_allclose(ours.array, twin.array, rtol=1e-6)  # the PET in SUV, scaled in float32 there
    assert ours.grid.same_as(twin.grid, 1e-3)
    for ending in (".nii.gz", ".nrrd", ".mha"):
        back = read(mask_of(ours, tmp_path / f"m{ending}"))
        assert back.grid.same_as(ours.grid, 1e-3)


def test_a_study_of_three_series_lists_them(data: Path) -> None:
    study = data / "dicom" / "STS_002"
    assert [(one.modality, len(one.files)) for one in list_series(study)] == [("CT", 48), ("MR", 35), ("PT", 48)]
    with pytest.raises(SeriesError, match="holds 3 series"):
        read(study)
    assert read(study, series="6564013").shape == (115, 90, 35)


@pytest.mark.parametrize("cohort", ["hippocampus", "lung_nodules", "sarcoma"])
def test_masks_on_real_headers(data: Path, tmp_path: Path, cohort: str) -> None:
    for path in sorted((data / cohort / "imagesTr").glob("*.nii.gz"))[:5]:
        volume = read(path)
        mask = nib.load(mask_of(volume, tmp_path / "m.nii.gz"))
        scan = nib.load(path)
        for field in ("pixdim", "xyzt_units", "sform_code", "qform_code", "quatern_b", "qoffset_x", "srow_x", "srow_z"):
            assert mask.header[field].tobytes() == scan.header[field].tobytes()
        assert mask.shape == scan.shape[:3]
        assert read(mask_of(volume, tmp_path / "m.nrrd")).grid.same_as(volume.grid, 1e-3)
