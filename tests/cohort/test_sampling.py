"""Training crops: what inference would see, moved and disturbed by counted draws alone."""

import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch

from palpate.cohort import LabelledVolume
from palpate.cohort.augmentation import Augmentation, PromptSampling
from palpate.cohort.prepare import prepare
from palpate.cohort.prepared import PreparedScan
from palpate.cohort.sampling import CropSampler
from palpate.cohort.targets import MADE, TargetKind, TargetSampling
from palpate.frame import CropPercentiles, Frame, Preprocessing
from palpate.phantom import make_phantom
from palpate.randomness import counted_rng
from palpate.volume import Volume
from small import PREPROCESSING, prepared_scan, small_cohort, stacked

STILL = Augmentation(
    zoom=(1, 1), stretch=1, rotation_degrees=(0, 0, 0), translation=0,
    flip_prob=(0, 0, 0), contrast=0, brightness=0, noise=0
)  # fmt: skip
ONE = PromptSampling(target_clicks=(1, 1), random_clicks=0, as_inference=True)


class InMemory(PreparedScan):
    """A prepared scan that answers a box from whole arrays."""

    @cached_property
    def image(self) -> np.ndarray:
        return self.load().volume.array

    @cached_property
    def target(self) -> np.ndarray:
        return self.load().target

    def load(self) -> LabelledVolume:
        return PreparedScan(self.folder, self.record, self.values, self.name, self.patient).load()


@pytest.fixture(scope="module")
def cohort() -> list[PreparedScan]:
    made = [make_phantom(shape=(48, 48, 32), spacing=(4, 4, 5), seed=seed) for seed in (0, 1)]
    return [prepared_scan(m.volume, m.lesion.full()) for m in made]


def sampler(
    cohort: list[PreparedScan],
    augmentation: Augmentation | None = None,
    prompt_sampling: PromptSampling = ONE,
    seed: int = 3,
) -> CropSampler:
    return CropSampler([cohort], None, PREPROCESSING, augmentation or Augmentation(), prompt_sampling, seed)


# Truth and clicks of twelve examples, as commit dbd4047 drew them, before there were made targets and padding.
DRAWN_BEFORE = "6857b57c543264bd9d4029074424ab4f710f170a63ee1d1bb8a7218d4ed0d1d8"
MEANS_BEFORE = (-0.04993836, -0.00415178, 0.00748915, -0.03257886)  # of the first four images
DEVIATIONS_BEFORE = (1.15612566, 0.79944783, 0.87017, 0.50430369)


def test_contours_alone_are_drawn_as_before_made_targets(cohort: list[PreparedScan]) -> None:
    """Without padding and pasting, which changed (`DRAWING`), a resumed training's crops are those of its version."""
    settings = Augmentation(
        mask_out_prob=0.5, background_paste_prob=0, rotate90_prob=0.5, intensity_shift=20, resize_prob=0.5
    )
    assert [scan.padding for scan in cohort] == [None, None]
    drawn = sampler(cohort, settings, PromptSampling())
    examples = [drawn.example(index, 4) for index in range(12)]
    digest = hashlib.sha256()
    for example in examples:
        digest.update(example.truth.numpy().astype(np.uint8).tobytes())
        digest.update(example.clicks.numpy().tobytes())
    assert digest.hexdigest() == DRAWN_BEFORE
    images = [example.image for example in examples[:4]]
    assert [float(image.mean()) for image in images] == pytest.approx(MEANS_BEFORE, abs=1e-4)
    assert [float(image.std()) for image in images] == pytest.approx(DEVIATIONS_BEFORE, abs=1e-4)


