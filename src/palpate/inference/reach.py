"""Background prompts that lie too far from the mask to say anything about it."""

from __future__ import annotations

import numpy as np

from ..masks import Mask
from ..prompts import Prompt

REACH_MM = 5.0  # from the mask: a background prompt that is farther away changes nothing


def out_of_reach(prompt: Prompt, mask: Mask) -> bool:
    """Whether every voxel of a prompt lies farther than `REACH_MM` from every voxel of a mask.

    A background prompt where there is no mask anyway corrects nothing. The network was only ever given such prompts on
    what it had marked wrongly, and answers one off the mask by taking from the lesion (docs/design/experiments.md).

    Args:
        prompt: a background click, stroke or lasso.
        mask: on the scan's grid.
    """
    from scipy.spatial import KDTree

    grid = mask.grid
    reach = np.ceil(REACH_MM / grid.spacing).astype(int)
    low = np.maximum(prompt.places.min(axis=0) - reach, 0)
    high = np.minimum(prompt.places.max(axis=0) + reach + 1, grid.shape)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    near = mask[x, y, z]
    if near[tuple((prompt.places - low).T)].any():
        return False
    voxels = np.argwhere(near) + low
    if not len(voxels):
        return True
    distance, _ = KDTree(grid.to_mm(prompt.places)).query(grid.to_mm(voxels))
    return bool(distance.min() > REACH_MM)
