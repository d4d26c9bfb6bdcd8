"""Crops whose every voxel is known, for targets to be made in."""

import numpy as np

from palpate.cohort.targets import Canvas


def ball(edge: int, centre: tuple[float, float, float], radius: float) -> np.ndarray:
    """A ball in a cube, bool."""
    offsets = np.indices((edge, edge, edge)) - np.array(centre).reshape(3, 1, 1, 1)
    return np.asarray(np.square(offsets).sum(axis=0) <= radius**2)


def canvas(
    edge: int = 32,
    *,
    radius: float = 6,
    contrast: float = 100,
    noise: float = 5,
    click: tuple[int, int, int] = (16, 16, 16),
    contour: np.ndarray | None = None,
    inside: np.ndarray | None = None,
) -> Canvas:
    """A ball in the middle of a cube of value 100 with noise."""
    size = (edge, edge, edge)
    values = 100 + noise * np.random.default_rng(0).standard_normal(size) + contrast * ball(edge, (16, 16, 16), radius)
    return Canvas(
        values.astype(np.float32),
        np.ones(size, bool) if inside is None else inside,
        np.zeros(size, bool) if contour is None else contour,
        click,
        (1.0, 1.0, 1.0),
    )


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Dice of two masks."""
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))
