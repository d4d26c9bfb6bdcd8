"""Boundaries of lesions larger than a crop, predicted again in overlapping crops."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from fakes import RANGE, SHAPE, ball, blank_scan, knowing
from palpate.bundle import Bundle
from palpate.evaluation.metrics import dice
from palpate.frame import Frame
from palpate.inference import InferenceSettings, View
from palpate.inference.refinement import boundary_crops, finest
from palpate.masks import Mask
from palpate.predictor import Prediction, Predictor
from palpate.prompts import Box, Click, InitialMask, Prompt, Scribble
from palpate.volume import Volume
from small import prompted_bundle

NO_REFINEMENT = InferenceSettings(budget=0)


def test_a_larger_budget_draws_finer() -> None:
    truth = ball((60, 50, 30), 70, (1, 0.6, 0.5))
    answers = {}
    for budget in (0, 4, 200):
        predictor, runtime = knowing(truth, settings=InferenceSettings(budget=budget))
        predictor.set_volume(blank_scan())
        prediction = predictor.predict([Click((60, 50, 30))])
        answers[budget] = dice(prediction.mask.full(), truth)
        assert prediction.crops == len(runtime.views)
        assert len(runtime.views) - 3 <= budget, "three crops find the lesion"
    assert answers[200] > answers[0] + 0.02
    assert answers[0] < answers[4] < answers[200], "four crops cannot follow all of the boundary, but some"


def test_many_small_changes_are_a_large_one() -> None:
    """In the wide view 0.9, then 0.2 less with every prompt: at last the lesion is gone."""
    truth = ball((60, 50, 30), 70)
    predictor, runtime = knowing(truth, settings=NO_REFINEMENT)
    level = 0.9
    runtime.draw = lambda prompts: level * (prompts.view.frame.extract(truth)[0] > 0.5)
    predictor.set_volume(blank_scan())
    prompts: list[Prompt] = [Click((60, 50, 30))]
    voxels = []
    for _ in range(5):
        voxels.append(predictor.predict(prompts).mask.voxels)
        prompts.append(Click((60 + len(prompts), 50, 30), positive=False))
        level -= 0.2
    assert voxels[0] > 50_000
    assert voxels[-1] < 0.1 * voxels[0]


def test_an_initial_mask_is_empty_outside_the_scan() -> None:
    """A lesion on the last slices: the initial mask does not go on beyond them."""
    mask = np.zeros(SHAPE, np.float32)
    mask[55:65, 45:55, 57:] = 1
    frame = Frame.centred(blank_scan().grid, (60, 50, 58), RANGE.zoomed(2))
    initial = frame.maps([Click((60, 50, 58))], mask)[0, 3]
    _, inside = frame.extract(mask)
    assert (initial[~inside] == -1).all()
    assert initial.max() > 0.9


def test_a_further_prompt_leaves_what_it_does_not_touch() -> None:
    """After a correction at one end, only crops near it are predicted again, and far voxels stay to the bit."""
    truth = ball((60, 50, 30), 70)
    predictor, runtime = knowing(truth, settings=InferenceSettings(budget=200))
    predictor.set_volume(blank_scan())
    first = predictor.predict([Click((60, 50, 30))])
    count = len(runtime.views)
    truth[88:93, 50:55, 28:32] = False  # the user sees that this is wrong
    second = predictor.predict([Click((60, 50, 30)), Click((90, 52, 30), positive=False)])
    assert len(runtime.views) - count < count / 2
    before, after = first.probability.full(), second.probability.full()
    assert not np.array_equal(before[80:], after[80:])
    assert np.array_equal(before[:50], after[:50])


def test_a_large_initial_masks_detail_stays_where_the_network_agrees() -> None:
    """A comb of one-voxel teeth, which no wide view can draw, survives as an initial mask."""
    truth = ball((60, 50, 30), 70)
    comb = truth.copy()
    comb[60, :, ::2] = False
    predictor, _ = knowing(truth, settings=NO_REFINEMENT)
    predictor.set_volume(blank_scan())
    mask = predictor.predict([InitialMask(Mask(comb, (0, 0, 0), blank_scan().grid))]).mask.full()
    assert dice(mask[60, 40:60, 25:35], comb[60, 40:60, 25:35]) == 1


def test_a_budget_that_does_not_do_goes_to_the_prompt_and_to_most_of_the_region() -> None:
    view = View(Frame.centred(blank_scan().grid, (60, 50, 30), RANGE.zoomed(4)), 4.0)
    region = np.ones(view.frame.size, bool)
    named = Click((110, 100, 55))
    (only,) = boundary_crops(view, region, named, Click((60, 50, 30)), RANGE, 1)
    assert only.scale == 2, "the coarsest that is narrower"
    assert only.frame.holds(named, 0.0)
    some = boundary_crops(view, region, named, Click((60, 50, 30)), RANGE, 5)
    assert len(some) == 5
    assert sum(crop.frame.holds(named, 0.0) for crop in some) >= 1
    everything = boundary_crops(view, region, named, Click((60, 50, 30)), RANGE, 1000)
    assert {crop.scale for crop in everything} == {finest(blank_scan().grid, RANGE)}
    assert all(min(crop.frame.covered()[1]) > 0 for crop in everything), "none lies wholly outside the scan"


def test_every_crop_gets_all_prompts() -> None:
    """A stroke that leaves a crop, and a box around it, are in its tensors as far as they lie in it."""
    predictor, runtime = knowing(ball((60, 50, 30), 70), settings=InferenceSettings(budget=200))
    predictor.set_volume(blank_scan())
    prompts: list[Prompt] = [Box((25, 15, 12), (95, 85, 48)), Scribble.along([(30, 50, 30), (90, 50, 30)])]
    predictor.predict(prompts)
    narrower = [crop for crop in runtime.decoded if crop.view.scale < 4]
    assert narrower
    assert all(list(crop.prompts) == prompts[: len(crop.prompts)] for crop in narrower)
    frames = [crop.view.frame for crop in narrower if list(crop.prompts) == prompts]
    cut = [frame for frame in frames if not frame.holds(prompts[1], 0.0) and frame.maps(prompts)[0, 0].any()]
    assert cut
    for frame in cut:
        points, labels = frame.tokens(prompts)
        assert set(labels[0].tolist()) == {0, 2, 3}
        assert ((points > -0.51) & (points < 31.51)).all()


@pytest.mark.parametrize(
    ("order", "flips"), [((0, 1, 2), (1, 2)), ((2, 0, 1), ()), ((1, 0, 2), (0,)), ((2, 1, 0), (0, 1, 2))]
)
def test_how_a_scan_is_stored_does_not_matter(order: tuple[int, ...], flips: tuple[int, ...]) -> None:
    """Odd sizes, several prompts, and wide views: a scan with its axes in another order has the same mask."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(95, 71, 47)), 3)
    base = Volume((2000 * smooth).astype(np.int16), np.diag([1.2, 1.0, 1.7, 1.0]))
    bundle = prompted_bundle()
    preprocessing = bundle.preprocessing.model_copy(update={"zoom": (0.5, 4.0)})
    settings = InferenceSettings(device="cpu", budget=8)
    predictor = Predictor(Bundle(bundle.network, preprocessing, bundle.provenance), settings)
    corners = np.array([[41, 33, 20], [12, 20, 11], [81, 58, 40], [30, 31, 22], [60, 31, 25]])

    def answers(volume: Volume, places: np.ndarray) -> list[Prediction]:
        one, low, high, two, three = ((x, y, z) for x, y, z in places.tolist())
        prompts: list[Prompt] = [Click(one), Box(low, high), Click(two, positive=False), Click(three)]
        predictor.set_volume(volume)
        return [predictor.predict(prompts[:count]) for count in (1, 2, 3, 4)] + [predictor.predict(prompts[1:2])]

    matrix = np.eye(4)
    stored = base.array.transpose(order)
    matrix[:3, :3] = base.grid.affine[:3, :3][:, order]
    places = corners[:, order]
    for axis in flips:
        matrix[:3, 3] += matrix[:3, axis] * (stored.shape[axis] - 1)
        matrix[:3, axis] *= -1
        stored = np.flip(stored, axis)
        places[:, axis] = stored.shape[axis] - 1 - places[:, axis]
    expected = answers(base, corners)
    found = answers(Volume(np.ascontiguousarray(stored), matrix), places)
    assert max(prediction.view.scale for prediction in expected) > 1
    for one, other in zip(expected, found, strict=True):
        assert one.view.scale == other.view.scale
        back = np.flip(other.probability.full(), flips).transpose(np.argsort(order))
        assert np.abs(back - one.probability.full()).max() < 2e-3


def test_crops_are_predicted_one_by_one_as_they_are_asked_for() -> None:
    """Whoever stops asking pays for no further crop."""
    from palpate.inference.progress import Progress
    from palpate.inference.refinement import predict_crops
    from palpate.masks import Probability

    predictor, runtime = knowing(ball((60, 50, 30), 70))
    scan = predictor.encode_scan(blank_scan())
    crops = [View(Frame.centred(scan.volume.grid, (40 + 10 * n, 50, 30), RANGE), 1.0) for n in range(4)]
    base = Probability(np.zeros((1, 1, 1), np.float32), (0, 0, 0), scan.volume.grid)
    predicted = predict_crops(scan, crops, [Click((60, 50, 30))], base, Progress())
    view, probability = next(predicted)
    assert view is crops[0]
    assert torch.equal(probability, runtime.draw(runtime.decoded[0]))
    next(predicted)
    assert len(runtime.decoded) == 2
