"""Masks as DICOM objects: what is said of each."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from palpate.errors import FormatError, ScanError, SeriesError
from palpate.formats import read
from palpate.prompt_text import from_text
from palpate.prompts import InitialMask
from palpate.volume import Grid

RTSTRUCT, SEG = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.5.1.4.1.1.66.4"


def dicom_object(path: Path, kind: str) -> Path:
    """A DICOM file that says what it holds, and holds nothing of it."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = pydicom.uid.UID(kind), generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("name", ["mask.dcm", "mask"])
def test_contours_as_a_file(tmp_path: Path, name: str) -> None:
    path = dicom_object(tmp_path / name, RTSTRUCT)
    with pytest.raises(FormatError) as raised:
        read(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: this is a DICOM RTSTRUCT (contours), which Palpate does not read yet")
    assert f"dcmrtstruct2nii convert -r {path} -d FOLDER_OF_THE_SCAN -o masks" in message
    assert "SlicerRT" in message


def test_a_segmentation_as_a_folder(tmp_path: Path) -> None:
    dicom_object(tmp_path / "seg.dcm", SEG)
    with pytest.raises(SeriesError, match=r"this is a DICOM SEG .*segimage2itkimage --inputDICOM .*FILE\.dcm"):
        read(tmp_path)


def test_as_an_initial_mask(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"segimage2itkimage --inputDICOM .*mask\.dcm --outputDirectory masks"):
        InitialMask(dicom_object(tmp_path / "mask.dcm", SEG))


def test_as_a_painted_stroke(tmp_path: Path) -> None:
    path = dicom_object(tmp_path / "my mask.dcm", RTSTRUCT)
    with pytest.raises(ScanError, match=r"dcmrtstruct2nii convert -r '.*/my mask\.dcm' -d"):
        from_text("scribble", str(path), "--scribble").prompt(Grid((2, 2, 2), np.eye(4)), Path())


def test_other_objects_are_told_as_before(tmp_path: Path) -> None:
    path = dicom_object(tmp_path / "slice.dcm", "1.2.840.10008.5.1.4.1.1.2")
    with pytest.raises(FormatError, match=r"this is one DICOM file; give the folder"):
        read(path)
    report = dicom_object(tmp_path / "report.dcm", "1.2.840.10008.5.1.4.1.1.88.11")
    path.unlink()
    with pytest.raises(SeriesError, match=r"only Basic Text SR Storage"):
        read(report.parent)
