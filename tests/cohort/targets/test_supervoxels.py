"""Supervoxels: what has an edge is found; what has none is not taken."""

import cc3d
import numpy as np
import pytest
from scipy import ndimage

from canvases import ball, canvas, overlap
from palpate.cohort.targets import supervoxels
from palpate.cohort.targets.supervoxels import supervoxel
from palpate.randomness import counted_rng


def test_a_ball_is_among_them() -> None:
    crop, found = canvas(), []
    for number in range(40):
        made = supervoxel(crop, counted_rng(0, "test", number))
        if made is not None:
            assert crop.holds(made.target)
            assert np.array_equal(made.values, crop.values), "nothing is painted"
            assert cc3d.connected_components(made.target, connectivity=6).max() == 1
            found.append(overlap(made.target, ball(32, (16, 16, 16), 6)))
    assert len(found) >= 10
    assert np.median(found) > 0.7
    assert max(found) > 0.95


def test_noise_has_none() -> None:
    crop = canvas(contrast=0)
    assert [supervoxel(crop, counted_rng(0, "test", number)) for number in range(20)] == [None] * 20


def test_a_contour_is_never_cut() -> None:
    left = ball(32, (16, 16, 16), 6)
    left[:, :, 16:] = False
    crop = canvas(contour=left, click=(16, 16, 14))
    for number in range(20):
        made = supervoxel(crop, counted_rng(0, "test", number))
        assert made is None or not crop.cuts_contour(made.target)


@pytest.mark.parametrize("name", ["_slic", "_watershed", "_merged"])
def test_each_division_is_whole_and_keeps_to_edges(name: str) -> None:
    """Two halves of different brightness: hardly a region lies in both."""
    halves = np.zeros((24, 24, 24), np.float32)
    halves[:, :, 12:] = 1
    noisy = halves + 0.05 * np.random.default_rng(0).standard_normal(halves.shape).astype(np.float32)
    regions = getattr(supervoxels, name)((noisy - noisy.mean()) / noisy.std(), 8.0, counted_rng(0, "test", 0))
    assert regions.shape == halves.shape
    assert regions.min() >= 1, "every voxel has one"
    share = ndimage.mean(halves, regions, np.unique(regions))
    sizes = ndimage.sum(np.ones_like(halves), regions, np.unique(regions))
    purity = float((np.maximum(share, 1 - share) * sizes).sum() / sizes.sum())
    assert purity > 0.95


def test_unions_join_what_touches() -> None:
    regions = np.zeros((8, 8, 8), np.int32)
    regions[:2], regions[2:4], regions[4:6], regions[6:] = 1, 2, 3, 4
    seen = set()
    for number in range(20):
        joined = supervoxels._neighbours(regions, 2, counted_rng(0, "test", number))
        seen |= set(np.unique(regions[joined]).tolist())
    assert seen == {1, 3}
