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
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import CohortError, FormatError, OutputError
from ..extras import needed
from ..files import hidden_folder, settle, writing
from ..volume import Grid, Index3, Volume
from .scans import LabelledScan, lesion_of
from .split import Part

GO_ON = "what was finished is kept. Free some space or choose another place, and run the same command again"
FORMAT = 1
CHUNK, BLOCK = 64, 32  # edges, voxels: a 128³ crop touches at most 27 chunks, of these only the blocks it needs
LIST_CHUNK, LIST_BLOCK = 65536, 4096


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


class ChunkedArray:
    """An array on disk that gives its voxels by a box and reads only the blocks that the box touches.

    The file is opened when first asked, in each process for itself.
    """

    def __init__(self, path: Path):
        self.path = path
        self._opened: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_opened": None}

    def __getitem__(self, box: slice | tuple[slice, ...]) -> npt.NDArray[Any]:
        if self._opened is None:
            blosc2 = _blosc2()
            try:
                self._opened = blosc2.open(str(self.path), mode="r", mmap_mode="r", dparams={"nthreads": 1})
            except (OSError, RuntimeError, ValueError) as error:
                raise CohortError(
                    f"{self.path}: cannot be read ({error}); delete its folder and run `palpate prepare` again"
                ) from error
        return np.asarray(self._opened[box])


@dataclass(frozen=True)
class LesionArray:
    """A label array seen as lesion or not."""

    label: ChunkedArray
    values: tuple[int, ...]

    def __getitem__(self, box: tuple[slice, slice, slice]) -> npt.NDArray[np.bool_]:
        return lesion_of(self.label[box], self.values)


@dataclass(frozen=True)
class PreparedScan:
    """A prepared scan with the label values that count as lesion; nothing is read before it is asked for.

    Attributes:
        folder: where it lies.
        record: its `scan.json`.
        values: label values that are lesion; none: all above zero.
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
    def image(self) -> ChunkedArray:
        """The scan's voxels, `[X, Y, Z]`."""
        return ChunkedArray(self.folder / "image.b2nd")

    @cached_property
    def lesion(self) -> LesionArray:
        """Whether each voxel is lesion, `[X, Y, Z]`."""
        return LesionArray(ChunkedArray(self.folder / "label.b2nd"), self.values)

    @cached_property
    def _voxels(self) -> ChunkedArray:
        return ChunkedArray(self.folder / "voxels.b2nd")

    @property
    def lesion_voxels(self) -> int:
        """How many voxels are lesion."""
        return sum(count for value, count in self.record.labels.items() if not self.values or value in self.values)

    def lesion_voxel(self, number: int) -> Index3:
        """Lesion voxel `number`, 0 to `lesion_voxels` - 1, counted by label value, then in C order."""
        start = 0
        for value, count in sorted(self.record.labels.items()):
            if not self.values or value in self.values:
                if number < count:
                    flat = int(self._voxels[start + number : start + number + 1][0])
                    x, y, z = np.unravel_index(flat, self.record.shape)
                    return int(x), int(y), int(z)
                number -= count
            start += count
        raise IndexError(f"{self.name} has {self.lesion_voxels} lesion voxels")

    def load(self) -> tuple[Volume, npt.NDArray[np.bool_]]:
        """The whole scan, and its lesion `[X, Y, Z]`, in memory."""
        x, y, z = (slice(0, n) for n in self.record.shape)
        return Volume(self.image[x, y, z], self.grid.affine), self.lesion[x, y, z]


class Entry(BaseModel):
    """A scan of a prepared cohort.

    Attributes:
        name: of the scan.
        patient: whose it is.
        part: where the layout itself says who trains and who tests.
        key: the folder's name below `scans/`.
        sources: image and label: path, bytes, and times of last change (ns), by which a changed file is noticed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    patient: str
    part: Part | None
    key: str
    sources: tuple[tuple[str, int, int, int], ...]


class LeftOut(BaseModel):
    """A scan that could not be prepared, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    reason: str


class Index(BaseModel):
    """What `cohort.json` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int
    origin: str
    layout: str
    labels: dict[int, str]
    scans: tuple[Entry, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class PreparedCohort:
    """A prepared cohort.

    Attributes:
        folder: where it lies.
        index: its `cohort.json`.
    """

    folder: Path
    index: Index

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

    def scan(self, entry: Entry, values: Sequence[int] = ()) -> PreparedScan:
        """One of its scans, with the label values that are lesion.

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


