"""Which crop a lesion is predicted in: a fake model knows the truth, so that only the choice of views is tested."""

from typing import Any

import numpy as np
import pytest
import torch

from fakes import RANGE, SHAPE, SPACING, FakeRuntime, ball, blank_scan, knowing, truth_in
from palpate.errors import PromptError, SettingsError
from palpate.evaluation.metrics import dice
from palpate.frame import Frame
from palpate.inference import InferenceSettings
from palpate.inference.views import LEAST_AGREEMENT, ViewPolicy, reaches_border
from palpate.masks import Mask, Probability
from palpate.predictor import Predictor
from palpate.prompts import Box, Click
from small import small_bundle

NO_REFINEMENT = InferenceSettings(budget=0)
NO_ZOOM = InferenceSettings(zoom=False)


@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("dense", [True, False])
def test_the_field_widens_until_the_lesion_ends(oblique: bool, dense: bool) -> None:
    truth = ball((60, 50, 30), 70)
    predictor, runtime = knowing(truth, dense=dense)
    predictor.set_volume(blank_scan(oblique))
    prediction = predictor.predict([Click((60, 50, 20))])
    assert [view.scale for view in runtime.views[:3]] == [1, 2, 4]
    assert prediction.view.scale == 4
    assert not reaches_border(prediction.view.frame.extract(truth)[0], prediction.frame)
    assert dice(prediction.mask.full(), truth) > (0.97 if dense else 0.9)


@pytest.mark.parametrize("oblique", [False, True])
def test_a_crop_that_cuts_a_lesion_but_could_hold_it_is_recentred(oblique: bool) -> None:
    """44 mm in a crop of 64 mm, clicked 20 mm off its middle: no wider field is needed."""
    truth = ball((60, 50, 30), 22)
    predictor, runtime = knowing(truth)
    predictor.set_volume(blank_scan(oblique))
    prediction = predictor.predict([Click((70, 50, 30))])
    first, second = runtime.views
    assert (first.scale, second.scale) == (1, 1)
    assert reaches_border(first.frame.extract(truth)[0], first.frame)
    assert not reaches_border(second.frame.extract(truth)[0], second.frame)
    assert prediction.crops == 2
    assert dice(prediction.mask.full(), truth) > 0.93
    predictor.predict([Click((70, 50, 30)), Click((60, 50, 30))])
    assert [view.scale for view in runtime.views[2:]] == [1], "a correction stays in its view"


@pytest.mark.parametrize("predicted_iou", [None, {1: 0.9, 2: 0.6, 4: 0.8}])
def test_an_empty_prediction_of_a_wider_view_takes_no_mask_away(predicted_iou: dict[float, float] | None) -> None:
    truth = ball((60, 50, 30), 70)
    predictor, runtime = knowing(truth, predicted_iou=predicted_iou, settings=NO_REFINEMENT)
    draw = runtime.draw
    runtime.draw = lambda prompts: draw(prompts) * (prompts.view.scale != 2)
    predictor.set_volume(blank_scan())
    prediction = predictor.predict([Click((60, 50, 30))])
    assert [view.scale for view in runtime.views] == [1, 2, 4]
    assert prediction.view.scale == 4
    assert dice(prediction.mask.full(), truth) > 0.9


def test_a_recentred_crop_with_an_empty_prediction_is_not_taken() -> None:
    truth = ball((60, 50, 30), 22)
    predictor, runtime = knowing(truth)
    draw = runtime.draw
    runtime.draw = lambda prompts: draw(prompts) * (len(runtime.decoded) != 2)
    predictor.set_volume(blank_scan())
    prediction = predictor.predict([Click((70, 50, 30))])
    assert [view.scale for view in runtime.views[:3]] == [1, 1, 2]
    assert dice(prediction.mask.full(), truth) > 0.9


def test_a_crop_is_not_recentred_away_from_its_prompts() -> None:
    predictor, runtime = knowing(ball((48, 50, 30), 16))
    predictor.set_volume(blank_scan())
    box = Box((52, 46, 28), (80, 54, 32))
    predictor.predict([box])
    assert [view.scale for view in runtime.views[:3]] == [1, 1, 2], "recentred, the crop still cuts the lesion"
    assert all(view.frame.holds(box, 0.0) for view in runtime.views[:3])


