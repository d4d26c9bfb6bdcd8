"""Padding: the constant that fills a scan where nothing was imaged, up to its border.

CT outside the scanner's circle (-2000, -3024, ...), brains without their skull, faces blanked out, volumes that were
turned or resampled. No patient is there, so it says nothing about intensities: what is padding is outside the scan.
Where it lies is found once a scan, on a coarse grid, so that every crop of the scan has the same padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ..resampling import SLAB, Sliceable, places_of
from ..volume import FloatArray, Grid, Index3

LOWEST = -1024.0  # HU: no scanner measures less
MIN_SHARE = 0.05  # of the voxels on a scan's six faces, that such a fill takes; less is chance
MIN_SHARE_OF_VALUES = 0.5  # that any other fill takes: less may be air around a limb, which a model knows as dark
AIR = -900.0  # HU, up to which a constant is CT's air, and stays
MIN_VALUES = 16  # different ones on the scan's three middle planes; a drawing has fewer, and its background is no fill
TOUCHING = 1e-3  # share of a crop's voxel that padding fills; less is rounding
MAX_CELLS = 2**20  # of the coarse grid on which a scan's padding lies; packed in bits, an eighth of a megabyte


def padding_value(voxels: Sliceable, shape: Index3) -> float | None:
    """The constant that pads a scan; None: nothing pads it, or what does is CT's air.

    It is looked for on the scan's six faces: a fill is a voxel that has all four neighbours' value. Noise has none.

    Args:
        voxels: the scan's, `[X, Y, Z]`.
        shape: their number along each axis.
    """
    found, total = [], 0
    for axis, count in enumerate(shape):
        for place in {0, count - 1}:
            face = _plane(voxels, shape, axis, place)
            found.append(face[_like_neighbours(face)])
            total += face.size
    values, counts = np.unique(np.concatenate(found), return_counts=True)
    value = _commonest(values, counts, values < LOWEST, MIN_SHARE * total)
    if value is None:  # a fill that nothing measures may be rarer than the air beside it
        value = _commonest(values, counts, values >= LOWEST, MIN_SHARE_OF_VALUES * total)
    if value is None or LOWEST <= value <= AIR:
        return None
    middle = np.concatenate([_plane(voxels, shape, axis, count // 2).ravel() for axis, count in enumerate(shape)])
    return value if len(np.unique(middle)) >= MIN_VALUES else None


def _commonest(
    values: npt.NDArray[np.generic], counts: npt.NDArray[np.int64], among: npt.NDArray[np.bool_], least: float
) -> float | None:
    """The value that is counted most often of those in question; None: none is counted at least so often."""
    counts = np.where(among, counts, 0)
    return float(values[counts.argmax()]) if counts.max(initial=0) >= max(1, least) else None


def _plane(voxels: Sliceable, shape: Index3, axis: int, place: int) -> npt.NDArray[np.generic]:
    """A scan's voxels at one place along an axis, `[M, N]`."""
    box = [slice(0, n) for n in shape]
    box[axis] = slice(place, place + 1)
    return np.asarray(voxels[box[0], box[1], box[2]]).squeeze(axis)


