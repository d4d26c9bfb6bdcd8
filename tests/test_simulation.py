"""The simulated user."""

import numpy as np
import pytest

from palpate.errors import ScanError
from palpate.evaluation.metrics import iou
from palpate.prompts import Box, Click, InitialMask, Prompt, Scribble, check_inside
from palpate.randomness import counted_rng
from palpate.simulation import FIRST_PROMPT_KINDS, Bools, SimulatedUser, UserModel, random_clicks
from palpate.volume import Grid


def test_draws_are_counted_not_streamed() -> None:
    first = counted_rng(0, "clicks", 3).random(4).tolist()
    assert counted_rng(0, "clicks", 3).random(4).tolist() == first
    assert counted_rng(0, "clicks", 4).random(4).tolist() != first
    assert counted_rng(1, "clicks", 3).random(4).tolist() != first
    assert counted_rng(0, "crops", 3).random(4).tolist() != first


def test_clicks_fall_on_the_lesion_and_on_all_of_it() -> None:
    truth = np.zeros((6, 5, 4), dtype=bool)
    truth[1, 2, 3] = truth[4, 0, 1] = truth[5, 4, 0] = True
    clicks = random_clicks(truth, 200, counted_rng(0, "test"))
    assert {click.index for click in clicks} == {(1, 2, 3), (4, 0, 1), (5, 4, 0)}


def test_no_lesion_to_click() -> None:
    with pytest.raises(ScanError, match="the truth is empty"):
        random_clicks(np.zeros((2, 2, 2), dtype=bool), 1, counted_rng(0, "test"))


