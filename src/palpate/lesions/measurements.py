"""How large a lesion is: volume, longest diameter and short axis.

RECIST 1.1 (Eisenhauer et al., European Journal of Cancer 45, 2009, 228-247) measures a tumour's longest diameter in the
plane of acquisition; the WHO (Miller et al., Cancer 47, 1981, 207-214) adds the longest one perpendicular to it. The
plane is taken to be axial: slices across the array axis that runs nearest to S. On each slice the diameters are
measured along the convex hull of the lesion's voxels with their full edges. So one voxel measures its own diagonal, and
a lesion that is concave or in several parts is measured across its gaps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..masks import Mask
from ..volume import FloatArray, Grid

Point = tuple[float, float, float]
_TIE = 1e-3  # mm: lengths that differ by less are equal, since headers hold their numbers to six digits or so


@dataclass(frozen=True)
class Diameter:
    """A straight line across a lesion, within a slice.

    Attributes:
        mm: its length.
        ends: its two end points, RAS millimetres.
    """

    mm: float
    ends: tuple[Point, Point]


@dataclass(frozen=True)
class Measurements:
    """A lesion's size.

    Attributes:
        volume_ml: its volume, mL.
        longest: its longest diameter within any axial slice; None for an empty mask.
        perpendicular: the longest line perpendicular to that, on the same slice; None for an empty mask.
        axis: the array axis that the slices lie across.
        slice_index: which slice; None for an empty mask. Of several with one diameter that with the longest
            perpendicular, of these the lowest.
    """

    volume_ml: float
    longest: Diameter | None
    perpendicular: Diameter | None
    axis: int
    slice_index: int | None


def measure_lesion(mask: Mask) -> Measurements:
    """A lesion's volume, its longest axial diameter, and the longest line perpendicular to it.

    Args:
        mask: on the scan's grid; may be empty.
    """
    axis, upwards = mask.grid.anatomical_axes[2]  # slices are taken from the feet up, however the scan is stored
    best: tuple[int, FloatArray, FloatArray] | None = None
    cropped = mask.cropped()
    planes = list(enumerate(np.moveaxis(cropped.array, axis, 0)))
    for number, plane in planes[::upwards]:
        if plane.any():
            corners = _hull(plane, cropped, axis)
            shorter = 0.0 if best is None else _length(best[1]) - float(_distances(corners).max())
            if shorter <= _TIE:
                axes = _axes(corners)
                if best is None or shorter < -_TIE or _length(axes[1]) > _length(best[2]) + _TIE:
                    best = (number, *axes)
    if best is None:
        return Measurements(0.0, None, None, axis, None)
    number, longest, perpendicular = best
    slice_index = cropped.start[axis] + number
    place = _Plane(mask.grid, axis, slice_index)
    return Measurements(mask.volume_ml, place.diameter(longest), place.diameter(perpendicular), axis, slice_index)


class _Plane:
    """A slice as a plane with two perpendicular unit vectors, so that lengths in it are millimetres."""

    def __init__(self, grid: Grid, axis: int, slice_index: int):
        u, v = (grid.affine[:3, a] for a in range(3) if a != axis)
        first = u / np.linalg.norm(u)
        second = v - (v @ first) * first
        self._basis = np.stack([first, second / np.linalg.norm(second)])
        origin = np.zeros(3)
        origin[axis] = slice_index
        self._origin = grid.to_mm(origin)
        self._steps = np.stack([u, v]) @ self._basis.T

    def flat(self, index: FloatArray) -> FloatArray:
        """Positions along the slice's two array axes, `[N, 2]`, to millimetres in the plane, `[N, 2]`."""
        return np.asarray(index @ self._steps, dtype=np.float64)

    def diameter(self, ends: FloatArray) -> Diameter:
        """The line between two points of the plane, `[2, 2]`."""
        first, second = ((self._origin + end @ self._basis).tolist() for end in ends)
        return Diameter(float(np.linalg.norm(ends[1] - ends[0])), (tuple(first), tuple(second)))


def _distances(points: FloatArray) -> FloatArray:
    """From each of the points `[N, 2]` to each other, `[N, N]`."""
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(points, points), dtype=np.float64)


def _hull(plane: npt.NDArray[np.bool_], mask: Mask, axis: int) -> FloatArray:
    """Corners `[N, 2]` of the convex hull of a slice's voxels, in millimetres of its plane, counter-clockwise."""
    from scipy.spatial import ConvexHull

    rows = np.flatnonzero(plane.any(axis=1))
    first = plane[rows].argmax(axis=1)
    last = plane.shape[1] - 1 - plane[rows, ::-1].argmax(axis=1)
    # Only the ends of a row can be corners; each voxel reaches half an edge beyond its centre.
    places = [(rows + du, ends + dv) for du in (-0.5, 0.5) for ends, dv in ((first, -0.5), (last, 0.5))]
    index = np.concatenate([np.stack(pair, axis=1) for pair in places])
    start = [s for a, s in enumerate(mask.start) if a != axis]
    flat = _Plane(mask.grid, axis, 0).flat(index + start)
    return np.asarray(flat[ConvexHull(flat).vertices], dtype=np.float64)


def _length(ends: FloatArray) -> float:
    return float(np.linalg.norm(ends[1] - ends[0]))


def _axes(corners: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The two corners farthest apart, `[2, 2]`, and the ends of the longest chord perpendicular to them, `[2, 2]`.

    Of several pairs as far apart, as there often are between voxels, that with the longest chord.
    """
    apart = np.triu(_distances(corners))
    pairs = np.argwhere(apart >= apart.max() - _TIE)
    chords = [_chord(corners, one, other) for one, other in pairs]
    best = 0
    for number, chord in enumerate(chords):
        if _length(chord) > _length(chords[best]) + _TIE:
            best = number
    return corners[pairs[best]], chords[best]


def _chord(corners: FloatArray, one: int, other: int) -> FloatArray:
    """The ends of a hull's longest chord perpendicular to the line between two of its corners, `[2, 2]`."""
    length = float(np.linalg.norm(corners[other] - corners[one]))
    along = (corners[other] - corners[one]) / length
    across = np.array([-along[1], along[0]])
    t, s = (corners - corners[one]) @ along, (corners - corners[one]) @ across
    # Above and below the diameter the hull's border is piecewise straight: the chord is longest at some corner.
    middle = np.array([0.0, length])
    upper, lower = (_border(t[side], s[side], middle) for side in (s >= 0, s <= 0))
    top, bottom = np.interp(t, *upper), np.interp(t, *lower)
    longest = int((top - bottom).argmax())
    ends = corners[one] + t[longest] * along + np.outer((bottom[longest], top[longest]), across)
    return np.asarray(ends, dtype=np.float64)


def _border(t: FloatArray, s: FloatArray, ends: FloatArray) -> tuple[FloatArray, FloatArray]:
    """One side of a hull as a function of the place along its diameter: places in order, and heights."""
    order = np.argsort(np.concatenate([t, ends]), kind="stable")
    return np.concatenate([t, ends])[order], np.concatenate([s, [0.0, 0.0]])[order]