def _like_neighbours(face: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Which places of a face `[M, N]` have the value of their neighbours along both axes."""
    same = np.ones(face.shape, dtype=bool)
    for axis in (0, 1):
        low, high = (face.take(places, axis) for places in (range(face.shape[axis] - 1), range(1, face.shape[axis])))
        edge = np.ones_like(face.take(range(1), axis), dtype=bool)
        same &= np.concatenate([low == high, edge], axis) & np.concatenate([edge, low == high], axis)
    return same


@dataclass(frozen=True)
class FilledVoxels:
    """Where a scan has its padding's value, as an array `[X, Y, Z]` of bool that is read box by box.

    Attributes:
        voxels: the scan's.
        value: of its padding.
    """

    voxels: Sliceable
    value: float

    def __getitem__(self, box: tuple[slice, slice, slice]) -> npt.NDArray[np.bool_]:
        part = np.asarray(self.voxels[box])
        found: npt.NDArray[np.bool_] = part == part.dtype.type(self.value)  # of its own type, which compares fast
        return found


@dataclass(frozen=True)
class Cells:
    """A coarse grid over a scan: cells of whole voxels, counted from the patient's left, back and feet on.

    Attributes:
        shape: the scan's voxels along X, Y, Z.
        edges: a cell's.
        before: how much of the first cell lies before the scan's first voxel.
    """

    shape: Index3
    edges: Index3
    before: Index3

    @classmethod
    def of(cls, grid: Grid) -> Cells:
        """The finest ones of which a grid has `MAX_CELLS` at most."""
        shape, edges = np.array(grid.shape), np.ones(3, dtype=np.int64)
        while np.prod(counts := -(-shape // edges)) > MAX_CELLS:
            edges += counts == counts.max()
        before = [
            int(-n % edge) if sign < 0 else 0 for n, edge, sign in zip(shape, edges, grid.directions, strict=True)
        ]
        x, y, z = edges.tolist()
        return cls(grid.shape, (x, y, z), (before[0], before[1], before[2]))

    @property
    def counts(self) -> Index3:
        """How many there are along each axis."""
        x, y, z = (-(-(n + a) // edge) for n, a, edge in zip(self.shape, self.before, self.edges, strict=True))
        return x, y, z

    def full(self, filled: FilledVoxels) -> npt.NDArray[np.bool_]:
        """The cells `[cells along X, Y, Z]` all of whose voxels in the scan are filled; they are read slab by slab."""
        full = np.empty(self.counts, dtype=bool)
        layers = max(1, SLAB // (self.shape[1] * self.shape[2] * self.edges[0]))
        for first in range(0, self.counts[0], layers):
            low, high = (cell * self.edges[0] - self.before[0] for cell in (first, first + layers))
            box = slice(max(0, low), min(high, self.shape[0])), slice(0, self.shape[1]), slice(0, self.shape[2])
            part = filled[box]
            for axis in np.argsort(part.strides)[::-1].tolist():  # what lies together in memory stays so
                part = self._merged(part, axis, max(0, -low) if axis == 0 else self.before[axis])
            full[first : first + layers] = part
        return full

    def _merged(self, part: npt.NDArray[np.bool_], axis: int, before: int) -> npt.NDArray[np.bool_]:
        """Along one axis, whether all of each cell is true."""
        edge = self.edges[axis]
        widths = [(0, 0)] * 3
        widths[axis] = before, -(part.shape[axis] + before) % edge
        whole = np.pad(part, widths, constant_values=True) if any(widths[axis]) else part
        along = [slice(None)] * 3
        along[axis] = slice(0, None, edge)
        merged = whole[tuple(along)].copy(order="K")
        for place in range(1, edge):
            along[axis] = slice(place, None, edge)
            merged &= whole[tuple(along)]
        return merged


@dataclass(frozen=True, eq=False)
class Padding:
    """Where a scan is padded.

    Attributes:
        value: the constant that fills it.
        cells: the coarse grid on which it is known.
        packed: which cells have padding, bits along Z as `np.packbits` makes them.
    """

    value: float
    cells: Cells
    packed: npt.NDArray[np.uint8]

    @property
    def note(self) -> str:
        """A sentence for people."""
        return f"the value {self.value:g}, which fills its border, is taken for padding: it lies outside the scan"

    def reaches(self, to_scan: FloatArray, size: Index3) -> Tensor:
        """Whether the cell that is nearest to each place of a crop has padding: bool `[D, H, W]`.

        Args:
            to_scan: the crop's index to the scan's, affine `[4, 4]`.
            size: the crop's D, H, W.
        """
        counts = self.cells.counts
        padded = torch.from_numpy(np.unpackbits(self.packed, axis=2, count=counts[2]).reshape(-1)).bool()
        last, steps = torch.tensor(counts).float() - 1, torch.tensor([counts[1] * counts[2], counts[2], 1]).float()
        to_cells = to_scan[:3] / np.array(self.cells.edges)[:, None]
        to_cells[:, 3] += (np.array(self.cells.before) + 0.5) / self.cells.edges
        found = torch.empty(size, dtype=torch.bool)
        layers = max(1, SLAB // 8 // (size[1] * size[2]))
        for first in range(0, size[0], layers):
            part = min(layers, size[0] - first), size[1], size[2]
            cell = places_of(to_cells, part).floor_().clamp_(torch.zeros(3), last)
            found[first : first + layers] = padded[
                cell.mul_(steps).sum(-1).int()
            ]  # float32 is exact for that many cells
            to_cells[:, 3] += layers * to_cells[:, 0]
        return found


def find_padding(voxels: Sliceable, grid: Grid) -> Padding | None:
    """Where a scan is padded; None: nowhere, or with CT's air (`padding_value`).

    It is what has the padding's value and is connected with the scan's six faces through voxels that have it: a dark
    spot within the patient stays, whichever crop sees it. It is known to a cell: through cells that are filled, and in
    those beside them, what has the value is padding.

    Args:
        voxels: the scan's, `[X, Y, Z]`; all are read where there is padding.
        grid: the scan's.
    """
    from scipy import ndimage

    value = padding_value(voxels, grid.shape)
    if value is None:
        return None
    cells = Cells.of(grid)
    pieces, _ = ndimage.label(np.pad(cells.full(FilledVoxels(voxels, value)), 1, constant_values=True))
    reached = pieces == pieces[0, 0, 0]  # the frame around the scan is one piece, with all that touches it
    beside = np.ones([3 if edge > 1 else 1 for edge in cells.edges], dtype=bool)
    reached = ndimage.binary_dilation(reached, beside)[1:-1, 1:-1, 1:-1]
    return Padding(value, cells, np.packbits(reached, axis=2))


def without_padding(
    values: Tensor, inside: Tensor, share: Tensor, reached: Tensor, value: float
) -> tuple[Tensor, Tensor]:
    """A crop's values and what of it is inside the scan, where padding is outside.

    Beside padding a crop's voxel may be mixed of it and of the patient; its part is taken out.

    Args:
        values: float32 `[D, H, W]`, as resampled.
        inside: bool `[D, H, W]`, whether a place lies in the scan.
        share: float32 `[D, H, W]`, of each voxel, the share that has the padding's value: resampled as the values were.
        reached: bool `[D, H, W]`, where that value is padding (`Padding.reaches`).
        value: the padding's.
    """
    padding = (share >= 0.5) & reached
    near = F.max_pool3d((padding & inside)[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0
    mixed = near & ~padding & (share > TOUCHING)
    values = torch.where(mixed, (values - share * value) / (1 - share).clamp_min(0.5), values)
    return values, inside & ~padding
