"""Scans from files, folders of DICOM slices, and other libraries' images."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from ..errors import FormatError, GeometryWarning, PalpateWarning, ScanError, SeriesError
from ..files import error_text
from ..volume import Grid, OnGrid, Volume
from . import dicom, itk, nifti
from .dicom import Series
from .dicom_masks import how_to_convert
from .endings import READABLE, ending

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage
    from SimpleITK import Image

    ImageLike: TypeAlias = Volume | str | os.PathLike[str] | SpatialImage | Image
    GridLike: TypeAlias = Grid | OnGrid | ImageLike


def read(path: str | os.PathLike[str], *, series: str | None = None, warn: bool = True) -> Volume:
    """A scan from a NIfTI, NRRD or MetaImage file, or from a folder of DICOM slices.

    Args:
        path: the file, or the folder; a folder without slices of its own is searched below.
        series: which DICOM series, where the folder holds several: its UID, an ending or a beginning
            of it that no other series shares, or its number.
        warn: issue the scan's notes as Python warnings too, at the caller's line: `GeometryWarning` for a header that
            contradicts itself, `PalpateWarning` for PET that stays in its stored unit.

    Returns:
        The scan: array `[X, Y, Z]` in the file's own order and type (float32 where a scale is
        applied), affine to RAS millimetres. CT is in HU and PET in SUV where the header allows it.
        What the reader doubts is in `Volume.notes`.

    Raises:
        ScanError: no such file, no permission, not a 3-D array of finite numbers.
        FormatError: an unknown ending or a damaged file.
        GeometryError: an affine that is not a grid's.
        SeriesError: a folder with no series, several, or one with gaps or repeated positions.
    """
    path = Path(path)
    with _naming(path):
        volume = _read(path, series)
    if warn:
        _issue(volume, stacklevel=3)
    return volume


def as_volume(value: ImageLike, what: str = "a scan is") -> Volume:
    """What people have of a scan, as a `Volume`.

    Args:
        value: a `Volume`, which is returned as it is; a path, which is read; a nibabel image (RAS millimetres, as its
            affine says; a NIfTI header's unit counts) or a SimpleITK image (LPS millimetres, indices x, y, z). An
            image's voxels may be shared with it, not copied.
        what: how the error begins that says what can be given.

    Returns:
        The scan: array `[X, Y, Z]`, affine to RAS millimetres. Notes of a file or an image are issued as warnings.

    Raises:
        TypeError: anything else.
        ScanError: as `read` raises it.
    """
    if isinstance(value, Volume):
        return value
    if isinstance(value, (str, os.PathLike)):
        volume = read(value, warn=False)
    elif _is_nibabel(value):
        volume = nifti.of_image(value)
    elif _is_simpleitk(value):
        volume = itk.of_image(value)
    else:
        raise TypeError(_unusable(value, what))
    _issue(volume, stacklevel=4)
    return volume


def is_image(value: object) -> TypeGuard[ImageLike]:
    """Whether `as_volume` takes it; a path may still turn out not to be readable."""
    return isinstance(value, (Volume, str, os.PathLike)) or _is_nibabel(value) or _is_simpleitk(value)


def as_grid(value: GridLike) -> Grid:
    """The grid of a scan: of what `as_volume` takes, a mask or a probability, or a `Grid` itself.

    A path is read whole at each call; read it once where many points are asked for. Of an image no voxel is read.

    Raises:
        TypeError: anything else.
        ScanError: as `read` raises it.
    """
    if isinstance(value, Grid):
        return value
    if isinstance(value, OnGrid):
        return value.grid
    if _is_nibabel(value):
        return nifti.grid_of(value)
    if _is_simpleitk(value):
        return itk.grid_of(value)
    return as_volume(value, "a grid is a Grid, a Mask,").grid


def list_series(folder: str | Path) -> tuple[Series, ...]:
    """The CT, MR and PET series in a folder, or, if it has none of its own, in the folders below.

    Raises:
        ScanError: no such folder, no permission.
        FormatError: a damaged DICOM file.
        SeriesError: no series; the message says what was found instead.
    """
    folder = Path(folder)
    with _naming(folder):
        if not folder.is_dir():
            raise ScanError("no such folder; check the spelling and the folder it lies in")
        return dicom.list_series(folder)


def read_files(path: str | Path) -> tuple[Path, ...]:
    """What `read` reads of a file: itself, and beside a header the files that by custom hold its voxels."""
    path = Path(path)
    return (path, *(path.with_suffix(voxels) for voxels in itk.DETACHED.get(path.suffix.lower(), ())))


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the path before what went wrong with it."""
    try:
        yield
    except ScanError as error:
        raise type(error)(f"{path}: {error}") from error
    except PermissionError as error:
        raise ScanError(f"{path}: no permission to read it; ask its owner, or copy it to a place of yours") from error
    except OSError as error:
        raise ScanError(f"{path}: cannot be read ({error_text(error)}); check the disk or copy it again") from error


def _read(path: Path, series: str | None) -> Volume:
    if path.is_dir():
        return dicom.read(path, series)
    if not path.exists():
        raise ScanError("no such file or folder; check the spelling and the folder it lies in")
    path.open("rb").close()  # a refusal is clearer from the system than from a file library
    known = ending(path)
    if known not in READABLE:
        raise FormatError(_unknown(path))
    if series is not None:
        raise SeriesError(f"series {series!r} was asked for, but this is a file; series are for DICOM folders")
    return nifti.read(path) if known in nifti.ENDINGS else itk.read(path)


def _unknown(path: Path) -> str:
    if dicom.is_dicom(path):
        advice = how_to_convert([dicom.kind_of(path)], path)
        if advice is not None:
            return advice
        return f"this is one DICOM file; give the folder that holds its series: {path.parent}"
    return f"unknown format; readable are {', '.join(READABLE)} and folders of DICOM slices"


def _issue(volume: Volume, stacklevel: int) -> None:
    """A volume's notes as Python warnings."""
    category = PalpateWarning if volume.source is not None and volume.source.format == "dicom" else GeometryWarning
    for note in volume.notes:
        warnings.warn(note, category, stacklevel=stacklevel)


def _is_nibabel(value: object) -> TypeGuard[SpatialImage]:
    """Whether it is an image of nibabel's; an image there is only where the library has been imported."""
    module = sys.modules.get("nibabel.spatialimages")
    return module is not None and isinstance(value, module.SpatialImage)


def _is_simpleitk(value: object) -> TypeGuard[Image]:
    module = sys.modules.get("SimpleITK")
    return module is not None and isinstance(value, module.Image)


def _unusable(value: object, what: str) -> str:
    hint = "; an array alone has no spacing and no place: give Volume(array, affine)"
    return (
        f"{what} a Volume, a path, or a nibabel or SimpleITK image, not {type(value).__name__}"
        f"{hint if hasattr(value, '__array__') and not isinstance(value, OnGrid) else ''}"
    )
