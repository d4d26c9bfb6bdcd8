"""Background prompts that lie too far from the mask to say anything about it, and the prompts that are left."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from ..masks import Mask
from ..prompts import Box, InitialMask, Prompt
from ..volume import Index3

REACH_MM = 5.0  # from the mask: a background prompt that is farther away changes nothing


def background_only(prompt: Prompt) -> bool:
    """Whether a prompt says nothing of where the lesion is."""
    return not isinstance(prompt, (Box, InitialMask)) and not prompt.positive


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


def distance_to(prompt: Prompt, mask: Mask) -> tuple[float, Index3]:
    """How far a prompt lies from a mask, mm, and the prompt's voxel that is nearest to it.

    Args:
        prompt: a click, a stroke or a lasso.
        mask: on the scan's grid, not empty; inside it, the distance to its surface is given.
    """
    from scipy import ndimage
    from scipy.spatial import KDTree

    held = mask.cropped()
    surface = held.array & ~ndimage.binary_erosion(held.array)
    voxels = mask.grid.to_mm(np.argwhere(surface) + held.start)
    distance, _ = KDTree(voxels).query(mask.grid.to_mm(prompt.places))
    nearest = int(distance.argmin())
    x, y, z = prompt.places[nearest].tolist()
    return float(distance[nearest]), (x, y, z)


def in_order(prompts: Sequence[Prompt]) -> list[int]:
    """The order in which prompts are applied: as they are given, but for background prompts at the beginning.

    These follow the first prompt that says where the lesion is, since whether one is in reach is asked of a mask.

    Returns:
        Their places in the list; all of them wait where nothing says where the lesion is.
    """
    first = next((place for place, prompt in enumerate(prompts) if not background_only(prompt)), None)
    if first is None:
        return []
    return [first, *range(first), *range(first + 1, len(prompts))]


def applied_prompts(prompts: Sequence[Prompt], ignored: Collection[int]) -> tuple[Prompt, ...]:
    """The prompts that a mask comes from, in the order in which they are applied.

    Args:
        prompts: all of them, as they are given.
        ignored: the places in the list of those that were out of reach.
    """
    return tuple(prompts[place] for place in in_order(prompts) if place not in ignored)
