"""What prompts lead to: counted on a fake model, and the same however it came about."""

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from fakes import RANGE, FakeRuntime, ball, balls_around, blank_scan, faking, knowing, truth_in
from palpate.errors import CancelledError, PromptError
from palpate.inference import CACHE, Capabilities, EncodedScan, InferenceSettings
from palpate.masks import Mask
from palpate.predictor import Predictor
from palpate.prompts import Box, Click, InitialMask, Prompt, Scribble
from palpate.volume import Grid, Volume
from small import CPU, noise_scan, prompted_bundle

A = [Click((6 + n // 2, 6, 4 + n % 2), positive=n % 3 != 2) for n in range(7)]
B = [Click((12, 10, 7)), Click((13, 11, 8)), Click((11, 10, 7))]


def fresh() -> tuple[Predictor, FakeRuntime, EncodedScan]:
    predictor, runtime = faking(balls_around(9.0))
    return predictor, runtime, predictor.encode_scan(noise_scan())


def steps(runtime: FakeRuntime) -> int:
    """How many crops were decoded since the last call."""
    count = len(runtime.decoded)
    runtime.decoded.clear()
    return count


def test_a_further_prompt_is_one_step_whatever_was_asked_in_between() -> None:
    predictor, runtime, scan = fresh()
    predictor.predict_on(scan, A[:6])
    predictor.predict_on(scan, B[:2])
    assert steps(runtime) == 8
    predictor.predict_on(scan, A[:7])
    assert steps(runtime) == 1
    assert len(runtime.encoded) == 2, "a crop around each lesion"


def test_undoing_redoing_and_replacing_find_what_is_known() -> None:
    predictor, runtime, scan = fresh()
    whole = predictor.predict_on(scan, A[:6])
    steps(runtime)
    for count in (5, 3, 6):
        predictor.predict_on(scan, A[:count])
    assert steps(runtime) == 0
    replaced = [*A[:2], Click((7, 6, 5)), *A[3:6]]
    other = predictor.predict_on(scan, replaced)
    assert steps(runtime) == 4, "the new third and those after it"
    assert predictor.cached_state(scan, A[:6]) is whole
    assert predictor.predict_on(scan, A[:6]) is whole
    assert predictor.predict_on(scan, [*replaced]) is other
    assert steps(runtime) == 0
    assert predictor.cached_state(scan, B) is None
    assert predictor.cached_state(scan, []) is None


def test_equal_prompts_are_the_same_prompts() -> None:
    """A list that was read from a file again finds what the first one led to; strokes and masks too."""
    grid = noise_scan().grid
    lesion = np.zeros(grid.shape, bool)
    lesion[5:9, 5:9, 3:6] = True

    def prompts() -> list[Prompt]:
        return [
            InitialMask(Mask(lesion, (0, 0, 0), grid)),
            Scribble(np.array([[5, 5, 4], [6, 5, 4]])),
            Click((8, 8, 5)),
        ]

    predictor, runtime, scan = fresh()
    predictor.predict_on(scan, prompts())
    steps(runtime)
    predictor.predict_on(scan, prompts())
    assert steps(runtime) == 0


def test_steps_and_bytes_of_a_prompt_do_not_grow_with_what_went_before() -> None:
    """50 lesions on one scan, and 300 prompts on one of them."""
    predictor, runtime, scan = fresh()
    before = CACHE.nbytes
    grown = []
    for number in range(50):
        predictor.predict_on(scan, [Click((2 + number % 12, 2 + number // 12, 4))])
        grown.append(CACHE.nbytes - before)
        before = CACHE.nbytes
        assert steps(runtime) == 1
    voxels = int(np.prod(scan.volume.shape))
    assert max(grown) <= 1000 + 5 * voxels, "a crop's features, a probability and a mask"
    places = np.argwhere(np.ones(scan.volume.shape, bool))[::7][:300]
    prompts: list[Prompt] = []
    sizes = []
    for place in places.tolist():
        prompts.append(Click((place[0], place[1], place[2])))
        sizes.append(predictor.predict_on(scan, prompts).nbytes)
        assert steps(runtime) == 1
    assert len(prompts) == 300
    assert max(sizes) <= 5 * voxels


def test_two_scans_on_one_runtime_encode_no_crop_twice() -> None:
    predictor, runtime = faking(balls_around(9.0))
    scans = [predictor.encode_scan(noise_scan(seed)) for seed in (0, 1)]
    for count in (1, 2, 3):
        for scan in scans:
            predictor.predict_on(scan, B[:count])
    assert len(runtime.encoded) == 2


def test_background_prompts_wait_for_one_that_says_where() -> None:
    """No step of their own, whose mask would mean nothing."""
    predictor, runtime, scan = fresh()
    background, click = Click((8, 7, 5), positive=False), Click((6, 7, 5))  # in reach of its mask
    predictor.predict_on(scan, [background, click])
    assert [crop.prompts for crop in runtime.decoded] == [(click,), (click, background)], "and are applied after it"
    with pytest.raises(PromptError, match="nothing says where"):
        predictor.predict_on(scan, [background])
    predictor.predict_on(scan, [background, click, Click((6, 8, 5))])
    assert [len(crop.prompts) for crop in runtime.decoded] == [1, 2, 3]


def prompt_lists() -> Iterator[tuple[Volume, list[Prompt]]]:
    for seed in range(4):
        clicks: list[Prompt] = [Click((5 + seed, 6, 5)), Click((9, 7, 4 + seed % 3), positive=False)]
        yield noise_scan(seed), [*clicks, Box((3, 3, 2), (9 + seed, 9, 7)), Click((6, 9, 6))]


def test_four_threads_on_one_runtime_answer_as_one() -> None:
    """Each has a scan and lesions of its own, its own progress; all share the weights, the lock and the cache."""
    work = list(prompt_lists())
    serial = [Predictor(prompted_bundle(), CPU) for _ in work]
    expected = []
    for predictor, (volume, prompts) in zip(serial, work, strict=True):
        scan = predictor.encode_scan(volume)
        expected.append([predictor.predict_on(scan, prompts[:n]).prediction.probability.full() for n in (1, 2, 3, 4)])
    shared = Predictor(prompted_bundle(), CPU)
    bound = CACHE.max_bytes
    CACHE.resize(2**22)  # a few crops' features: threads take each other's places
    found: dict[int, list[np.ndarray]] = {}
    progress: dict[int, list[float]] = {number: [] for number in range(4)}
    sizes: list[int] = []

    def answer(number: int) -> None:
        volume, prompts = work[number]
        scan, answers = shared.encode_scan(volume), []
        for count in (1, 2, 3, 4):
            state = shared.predict_on(scan, prompts[:count], progress=progress[number].append)
            answers.append(state.prediction.probability.full())
            sizes.append(CACHE.nbytes)
        found[number] = answers

    threads = [threading.Thread(target=answer, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = CACHE.max_bytes
    CACHE.resize(bound)
    for number in range(4):
        assert all(np.array_equal(a, b) for a, b in zip(found[number], expected[number], strict=True))
        assert progress[number].count(1.0) == 4, "each call ends at its own 1"
    assert len(sizes) == 16
    assert 0 < max(sizes) <= held == 2**22


def test_progress_rises_from_view_to_view_and_crop_to_crop() -> None:
    predictor, _ = knowing(ball((60, 50, 30), 70), settings=InferenceSettings(budget=8))
    scan = predictor.encode_scan(blank_scan())
    shares: list[float] = []
    state = predictor.predict_on(scan, [Click((60, 50, 30)), Click((61, 50, 30))], progress=shares.append)
    assert state.prediction.crops >= 1
    assert len(shares) > 20
    assert shares == sorted(set(shares))
    assert shares[-1] == 1


@pytest.mark.parametrize("crops", [0, 1, 4])
def test_a_cancelled_step_leaves_the_state_as_it_was(crops: int) -> None:
    predictor, runtime = knowing(ball((60, 50, 30), 70), settings=InferenceSettings(budget=8))
    scan = predictor.encode_scan(blank_scan())
    prompts: list[Prompt] = [Click((60, 50, 30)), Click((80, 50, 30), positive=False)]
    before = predictor.predict_on(scan, prompts[:1])
    voxels, count = before.prediction.mask.voxels, len(runtime.decoded)
    with pytest.raises(CancelledError, match="nothing was changed"):
        predictor.predict_on(scan, prompts, cancel=lambda: len(runtime.decoded) - count >= crops)
    assert len(runtime.decoded) - count == crops
    assert predictor.cached_state(scan, prompts) is None
    assert predictor.predict_on(scan, prompts[:1]) is before
    assert before.prediction.mask.voxels == voxels
    again = predictor.predict_on(scan, prompts)
    other, _ = knowing(ball((60, 50, 30), 70), settings=InferenceSettings(budget=8))
    straight = other.predict_on(other.encode_scan(blank_scan()), prompts)
    assert np.array_equal(again.prediction.probability.full(), straight.prediction.probability.full())


def test_a_forbidden_region_stays_empty() -> None:
    """Another lesion's voxels, say: nothing of them becomes this one's, and another region is another answer."""
    volume = blank_scan()
    truth = ball((60, 50, 30), 20)
    predictor, runtime = knowing(truth)
    scan = predictor.encode_scan(volume)
    region = np.zeros(volume.shape, bool)
    region[62:] = True
    forbidden = Mask(region, (0, 0, 0), volume.grid)
    prompts: list[Prompt] = [Click((58, 50, 30)), Click((56, 50, 30))]
    free = predictor.predict_on(scan, prompts).prediction.mask.full()
    count = len(runtime.decoded)
    bound = predictor.predict_on(scan, prompts, forbidden=forbidden).prediction.mask.full()
    assert len(runtime.decoded) > count
    assert free[62:].any()
    assert not bound[62:].any()
    assert np.array_equal(bound[:60], free[:60])
    with pytest.raises(PromptError, match=r"voxel \(63, 50, 30\) lies where the lesion cannot be"):
        predictor.predict_on(scan, [*prompts, Click((63, 50, 30))], forbidden=forbidden)
    predictor.predict_on(scan, [*prompts, Click((63, 50, 30), positive=False)], forbidden=forbidden)
    nothing = Mask(np.zeros(volume.shape, bool), (0, 0, 0), volume.grid)
    assert np.array_equal(predictor.predict_on(scan, prompts, forbidden=nothing).prediction.mask.full(), free)
    elsewhere = Mask(region, (0, 0, 0), Grid(volume.shape, np.diag([2.0, 2.0, 5.0, 1.0])))
    with pytest.raises(PromptError, match="the forbidden region lies on another grid than the scan: spacing"):
        predictor.predict_on(scan, prompts, forbidden=elsewhere)


def test_what_a_model_takes_is_data() -> None:
    """A model of clicks and boxes, say, refuses others by their names."""
    runtime = FakeRuntime(truth_in(ball((60, 50, 30), 15)))
    runtime.capabilities = Capabilities(
        frozenset({"box", "click", "initial_mask"}), background=True, predicts_iou=False
    )
    predictor = Predictor(runtime)
    predictor.set_volume(blank_scan())
    predictor.predict([Box((50, 40, 28), (70, 60, 32)), Click((60, 50, 30), positive=False)])
    with pytest.raises(
        PromptError, match="the model 'fake' takes no foreground scribble; it takes box, click, initial_mask"
    ):
        predictor.predict([Scribble(np.array([[60, 50, 30]]))])
    runtime.capabilities = Capabilities(frozenset({"box", "click"}), background=False, predicts_iou=False)
    with pytest.raises(PromptError, match="the model 'fake' takes no background click"):
        predictor.predict([Click((60, 50, 30)), Click((60, 50, 31), positive=False)])


def test_progress_of_clicks_that_are_taken_at_once_ends_at_one() -> None:
    predictor, runtime = knowing(ball((60, 50, 30), 70), dense=False)
    shares: list[float] = []
    predictor.predict_on(predictor.encode_scan(blank_scan()), [Click((60, 50, 30))], progress=shares.append)
    assert len(runtime.decoded) == 3
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_a_model_of_the_paper_takes_all_clicks_at_once() -> None:
    """A longer list is not begun from a shorter one's answer; the same list is found."""
    runtime = FakeRuntime(truth_in(ball((60, 50, 30), 15)), RANGE, dense=False)
    predictor = Predictor(runtime)
    scan = predictor.encode_scan(blank_scan())
    clicks: Sequence[Prompt] = [Click((60, 50, 30)), Click((62, 50, 30))]
    predictor.predict_on(scan, clicks[:1])
    first = steps(runtime)
    both = predictor.predict_on(scan, clicks)
    assert steps(runtime) == first
    assert predictor.predict_on(scan, clicks) is both
    assert steps(runtime) == 0
    with pytest.raises(PromptError, match="the model 'fake' takes foreground clicks only"):
        predictor.predict_on(scan, [clicks[0], Click((60, 40, 30), positive=False)])
