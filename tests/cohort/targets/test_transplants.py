"""Transplants: another scan's target at the click, with its contrast to its surroundings."""

import dataclasses

import numpy as np
import pytest

from canvases import ball, canvas
from palpate.cohort.targets import Donor
from palpate.cohort.targets.transplants import alike, transplant
from palpate.randomness import counted_rng


def donor(contrast: float = 60, level: float = 103, noise: float = 5, edge: int = 32) -> Donor:
    target = ball(edge, (14, 18, 16), 4)
    values = level + noise * np.random.default_rng(7).standard_normal(target.shape) + contrast * target
    return Donor(values.astype(np.float32), np.ones(target.shape, bool), target)


def test_shape_and_contrast_are_the_donors() -> None:
    crop = canvas(contrast=0, noise=6)
    made = transplant(crop, donor(), counted_rng(0, "test", 0))
    assert made is not None
    assert crop.holds(made.target)
    assert made.target.sum() == donor().target.sum()
    assert made.values[made.target].mean() - crop.values.mean() == pytest.approx(60, abs=3), "to what was around it"
    far = ~ball(32, (16, 16, 16), 14)
    assert np.array_equal(made.values[far], crop.values[far])


def test_the_click_may_be_any_voxel_of_it() -> None:
    crop = canvas(contrast=0)
    middles = []
    for number in range(12):
        made = transplant(crop, donor(), counted_rng(0, "test", number))
        assert made is not None
        assert made.target[crop.click]
        middles.append(np.argwhere(made.target).mean(axis=0))
    assert np.ptp(middles, axis=0).min() > 2


def test_scans_in_other_units_give_nothing() -> None:
    crop = canvas(contrast=0, noise=5)
    assert alike(crop, donor())
    suv = dataclasses.replace(donor(), values=donor().values / np.float32(100))
    assert not alike(crop, suv)
    assert transplant(crop, suv, counted_rng(0, "test", 0)) is None
    shifted = dataclasses.replace(donor(), values=donor().values - np.float32(1000))
    assert not alike(crop, shifted)
    empty = dataclasses.replace(donor(), target=np.zeros((32, 32, 32), bool))
    assert transplant(crop, empty, counted_rng(0, "test", 0)) is None