def read_index(folder: Path) -> Index | None:
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
            return Index.model_validate_json(path.read_text())
    except (ValueError, AttributeError) as error:
        raise CohortError(f"{path}: damaged ({str(error)[:200]}); delete it and run `palpate prepare` again") from error
    raise CohortError(f"{path}: format {version}, this program reads {FORMAT}; prepare the cohort again")


def pack(scan: LabelledScan, scans: Path) -> str:
    """Pack one scan into its folder below `scans`, unless it lies there; its key.

    Raises:
        ScanError: an unreadable file, grids that differ, or a label with fractions.
        OutputError: it cannot be written.
    """
    volume, label = scan.load()
    image, values = canonical_image(volume.array), canonical_label(label.array, scan.label)
    key = content_key(image, values, volume.grid)
    if not (scans / key).is_dir():
        _write(scans / key, image, values, volume.grid)
    return key


def canonical_image(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Voxels as int16 where they all fit, else as float32: what a crop makes of them is the same."""
    if array.dtype.kind in "bui":
        fits = array.dtype.itemsize == 1 or (array.min() >= -32768 and array.max() <= 32767)
        return np.ascontiguousarray(array, np.int16 if fits else np.float32)
    return np.ascontiguousarray(array, np.float32)


def canonical_label(array: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    """Label values as uint8 where they fit, else as int32.

    Raises:
        FormatError: fractions or negative values.
    """
    if array.dtype.kind == "f" and (array != np.rint(array)).any():
        raise FormatError(f"{path}: a label holds whole numbers, this one fractions; is it a probability or a scan?")
    if array.size and array.min() < 0:
        raise FormatError(f"{path}: a label's values are 0 and above, this one has {array.min()}")
    return np.ascontiguousarray(array, np.uint8 if array.max() <= 255 else np.int32)


def content_key(image: npt.NDArray[Any], label: npt.NDArray[Any], grid: Grid) -> str:
    """A hash of voxels, labels and grid (to 0.1 µm), whatever file held them."""
    digest = hashlib.sha256(f"palpate scan {FORMAT}".encode())
    digest.update(json.dumps([grid.shape, (np.round(grid.affine, 4) + 0.0).tolist()]).encode())
    for array in (image, label):
        digest.update(array.dtype.str.encode())
        digest.update(array.data)
    return digest.hexdigest()[:40]


def _write(target: Path, image: npt.NDArray[Any], label: npt.NDArray[Any], grid: Grid) -> None:
    flat = label.reshape(-1)
    places = np.flatnonzero(flat)
    found = flat[places]
    values, counts = np.unique(found, return_counts=True)
    record = ScanRecord(
        format=FORMAT,
        shape=grid.shape,
        affine=tuple(tuple(row) for row in grid.affine.tolist()),
        labels=dict(zip(values.tolist(), counts.tolist(), strict=True)),
    )
    parts = {
        "image.b2nd": _packed(image, CHUNK, BLOCK),
        "label.b2nd": _packed(label, CHUNK, BLOCK),
        "voxels.b2nd": _packed(places[np.argsort(found, kind="stable")], LIST_CHUNK, LIST_BLOCK),
        "scan.json": record.model_dump_json().encode(),
    }
    try:
        with writing(target, GO_ON), hidden_folder(target.parent) as folder:
            for name, content in parts.items():
                (Path(folder) / name).write_bytes(content)
            settle(Path(folder), target)
    except OutputError:
        if not target.is_dir():  # else two scans with one content met here, and the other was faster
            raise


def _packed(array: npt.NDArray[Any], chunk: int, block: int) -> bytes:
    """An array as the bytes of a Blosc2 file; compressed in memory, so that a full disk is the system's own error."""
    blosc2 = _blosc2()
    chunks = tuple(max(1, min(chunk, n)) for n in array.shape)
    blocks = tuple(max(1, min(block, n)) for n in array.shape)
    settings = blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=5, filters=[blosc2.Filter.SHUFFLE], nthreads=1)
    packed: bytes = blosc2.asarray(
        np.ascontiguousarray(array), chunks=chunks, blocks=blocks, cparams=settings, contiguous=True
    ).to_cframe()
    return packed


def _blosc2() -> Any:  # noqa: ANN401 - a module without types
    with needed("blosc2", "prepared cohorts need"):
        import blosc2
    return blosc2
