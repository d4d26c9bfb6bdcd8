"""Random intensity maps: the mask stays, the range stays, and what is drawn is done."""

import numpy as np
import pytest
import torch

from palpate.cohort.intensity import IntensityMaps, extent
from palpate.randomness import counted_rng

RAMP = torch.arange(32**3, dtype=torch.float32).reshape(32, 32, 32) / 32**3 * 1000 - 500
ALL = torch.ones(32, 32, 32, dtype=torch.bool)
STILL = {"prob": 1.0, "invert_prob": 0, "bend": 0, "bias_field": 0, "noise": 0, "coarse": 1, "thick_slices": 1}


def mapped(number: int = 0, values: torch.Tensor = RAMP, truth: torch.Tensor = ALL, **changes: float) -> torch.Tensor:
    maps = IntensityMaps.model_validate(STILL | changes)
    return maps.apply(values, ALL, truth, counted_rng(0, "test", number))


def test_nothing_drawn_nothing_changed() -> None:
    assert torch.equal(IntensityMaps().apply(RAMP, ALL, ALL, counted_rng(0, "test", 0)), RAMP)
    assert torch.allclose(mapped(), RAMP.clamp(-495, 495), atol=0.1), "but for the darkest and the brightest 0.5 %"


def test_inverted_by_hand() -> None:
    inverted = mapped(invert_prob=1)
    assert torch.allclose(inverted, -RAMP.clamp(-495, 495), atol=0.1)


def test_bent_maps_keep_the_order() -> None:
    bends = [mapped(number, bend=1) for number in range(8)]
    for bent in bends:
        assert (bent.flatten().diff() >= -1e-3).all()
        assert float(bent.min()) == pytest.approx(-495, abs=0.5)
        assert float(bent.max()) == pytest.approx(495, abs=0.5)
    assert len({round(float(bent[16, 16, 16])) for bent in bends}) > 5


def test_noise_and_field_are_no_larger_than_they_say() -> None:
    for number in range(6):
        noisy = mapped(number, noise=0.1) - mapped(number)
        assert float(noisy.std()) <= 0.1 * 990 * 1.05
        field = mapped(number, bias_field=0.3) - mapped(number)
        assert 0 < float(field.abs().max()) <= 0.3 * 990
        assert float(field.diff(dim=0).abs().max()) < 0.1 * 990, "smooth"


def test_resolution_is_lost_along_one_axis_or_all() -> None:
    rough = torch.from_numpy(np.random.default_rng(0).normal(size=(32, 32, 32)).astype(np.float32))

    def kept(values: torch.Tensor) -> list[float]:
        """How uneven values are from voxel to voxel along each axis, over how uneven they were."""
        return [float(values.diff(dim=axis).std() / rough.diff(dim=axis).std()) for axis in range(3)]

    thick = [kept(mapped(number, rough, thick_slices=5)) for number in range(40)]
    some = [ratios for ratios in thick if min(ratios) < 0.5]
    assert 2 <= len(some) <= 20
    assert all(max(ratios) > 1.2 * min(ratios) for ratios in some), "one axis more than the others"
    coarse = [kept(mapped(number, rough, coarse=3)) for number in range(40)]
    assert any(max(ratios) < 0.5 for ratios in coarse), "all three"


def test_a_small_target_is_not_blurred_away() -> None:
    values, truth = torch.zeros(32, 32, 32), torch.zeros(32, 32, 32, dtype=torch.bool)
    truth[14:17, 14:17, 14:17] = True
    values[truth] = 1000.0
    values[20:, 20:] = 500.0
    for number in range(20):
        out = mapped(number, values, truth, coarse=4, thick_slices=8)
        assert torch.equal(out, mapped(number, values, truth)), "three voxels wide: none to lose"


def test_extent_by_hand() -> None:
    mask = torch.zeros(8, 9, 10, dtype=torch.bool)
    assert extent(mask).tolist() == [8, 9, 10]
    mask[2:4, 5, 1:9] = True
    assert extent(mask).tolist() == [2, 1, 8]


def test_a_constant_crop_stays() -> None:
    flat = torch.full((8, 8, 8), 7.0)
    inside = torch.ones(8, 8, 8, dtype=torch.bool)
    assert torch.equal(IntensityMaps(prob=1.0).apply(flat, inside, inside, counted_rng(0, "test", 0)), flat)