def test_one_crop_where_zoom_is_off_or_the_model_was_not_trained_for_it() -> None:
    predictor, runtime = knowing(ball((60, 50, 30), 70), settings=NO_ZOOM)
    predictor.set_volume(blank_scan())
    assert predictor.predict([Click((60, 50, 30))]).mask.extent_mm == (64, 64, 64)
    assert [view.scale for view in runtime.views] == [1]
    plain = Predictor(small_bundle())
    assert plain.settings.zoom
    assert plain.identity.budget is None
    assert not ViewPolicy(plain.runtime.preprocessing).zooms
    assert ViewPolicy(RANGE).zooms
    assert not ViewPolicy(RANGE, zoom=False).zooms


def test_the_scans_end_is_no_border() -> None:
    truth = np.zeros(SHAPE, bool)
    truth[:20] = True  # reaches three pairs of the scan's faces, and is 40 mm thick
    predictor, runtime = knowing(truth)
    predictor.set_volume(blank_scan())
    prediction = predictor.predict([Click((5, 50, 30))])
    assert prediction.view.scale == 4, "240 mm of scan fit into 256 mm"
    whole = Frame.centred(blank_scan().grid, (10, 50, 30), RANGE.zoomed(8))
    assert not reaches_border(torch.ones(32, 32, 32), whole)
    assert max(view.scale for view in runtime.views) == 4


def test_specks_at_the_border_widen_nothing() -> None:
    frame = Frame.centred(blank_scan().grid, (60, 50, 30), RANGE)
    probability = torch.zeros(32, 32, 32)
    probability[0, :2, 0] = 1
    assert not reaches_border(probability, frame)
    probability[0, :3, 0] = 1
    assert reaches_border(probability, frame)


def test_a_small_lesion_is_predicted_in_a_narrower_view() -> None:
    predictor, runtime = knowing(ball((60, 50, 30), 6), blur=False)
    predictor.set_volume(blank_scan())
    prediction = predictor.predict([Click((60, 50, 30))])
    assert [view.scale for view in runtime.views] == [1, 0.5]
    assert prediction.view.scale == 0.5
    predictor.predict([Click((60, 50, 30)), Click((61, 50, 30))])
    assert [view.scale for view in runtime.views] == [1, 0.5, 0.5], "a correction stays in its view"
    predictor.predict([Click((60, 50, 30)), Click((90, 50, 30))])
    assert runtime.views[3].scale in (1.0, 2.0), "a prompt outside the narrow field asks for a wider one"


@pytest.mark.parametrize(("expected", "seen"), [(0.45, [1]), (0.1, [1, 2])])
def test_only_a_mask_that_is_cut_or_doubtful_asks_for_a_wider_view(expected: float, seen: list[float]) -> None:
    """Whatever the model predicts of wider views; and where those show the same, the nearer one is finer."""
    predictor, runtime = knowing(ball((60, 50, 30), 25), predicted_iou={1: expected, 2: 0.9, 4: 0.9, 8: 0.9})
    predictor.set_volume(blank_scan())
    prediction = predictor.predict([Click((60, 50, 30))])
    assert prediction.view.scale == 1
    assert [view.scale for view in runtime.views] == seen
    assert prediction.alternatives == ()
    predictor.predict([Click((60, 50, 30)), Click((61, 50, 30))])
    assert {view.scale for view in runtime.views[len(seen) :]} == {1}, "a correction does not"


def seeing(by_scale: dict[float, np.ndarray], **more: Any) -> tuple[Predictor, FakeRuntime]:
    """A predictor whose model sees another truth in views from a width on."""
    predictor, runtime = knowing(by_scale[1], settings=NO_REFINEMENT, **more)
    draws = {scale: truth_in(truth) for scale, truth in by_scale.items()}
    runtime.draw = lambda prompts: draws[max(scale for scale in draws if scale <= prompts.view.scale)](prompts)
    predictor.set_volume(blank_scan())
    return predictor, runtime


CUT = ball((60, 50, 30), 30, (3, 0.6, 0.6))  # 180 mm long and 36 mm thick, in a crop of 64 mm
BODY = np.ones(SHAPE, bool)


def near_middle(edge_mm: float) -> np.ndarray:
    """A cube around the scan's voxel (60, 50, 30)."""
    inside: np.ndarray = (np.abs((np.indices(SHAPE).T - (60, 50, 30)) * SPACING) <= edge_mm / 2).all(axis=-1)
    return inside.T