@pytest.mark.parametrize("kind", [*MADE, "labels"])
def test_made_targets_hold_the_click_and_repeat(cohort: list[PreparedScan], kind: TargetKind) -> None:
    weights = TargetSampling(**{"contours": 0, kind: 1})
    settings = Augmentation(resize_prob=0.5, mask_out_prob=0.3, background_paste_prob=0.3, axis_order_prob=0.5)
    one, two = (CropSampler([cohort], None, PREPROCESSING, settings, ONE, 3, targets=weights) for _ in range(2))
    on_target = []
    for index in range(10):
        example = one.example(index, 1)
        assert one.kind(index) == kind
        assert all(torch.equal(a, b) for a, b in zip(example, two.example(index, 1), strict=True))
        d, h, w = example.clicks[0].round().long().clamp(0, 31).tolist()
        on_target.append(bool(example.truth[d, h, w]))
        if kind in MADE:
            assert 20 <= int(example.truth.sum()) <= 0.6 * 32**3
    assert np.mean(on_target) == 1 if kind in MADE else np.mean(on_target) > 0.7


def test_a_target_with_a_kind_of_its_own_changes_no_other(cohort: list[PreparedScan]) -> None:
    """Examples that keep their contour are drawn as in a training on contours alone."""
    mixed = CropSampler(
        [cohort], None, PREPROCESSING, Augmentation(), ONE, 3, targets=TargetSampling(contours=1, synthetic=1)
    )
    kinds = [mixed.kind(index) for index in range(12)]
    assert set(kinds) == {"contours", "synthetic"}
    for index, kind in enumerate(kinds):
        same = torch.equal(mixed.example(index, 1).image, sampler(cohort).example(index, 1).image)
        assert same == (kind == "contours")


def test_each_label_is_a_target_of_its_own() -> None:
    label = np.zeros((40, 40, 40), np.uint8)
    label[5:15, 5:15, 5:15], label[25:35, 25:35, 25:35] = 1, 2
    scan = prepared_scan(Volume(label * 100.0 + np.random.default_rng(0).random(label.shape), np.eye(4)), label)
    drawn = CropSampler([[scan]], None, PREPROCESSING, STILL, ONE, targets=TargetSampling(contours=0, labels=1))
    seen = set()
    for index in range(8):
        example = drawn.example(index, 1)
        assert 100 <= int(example.truth.sum()) <= 150, "a thousand voxels at twice the spacing; both labels have 250"
        seen.add(bool(example.image[0][example.truth.bool()].median() > 0.8 * example.image.amax()))
    assert seen == {True, False}, "the bright one and the other"


def test_labels_that_touch_are_joined_at_times() -> None:
    label = np.zeros((40, 40, 40), np.uint8)
    label[10:20, 10:30, 10:30], label[20:30, 10:30, 10:30], label[2:5, 2:5, 2:5] = 1, 2, 3
    scan = prepared_scan(Volume(label * 100.0, np.eye(4)), label)
    preprocessing = Preprocessing(crop=(64, 64, 64), spacing=(1.0, 1.0, 1.0), normalisation=CropPercentiles())
    drawn = CropSampler([[scan]], None, preprocessing, STILL, ONE, targets=TargetSampling(contours=0, labels=1))
    sizes = {int(drawn.example(index, 1).truth.sum()) for index in range(60)}
    assert sizes == {27, 4000, 8000}, "the small one touches none"


def test_scans_without_any_target_are_learned_from_too(cohort: list[PreparedScan]) -> None:
    volume = Volume(np.random.default_rng(0).normal(100, 10, (40, 40, 40)), np.eye(4))
    empty = prepared_scan(volume, np.zeros((40, 40, 40), bool))
    weights = TargetSampling(contours=1, synthetic=0.5, transplants=0.5)
    drawn = CropSampler([[*cohort, empty]], None, PREPROCESSING, Augmentation(), ONE, targets=weights)
    mine = [index for index in range(30) if drawn.scan(index) is empty]
    assert len(mine) == 10
    assert "contours" not in {drawn.kind(index) for index in mine}
    assert all(bool(drawn.example(index, 1).truth.any()) for index in mine)


def test_crops_lie_in_the_body_and_not_in_the_air_around_it() -> None:
    """One voxel in four is body; all but one crop in ten are centred there."""
    values = np.zeros((40, 40, 40))
    values[:20, :20] = 100
    scan = prepared_scan(Volume(values, np.eye(4)), np.zeros(values.shape, bool))
    drawn = sampler([scan])
    frames = [drawn._frame_anywhere(scan, counted_rng(0, "test", number)) for number in range(60)]
    hits = [values[tuple(frame.scan_index([16, 16, 16]).round().astype(int))] for frame in frames]
    assert np.mean(np.array(hits) > 0) > 0.9


