"""Padding: the constant that fills a scan where nothing was imaged, up to its border.

CT outside the scanner's circle (-2000, -3024, ...), brains without their skull, faces blanked out, volumes that were
turned or resampled. No patient is there, so it says nothing about intensities: what is padding is outside the scan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ..resampling import Sliceable
from ..volume import Index3

LOWEST = -1024.0  # HU: no scanner measures less
MIN_SHARE = 0.05  # of the voxels on a scan's six faces, that such a fill takes; less is chance
MIN_SHARE_OF_VALUES = 0.5  # that any other fill takes: less may be air around a limb, which a model knows as dark
AIR = -900.0  # HU, up to which a constant is CT's air, and stays
MIN_VALUES = 16  # different ones on the scan's three middle planes; a drawing has fewer, and its background is no fill
TOUCHING = 1e-3  # share of a crop's voxel that padding fills; less is rounding


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
    if not len(values):
        return None
    value, share = float(values[counts.argmax()]), counts.max() / total
    if LOWEST <= value <= AIR or share < (MIN_SHARE if value < LOWEST else MIN_SHARE_OF_VALUES):
        return None
    middle = np.concatenate([_plane(voxels, shape, axis, count // 2).ravel() for axis, count in enumerate(shape)])
    return value if len(np.unique(middle)) >= MIN_VALUES else None


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
class PaddingVoxels:
    """Where a scan has its padding's value, as an array `[X, Y, Z]` of bool that is read box by box.

    Attributes:
        voxels: the scan's.
        value: of its padding.
    """

    voxels: Sliceable
    value: float

    def __getitem__(self, box: tuple[slice, slice, slice]) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = np.asarray(self.voxels[box]) == self.value
        return found


def without_padding(values: Tensor, inside: Tensor, share: Tensor, value: float) -> tuple[Tensor, Tensor]:
    """A crop's values and what of it is inside the scan, where padding is outside.

    Padding is what is connected, in the crop, with the crop's border or with what lies outside the scan: a dark spot
    within the patient that happens to have the same value stays. Beside padding a crop's voxel may be mixed of it and
    of the patient; its part is taken out.

    Args:
        values: float32 `[D, H, W]`, as resampled.
        inside: bool `[D, H, W]`, whether a place lies in the scan.
        share: float32 `[D, H, W]`, of each voxel, the share that has the padding's value: resampled as the values were.
        value: the padding's.
    """
    padding = _connected_with_border(share >= 0.5, inside)
    near = F.max_pool3d(padding[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0
    mixed = near & ~padding & (share > TOUCHING)
    values = torch.where(mixed, (values - share * value) / (1 - share).clamp_min(0.5), values)
    return values, inside & ~padding


def _connected_with_border(filled: Tensor, inside: Tensor) -> Tensor:
    """Of the filled places `[D, H, W]`, those connected through filled ones with the border, or with the outside."""
    from scipy import ndimage

    places = (filled | ~inside).cpu().numpy()
    pieces, count = ndimage.label(np.pad(places, 1, constant_values=True))
    assert count  # the frame around the crop is one piece: the first
    connected = (pieces == pieces[0, 0, 0])[1:-1, 1:-1, 1:-1]
    return filled & inside & torch.from_numpy(connected).to(filled.device)
