"""Whether a mask and a prompt have a voxel in common."""

from __future__ import annotations

import numpy as np

from ..masks import Mask
from .kinds import Box, InitialMask, Prompt


def touches(prompt: Prompt, mask: Mask) -> bool:
    """Whether a mask has a voxel in common with a prompt: with a box's inside, an initial mask, or marked voxels.

    Args:
        prompt: on the scan's grid.
        mask: on the same grid.
    """
    if isinstance(prompt, (Box, InitialMask)):
        low = np.maximum(prompt.places[0], mask.start)
        high = np.minimum(prompt.places[1] + 1, np.add(mask.start, mask.array.shape))
        if (low >= high).any():
            return False
        x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        common = mask[x, y, z]
        return bool((common & prompt.mask[x, y, z]).any() if isinstance(prompt, InitialMask) else common.any())
    local = prompt.places - mask.start
    within = local[((local >= 0) & (local < mask.array.shape)).all(axis=1)]
    return bool(mask.array[tuple(within.T)].any())
