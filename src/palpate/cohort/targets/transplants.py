"""Transplants: a contoured target of another scan, pasted around the click with its border blended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .canvas import Bools, Canvas, Floats, MadeTarget, piece_with

MARGIN = 2.5  # voxels around the target that are pasted with it, fading out
ALIKE = 5.0  # times as wide a range of values: scans of different units
SHELL = 4  # voxels around the target that its surroundings are told by


@dataclass(frozen=True, eq=False)
class Donor:
    """A crop around another scan's contoured target, at the size that the target shall have.

    Attributes:
        values: float32 `[D, H, W]`, in its scan's units.
        inside: bool `[D, H, W]`.
        target: bool `[D, H, W]`.
    """

    values: Floats
    inside: Bools
    target: Bools


def transplant(canvas: Canvas, donor: Donor, rng: np.random.Generator) -> MadeTarget | None:
    """The donor's target around the click; None where the two scans are not alike, or little of it fits."""
    places = np.argwhere(donor.target)
    if not len(places) or not alike(canvas, donor):
        return None
    shift = np.array(canvas.click) - places[int(rng.integers(len(places)))]
    values, inside, target = (_shifted(part, shift) for part in (donor.values, donor.inside, donor.target))
    shown = target & inside & canvas.inside
    shown = piece_with(shown.astype(bool), canvas.click)
    if not canvas.holds(shown):
        return None
    near = ndimage.binary_dilation(shown, iterations=SHELL)
    shell = near & ~shown & inside.astype(bool) & canvas.inside
    if not shell.any():
        return None
    # The target keeps its contrast to what lies around it.
    level = float(canvas.values[near & canvas.inside].mean() - values[shell].mean())
    distance = np.asarray(ndimage.distance_transform_edt(~shown))
    share = np.clip(1 - distance / MARGIN, 0, 1) * inside * canvas.inside
    pasted = canvas.values + share * (values + level - canvas.values)
    return MadeTarget(pasted.astype(np.float32), shown, canvas.click)


def alike(canvas: Canvas, donor: Donor) -> bool:
    """Whether two crops' values have one unit, as far as the values tell: ranges alike in width, and overlapping."""
    if np.count_nonzero(donor.inside) < 2:
        return False
    low, high = np.percentile(donor.values[donor.inside], (2, 98))
    own_low, own_high = np.percentile(canvas.values[canvas.inside], (2, 98))
    widths = sorted((float(high - low), float(own_high - own_low)))
    common = float(min(high, own_high) - max(low, own_low))
    return bool(widths[0] > 0 and widths[1] <= ALIKE * widths[0] and common >= 0.5 * widths[0])


def _shifted(array: npt.NDArray[Any], shift: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """An array moved by whole voxels, zero where nothing came."""
    out = np.zeros_like(array)
    there = tuple(slice(max(0, s), n + min(0, s)) for s, n in zip(shift.tolist(), array.shape, strict=True))
    here = tuple(slice(max(0, -s), n + min(0, -s)) for s, n in zip(shift.tolist(), array.shape, strict=True))
    out[there] = array[here]
    return out
