"""The synthetic lesion: its shape, and a place for it in an organ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..randomness import counted_rng
from ..volume import FloatArray
from .body import name_at
from .shapes import Tissue, Values, boxed

Site = Literal["liver", "lung", "kidney"]

LESION_HU = {"liver": 55.0, "lung": 40.0, "kidney": 60.0}
# A tumour of the kidney grows out of it; the others are drawn wholly inside their organ.
_GROWS_INTO = {"liver": {"liver"}, "lung": {"lung"}, "kidney": {"kidney", "fat", "bowel"}}


@dataclass(frozen=True)
class Blob:
    """A smooth irregular lesion, star-shaped around its centre: a turned ellipsoid with bumps and dents."""

    centre: FloatArray
    radius: float
    turned: FloatArray
    bumps: FloatArray
    heights: FloatArray

    def reach(self, directions: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """From the centre to the border along unit directions `[..., 3]`, mm."""
        ellipsoid = 1 / np.linalg.norm(directions @ self.turned.astype(directions.dtype), axis=-1)
        closeness = directions @ self.bumps.T.astype(directions.dtype)
        bumpy = 1 + np.exp(4 * (closeness - 1)) @ self.heights.astype(directions.dtype)
        return np.asarray(directions.dtype.type(self.radius) * ellipsoid * bumpy)

    def surface(self, margin: float = 0.0) -> FloatArray:
        """Points spread over the border, `margin` mm outside of it, `[N, 3]`."""
        return np.asarray(self.centre + _DIRECTIONS * (self.reach(_DIRECTIONS) + margin)[:, None])

    def tissue(self, hu: float) -> Tissue:
        """The lesion, to be painted."""

        def distance(x: Values, y: Values, z: Values) -> Values:
            offsets = np.stack(
                np.broadcast_arrays(*[v - np.float32(c) for v, c in zip((x, y, z), self.centre, strict=True)]), -1
            )
            length = np.maximum(np.linalg.norm(offsets, axis=-1), np.float32(1e-6))
            return np.asarray(length - self.reach(offsets / length[..., None]), dtype=np.float32)

        points = self.surface(1)
        return boxed("lesion", hu, distance, points.min(axis=0), points.max(axis=0))


def _sphere(count: int) -> FloatArray:
    """Directions spread evenly over the sphere (a Fibonacci spiral), `[count, 3]`."""
    z = 1 - (2 * np.arange(count) + 1) / count
    turn = np.pi * (3 - math.sqrt(5)) * np.arange(count)
    return np.stack([np.sqrt(1 - z * z) * np.cos(turn), np.sqrt(1 - z * z) * np.sin(turn), z], axis=1)


_GAP_MM = 3.0
_DIRECTIONS = _sphere(800)


def _blob(seed: int, diameter: float) -> Blob:
    """A lesion of the volume of a sphere of `diameter` mm, around the origin."""
    rng = counted_rng(seed, "lesion shape", 0)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    bumps = rng.normal(size=(6, 3))
    bumps /= np.linalg.norm(bumps, axis=1)[:, None]
    blob = Blob(np.zeros(3), 1.0, turn / rng.uniform(0.8, 1.2, 3), bumps, rng.uniform(-0.3, 0.3, 6))
    mean_cube = float((blob.reach(_DIRECTIONS) ** 3).mean())
    return Blob(blob.centre, diameter / 2 / mean_cube ** (1 / 3), blob.turned, blob.bumps, blob.heights)


def placed(seed: int, body: Sequence[Tissue], site: Site, diameter: float) -> Blob | None:
    """The lesion at the first random place of its organ where it grows into nothing that it should not."""
    blob = _blob(seed, diameter)
    organs = [tissue for tissue in body if tissue.name == site]
    low = np.min([organ.low for organ in organs], axis=0)
    high = np.max([organ.high for organ in organs], axis=0)
    tries = counted_rng(seed, f"lesion place in {site}", 0).uniform(low, high, (600, 3))
    for centre in tries[name_at(body, tries) == site]:
        here = Blob(centre, blob.radius, blob.turned, blob.bumps, blob.heights)
        border = here.surface(_GAP_MM)
        # A few points rule out most places.
        if all(set(name_at(body, points).tolist()) <= _GROWS_INTO[site] for points in (border[::20], border)):
            return here
    return None
