"""Pieces of thresholds: connected, with the click, and with an edge."""

import cc3d
import numpy as np

from canvases import ball, canvas, overlap
from palpate.cohort.targets.thresholds import threshold_piece
from palpate.randomness import counted_rng


def test_a_ball_is_the_piece() -> None:
    for contrast in (100.0, -60.0):
        crop, found = canvas(contrast=contrast), []
        for number in range(12):
            made = threshold_piece(crop, counted_rng(0, "test", number))
            if made is not None:
                assert crop.holds(made.target)
                assert cc3d.connected_components(made.target, connectivity=6).max() == 1
                assert np.array_equal(made.values, crop.values)
                found.append(overlap(made.target, ball(32, (16, 16, 16), 6)))
        assert len(found) >= 6
        assert np.median(found) > 0.85
        assert max(found) > 0.95


def test_holes_are_filled() -> None:
    crop = canvas(noise=1)
    crop.values[16, 16, 18:20] = 100
    pieces = [threshold_piece(crop, counted_rng(0, "test", number)) for number in range(12)]
    found = [made.target for made in pieces if made is not None]
    assert found
    assert all(target[16, 16, 18] for target in found)


def test_noise_has_none_and_what_flows_out_is_none() -> None:
    assert [threshold_piece(canvas(contrast=0), counted_rng(0, "test", number)) for number in range(10)] == [None] * 10
    half = canvas(contrast=0, noise=1)
    half.values[:, :, 12:] += 100
    assert [threshold_piece(half, counted_rng(0, "test", number)) for number in range(10)] == [None] * 10


def test_a_part_of_a_contour_is_none() -> None:
    crop = canvas(contour=ball(32, (16, 16, 16), 9))
    assert [threshold_piece(crop, counted_rng(0, "test", number)) for number in range(10)] == [None] * 10
