"""One definition of every metric."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def dice(mask: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    """2 |A ∩ B| / (|A| + |B|) of two arrays of one shape; 1 where both are empty (Dice 1945)."""
    total = int(np.count_nonzero(mask)) + int(np.count_nonzero(truth))
    return 2 * int(np.count_nonzero(mask & truth)) / total if total else 1.0


def iou(mask: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    """|A ∩ B| / |A ∪ B| of two arrays of one shape; 1 where both are empty (Jaccard 1901)."""
    union = int(np.count_nonzero(mask | truth))
    return int(np.count_nonzero(mask & truth)) / union if union else 1.0
