"""A checkpoint's dictionary out of its file, unpickling tensors and numbers only."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ..errors import ModelError


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The dictionary in a `.pth` or a safetensors file.

    Raises:
        ModelError: no such file, not a checkpoint, or one that asks to run code.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    if _is_safetensors(path):
        return _read_safetensors(path)
    # Real releases hold numpy scalars (a best loss) beside their tensors; these types build numbers and nothing else.
    scalar = np.float64(0).__reduce__()[0]  # numpy's own builder of scalars, wherever its version keeps it
    numbers: list[Any] = [scalar, (scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar")]
    numbers += [np.dtype, *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64"))]
    try:
        with torch.serialization.safe_globals(numbers):
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=False)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: refused, because reading it would run code from the file, or it is no checkpoint at all "
            f"({str(error).splitlines()[0][:200]}). Ask its author for a safetensors file"
        ) from error
    except (RuntimeError, EOFError, OSError, LookupError, ValueError) as error:
        raise ModelError(f"{path}: not a readable PyTorch checkpoint ({error}); it may be cut short") from error
    if not isinstance(loaded, dict):
        raise ModelError(f"{path}: holds a {type(loaded).__name__}, not a dictionary of weights")
    return loaded


def _is_safetensors(path: Path) -> bool:
    """Whether the file begins as such files do: the length of a JSON header, and the header's brace."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            if "palpate" in (file.metadata() or {}):
                raise ModelError(f"{path}: is a Palpate model already; use it as it is")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a readable safetensors file ({error}); it may be cut short") from error