def test_size_and_field_of_view_of_made_targets_are_drawn_apart(cohort: list[PreparedScan]) -> None:
    settings = Augmentation(resize_prob=1.0, resize=(0.5, 4.0))
    drawn = CropSampler(
        [cohort], None, PREPROCESSING, settings, ONE, 3, targets=TargetSampling(contours=0, synthetic=1)
    )
    fields, filled = [], []
    for index in range(60):
        rng = counted_rng(3, "training crop", index)
        scan = drawn.scan(index)
        drawn._frame_anywhere(scan, rng)
        motion = drawn._motion(scan, index, True, rng)
        fields.append(np.cbrt(abs(np.linalg.det(motion[:3, :3]))))
        filled.append(float(drawn.example(index, 1).truth.float().mean()))
    assert max(fields) / min(fields) > 2
    assert abs(np.corrcoef(np.log(fields), np.log(filled))[0, 1]) < 0.35


def test_axis_orders_by_hand() -> None:
    turned = STILL.model_copy(update={"axis_order_prob": 1.0})
    spacing = (2.0, 1.0, 1.0)
    orders = [turned.axis_order(spacing, counted_rng(0, "order", number)) for number in range(400)]
    assert len({tuple(np.sign(order[:3, :3]).ravel()) for order in orders}) == 48, "six orders, each axis either way"
    for order in orders:
        steps = np.diag(spacing) @ order[:3, :3] @ np.linalg.inv(np.diag(spacing))
        assert np.allclose(np.abs(steps).sum(axis=0), 1), "in millimetres it is an exchange of axes"
        assert np.allclose(steps @ steps.T, np.eye(3))
    assert np.array_equal(STILL.axis_order(spacing, counted_rng(0, "order", 0)), np.eye(4))


def test_an_axis_order_turns_the_crop_and_nothing_else(cohort: list[PreparedScan]) -> None:
    plain, turned = (sampler(cohort, STILL.model_copy(update={"axis_order_prob": p})) for p in (0.0, 1.0))
    differ = 0
    for index in range(6):
        one, other = plain.example(index, 1), turned.example(index, 1)
        assert one.clicks.tolist() == other.clicks.tolist() == [[16.0, 16.0, 16.0]], "the middle voxel stays"
        assert float(one.truth.sum()) == pytest.approx(float(other.truth.sum()), rel=0.1)
        differ += not torch.equal(one.truth, other.truth)
    assert differ >= 5


def test_an_example_is_a_function_of_its_number(cohort: list[PreparedScan]) -> None:
    one, two = sampler(cohort).example(7, 2), sampler(cohort).example(7, 2)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one.image, sampler(cohort).example(8, 2).image)
    assert not torch.equal(one.image, sampler(cohort, seed=4).example(7, 2).image)
    batch = stacked(sampler(cohort), 6, 2, 2)
    assert torch.equal(batch.image[1], one.image)
    assert batch.image.shape == (2, 1, 32, 32, 32)
    assert batch.truth.shape == (2, 32, 32, 32)
    assert batch.clicks.shape == (2, 2, 3)


def test_a_prepared_scan_gives_the_example_of_the_scan_in_memory(tmp_path: Path) -> None:
    found = small_cohort(tmp_path, 2)
    prepared = prepare(found, tmp_path / "prepared", workers=1)
    lazy: list[PreparedScan] = [prepared.scan(entry) for entry in prepared.index.scans]
    eager = [InMemory(one.folder, one.record, one.values, one.name, one.patient) for one in lazy]
    settings = Augmentation(mask_out_prob=0.5, background_paste_prob=0.5, rotate90_prob=0.5, intensity_shift=20)
    a, b = (CropSampler([scans], None, PREPROCESSING, settings, PromptSampling(), 0) for scans in (lazy, eager))
    for index in range(6):
        assert all(torch.equal(x, y) for x, y in zip(a.example(index, 3), b.example(index, 3), strict=True))