MIDDLE = Click((60, 50, 30))


def test_a_wider_view_that_sees_the_body_is_offered_and_not_taken() -> None:
    """It marks all of the nearer crop, a quarter of which the lesion fills: Dice 0.4 there."""
    predictor, runtime = seeing({1: CUT, 2: BODY}, predicted_iou={1: 0.55, 2: 0.9})
    prediction = predictor.predict([MIDDLE])
    assert [view.scale for view in runtime.views] == [1, 2]
    assert prediction.view.scale == 1
    assert prediction.mask.voxels == pytest.approx((CUT & near_middle(64)).sum(), rel=0.1)
    (other,) = prediction.alternatives
    assert other.view.scale == 2
    assert prediction.predicted_iou is not None
    agreed = prediction.predicted_iou / 0.55
    assert 0.3 < agreed < 0.5, "a quarter of the crop against all of it: Dice 0.4"
    assert other.predicted_iou == pytest.approx(0.9 * agreed)
    assert other.mask.volume_ml > 1.5 * prediction.mask.volume_ml
    assert other.volume_ml == other.mask.volume_ml == pytest.approx(128**3 / 1000, rel=0.04)
    taken = prediction.with_alternative(1)
    assert np.array_equal(taken.mask.full(), other.mask.full())
    assert (taken.view.scale, taken.predicted_iou) == (2, other.predicted_iou)
    for number in (0, 2):
        with pytest.raises(SettingsError, match=f"no alternative {number}: there are 1"):
            prediction.with_alternative(number)


def test_by_the_first_rules_a_wider_view_always_counts() -> None:
    predictor, _ = seeing({1: CUT, 2: BODY}, predicted_iou={1: 0.55, 2: 0.9, 4: 0.9, 8: 0.9})
    first = predictor.with_rules(1)
    first.set_volume(blank_scan())
    prediction = first.predict([MIDDLE])
    assert prediction.view.scale > 1
    assert prediction.mask.voxels > 0.95 * BODY.sum()
    assert prediction.predicted_iou == pytest.approx(0.9)
    assert prediction.alternatives == ()


def test_a_wider_view_that_agrees_may_go_on_outside() -> None:
    """It sees a larger lesion, of which the nearer crop holds most of what it saw there."""
    longer = CUT | ball((85, 50, 30), 25)
    predictor, _ = seeing({1: CUT, 2: longer})
    prediction = predictor.predict([MIDDLE])
    assert prediction.view.scale == 4
    assert dice(prediction.mask.full(), longer) > 0.8
    assert prediction.alternatives == ()


def test_a_doubtful_small_mask_may_be_part_of_a_likely_large_one() -> None:
    small, large = ball((60, 50, 30), 10), ball((60, 50, 30), 40)
    predictor, _ = seeing({1: small, 2: large}, predicted_iou={0.5: 0.2, 1: 0.3, 2: 0.8})
    prediction = predictor.predict([MIDDLE])
    assert prediction.view.scale == 2
    assert dice(prediction.mask.full(), large) > 0.9
    assert [other.view.scale for other in prediction.alternatives] == [1], "the small one is offered"
    unlikely, _ = seeing({1: small, 2: large}, predicted_iou={0.5: 0.2, 1: 0.3, 2: 0.55})
    prediction = unlikely.predict([MIDDLE])
    assert prediction.view.scale <= 1
    assert prediction.alternatives[0].view.scale == 2
    boxed = predictor.predict([Box((55, 45, 28), (65, 55, 32))])
    assert boxed.view.scale <= 1, "a box says how large it is"


def test_a_second_look_at_something_else_does_not_make_a_mask_hopeless() -> None:
    """The wider view sees a ball beside the lesion: what the two see has nothing in common."""
    predictor, _ = seeing(
        {1: ball((60, 50, 30), 10), 2: ball((40, 50, 30), 12)}, predicted_iou={0.5: 0.2, 1: 0.3, 2: 0.5}
    )
    prediction = predictor.predict([MIDDLE])
    assert prediction.view.scale == 1
    assert prediction.predicted_iou == pytest.approx(0.3 * LEAST_AGREEMENT)


