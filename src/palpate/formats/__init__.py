"""Scans from files and masks to files: NIfTI, NRRD, MetaImage, and DICOM folders (read only).

The ending of a path names its format; a folder is DICOM. The file libraries are imported when a
file of theirs is met, so that importing this package costs nothing.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import FormatError, GeometryWarning, OutputError, PalpateWarning, ScanError, SeriesError
from ..files import check_writable, error_text, replacing
from ..volume import Patch, Volume
from . import dicom, itk, nifti
from .dicom import Series

__all__ = [
    "READABLE",
    "WRITABLE",
    "Series",
    "check_output",
    "check_spared",
    "list_series",
    "read",
    "read_files",
    "write",
    "written_files",
]

READABLE = (*nifti.ENDINGS, *itk.READABLE)
WRITABLE = (*nifti.ENDINGS, *itk.WRITABLE)


def read(path: str | Path, *, series: str | None = None, warn: bool = True) -> Volume:
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
        category = PalpateWarning if path.is_dir() else GeometryWarning
        for note in volume.notes:
            warnings.warn(note, category, stacklevel=2)
    return volume


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


def write(patch: Patch | Volume, path: str | Path) -> None:
    """Write a patch's full grid: a `Mask` as uint8 0 and 1, a `Probability` as float32, whole numbers as they are.

    A `Volume` keeps each of its values; types that the formats lack become the next larger one.

    A file of the scan's own format repeats the scan's geometry number by number; in another format
    every voxel keeps its place in the patient. Written whole or not at all.

    Raises:
        OutputError: unknown ending, missing folder, no permission, a full disk, the scan's own file, or a sheared
            grid in a format that cannot hold it; an old file is left intact.
    """
    path = check_output(path, patch)
    family = nifti if _ending(path) in nifti.ENDINGS else itk
    with replacing(*written_files(path)) as staged:
        family.write(staged[-1], _voxels(patch), patch.grid, patch.source)


def check_output(path: str | Path, scan: Volume | Patch | None = None) -> Path:
    """The path, if a mask can be saved there; asked before long work.

    Args:
        path: where the mask will go.
        scan: the scan it will be of; then it is also checked that the format can hold its grid, and that the scan's
            own file is not replaced.

    Raises:
        OutputError: an ending that cannot be written (the message lists those that can), a missing
            folder, no permission, the scan's own file, or a sheared grid in a format other than NIfTI.
    """
    path = Path(path)
    # In small letters only: ITK refuses to write "SCAN.MHA", and says so after the work is done.
    if not path.name.endswith(WRITABLE):
        raise OutputError(f"cannot write {path}: unknown ending; use one of {', '.join(WRITABLE)}")
    if scan is not None:
        for file in written_files(path):
            check_spared(file, scan)
        if _ending(path) in itk.WRITABLE:
            itk.check_grid(path, scan.grid, scan.source)
    return check_writable(path)


def check_spared(path: str | Path, scan: Volume | Patch) -> Path:
    """The path, if what is written there, of whatever kind, replaces no file that the scan was read from.

    Args:
        path: where a result will go.
        scan: the scan, or a patch of it; of one made in memory everything is spared.

    Raises:
        OutputError: it is the scan's own file, by whatever name, or a slice of its series.
    """
    path, source = Path(path), scan.source
    if source is not None and path.exists():
        own = source.header.files if isinstance(source.header, Series) else read_files(source.path)
        if any(file.exists() and path.samefile(file) for file in own):
            raise OutputError(f"cannot write {path}: the scan itself was read from it, and would be lost; name another")
    return path


def written_files(*paths: str | Path | None) -> tuple[Path, ...]:
    """What `write` makes at each path: that file, and before it the voxels' own of a MetaImage header (.mhd)."""
    files: list[Path] = []
    for path in [Path(path) for path in paths if path is not None]:
        files += (path.with_suffix(".zraw"), path) if _ending(path) == ".mhd" else (path,)
    return tuple(files)


def read_files(path: str | Path) -> tuple[Path, ...]:
    """What `read` reads of a file: itself, and beside a header the files that by custom hold its voxels."""
    path = Path(path)
    return (path, *(path.with_suffix(ending) for ending in itk.DETACHED.get(path.suffix.lower(), ())))


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
    ending = _ending(path)
    if ending not in READABLE:
        raise FormatError(_unknown(path))
    if series is not None:
        raise SeriesError(f"series {series!r} was asked for, but this is a file; series are for DICOM folders")
    return nifti.read(path) if ending in nifti.ENDINGS else itk.read(path)


def _unknown(path: Path) -> str:
    if dicom.is_dicom(path):
        return f"this is one DICOM file; give the folder that holds its series: {path.parent}"
    return f"unknown format; readable are {', '.join(READABLE)} and folders of DICOM slices"


def _ending(path: Path) -> str:
    name = path.name.lower()
    return next((ending for ending in sorted(READABLE, key=len, reverse=True) if name.endswith(ending)), path.suffix)


def _voxels(patch: Patch | Volume) -> npt.NDArray[Any]:
    full = np.asarray(patch.array) if isinstance(patch, Volume) else patch.full()
    if full.dtype == np.bool_:
        return full.view(np.uint8)
    if isinstance(patch, Volume):
        full = full.astype(full.dtype.newbyteorder("="), copy=False)
        return full.astype(np.float32) if full.dtype == np.float16 else full
    return full.astype(np.float32, copy=False) if full.dtype.kind == "f" else full
