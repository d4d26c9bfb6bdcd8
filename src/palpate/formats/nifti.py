"""NIfTI-1 and NIfTI-2 in one file (.nii, .nii.gz), through nibabel."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import FormatError, GeometryError
from ..volume import FloatArray, Grid, Source, Volume
from .mark import mark
from .quiet import muted

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header, Nifti1Image
    from nibabel.spatialimages import SpatialImage

ENDINGS = (".nii", ".nii.gz")

# All that places a voxel in space. A mask repeats these fields and no other: what the scan's header
# has of intensities does not hold for it, and texts and extensions may name the patient.
_GEOMETRY = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)
# Millimetres in the header's unit of length, for xyzt_units' codes of metre and micron; other codes
# are millimetres or unknown, which everyone takes for millimetres.
_UNIT_MM = {1: 1000.0, 3: 0.001}
# sform and qform of one scan differ by rounding (a quaternion's float32 largest near a half turn).
_SAME_PLACE = 0.25  # of a voxel's shortest edge, at the grid's corners


@dataclass(frozen=True)
class NiftiHeader:
    """A NIfTI file's header, to be repeated in a mask's file.

    Attributes:
        stored: nibabel's header with the file's own bytes, not repaired.
        affine: what it was read as, to RAS millimetres.
    """

    stored: Nifti1Header
    affine: FloatArray


def read(path: Path) -> Volume:
    """The scan in a NIfTI file; its sform is believed first, then its qform, then its spacing alone.

    Raises:
        FormatError: not NIfTI, truncated or damaged.
        ScanError, GeometryError: as `Volume` raises them.
    """
    image = _open(path)
    affine = _affine(image.header)
    # Shape and geometry are checked before the voxels are read, which may take long.
    grid = Volume(np.broadcast_to(np.int8(0), image.shape), affine).grid
    header = NiftiHeader(_stored_header(path, image.header), grid.affine)
    return Volume(_voxels(image), affine, Source(str(path), "nifti", header), _notes(path, image.header, grid))


def of_image(image: SpatialImage) -> Volume:
    """The scan in an image of nibabel's, of whatever format; its voxels are read if they have not been.

    Raises:
        FormatError: its file is truncated or damaged.
        ScanError, GeometryError: as `Volume` raises them.
    """
    grid, path, header = grid_of(image), image.get_filename(), _nifti_header(image)
    notes = () if header is None else _notes(path or "the image", header, grid)
    # Only a header that describes the image's grid can be repeated in a mask's file.
    source = None
    if header is not None and path and path.lower().endswith(ENDINGS) and np.array_equal(_affine(header), grid.affine):
        source = Source(path, "nifti", NiftiHeader(header.copy(), grid.affine))
    return Volume(_voxels(image), grid.affine, source, notes)


def grid_of(image: SpatialImage) -> Grid:
    """The grid of an image of nibabel's; no voxel is read.

    Raises:
        ScanError, GeometryError: as `Volume` raises them; an image without an affine.
    """
    if image.affine is None:
        raise GeometryError("the image has no affine, so nothing says where its voxels lie; give it one")
    header = _nifti_header(image)
    affine = _in_mm(np.array(image.affine, dtype=np.float64), 1.0 if header is None else _unit(header))
    return Volume(np.broadcast_to(np.int8(0), image.shape), affine).grid


def mark_of(path: Path) -> str:
    """The text in a file's header that names its writer; see `mark`.

    Raises:
        FormatError: not NIfTI, or damaged.
    """
    return bytes(_open(path).header["descrip"].item()).decode(errors="replace")


def write(path: Path, array: npt.NDArray[Any], grid: Grid, source: Source | None) -> None:
    """Write `array` `[X, Y, Z]`, repeating the header of a NIfTI source that describes `grid`.

    Raises:
        OSError: the disk or the folder refuses.
    """
    header = source.header if source is not None and source.format == "nifti" else None
    if header is not None and np.array_equal(header.affine, grid.affine):
        image = _alike(array, header.stored)
    else:
        image = _anew(array, grid)
    image.header["descrip"] = mark(array).encode()
    with path.open("wb") as file:
        if not path.name.lower().endswith(".gz"):
            image.to_stream(file)
            return
        # Neither name nor time inside: the same mask gives the same bytes.
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed:
            image.to_stream(packed)


def _open(path: Path) -> Nifti1Image:
    import nibabel as nib
    from nibabel.imageglobals import logger

    _check_compression(path)
    try:
        with muted(logger):  # repairs; those that matter are notes of ours
            image = nib.load(path, mmap=False)
    except _damage() as error:
        raise FormatError(
            f"not a readable NIfTI file ({_one_line(error)}); copy it again from where it came"
        ) from error
    if not isinstance(image, nib.Nifti1Image):
        raise FormatError(f"not a NIfTI file but {type(image).__name__}; convert it first")
    return image


def _check_compression(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(2)
    zipped, named_so = start == b"\x1f\x8b", path.name.lower().endswith(".gz")
    if not start:
        raise FormatError("the file is empty; copy it again from where it came")
    if named_so and not zipped:
        raise FormatError(f"not gzip-compressed (it starts with {start!r}); if it is plain NIfTI, name it .nii")
    if zipped and not named_so:
        raise FormatError("gzip-compressed, though its name does not say so; name it .nii.gz")


def _stored_header(path: Path, repaired: Nifti1Header) -> Nifti1Header:
    """The header as its bytes are; nibabel's own reading repairs what it finds odd."""
    from nibabel.openers import ImageOpener

    with ImageOpener(str(path)) as file:
        return type(repaired)(file.read(repaired.sizeof_hdr), check=False)


