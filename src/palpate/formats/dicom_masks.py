"""Masks as DICOM objects, which are not read yet: what each is, and how it becomes a file that is."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

CONTOURS = ("RT Structure Set Storage",)
SEGMENTATIONS = ("Segmentation Storage", "Label Map Segmentation Storage", "Surface Segmentation Storage")
_SLICER = "export the segmentation to files as NIfTI or NRRD, with the scan as the reference volume"


def how_to_convert(kinds: Iterable[str], path: Path) -> str | None:
    """What a mask in DICOM is, and the commands that convert it; None: none of the kinds is a mask.

    Args:
        kinds: names of SOP classes, as the standard has them (PS3.6, annex A).
        path: the file, or the folder that holds it.
    """
    found = set(kinds)
    file = shlex.quote(str(path if path.is_file() else path / "FILE.dcm"))
    if found & set(CONTOURS):
        return (
            "this is a DICOM RTSTRUCT (contours), which Palpate does not read yet; convert it to a mask first: "
            f"pip install dcmrtstruct2nii 'pydicom<3' (in an environment of its own), "
            f"then dcmrtstruct2nii convert -r {file} -d FOLDER_OF_THE_SCAN -o masks; "
            f"or load it in 3D Slicer with the extension SlicerRT, and {_SLICER}"
        )
    if found & set(SEGMENTATIONS):
        return (
            "this is a DICOM SEG (a segmentation), which Palpate does not read yet; convert it to a mask first, with "
            f"dcmqi: segimage2itkimage --inputDICOM {file} --outputDirectory masks --outputType nifti; or load it in "
            f"3D Slicer with the extension QuantitativeReporting, and {_SLICER}; if it then lies on another grid: "
            "palpate resample MASK --like SCAN -o OUT"
        )
    return None
