"""Several lesions in one array, in which each voxel belongs to one lesion at most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ..errors import SessionError
from ..masks import Mask, Patch, Probability
from ..volume import Grid, Source

Overlap = Literal["later", "earlier", "highest"]


@dataclass(frozen=True)
class OverlapLoss:
    """What the overlap rule took from one lesion.

    Attributes:
        value: the lesion's value in the label map.
        lost: voxels of its mask that went to other lesions.
        voxels: voxels of its mask.
    """

    value: int
    lost: int
    voxels: int

    @property
    def whole(self) -> bool:
        """Whether nothing of the lesion is left in the label map."""
        return self.lost == self.voxels


@dataclass(frozen=True, eq=False)
class LabelMap(Patch):
    """Lesions as numbers on the scan's grid, 0 where no lesion is.

    Attributes:
        losses: the lesions that lost voxels to the overlap rule, in the order in which they were given.
    """

    losses: tuple[OverlapLoss, ...] = ()


def label_map(
    lesions: Sequence[tuple[int, Mask]],
    grid: Grid,
    source: Source | None = None,
    overlap: Overlap = "later",
    probability: Callable[[int], Probability | float] | None = None,
) -> LabelMap:
    """A label map: uint8, or wider where a value needs it.

    Args:
        lesions: each lesion's value (1 or more) and its mask. Several masks may have one value.
        grid: the scan's.
        source: the scan's header, which a saved file repeats.
        overlap: which lesion gets a voxel that several masks hold: the "later" in the list, the "earlier", or the one
            with the "highest" probability there, of equal ones the earlier.
        probability: for "highest", a lesion's by its value; one number for a mask that has no other. It is called once
            for each lesion that shares a voxel with another, and for no other lesion.

    Raises:
        SessionError: no such rule, or "highest" without probabilities.
    """
    check_overlap(overlap)
    if overlap == "highest" and probability is None:
        raise SessionError("the rule 'highest' compares probabilities: give them, or choose later or earlier")
    kind = np.result_type(np.uint8, np.min_scalar_type(max((value for value, _ in lesions), default=0)))
    shown = [(value, mask.cropped()) for value, mask in lesions if not mask.empty]
    if not shown:
        return LabelMap(np.zeros((0, 0, 0), dtype=kind), (0, 0, 0), grid, source)
    low = np.min([mask.start for _, mask in shown], axis=0)
    high = np.max([np.add(mask.start, mask.array.shape) for _, mask in shown], axis=0)
    labels = np.zeros(high - low, dtype=kind)
    boxes = [_box(mask, low) for _, mask in shown]
    if overlap == "highest":
        assert probability is not None
        _paint_most_probable(labels, shown, boxes, probability)
    else:
        for (value, mask), box in zip(shown, boxes, strict=True):
            free = labels[box] == 0 if overlap == "earlier" else True
            labels[box][mask.array & free] = value
    x, y, z = low.tolist()
    return LabelMap(labels, (x, y, z), grid, source, _losses(labels, shown, boxes))


def check_overlap(overlap: str) -> None:
    """Refuse what is no overlap rule.

    Raises:
        SessionError: no such rule.
    """
    if overlap not in get_args(Overlap):
        raise SessionError(f"no overlap rule {overlap!r}; there are {', '.join(get_args(Overlap))}")


def _box(mask: Mask, low: npt.NDArray[np.int64]) -> tuple[slice, ...]:
    """A mask's box in the label map's array."""
    return tuple(slice(s - a, s - a + n) for s, a, n in zip(mask.start, low, mask.array.shape, strict=True))


def _paint_most_probable(
    labels: npt.NDArray[Any],
    shown: Sequence[tuple[int, Mask]],
    boxes: Sequence[tuple[slice, ...]],
    probability: Callable[[int], Probability | float],
) -> None:
    """Give each voxel to the most probable of its lesions, of equal ones the earlier."""
    several = np.zeros(labels.shape, dtype=bool)
    for (_, mask), box in zip(shown, boxes, strict=True):
        several[box] |= mask.array & (labels[box] != 0)
        labels[box][mask.array] = 1
    labels[...] = 0
    best = np.zeros(labels.shape, dtype=np.float32)
    for (value, mask), box in zip(shown, boxes, strict=True):
        contested = mask.array & several[box]
        taken = mask.array
        if contested.any():
            values = _values(probability(value), mask)
            taken = taken & ((labels[box] == 0) | (values > best[box]))
            best[box][taken] = values[taken]
        labels[box][taken] = value


def _losses(
    labels: npt.NDArray[Any], shown: Sequence[tuple[int, Mask]], boxes: Sequence[tuple[slice, ...]]
) -> tuple[OverlapLoss, ...]:
    found = []
    for (value, mask), box in zip(shown, boxes, strict=True):
        lost = int(np.count_nonzero(labels[box][mask.array] != value))
        if lost:
            found.append(OverlapLoss(value, lost, mask.voxels))
    return tuple(found)


def _values(probability: Probability | float, mask: Mask) -> npt.NDArray[Any]:
    """A lesion's probability in its mask's box."""
    if isinstance(probability, Probability):
        return probability[mask.box]
    return np.full(mask.array.shape, probability, dtype=np.float32)
