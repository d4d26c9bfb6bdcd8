"""Which endings name which format."""

from __future__ import annotations

from pathlib import Path

from . import itk, nifti

READABLE = (*nifti.ENDINGS, *itk.READABLE)
WRITABLE = (*nifti.ENDINGS, *itk.WRITABLE)


def ending(path: Path) -> str:
    """The longest known ending of a path, in small letters; of another one its suffix."""
    name = path.name.lower()
    return next((known for known in sorted(READABLE, key=len, reverse=True) if name.endswith(known)), path.suffix)
