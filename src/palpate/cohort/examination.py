"""What a labelled scan holds, in numbers small enough to keep for ten thousand of them."""

from __future__ import annotations

import hashlib
import math
from array import array as compact
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..errors import GeometryError, ScanError
from ..formats import read
from ..randomness import counted_rng
from ..volume import Grid, Index3, Mask, Volume
from .cache import canonical_label
from .scans import LabelledScan, lesion_of
from .split import Part

PERCENTILES = (0.5, 5.0, 50.0, 95.0, 99.5)
FACES = (("left", "right"), ("back", "front"), ("feet", "head"))  # low and high end of R, A, S
LOOKED_AT = 200_000  # voxels at most behind the statistics of one side; evenly strewn over the scan


@dataclass(frozen=True)
class Statistics:
    """Of the voxels on one side of the contour: mean, deviation, and `PERCENTILES`."""

    mean: float
    std: float
    percentiles: tuple[float, ...]


@dataclass(frozen=True)
class Lesion:
    """One connected piece: its volume, mL, and its edges along S, A and R, mm."""

    ml: float
    extent_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Examination:
    """What was found in a scan and its label; of an unreadable one, why.

    Attributes:
        name: the scan's.
        image: its file, as text.
        label: its label's file.
        patient: whose it is.
        part: where the layout itself says who trains and who tests.
        fault: what made it useless, in a sentence; None: nothing.
        kind: of fault: "unreadable", "grids differ" or "label with fractions".
        shape: voxels along X, Y, Z.
        spacing: edges of a voxel, mm.
        orientation: where the array's axes point, as three letters.
        dtype: how the file stores voxels.
        sha256: of shape and voxels: equal in copies, whatever their files are called and however they store numbers.
        labels: voxels of each label value above 0.
        lesions: connected pieces of lesion, the largest first.
        faces: sides of the scan that the lesion touches.
        inside: intensities of the lesion; None without one.
        outside: of all else.
        sample: a few of the lesion's intensities, drawn by the scan's name.
        outside_sample: the same of all else.
        doubts: what a header contradicts itself in, in sentences that name the file.
    """

    name: str
    image: str
    label: str
    patient: str
    part: Part | None = None
    fault: str | None = None
    kind: str = ""
    shape: Index3 = (0, 0, 0)
    spacing: tuple[float, float, float] = (0.0, 0.0, 0.0)
    orientation: str = ""
    dtype: str = ""
    sha256: str = ""
    labels: dict[int, int] = field(default_factory=dict)
    lesions: tuple[Lesion, ...] = ()
    faces: tuple[str, ...] = ()
    inside: Statistics | None = None
    outside: Statistics | None = None
    # Eight bytes a number: tuples of ten thousand scans would take four times that.
    sample: compact[float] = field(default_factory=lambda: compact("d"))
    outside_sample: compact[float] = field(default_factory=lambda: compact("d"))
    doubts: tuple[str, ...] = ()

    @property
    def lesion_ml(self) -> float:
        """All lesion together, mL."""
        return sum(lesion.ml for lesion in self.lesions)


def examine(scan: LabelledScan, lesion: tuple[int, ...] = (), samples: int = 1000) -> Examination:
    """Read a scan and its label, and keep numbers.

    Args:
        scan: where they lie.
        lesion: label values that are lesion; none: all above 0.
        samples: intensities to keep of each side of the contour.
    """
    known: dict[str, Any] = {
        "name": scan.name,
        "image": str(scan.image),
        "label": str(scan.label),
        "patient": scan.patient,
        "part": scan.part,
    }
    try:
        volume, label = scan.load(warn=False)
    except GeometryError as error:
        return Examination(**known, fault=str(error), kind=_kind(scan))
    except ScanError as error:
        return Examination(**known, fault=str(error), kind="unreadable")
    known["doubts"] = (*volume.notes, *label.notes)
    try:
        values = canonical_label(label.array, scan.label)
    except ScanError as error:
        return Examination(**known, fault=str(error), kind="label with fractions")
    return Examination(**known, **_measured(scan.name, volume, values, lesion, samples))


