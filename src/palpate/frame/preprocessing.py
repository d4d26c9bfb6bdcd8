"""How a scan becomes a model's input: crop, spacing and normalisation; the one preprocessing."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from ..volume import Index3


class Clip(BaseModel):
    """What every normalisation has: two bounds, in order."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must lie below high {self.high}")
        return self


class ClipZScore(Clip):
    """Clip to fixed intensities, subtract a mean, divide by a deviation: for CT, whose numbers mean one thing."""

    kind: Literal["clip_z_score"] = Field(
        "clip_z_score",
        description="clip_z_score: the same intensities for every scan, as for CT, with low, high, mean and std; or "
        "crop_percentiles: each crop's own, as for MR, with low and high as percentiles (0.5 and 99.5)",
    )
    low: float = Field(description="intensities below are raised to it, in the scans' units (CT: HU)")
    high: float = Field(description="intensities above are lowered to it, in the scans' units")
    mean: float = Field(description="subtracted after that: the target's mean intensity")
    std: float = Field(gt=0, description="what is left is divided by it: the target's standard deviation")

    def apply(self, crop: Tensor, inside: Tensor) -> Tensor:
        """The crop, normalised; zero where not `inside` the scan."""
        return ((crop.clamp(self.low, self.high) - self.mean) / self.std) * inside


class CropPercentiles(Clip):
    """Clip to percentiles of the crop itself, then zero mean and unit deviation.

    For MR, PET, and models that see several modalities. Only voxels inside the scan count, and no
    statistic needs more of the scan than the crop.
    """

    kind: Literal["crop_percentiles"] = Field(
        "crop_percentiles",
        description="crop_percentiles: each crop is clipped at its own percentiles, then given mean 0 and deviation 1, "
        "as for MR; or clip_z_score: the same intensities for every scan, as for CT, with low, high, mean and std in "
        "the scans' units",
    )
    low: float = Field(0.5, ge=0, lt=100, description="percentile of the crop, 0 to 100, to clip at from below")
    high: float = Field(99.5, gt=0, le=100, description="percentile of the crop, 0 to 100, to clip at from above")

    def apply(self, crop: Tensor, inside: Tensor) -> Tensor:
        """The crop, normalised; zero where not `inside` the scan, or everywhere where the crop is constant."""
        values = crop[inside]
        if not values.numel():
            return torch.zeros_like(crop)
        last = values.numel() - 1
        low, high = (values.kthvalue(1 + round(p / 100 * last)).values for p in (self.low, self.high))
        clipped = crop.clamp(low, high)
        values = clipped[inside]
        std, mean = torch.std_mean(values.double(), correction=0)
        return ((clipped - mean.float()) / std.float().clamp_min(1e-6 * (1 + mean.abs().float()))) * inside


Normalisation = Annotated[ClipZScore | CropPercentiles, Field(discriminator="kind")]


class Preprocessing(BaseModel):
    """How a model wants to see a scan; fixed in its file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    crop: Index3 = Field(description="voxels of a crop along D, H, W")
    spacing: tuple[float, float, float] = Field(description="edge of a crop's voxel along D, H, W, mm")
    normalisation: Normalisation = Field(description="how intensities become numbers about 0")
    zoom: tuple[float, float] = Field(
        (1.0, 1.0),
        description="finest and coarsest spacing of a crop that is zoomed, as multiples of the spacing; 1, 1: no zoom",
    )
    mirror: bool = Field(
        False,
        description="true: the crop mirrored left to right is predicted too, and averaged, without an initial mask",
    )
    margin: float = Field(
        0.125, ge=0, lt=0.5, description="share of the crop's edge, at each side, where a click asks for a new crop"
    )

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if min(self.crop) < 1 or min(self.spacing) <= 0:
            raise ValueError(f"crop {self.crop} and spacing {self.spacing} must be positive")
        if not 0 < self.zoom[0] <= 1 <= self.zoom[1]:
            raise ValueError(f"zoom: a finest spacing up to 1 and a coarsest from 1, not {self.zoom}")
        return self

    def zoomed(self, scale: float) -> Preprocessing:
        """The same with a spacing `scale` times as coarse, and so a field as many times as wide."""
        d, h, w = (edge * scale for edge in self.spacing)
        return self if scale == 1 else self.model_copy(update={"spacing": (d, h, w)})

    @property
    def field_mm(self) -> tuple[float, float, float]:
        """What a crop spans along D, H, W, mm."""
        d, h, w = (n * s for n, s in zip(self.crop, self.spacing, strict=True))
        return d, h, w
