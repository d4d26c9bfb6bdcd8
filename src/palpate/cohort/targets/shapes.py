"""Shapes that synthetic targets have: functions of place, below zero inside, about one unit in radius."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.float32]
Shape = Callable[[Places], npt.NDArray[np.float32]]  # [..., 3] to about the distance from the border, in radii
BUMPS = 1.3  # the most that bumps lengthen a radius
REACH = 1.6  # radii within which every shape lies


def random_shape(rng: np.random.Generator) -> Shape:
    """One of the kinds of shape, as likely as the others, turned at random."""
    kinds = (smooth_star, spiculated_star, metaballs, warped_ellipsoid, tube)
    shape = kinds[int(rng.integers(len(kinds)))](rng)
    turned = np.asarray(np.linalg.qr(rng.normal(size=(3, 3)))[0], dtype=np.float32)
    return lambda places: shape(places @ turned)


def smooth_star(rng: np.random.Generator) -> Shape:
    """A star-convex shape with few wide bumps and dents on an ellipsoid."""
    waves = _waves(rng, count=8, highest=4.0, decay=1.2)
    return _star(rng.uniform(0.6, 1.0, 3), waves, float(rng.uniform(0.05, 0.35)), _no_spikes)


def spiculated_star(rng: np.random.Generator) -> Shape:
    """A star-convex shape, rough, with thin spikes."""
    waves = _waves(rng, count=10, highest=9.0, decay=0.8)
    axes = _directions(rng, int(rng.integers(6, 24))).T
    heights = np.asarray(rng.uniform(0.15, 0.6, axes.shape[1]), dtype=np.float32)
    sharpness = np.float32(rng.uniform(40, 160))

    def spikes(directions: Places) -> npt.NDArray[np.float32]:
        return np.asarray(np.exp(sharpness * (directions @ axes - 1)) @ heights)

    return _star(rng.uniform(0.5, 0.8, 3), waves, float(rng.uniform(0.1, 0.3)), spikes)


def metaballs(rng: np.random.Generator) -> Shape:
    """Two to six balls that flow into one another, each beginning within one before it."""
    centres, radii = [np.zeros(3)], [rng.uniform(0.35, 0.6)]
    for _ in range(int(rng.integers(1, 6))):
        parent = int(rng.integers(len(centres)))
        away = _directions(rng, 1)[0] * radii[parent] * rng.uniform(0.7, 1.2)
        centres.append(np.clip(centres[parent] + away, -0.75, 0.75))
        radii.append(rng.uniform(0.2, 0.45))
    middles, sizes = np.array(centres, np.float32), np.array(radii, np.float32)
    sharpness = np.float32(rng.uniform(6, 16))

    def distance(places: Places) -> npt.NDArray[np.float32]:
        total = sum(
            np.exp(-sharpness * (_length(places - middle) - size)) for middle, size in zip(middles, sizes, strict=True)
        )
        return np.asarray(-np.log(np.maximum(total, 1e-12)) / sharpness, dtype=np.float32)

    return distance


def warped_ellipsoid(rng: np.random.Generator) -> Shape:
    """An ellipsoid, up to three times as long as wide, in a space that is bent."""
    radii = np.sort(rng.uniform(1 / 3, 1.0, 3)).astype(np.float32)
    radii[2] = 1.0
    waves = rng.normal(size=(3, 3)).astype(np.float32) * np.float32(rng.uniform(0.8, 2.2))
    phases = rng.uniform(0, 2 * np.pi, 3).astype(np.float32)
    strength = np.float32(rng.uniform(0.05, 0.25))

    def distance(places: Places) -> npt.NDArray[np.float32]:
        bent = places + strength * np.sin(places @ waves + phases)
        return np.asarray((_length(bent / radii) - 1) * radii.min(), dtype=np.float32)

    return distance


def tube(rng: np.random.Generator) -> Shape:
    """A curved tube of changing width, as a vessel or a nerve is."""
    corners = np.array([[-0.95, 0, 0], rng.uniform(-0.9, 0.9, 3), [0.95, *rng.uniform(-0.4, 0.4, 2)]])
    along = np.linspace(0, 1, 14)[:, None]
    points = ((1 - along) ** 2 * corners[0] + 2 * along * (1 - along) * corners[1] + along**2 * corners[2]).astype(
        np.float32
    )
    width = rng.uniform(0.12, 0.3)
    widths = (width * (1 + rng.uniform(0, 0.4) * np.sin(rng.uniform(0, 6) + 5 * along[:, 0]))).astype(np.float32)

    def distance(places: Places) -> npt.NDArray[np.float32]:
        nearest = np.full(places.shape[:-1], np.inf, dtype=np.float32)
        for first, second, radius in zip(points, points[1:], widths, strict=False):
            step = second - first
            share = np.clip((places - first) @ step / max(float(step @ step), 1e-9), 0, 1)
            np.minimum(nearest, _length(places - first - share[..., None] * step) - radius, out=nearest)
        return nearest

    return distance


def _star(
    radii: npt.NDArray[np.float64],
    waves: Callable[[Places], npt.NDArray[np.float32]],
    height: float,
    spikes: Callable[[Places], npt.NDArray[np.float32]],
) -> Shape:
    stretch = np.asarray(1 / radii, dtype=np.float32)

    def distance(places: Places) -> npt.NDArray[np.float32]:
        length = np.maximum(_length(places), np.float32(1e-4))
        directions = np.asarray(places / length[..., None], dtype=np.float32)
        ellipsoid = 1 / _length(directions * stretch)
        bumps = np.clip(1 + np.float32(height) * waves(directions), 0.4, BUMPS)
        return np.asarray(length - np.minimum(ellipsoid * bumps + spikes(directions), REACH), dtype=np.float32)

    return distance


def _waves(
    rng: np.random.Generator, count: int, highest: float, decay: float
) -> Callable[[Places], npt.NDArray[np.float32]]:
    """A random function on the sphere, of waves up to `highest` around it, the finer the lower."""
    frequencies = rng.uniform(1, highest, count)
    vectors = (_directions(rng, count) * frequencies[:, None]).astype(np.float32).T
    phases = rng.uniform(0, 2 * np.pi, count).astype(np.float32)
    heights = frequencies**-decay * rng.normal(size=count)
    heights = (heights / max(float(np.sqrt(np.square(heights).sum() / 2)), 1e-6)).astype(np.float32)
    return lambda directions: np.asarray(np.sin(directions @ vectors + phases) @ heights)


def _directions(rng: np.random.Generator, count: int) -> Places:
    drawn = rng.normal(size=(count, 3))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1)[:, None], dtype=np.float32)


def _length(places: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    return np.asarray(np.sqrt(np.einsum("...i,...i->...", places, places)), dtype=np.float32)


def _no_spikes(directions: Places) -> npt.NDArray[np.float32]:
    return np.zeros(directions.shape[:-1], dtype=np.float32)
