"""Scans from files and masks to files: NIfTI, NRRD, MetaImage, and DICOM folders (read only).

The ending of a path names its format; a folder is DICOM. The file libraries are imported when a
file of theirs is met, so that importing this package costs nothing.
"""

from .dicom import Series
from .endings import READABLE, WRITABLE
from .reading import as_grid, as_volume, is_image, list_series, read, read_files
from .writing import check_output, check_replaceable, check_spared, is_own, write, written_files

__all__ = [
    "READABLE",
    "WRITABLE",
    "Series",
    "as_grid",
    "as_volume",
    "check_output",
    "check_replaceable",
    "check_spared",
    "is_image",
    "is_own",
    "list_series",
    "read",
    "read_files",
    "write",
    "written_files",
]
