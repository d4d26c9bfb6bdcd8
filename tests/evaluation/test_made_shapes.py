"""Solids, by volumes known in closed form."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from palpate.errors import ScanError
from palpate.evaluation.made_shapes import LATTICE, SHAPES, Shape, Solid, _points
from palpate.phantom import oblique_affine
from palpate.volume import Grid


def test_a_ball_has_a_balls_volume_at_any_size_and_turn() -> None:
    ball = Solid.of(np.linalg.norm(_points(), axis=-1) < 0.7)
    assert ball.volume == pytest.approx(4 / 3 * np.pi * 0.7**3, rel=0.02)
    assert ball.reach == pytest.approx(0.7, abs=0.04)
    assert ball.scale(14.0) == pytest.approx(7 / 0.7, rel=0.01)
    grid = Grid((40, 40, 30), oblique_affine((40, 40, 30), (1.0, 1.5, 2.0), orientation="LPI", angles_deg=(9, -5, 8)))
    for diameter in (6.0, 14.0, 30.0):
        start, fractions = ball.fractions(grid, np.array([2.0, -1.0, 0.5]), np.eye(3), diameter)
        volume_mm3 = float(fractions.sum()) * 1000 * grid.voxel_ml
        assert volume_mm3 == pytest.approx(np.pi / 6 * diameter**3, rel=0.05)
        places = np.argwhere(fractions >= 0.5) + start
        assert np.allclose(grid.to_mm(places).mean(axis=0), (2.0, -1.0, 0.5), atol=0.3)


def test_it_ends_where_the_grid_ends() -> None:
    """Half of a ball around the middle of a face lies in the grid."""
    ball = Solid.of(np.linalg.norm(_points(), axis=-1) < 0.7)
    grid = Grid((30, 30, 30), np.eye(4))
    start, fractions = ball.fractions(grid, np.array([-0.5, 15.0, 15.0]), np.eye(3), 12.0)
    assert start[0] == 0
    assert fractions.sum() == pytest.approx(np.pi / 12 * 12**3, rel=0.03)


def test_a_turn_turns_it() -> None:
    """A rod along x, turned by 90 degrees about z, lies along y."""
    points = _points()
    rod = Solid.of((np.abs(points[..., 0]) < 0.9) & (np.linalg.norm(points[..., 1:], axis=-1) < 0.3))
    turn = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    grid = Grid((40, 40, 40), np.eye(4))
    widths = [
        np.ptp(np.argwhere(rod.fractions(grid, np.full(3, 20.0), r, 14.0)[1] > 0.5), axis=0) for r in (np.eye(3), turn)
    ]
    assert widths[0][0] > 2 * widths[0][1]
    assert widths[1].tolist() == widths[0][[1, 0, 2]].tolist()


def test_the_largest_piece_without_holes() -> None:
    points = np.linalg.norm(_points(), axis=-1)
    shell = (points < 0.6) & (points > 0.3)
    shell[0, 0, 0] = True
    assert np.array_equal(Solid.of(shell).inside, points < 0.6)
    with pytest.raises(ScanError, match="no shape"):
        Solid.of(np.zeros((LATTICE,) * 3, bool))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_family_is_one_piece_drawn_from_its_seed(shape: Shape) -> None:
    solids = [Solid.drawn(shape, np.random.default_rng(seed)) for seed in (0, 0, 1, 2, 3)]
    assert np.array_equal(solids[0].inside, solids[1].inside)
    assert len({solid.inside.tobytes() for solid in solids}) == 4
    for solid in solids:
        assert ndimage.label(solid.inside)[1] == 1
        assert 0.02 < solid.volume < 4
        assert solid.reach <= np.sqrt(3)
