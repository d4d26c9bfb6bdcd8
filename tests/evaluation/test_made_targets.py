"""Made targets keep what they promise, read off the painted scans themselves."""

from collections.abc import Iterator

import numpy as np
import pytest
from scipy import ndimage

from palpate.cohort import LabelledVolume
from palpate.errors import ScanError
from palpate.evaluation import made_targets
from palpate.evaluation.made_targets import (
    DIFFICULTIES,
    MAX_MM,
    MIN_MM,
    RIM_MM,
    SIZES,
    Host,
    MadeTarget,
    diameters,
    make_target,
    numbered_target,
)
from palpate.phantom import make_phantom
from palpate.volume import Grid, Volume


def tissue(name: str, spacing: tuple[float, float, float], seed: int, dtype: type = np.int16) -> Host:
    """A block of noise with a brighter half, in air."""

    def make() -> Volume:
        rng = np.random.default_rng(seed)
        shape = tuple(round(64 / edge) for edge in spacing)
        values = np.full(shape, -1000.0)
        values[2:-2, 2:-2, 2:-2] = 40
        values[shape[0] // 2 : -2, 2:-2, 2:-2] = 90
        return Volume((values + rng.normal(0, 15, shape)).astype(dtype), np.diag([*spacing, 1.0]), unit="HU")

    return Host(name, f"patient of {name}", make)


KINDS = (
    [tissue("fine", (1.0, 1.0, 1.5), 0), tissue("float", (1.2, 1.2, 1.2), 1, np.float32)],
    [tissue("thick", (1.0, 1.0, 4.0), 2)],
    [tissue("coarse", (2.0, 2.0, 2.0), 3)],
)


@pytest.fixture(scope="module")
def made() -> list[MadeTarget]:
    return [numbered_target(KINDS, index) for index in range(24)]


def surroundings(target: MadeTarget) -> np.ndarray:
    """The voxels within `RIM_MM` of a target and its neighbour that are not air, by a map of distances."""
    volume = target.scan.volume
    both = target.scan.target if target.neighbour is None else target.scan.target | target.neighbour
    away = ndimage.distance_transform_edt(~both, sampling=volume.spacing)
    near: np.ndarray = (away > volume.spacing.max()) & (away <= max(RIM_MM, 2 * volume.spacing.max()))
    return near & (volume.array > -500)


def test_the_same_numbers_make_the_same_voxels(made: list[MadeTarget]) -> None:
    again, other = numbered_target(KINDS, 3), numbered_target(KINDS, 3, seed=1)
    assert np.array_equal(again.scan.volume.array, made[3].scan.volume.array)
    assert np.array_equal(again.scan.target, made[3].scan.target)
    assert not np.array_equal(other.scan.target, made[3].scan.target)
    assert [target.scan.name for target in made[:2]] == ["made 0.0", "made 0.1"]


def test_a_series_meets_every_kind_shape_and_difficulty(made: list[MadeTarget]) -> None:
    """Half are hard, in every kind of scan; hosts of a kind come in turn."""
    assert [target.host for target in made[:6]] == ["fine", "thick", "coarse", "float", "thick", "coarse"]
    for kind in range(3):
        hard = [target.difficulty != "clear" for target in made[kind::3]]
        assert sum(hard) == len(hard) / 2
    assert {target.difficulty for target in made} == set(DIFFICULTIES)
    assert len({target.shape for target in made}) == len({target.texture for target in made}) == 4
    assert {target.size for target in made} == set(SIZES)
    assert made[0].scan.patient == "patient of fine"


def test_only_the_target_and_its_neighbour_are_painted(made: list[MadeTarget]) -> None:
    hosts = {host.name: host.load() for kind in KINDS for host in kind}
    for target in made:
        before, after = hosts[target.host], target.scan.volume
        assert after.array.dtype == before.array.dtype
        assert after.unit == "HU"
        both = target.scan.target if target.neighbour is None else target.scan.target | target.neighbour
        far = ndimage.distance_transform_edt(~both, sampling=after.spacing) > 2 * after.spacing.max()
        assert np.array_equal(after.array[far], before.array[far])
        assert (after.array != before.array)[target.scan.target].mean() > 0.7


def test_contrast_is_what_the_difficulty_promises(made: list[MadeTarget]) -> None:
    """Read anew off the voxels: within the noise of the surroundings for faint targets, well beyond for the others."""
    for target in made:
        values = target.scan.volume.array.astype(float)
        around = values[surroundings(target)]
        contrast = values[target.scan.target].mean() - around.mean()
        assert contrast == pytest.approx(target.contrast, abs=0.4 * target.noise)
        if target.difficulty == "faint":
            assert abs(target.contrast) < target.noise
        else:
            assert abs(target.contrast) > 1.5 * target.noise


def test_a_neighbour_touches_and_is_as_bright(made: list[MadeTarget]) -> None:
    touching = [target for target in made if target.difficulty == "touching"]
    assert len(touching) == 6
    for target in touching:
        assert target.neighbour is not None
        assert not (target.neighbour & target.scan.target).any()
        assert (ndimage.binary_dilation(target.scan.target) & target.neighbour).any()
        assert target.neighbour.sum() > 0.1 * target.scan.target.sum()
        values = target.scan.volume.array.astype(float)
        apart = values[target.neighbour].mean() - values[target.scan.target].mean()
        assert abs(apart) < 0.25 * abs(target.contrast), "of one intensity, but for their common texture"
    assert all(target.neighbour is None for target in made if target.difficulty != "touching")


def test_sizes_lie_between_what_the_grid_shows_and_what_it_holds(made: list[MadeTarget]) -> None:
    for target in made:
        low, high = diameters(target.scan.volume.grid)
        assert 0.95 * low < target.diameter_mm < 1.05 * high
        assert ndimage.label(target.scan.target, np.ones((3, 3, 3)))[1] == 1
    assert diameters(Grid((200, 200, 200), np.eye(4))) == (MIN_MM, MAX_MM)
    assert diameters(Grid((50, 50, 20), np.diag([1, 1, 3, 1]))) == pytest.approx((7.5, 35))


def test_classes_of_size() -> None:
    """By the diameter that a number of voxels has, and by the thickest slice."""

    def of(voxels: int, edge: float, slices: float) -> MadeTarget:
        target = np.zeros((40, 40, 40), bool)
        target.reshape(-1)[:voxels] = True
        volume = Volume(np.zeros(target.shape, np.int16), np.diag([edge, edge, slices, 1]))
        return MadeTarget(LabelledVolume("a", "p", volume, target), "h", "cells", "plain", "clear", 1.0, 0.1, None)

    assert of(905, 1, 1).diameter_mm == pytest.approx(12, abs=0.01)
    assert [of(906, 1, 1).size, of(900, 1, 1).size, of(450, 1, 2).size, of(300, 1, 3).size] == [*SIZES[:2], *SIZES[1:]]


def test_a_scan_that_holds_no_target_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_targets, "ATTEMPTS", 2)
    tiny = Host("tiny", "p", lambda: Volume(np.zeros((8, 8, 3), np.int16), np.diag([1, 1, 5, 1])))
    with pytest.raises(ScanError, match=r"tiny: 8 x 8 x 3 voxels .* a target of 12.5 mm does not fit"):
        make_target(tiny, "a", "clear")
    blank = Host("blank", "p", lambda: Volume(np.zeros((30, 30, 30), np.int16), np.eye(4)))
    with pytest.raises(ScanError, match="blank: one value almost everywhere"):
        make_target(blank, "a", "faint")
    values = np.random.default_rng(0).uniform(0, 1000, (30, 30, 30))  # nothing stands out in such noise
    noisy = Host("noisy", "p", lambda: Volume(values, np.eye(4)))
    with pytest.raises(ScanError, match="noisy: no place for a clear target in 2 attempts"):
        make_target(noisy, "a", "clear")
    with pytest.raises(ScanError, match=r"target 1 of seed 0 finds no scan: blank: .*; tiny: "):
        numbered_target([[], [blank, tiny]], 1)


def test_another_scan_of_the_kind_steps_in() -> None:
    tiny = Host("tiny", "p", lambda: Volume(np.zeros((8, 8, 3), np.int16), np.diag([1, 1, 5, 1])))
    assert numbered_target([[tiny, tissue("fine", (1.0, 1.0, 1.5), 0)]], 0).host == "fine"


def test_whole_phantoms_hold_targets() -> None:
    def make() -> Volume:
        return make_phantom(shape=(96, 96, 80), spacing=(2, 2, 2.5)).volume

    found: Iterator[MadeTarget] = (make_target(Host("phantom", "phantom", make), f"p{n}", "clear") for n in range(2))
    for target in found:
        assert target.scan.target.any()
        assert target.scan.volume.array.dtype == np.int16
