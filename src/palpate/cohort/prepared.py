"""Prepared scans: on their own grid, unresampled and unclipped, in compressed chunks.

A prepared cohort is a folder::

    prepared/
        cohort.json          what was prepared, and what was left out and why
        journal.jsonl        scans finished since cohort.json was written; only there after a kill
        scans/KEY/           KEY: a hash of the scan's and the label's content
            scan.json        grid, and how many voxels each label value has
            image.b2nd       [X, Y, Z], int16 or float32
            label.b2nd       [X, Y, Z], uint8 or int32
            voxels.b2nd      flat (C order) indices of the labelled voxels, by label value

A folder of a scan is written beside its place and renamed into it, so that it is whole or not there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ..errors import CohortError
from ..frame import Padding, find_padding
from ..resampling import Sliceable
from ..volume import Grid, Index3, Volume
from .chunks import ChunkedArray
from .scans import LabelledVolume, target_of
from .split import Subset

FORMAT = 1


class ScanRecord(BaseModel):
    """What `scan.json` holds.

    Attributes:
        format: of the folder.
        shape: voxels along X, Y, Z.
        affine: voxel index to RAS millimetres, `[4][4]`.
        labels: voxels of each label value above zero.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int
    shape: Index3
    affine: tuple[tuple[float, ...], ...]
    labels: dict[int, int]


@dataclass(frozen=True)
class TargetArray:
    """A label array as target or not."""

    label: ChunkedArray
    values: tuple[int, ...]

    def __getitem__(self, box: tuple[slice, slice, slice]) -> npt.NDArray[np.bool_]:
        return target_of(self.label[box], self.values)


@dataclass(frozen=True)
class PreparedScan:
    """A prepared scan with the label values of its target; nothing is read before it is asked for.

    Attributes:
        folder: where it lies.
        record: its `scan.json`.
        values: label values of the target; none: all above zero.
        name: of the scan in its cohort.
        patient: whose scan it is.
    """

    folder: Path
    record: ScanRecord
    values: tuple[int, ...]
    name: str
    patient: str

    @cached_property
    def grid(self) -> Grid:
        """The scan's own grid."""
        return Grid(self.record.shape, np.array(self.record.affine))

    @cached_property
    def image(self) -> Sliceable:
        """The scan's voxels, `[X, Y, Z]`."""
        return ChunkedArray(self.folder / "image.b2nd")

    @cached_property
    def padding(self) -> Padding | None:
        """Where the scan is padded (`frame.find_padding`); None: nowhere."""
        return find_padding(self.image, self.grid)

    @cached_property
    def target(self) -> Sliceable:
        """Whether each voxel is target, `[X, Y, Z]`."""
        return TargetArray(ChunkedArray(self.folder / "label.b2nd"), self.values)

    @cached_property
    def _voxels(self) -> ChunkedArray:
        return ChunkedArray(self.folder / "voxels.b2nd")

    @property
    def target_voxels(self) -> int:
        """How many voxels are target."""
        return sum(count for value, count in self.record.labels.items() if not self.values or value in self.values)

    def target_voxel(self, number: int) -> Index3:
        """Target voxel `number`, 0 to `target_voxels` - 1, counted by label value, then in C order."""
        start = 0
        for value, count in sorted(self.record.labels.items()):
            if not self.values or value in self.values:
                if number < count:
                    flat = int(self._voxels[start + number : start + number + 1][0])
                    x, y, z = np.unravel_index(flat, self.record.shape)
                    return int(x), int(y), int(z)
                number -= count
            start += count
        raise IndexError(f"{self.name} has {self.target_voxels} target voxels")

    def load(self) -> LabelledVolume:
        """The whole scan and its target in memory."""
        x, y, z = (slice(0, n) for n in self.record.shape)
        volume = Volume(self.image[x, y, z], self.grid.affine)
        return LabelledVolume(self.name, self.patient, volume, self.target[x, y, z])


class PreparedEntry(BaseModel):
    """A scan of a prepared cohort.

    Attributes:
        name: of the scan.
        patient: whose it is.
        subset: where the layout itself splits the cohort; None elsewhere.
        key: the folder's name below `scans/`.
        sources: image and label: path, bytes, and times of last change (ns), by which a changed file is noticed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    patient: str
    subset: Subset | None
    key: str
    sources: tuple[tuple[str, int, int, int], ...]

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, content: Any) -> Any:  # noqa: ANN401 - what JSON holds
        """Version 0.1.0 called the subset `part`."""
        if isinstance(content, Mapping) and "part" in content:
            return {"subset" if key == "part" else key: value for key, value in content.items()}
        return content


class LeftOut(BaseModel):
    """A scan that could not be prepared, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    reason: str


class CohortIndex(BaseModel):
    """What `cohort.json` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int
    origin: str
    layout: str
    labels: dict[int, str]
    licence: str = ""  # of scans and contours, as the layout or the user said it; empty: not stated
    scans: tuple[PreparedEntry, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class PreparedCohort:
    """A prepared cohort.

    Attributes:
        folder: where it lies.
        index: its `cohort.json`.
    """

    folder: Path
    index: CohortIndex

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """The prepared cohort in a folder.

        Raises:
            CohortError: no prepared cohort, one of another version, or one whose preparation was never finished.
        """
        folder = Path(folder)
        index = read_index(folder)
        if index is None:
            unfinished = (folder / "journal.jsonl").is_file()
            what = (
                "its preparation was not finished" if unfinished else "no prepared cohort here (cohort.json is missing)"
            )
            raise CohortError(f"{folder}: {what}; run `palpate prepare COHORT -o {folder}`")
        return cls(folder, index)

    @property
    def sha256(self) -> str:
        """A hash of the content of all scans and labels, whatever they are called and whatever layout they came in."""
        return hashlib.sha256("\n".join(sorted(entry.key for entry in self.index.scans)).encode()).hexdigest()

    def scan(self, entry: PreparedEntry, values: Sequence[int] = ()) -> PreparedScan:
        """One of its scans, with the label values of the target.

        Raises:
            CohortError: its folder is missing or damaged.
        """
        folder = self.folder / "scans" / entry.key
        try:
            record = ScanRecord.model_validate_json((folder / "scan.json").read_text())
        except (OSError, ValidationError) as error:
            raise CohortError(
                f"{folder}: the prepared scan {entry.name} is damaged or gone; run `palpate prepare` again"
            ) from error
        return PreparedScan(folder, record, tuple(values), entry.name, entry.patient)


def read_index(folder: Path) -> CohortIndex | None:
    """The `cohort.json` of a folder, or None if there is none.

    Raises:
        CohortError: one that this version does not read.
    """
    path = folder / "cohort.json"
    if not path.is_file():
        return None
    try:
        version = json.loads(path.read_text()).get("format")
        if version == FORMAT:
            return CohortIndex.model_validate_json(path.read_text())
    except (ValueError, AttributeError) as error:
        raise CohortError(f"{path}: damaged ({str(error)[:200]}); delete it and run `palpate prepare` again") from error
    raise CohortError(f"{path}: format {version}, this program reads {FORMAT}; prepare the cohort again")
