"""On which slices of a scan a prompt or a mask is seen: those with at least half as much of it as the best slice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..masks import Mask
from ..prompts import Box, Click, InitialMask, Prompt
from ..volume import Index3

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Slice:
    """A slice of a scan: the array axis that it lies across, and its index along that axis."""

    axis: int
    index: int


@dataclass(frozen=True, eq=False)
class SliceCounts:
    """How many voxels of something lie on each slice of a scan.

    Attributes:
        first: along each array axis, the index of the first slice counted.
        counts: along each, the voxels on that slice and on those after it; all zero for an empty mask.
    """

    first: Index3
    counts: tuple[Counts, Counts, Counts]

    @property
    def most(self) -> int:
        """The voxels on the slice, of any orientation, with the most of them."""
        return max(int(counts.max(initial=0)) for counts in self.counts)

    def on(self, place: Slice) -> int:
        """The voxels on a slice."""
        counts, local = self.counts[place.axis], place.index - self.first[place.axis]
        return int(counts[local]) if 0 <= local < len(counts) else 0

    def shown_on(self, place: Slice) -> bool:
        """Whether a slice shows it: it has at least half as many of its voxels as the best slice."""
        return 2 * self.on(place) >= max(self.most, 1)

    def middle(self, axis: int) -> int:
        """The slice with the most voxels in the middle half of those that have any; of equals the most central."""
        counts = self.counts[axis]
        inside = np.flatnonzero(counts)
        from_centre = np.abs(np.arange(len(counts)) - (inside[0] + inside[-1]) / 2)
        near = np.flatnonzero(counts * (from_centre <= max((inside[-1] - inside[0] + 1) / 4, 0.5)))
        # Two parts far from each other leave nothing in the middle.
        candidates = (near if near.size else inside).tolist()
        best = min(candidates, key=lambda i: (-int(counts[i]), float(from_centre[i])))
        return self.first[axis] + int(best)

    @property
    def middles(self) -> Index3:
        """The voxel where the middle slices meet."""
        return self.middle(0), self.middle(1), self.middle(2)

    def candidates(self, axes: Sequence[int]) -> Iterator[tuple[Slice, float]]:
        """The slices that show it, with their share of the best one's voxels; the fullest and most central first."""
        for axis in axes:
            counts = self.counts[axis]
            enough = np.flatnonzero(2 * counts >= max(self.most, 1))
            from_centre = np.abs(enough - (len(counts) - 1) / 2)
            for local in enough[np.lexsort((from_centre, -counts[enough]))].tolist():
                yield Slice(axis, self.first[axis] + local), float(counts[local]) / self.most


def slice_counts(mask: Mask) -> SliceCounts:
    """A mask's."""
    x, y, z = (mask.array.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.int64) for axis in range(3))
    return SliceCounts(mask.start, (x, y, z))


def prompt_slice_counts(prompt: Prompt) -> SliceCounts:
    """A prompt's: of its voxels. A box counts one on each slice that cuts it; one voxel thick, the voxels inside it."""
    if isinstance(prompt, InitialMask):
        return slice_counts(prompt.mask)
    low, high = prompt.places.min(axis=0), prompt.places.max(axis=0)
    if isinstance(prompt, Box):
        edges = high - low + 1
        flat = bool((edges == 1).any())
        x, y, z = (np.full(edges[axis], edges.prod() // edges[axis] if flat else 1) for axis in range(3))
    else:
        x, y, z = (np.bincount(prompt.places[:, axis] - low[axis]) for axis in range(3))
    return SliceCounts((int(low[0]), int(low[1]), int(low[2])), (x, y, z))


def voxel_of(prompt: Prompt) -> Index3:
    """The voxel in whose planes a prompt is seen best: a click's own, else the one nearest to its middle."""
    if isinstance(prompt, Click):
        return prompt.index
    if isinstance(prompt, InitialMask):
        return slice_counts(prompt.mask).middles
    if isinstance(prompt, Box):
        x, y, z = (prompt.places.sum(axis=0) // 2).tolist()
    else:
        away = np.square(prompt.places - prompt.places.mean(axis=0)).sum(axis=1)
        x, y, z = prompt.places[away.argmin()].tolist()
    return x, y, z
