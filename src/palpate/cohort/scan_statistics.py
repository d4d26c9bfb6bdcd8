"""Statistics of a labelled scan, small enough that ten thousand of them fit into memory."""

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
from ..masks import Mask
from ..randomness import counted_rng
from ..volume import Grid, Index3, Volume
from .packing import canonical_label
from .scans import LabelledScan, target_of
from .split import Subset

PERCENTILES = (0.5, 5.0, 50.0, 95.0, 99.5)
FACES = (("left", "right"), ("back", "front"), ("feet", "head"))  # low and high end of R, A, S
SHELL = 3  # voxels around the target that are its surroundings
MAX_BACKGROUND = 200_000  # voxels at most behind the statistics outside the target, a regular subsample of the scan


@dataclass(frozen=True)
class IntensityStatistics:
    """Mean, standard deviation and `PERCENTILES` of the intensities in the target, or outside it."""

    mean: float
    std: float
    percentiles: tuple[float, ...]


@dataclass(frozen=True)
class ComponentSize:
    """A connected component of the target: its volume, mL, and its bounding box's edges along S, A and R, mm."""

    volume_ml: float
    extent_mm: tuple[float, float, float]


@dataclass(frozen=True)
class ScanStatistics:
    """Statistics of a scan and its label; of an unusable one, why.

    Attributes:
        name: the scan's.
        image: its file, as text.
        label: its label's file.
        patient: whose it is.
        subset: where the layout itself splits the cohort; None elsewhere.
        error: why the scan cannot be used, in a sentence; None: it can.
        error_kind: "unreadable", "grids differ" or "label with fractions"; empty without an error.
        shape: voxels along X, Y, Z.
        spacing: edges of a voxel, mm.
        orientation: where the array's axes point, as three letters.
        dtype: how the file stores voxels.
        sha256: of shape and voxels: equal in copies, whatever their files are called and however they store numbers.
        labels: voxels of each label value above 0.
        components: connected components of the target, the largest first.
        touched_faces: sides of the scan that the target touches.
        target_intensities: in the target; None without one.
        background_intensities: outside it.
        surroundings: median intensity within `SHELL` voxels around the target; None where the target fills the scan.
        target_sample: a few intensities of the target, drawn by the scan's name.
        background_sample: the same outside it.
        notes: contradictions in a header, in sentences that name the file.
    """

    name: str
    image: str
    label: str
    patient: str
    subset: Subset | None = None
    error: str | None = None
    error_kind: str = ""
    shape: Index3 = (0, 0, 0)
    spacing: tuple[float, float, float] = (0.0, 0.0, 0.0)
    orientation: str = ""
    dtype: str = ""
    sha256: str = ""
    labels: dict[int, int] = field(default_factory=dict)
    components: tuple[ComponentSize, ...] = ()
    touched_faces: tuple[str, ...] = ()
    target_intensities: IntensityStatistics | None = None
    background_intensities: IntensityStatistics | None = None
    surroundings: float | None = None
    # Eight bytes a number: tuples of ten thousand scans would take four times that.
    target_sample: compact[float] = field(default_factory=lambda: compact("d"))
    background_sample: compact[float] = field(default_factory=lambda: compact("d"))
    notes: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether the scan can be read and has some target."""
        return self.error is None and bool(self.components)

    @property
    def target_ml(self) -> float:
        """Volume of the whole target, mL."""
        return sum(component.volume_ml for component in self.components)


def scan_statistics(scan: LabelledScan, target_labels: tuple[int, ...] = (), samples: int = 1000) -> ScanStatistics:
    """Read a scan and its label.

    Args:
        scan: their files.
        target_labels: label values of the target; none: all above 0.
        samples: intensities to sample in the target, and outside it.
    """
    known: dict[str, Any] = {
        "name": scan.name,
        "image": str(scan.image),
        "label": str(scan.label),
        "patient": scan.patient,
        "subset": scan.subset,
    }
    try:
        volume, label = scan.load(warn=False)
    except GeometryError as error:
        return ScanStatistics(**known, error=str(error), error_kind=_geometry_kind(scan))
    except ScanError as error:
        return ScanStatistics(**known, error=str(error), error_kind="unreadable")
    known["notes"] = (*volume.notes, *label.notes)
    try:
        values = canonical_label(label.array, scan.label)
    except ScanError as error:
        return ScanStatistics(**known, error=str(error), error_kind="label with fractions")
    return ScanStatistics(**known, **_of_voxels(scan.name, volume, values, target_labels, samples))


def _geometry_kind(scan: LabelledScan) -> str:
    """The kind of an error in geometry: a file without one, or two files that differ."""
    try:
        read(scan.image, warn=False)
        read(scan.label, warn=False)
    except ScanError:
        return "unreadable"
    return "grids differ"


def _of_voxels(
    name: str, volume: Volume, values: npt.NDArray[Any], target_labels: tuple[int, ...], samples: int
) -> dict[str, Any]:
    mask = target_of(values, target_labels)
    inside = volume.array.reshape(-1)[np.flatnonzero(mask)]
    outside = _subsampled(volume.array, mask)
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
        "components": _components(mask, bounds, volume.grid) if bounds else (),
        "touched_faces": _touched_faces(bounds, volume.grid) if bounds else (),
        "target_intensities": _intensities(inside) if inside.size else None,
        "background_intensities": _intensities(outside) if outside.size else None,
        "surroundings": _surroundings(volume.array, mask, bounds) if bounds else None,
        "target_sample": _sampled(inside, samples, name),
        "background_sample": _sampled(outside, samples, name),
    }


def _subsampled(array: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """Every n-th voxel outside the target; n shares no factor with an edge, or it would take few slices."""
    step = max(1, array.size // MAX_BACKGROUND)
    while any(math.gcd(step, edge) > 1 for edge in array.shape):
        step += 1
    return array.reshape(-1)[::step][~mask.reshape(-1)[::step]]


def _intensities(values: npt.NDArray[Any]) -> IntensityStatistics:
    wide = values.astype(np.float64)
    percentiles = np.percentile(wide, PERCENTILES)
    return IntensityStatistics(float(wide.mean()), float(wide.std()), tuple(float(value) for value in percentiles))


def _surroundings(array: npt.NDArray[Any], mask: npt.NDArray[np.bool_], bounds: tuple[Index3, Index3]) -> float | None:
    box = tuple(slice(max(0, first - SHELL), last + 1 + SHELL) for first, last in zip(*bounds, strict=True))
    around = ndimage.binary_dilation(mask[box], iterations=SHELL) & ~mask[box]
    return float(np.median(array[box][around])) if around.any() else None


def _sampled(values: npt.NDArray[Any], count: int, name: str) -> compact[float]:
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


def _components(mask: npt.NDArray[np.bool_], bounds: tuple[Index3, Index3], grid: Grid) -> tuple[ComponentSize, ...]:
    x, y, z = (slice(a, b + 1) for a, b in zip(*bounds, strict=True))
    pieces, count = ndimage.label(mask[x, y, z], structure=np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.reshape(-1), minlength=count + 1)[1:]
    order = [grid.anatomical_axes[world][0] for world in (2, 1, 0)]
    components = []
    for size, box in zip(sizes.tolist(), ndimage.find_objects(pieces), strict=True):
        edges = [(extent.stop - extent.start) * edge for extent, edge in zip(box, grid.spacing.tolist(), strict=True)]
        s, a, r = (edges[axis] for axis in order)
        components.append(ComponentSize(size * grid.voxel_ml, (s, a, r)))
    return tuple(sorted(components, key=lambda component: component.volume_ml, reverse=True))


def _touched_faces(bounds: tuple[Index3, Index3], grid: Grid) -> tuple[str, ...]:
    first, last = bounds
    touched = []
    for (axis, sign), (low, high) in zip(grid.anatomical_axes, FACES, strict=True):
        ends = (low, high) if sign > 0 else (high, low)
        if first[axis] == 0:
            touched.append(ends[0])
        if last[axis] == grid.shape[axis] - 1:
            touched.append(ends[1])
    return tuple(touched)
