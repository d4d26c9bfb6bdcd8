"""Arrays on disk in compressed chunks (Blosc2), read box by box."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CohortError
from ..extras import needed


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


def packed(array: npt.NDArray[Any], chunk: int, block: int) -> bytes:
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