def _kind(scan: LabelledScan) -> str:
    """Of a fault in geometry: a file that has none of its own, or two that do not fit."""
    try:
        read(scan.image, warn=False)
        read(scan.label, warn=False)
    except ScanError:
        return "unreadable"
    return "grids differ"


def _measured(
    name: str, volume: Volume, values: npt.NDArray[Any], lesion: tuple[int, ...], samples: int
) -> dict[str, Any]:
    mask = lesion_of(values, lesion)
    places = np.flatnonzero(mask)
    inside = volume.array.reshape(-1)[places]
    outside = _strewn(volume.array, mask)
    counts = np.unique(values, return_counts=True)
    bounds = Mask(mask, (0, 0, 0), volume.grid).bounds
    x, y, z = volume.spacing.tolist()
    return {
        "shape": volume.shape,
        "spacing": (x, y, z),
        "orientation": volume.grid.orientation,
        "dtype": str(volume.array.dtype),
        "sha256": _hash(volume.array),
        "labels": {int(v): int(n) for v, n in zip(*counts, strict=True) if v > 0},
        "lesions": _lesions(mask, bounds, volume.grid) if bounds else (),
        "faces": _faces(bounds, volume.grid) if bounds else (),
        "inside": _statistics(inside) if inside.size else None,
        "outside": _statistics(outside) if outside.size else None,
        "sample": _drawn(inside, samples, name),
        "outside_sample": _drawn(outside, samples, name),
    }


def _strewn(array: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """Every so many voxels outside the lesion; the step shares no factor with an edge, or it would see few slices."""
    step = max(1, array.size // LOOKED_AT)
    while any(math.gcd(step, edge) > 1 for edge in array.shape):
        step += 1
    return array.reshape(-1)[::step][~mask.reshape(-1)[::step]]


def _statistics(values: npt.NDArray[Any]) -> Statistics:
    wide = values.astype(np.float64)
    percentiles = np.percentile(wide, PERCENTILES)
    return Statistics(float(wide.mean()), float(wide.std()), tuple(float(value) for value in percentiles))


def _drawn(values: npt.NDArray[Any], count: int, name: str) -> compact[float]:
    if not values.size:
        return compact("d")
    rng = counted_rng(0, f"examined sample of {name}")
    return compact("d", values[rng.integers(values.size, size=min(count, values.size))].astype(np.float64).tobytes())


def _hash(array: npt.NDArray[Any]) -> str:
    digest = hashlib.sha256(str(array.shape).encode())
    # As one type, so that a copy that another program saved as floats is known; + 0 since -0 and 0 are one number.
    with np.errstate(over="ignore"):
        digest.update((np.ascontiguousarray(array, "<f4") + np.float32(0)).data)
    return digest.hexdigest()


def _lesions(mask: npt.NDArray[np.bool_], bounds: tuple[Index3, Index3], grid: Grid) -> tuple[Lesion, ...]:
    x, y, z = (slice(a, b + 1) for a, b in zip(*bounds, strict=True))
    pieces, count = ndimage.label(mask[x, y, z], structure=np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.reshape(-1), minlength=count + 1)[1:]
    order = [grid.anatomical_axes[world][0] for world in (2, 1, 0)]
    lesions = []
    for size, box in zip(sizes.tolist(), ndimage.find_objects(pieces), strict=True):
        edges = [(part.stop - part.start) * edge for part, edge in zip(box, grid.spacing.tolist(), strict=True)]
        s, a, r = (edges[axis] for axis in order)
        lesions.append(Lesion(size * grid.voxel_ml, (s, a, r)))
    return tuple(sorted(lesions, key=lambda lesion: lesion.ml, reverse=True))


def _faces(bounds: tuple[Index3, Index3], grid: Grid) -> tuple[str, ...]:
    first, last = bounds
    touched = []
    for (axis, sign), (low, high) in zip(grid.anatomical_axes, FACES, strict=True):
        ends = (low, high) if sign > 0 else (high, low)
        if first[axis] == 0:
            touched.append(ends[0])
        if last[axis] == grid.shape[axis] - 1:
            touched.append(ends[1])
    return tuple(touched)
