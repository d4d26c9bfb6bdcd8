"""How training crops and their prompts are drawn: place, motion, intensities, clicks."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from ..randomness import counted_rng
from ..simulation import FIRST_PROMPT_KINDS
from ..volume import FloatArray, Index3
from .intensity import IntensityMaps

Range = tuple[float, float]
Three = tuple[float, float, float]
FINEST = 3.0  # voxels of the crop that a scan's voxel spans at most, where the target is made: no finer detail is there


class Augmentation(BaseModel):
    """How a training crop may differ from the one that inference would plan."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    target_prob: float = Field(
        1.0, ge=0, le=1, description="probability, 0 to 1, that a crop is centred on a target voxel; else on any voxel"
    )
    zoom: Range = Field((0.8, 1.25), description="smallest and largest magnification of the crop; 1: none")
    zoom_prob: float = Field(1.0, ge=0, le=1, description="probability, 0 to 1, of such a zoom")
    zoom_in_plane: Range = Field(
        (1.0, 1.0), description="smallest and largest magnification within slices (H and W) alone"
    )
    zoom_in_plane_prob: float = Field(0.0, ge=0, le=1, description="probability, 0 to 1, of a zoom within slices")
    stretch: float = Field(
        1.1, ge=1, description="each axis by itself is magnified by up to this factor, or by its inverse; 1: not"
    )
    rotation_degrees: Three = Field((20.0, 20.0, 20.0), description="largest rotation about D, H and W, degrees")
    rotation_prob: float = Field(1.0, ge=0, le=1, description="probability, 0 to 1, of such a rotation")
    rotate90_prob: float = Field(
        0.0, ge=0, le=1, description="probability, 0 to 1, of a rotation by 90, 180 or 270 degrees in the D-H plane"
    )
    flip_prob: Three = Field((0.0, 0.0, 0.5), description="probabilities, 0 to 1, that D, H and W are mirrored")
    translation: float = Field(
        0.08, ge=0, description="largest translation along each axis, as a fraction of the crop's edge"
    )
    intensity_shift: float = Field(
        0.0, ge=0, description="largest constant added or subtracted before normalisation, in the scans' units; 0: none"
    )
    intensity_shift_prob: float = Field(
        0.5, ge=0, le=1, description="probability, 0 to 1, that intensity_shift is added"
    )
    contrast: float = Field(
        0.2,
        ge=0,
        description="intensities are multiplied, after normalisation, by up to e to this power or its inverse; 0: not",
    )
    brightness: float = Field(
        0.2,
        ge=0,
        description="largest constant added or subtracted after normalisation, in standard deviations; 0: none",
    )
    noise: float = Field(
        0.1, ge=0, description="largest standard deviation of Gaussian noise added after normalisation; 0: none"
    )
    resize_prob: float = Field(
        0.0,
        ge=0,
        le=1,
        description="probability, 0 to 1, that a crop's field of view is fitted to the target's size, as zooming does",
    )
    resize: Range = Field(
        (0.5, 8.0), description="narrowest and widest such field of view, as multiples of the model's own"
    )
    occupied: Range = Field(
        (0.15, 1.3), description="smallest and largest diameter of the target in such a crop, as fractions of its edge"
    )
    mask_out_prob: float = Field(
        0.0, ge=0, le=1, description="probability, 0 to 1, that all but a box around the crop's centre is masked out"
    )
    background_paste_prob: float = Field(
        0.0, ge=0, le=1, description="probability, 0 to 1, that voxels outside the scan are pasted from another scan"
    )
    axis_order_prob: float = Field(
        0.0,
        ge=0,
        le=1,
        description="probability, 0 to 1, that a crop's axes are put in a random order, each forwards or backwards, as "
        "arrays without orientation come",
    )
    intensity_maps: IntensityMaps = Field(
        IntensityMaps(), description="how intensities are remapped at random, before normalisation"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("zoom", "zoom_in_plane", "resize", "occupied"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}: smallest and largest magnification, above zero, in order; not {low}, {high}")
        return self

    def motion(self, crop: Index3, rng: np.random.Generator) -> FloatArray:
        """Rotation, zoom, flip and translation as one affine `[4, 4]`: a crop's (d, h, w) to the planned crop's."""
        # All is drawn whether used or not, so that one setting does not change what another draws.
        zoom, in_plane = rng.uniform(*self.zoom), rng.uniform(*self.zoom_in_plane)
        stretch, rotation = rng.uniform(-1, 1, 3), rng.uniform(-1, 1, 3)
        zoomed, flattened, rotated, quarter = rng.random(4)
        mirrored, quarters = rng.random(3), int(rng.integers(1, 4))
        scale = np.exp(stretch * np.log(self.stretch))
        if zoomed < self.zoom_prob:
            scale = scale / zoom
        if flattened < self.zoom_in_plane_prob:
            scale = scale / (1, in_plane, in_plane)
        scale = np.where(mirrored < np.array(self.flip_prob), -scale, scale)
        angles = np.radians(rotation * self.rotation_degrees) if rotated < self.rotation_prob else np.zeros(3)
        matrix = np.eye(4)
        matrix[:3, :3] = _rotation(angles) * scale
        if quarter < self.rotate90_prob:
            matrix[:3, :3] = matrix[:3, :3] @ np.rint(_rotation(np.array([0, 0, quarters * np.pi / 2])))
        matrix[:3, 3] = rng.uniform(-1, 1, 3) * self.translation * np.array(crop)
        return matrix

    def field(self, diameter: float, rng: np.random.Generator) -> float:
        """A crop's field of view over the model's own: 1, or one that suits a target of a diameter.

        Args:
            diameter: of a ball of the target's volume, over the edge of the model's own crop.
            rng: of this crop.
        """
        low, high = np.clip([diameter / self.occupied[1], diameter / self.occupied[0]], *self.resize)
        return self._field_between(low, high, rng)

    def field_of_made(self, voxel: float, extent: float, rng: np.random.Generator) -> float:
        """A crop's field of view over the model's own, where a target is yet to be made: 1, or any that suits the scan.

        The target's size is drawn after it, as a share of the crop, so that neither tells the other.

        Args:
            voxel: edge of the scan's voxel over that of the model's.
            extent: longest edge of the scan over that of the model's own crop.
            rng: of this crop.
        """
        low = np.clip(voxel / FINEST, *self.resize)
        return self._field_between(low, max(low, min(self.resize[1], extent)), rng)

    def _field_between(self, low: float, high: float, rng: np.random.Generator) -> float:
        drawn, place = rng.random(2)
        if drawn >= self.resize_prob:
            return 1.0
        return float(np.exp(np.log(low) + place * (np.log(high) - np.log(low))))

    def axis_order(self, spacing: Three, rng: np.random.Generator) -> FloatArray:
        """A random order of a crop's axes, each forwards or backwards, as an affine `[4, 4]` in crop voxels.

        Args:
            spacing: of the crop along D, H, W, which stays that of each place in the order.
            rng: of this crop.
        """
        matrix, drawn = np.eye(4), rng.random()
        order, signs = rng.permutation(3), rng.choice((-1.0, 1.0), 3)
        if drawn < self.axis_order_prob:
            matrix[:3, :3] = np.eye(3)[order] * signs * np.array(spacing) / np.array(spacing)[:, None]
        return matrix

    def perturb(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """A normalised crop `[D, H, W]` with another contrast and brightness, and with noise."""
        factor = float(np.exp(rng.uniform(-1, 1) * self.contrast))
        constant = float(rng.uniform(-1, 1) * self.brightness)
        deviation = float(rng.uniform(0, self.noise))
        if deviation == 0.0:
            return image * factor + constant
        noise = torch.from_numpy(rng.standard_normal(tuple(image.shape), dtype=np.float32))
        return image * factor + constant + noise.to(image.device) * deviation


class PromptSampling(BaseModel):
    """How the prompts of a training crop are drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    target_clicks: tuple[int, int] = Field(
        (10, 10),
        description="fewest and most clicks on the target, drawn with replacement; half the steps take the fewest. A "
        "network with dense prompts gets the first click alone, and then corrections (rounds)",
    )
    random_clicks: int = Field(
        20,
        ge=0,
        description="further clicks drawn anywhere in the crop, as the paper's training adds; a network with dense "
        "prompts gets none of them",
    )
    as_inference: bool = Field(
        False,
        description="true: the first click is the voxel that the crop was planned around, as when the model is used; "
        "false: all clicks are drawn alike",
    )
    rounds: int = Field(
        1,
        ge=1,
        description="most prompts of a simulated user, who corrects the largest error; 1: no corrections",
    )
    first_prompt_prob: dict[str, float] = Field(
        {"click": 1.0},
        description="how often each kind of first prompt is drawn, as weights: click, box, slice box, scribble, paint, "
        "lasso, initial mask; kinds left out are not drawn",
    )
    stroke_prob: float = Field(
        0.0,
        ge=0,
        le=1,
        description="probability, 0 to 1, that a correction is a scribble, paint or a lasso; else a click",
    )
    consistency_weight: float = Field(
        0.0,
        ge=0,
        description="weight of the prompt-consistency loss, cross-entropy at the prompts' own voxels; 0: none",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 1 <= self.target_clicks[0] <= self.target_clicks[1]:
            raise ValueError(f"target_clicks: fewest and most, at least 1, in order; not {self.target_clicks}")
        unknown = sorted(self.first_prompt_prob.keys() - set(FIRST_PROMPT_KINDS))
        if (
            unknown
            or not self.first_prompt_prob
            or min(self.first_prompt_prob.values()) < 0
            or sum(self.first_prompt_prob.values()) <= 0
        ):
            raise ValueError(
                f"first_prompt_prob: of {', '.join(FIRST_PROMPT_KINDS)}, not all zero; not {self.first_prompt_prob}"
            )
        if self.stroke_prob and self.rounds == 1:
            raise ValueError("stroke_prob: without corrections there are no strokes; set rounds above 1")
        return self

    def num_rounds(self, seed: int, number: int) -> int:
        """Prompts of the simulated user on example `number`: 1 with probability 0.4, else 2 to `rounds`."""
        rng = counted_rng(seed, "rounds of an example", number)
        return 1 if self.rounds == 1 or rng.random() < 0.4 else int(rng.integers(2, self.rounds + 1))

    def first_kind(self, seed: int, number: int) -> str:
        """The kind of the first prompt on example `number`."""
        rng = counted_rng(seed, "kind of an example", number)
        weights = np.array(list(self.first_prompt_prob.values()), dtype=np.float64)
        return list(self.first_prompt_prob)[int(rng.choice(len(weights), p=weights / weights.sum()))]

    def num_clicks(self, seed: int, step: int) -> int:
        """Target clicks of each crop of a step: one number for all of them, so that they stack."""
        fewest, most = self.target_clicks
        rng = counted_rng(seed, "clicks of a step", step)
        return fewest if fewest == most or rng.random() < 0.5 else int(rng.integers(fewest + 1, most + 1))


def _rotation(angles: FloatArray) -> FloatArray:
    """A rotation `[3, 3]` about the three axes one after the other, by radians."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = (k for k in range(3) if k != axis)
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ step
    return matrix
