"""Which pixels an outline encloses.

Libraries that fill polygons differ in which pixels on an edge they count, so masks would change with them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import PromptError
from .given import MAX_VOXELS, Places


def enclosed(outline: npt.NDArray[np.float64]) -> Places:
    """Pixels `[N, 2]` whose centres an outline encloses, by the even-odd rule.

    Raises:
        PromptError: an outline around more pixels than a prompt may have.
    """
    low = np.ceil(outline.min(axis=0)).astype(np.int64)
    high = np.floor(outline.max(axis=0)).astype(np.int64)
    if (high < low).any():
        return np.zeros((0, 2), np.int64)
    across, down = (high - low + 1).tolist()
    if across * down > MAX_VOXELS:
        raise PromptError(
            f"the lasso's outline spans {across} x {down} voxels, more than {MAX_VOXELS}; draw it smaller, or give an "
            "initial mask"
        )
    u, v = (np.arange(a, b + 1) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    odd = np.zeros((len(u), len(v)), dtype=bool)
    for (u0, v0), (u1, v1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        crosses = (u0 > u) != (u1 > u)
        if crosses.any():
            at = v0 + (u[crosses] - u0) * (v1 - v0) / (u1 - u0)
            odd[crosses] ^= v[None, :] < at[:, None]
    places: Places = np.argwhere(odd) + low
    return places
