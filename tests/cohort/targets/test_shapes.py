"""Shapes: bounded, of one piece, and of many kinds."""

import cc3d
import numpy as np
import pytest

from palpate.cohort.targets import shapes
from palpate.cohort.targets.shapes import REACH, random_shape
from palpate.randomness import counted_rng

EDGE = 48
STEPS = np.linspace(-REACH, REACH, EDGE, dtype=np.float32)
PLACES = np.stack(np.meshgrid(STEPS, STEPS, STEPS, indexing="ij"), axis=-1)
KINDS = ("smooth_star", "spiculated_star", "metaballs", "warped_ellipsoid", "tube")


@pytest.mark.parametrize("kind", KINDS)
def test_a_shape_is_bounded_and_mostly_one_piece(kind: str) -> None:
    for number in range(8):
        inside = getattr(shapes, kind)(counted_rng(0, kind, number))(PLACES) < 0
        assert 30 < inside.sum() < inside.size / 3
        pieces = cc3d.connected_components(inside, connectivity=26)
        assert np.bincount(pieces.ravel())[1:].max() > 0.8 * inside.sum()
        faces = [inside.take(end, axis=axis).any() for axis in range(3) for end in (0, EDGE - 1)]
        assert not any(faces), "all of it lies within its reach"


def test_spikes_make_more_surface() -> None:
    def roughness(kind: str) -> float:
        """Faces of a shape over those of a cube of its volume, the mean of a few."""
        found = []
        for number in range(8):
            inside = getattr(shapes, kind)(counted_rng(0, kind, number))(PLACES) < 0
            faces = sum(int(np.count_nonzero(np.diff(inside, axis=axis))) for axis in range(3))
            found.append(faces / (6 * inside.sum() ** (2 / 3)))
        return float(np.mean(found))

    assert roughness("spiculated_star") > 1.2 * roughness("smooth_star")


def test_a_shape_is_a_function_of_its_generator() -> None:
    one, two, other = (random_shape(counted_rng(0, "shape", number))(PLACES) for number in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)
