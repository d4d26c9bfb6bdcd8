"""Masks, probabilities and scans to files, on their own grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import OutputError, ScanError
from ..files import check_writable, replacing
from ..volume import OnGrid, Volume
from . import itk, nifti
from .dicom import Series
from .endings import WRITABLE, ending
from .mark import OWN, mark
from .reading import read, read_files


def write(values: OnGrid, path: str | Path) -> None:
    """Write values on their full grid: a `Mask` as uint8 0 and 1, fractions as float32, whole numbers as they are.

    A `Volume` keeps each of its values; types that the formats lack become the next larger one.

    A file of the scan's own format repeats the scan's geometry number by number; in another format
    every voxel keeps its place in the patient. Written whole or not at all.

    Raises:
        OutputError: unknown ending, missing folder, no permission, a full disk, the scan's own file, or a sheared
            grid in a format that cannot hold it; an old file is left intact.
    """
    path = check_output(path, values)
    family = nifti if ending(path) in nifti.ENDINGS else itk
    with replacing(*written_files(path)) as staged:
        family.write(staged[-1], _voxels(values), values.grid, values.source)


def check_output(path: str | Path, scan: OnGrid | None = None) -> Path:
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
    # In small letters only: ITK refuses to write "SCAN.MHA", and does so after the work is done.
    if not path.name.endswith(WRITABLE):
        raise OutputError(f"cannot write {path}: unknown ending; use one of {', '.join(WRITABLE)}")
    if scan is not None:
        for file in written_files(path):
            check_spared(file, scan)
        if ending(path) in itk.WRITABLE:
            itk.check_grid(path, scan.grid, scan.source)
    return check_writable(path)


def check_spared(path: str | Path, scan: OnGrid, what: str = "scan") -> Path:
    """The path, if what is written there, of whatever kind, replaces no file that the scan was read from.

    Args:
        path: where a result will go.
        scan: the scan, or a patch of it; of one made in memory everything is spared.
        what: what the error calls it.

    Raises:
        OutputError: it is the scan's own file, by whatever name, or a slice of its series.
    """
    path, source = Path(path), scan.source
    if source is not None and path.exists():
        own = source.header.files if isinstance(source.header, Series) else read_files(source.path)
        if any(file.exists() and path.samefile(file) for file in own):
            raise OutputError(
                f"cannot write {path}: the {what} itself was read from it, and would be lost; name another"
            )
    return path


def is_own(path: str | Path) -> bool:
    """Whether an image is as Palpate wrote it: its header names Palpate, and its voxels were not changed since.

    Of another program's file only the header is read.
    """
    path = Path(path)
    family = nifti if ending(path) in nifti.ENDINGS else itk
    try:
        noted: str = family.mark_of(path)
        return noted.startswith(OWN) and noted == mark(read(path, warn=False).array)
    except (ScanError, OSError):  # no image, or a damaged one
        return False


def check_replaceable(*paths: str | Path | None) -> None:
    """Refuse to replace an image that Palpate did not write, or that was changed since.

    An image whose voxels' own file (.zraw) is missing holds nothing that could be lost, if its header is Palpate's.

    Args:
        paths: images that are about to be written; None where there is none.

    Raises:
        OutputError: the message names the first such file and the option.
    """
    for path in [Path(path) for path in paths if path is not None]:
        there = [file for file in written_files(path) if file.exists()]
        if there and not is_own(path) and not _is_bare_header(path):
            raise OutputError(
                f"{path} exists, and Palpate did not write it, or an earlier version did, or it was changed since; "
                "give --overwrite to replace it, or name another"
            )


def written_files(*paths: str | Path | None) -> tuple[Path, ...]:
    """What `write` makes at each path: that file, and before it the voxels' own of a MetaImage header (.mhd)."""
    files: list[Path] = []
    for path in [Path(path) for path in paths if path is not None]:
        files += (path.with_suffix(".zraw"), path) if ending(path) == ".mhd" else (path,)
    return tuple(files)


def _is_bare_header(path: Path) -> bool:
    """Whether it is a MetaImage header that Palpate wrote, and the file with its voxels is missing."""
    try:
        return not all(file.exists() for file in written_files(path)) and itk.mark_of(path).startswith(OWN)
    except (ScanError, OSError):
        return False


def _voxels(values: OnGrid) -> npt.NDArray[Any]:
    full = values.full()
    if full.dtype == np.bool_:
        return full.view(np.uint8)
    if isinstance(values, Volume):
        full = full.astype(full.dtype.newbyteorder("="), copy=False)
        return full.astype(np.float32) if full.dtype == np.float16 else full
    return full.astype(np.float32, copy=False) if full.dtype.kind == "f" else full
