"""A made target: of the kind that was drawn, or a synthetic one; never one of another draw."""

import dataclasses

import numpy as np
import pytest

from canvases import canvas
from palpate.cohort.targets import MADE, Donor, TargetKind, made_target
from palpate.randomness import counted_rng


def no_donor(_: np.random.Generator) -> Donor | None:
    return None


@pytest.mark.parametrize("kind", MADE)
def test_every_kind_gives_a_target(kind: TargetKind) -> None:
    crop = canvas()
    for number in range(4):
        one, two = (made_target(kind, crop, no_donor, counted_rng(0, kind, number)) for _ in range(2))
        assert one is not None
        assert two is not None
        assert dataclasses.replace(crop, click=one.click).holds(one.target)
        assert np.abs(np.array(one.click) - 16).max() <= 4, "an eighth of the crop"
        assert one.click == two.click
        assert np.array_equal(one.target, two.target)
        assert np.array_equal(one.values, two.values)


def test_where_nothing_is_found_something_is_painted() -> None:
    crop = canvas(contrast=0)
    made = made_target("thresholds", crop, no_donor, counted_rng(0, "test", 1))
    assert made is not None
    assert not np.array_equal(made.values, crop.values)


def test_a_crop_with_nothing_in_it_has_no_target() -> None:
    inside = np.zeros((32, 32, 32), bool)
    inside[16, 16, 16] = True
    assert made_target("synthetic", canvas(inside=inside), no_donor, counted_rng(0, "test", 0)) is None
