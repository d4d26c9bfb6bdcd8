"""A cohort: scans, each with a contour and a patient, as some layout names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import GeometryError
from ..formats import read
from ..volume import Volume
from .split import Subset


@dataclass(frozen=True)
class LabelledScan:
    """A scan and its contour, on disk; nothing is read before `load`.

    Attributes:
        name: unique in its cohort, as its layout names it.
        image: the scan's file, or its folder of DICOM slices.
        label: the label's file, on the scan's grid.
        patient: whose scan it is; the scan's own name where nothing else is known.
        subset: where the layout itself splits the cohort; None elsewhere.
    """

    name: str
    image: Path
    label: Path
    patient: str
    subset: Subset | None = None

    def load(self, warn: bool = True) -> tuple[Volume, Volume]:
        """The scan and its label values, both `[X, Y, Z]` on one grid.

        Args:
            warn: issue the notes of both as Python warnings too.

        Raises:
            ScanError: an unreadable file.
            GeometryError: scan and label on different grids; the message says how they differ.
        """
        volume, label = read(self.image, warn=warn), read(self.label, warn=warn)
        differences = label.grid.differences(volume.grid)
        if differences:
            raise GeometryError(f"{self.label}: not on the grid of its scan {self.image}: {'; '.join(differences)}")
        return volume, label


@dataclass(frozen=True, eq=False)
class LabelledVolume:
    """A scan and its target in memory.

    Attributes:
        name: unique in its cohort.
        patient: whose scan it is.
        volume: the scan.
        target: whether each voxel is target, bool `[X, Y, Z]` on the scan's grid.
    """

    name: str
    patient: str
    volume: Volume
    target: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Cohort:
    """Labelled scans found in one place.

    Attributes:
        origin: the folder or the CSV.
        layout: which layout it is, in words.
        scans: sorted by name.
        labels: what the layout calls its label values; empty where it does not say.
        incomplete: files without their other half, as sentences that name them and what to do.
        absent: scans that are listed, neither half of which is there, as a sentence; empty: none. They may be meant to
            be away: a part of a cohort can be trained on.
        modality: the kind of the scans, as the user or the layout calls it ("MRI", "CT"); empty where neither says it.
        licence: of scans and contours, as the layout or the user says it; empty: not stated.
    """

    origin: Path
    layout: str
    scans: tuple[LabelledScan, ...]
    labels: dict[int, str] = field(default_factory=dict)
    incomplete: tuple[str, ...] = ()
    absent: str = ""
    modality: str = ""
    licence: str = ""


def target_of(label: npt.NDArray[Any], values: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Where a label array is target: any of `values`, or, if there are none, everything above zero."""
    if not values:
        return np.asarray(label > 0)
    if len(values) == 1:
        return np.asarray(label == values[0])
    return np.isin(label, values)