def test_an_alternative_keeps_to_the_box_and_the_forbidden_region() -> None:
    predictor, _ = seeing({1: CUT, 2: BODY}, predicted_iou={1: 0.55, 2: 0.9})
    left = np.zeros(SHAPE, bool)
    left[:60] = True
    forbidden = Mask(left, (0, 0, 0), blank_scan().grid)
    prediction = predictor.predict([Click((62, 50, 30))], forbidden=forbidden)
    (other,) = prediction.alternatives
    assert other.mask.voxels
    assert not (other.mask.full() & left).any()


def test_an_alternative_that_a_box_cuts_says_so_and_counts_what_is_left() -> None:
    predictor, _ = seeing({1: CUT, 2: BODY}, predicted_iou={1: 0.55, 2: 0.9})
    prediction = predictor.predict([Box((52, 44, 27), (68, 56, 33))])
    (other,) = prediction.alternatives
    before = other.nbytes
    assert other.volume_ml == other.mask.volume_ml < 0.5 * 128**3 / 1000
    kept = [value for value in vars(other).values() if isinstance(value, (Mask, Probability))]
    assert kept == [], "the cache counts an answer's bytes once"
    assert other.nbytes == before
    taken = prediction.with_alternative(1)
    assert taken.cut > 0.5
    assert "beyond_box" in [warning.kind for warning in taken.warnings]


def test_a_correction_says_how_an_alternative_is_had() -> None:
    predictor, _ = seeing({1: CUT, 2: BODY}, predicted_iou={1: 0.55, 2: 0.9})
    assert len(predictor.predict([MIDDLE]).alternatives) == 1
    corrected = predictor.predict([MIDDLE, Click((61, 50, 30))])
    with pytest.raises(SettingsError, match=r"no alternative 1: a correction has none\. Take it with the first prompt"):
        corrected.with_alternative(1)
    small, _ = seeing({1: ball((60, 50, 30), 20)})
    with pytest.raises(SettingsError, match="no alternative 1: the views agree, and there is none"):
        small.predict([MIDDLE]).with_alternative(1)


@pytest.mark.parametrize(("narrow", "taken"), [(0.8, 0.5), (0.5, 1)])
def test_of_two_views_that_of_the_higher_predicted_overlap_is_taken(narrow: float, taken: float) -> None:
    predictor, runtime = knowing(ball((60, 50, 30), 6), blur=False, predicted_iou={1: 0.6, 0.5: narrow})
    predictor.set_volume(blank_scan())
    assert predictor.predict([Click((60, 50, 30))]).view.scale == taken
    assert [view.scale for view in runtime.views] == [1, 0.5]


def test_prompts_too_wide_for_a_narrower_view_keep_theirs() -> None:
    predictor, runtime = knowing(ball((60, 50, 30), 5), blur=False)
    predictor.set_volume(blank_scan())
    assert predictor.predict([Box((50, 40, 28), (70, 60, 32))]).view.scale == 1
    assert [view.scale for view in runtime.views] == [1], "38 mm do not fit into 32"
    both = [Click((60, 50, 30)), Click((79, 50, 30))]
    first, second = predictor.predict(both[:1]), predictor.predict(both)
    assert (first.view.scale, second.view.scale) == (0.5, 1)
    assert second.mask.full()[60, 50, 30]


def test_the_first_view_contains_a_box_larger_than_a_crop() -> None:
    truth = ball((60, 50, 30), 70)
    predictor, runtime = knowing(truth)
    predictor.set_volume(blank_scan())
    prediction = predictor.predict([Box((25, 15, 12), (95, 85, 48))])
    assert runtime.views[0].scale == 4
    assert dice(prediction.mask.full(), truth) > 0.97
    narrow, _ = knowing(truth, settings=NO_ZOOM)
    narrow.set_volume(blank_scan())
    with pytest.raises(PromptError, match="the prompts span 144 x 140 x 140 mm, more than this model's crop holds"):
        narrow.predict([Box((25, 15, 12), (95, 85, 48))])


def test_a_prompt_outside_keeps_the_mask_in_view() -> None:
    truth = ball((60, 50, 30), 20)
    predictor, _ = knowing(truth)
    predictor.set_volume(blank_scan())
    predictor.predict([Click((60, 50, 30))])
    both = predictor.predict([Click((60, 50, 30)), Click((85, 50, 30))])
    assert both.view.scale == 2
    low, high = (both.frame.crop_index(edge) for edge in both.mask.bounds or ())
    assert (np.minimum(low, high) > 0).all()
    assert (np.maximum(low, high) < 31).all()
    assert dice(both.mask.full(), truth) > 0.9
