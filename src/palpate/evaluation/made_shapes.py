"""Shapes of made targets: four families, each a solid in a cube, laid into a scan's grid at any size and turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from ..errors import ScanError
from ..volume import FloatArray, Grid, Index3

Bools = npt.NDArray[np.bool_]
Fractions = npt.NDArray[np.float32]
Shape = Literal["level set", "superquadric", "capsules", "cells"]
SHAPES: tuple[Shape, ...] = get_args(Shape)
LATTICE = 56  # points along an edge of the cube
FINE = 24  # a solid narrower than so many voxels is sampled at eight points a voxel


@dataclass(frozen=True, eq=False)
class Solid:
    """A connected solid without holes in the cube from -1 to 1.

    Attributes:
        inside: whether each point of a lattice over the cube is inside, bool `[LATTICE, LATTICE, LATTICE]`.
        volume: of the solid, where the cube has 8.
        reach: distance of its farthest point from the cube's centre.
    """

    inside: Bools
    volume: float
    reach: float

    @classmethod
    def of(cls, inside: Bools) -> Self:
        """The largest connected piece of a lattice's points, its holes filled.

        Raises:
            ScanError: no point is inside.
        """
        from scipy import ndimage

        pieces, count = ndimage.label(inside)
        if not count:
            raise ScanError("a solid without a point inside: it has no shape")
        largest = 1 + int(np.bincount(pieces.reshape(-1))[1:].argmax())
        filled: Bools = ndimage.binary_fill_holes(pieces == largest)
        reach = float(np.linalg.norm(_points()[filled], axis=-1).max())
        return cls(filled, float(filled.sum()) * (2 / (LATTICE - 1)) ** 3, reach)

    @classmethod
    def drawn(cls, shape: Shape, rng: np.random.Generator) -> Self:
        """A solid of a family, drawn at random."""
        return cls.of(DRAWN[shape](rng))

    def scale(self, diameter_mm: float) -> float:
        """Half an edge of the cube, mm, at which the solid has the volume of a sphere of that diameter."""
        return float((np.pi / 6 * diameter_mm**3 / self.volume) ** (1 / 3))

    def fractions(
        self, grid: Grid, centre_mm: FloatArray, turn: FloatArray, diameter_mm: float
    ) -> tuple[Index3, Fractions]:
        """The solid in a grid: the first voxel of a box around it, and how much of each of its voxels is inside.

        Args:
            grid: the scan's.
            centre_mm: RAS millimetres of the cube's centre.
            turn: rotation matrix `[3, 3]`.
            diameter_mm: of the sphere of equal volume.
        """
        from scipy import ndimage

        scale = self.scale(diameter_mm)
        middle, reach = grid.to_index(centre_mm), scale * self.reach / grid.spacing + 1
        low = np.clip(np.floor(middle - reach), 0, np.array(grid.shape) - 1).astype(int)
        high = np.clip(np.ceil(middle + reach) + 1, low + 1, grid.shape).astype(int)
        index = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), axis=-1).astype(np.float64)
        fine = diameter_mm < FINE * grid.spacing.max()
        shifts = np.stack(np.meshgrid(*[(-0.25, 0.25)] * 3), axis=-1).reshape(-1, 3) if fine else np.zeros((1, 3))
        found = np.zeros(index.shape[:3], np.float32)
        values = self.inside.astype(np.float32)
        for shift in shifts:
            local = (grid.to_mm(index + shift) - centre_mm) @ turn / scale
            place = (np.moveaxis(local, -1, 0) + 1) * ((LATTICE - 1) / 2)
            sampled = ndimage.map_coordinates(values, place, order=1, mode="constant", cval=0.0)
            found += (sampled >= 0.5) if fine else sampled
        x, y, z = low.tolist()
        return (x, y, z), found / np.float32(len(shifts))


def _points() -> FloatArray:
    """Coordinates of the lattice's points, `[LATTICE, LATTICE, LATTICE, 3]`."""
    edge = np.linspace(-1, 1, LATTICE)
    return np.stack(np.meshgrid(edge, edge, edge, indexing="ij"), axis=-1)


def smooth_noise(shape: tuple[int, ...], points: float, rng: np.random.Generator) -> FloatArray:
    """A random field without mean, of standard deviation 1, smooth over so many points."""
    from scipy import ndimage

    field: FloatArray = ndimage.gaussian_filter(rng.normal(size=shape), points, mode="reflect")
    field = field - field.mean()
    return field / max(float(field.std()), 1e-12)


def _level_set(rng: np.random.Generator) -> Bools:
    """Where a ball's radius, bent by a smoothed random field, is not exceeded."""
    field = smooth_noise((LATTICE,) * 3, LATTICE * rng.uniform(0.06, 0.13), rng)
    radius = np.linalg.norm(_points() / rng.uniform(0.75, 1.0, 3), axis=-1)
    bent: Bools = radius < np.minimum(0.6 + rng.uniform(0.06, 0.16) * field, 0.95)
    return bent


def _superquadric(rng: np.random.Generator) -> Bools:
    """|x/a|^p + |y/b|^q + |z/c|^r < 1, from pinched to box-like."""
    axes = 0.9 * rng.uniform(0.45, 1.0, 3)
    powers = np.exp(rng.uniform(np.log(0.9), np.log(5), 3))
    total: Bools = (np.abs(_points() / axes) ** powers).sum(axis=-1) < 1
    return total


def _capsules(rng: np.random.Generator) -> Bools:
    """A bent chain of two to four capsules whose radius changes along it."""
    count = int(rng.integers(3, 6))
    steps = rng.normal(size=(count - 1, 3))
    steps = 0.55 * steps / np.linalg.norm(steps, axis=1, keepdims=True)
    joints = np.concatenate([np.zeros((1, 3)), np.cumsum(steps, axis=0)])
    radii = rng.uniform(0.28, 0.5, count)
    low, high = (joints - radii[:, None]).min(axis=0), (joints + radii[:, None]).max(axis=0)
    shrink = 0.9 / float((high - low).max() / 2)
    joints, radii = (joints - (low + high) / 2) * shrink, radii * shrink
    points = _points()
    inside = np.zeros(points.shape[:3], bool)
    for first, last, begin, end in zip(joints[:-1], joints[1:], radii[:-1], radii[1:], strict=True):
        along = last - first
        share = np.clip((points - first) @ along / (along @ along), 0, 1)
        away = np.linalg.norm(points - first - share[..., None] * along, axis=-1)
        inside |= away < begin + share * (end - begin)
    return inside


def _cells(rng: np.random.Generator) -> Bools:
    """One to three neighbouring Voronoi cells of random points, their edges a little worn."""
    from scipy import ndimage
    from scipy.spatial import KDTree

    seeds = rng.uniform(-0.95, 0.95, (int(rng.integers(14, 26)), 3))
    seeds[0] = rng.uniform(-0.1, 0.1, 3)
    near = np.argsort(np.linalg.norm(seeds - seeds[0], axis=1))[: int(rng.integers(1, 4))]
    points = _points()
    _, nearest = KDTree(seeds).query(points.reshape(-1, 3))
    cells = np.isin(nearest.reshape(points.shape[:3]), near) & (np.linalg.norm(points, axis=-1) < 0.95)
    worn: Bools = ndimage.gaussian_filter(cells.astype(np.float32), 1.5) > 0.5
    return worn


DRAWN: dict[Shape, Callable[[np.random.Generator], Bools]] = {
    "level set": _level_set,
    "superquadric": _superquadric,
    "capsules": _capsules,
    "cells": _cells,
}
