"""Calibration, against answers worked by hand and against predictions of a known temperature."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from palpate.bundle import Calibration
from palpate.cohort import LabelledVolume
from palpate.errors import ScanError
from palpate.evaluation import Reliability, calibrated, sampled
from palpate.evaluation.calibration import Samples
from palpate.masks import Probability
from palpate.phantom import make_phantom
from palpate.predictor import Predictor
from palpate.volume import Volume
from small import CPU, judging_bundle


def test_reliability_by_hand() -> None:
    """Four say 0.05 and one of them is so; four say 0.95 and three are."""
    found = Reliability.of([0.05] * 4 + [0.95] * 4, [1, 0, 0, 0, 1, 1, 1, 0])
    assert found.predicted[[0, 9]] == pytest.approx([0.05, 0.95])
    assert found.observed[[0, 9]] == pytest.approx([0.25, 0.75])
    assert np.isnan(found.predicted[1:9]).all()
    assert found.error == pytest.approx(0.5 * 0.2 + 0.5 * 0.2)
    assert Reliability.of([1.0, 0.0], [1, 0]).error == 0, "1 belongs to the last bin"


def drawn(temperature: float, slope: float, offset: float) -> Samples:
    """Voxels too sure of themselves by a temperature, and qualities off by a line."""
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 2, 40_000)
    lesion = (rng.random(truth.size) < expit(truth)).astype(float)
    logits = rng.normal(0.5, 1, 2_000)
    masks = list(zip(expit(logits).tolist(), expit(slope * logits + offset).tolist(), strict=True))
    return Samples([(truth * temperature, lesion)], masks)


def test_what_was_off_is_found() -> None:
    found = calibrated(drawn(2.5, 0.7, -0.4))
    assert found.temperature == pytest.approx(2.5, rel=0.05)
    assert found.quality_slope == pytest.approx(0.7, abs=0.01)
    assert found.quality_offset == pytest.approx(-0.4, abs=0.01)
    before, after = found.measured["voxels' calibration error"]
    assert before > 0.08
    assert after < 0.015
    assert found.measured["predicted IoU's mean error"][1] < 0.001
    assert found.measured["voxels"] == 40_000


def test_what_was_right_is_left() -> None:
    found = calibrated(drawn(1.0, 1.0, 0.0))
    assert found.temperature == pytest.approx(1, abs=0.03)
    assert found.quality_slope == pytest.approx(1, abs=0.01)


def test_masks_all_alike_keep_the_line_finite() -> None:
    """No mask met any lesion: what is expected of them falls to nearly nothing, and nothing correlates."""
    samples = drawn(1.0, 1.0, 0.0)
    samples.masks = [(quality, 0.0) for quality, _ in samples.masks]
    found = calibrated(samples)
    assert found.measured["predicted IoU's mean error"][1] < 0.01
    assert abs(found.quality_offset) <= 5
    assert "predicted IoU's correlation with the IoU" not in found.measured
    assert Calibration.model_validate_json(found.model_dump_json()) == found


def test_nothing_to_calibrate_on() -> None:
    with pytest.raises(ScanError, match="no scan to calibrate on: no scan of that subset has any target"):
        calibrated(Samples())


def test_a_user_whose_prompts_no_crop_holds_is_too_wide_and_reported() -> None:
    """A box around a lesion wider than the model's field, 64 mm, and no zoom; what was answered before counts."""
    made = make_phantom(shape=(48, 48, 32), spacing=(4, 4, 5))
    truth = made.lesion.full()
    truth[4, 4, 4] = truth[44, 44, 28] = True
    samples = sampled(
        Predictor(judging_bundle(), CPU), [LabelledVolume("a", "p", made.volume, truth)], 1, ("click", "box")
    )
    assert len(samples.masks) == len(samples.voxels) == 1
    (found,) = samples.too_wide
    assert found.startswith("a, first a box: the prompts span")
    assert calibrated(samples).measured["simulated users whose prompts no crop holds"] == 1
    nothing = sampled(Predictor(judging_bundle(), CPU), [LabelledVolume("a", "p", made.volume, truth)], 1, ("box",))
    with pytest.raises(ScanError, match="no scan to calibrate on: a, first a box: the prompts span"):
        calibrated(nothing)