def test_unmoved_and_undisturbed_it_is_what_inference_sees(cohort: list[PreparedScan]) -> None:
    example = sampler(cohort, STILL).example(0, 1)
    assert example.clicks.tolist() == [[16.0, 16.0, 16.0]]
    matches = 0
    for scan in cohort:
        for index in np.argwhere(scan.load().target):
            frame = Frame.centred(scan.grid, index, PREPROCESSING)
            image = frame.image(scan.image, PREPROCESSING.normalisation)[0]
            if torch.equal(image, example.image):
                matches += 1
                share, inside = frame.extract(scan.target)
                assert torch.equal((share > 0.5) & inside, example.truth.bool())
    assert matches == 1


def test_clicks_stay_on_the_lesion_when_the_crop_moves(cohort: list[PreparedScan]) -> None:
    drawn = sampler(cohort, prompt_sampling=PromptSampling(target_clicks=(3, 3), random_clicks=0, as_inference=True))
    first, others = [], []
    for index in range(12):
        example = drawn.example(index, 3)
        d, h, w = example.clicks[0].round().long().tolist()
        first.append(int(example.truth[d, h, w]))
        for d, h, w in example.clicks[1:].long().tolist():
            others.append(int(example.truth[d, h, w]))
            assert all(4 <= i < 28 for i in (d, h, w)), "in the margin, where inference would keep the crop"
    assert np.mean(first) > 0.75, "but for voxels at its rim, which a coarser crop may lose"
    assert np.mean(others) == 1


def test_the_papers_clicks(cohort: list[PreparedScan]) -> None:
    """Ten on the crop's lesion, then twenty anywhere; on a crop without lesion all thirty anywhere."""
    drawn = sampler(cohort, Augmentation(target_prob=0.5), PromptSampling())
    seen = set()
    for index in range(16):
        example = drawn.example(index, 10)
        d, h, w = example.clicks.long().unbind(1)
        assert example.clicks.shape == (30, 3)
        assert 0 <= example.clicks.min() <= example.clicks.max() < 32
        hits = example.truth[d, h, w]
        seen.add(bool(example.truth.any()))
        assert hits[:10].all() or not example.truth.any()
        assert not hits[10:].all()
    assert seen == {True, False}


def test_counts_of_a_step() -> None:
    counts = [PromptSampling(target_clicks=(1, 3)).num_clicks(0, step) for step in range(400)]
    assert set(counts) == {1, 2, 3}
    assert 0.4 < counts.count(1) / 400 < 0.6
    assert {PromptSampling().num_clicks(0, step) for step in range(20)} == {10}


def test_an_epoch_takes_every_scan_once() -> None:
    grids = [prepared_scan(Volume(np.zeros((2, 2, 2)), np.eye(4)), np.ones((2, 2, 2), bool), str(n)) for n in range(7)]
    drawn = CropSampler([grids], None, PREPROCESSING, STILL, ONE)
    assert drawn.epoch == 7
    epochs = [[grids.index(drawn.scan(7 * epoch + i)) for i in range(7)] for epoch in range(3)]
    assert all(sorted(order) == list(range(7)) for order in epochs)
    assert len({tuple(order) for order in epochs}) == 3


def test_shares_of_cohorts() -> None:
    """Eight and two scans, drawn half and half: an epoch of ten holds five of each, and all come in turn."""
    scans = [prepared_scan(Volume(np.zeros((2, 2, 2)), np.eye(4)), np.ones((2, 2, 2), bool), str(n)) for n in range(10)]
    drawn = CropSampler([scans[:8], scans[8:]], [0.5, 0.5], PREPROCESSING, STILL, ONE)
    numbers = [scans.index(drawn.scan(i)) for i in range(80)]
    for epoch in range(8):
        assert sum(n >= 8 for n in numbers[10 * epoch : 10 * epoch + 10]) == 5
    assert [numbers.count(n) for n in range(10)] == [5] * 8 + [20] * 2


