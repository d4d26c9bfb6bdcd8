"""NIfTI: which part of a header is believed, and that a mask repeats it."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from palpate.errors import FormatError, GeometryWarning, ScanError
from palpate.formats import read, write
from palpate.masks import Mask, Patch
from palpate.volume import FloatArray, Grid, Volume

SFORM = np.array([[-2, 0, 0, 10], [0, -3, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1.0]])
QFORM = np.array([[0, 3, 0, -5], [2, 0, 0, -6], [0, 0, 4, -7], [0, 0, 0, 1.0]])
ARRAY = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


def saved(
    path: Path,
    sform: FloatArray | None = None,
    qform: FloatArray | None = None,
    array: npt.NDArray[np.generic] = ARRAY,
    codes: tuple[int, int] = (1, 1),
    **fields: object,
) -> Path:
    """A NIfTI file with these forms, their codes, and these fields of its header."""
    kind = nib.Nifti2Image if fields.pop("nifti2", False) else nib.Nifti1Image
    image = kind(array, None, dtype=array.dtype)
    if sform is not None:
        image.header.set_sform(sform, code=codes[0])
    if qform is not None:
        image.header.set_qform(qform, code=codes[1])
    for name, value in fields.items():
        image.header[name] = value
    image.to_filename(path)
    return path


def mask_of(volume: Volume, path: Path) -> Path:
    Mask(np.ones((1, 1, 1), bool), (0, 1, 2), volume.grid, volume.source).save(path)
    return path


def test_the_array_keeps_its_order_and_type(tmp_path: Path) -> None:
    volume = read(saved(tmp_path / "a.nii.gz", SFORM, SFORM))
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, ARRAY)
    assert np.array_equal(volume.affine, SFORM)
    assert volume.source is not None
    assert (volume.source.format, volume.source.path) == ("nifti", str(tmp_path / "a.nii.gz"))


def test_the_sform_alone(tmp_path: Path) -> None:
    assert np.array_equal(read(saved(tmp_path / "a.nii", SFORM)).affine, SFORM)


def test_the_qform_alone(tmp_path: Path) -> None:
    np.testing.assert_allclose(read(saved(tmp_path / "a.nii", qform=QFORM)).affine, QFORM, atol=1e-5)


def test_a_qform_that_differs_is_noted(tmp_path: Path) -> None:
    with pytest.warns(GeometryWarning, match=r"a\.nii: the header's sform and qform differ; the sform was believed"):
        assert np.array_equal(read(saved(tmp_path / "a.nii", SFORM, QFORM)).affine, SFORM)


def test_notes_travel_with_the_volume_and_warn_only_where_asked(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = saved(tmp_path / "a.nii", SFORM, QFORM)
    volume = read(path, warn=False)
    assert volume.notes == (f"{path}: the header's sform and qform differ; the sform was believed",)
    assert not recwarn
    assert read(path).notes == volume.notes
    (warned,) = recwarn
    assert (str(warned.message), warned.filename) == (volume.notes[0], __file__)
    assert read(saved(tmp_path / "b.nii", SFORM, SFORM)).notes == ()


def test_a_qform_that_cannot_be_read_is_noted(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", SFORM, SFORM, quatern_b=2.0)
    with pytest.warns(GeometryWarning, match="the sform was believed"):
        assert np.array_equal(read(path).affine, SFORM)


def test_a_qform_that_differs_by_rounding_is_not(tmp_path: Path) -> None:
    moved = SFORM.copy()
    moved[0, 3] += 0.01
    assert np.array_equal(read(saved(tmp_path / "a.nii", SFORM, moved)).affine, SFORM)


def test_a_header_without_place_is_noted(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", pixdim=[1, 2, 3, 4, 0, 0, 0, 0])
    with pytest.warns(GeometryWarning, match="codes are 0.*its spacing was believed, and orientation LAS assumed"):
        volume = read(path)
    # nibabel's rule: x to the left, the middle of the array at the origin.
    assert volume.affine.tolist() == [[-2, 0, 0, 1], [0, 3, 0, -3], [0, 0, 4, -6], [0, 0, 0, 1]]
    with pytest.warns(GeometryWarning, match="codes are 0"):
        assert read(mask_of(volume, tmp_path / "m.nii")).grid.same_as(volume.grid, 1e-3)


def test_metres_and_microns_are_read_as_millimetres(tmp_path: Path) -> None:
    for code, unit in ((1, 1e3), (3, 1e-3), (2, 1), (0, 1)):
        volume = read(saved(tmp_path / "a.nii", SFORM, SFORM, xyzt_units=code))
        np.testing.assert_allclose(volume.spacing, np.array([2, 3, 4]) * unit)
        assert np.array_equal(read(mask_of(volume, tmp_path / "m.nii")).affine, volume.affine)


def test_a_scale_is_applied(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", SFORM)
    stored = bytearray(path.read_bytes())
    stored[112:120] = np.array([0.5, -100], "<f4").tobytes()  # scl_slope, scl_inter
    path.write_bytes(stored)
    volume = read(path)
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array, ARRAY * np.float32(0.5) - 100)


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int32, np.int64, np.float32, np.float64])
def test_every_type_is_preserved_without_a_scale(tmp_path: Path, kind: type) -> None:
    volume = read(saved(tmp_path / "a.nii", SFORM, array=ARRAY.astype(kind)))
    assert volume.array.dtype == kind
    assert np.array_equal(volume.array, ARRAY)


def test_the_other_byte_order(tmp_path: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    image = nib.Nifti1Image(ARRAY, SFORM, header)
    image.to_filename(tmp_path / "big.nii")
    volume = read(tmp_path / "big.nii")
    assert volume.array.dtype == np.dtype(np.int16)
    assert volume.array.dtype.isnative
    assert np.array_equal(volume.array, ARRAY)
    mask = mask_of(volume, tmp_path / "m.nii")
    assert mask.read_bytes()[252:328] == (tmp_path / "big.nii").read_bytes()[252:328]


# Where NIfTI-1 keeps what places a voxel: pixdim; xyzt_units; the codes, the quaternion and the sform.
GEOMETRY_1 = (slice(76, 108), slice(123, 124), slice(252, 328))
# NIfTI-2: pixdim; the codes, the quaternion and the sform; xyzt_units.
GEOMETRY_2 = (slice(104, 168), slice(344, 500), slice(500, 504))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("nifti2", [False, True])
@pytest.mark.parametrize("codes", [(1, 1), (2, 3), (4, 0), (0, 1)])
def test_a_mask_repeats_the_header_byte_by_byte(
    tmp_path: Path, ending: str, nifti2: bool, codes: tuple[int, int]
) -> None:
    tilt = np.radians(20)
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, -1]])
    oblique = np.eye(4)
    oblique[:3, :3] = turn * [0.7, 0.7, 3.27]
    oblique[:3, 3] = [-101.7, 33.3, 512.9]
    path = saved(
        tmp_path / f"scan{ending}",
        oblique,
        oblique,
        codes=codes,
        nifti2=nifti2,
        xyzt_units=10,
        cal_max=300,
        cal_min=-100,
        intent_code=3,
        descrip=b"a name",
    )
    mask = mask_of(read(path), tmp_path / f"mask{ending}")
    stored, written = path.read_bytes(), mask.read_bytes()
    if ending == ".nii.gz":
        stored, written = gzip.decompress(stored), gzip.decompress(written)
    for part in GEOMETRY_2 if nifti2 else GEOMETRY_1:
        assert stored[part] == written[part]
    assert b"a name" not in written
    header = nib.load(mask).header
    assert header.get_data_dtype() == np.uint8
    assert (header["cal_max"], header["cal_min"], header["intent_code"]) == (0, 0, 0)
    if not nifti2:
        assert np.frombuffer(written[112:120], "<f4").tolist() == [1, 0]


def test_an_odd_header_is_repeated_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path / "a.nii", SFORM)
    stored = bytearray(path.read_bytes())
    stored[76:92] = np.array([0, -2, 3, 4], "<f4").tobytes()  # qfac 0 and a negative spacing: nibabel repairs both
    path.write_bytes(stored)
    mask = mask_of(read(path), tmp_path / "m.nii")
    assert mask.read_bytes()[76:108] == bytes(stored[76:108])
    assert capsys.readouterr().err == ""


def test_a_trailing_axis_of_one_is_dropped_also_from_the_mask(tmp_path: Path) -> None:
    volume = read(saved(tmp_path / "a.nii", SFORM, array=ARRAY[..., None]))
    assert volume.shape == (2, 3, 4)
    assert nib.load(mask_of(volume, tmp_path / "m.nii")).shape == (2, 3, 4)


def test_a_header_that_describes_another_grid_is_not_repeated(tmp_path: Path) -> None:
    volume = read(saved(tmp_path / "a.nii", SFORM))
    moved = volume.affine.copy()
    moved[0, 3] += 7
    write(Patch(ARRAY, (0, 0, 0), Grid((2, 3, 4), moved), volume.source), tmp_path / "b.nii")
    assert np.array_equal(read(tmp_path / "b.nii").affine, moved)


def test_a_mask_of_another_source_has_both_forms(tmp_path: Path) -> None:
    write(Patch(ARRAY, (0, 0, 0), Grid((2, 3, 4), SFORM)), tmp_path / "a.nii")
    header = nib.load(tmp_path / "a.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(header.get_qform(), SFORM, atol=1e-5)


def test_shear_goes_to_the_sform_alone(tmp_path: Path) -> None:
    sheared = SFORM.copy()
    sheared[0, 1] = 1
    write(Patch(ARRAY, (0, 0, 0), Grid((2, 3, 4), sheared)), tmp_path / "a.nii")
    header = nib.load(tmp_path / "a.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((3, 4), r"2 axes, shape \(3, 4\)"), ((2, 3, 4, 5), "split a series"), ((2, 2, 2, 1, 3), "5 axes")],
)
def test_not_one_volume(tmp_path: Path, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ScanError, match=message):
        read(saved(tmp_path / "a.nii", SFORM, array=np.zeros(shape, np.uint8)))


def test_an_empty_array(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", SFORM)
    stored = bytearray(path.read_bytes())
    stored[42:44] = bytes(2)  # dim[1]
    path.write_bytes(stored)
    with pytest.raises(ScanError, match=r"a\.nii: the scan is empty: shape \(0, 3, 4\)"):
        read(path)


def test_colour(tmp_path: Path) -> None:
    colour = np.zeros((2, 3, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(ScanError, match="not real numbers; convert it to one channel first"):
        read(saved(tmp_path / "a.nii", SFORM, array=colour))


def test_compression_that_the_name_hides(tmp_path: Path) -> None:
    plain = saved(tmp_path / "a.nii", SFORM).read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(plain)
    with pytest.raises(FormatError, match=r"b\.nii\.gz: not gzip-compressed .*name it \.nii$"):
        read(tmp_path / "b.nii.gz")
    (tmp_path / "c.nii").write_bytes(gzip.compress(plain))
    with pytest.raises(FormatError, match=r"gzip-compressed, though its name does not say so; name it \.nii\.gz"):
        read(tmp_path / "c.nii")


def test_infinity_from_a_scale_too_large(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", SFORM, array=np.full((2, 3, 4), 1e38, np.float32))
    stored = bytearray(path.read_bytes())
    stored[112:120] = np.array([1e6, 0], "<f4").tobytes()
    path.write_bytes(stored)
    with pytest.raises(ScanError, match="24 of 24 voxels are NaN or infinite"):
        read(path)
