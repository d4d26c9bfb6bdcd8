"""Several lesions in one array, where each voxel can belong to one of them only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ..errors import SessionError
from ..volume import Grid, Mask, Patch, Probability, Source

Overlap = Literal["later", "earlier", "highest"]


def label_map(
    lesions: Sequence[tuple[int, Mask]],
    grid: Grid,
    source: Source | None = None,
    overlap: Overlap = "later",
    probability: Callable[[int], Probability | float] | None = None,
) -> Patch:
    """A label map, zero where no lesion is: uint8, or uint16 where a value needs it.

    Args:
        lesions: each a value (1 to 65535) and a mask.
        grid: the scan's.
        source: the scan's header, which a saved file repeats.
        overlap: whose a voxel is that lies in several masks: of the "later" lesion in the list, of the "earlier", or
            of the one with the "highest" probability there, of equal ones the earlier.
        probability: for "highest", a lesion's by its value; one number for a mask that has no other.

    Raises:
        SessionError: no such rule, or "highest" without probabilities.
    """
    check_overlap(overlap)
    if overlap == "highest" and probability is None:
        raise SessionError("the rule 'highest' compares probabilities: give them, or choose later or earlier")
    kind = np.uint8 if max((value for value, _ in lesions), default=0) <= 255 else np.uint16
    shown = [(value, mask.cropped()) for value, mask in lesions if not mask.empty]
    if not shown:
        return Patch(np.zeros((0, 0, 0), dtype=kind), (0, 0, 0), grid, source)
    low = np.min([mask.start for _, mask in shown], axis=0)
    high = np.max([np.add(mask.start, mask.array.shape) for _, mask in shown], axis=0)
    labels = np.zeros(high - low, dtype=kind)
    best = np.zeros(labels.shape, dtype=np.float32) if probability is not None and overlap == "highest" else None
    for value, mask in shown:
        here = tuple(slice(s - a, s - a + n) for s, a, n in zip(mask.start, low, mask.array.shape, strict=True))
        taken = mask.array
        if overlap == "earlier":
            taken = taken & (labels[here] == 0)
        elif best is not None and probability is not None:
            sure = _sureness(probability(value), mask)
            taken = taken & ((labels[here] == 0) | (sure > best[here]))
            best[here][taken] = sure[taken]
        labels[here][taken] = value
    x, y, z = low.tolist()
    return Patch(labels, (x, y, z), grid, source)


def check_overlap(overlap: str) -> None:
    """Refuse what is no overlap rule.

    Raises:
        SessionError: no such rule.
    """
    if overlap not in get_args(Overlap):
        raise SessionError(f"no overlap rule {overlap!r}; there are {', '.join(get_args(Overlap))}")


def _sureness(probability: Probability | float, mask: Mask) -> npt.NDArray[Any]:
    if isinstance(probability, Probability):
        return probability[mask.box]
    return np.full(mask.array.shape, probability, dtype=np.float32)
