"""DICOM folders, from small series written here."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
import SimpleITK
from pydicom import uid
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset

from palpate.errors import FormatError, OutputError, PalpateWarning, ScanError, SeriesError
from palpate.formats import check_output, list_series, read
from palpate.masks import Mask
from palpate.volume import FloatArray

FLAT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
TURN = np.radians(25)
OBLIQUE = (np.cos(TURN), 0.0, -np.sin(TURN), 0.0, 1.0, 0.0)
CT = "1.2.826.0.1.3680043.8.498.1"
MR = "1.2.826.0.1.3680043.8.498.2"
# [slices, rows, columns]: three slices of 2 rows and 4 columns
STORED = np.arange(24, dtype=np.int16).reshape(3, 2, 4)


def slice_file(path: Path, pixels: npt.NDArray[np.generic], position: Iterable[float], **attributes: object) -> Path:
    """A CT slice with 0.5 mm between rows and 0.8 mm between columns; `attributes` by keyword, None for absent."""
    header = FileDataset(str(path), {}, file_meta=FileMetaDataset(), preamble=bytes(128))
    storage = {"MR": uid.MRImageStorage, "PT": uid.PositronEmissionTomographyImageStorage}
    header.SOPClassUID = attributes.pop("SOPClassUID", storage.get(str(attributes.get("Modality")), uid.CTImageStorage))
    header.SOPInstanceUID = uid.generate_uid()
    header.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    header.Rows, header.Columns = pixels.shape[:2]
    header.ImagePositionPatient = [float(v) for v in position]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 8 * pixels.dtype.itemsize
    header.HighBit = header.BitsStored - 1
    header.PixelRepresentation = int(pixels.dtype.kind == "i")
    header.PixelData = pixels.tobytes()
    usual = {
        "Modality": "CT",
        "SeriesInstanceUID": CT,
        "SeriesNumber": 3,
        "ImageOrientationPatient": list(FLAT),
        "PixelSpacing": [0.5, 0.8],
        "RescaleSlope": 1,
        "RescaleIntercept": 0,
    }
    for keyword, value in (usual | attributes).items():
        if value is not None:
            setattr(header, keyword, value)
    header.save_as(path, enforce_file_format=True)
    return path


def series(
    folder: Path,
    heights: Sequence[float] = (30.0, 33.0, 36.0),
    orientation: Sequence[float] = FLAT,
    stored: npt.NDArray[np.generic] = STORED,
    prefix: str = "",
    **attributes: object,
) -> list[Path]:
    """Slices at these heights along their normal, from (10, 20, 0), in files whose names are out of order."""
    folder.mkdir(exist_ok=True)
    row, column = np.reshape(orientation, (2, 3))
    paths = []
    for k, height in enumerate(heights):
        position = np.array([10, 20, 0]) + height * np.cross(row, column)
        path = folder / f"{prefix}{(7 * k + 3) % 10}{k}.dcm"
        attributes["InstanceNumber"] = (5 * k + 2) % 7
        paths.append(
            slice_file(path, stored[k % len(stored)], position, ImageOrientationPatient=list(orientation), **attributes)
        )
    return paths


def test_a_series_by_hand(tmp_path: Path) -> None:
    series(tmp_path)
    volume = read(tmp_path)
    assert volume.affine.tolist() == [[-0.8, 0, 0, -10], [0, -0.5, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]]
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, STORED.transpose(2, 1, 0))
    assert volume.source is not None
    assert volume.source.format == "dicom"


def test_slices_run_along_the_normal_whatever_their_order(tmp_path: Path) -> None:
    series(tmp_path, heights=(36.0, 33.0, 30.0))
    volume = read(tmp_path)
    assert volume.affine[2, 3] == 30
    assert np.array_equal(volume.array, STORED[::-1].transpose(2, 1, 0))


def test_an_oblique_series(tmp_path: Path) -> None:
    series(tmp_path, orientation=OBLIQUE)
    affine = read(tmp_path).affine
    normal = np.array([np.sin(TURN), 0, np.cos(TURN)])
    lps = np.diag([-1.0, -1.0, 1.0])
    np.testing.assert_allclose(affine[:3, 0], lps @ OBLIQUE[:3] * 0.8, atol=1e-9)
    np.testing.assert_allclose(affine[:3, 2], lps @ normal * 3, atol=1e-9)
    np.testing.assert_allclose(affine[:3, 3], lps @ ([10, 20, 0] + 30 * normal), atol=1e-9)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha", ".mhd"])
def test_a_mask_of_a_series_lies_on_its_grid(tmp_path: Path, ending: str) -> None:
    series(tmp_path / "scan", orientation=OBLIQUE)
    volume = read(tmp_path / "scan")
    Mask(np.ones((1, 2, 1), bool), (3, 0, 2), volume.grid, volume.source).save(tmp_path / f"mask{ending}")
    back = read(tmp_path / f"mask{ending}")
    assert back.grid.same_as(volume.grid, 1e-3)
    assert np.argwhere(back.array).tolist() == [[3, 0, 2], [3, 1, 2]]


def test_no_slice_of_a_series_is_written_over(tmp_path: Path) -> None:
    """Slices are known by what they hold, so that one may be called as a mask is."""
    first, *_ = series(tmp_path / "scan")
    odd = first.rename(tmp_path / "scan" / "slice.nii")
    volume = read(tmp_path / "scan")
    with pytest.raises(OutputError, match=r"slice\.nii: the scan itself was read from it, and would be lost"):
        check_output(odd, volume)
    Mask(np.ones((1, 1, 1), bool), (0, 0, 0), volume.grid, volume.source).save(tmp_path / "scan" / "mask.nii")
    assert read(tmp_path / "scan").grid.same_as(volume.grid, 1e-3)


def test_a_tilted_gantry_shears_the_grid(tmp_path: Path) -> None:
    for k in range(3):
        slice_file(tmp_path / f"{k}.dcm", STORED[k], (10, 20 + k, 30 + 3 * k))
    assert read(tmp_path).affine[:3, 2].tolist() == [0, -1, 3]


def test_rounded_positions_do_not(tmp_path: Path) -> None:
    for k in range(3):
        slice_file(tmp_path / f"{k}.dcm", STORED[k], (10, 20 + 0.01 * k, 30 + 3 * k))
    assert read(tmp_path).affine[:3, 2].tolist() == [0, 0, 3]


def test_a_rescale_by_whole_numbers_gives_whole_numbers(tmp_path: Path) -> None:
    series(tmp_path, stored=STORED.astype(np.uint16), RescaleIntercept=-1024)
    volume = read(tmp_path)
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, STORED.transpose(2, 1, 0) - 1024)


def test_whole_numbers_too_large_for_int16(tmp_path: Path) -> None:
    series(tmp_path, stored=STORED.astype(np.uint16) + np.uint16(65000))
    volume = read(tmp_path)
    assert volume.array.dtype == np.int32
    assert volume.array.max() == 65023


def test_a_rescale_by_slice(tmp_path: Path) -> None:
    for k in range(3):
        slice_file(tmp_path / f"{k}.dcm", STORED[k], (0, 0, k), RescaleSlope=0.5 * k, RescaleIntercept=1)
    volume = read(tmp_path)
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array[..., 2], STORED[2].T + 1)
    np.testing.assert_allclose(volume.array[..., 0], 1)


def test_a_series_without_rescale(tmp_path: Path) -> None:
    series(tmp_path, Modality="MR", RescaleSlope=None, RescaleIntercept=None)
    assert np.array_equal(read(tmp_path).array, STORED.transpose(2, 1, 0))


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_compressed_slices_are_rescaled_once(tmp_path: Path, modality: str) -> None:
    for path in series(tmp_path, RescaleSlope=2, RescaleIntercept=-7, Modality=modality):
        header = pydicom.dcmread(path)
        header.compress(uid.RLELossless)
        header.save_as(path)
    assert np.array_equal(read(tmp_path).array, STORED.transpose(2, 1, 0) * 2 - 7)


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_lossless_jpeg_is_decoded_and_rescaled_once(tmp_path: Path, modality: str) -> None:
    stored = np.random.default_rng(0).integers(-900, 900, (1, 48, 64)).astype(np.int16)
    writer = SimpleITK.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "jpeg"))
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetCompressor("JPEG")
    writer.Execute(SimpleITK.GetImageFromArray(stored))
    jpeg = pydicom.dcmread(tmp_path / "jpeg")
    assert jpeg.file_meta.TransferSyntaxUID == uid.JPEGLosslessSV1
    (tmp_path / "jpeg").unlink()
    (path,) = series(tmp_path, [30.0], stored=stored, RescaleSlope=2, RescaleIntercept=-7, Modality=modality)
    header = pydicom.dcmread(path)
    header.SliceThickness = 3
    header.PixelData = jpeg.PixelData
    header["PixelData"].is_undefined_length = True
    header.file_meta.TransferSyntaxUID = uid.JPEGLosslessSV1
    header.save_as(path)
    assert np.array_equal(read(tmp_path).array, stored.transpose(2, 1, 0) * 2 - 7)


def test_several_series_are_listed(tmp_path: Path) -> None:
    series(tmp_path, SeriesDescription="thorax")
    series(tmp_path, prefix="mr", Modality="MR", SeriesInstanceUID=MR, SeriesNumber=41, heights=(1.0, 2.0))
    assert [(one.uid, one.number, one.modality, len(one.files)) for one in list_series(tmp_path)] == [
        (CT, "3", "CT", 3),
        (MR, "41", "MR", 2),
    ]
    with pytest.raises(SeriesError) as caught:
        read(tmp_path)
    assert str(caught.value).splitlines() == [
        f"{tmp_path}: holds 2 series; choose one by UID or number with --series (library: series=):",
        f"  {CT}  number 3  CT  'thorax'  3 slices",
        f"  {MR}  number 41  MR  ''  2 slices",
    ]


def test_a_series_is_chosen_by_uid_number_or_part_of_the_uid(tmp_path: Path) -> None:
    series(tmp_path)
    series(tmp_path, prefix="mr", Modality="MR", SeriesInstanceUID=MR, SeriesNumber=41, heights=(1.0, 2.0))
    for wanted in (MR, "41", "8.2", "498.2"):
        assert read(tmp_path, series=wanted).shape[2] == 2
    assert read(tmp_path, series="3").shape[2] == 3
    with pytest.raises(SeriesError, match=r"'1\.2\.826' names 2 of 2 series; choose one(.|\n)*number 41"):
        read(tmp_path, series="1.2.826")
    with pytest.raises(SeriesError, match="'77' names none of 2 series"):
        read(tmp_path, series="77")


def test_a_number_goes_before_the_end_of_a_uid(tmp_path: Path) -> None:
    series(tmp_path, SeriesNumber=2)
    series(tmp_path, prefix="mr", SeriesInstanceUID=MR, SeriesNumber=1, heights=(1.0, 2.0))
    assert read(tmp_path, series="2").shape[2] == 3


def test_other_objects_and_files_are_passed_over(tmp_path: Path) -> None:
    series(tmp_path)
    for name, storage in (("rs.dcm", uid.RTStructureSetStorage), ("seg.dcm", uid.SegmentationStorage)):
        slice_file(tmp_path / name, STORED[0], (0, 0, 0), SOPClassUID=storage)
    slice_file(tmp_path / "scout.dcm", STORED[0], (0, 0, 0), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    (tmp_path / "LICENSE").write_text("a licence " * 20)
    (tmp_path / "._03.dcm").write_bytes(b"macOS")
    assert read(tmp_path).shape == (4, 2, 3)


def test_a_folder_s_own_slices_go_before_those_below(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    series(tmp_path / "study" / "image")
    assert read(tmp_path).shape == (4, 2, 3)
    series(tmp_path, SeriesInstanceUID=MR, heights=(0.0, 1.0))
    assert read(tmp_path).shape == (4, 2, 2)


def test_a_folder_without_slices(tmp_path: Path) -> None:
    with pytest.raises(SeriesError, match=r"holds no series .*\(no DICOM files\); give the folder that holds"):
        read(tmp_path)
    slice_file(tmp_path / "rs.dcm", STORED[0], (0, 0, 0), SOPClassUID=uid.RTStructureSetStorage)
    slice_file(tmp_path / "ct.dcm", STORED[0], (0, 0, 0), SOPClassUID=uid.EnhancedCTImageStorage)
    message = r"\(only Enhanced CT Image Storage, RT Structure Set Storage\).*convert multi-frame files to NIfTI"
    with pytest.raises(SeriesError, match=message):
        list_series(tmp_path)


def test_one_file_of_a_series(tmp_path: Path) -> None:
    path = series(tmp_path)[0]
    with pytest.raises(
        FormatError, match=rf"this is one DICOM file; give the folder that holds its series: {tmp_path}"
    ):
        read(path)


def test_a_missing_slice(tmp_path: Path) -> None:
    paths = series(tmp_path, heights=(0.0, 3.0, 6.0, 12.0, 15.0))
    message = (
        rf"6\.00 mm between {paths[2].name} \(at 6\.00 mm\) and {paths[3].name} \(at 12\.00 mm\), 3\.00 mm elsewhere"
    )
    with pytest.raises(SeriesError, match=message):
        read(tmp_path)


def test_spacing_that_changes_slowly(tmp_path: Path) -> None:
    series(tmp_path, heights=np.cumsum(np.linspace(3, 3.3, 20)).tolist())
    with pytest.raises(SeriesError, match="not evenly spaced"):
        read(tmp_path)


def test_heights_rounded_to_a_tenth_are_even(tmp_path: Path) -> None:
    series(tmp_path, heights=np.round(np.arange(20) * 1.25, 1).tolist())
    assert read(tmp_path).spacing[2] == pytest.approx(1.25, abs=0.01)


def test_two_slices_at_one_place(tmp_path: Path) -> None:
    series(tmp_path, heights=(0.0, 3.0, 3.0, 6.0))
    with pytest.raises(SeriesError, match=r"two slices at 3\.00 mm: 01\.dcm and 72\.dcm; the series repeats positions"):
        read(tmp_path)


def test_a_slice_beside_the_others(tmp_path: Path) -> None:
    for k, x in enumerate((0, 2, 0)):
        slice_file(tmp_path / f"{k}.dcm", STORED[k], (x, 0, 3 * k))
    with pytest.raises(SeriesError, match=r"1\.dcm lies 2\.00 mm beside the line of the others"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("PixelSpacing", [0.5, 0.9]), ("ImageOrientationPatient", list(OBLIQUE))],
)
def test_slices_that_differ(tmp_path: Path, keyword: str, value: list[float]) -> None:
    slice_file(tmp_path / "a.dcm", STORED[0], (0, 0, 0))
    slice_file(tmp_path / "b.dcm", STORED[0], (0, 0, 3), **{keyword: value})
    with pytest.raises(SeriesError, match=rf"differ in {keyword}: .* in a\.dcm, .* in b\.dcm; split the series first"):
        read(tmp_path)


def test_slices_of_another_size(tmp_path: Path) -> None:
    slice_file(tmp_path / "a.dcm", STORED[0], (0, 0, 0))
    slice_file(tmp_path / "b.dcm", STORED[0].T.copy(), (0, 0, 3))
    with pytest.raises(SeriesError, match=r"differ in Rows: 2 in a\.dcm, 4 in b\.dcm"):
        read(tmp_path)


def test_a_single_slice_is_as_thick_as_it_says(tmp_path: Path) -> None:
    slice_file(tmp_path / "a.dcm", STORED[0], (0, 0, 0), SliceThickness=2.5)
    assert read(tmp_path).spacing.tolist() == [0.8, 0.5, 2.5]
    slice_file(tmp_path / "a.dcm", STORED[0], (0, 0, 0))
    with pytest.raises(SeriesError, match="one slice, of unknown thickness"):
        read(tmp_path)


def test_a_truncated_slice(tmp_path: Path) -> None:
    path = series(tmp_path)[1]
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(FormatError, match=rf"{path.name} is damaged .*; copy it again, or take it out of the folder"):
        read(tmp_path)
    for length in (140, 400, 600):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError, match=rf"{path.name} is damaged"):
            read(tmp_path)


def test_a_slice_without_place(tmp_path: Path) -> None:
    slice_file(tmp_path / "a.dcm", STORED[0], (0, 0, 0), PixelSpacing=None)
    with pytest.raises(FormatError, match=r"a\.dcm is damaged \(it lacks PixelSpacing\)"):
        read(tmp_path)


def test_a_file_that_is_dicom_by_name_only(tmp_path: Path) -> None:
    series(tmp_path)
    (tmp_path / "99.dcm").write_bytes(b"")
    with pytest.raises(FormatError, match=r"99\.dcm is not DICOM though named so"):
        read(tmp_path)


def test_colour(tmp_path: Path) -> None:
    slice_file(tmp_path / "a.dcm", np.zeros((2, 4, 3), np.uint8), (0, 0, 0), SamplesPerPixel=3)
    with pytest.raises(ScanError, match=r"a\.dcm is a colour image"):
        read(tmp_path)


def pet(folder: Path, **attributes: Any) -> FloatArray:
    tracer = Dataset()
    tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = 370e6, 6588
    tracer.RadiopharmaceuticalStartTime = "100000"
    usual: dict[str, Any] = {
        "Modality": "PT",
        "Units": "BQML",
        "CorrectedImage": ["DECY", "ATTN"],
        "DecayCorrection": "START",
        "PatientWeight": 70,
        "SeriesDate": "20200101",
        "SeriesTime": "114948",  # one half life of 6588 s after the injection
        "AcquisitionDate": "20200101",
        "AcquisitionTime": "114948",
        "RadiopharmaceuticalInformationSequence": [tracer],
        "RescaleSlope": 100,
    }
    series(folder, **(usual | attributes))
    return np.asarray(read(folder).array, dtype=np.float64)


@pytest.mark.parametrize(
    ("attributes", "unit"),
    [
        ({"Modality": "CT"}, "HU"),
        ({"Modality": "CT", "RescaleType": "HU"}, "HU"),
        ({"Modality": "CT", "RescaleType": "US"}, None),
        ({"Modality": "MR"}, "arbitrary units"),
    ],
)
def test_the_unit_of_a_series(tmp_path: Path, attributes: dict[str, Any], unit: str | None) -> None:
    series(tmp_path, **attributes)
    assert read(tmp_path).unit == unit


def test_pet_in_suv(tmp_path: Path) -> None:
    expected = STORED.transpose(2, 1, 0) * (100 * 70_000 / 185e6)
    np.testing.assert_allclose(pet(tmp_path), expected, rtol=1e-6)
    assert read(tmp_path).unit == "SUV"


def test_pet_that_is_suv_already(tmp_path: Path) -> None:
    assert np.array_equal(pet(tmp_path, Units="GML"), STORED.transpose(2, 1, 0) * 100)


def test_pet_whose_header_lacks_the_weight_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.warns(PalpateWarning, match="stay as stored, not in SUV: the body weight is missing"):
        assert np.array_equal(pet(tmp_path, PatientWeight=None), STORED.transpose(2, 1, 0) * 100)
    assert read(tmp_path, warn=False).unit == "Bq/mL"