def _affine(header: Nifti1Header) -> FloatArray:
    return _in_mm(np.array(header.get_best_affine(), dtype=np.float64), _unit(header))


def _in_mm(affine: FloatArray, unit: float) -> FloatArray:
    affine[:3] *= unit
    return affine


def _nifti_header(image: SpatialImage) -> Nifti1Header | None:
    import nibabel as nib

    return image.header if isinstance(image, nib.Nifti1Pair) else None


def _unit(header: Nifti1Header) -> float:
    return _UNIT_MM.get(int(header["xyzt_units"]) & 7, 1.0)


def _notes(path: Path | str, header: Nifti1Header, grid: Grid) -> tuple[str, ...]:
    """Where a header contradicts itself or lacks a place, and which part was believed."""
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    if not sform and not qform:
        return (
            f"{path}: the header places the scan nowhere (sform and qform codes are 0): its spacing was believed, "
            f"and orientation {grid.orientation} assumed, which may swap left and right",
        )
    if sform and qform and not _qform_agrees(header, grid):
        return (f"{path}: the header's sform and qform differ; the sform was believed",)
    return ()


def _qform_agrees(header: Nifti1Header, grid: Grid) -> bool:
    from nibabel.spatialimages import HeaderDataError

    try:
        return grid.same_as(Grid(grid.shape, _in_mm(header.get_qform(), _unit(header))), _SAME_PLACE)
    except (ValueError, HeaderDataError, GeometryError):
        return False  # a qform that cannot be read agrees with nothing


def _voxels(image: SpatialImage) -> npt.NDArray[Any]:
    from nibabel.arrayproxy import ArrayProxy

    stored = image.dataobj
    if type(stored) is not ArrayProxy:  # an array in memory, or another format's own way of reading
        return np.asarray(stored)
    try:
        # Overflow while scaling gives infinity, which `Volume` reports.
        with np.errstate(all="ignore"):
            if stored.slope == 1 and stored.inter == 0:
                array = stored.get_unscaled()
                return np.asarray(array.astype(array.dtype.newbyteorder("="), copy=False))
            return np.asarray(stored, dtype=np.float32)
    except _damage() as error:
        raise FormatError(
            f"the voxels are cut short or damaged ({_one_line(error)}); copy it again from where it came"
        ) from error


def _alike(array: npt.NDArray[Any], stored: Nifti1Header) -> Nifti1Image:
    import nibabel as nib

    kind = nib.Nifti2Image if isinstance(stored, nib.Nifti2Header) else nib.Nifti1Image
    header = kind.header_class(endianness=stored.endianness)
    header.set_data_dtype(array.dtype)
    image = kind(array, None, header)  # an affine here would rewrite the fields
    for field in _GEOMETRY:
        image.header[field] = stored[field]
    return image


def _anew(array: npt.NDArray[Any], grid: Grid) -> Nifti1Image:
    import nibabel as nib

    kind = nib.Nifti1Image if max(array.shape) < 2**15 else nib.Nifti2Image  # NIfTI-1 counts voxels in 16 bits
    image = kind(array, grid.affine, dtype=array.dtype)
    image.header.set_xyzt_units("mm")
    image.set_sform(grid.affine, code=1)
    image.set_qform(grid.affine, code=1)
    if not _qform_agrees(image.header, grid):
        image.set_qform(None)  # a quaternion cannot hold shear: better none than a wrong one
    return image


def _damage() -> tuple[type[Exception], ...]:
    """What nibabel and gzip raise for files that are not what they should be."""
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError, HeaderTypeError
    from nibabel.wrapstruct import WrapStructError

    return (
        OSError,
        EOFError,
        ValueError,
        zlib.error,
        ImageFileError,
        HeaderDataError,
        HeaderTypeError,
        WrapStructError,
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())  # nibabel breaks lines