def ball(radius: float = 6.0, edge: int = 24) -> Bools:
    axes = np.meshgrid(*[np.arange(edge) - edge // 2] * 3, indexing="ij")
    found: Bools = np.sum(np.square(axes), axis=0) <= radius**2
    return found


GRID = Grid((24, 24, 24), np.diag([1.0, 1.0, 1.0, 1.0]))
SURE = UserModel(jitter_mm=0.0, error_rate=0.0, deepest_voxel_prob=1.0)


@pytest.mark.parametrize("kind", FIRST_PROMPT_KINDS)
def test_first_prompts_are_on_the_lesion_and_repeat(kind: str) -> None:
    truth = ball()
    for seed in range(8):
        prompt = SimulatedUser(truth, GRID, seed, "x").first(kind)
        assert prompt.positive
        check_inside([prompt], GRID)
        if kind in ("click", "scribble", "paint"):
            assert truth[tuple(prompt.places.T)].all()
        elif kind == "lasso":
            assert truth[tuple(prompt.places.T)].mean() > 0.8
        elif kind != "initial mask":
            low, high = prompt.places
            assert (np.abs(np.array([low, high]) - 12) <= 8).all()
        again = SimulatedUser(truth, GRID, seed, "x").first(kind)
        assert np.array_equal(prompt.places, again.places)
    assert type(SimulatedUser(truth, GRID, 0, "x").first("slice box")).__name__ == "Box"


def test_nobody_draws_beyond_the_picture() -> None:
    """Lesions that reach the scan's borders, thick ones and thin: every first prompt lies in the scan."""
    for low, high in (
        ((0, 0, 0), (24, 24, 9)),
        ((18, 10, 0), (24, 24, 24)),
        ((0, 3, 3), (2, 21, 20)),
        ((5, 0, 22), (20, 1, 24)),
    ):
        truth = np.zeros((24, 24, 24), bool)
        truth[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
        for seed in range(20):
            for kind in FIRST_PROMPT_KINDS:
                check_inside([SimulatedUser(truth, GRID, seed, "at the border").first(kind)], GRID)


def test_a_slice_box_is_one_voxel_thick() -> None:
    box = SimulatedUser(ball(), GRID, 3, "x").first("slice box")
    assert (box.places[0] == box.places[1]).sum() >= 1


def test_a_slice_box_bounds_what_is_seen_on_its_slice() -> None:
    """Of a tilted lesion that is the outline there, and not the shadow of all of it."""
    axes = np.meshgrid(*[np.arange(24) - 12] * 3, indexing="ij")
    tilted = (axes[0] - axes[2]) ** 2 + axes[1] ** 2 <= 9
    for seed in range(12):
        box = SimulatedUser(tilted, GRID, seed, "x", UserModel(box_margin=0.0)).first("slice box")
        assert isinstance(box, Box)
        thin = tuple(slice(low, high + 1) for low, high in zip(box.first, box.last, strict=True))
        whole = tuple(t if t.stop - t.start == 1 else slice(None) for t in thin)
        seen = np.argwhere(tilted[whole].squeeze())
        drawn = [t for t in thin if t.stop - t.start > 1]
        assert [(t.start, t.stop - 1) for t in drawn] == list(zip(seen.min(axis=0), seen.max(axis=0), strict=True))


def test_what_is_too_small_for_a_stroke_is_clicked() -> None:
    truth = np.zeros(GRID.shape, bool)
    truth[5, 5, 5] = True
    for kind in ("scribble", "lasso"):
        assert SimulatedUser(truth, GRID, 0, "x").first(kind) == Click((5, 5, 5))


def test_the_largest_error_is_corrected_first() -> None:
    """Half the ball is missed, a small cube is false: a positive click at the deepest missed voxel, then the cube."""
    truth = ball()
    predicted = truth.copy()
    predicted[12:] = False
    predicted[0:3, 0:3, 0:3] = True
    user = SimulatedUser(truth, GRID, 0, "x", SURE)
    first = user.correction(predicted, [Click((11, 12, 12))])
    assert first is not None
    assert first.positive
    assert isinstance(first, Click)
    assert truth[first.index]
    assert not predicted[first.index]
    predicted |= truth
    second = user.correction(predicted, [Click((11, 12, 12)), first])
    assert second == Click((1, 1, 1), positive=False), "the deepest of a cube is its middle"
    assert user.correction(truth, [first]) is None, "nothing is wrong"


STROKES = UserModel(jitter_mm=0.0, error_rate=0.0, stroke_prob=1.0)


def test_strokes_correct_what_they_lie_in() -> None:
    """Half the ball is missed, and a cube too much is drawn: strokes, paint and lassos in the larger error."""
    truth = ball(8)
    first: list[Prompt] = [Click((12, 12, 12))]
    missed, excess = truth.copy(), truth.copy()
    missed[12:] = False
    excess[0:9, 0:9, 0:4] = True
    for predicted, positive in ((missed, True), (excess, False)):
        made = [SimulatedUser(truth, GRID, seed, "x", STROKES).correction(predicted, first) for seed in range(40)]
        made = [prompt for prompt in made if not isinstance(prompt, Click)]  # a lasso that would have cut too wide
        assert len(made) > 25
        assert {type(prompt).__name__ for prompt in made} == {"Scribble", "Lasso"}
        sizes = set()
        for prompt in made:
            assert prompt is not None
            assert prompt.positive is positive
            check_inside([*first, prompt], GRID)
            wrong = (truth != predicted)[tuple(prompt.places.T)]
            assert wrong.all() if isinstance(prompt, Scribble) else wrong.mean() > 0.7
            sizes.add(len(prompt.places))
        assert min(sizes) < 12, "lines"
        assert max(sizes) > 30, "areas"
    again = [SimulatedUser(truth, GRID, 0, "x", STROKES).correction(excess, first) for _ in range(2)]
    assert all(prompt is not None for prompt in again)
    assert len({prompt.places.tobytes() for prompt in again if prompt is not None}) == 1


def test_a_small_error_gets_a_click_and_no_prompt_is_contradicted() -> None:
    truth, speck = ball(), ball()
    speck[12, 12, 12] = False
    prompt = SimulatedUser(truth, GRID, 0, "x", STROKES).correction(speck, [])
    assert prompt == Click((12, 12, 12))
    prompts: list[Prompt] = [Scribble(np.argwhere(truth))]
    assert SimulatedUser(truth, GRID, 0, "x", STROKES).correction(truth & False, prompts) is None, "all of it was named"
    slipped: list[Prompt] = [Click((2, 2, 2))]  # a foreground click outside the target
    for seed in range(20):
        drawn = truth.copy()
        drawn[0:5, 0:5, 0:5] = True
        prompt = SimulatedUser(truth, GRID, seed, "x", STROKES).correction(drawn, slipped)
        assert prompt is not None
        check_inside([*slipped, prompt], GRID)


def test_a_hollow_error_is_not_lassoed() -> None:
    """A shell around the lesion: a lasso around it would say that the lesion is none."""
    truth, drawn = ball(5), ball(6)
    for seed in range(40):
        prompt = SimulatedUser(truth, GRID, seed, "x", STROKES).correction(drawn, [])
        assert prompt is not None
        assert not prompt.positive
        assert (~truth)[tuple(prompt.places.T)].mean() >= 0.8


def test_an_initial_mask_is_perturbed_as_much_as_asked() -> None:
    truth = ball()
    exact = SimulatedUser(truth, GRID, 0, "x", UserModel(mask_perturbation=0.0)).first("initial mask")
    assert isinstance(exact, InitialMask)
    assert np.array_equal(exact.mask.full(), truth)
    overlaps = {}
    for rough in (0.3, 1.0):
        found = [
            SimulatedUser(truth, GRID, seed, "x", UserModel(mask_perturbation=rough)).first("initial mask")
            for seed in range(20)
        ]
        overlaps[rough] = np.mean([iou(prior.mask.full(), truth) for prior in found if isinstance(prior, InitialMask)])
    assert 0.4 < overlaps[1.0] < overlaps[0.3] < 0.95


def test_no_voxel_is_clicked_twice() -> None:
    truth = np.zeros(GRID.shape, bool)
    truth[5, 5, 5] = truth[5, 5, 6] = True
    user = SimulatedUser(truth, GRID, 0, "x", SURE)
    prompts: list[Prompt] = [Click((9, 9, 9))]
    for _ in range(2):
        click = user.correction(truth & False, prompts)
        assert click is not None
        assert click not in prompts
        prompts.append(click)
    assert user.correction(truth & False, prompts) is None


def test_hands_tremble_and_sometimes_slip() -> None:
    truth, nothing = ball(), np.zeros(GRID.shape, bool)
    clicks = [
        SimulatedUser(
            truth, GRID, seed, "x", UserModel(jitter_mm=4.0, error_rate=0.5, deepest_voxel_prob=0.0)
        ).correction(nothing, [])
        for seed in range(60)
    ]
    on = [truth[click.index] for click in clicks if isinstance(click, Click)]
    assert len(on) == 60
    assert all(click is not None and click.positive for click in clicks)
    assert 0.55 < np.mean(on) < 0.95
    steady = [
        SimulatedUser(truth, GRID, seed, "x", UserModel(jitter_mm=4.0, error_rate=0.0)).correction(nothing, [])
        for seed in range(30)
    ]
    assert all(isinstance(click, Click) and truth[click.index] for click in steady)


def test_without_slips_no_click_contradicts_the_truth() -> None:
    """A plate, drawn shifted by its own thickness: what is missed lies beside what is too much."""
    truth, drawn = np.zeros((40, 40, 20), bool), np.zeros((40, 40, 20), bool)
    truth[5:35, 5:35, 8:10] = True
    drawn[5:35, 5:35, 10:12] = True
    for seed in range(60):
        user = SimulatedUser(truth, Grid(truth.shape, np.eye(4)), seed, "x", UserModel(jitter_mm=2, error_rate=0))
        click = user.correction(drawn, [])
        assert isinstance(click, Click)
        assert click.positive == truth[click.index]


def test_distances_are_millimetres() -> None:
    """A slab of 3 voxels of 10 mm by 9 of 1 mm: its deepest voxel is in the middle of the short millimetres."""
    truth = np.zeros(GRID.shape, bool)
    truth[10:13, 5:14, 5:14] = True
    grid = Grid(GRID.shape, np.diag([10.0, 1.0, 1.0, 1.0]))
    click = SimulatedUser(truth, grid, 0, "x", SURE).correction(truth & False, [])
    assert isinstance(click, Click)
    assert click.index[1:] == (9, 9)


def test_a_user_needs_a_lesion() -> None:
    with pytest.raises(ScanError, match="there is no target to prompt"):
        SimulatedUser(np.zeros(GRID.shape, bool), GRID, 0, "x")