def test_samples_repeat_and_hold_every_prompt() -> None:
    made = make_phantom(shape=(48, 48, 32), spacing=(4, 4, 5))
    predictor = Predictor(judging_bundle(), CPU)
    one, two = (
        sampled(predictor, [LabelledVolume("a", "p", made.volume, made.lesion.full())], 2, ("click", "box"))
        for _ in range(2)
    )
    assert len(one.voxels) == len(one.masks) == 4
    assert all(0 <= q <= 1 and 0 <= r <= 1 for q, r in one.masks)
    assert one.masks == two.masks
    assert all(0 <= outside < whole == made.lesion.voxels for outside, whole in one.missed)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(one.voxels, two.voxels, strict=True))
    assert all(set(np.unique(lesion)) <= {0, 1} for _, lesion in one.voxels)


class Stubborn:
    """A predictor with one map for every prompt: 0.4 in a slab, 0.0001 beside it, nothing further off."""

    def __init__(self, volume: Volume):
        array = np.zeros((12, 48, 32), np.float32)
        array[:6], array[6:] = 0.4, 0.0001
        probability = Probability(array, (10, 0, 0), volume.grid)
        self.answer = SimpleNamespace(probability=probability, mask=probability.threshold(), predicted_iou=None)

    def set_volume(self, volume: Volume) -> None:
        """It knows what it says already."""

    def predict(self, prompts: object) -> SimpleNamespace:
        """The one answer."""
        return self.answer


def test_which_voxels_count_does_not_hang_on_what_they_are() -> None:
    """Target where the map is next to 0 may not count alone: that would make every map look too sure."""
    volume = make_phantom(shape=(48, 48, 32), spacing=(4, 4, 5)).volume
    where_doubtful = np.zeros(volume.shape, bool)
    where_doubtful[10:16, :24] = True
    everywhere = where_doubtful.copy()
    everywhere[16:30] = True
    predictor: Any = Stubborn(volume)
    one, other = (
        sampled(predictor, [LabelledVolume("a", "p", volume, truth)], 1, ("click",))
        for truth in (where_doubtful, everywhere)
    )
    for samples in (one, other):
        ((logits, lesion),) = samples.voxels
        assert logits == pytest.approx(np.full(6 * 48 * 32, np.log(0.4 / 0.6)), abs=1e-6)
        assert lesion.mean() == pytest.approx(0.5, abs=0.02)
    assert np.array_equal(one.voxels[0][1], other.voxels[0][1])
    assert one.missed == [(0, 6 * 24 * 32)]
    assert other.missed == [(14 * 48 * 32, 6 * 24 * 32 + 14 * 48 * 32)], "in the patch and outside it"


def test_the_part_of_a_lesion_outside_its_crop_is_counted() -> None:
    """Clicked at one end: what lies beyond the crop's border, no voxel of the map speaks of."""
    made = make_phantom(shape=(48, 48, 32), spacing=(4, 4, 5))
    truth = np.zeros(made.volume.shape, bool)
    truth[2:46, 20:24, 14:18] = True
    predictor = Predictor(judging_bundle(), CPU)  # crops of 64 mm, no zoom
    samples = sampled(predictor, [LabelledVolume("a", "p", made.volume, truth)], 1, ("click",))
    ((outside, whole),) = samples.missed
    assert whole == 44 * 16
    assert outside == pytest.approx(whole * (1 - 64 / 176), rel=0.3)
    found = calibrated(samples).measured["fraction of the targets below a probability of 0.001"]
    assert found == pytest.approx(outside / whole, abs=1e-4)


def test_the_predictor_reads_it() -> None:
    """A temperature makes the map less sure and leaves the mask; a line moves the quality."""
    from dataclasses import replace

    made = make_phantom(shape=(48, 48, 32), spacing=(4, 4, 5))
    plain = judging_bundle()
    read = replace(plain, calibration=Calibration(temperature=3, quality_slope=0.5, quality_offset=1))
    answers = []
    for bundle in (plain, read):
        predictor = Predictor(bundle, CPU)
        predictor.set_volume(made.volume)
        answers.append(predictor.predict([made.click]))
    a, b = answers
    assert np.array_equal(a.mask.array, b.mask.array)
    p = a.probability.array.astype(np.float64)
    bits = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    assert a.uncertainty.array == pytest.approx(bits, abs=1e-4)
    assert (b.uncertainty.array >= a.uncertainty.array - 1e-6).all()
    assert b.uncertainty.array.mean() > a.uncertainty.array.mean()
    assert a.predicted_iou is not None
    assert b.predicted_iou == pytest.approx(expit(0.5 * np.log(a.predicted_iou / (1 - a.predicted_iou)) + 1), abs=1e-5)
