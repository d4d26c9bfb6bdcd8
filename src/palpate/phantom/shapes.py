"""Shapes in the body's millimetres: what a tissue is, and the few forms that tissues have.

A distance takes three coordinates (RAS mm, arrays that broadcast) and gives millimetres to the border, negative inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float32]
Distance = Callable[[Values, Values, Values], Values]
Point = tuple[float, float, float]

FAR = 1e5


@dataclass(frozen=True)
class Tissue:
    """One tissue, painted over what was painted before.

    Attributes:
        name: the organ that it belongs to.
        hu: its Hounsfield units.
        distance: to its border, mm, negative inside.
        low: the smallest coordinates that it can have.
        high: the greatest.
    """

    name: str
    hu: float
    distance: Distance
    low: Point = (-FAR, -FAR, -FAR)
    high: Point = (FAR, FAR, FAR)


def rounded(offsets: Sequence[Values], radii: Sequence[float]) -> Values:
    """Distance to an ellipse or ellipsoid, exact to first order at its surface."""
    level = np.sqrt(sum((o / np.float32(r)) ** 2 for o, r in zip(offsets, radii, strict=True)))
    slope = np.sqrt(sum((o / np.float32(r * r)) ** 2 for o, r in zip(offsets, radii, strict=True)))
    tiny = np.float32(1e-6)  # makes the centre as deep as the shortest radius
    return np.asarray((level - 1) * (level + tiny) / (slope + tiny / np.float32(min(radii))), dtype=np.float32)


def under_skin(depth: float) -> Distance:
    """The trunk without its outer `depth` mm: an elliptic cylinder that is a little fuller below."""

    def distance(x: Values, y: Values, z: Values) -> Values:
        full = 1 - np.float32(0.03) * np.sin(z / np.float32(90))
        return rounded((x / full, y / full), (170, 115)) + np.float32(depth)

    return distance


_CAVITY = under_skin(34)


def ellipsoid(name: str, hu: float, centre: Point, radii: Point, *, cut: Distance | None = None) -> Tissue:
    """An ellipsoid, without what lies outside of `cut`."""

    def distance(x: Values, y: Values, z: Values) -> Values:
        own = rounded([v - np.float32(c) for v, c in zip((x, y, z), centre, strict=True)], radii)
        return own if cut is None else np.maximum(own, cut(x, y, z))

    return boxed(name, hu, distance, np.subtract(centre, radii), np.add(centre, radii))


def pillar(name: str, hu: float, centre: tuple[float, float], radii: tuple[float, float], cut: Distance) -> Tissue:
    """An elliptic cylinder along the body, without what lies outside of `cut`."""

    def distance(x: Values, y: Values, z: Values) -> Values:
        return np.maximum(rounded((x - np.float32(centre[0]), y - np.float32(centre[1])), radii), cut(x, y, z))

    low, high = np.subtract(centre, radii), np.add(centre, radii)
    return boxed(name, hu, distance, (*low, -FAR), (*high, FAR))


def tube(name: str, hu: float, start: npt.ArrayLike, end: npt.ArrayLike, radius: float) -> Tissue:
    """A straight tube with round ends."""
    first, last = np.asarray(start, dtype=np.float32), np.asarray(end, dtype=np.float32)
    along = last - first

    def distance(x: Values, y: Values, z: Values) -> Values:
        offsets = (x - first[0], y - first[1], z - first[2])
        share = sum(o * a for o, a in zip(offsets, along, strict=True)) / np.float32(along @ along)
        share = np.clip(share, 0, 1)
        squares = sum((o - share * a) ** 2 for o, a in zip(offsets, along, strict=True))
        return np.asarray(np.sqrt(squares) - np.float32(radius), dtype=np.float32)

    return boxed(name, hu, distance, np.minimum(first, last) - radius, np.maximum(first, last) + radius)


def boxed(name: str, hu: float, distance: Distance, low: npt.ArrayLike, high: npt.ArrayLike) -> Tissue:
    """A tissue with its bounds as arrays."""
    (a, b, c), (d, e, f) = np.asarray(low, dtype=float).tolist(), np.asarray(high, dtype=float).tolist()
    return Tissue(name, hu, distance, (a, b, c), (d, e, f))


def repeated(period: float, half: float) -> Distance:
    """Slices of the body, each 2 x `half` mm high, one every `period` mm."""

    def distance(x: Values, y: Values, z: Values) -> Values:
        return np.asarray(np.abs(z - period * np.rint(z / np.float32(period))) - half, dtype=np.float32)

    return distance


def tree(
    name: str,
    hu: float,
    *,
    rng: np.random.Generator,
    root: Point,
    centre: Point,
    radii: Point,
) -> Iterator[Tissue]:
    """A tree of vessels that fills an ellipsoid: each point joins the nearest one that is nearer to the root."""
    thickest = 7.0
    count = 60
    away = rng.normal(size=(count, 3))
    away *= (np.linspace(0.05, 1, count) ** (1 / 3) / np.linalg.norm(away, axis=1))[:, None]
    points = np.vstack([np.asarray(root, dtype=float), np.asarray(centre) + 0.9 * away * radii])
    points = points[np.argsort(np.linalg.norm(points - points[0], axis=1), kind="stable")]
    parents = [0] + [int(np.linalg.norm(points[:i] - points[i], axis=1).argmin()) for i in range(1, count + 1)]
    fed = np.ones(count + 1)
    for i in range(count, 0, -1):
        fed[parents[i]] += fed[i]
    for i in range(1, count + 1):
        # Murray's law: a vessel's cube is the sum of its branches' cubes.
        yield tube(name, hu, points[parents[i]], points[i], thickest * (fed[i] / count) ** (1 / 3))
