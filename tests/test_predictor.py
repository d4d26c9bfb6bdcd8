"""The one inference path."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from palpate.bundle import Bundle
from palpate.devices import Precision
from palpate.errors import DeviceError, PromptError
from palpate.formats import write
from palpate.frame import Frame
from palpate.inference import CACHE, InferenceSettings, TorchRuntime, View
from palpate.masks import Mask, Probability
from palpate.phantom import make_phantom
from palpate.predictor import Prediction, Predictor
from palpate.prompts import Box, Click, InitialMask, Prompt, Scribble
from palpate.volume import Grid, Volume
from small import CPU, empty_bundle, judging_bundle, noise_scan, prompted_bundle, quick_predictor, small_bundle


@pytest.fixture(scope="module")
def scan() -> Volume:
    return make_phantom(shape=(64, 64, 40), spacing=(3, 3, 4)).volume


def test_a_list_gives_one_mask_in_one_call_or_in_several(scan: Volume) -> None:
    clicks = [Click((30, 30, 20)), Click((33, 28, 21)), Click((45, 30, 20))]
    predictor = Predictor(small_bundle(), CPU)
    predictor.set_volume(scan)
    at_once = predictor.predict(clicks)
    for count in (1, 2, 3):
        one_by_one = predictor.predict(clicks[:count])
    assert np.array_equal(at_once.probability.full(), one_by_one.probability.full())
    assert np.array_equal(at_once.mask.full(), at_once.probability.full() > 0.5)


def counted(predictor: Predictor) -> list[int]:
    """A list that grows by one with each crop that is encoded."""
    encoded: list[int] = []
    assert isinstance(predictor.runtime, TorchRuntime)
    predictor.runtime.network.encoder.register_forward_hook(lambda m, i, o: encoded.append(1))
    return encoded


def test_a_further_click_in_the_crop_encodes_nothing(scan: Volume) -> None:
    predictor = Predictor(small_bundle(), CPU)
    encoded = counted(predictor)
    predictor.set_volume(scan)
    predictor.predict([Click((30, 30, 20))])
    predictor.predict([Click((30, 30, 20)), Click((32, 30, 20))])
    assert len(encoded) == 1
    predictor.predict([Click((10, 30, 20))])
    assert len(encoded) == 2, "another crop"
    predictor.set_volume(scan)
    predictor.predict([Click((10, 30, 20))])
    assert len(encoded) == 3, "a scan set anew may hold other voxels"


def test_the_network_is_left_as_it_was(scan: Volume) -> None:
    """Training validates with the network it trains: neither its mode nor its answer may depend on the other."""
    bundle = small_bundle()
    answers = []
    for training in (True, False):
        bundle.network.train(training)
        predictor = Predictor(bundle, CPU)
        predictor.set_volume(scan)
        answers.append(predictor.predict([Click((30, 30, 20))]).probability.full())
        assert bundle.network.training is training
    assert np.array_equal(answers[0], answers[1])


def test_progress_comes_block_by_block(scan: Volume) -> None:
    predictor = Predictor(small_bundle(), CPU)
    shares: list[float] = []
    predictor.set_volume(scan)
    predictor.predict([Click((30, 30, 20))], progress=shares.append)
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_reduced_precision_stays_close(scan: Volume) -> None:
    exact, rough = (
        Predictor(small_bundle(), InferenceSettings(device="cpu", precision=precision))
        for precision in get_args(Precision)[:2]
    )
    answers = []
    for predictor in (exact, rough):
        predictor.set_volume(scan)
        answers.append(predictor.predict([Click((30, 30, 20))]).probability.full())
    assert np.abs(answers[0] - answers[1]).mean() < 0.02


def test_an_empty_mask_is_an_answer(scan: Volume) -> None:
    predictor = Predictor(empty_bundle(), CPU)
    predictor.set_volume(scan)
    mask = predictor.predict([Click((0, 0, 0))]).mask
    assert mask.empty
    assert (mask.volume_ml, mask.extent_mm, mask.bounds) == (0.0, (0.0, 0.0, 0.0), None)


def test_errors(scan: Volume) -> None:
    predictor = Predictor(small_bundle(), CPU)
    with pytest.raises(PromptError, match="call set_volume before predict"):
        predictor.predict([Click((0, 0, 0))])
    predictor.set_volume(scan)
    with pytest.raises(PromptError, match="at least one click"):
        predictor.predict([])
    with pytest.raises(PromptError, match="valid voxel indices: x 0 to 63, y 0 to 63, z 0 to 39"):
        predictor.predict([Click((64, 0, 0))])
    with pytest.raises(DeviceError, match="device 'abacus' is not here"):
        Predictor(small_bundle(), InferenceSettings(device="abacus"))
    with pytest.raises(DeviceError, match=r"device 'meta' is not here \(it holds no numbers\)"):
        Predictor(small_bundle(), InferenceSettings(device="meta"))
    with pytest.raises(DeviceError, match="device 'hpu' is not here"):
        Predictor(small_bundle(), InferenceSettings(device="hpu"))
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="device 'cuda' is not here"):
            Predictor(small_bundle(), InferenceSettings(device="cuda"))


PROMPTS: list[Prompt] = [
    Click((24, 24, 16)),
    Click((27, 22, 15), positive=False),
    Box((20, 20, 12), (28, 28, 20)),
    Scribble.along([(22, 24, 16), (26, 24, 17)]),
    Click((37, 36, 23)),  # outside the margin: the crop is planned anew
    Click((24, 30, 16), positive=False),
]


def fresh(scan: Volume) -> Predictor:
    predictor = Predictor(prompted_bundle(), CPU)
    predictor.set_volume(scan)
    return predictor


def test_prompts_in_one_call_or_several_or_after_an_undo(scan: Volume) -> None:
    whole = fresh(scan).predict(PROMPTS)
    several = fresh(scan)
    masks = [several.predict(PROMPTS[:count]).probability.array for count in range(1, len(PROMPTS) + 1)]
    assert np.array_equal(masks[-1], whole.probability.array)
    assert all(not np.array_equal(a, b) for a, b in pairwise(masks[:4])), "each prompt matters"
    undone = fresh(scan)
    undone.predict(PROMPTS)
    undone.predict([*PROMPTS[:3], Click((23, 23, 15))])
    undone.predict(PROMPTS[:2])
    assert np.array_equal(undone.predict(PROMPTS).probability.array, whole.probability.array)


def test_what_left_the_cache_is_computed_again(scan: Volume) -> None:
    whole = fresh(scan).predict(PROMPTS).probability.array
    third = fresh(scan).predict(PROMPTS[:3]).probability.array
    predictor = fresh(scan)
    assert predictor.scan is not None
    assert np.array_equal(predictor.predict(PROMPTS).probability.array, whole)
    CACHE.discard(predictor.scan.number)
    assert np.array_equal(predictor.predict(PROMPTS[:3]).probability.array, third)
    assert np.array_equal(predictor.predict(PROMPTS).probability.array, whole)


def test_background_prompts_first_wait_for_one_that_says_where(scan: Volume) -> None:
    """They are no step of their own, whose mask would mean nothing."""
    background, click = Click((27, 22, 15), positive=False), Click((24, 24, 16))
    predictor = fresh(scan)
    first = predictor.predict([background, click])
    with pytest.raises(PromptError, match="nothing says where"):
        predictor.predict([background])
    third = predictor.predict([background, click, Click((24, 30, 16))])
    again = fresh(scan)
    again.predict([click, Click((25, 24, 16))])
    assert np.array_equal(again.predict([background, click]).probability.array, first.probability.array)
    assert np.array_equal(
        again.predict([background, click, Click((24, 30, 16))]).probability.array, third.probability.array
    )


@pytest.mark.parametrize("zoomed", [False, True])
def test_a_correction_is_one_sided(scan: Volume, zoomed: bool) -> None:
    """A foreground prompt removes nothing, a background prompt adds nothing, whatever the network predicts there."""
    predictor = zooming() if zoomed else fresh(scan)
    masks = [predictor.predict(PROMPTS[:count]).mask.full() for count in range(1, len(PROMPTS) + 1)]
    changes = []
    for prompt, before, after in zip(PROMPTS[1:], masks[:-1], masks[1:], strict=True):
        gained, lost = np.count_nonzero(after & ~before), np.count_nonzero(before & ~after)
        if isinstance(prompt, Box):
            assert gained or lost
            continue
        assert (lost if prompt.positive else gained) == 0
        changes.append((prompt.positive, gained + lost))
    assert any(changed for side, changed in changes if side)
    assert any(changed for side, changed in changes if not side)


@pytest.mark.parametrize(
    "further",
    [
        Scribble.along([(13, 24, 20), (23, 24, 20)], positive=False),
        Box((22, 23, 19), (25, 26, 21), loose=True),
    ],
)
def test_what_lies_outside_a_new_crop_stays(scan: Volume, further: Prompt) -> None:
    """A prompt outside the crop asks for another; what that does not see, it does not take away."""
    predictor = fresh(scan)
    first = predictor.predict([Click((10, 24, 20))])
    second = predictor.predict([Click((10, 24, 20)), further])
    assert second.frame.to_scan.tolist() != first.frame.to_scan.tolist()
    start, size = second.frame.covered()
    outside = np.ones(scan.shape, bool)
    outside[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = False
    assert (first.mask.full() & outside).any()
    assert np.array_equal(first.mask.full() & outside, second.mask.full() & outside)


def test_nobody_changes_an_answer_that_the_next_one_starts_from(scan: Volume) -> None:
    prediction = fresh(scan).predict([Click((10, 24, 20))])
    for array in (prediction.mask.array, prediction.probability.array):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def zooming() -> Predictor:
    """Random weights, which see lesion at every border: the widest view, and closer looks at it."""
    bundle = judging_bundle()
    ranged = Bundle(bundle.network, bundle.preprocessing.model_copy(update={"zoom": (0.5, 2.0)}), bundle.provenance)
    predictor = Predictor(ranged, InferenceSettings(device="cpu", budget=64))
    predictor.set_volume(make_phantom(shape=(40, 40, 24), spacing=(3, 3, 4)).volume)
    return predictor


def test_with_zoom_too_a_list_gives_one_mask_however_it_came() -> None:
    """In one call, in several, after an undo, where answers were let go, and where crops' features were."""
    at_once = zooming()
    whole = at_once.predict(PROMPTS)
    assert whole.view.scale == 2
    several = zooming()
    answers = [several.predict(PROMPTS[:count]) for count in range(1, len(PROMPTS) + 1)]
    assert max(answer.crops for answer in answers) > 10, "closer looks too"
    assert all(not np.array_equal(a.probability.full(), b.probability.full()) for a, b in pairwise(answers))
    undone = at_once.predict(PROMPTS[:3])
    again = at_once.predict(PROMPTS)
    with cache_of(1):
        forgetful = zooming()
        late = forgetful.predict(PROMPTS)
        assert len(CACHE) == 1
        earlier = forgetful.predict(PROMPTS[:3])
    for one, other in ((answers[-1], whole), (again, whole), (late, whole), (undone, answers[2]), (earlier, undone)):
        assert one.probability.start == other.probability.start
        assert np.array_equal(one.probability.array, other.probability.array)
        assert one.predicted_iou == other.predicted_iou