def test_motion_by_hand() -> None:
    crop = (10, 20, 40)
    rng = np.random.default_rng(0)
    assert np.array_equal(STILL.motion(crop, rng), np.eye(4))
    zoomed = STILL.model_copy(update={"zoom": (2.0, 2.0)}).motion(crop, rng)
    assert np.allclose(np.diag(zoomed), (0.5, 0.5, 0.5, 1)), "twice as large: half a voxel a step"
    flat = STILL.model_copy(update={"zoom_in_plane": (2.0, 2.0), "zoom_in_plane_prob": 1.0}).motion(crop, rng)
    assert np.allclose(np.diag(flat), (1, 0.5, 0.5, 1))
    flipped = STILL.model_copy(update={"flip_prob": (0.0, 1.0, 0.0)}).motion(crop, rng)
    assert np.allclose(np.diag(flipped), (1, -1, 1, 1))
    for _ in range(10):
        turned = STILL.model_copy(update={"rotation_degrees": (30.0, 0.0, 0.0)}).motion(crop, rng)
        assert np.allclose(turned[0, :3], (1, 0, 0)), "about D"
        assert np.linalg.det(turned[:3, :3]) == pytest.approx(1)
        assert np.degrees(np.arccos(turned[1, 1])) <= 30
        quarter = STILL.model_copy(update={"rotate90_prob": 1.0}).motion(crop, rng)
        assert set(np.abs(quarter[:3, :3]).ravel()) == {0, 1}
        assert not np.array_equal(quarter, np.eye(4))
        assert np.allclose(quarter[2, :3], (0, 0, 1)), "in the D-H plane"
        shifted = STILL.model_copy(update={"translation": 0.1}).motion(crop, rng)
        assert (np.abs(shifted[:3, 3]) <= (1, 2, 4)).all()
        assert np.abs(shifted[:3, 3]).max() > 0


def test_a_shift_of_intensities_comes_before_the_clip() -> None:
    """A scan of constant 100, clipped to 0..110: shifts reach the upper bound and no further."""
    from palpate.frame import ClipZScore

    preprocessing = Preprocessing(
        crop=(8, 8, 8), spacing=(1.0, 1.0, 1.0), normalisation=ClipZScore(low=0, high=110, mean=0, std=1)
    )
    scan = prepared_scan(Volume(np.full((20, 20, 20), 100.0), np.eye(4)), np.ones((20, 20, 20), bool))
    settings = STILL.model_copy(update={"intensity_shift": 20.0, "intensity_shift_prob": 1.0})
    drawn = CropSampler([[scan]], None, preprocessing, settings, ONE)
    values = [float(drawn.example(i, 1).image.max()) for i in range(40)]
    assert max(values) == 110
    assert 80 <= min(values) < 90


def test_hidden_and_filled(cohort: list[PreparedScan]) -> None:
    def zeros(**changes: float) -> float:
        drawn = sampler(cohort, STILL.model_copy(update=changes))
        return float(np.mean([float((drawn.example(i, 1).image == 0).float().mean()) for i in range(8)]))

    assert zeros(mask_out_prob=1.0) > 0.2 > zeros()
    assert zeros(mask_out_prob=1.0, background_paste_prob=1.0) < zeros(mask_out_prob=1.0)


def test_constant_air_is_not_pasted() -> None:
    """Scaled to a scan's deviation, its rounding would be noise."""
    scan = prepared_scan(
        Volume(np.random.default_rng(0).normal(0, 50, (16, 16, 16)), np.eye(4)), np.ones((16,) * 3, bool)
    )
    values, inside = torch.randn(32, 32, 32), torch.zeros(32, 32, 32, dtype=torch.bool)
    inside[:16] = True
    air = prepared_scan(Volume(np.full((64, 64, 64), -1000.5), np.eye(4)), np.ones((64,) * 3, bool), "air")
    for cohort, wanted in (([air], False), ([scan], True)):
        pasted, known = sampler(cohort)._pasted(values, inside, counted_rng(0, "test", 0))
        assert torch.equal(pasted, values) != wanted
        assert torch.equal(known, inside) != wanted


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_what_is_constant_air_does_not_depend_on_the_unit(unit: float) -> None:
    """A diffusion map in mm²/s, of some 0.001, is pasted as one in µm²/s is; its air of one value is not."""
    noise = np.random.default_rng(0).normal(1000, 200, (16, 16, 16))
    values, inside = torch.randn(32, 32, 32), torch.zeros(32, 32, 32, dtype=torch.bool)
    inside[:16] = True
    for voxels, wanted in ((noise * unit, True), (np.full((64, 64, 64), 1000.5 * unit), False)):
        scan = prepared_scan(Volume(voxels.astype(np.float32), np.eye(4)), np.ones(voxels.shape, bool), "other")
        _, known = sampler([scan])._pasted(values, inside, counted_rng(0, "test", 0))
        assert torch.equal(known, inside) != wanted


