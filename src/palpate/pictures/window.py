"""What a scan's values mean, and which of them to show as black and as white."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..volume import Volume
from .planes import Plane

_LUNG_WINDOW = (-1350.0, 150.0)
_SUV_WINDOW = (0.0, 5.0)  # at least: noise in a scan without uptake is not drawn as uptake
_NEAR_MM = 8.0
_BELOW_TISSUE = -500  # what has such values is taken for CT, where its unit is not known


def value_unit(volume: Volume, planes: Sequence[Plane]) -> str | None:
    """The unit of a scan's values: what its reader found, else "HU" where some are below -500; None: not known."""
    if volume.unit is not None:
        return volume.unit
    thinned = volume.array[tuple(slice(None, None, max(1, n // 64)) for n in volume.shape)]
    lowest = min(float(thinned.min()), *(float(plane.values.min()) for plane in planes))
    return "HU" if lowest < _BELOW_TISSUE else None


def automatic_window(planes: Sequence[Plane], unit: str | None) -> tuple[float, float]:
    """The values to show as black and as white, chosen from what is shown.

    On CT a window for lung or for soft tissue: lung where most around the lesion is neither tissue nor plain air. On
    PET in SUV, 0 to percentile 99.5, but to 5 at least. Else percentiles 1 to 99.
    """
    shown = np.concatenate([plane.values.ravel() for plane in planes])
    if unit == "SUV":
        return _SUV_WINDOW[0], max(float(np.percentile(shown, 99.5)), _SUV_WINDOW[1])
    if unit == "HU":
        around = np.concatenate([plane.values[_near(plane)] for plane in planes])
        if np.count_nonzero((around > -970) & (around < -500)) > np.count_nonzero(around >= -500):
            return _LUNG_WINDOW
        tissue = shown[(shown > -160) & (shown < 300)]
        if tissue.size:
            low, high = (float(v) for v in np.percentile(tissue, (1, 99)))
            # Less than 300 HU from black to white would show little but noise.
            more = max(0.0, 300 - (high - low)) / 2
            return low - more, high + more
    low, high = (float(v) for v in np.percentile(shown, (1, 99)))
    return (low, high) if low < high else (low - 0.5, low + 0.5)


def _near(plane: Plane) -> npt.NDArray[np.bool_]:
    """What lies beside the lesions, within about 8 mm of their box; where there is none, beside the planes' centre."""
    marked = np.zeros(plane.values.shape, dtype=bool)
    for mask in plane.masks:
        marked |= mask
    if not marked.any():
        marked[plane.focus] = True
    lesions = marked.copy()
    box = []
    for side, spacing in enumerate(plane.spacing):
        hit = np.flatnonzero(marked.any(axis=1 - side))
        grow = int(np.ceil(_NEAR_MM / spacing))
        box.append(slice(max(0, int(hit[0]) - grow), int(hit[-1]) + grow + 1))
    near = np.zeros_like(marked)
    near[tuple(box)] = True
    return near & ~lesions