@contextmanager
def cache_of(nbytes: int) -> Iterator[None]:
    """Another bound of the process's cache."""
    before = CACHE.max_bytes
    CACHE.resize(nbytes)
    try:
        yield
    finally:
        CACHE.resize(before)


def test_a_view_is_not_encoded_again_after_its_refinement() -> None:
    """Large models' features leave room for one crop only; the predicted overlap needs the wide view's."""
    predictor = zooming()
    encoded = counted(predictor)
    with cache_of(1):
        prediction = predictor.predict(PROMPTS[:1])
    assert prediction.crops > 3
    assert len(encoded) == prediction.crops


def test_uncertainty_is_nothing_where_the_probability_is() -> None:
    """So that no map shows the box of its patch."""
    bundle = prompted_bundle()
    grid = Grid((3, 1, 1), np.eye(4))
    probability = Probability(np.array([0.0009, 0.5, 0.9], np.float32).reshape(3, 1, 1), (0, 0, 0), grid)
    view = View(Frame.centred(grid, (1, 0, 0), bundle.preprocessing), 1)
    prediction = Prediction(probability.threshold(), probability, view, None, 1)
    expected = [0, 1, -0.9 * np.log2(0.9) - 0.1 * np.log2(0.1)]
    assert np.allclose(prediction.uncertainty.array.ravel(), expected, atol=1e-5)


