"""The mark that Palpate leaves in the headers of its images: who wrote them, and a hash of their voxels.

A file without it was made by another program, and one whose voxels do not fit it was changed by one: programs that
change an image often repeat its header's texts.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

KEY = "palpate"  # its name, in formats whose headers have names
OWN = "Palpate; voxels "


def mark(array: npt.NDArray[Any]) -> str:
    """The mark of an image with these voxels, `[X, Y, Z]`; at most 80 bytes, as many as NIfTI has room for."""
    digest = hashlib.sha256(f"{array.dtype.str[1:]} {array.shape}".encode())
    little = array.dtype.newbyteorder("<")
    for slice_ in np.moveaxis(array, 2, 0):  # one at a time: a copy of a whole scan may not fit
        digest.update(slice_.astype(little, copy=False).tobytes(order="F"))
    return f"{OWN}{digest.hexdigest()[:48]}"
