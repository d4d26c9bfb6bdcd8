"""What a scan's values mean, and which of them to show as black and as white."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..errors import SettingsError
from ..volume import Volume
from .planes import Plane

_LUNG_WINDOW = (-1350.0, 150.0)
_SOFT_TISSUE_WINDOW = (-160.0, 240.0)
_SUV_WINDOW = (0.0, 5.0)  # at least: noise in a scan without uptake is not drawn as uptake
_LUNG = (-950.0, -500.0)  # HU; the air around a patient lies below, tissue above
_BESIDE_MM = 5.0
_AROUND_MM = 30.0
_BELOW_TISSUE = -500  # what has such values is taken for CT, where its unit is not known


def value_unit(volume: Volume, planes: Sequence[Plane]) -> str | None:
    """The unit of a scan's values: what its reader found, else "HU" where some are below -500; None: not known."""
    if volume.unit is not None:
        return volume.unit
    thinned = volume.array[tuple(slice(None, None, max(1, n // 64)) for n in volume.shape)]
    lowest = min(float(thinned.min()), *(float(plane.values.min()) for plane in planes))
    return "HU" if lowest < _BELOW_TISSUE else None


def check_window(black: float, white: float) -> tuple[float, float]:
    """The values shown as black and as white, if they are a window.

    Raises:
        SettingsError: they are not finite, or the first is not below the second.
    """
    if not (math.isfinite(black) and math.isfinite(white) and black < white):
        raise SettingsError(
            f"a window of {black:g} to {white:g}: give two finite values, the one shown as black first and the higher "
            "one, shown as white, second"
        )
    return black, white


def automatic_window(planes: Sequence[Plane], unit: str | None) -> tuple[float, float]:
    """The values to show as black and as white, chosen from the tissue around the lesions and the first prompt.

    On CT one of two windows: -1350 to 150 HU where most beside the lesions is lung, else -160 to 240 HU, for soft
    tissue. On PET in SUV, 0 to percentile 99.5, but to 5 at least. Else percentiles 1 to 99. Prompts other than the
    first do not change it: they may lie anywhere.

    Args:
        planes: what is shown; the first three go through the lesion or the first prompt, and only they count.
        unit: of their values.
    """
    through = planes[:3]
    if unit == "HU":
        return _LUNG_WINDOW if _lies_in_lung(through) else _SOFT_TISSUE_WINDOW
    around = np.concatenate([plane.values[_from_lesions(plane) <= _AROUND_MM] for plane in through])
    if unit == "SUV":
        return _SUV_WINDOW[0], max(float(np.percentile(around, 99.5)), _SUV_WINDOW[1])
    low, high = (float(v) for v in np.percentile(around, (1, 99)))
    return (low, high) if low < high else (low - 0.5, low + 0.5)


def _lies_in_lung(planes: Sequence[Plane]) -> bool:
    """Whether there is more lung than tissue within 5 mm of the lesions; the air around a patient is neither."""
    lung = tissue = 0
    for plane in planes:
        from_lesions = _from_lesions(plane)
        beside = (from_lesions > 0) & (from_lesions <= max(_BESIDE_MM, *plane.spacing))
        lung += int(np.count_nonzero(_lung(plane.values) & beside))
        tissue += int(np.count_nonzero((plane.values >= _LUNG[1]) & beside))
    return lung > tissue


def _lung(values: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """The pixels of a CT slice that are lung: in connected air whose median is lung's too.

    Noise, blankets and cushions give the air around a patient such values here and there, but not as its median.
    """
    from scipy import ndimage

    areas, count = ndimage.label(values < _LUNG[1])
    is_lung = np.zeros(count + 1, dtype=bool)  # the first stands for what is no air
    if count:
        is_lung[1:] = np.asarray(ndimage.median(values, areas, np.arange(1, count + 1))) >= _LUNG[0]
    lung: npt.NDArray[np.bool_] = is_lung[areas] & (values >= _LUNG[0])
    return lung


def _from_lesions(plane: Plane) -> npt.NDArray[np.float64]:
    """The distance of each pixel from the lesions and the planes' common voxel, mm; 0 inside them."""
    from scipy import ndimage

    outside = np.ones(plane.values.shape, dtype=bool)
    outside[plane.focus] = False
    for mask in plane.masks:
        outside &= ~mask
    distances: npt.NDArray[np.float64] = ndimage.distance_transform_edt(outside, sampling=plane.spacing)
    return distances
