"""Where exported lesions come from: which scan, which session, which model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..lesions import Postprocessing
from ..volume import Index3, Volume

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ScanIdentity(BaseModel):
    """Which scan, by content.

    Attributes:
        path: where it was read from; for people, not compared.
        shape: voxels along X, Y, Z.
        sha256: of its voxels (x fastest) with their type, its shape and its affine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    path: str | None
    shape: Index3
    sha256: Sha256


def identify_scan(volume: Volume) -> ScanIdentity:
    """A scan's identity; reads every voxel once."""
    array, grid = np.asarray(volume.array), volume.grid
    digest = hashlib.sha256(f"{array.dtype.newbyteorder('<').str}{grid.shape}".encode())
    digest.update(grid.affine.astype("<f8").tobytes())
    for z in range(grid.shape[2]):  # a slice at a time, which is contiguous as files store it
        part = np.ascontiguousarray(array[:, :, z].T, dtype=array.dtype.newbyteorder("<"))
        digest.update(part.tobytes())
    path = None if volume.source is None else volume.source.path
    if path is not None:  # a name that is not UTF-8 is written with escapes
        path = path.encode("utf-8", "backslashreplace").decode()
    return ScanIdentity(path=path, shape=grid.shape, sha256=digest.hexdigest())


@dataclass(frozen=True)
class ExportProvenance:
    """Where exported lesions come from.

    Attributes:
        session: an identifier of the session (or of what else the lesions come from). Files of an earlier export are
            replaced only where this is the same.
        scan: which scan.
        model: the model's identity, plain data.
        postprocessing: what became of the model's masks.
    """

    session: str
    scan: ScanIdentity
    model: dict[str, Any]
    postprocessing: Postprocessing = field(default_factory=Postprocessing)
