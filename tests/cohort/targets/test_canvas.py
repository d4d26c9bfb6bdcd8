"""What makes a region a target that one click can mean."""

import dataclasses

import numpy as np
import pytest

from canvases import ball, canvas
from palpate.cohort.targets.canvas import boxed, piece_with, roughness, smoothed, stands_out
from palpate.cohort.targets.supervoxels import supervoxel
from palpate.cohort.targets.thresholds import threshold_piece
from palpate.randomness import counted_rng


def test_a_target_holds_the_click_and_is_neither_tiny_nor_the_crop() -> None:
    crop = canvas()
    assert crop.holds(ball(32, (16, 16, 16), 5))
    assert not crop.holds(ball(32, (4, 4, 4), 3)), "without the click"
    assert not crop.holds(ball(32, (16, 16, 16), 1)), "7 voxels"
    assert not crop.holds(np.ones((32, 32, 32), bool)), "everything"


def test_no_part_of_a_contour_is_a_target() -> None:
    crop = canvas(contour=ball(32, (16, 16, 16), 6))
    assert crop.cuts_contour(ball(32, (16, 16, 16), 3)), "within it: Dice 0.22"
    assert crop.cuts_contour(ball(32, (16, 16, 16), 12)), "around it"
    assert not crop.cuts_contour(ball(32, (16, 16, 17), 6)), "the contour, nearly"
    assert not crop.cuts_contour(ball(32, (4, 4, 4), 4)), "elsewhere"
    assert not canvas().cuts_contour(ball(32, (16, 16, 16), 6)), "a scan without contour"


def test_a_click_near_stays_inside_and_changes_nothing_else() -> None:
    inside = np.zeros((32, 32, 32), bool)
    inside[:, :, 15:] = True
    crop = canvas(inside=inside)
    moved = [crop.with_click_near(counted_rng(0, "test", number)) for number in range(30)]
    clicks = np.array([one.click for one in moved])
    assert np.abs(clicks - 16).max() == 4
    assert all(inside[one.click] for one in moved)
    assert all(one.values is crop.values and one.noise == crop.noise and one.range == crop.range for one in moved)
    assert moved[0].noise == dataclasses.replace(moved[0]).noise, "as if measured anew"


def test_noise_and_range_by_hand() -> None:
    crop = canvas(contrast=0, noise=5)
    assert crop.noise == pytest.approx(5 * np.sqrt(26 / 27), rel=0.03), "a voxel is one of the 27 of its own mean"
    assert crop.range == pytest.approx(2 * 2.054 * 5, rel=0.03)
    flat = canvas(contrast=0, noise=0)
    assert flat.range > 0
    assert flat.noise > 0


def test_the_piece_with_a_voxel() -> None:
    two = ball(32, (8, 8, 8), 3) | ball(32, (24, 24, 24), 4)
    assert np.array_equal(piece_with(two, (24, 24, 24)), ball(32, (24, 24, 24), 4))
    assert not piece_with(two, (16, 16, 16)).any()


def test_smoothing_takes_single_voxels_and_keeps_a_ball() -> None:
    rough = ball(32, (16, 16, 16), 6)
    rough[2, 2, 2] = True
    smooth = smoothed(rough, 0.8)
    assert not smooth[2, 2, 2]
    assert (smooth ^ ball(32, (16, 16, 16), 6)).sum() < 60


def test_a_box_stays_in_the_crop() -> None:
    assert boxed(ball(32, (2, 16, 16), 2), 3) == (slice(0, 8), slice(11, 22), slice(11, 22))


def test_roughness_by_hand() -> None:
    cube = np.zeros((12, 12, 12), bool)
    cube[4:8, 4:8, 4:8] = True
    assert roughness(cube) == pytest.approx(1)
    cube[4:8, 4:8, 4:8] = np.indices((4, 4, 4)).sum(axis=0) % 2 == 0
    assert roughness(cube) == pytest.approx(32 / 32 ** (2 / 3)), "a chess board: every voxel has all its faces"
    assert roughness(ball(32, (16, 16, 16), 10)) == pytest.approx(1.21, abs=0.06)


def test_constant_air_is_known() -> None:
    crop = canvas()
    assert not crop.empty_at_click
    crop.values[14:19, 14:19, 14:19] = -1024
    assert crop.empty_at_click
    assert supervoxel(crop, counted_rng(0, "test", 0)) is None
    assert threshold_piece(crop, counted_rng(0, "test", 0)) is None


def test_what_has_an_edge_stands_out() -> None:
    crop, region = canvas(), ball(32, (16, 16, 16), 6)
    assert stands_out(crop.values, region, crop.noise)
    assert not stands_out(canvas(contrast=0).values, region, crop.noise), "noise alone"
    assert not stands_out(crop.values, ball(32, (16, 16, 16), 11), crop.noise), "its border is in noise"
    thread = np.zeros_like(region)
    thread[2:30, 15:17, 2:30] = True
    painted = crop.values + 500 * thread
    assert not stands_out(painted, thread, crop.noise), "two voxels thick: there is nothing within"
    holes = region.copy()
    holes[10:23:2, 10:23:2] = False
    assert not stands_out(crop.values + 500 * holes, holes, crop.noise), "a sponge"
