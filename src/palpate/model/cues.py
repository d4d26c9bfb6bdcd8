"""Cues that need no training: how alike and how near each voxel is to what the prompts point at (not in the paper).

Three maps of geodesic distance, after MIDeepSeg (Luo et al., arXiv 2104.12166), which weighs the change of intensity
along the path from a prompt; and two of intensity relative to the prompts' own voxels. All are functions of a crop and
the maps of its prompts, on the crop's own grid, so that inference and training see the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

CHANNELS = {"geodesic": 3, "intensity": 2}  # of each cue
ACROSS = 1.0  # distance from face to face where the intensity does not change; a change by one deviation costs 1
FAR = 16.0  # distance of what no sweep has reached
ROUNDS = 2  # of sweeps along every axis, forth and back
CORE = 0.7  # the core of a box or a mask: at least so deep, over its deepest voxel
LEAST = 0.05  # added to the deviation at the prompts, which may be 0
LARGEST = 3.0  # relative intensities, deviations: what is beyond is cut off


@torch.no_grad()
def cues_of(image: Tensor, maps: Tensor, kinds: Sequence[str]) -> Tensor:
    """The cues of a crop, float32 `[B, C, H, W, D]`; C is the sum of their `CHANNELS`.

    "geodesic": near the foreground prompts, very near them, near the background prompts, each 1 at the prompts and 0
    far off. "intensity": over the mean of the foreground prompts' own voxels, in the crop's deviations and in theirs.

    Args:
        image: the normalised crop, `[B, 1, H, W, D]`.
        maps: its prompts as maps, `[B, 4, H, W, D]` (`dense.CHANNELS`).
        kinds: which, in this order.
    """
    with torch.autocast(image.device.type, enabled=False):
        image, maps = image.float(), maps.float()
        foreground = foreground_seeds(maps)
        cues: list[Tensor] = []
        for kind in kinds:
            if kind == "geodesic":
                smooth = F.avg_pool3d(image, 3, stride=1, padding=1, count_include_pad=False)
                near = geodesic_distance(smooth, foreground)
                against = geodesic_distance(smooth, background_seeds(maps))
                cues += [(-near).exp(), (-4 * near).exp(), (-against).exp()]
            else:
                cues += relative_intensity(image, foreground)
        return torch.cat(cues, dim=1) if cues else image[:, :0]


def foreground_seeds(maps: Tensor) -> Tensor:
    """What the prompts mark as foreground, bool `[B, 1, H, W, D]`.

    Without a spot it is the core of the box, without a box that of the initial mask, without either nothing.

    Args:
        maps: `[B, 4, H, W, D]` (`dense.CHANNELS`).
    """
    spots, boxes, masks = (maps[:, channel] > limit for channel, limit in ((0, 0.5), (2, 0.5), (3, 0.0)))
    seeds = spots.clone()
    for number, spot in enumerate(spots):
        if not spot.any():
            region = boxes[number] if boxes[number].any() else masks[number]
            if region.any():
                seeds[number] = core_of(region)
    return seeds[:, None]


def background_seeds(maps: Tensor) -> Tensor:
    """What the prompts mark as background, bool `[B, 1, H, W, D]`: spots, and all outside a box.

    Args:
        maps: `[B, 4, H, W, D]` (`dense.CHANNELS`).
    """
    spots, boxes = maps[:, 1:2] > 0.5, maps[:, 2:3] > 0.5
    return spots | (~boxes & boxes.flatten(1).any(dim=1)[:, None, None, None, None])


def core_of(region: Tensor) -> Tensor:
    """The core of a region, bool `[H, W, D]`: its voxels that lie deepest, counted in steps along the axes."""
    flat = torch.zeros((1, 1, *region.shape), device=region.device)
    # The grid's border counts as outside: a region that fills the crop has its core in the middle.
    outside = F.pad(~region, (1,) * 6, value=True)[None, None]
    depth = geodesic_distance(F.pad(flat, (1,) * 6), outside)[0, 0, 1:-1, 1:-1, 1:-1]
    return region & (depth >= CORE * depth.max())


def geodesic_distance(image: Tensor, seeds: Tensor) -> Tensor:
    """The least cost of a path from a seed to each voxel, `[B, 1, H, W, D]`; at most `FAR`.

    A path runs along the axes. A step costs as much as the intensity changes, and `ACROSS` over the crop's longest
    edge, so that a crop of fewer and wider voxels has the same distances. Paths that wind in more ways than `ROUNDS`
    sweeps along every axis follow are overrated.

    Args:
        image: `[B, 1, H, W, D]`.
        seeds: bool `[B, 1, H, W, D]`.
    """
    distance = torch.full_like(image, FAR).masked_fill_(seeds, 0.0)
    if not seeds.any():
        return distance
    step = ACROSS / max(image.shape[2:])
    costs = [image.diff(dim=axis).abs_().add_(step) for axis in (2, 3, 4)]
    for _ in range(ROUNDS):
        for axis, cost in zip((2, 3, 4), costs, strict=True):
            _sweep(distance, cost, axis)
    return distance


def _sweep(distance: Tensor, cost: Tensor, axis: int) -> None:
    """Carry distances along an axis, forth and back, in place."""
    planes, steps = distance.unbind(axis), cost.unbind(axis)
    for number in range(1, len(planes)):
        torch.minimum(planes[number], planes[number - 1] + steps[number - 1], out=planes[number])
    for number in range(len(planes) - 2, -1, -1):
        torch.minimum(planes[number], planes[number + 1] + steps[number], out=planes[number])


def relative_intensity(image: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """The intensity over the mean at the seeds, and that over the deviation at them; each `[B, 1, H, W, D]`.

    Both are cut off at `LARGEST`, and 0 where there are no seeds.

    Args:
        image: `[B, 1, H, W, D]`.
        seeds: bool `[B, 1, H, W, D]`.
    """
    relative, deviations = torch.zeros_like(image), torch.zeros_like(image)
    for number, (crop, marked) in enumerate(zip(image, seeds, strict=True)):
        own = crop[marked]
        if len(own):
            relative[number] = crop - own.mean()
            deviations[number] = relative[number] / (own.std(correction=0) + LEAST)
    return relative.clamp_(-LARGEST, LARGEST), deviations.clamp_(-LARGEST, LARGEST)
