"""Region growing from clicks: the baseline that a model has to beat on made targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import PromptError
from ..masks import Mask
from ..prompts import Click, Prompt
from ..volume import FloatArray, Volume

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class GrowingSettings:
    """How a region grows.

    Of the settings of `benchmarks/generality.py --tune-baseline` the defaults are within 0.005 of the best mean Dice,
    and grow further than those.

    Attributes:
        tolerance: how far values may lie from a click's, of the range within reach (1st to 99th percentile).
        smoothing: width of a Gaussian over the scan beforehand, voxels; 0: none.
        reach_mm: how far from a foreground click a region grows.
    """

    tolerance: float = 0.15
    smoothing: float = 0.7
    reach_mm: float = 15.0


@dataclass(frozen=True, eq=False)
class GrownRegion:
    """The answer of region growing.

    Attributes:
        mask: on the scan's grid.
        predicted_iou: None: it predicts none.
    """

    mask: Mask
    predicted_iou: None = None


class RegionGrowing:
    """ITK's ConnectedThreshold from each foreground click, holes filled; an answer to clicks as a `Predictor` gives.

    A click's value is the median of the voxels around it.
    Of two clicks of different sides the nearer one decides, so that background clicks cut a region that leaked.

    Args:
        settings: how it grows.
    """

    def __init__(self, settings: GrowingSettings | None = None):
        self.settings = settings or GrowingSettings()
        self._volume: Volume | None = None

    def set_volume(self, volume: Volume) -> None:
        """Turn to a scan."""
        self._volume = volume

    def predict(self, prompts: Sequence[Prompt]) -> GrownRegion:
        """The region of a list of clicks.

        Raises:
            PromptError: no scan set, no foreground click, or a prompt that is no click.
        """
        if self._volume is None:
            raise PromptError("no scan yet: call set_volume before predict")
        others = sorted({type(prompt).__name__ for prompt in prompts if not isinstance(prompt, Click)})
        if others:
            raise PromptError(f"region growing takes clicks only, not {', '.join(others)}")
        sides = {positive: [p.places[0] for p in prompts if p.positive is positive] for positive in (True, False)}
        if not sides[True]:
            raise PromptError("region growing needs a foreground click; give one")
        grid = self._volume.grid
        clicks = np.array(sides[True])
        reach = np.ceil(self.settings.reach_mm / grid.spacing).astype(int)
        low = np.maximum(clicks.min(axis=0) - reach, 0)
        high = np.minimum(clicks.max(axis=0) + reach + 1, grid.shape)
        box = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
        places = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), axis=-1)
        near = _distance(places, clicks, grid.spacing)
        region = self._grown(np.asarray(self._volume.array)[box], clicks - low) & (near <= self.settings.reach_mm)
        if sides[False]:
            region &= near < _distance(places, np.array(sides[False]), grid.spacing)
        x, y, z = low.tolist()
        return GrownRegion(Mask(region, (x, y, z), grid))

    def _grown(self, values: npt.NDArray[Any], clicks: npt.NDArray[np.int64]) -> Bools:
        """The regions of some voxels in an array `[X, Y, Z]`, holes filled; each click at least."""
        import SimpleITK
        from scipy import ndimage

        smooth = ndimage.gaussian_filter(values.astype(np.float32), self.settings.smoothing)
        image = SimpleITK.GetImageFromArray(smooth.T)  # ITK's first axis is the array's last
        low, high = np.percentile(smooth, (1, 99))
        tolerance = self.settings.tolerance * float(high - low)
        grown = np.zeros(values.shape, bool)
        for click in clicks:
            around = tuple(slice(max(place - 1, 0), place + 2) for place in click.tolist())
            value = float(np.median(smooth[around]))
            found = SimpleITK.ConnectedThreshold(
                image, seedList=[click.tolist()], lower=value - tolerance, upper=value + tolerance
            )
            grown |= SimpleITK.GetArrayFromImage(found).T > 0
        grown[tuple(clicks.T)] = True
        filled: Bools = ndimage.binary_fill_holes(grown)
        return filled


def _distance(places: npt.NDArray[np.int64], clicks: npt.NDArray[np.int64], spacing: FloatArray) -> FloatArray:
    """Millimetres from each place `[..., 3]` to the nearest click."""
    from scipy.spatial import KDTree

    nearest, _ = KDTree(clicks * spacing).query(places * spacing)
    return np.asarray(nearest)
