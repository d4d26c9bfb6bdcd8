"""Random intensity maps: a crop as another scanner, sequence or protocol might have shown it (SynthSeg's recipe)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

KNOTS = 6  # of the random monotone curve, both ends among them
LOW, HIGH = 0.5, 99.5  # percentiles of the crop that a map takes for its darkest and its brightest


class IntensityMaps(BaseModel):
    """How a crop's intensities are remapped before they are normalised; the mask stays."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    prob: float = Field(0.0, ge=0, le=1, description="probability, 0 to 1, that a crop's intensities are remapped")
    invert_prob: float = Field(
        0.5, ge=0, le=1, description="probability, 0 to 1, that a remapped crop's dark and bright are exchanged"
    )
    bend: float = Field(
        1.0, ge=0, description="how far the map is bent, 0: not; 1: slopes differ by up to e or its inverse"
    )
    bias_field: float = Field(
        0.3, ge=0, lt=1, description="largest smooth change of brightness over a remapped crop, as a fraction; 0: none"
    )
    noise: float = Field(
        0.1, ge=0, description="largest deviation of noise in a remapped crop, as a fraction of its range; 0: none"
    )
    coarse: float = Field(
        2.0, ge=1, description="largest factor by which a remapped crop loses resolution along every axis; 1: none"
    )
    thick_slices: float = Field(
        5.0, ge=1, description="largest factor by which it loses resolution along one axis, as in thick slices; 1: none"
    )

    def apply(self, values: Tensor, inside: Tensor, truth: Tensor, rng: np.random.Generator) -> Tensor:
        """A crop's values remapped, in the same range.

        Args:
            values: `[D, H, W]` float32, in the scan's units.
            inside: `[D, H, W]` bool, whether a voxel lies in the scan.
            truth: `[D, H, W]` bool, the target, which stays at least three blurred voxels wide.
            rng: of this crop.
        """
        if rng.random() >= self.prob or int(inside.sum()) < 2:
            return values
        known = values[inside]
        last = known.numel() - 1
        low, high = (float(known.kthvalue(1 + round(p / 100 * last)).values) for p in (LOW, HIGH))
        if not high > low:
            return values
        share = ((values - low) / (high - low)).clamp(0, 1)
        share = self._blurred(share, truth, rng)
        share = _curve(share, rng.uniform(-self.bend, self.bend, KNOTS - 1))
        if rng.random() < self.invert_prob:
            share = 1 - share
        field = _smooth_field(share.shape, rng, share.device)
        share = share * (1 + field * float(rng.uniform(0, self.bias_field)))
        deviation = float(rng.uniform(0, 1) ** 2 * self.noise)
        noise = torch.from_numpy(rng.standard_normal(tuple(share.shape), dtype=np.float32))
        return low + (share + deviation * noise.to(share.device)) * (high - low)

    def _blurred(self, values: Tensor, truth: Tensor, rng: np.random.Generator) -> Tensor:
        """Values as a coarser scan would hold them, resampled to where they were."""
        factors = np.full(3, np.exp(rng.uniform(0, np.log(self.coarse))))
        axis, thick = int(rng.integers(3)), np.exp(rng.uniform(0, np.log(self.thick_slices)))
        blurred, sliced = rng.random(2)
        factors = np.where(blurred < 0.3, factors, 1.0)
        factors[axis] = max(factors[axis], thick if sliced < 0.3 else 1.0)
        factors = np.minimum(factors, np.maximum(1.0, extent(truth) / 3))
        d, h, w = (max(2, round(n / factor)) for n, factor in zip(values.shape, factors.tolist(), strict=True))
        if (d, h, w) == tuple(values.shape):
            return values
        coarse = F.adaptive_avg_pool3d(values[None, None], (d, h, w))
        return F.interpolate(coarse, size=values.shape, mode="trilinear", align_corners=False)[0, 0]


def extent(truth: Tensor) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """How many voxels a mask `[D, H, W]` spans along each axis; all of the crop where it is empty."""
    if not bool(truth.any()):
        return np.array(truth.shape, dtype=np.float64)
    places = torch.nonzero(truth)
    return np.asarray((places.amax(dim=0) - places.amin(dim=0) + 1).cpu().numpy(), dtype=np.float64)


def _curve(share: Tensor, slopes: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Tensor:
    """0 to 1 bent by a monotone curve from 0 to 1, piecewise linear; `slopes` are logarithms."""
    rises = np.exp(slopes)
    knots = np.concatenate([[0.0], np.cumsum(rises) / rises.sum()])
    place = share * len(rises)
    piece = place.long().clamp(max=len(rises) - 1)
    table = torch.tensor(knots, dtype=torch.float32, device=share.device)
    return table[piece] + (table[piece + 1] - table[piece]) * (place - piece)


def _smooth_field(shape: torch.Size, rng: np.random.Generator, device: torch.device) -> Tensor:
    """A smooth field between about -1 and 1 over a crop."""
    corners = torch.from_numpy(rng.uniform(-1, 1, (1, 1, 3, 3, 3)).astype(np.float32)).to(device)
    return F.interpolate(corners, size=tuple(shape), mode="trilinear", align_corners=True)[0, 0]