def test_counted_draws_are_its_only_source(cohort: list[PreparedScan]) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    sampler(cohort).example(0, 1)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"zoom": (1.2, 0.8)}, r"zoom: smallest and largest magnification, above zero, in order; not 1\.2, 0\.8"),
        ({"zoom_in_plane": (0.0, 1.0)}, r"zoom_in_plane: smallest"),
        ({"mask_out_prob": 2.0}, "less than or equal to 1"),
        ({"unknown": 1}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation.model_validate(settings)


def test_clicks_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match=r"fewest and most, at least 1, in order; not \(3, 1\)"):
        PromptSampling(target_clicks=(3, 1))


def test_percentiles_ignore_a_shift() -> None:
    scan = prepared_scan(Volume(np.random.default_rng(0).random((20, 20, 20)), np.eye(4)), np.ones((20, 20, 20), bool))
    preprocessing = Preprocessing(crop=(8, 8, 8), spacing=(1.0, 1.0, 1.0), normalisation=CropPercentiles())
    shifted = STILL.model_copy(update={"intensity_shift": 5.0, "intensity_shift_prob": 1.0})
    a, b = (CropSampler([[scan]], None, preprocessing, s, ONE).example(0, 1).image for s in (STILL, shifted))
    assert torch.allclose(a, b, atol=1e-4)


def test_fields_suit_the_lesion() -> None:
    """A lesion of a tenth of the crop fills 15 to 130 % of a resized one, or as much as the range allows."""
    resizing = Augmentation(resize_prob=1.0, resize=(0.5, 8.0), occupied=(0.15, 1.3))
    for diameter, low, high in (
        (0.1, 0.5, 0.1 / 0.15),
        (1.0, 1 / 1.3, 1 / 0.15),
        (3.0, 3 / 1.3, 8.0),
        (20.0, 8.0, 8.0),
    ):
        fields = [resizing.field(diameter, counted_rng(0, "field", number)) for number in range(400)]
        assert min(fields) >= low - 1e-9
        assert max(fields) <= high + 1e-9
        assert np.ptp(np.log(fields)) >= 0.95 * np.log(high / low)
    half = Augmentation(resize_prob=0.5)
    same = [half.field(1.0, counted_rng(0, "field", number)) == 1 for number in range(400)]
    assert 0.4 < np.mean(same) < 0.6


def test_a_resized_crop_shows_the_lesion_at_another_size() -> None:
    made = make_phantom(shape=(64, 64, 40), spacing=(3, 3, 4), lesion_diameter_mm=40)
    scan = prepared_scan(made.volume, made.lesion.full())
    plain = CropSampler([[scan]], None, PREPROCESSING, STILL, ONE, seed=1)
    wide = STILL.model_copy(update={"resize_prob": 1.0, "resize": (2.0, 2.0)})
    resized = CropSampler([[scan]], None, PREPROCESSING, wide, ONE, seed=1)
    assert plain._diameter(scan) == pytest.approx((6 * 1000 * made.lesion.volume_ml / np.pi) ** (1 / 3) / 64)
    near, far = plain.example(0, 1), resized.example(0, 1)
    ratio = float(near.truth.sum() / far.truth.sum())
    assert 4 < ratio < 9, "half the size along each axis, but for what the narrow crop cuts off"
