"""Which slices of a scan show its lesions and every prompt: three planes through one voxel, and a few further ones."""

from __future__ import annotations

from collections.abc import Sequence

from ..masks import Mask
from ..prompts import Prompt, touches
from ..volume import Grid, Index3
from .slice_counts import Slice, SliceCounts, slice_counts, voxel_of

MAX_FURTHER = 3  # slices beside the three planes


def central_voxel(grid: Grid, masks: Sequence[Mask], prompts: Sequence[Prompt], truth: Mask | None) -> Index3:
    """The voxel whose axial, coronal and sagittal planes are shown.

    Where the masks miss the first foreground prompt, or are empty, it is that prompt's voxel: the picture shows what
    was asked. Else each plane goes through that prompt where it shows at least half as much of the largest mask as the
    mask's middle slice does, and through the middle slice otherwise. Without prompts, the middle of the largest mask,
    of the truth, or of the scan.
    """
    asked = next((prompt for prompt in prompts if prompt.positive), prompts[0] if prompts else None)
    largest = max((mask for mask in masks if not mask.empty), key=lambda mask: mask.voxels, default=None)
    if asked is not None and (largest is None or not touches(asked, largest)):
        return voxel_of(asked)
    if largest is not None:
        counts = slice_counts(largest)
        middle = counts.middles
        if asked is None:
            return middle
        x, y, z = (
            there if 2 * counts.on(Slice(axis, there)) >= counts.on(Slice(axis, best)) else best
            for axis, (there, best) in enumerate(zip(voxel_of(asked), middle, strict=True))
        )
        return x, y, z
    if truth is not None and not truth.empty:
        return slice_counts(truth).middles
    x, y, z = (n // 2 for n in grid.shape)
    return x, y, z


def choose_slices(
    grid: Grid, centre: Index3, counted: Sequence[SliceCounts]
) -> tuple[tuple[Slice, ...], tuple[tuple[int, Slice], ...]]:
    """The slices to show, and what no slice shows.

    Args:
        grid: the scan's.
        centre: the voxel that the first three slices go through.
        counted: of all that should be seen, in the order of importance.

    Returns:
        The axial, coronal and sagittal slice through the centre; then, up to `MAX_FURTHER`, the slice that shows most
        of what no slice has shown so far; of equals an axial one, then the fullest, then the first one's. And the
        places in `counted` of what no slice shows, each with the slice that would show it.
    """
    axes = [axis for axis, _ in reversed(grid.anatomical_axes)]
    chosen = [Slice(axis, centre[axis]) for axis in axes]
    unseen = [
        place for place, counts in enumerate(counted) if counts.most and not any(counts.shown_on(one) for one in chosen)
    ]
    for _ in range(MAX_FURTHER):
        found: dict[Slice, tuple[int, float]] = {}
        for place in unseen:
            for candidate, share in counted[place].candidates(axes):
                count, shares = found.get(candidate, (0, 0.0))
                found[candidate] = count + 1, shares + share
        if not found:
            break
        best = max(found, key=lambda one: (found[one][0], one.axis == axes[0], found[one][1]))
        chosen.append(best)
        unseen = [place for place in unseen if not counted[place].shown_on(best)]
    return tuple(chosen), tuple((place, next(counted[place].candidates(axes))[0]) for place in unseen)
