"""Training crops: a lesion's clicks, the crop that inference would plan for them, moved and disturbed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ..frame import Frame, Preprocessing
from ..prompts import Click
from ..simulation import counted_rng, random_clicks
from ..volume import FloatArray, Volume


class Augmentation(BaseModel):
    """How far a training crop may differ from the one inference would plan; all of it drawn uniformly."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    zoom: float = Field(1.25, ge=1, description="largest enlargement, and its inverse the largest reduction")
    stretch: float = Field(1.1, ge=1, description="the same for each axis alone")
    turn_degrees: float = Field(20, ge=0, description="largest turn about each axis")
    shift: float = Field(0.08, ge=0, description="largest shift along each axis, as a share of the crop's edge")
    flips: tuple[bool, bool, bool] = Field((False, False, True), description="which of D, H, W may be mirrored")
    gain: float = Field(0.2, ge=0, description="largest relative change of contrast after normalisation")
    offset: float = Field(0.2, ge=0, description="largest change of brightness, in standard deviations")
    noise: float = Field(0.1, ge=0, description="largest deviation of added noise")
    hide: float = Field(0.0, ge=0, le=1, description="how often all but a box around the crop's middle is hidden")
    fill: float = Field(0.0, ge=0, le=1, description="how often what lies outside a scan is filled from another scan")


class Example(NamedTuple):
    """One training crop.

    Attributes:
        image: `[1, D, H, W]` float32, normalised.
        truth: `[D, H, W]` int64, 1 on the lesion.
        clicks: `[N, 3]` float32, (d, h, w).
    """

    image: Tensor
    truth: Tensor
    clicks: Tensor


@dataclass(frozen=True, eq=False)
class Labelled:
    """A scan in memory with its lesion `[X, Y, Z]`."""

    volume: Volume
    lesion: npt.NDArray[np.bool_]


class CropSampler:
    """Draws example number `index` as a function of `(seed, index)` alone.

    Args:
        cohorts: scans of each cohort.
        shares: how often each cohort is drawn.
        preprocessing: the model's.
        augmentation: how crops differ from inference's.
        seed: of all draws.
    """

    def __init__(
        self,
        cohorts: Sequence[Sequence[Labelled]],
        shares: Sequence[float],
        preprocessing: Preprocessing,
        augmentation: Augmentation,
        seed: int = 0,
    ):
        self.cohorts = cohorts
        self.shares = np.asarray(shares, dtype=np.float64) / np.sum(shares)
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.seed = seed

    def example(self, index: int, clicks: int) -> Example:
        """Example `index` with `clicks` clicks on its lesion."""
        rng = counted_rng(self.seed, "training crop", index)
        cohort = self.cohorts[int(rng.choice(len(self.cohorts), p=self.shares))]
        scan = cohort[int(rng.integers(len(cohort)))]
        frame, kept = self._frame(scan, random_clicks(scan.lesion, clicks, rng), rng)
        values, inside = frame.extract(scan.volume.array)
        share, _ = frame.extract(scan.lesion)
        if rng.random() < self.augmentation.hide:
            inside = inside & self._box(rng)
        truth = ((share > 0.5) & inside).long()
        if rng.random() < self.augmentation.fill:
            values, inside = self._fill(values, inside, rng)
        image = self.preprocessing.normalisation.apply(values, inside)
        image = self._disturb(image, rng) * inside
        return Example(image[None], truth, frame.points(kept)[0])

    def batch(self, start: int, size: int, clicks: int) -> Example:
        """Examples `start` to `start + size`, stacked along a new first axis."""
        image, truth, points = zip(*(self.example(i, clicks) for i in range(start, start + size)), strict=True)
        return Example(torch.stack(image), torch.stack(truth), torch.stack(points))

    def _frame(self, scan: Labelled, clicks: list[Click], rng: np.random.Generator) -> tuple[Frame, list[Click]]:
        """Inference's crop for the clicks, moved; clicks that one crop cannot hold become the first one, repeated."""
        near = Frame.around(scan.volume.grid, clicks[:1], self.preprocessing)
        clicks = [click if near.holds(click, self.preprocessing.margin) else clicks[0] for click in clicks]
        frame = Frame.following(scan.volume.grid, clicks, self.preprocessing)
        return frame.moved(self._motion(rng)), clicks

    def _box(self, rng: np.random.Generator) -> Tensor:
        """A box around the crop's middle, bool `[D, H, W]`: a scan cut as tightly as some cohorts are.

        Without it, how much of a crop lies inside its scan tells the cohort, and so how large a lesion to draw.
        """
        box = torch.zeros(self.preprocessing.crop, dtype=torch.bool)
        low, high = (rng.uniform(0.05, 0.5, 3) for _ in range(2))
        d, h, w = (
            slice(round(n * (0.5 - a)), round(n * (0.5 + b)) + 1)
            for n, a, b in zip(self.preprocessing.crop, low, high, strict=True)
        )
        box[d, h, w] = True
        return box

    def _fill(self, values: Tensor, inside: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """What lies outside the scan, from anywhere in another, brought to the same mean and deviation."""
        cohort = self.cohorts[int(rng.integers(len(self.cohorts)))]
        other = cohort[int(rng.integers(len(cohort)))].volume
        centre = [int(rng.integers(n)) for n in other.shape]
        strange, there = Frame.centred(other.grid, centre, self.preprocessing).extract(other.array)
        new = there & ~inside
        if int(inside.sum()) < 2 or int(new.sum()) < 2:
            return values, inside
        ratio = values[inside].std() / strange[new].std().clamp_min(1e-6)
        matched = (strange - strange[new].mean()) * ratio + values[inside].mean()
        return torch.where(new, matched, values), inside | new

    def _motion(self, rng: np.random.Generator) -> FloatArray:
        settings = self.augmentation
        matrix = np.eye(4)
        log_zoom = rng.uniform(-1, 1) * np.log(settings.zoom) + rng.uniform(-1, 1, 3) * np.log(settings.stretch)
        mirrored = np.where(np.array(settings.flips) & (rng.random(3) < 0.5), -1.0, 1.0)
        matrix[:3, :3] = _turn(np.radians(rng.uniform(-1, 1, 3) * settings.turn_degrees)) * (
            np.exp(log_zoom) * mirrored
        )
        matrix[:3, 3] = rng.uniform(-1, 1, 3) * settings.shift * np.array(self.preprocessing.crop)
        return matrix

    def _disturb(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        settings = self.augmentation
        gain = float(np.exp(rng.uniform(-1, 1) * settings.gain))
        offset = float(rng.uniform(-1, 1) * settings.offset)
        noise = torch.from_numpy(rng.standard_normal(tuple(image.shape), dtype=np.float32))
        return image * gain + offset + noise * float(rng.uniform(0, settings.noise))


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