def test_an_initial_mask_is_where_it_starts_from(scan: Volume) -> None:
    lesion = np.zeros(scan.shape, bool)
    lesion[22:27, 22:27, 14:19] = True
    initial = InitialMask(Mask(lesion, (0, 0, 0), scan.grid))
    alone, clicked = fresh(scan).predict([initial]), fresh(scan).predict([Click((24, 24, 16))])
    assert not np.array_equal(alone.probability.array, clicked.probability.array)
    assert alone.frame.holds(initial, 0.0)


def test_the_papers_network_knows_positive_clicks_only(scan: Volume) -> None:
    predictor = Predictor(small_bundle(), CPU)
    predictor.set_volume(scan)
    for prompt in PROMPTS[1:4]:
        with pytest.raises(PromptError, match="takes foreground clicks only"):
            predictor.predict([PROMPTS[0], prompt])


def test_a_bare_prompt_is_no_list() -> None:
    predictor = quick_predictor()
    predictor.set_volume(noise_scan())
    with pytest.raises(PromptError, match="prompts come as a list, not Click; give a list, if only of one prompt"):
        predictor.predict(Click((8, 7, 5)))  # type: ignore[arg-type]


def test_a_scan_is_what_people_have(scan: Volume, tmp_path: Path) -> None:
    """A path is read; a number is refused at once, by its type."""
    write(scan, tmp_path / "scan.nii.gz")
    predictor = Predictor(small_bundle(), CPU)
    predictor.set_volume(scan)
    expected = predictor.predict([Click((30, 30, 20))]).mask.full()
    predictor.set_volume(tmp_path / "scan.nii.gz")
    assert np.array_equal(predictor.predict([Click((30, 30, 20))]).mask.full(), expected)
    with pytest.raises(TypeError, match=r"a scan is a Volume, .* not int"):
        predictor.set_volume(7)


def test_a_prediction_is_one_line(scan: Volume) -> None:
    predictor = Predictor(judging_bundle(), CPU)
    predictor.set_volume(scan)
    prediction = predictor.predict([Click((30, 30, 20))])
    assert prediction.predicted_iou is not None
    expected = f"Prediction({prediction.mask.volume_ml:.2f} mL, predicted IoU {prediction.predicted_iou:.2f}, 1 crops)"
    assert repr(prediction) == expected
