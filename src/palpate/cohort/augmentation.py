"""What a training crop may be: its place, motion and disturbance, and the clicks in it."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from ..randomness import counted_rng
from ..simulation import KINDS
from ..volume import FloatArray, Index3

Range = tuple[float, float]
Three = tuple[float, float, float]


class Augmentation(BaseModel):
    """How a training crop may differ from the one inference would plan. A share is how often a change is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    lesion_share: float = Field(
        1.0, ge=0, le=1, description="how often a crop is centred on a lesion voxel; else on any"
    )
    zoom: Range = Field((0.8, 1.25), description="smallest and largest magnification")
    zoom_share: float = Field(1.0, ge=0, le=1)
    zoom_in_plane: Range = Field((1.0, 1.0), description="the same, within slices (H and W) alone")
    zoom_in_plane_share: float = Field(0.0, ge=0, le=1)
    stretch: float = Field(1.1, ge=1, description="largest magnification of each axis by itself, and its inverse")
    turn_degrees: Three = Field((20.0, 20.0, 20.0), description="largest turn about D, H and W")
    turn_share: float = Field(1.0, ge=0, le=1)
    quarter_turns: float = Field(
        0.0, ge=0, le=1, description="how often it is turned by 90, 180 or 270° in the D-H plane"
    )
    flips: Three = Field((0.0, 0.0, 0.5), description="how often D, H and W are mirrored")
    shift: float = Field(0.08, ge=0, description="largest shift along each axis, as a share of the crop's edge")
    intensity_shift: float = Field(0.0, ge=0, description="largest shift before normalisation, in the scan's units")
    intensity_shift_share: float = Field(0.5, ge=0, le=1)
    gain: float = Field(0.2, ge=0, description="largest relative change of contrast after normalisation")
    offset: float = Field(0.2, ge=0, description="largest change of brightness after it, in standard deviations")
    noise: float = Field(0.1, ge=0, description="largest deviation of noise added after it")
    resize_share: float = Field(
        0.0, ge=0, le=1, description="how often a crop is made wider or narrower to suit the lesion, as zooming does"
    )
    resize: Range = Field((0.5, 8.0), description="narrowest and widest such field, times the model's own")
    occupied: Range = Field(
        (0.15, 1.3), description="smallest and largest diameter of the lesion in such a crop, as a share of its edge"
    )
    hide: float = Field(0.0, ge=0, le=1, description="how often all but a box around the crop's middle is hidden")
    fill: float = Field(0.0, ge=0, le=1, description="how often what lies outside a scan is filled from another scan")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("zoom", "zoom_in_plane", "resize", "occupied"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}: smallest and largest magnification, above zero, in order; not {low}, {high}")
        return self

    def motion(self, crop: Index3, rng: np.random.Generator) -> FloatArray:
        """Turn, zoom, flip and shift as one affine `[4, 4]`, from a crop's voxels (d, h, w) to the planned crop's."""
        # All is drawn whether used or not, so that one setting does not change what another draws.
        zoom, in_plane = rng.uniform(*self.zoom), rng.uniform(*self.zoom_in_plane)
        stretch, turn = rng.uniform(-1, 1, 3), rng.uniform(-1, 1, 3)
        zoomed, flattened, turned, quarter = rng.random(4)
        mirrored, quarters = rng.random(3), int(rng.integers(1, 4))
        scale = np.exp(stretch * np.log(self.stretch))
        if zoomed < self.zoom_share:
            scale = scale / zoom
        if flattened < self.zoom_in_plane_share:
            scale = scale / (1, in_plane, in_plane)
        scale = np.where(mirrored < np.array(self.flips), -scale, scale)
        angles = np.radians(turn * self.turn_degrees) if turned < self.turn_share else np.zeros(3)
        matrix = np.eye(4)
        matrix[:3, :3] = _turn(angles) * scale
        if quarter < self.quarter_turns:
            matrix[:3, :3] = matrix[:3, :3] @ np.rint(_turn(np.array([0, 0, quarters * np.pi / 2])))
        matrix[:3, 3] = rng.uniform(-1, 1, 3) * self.shift * np.array(crop)
        return matrix

    def field(self, diameter: float, rng: np.random.Generator) -> float:
        """How many times as wide as the model's own a crop is: 1, or what suits a lesion of a diameter.

        Args:
            diameter: of a ball of the lesion's volume, as a share of the model's own crop's edge.
            rng: of this crop.
        """
        drawn, place = rng.random(2)
        if drawn >= self.resize_share:
            return 1.0
        low, high = np.clip([diameter / self.occupied[1], diameter / self.occupied[0]], *self.resize)
        return float(np.exp(np.log(low) + place * (np.log(high) - np.log(low))))

    def disturb(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """A normalised crop with another contrast and brightness, and noise."""
        gain = float(np.exp(rng.uniform(-1, 1) * self.gain))
        offset = float(rng.uniform(-1, 1) * self.offset)
        deviation = float(rng.uniform(0, self.noise))
        if deviation == 0.0:
            return image * gain + offset
        noise = torch.from_numpy(rng.standard_normal(tuple(image.shape), dtype=np.float32))
        return image * gain + offset + noise.to(image.device) * deviation


class Prompts(BaseModel):
    """The clicks of a training crop."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    lesion: tuple[int, int] = Field(
        (10, 10),
        description="fewest and most clicks on the lesion, drawn with replacement; half the steps take the fewest. A "
        "network with dense prompts is told the first alone, and then what corrects it (rounds)",
    )
    anywhere: int = Field(
        20,
        ge=0,
        description="further places drawn anywhere in the crop, as the paper's training adds; a network with dense "
        "prompts is not told them",
    )
    as_inference: bool = Field(
        False, description="the first click is the voxel that the crop was planned around, the others lie in its margin"
    )
    rounds: int = Field(
        1,
        ge=1,
        description="most prompts of a simulated user, who corrects what the network got wrong; 1: no corrections",
    )
    kinds: dict[str, float] = Field(
        {"click": 1.0}, description="how often the simulated user begins with each kind of prompt"
    )
    strokes: float = Field(
        0.0, ge=0, le=1, description="how often they correct by a stroke, paint or a lasso; else by a click"
    )
    heed: float = Field(
        0.0, ge=0, description="weight of the loss at the voxels that were named, beside the whole crop's"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 1 <= self.lesion[0] <= self.lesion[1]:
            raise ValueError(f"lesion clicks: fewest and most, at least 1, in order; not {self.lesion}")
        unknown = sorted(self.kinds.keys() - set(KINDS))
        if unknown or not self.kinds or min(self.kinds.values()) < 0 or sum(self.kinds.values()) <= 0:
            raise ValueError(f"kinds: shares of {', '.join(KINDS)}, not all zero; not {self.kinds}")
        if self.strokes and self.rounds == 1:
            raise ValueError("strokes: who corrects nothing corrects by no strokes; give rounds above 1")
        return self

    def turns(self, seed: int, number: int) -> int:
        """Prompts of the simulated user on example `number`: one in two of five, else two to `rounds`."""
        rng = counted_rng(seed, "rounds of an example", number)
        return 1 if self.rounds == 1 or rng.random() < 0.4 else int(rng.integers(2, self.rounds + 1))

    def kind(self, seed: int, number: int) -> str:
        """Which kind of prompt the simulated user begins example `number` with."""
        rng = counted_rng(seed, "kind of an example", number)
        shares = np.array(list(self.kinds.values()), dtype=np.float64)
        return list(self.kinds)[int(rng.choice(len(shares), p=shares / shares.sum()))]

    def count(self, seed: int, step: int) -> int:
        """Lesion clicks of each crop of a step: one number a step, so that its crops stack."""
        fewest, most = self.lesion
        rng = counted_rng(seed, "clicks of a step", step)
        return fewest if fewest == most or rng.random() < 0.5 else int(rng.integers(fewest + 1, most + 1))


def _turn(angles: FloatArray) -> FloatArray:
    """A rotation `[3, 3]` about the three axes in turn, by radians."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = (k for k in range(3) if k != axis)
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ step
    return matrix
