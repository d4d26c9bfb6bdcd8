"""Cohorts laid out as the Medical Segmentation Decathlon's tasks: `dataset.json`, `imagesTr/`, `labelsTr/`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import FormatError, GeometryError, ScanError
from ..formats import read
from ..volume import Volume


@dataclass(frozen=True)
class LabelledScan:
    """A scan and its contour, on disk.

    Attributes:
        name: the image file's name without its ending.
        image: the scan's file.
        label: the label's file, on the scan's grid.
    """

    name: str
    image: Path
    label: Path

    def load(self) -> tuple[Volume, npt.NDArray[np.bool_]]:
        """The scan, and its lesion `[X, Y, Z]`: every label above zero.

        Raises:
            ScanError: an unreadable file.
            GeometryError: scan and label on different grids.
        """
        volume, label = read(self.image), read(self.label)
        if not volume.grid.same_as(label.grid, tolerance=1e-2):
            raise GeometryError(f"{self.label}: its grid differs from its scan's ({self.image})")
        return volume, label.array > 0


def list_scans(folder: str | Path) -> list[LabelledScan]:
    """The labelled scans that a folder's `dataset.json` names, sorted by name.

    Raises:
        ScanError: no `dataset.json`, or a file that it names is missing.
        FormatError: a `dataset.json` that is not the Decathlon's.
    """
    folder = Path(folder)
    listing = folder / "dataset.json"
    if not listing.is_file():
        raise ScanError(f"{folder}: no dataset.json; a Decathlon cohort has dataset.json, imagesTr and labelsTr")
    try:
        pairs = [(folder / e["image"], folder / e["label"]) for e in json.loads(listing.read_text())["training"]]
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{listing}: not a Decathlon listing ({error!r})") from error
    for path in (file for pair in pairs for file in pair):
        if not path.is_file():
            raise ScanError(f"{listing}: names {path}, which does not exist")
    scans = [LabelledScan(image.name.removesuffix(".gz").removesuffix(".nii"), image, label) for image, label in pairs]
    return sorted(scans, key=lambda scan: scan.name)
