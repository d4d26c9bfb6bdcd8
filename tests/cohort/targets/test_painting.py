"""Synthetic targets: the contrast that is drawn is the contrast that is painted."""

import dataclasses

import cc3d
import numpy as np
import pytest

from canvases import canvas
from palpate.cohort.targets.painting import Look, _share, drawn_look, painted, synthetic_target
from palpate.randomness import counted_rng

PLAIN = Look(contrast=40, core=40, rim=0, texture=0, grain=1, replaced=0, blur=0)
DISTANCE = (np.sqrt(np.square(np.indices((32, 32, 32)) - 16).sum(axis=0)) / 8 - 1).astype(np.float32)
SHARE = (DISTANCE < 0).astype(np.float32)


def test_contrast_by_hand() -> None:
    crop = canvas(contrast=0)
    out = painted(crop.values, crop, DISTANCE, SHARE, PLAIN, counted_rng(0, "test", 0))
    change = out - crop.values
    assert np.allclose(change[SHARE > 0], 40, atol=1e-3)
    assert np.array_equal(out[SHARE == 0], crop.values[SHARE == 0]), "what is outside stays, to the bit"
    half = painted(crop.values, crop, DISTANCE, 0.5 * SHARE, PLAIN, counted_rng(0, "test", 0)) - crop.values
    assert np.allclose(half[SHARE > 0], 20, atol=1e-3), "a voxel half filled changes by half"


def test_a_rim_and_its_core() -> None:
    crop = canvas(contrast=0)
    look = dataclasses.replace(PLAIN, contrast=40, core=-30, rim=0.25)
    change = painted(crop.values, crop, DISTANCE, SHARE, look, counted_rng(0, "test", 0)) - crop.values
    assert change[DISTANCE < -0.4] == pytest.approx(-30, abs=1e-3)
    assert change[(DISTANCE < 0) & (DISTANCE > -0.15)] == pytest.approx(40, abs=1e-3)


def test_texture_and_what_is_replaced() -> None:
    crop = canvas(radius=4)  # a bright ball, which the shape covers
    gone = painted(crop.values, crop, DISTANCE, SHARE, dataclasses.replace(PLAIN, replaced=1), counted_rng(0, "t", 0))
    well_inside = DISTANCE < -0.3
    assert crop.values[well_inside].std() > 40
    assert gone[well_inside].std() == pytest.approx(crop.noise, rel=0.15)
    grainy = dataclasses.replace(PLAIN, texture=20, grain=2)
    flat = canvas(contrast=0)
    out = painted(flat.values, flat, DISTANCE, SHARE, grainy, counted_rng(0, "test", 0)) - flat.values
    assert out[SHARE > 0].std() == pytest.approx(20, rel=0.3)


def test_looks_range_from_below_the_noise_to_strong() -> None:
    crop = canvas(noise=10)
    contrasts = np.array([drawn_look(crop, counted_rng(0, "look", number)).contrast for number in range(400)])
    assert 0.4 < (contrasts > 0).mean() < 0.6
    assert np.abs(contrasts).min() >= 0.5 * crop.noise
    assert np.abs(contrasts).max() <= 0.8 * crop.range + 1e-6
    assert 0.02 < (np.abs(contrasts) < crop.noise).mean() < 0.2
    assert (np.abs(contrasts) > 3 * crop.noise).mean() > 0.3


def test_targets_are_whole_and_where_the_click_is() -> None:
    crop = canvas(48, click=(20, 30, 10))
    volumes = []
    for number in range(40):
        made = synthetic_target(crop, counted_rng(0, "test", number))
        if made is None:
            continue
        assert crop.holds(made.target)
        assert cc3d.connected_components(made.target, connectivity=6).max() == 1
        assert made.values.dtype == np.float32
        assert not np.array_equal(made.values, crop.values)
        volumes.append(made.target.sum())
    assert len(volumes) >= 30
    assert min(volumes) < 150
    assert max(volumes) > 4000


def test_nothing_is_painted_outside_the_scan_alone() -> None:
    inside = np.zeros((32, 32, 32), bool)
    inside[:, :, :18] = True
    crop = canvas(inside=inside)
    for number in range(20):
        made = synthetic_target(crop, counted_rng(0, "test", number))
        assert made is None or not (made.target & ~inside).any()


def test_coarse_scans_have_blurred_targets() -> None:
    """Where the scan's voxel is six of the crop's along one axis, the border is as wide there, and only there."""
    fine = canvas(contrast=0, noise=0.01)
    coarse = dataclasses.replace(fine, scan_voxel=(6.0, 1.0, 1.0))
    for crop, along, across in ((fine, 0.55, 0.55), (coarse, 0.22, 0.55)):
        change = painted(crop.values, crop, DISTANCE, _share(8 * DISTANCE, crop, PLAIN), PLAIN, counted_rng(0, "t", 0))
        change = (change - crop.values) / np.float32(40)
        steps = [float(np.abs(np.diff(change, axis=axis))[12:20, 12:20, 12:20].max()) for axis in range(3)]
        whole = [float(np.abs(np.diff(change[:, 16, 16])).max()), float(np.abs(np.diff(change[16, 16])).max())]
        assert max(steps) < 0.2, "nothing changes well inside"
        assert whole[0] == pytest.approx(along, abs=0.1)
        assert whole[1] == pytest.approx(across, abs=0.1)
