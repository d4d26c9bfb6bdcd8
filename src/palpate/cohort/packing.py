"""Packing of one scan and its label into a folder of a prepared cohort."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import FormatError, OutputError
from ..files import hidden_folder, settle, writing
from ..volume import Grid
from .chunks import packed
from .prepared import FORMAT, ScanRecord
from .scans import LabelledScan

CHUNK, BLOCK = 64, 32  # edges, voxels: a 128³ crop touches at most 27 chunks, of these only the blocks it needs
LIST_CHUNK, LIST_BLOCK = 65536, 4096
GO_ON = "what was finished is kept. Free some space or choose another place, and run the same command again"


def pack(scan: LabelledScan, scans: Path) -> str:
    """Pack one scan into its folder below `scans`, unless it lies there; its key.

    Raises:
        ScanError: an unreadable file, grids that differ, or a label with fractions.
        OutputError: it cannot be written.
    """
    volume, label = scan.load()
    return pack_arrays(canonical_image(volume.array), canonical_label(label.array, scan.label), volume.grid, scans)


def pack_arrays(image: npt.NDArray[Any], label: npt.NDArray[Any], grid: Grid, scans: Path) -> str:
    """Pack voxels and label values `[X, Y, Z]` into their folder below `scans`, unless it lies there; its key.

    Raises:
        OutputError: it cannot be written.
    """
    key = content_key(image, label, grid)
    if not (scans / key).is_dir():
        _write(scans / key, image, label, grid)
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
        "image.b2nd": packed(image, CHUNK, BLOCK),
        "label.b2nd": packed(label, CHUNK, BLOCK),
        "voxels.b2nd": packed(places[np.argsort(found, kind="stable")], LIST_CHUNK, LIST_BLOCK),
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
