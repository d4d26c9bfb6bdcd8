"""Lesions of any size: a network that knows the truth, so that only the looking is tested."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from scipy import ndimage

from palpate import zoom
from palpate.bundle import Bundle
from palpate.errors import PromptError
from palpate.evaluation.metrics import dice
from palpate.frame import Frame
from palpate.phantom import oblique_affine
from palpate.predictor import Prediction, Predictor
from palpate.prompts import Box, Click, InitialMask, Prompt, Scribble
from palpate.volume import Grid, Mask, Patch, Probability, Volume
from palpate.zoom import View
from small import PREPROCESSING, prompted_bundle, small_bundle

RANGE = PREPROCESSING.model_copy(update={"zoom": (0.5, 8.0)})  # crops of 32³ at 2 mm: 64 mm
SHAPE, SPACING = (120, 110, 60), (2.0, 2.0, 4.0)


def scan(oblique: bool = False) -> Volume:
    affine = oblique_affine(SHAPE, SPACING, orientation="LPI", angles_deg=(9, -5, 8)) if oblique else None
    return Volume(np.zeros(SHAPE, np.int16), np.diag([*SPACING, 1.0]) if affine is None else affine)


def ball(centre: tuple[int, int, int], radius_mm: float, stretch: tuple[float, float, float] = (1, 1, 1)) -> np.ndarray:
    index = np.indices(SHAPE).T - np.array(centre)
    inside: np.ndarray = ((index * SPACING / np.array(stretch)) ** 2).sum(axis=-1) <= radius_mm**2
    return inside.T


def knowing(
    truth: np.ndarray,
    bundle: Bundle | None = None,
    blur: bool = True,
    quality: Mapping[float, float] | None = None,
    **options: bool | int,
) -> tuple[Predictor, list[View]]:
    """A predictor whose network draws the truth of whatever crop it sees, coarsely; and the list of what it saw."""
    bundle = bundle or prompted_bundle()
    predictor = Predictor(Bundle(bundle.network, RANGE, bundle.provenance), "cpu", **options)  # type: ignore[arg-type]
    seen: list[View] = []

    def look(view: View, prompts: list[Prompt], prior: Patch | None = None) -> torch.Tensor:
        seen.append(view)
        share = view.frame.extract(truth)[0]
        if not blur:
            return share
        # As a network does, it draws no finer than a few of its crop's voxels.
        return torch.nn.functional.avg_pool3d(share[None, None], 5, 1, 2, count_include_pad=False)[0, 0]

    predictor.looks.seen = look  # type: ignore[assignment, method-assign]
    if quality is not None:
        predictor.looks.expected = lambda view, _: quality[view.scale]  # type: ignore[assignment, method-assign]
    return predictor, seen


@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("bundle", [prompted_bundle, small_bundle])
def test_the_field_widens_until_the_lesion_ends(oblique: bool, bundle: Callable[[], Bundle]) -> None:
    truth = ball((60, 50, 30), 70)
    predictor, seen = knowing(truth, bundle())
    predictor.set_volume(scan(oblique))
    prediction = predictor.predict([Click((60, 50, 20))])
    assert [view.scale for view in seen[:3]] == [1, 2, 4]
    assert prediction.view.scale == 4
    assert not zoom.reaches_border(prediction.view.frame.extract(truth)[0], prediction.frame)
    assert dice(prediction.mask.full(), truth) > (0.97 if bundle is prompted_bundle else 0.9)


@pytest.mark.parametrize("oblique", [False, True])
def test_a_lesion_that_a_crop_cuts_but_could_hold_moves_it(oblique: bool) -> None:
    """44 mm in a crop of 64 mm, clicked 20 mm off its middle: no wider field is needed."""
    truth = ball((60, 50, 30), 22)
    predictor, seen = knowing(truth)
    predictor.set_volume(scan(oblique))
    prediction = predictor.predict([Click((70, 50, 30))])
    assert [view.scale for view in seen] == [1, 1]
    assert zoom.reaches_border(seen[0].frame.extract(truth)[0], seen[0].frame)
    assert not zoom.reaches_border(seen[1].frame.extract(truth)[0], seen[1].frame)
    assert prediction.crops == 2
    assert dice(prediction.mask.full(), truth) > 0.93
    predictor.predict([Click((70, 50, 30)), Click((60, 50, 30))])
    assert [view.scale for view in seen[2:]] == [1], "a correction moves nothing"


@pytest.mark.parametrize("quality", [None, {1: 0.9, 2: 0.6, 4: 0.8}])
def test_a_look_that_draws_nothing_takes_no_mask_away(quality: dict[float, float] | None) -> None:
    truth = ball((60, 50, 30), 70)
    predictor, seen = knowing(truth, quality=quality, budget=0)
    look = predictor.looks.seen

    def blind(view: View, prompts: list[Prompt], prior: Patch | None = None) -> torch.Tensor:
        drawn: torch.Tensor = look(view, prompts, prior)
        return torch.zeros_like(drawn) if view.scale == 2 else drawn

    predictor.looks.seen = blind  # type: ignore[assignment, method-assign]
    predictor.set_volume(scan())
    prediction = predictor.predict([Click((60, 50, 30))])
    assert [view.scale for view in seen] == [1, 2, 4]
    assert prediction.view.scale == 4
    assert dice(prediction.mask.full(), truth) > 0.9


def test_a_moved_crop_that_draws_nothing_is_not_taken() -> None:
    truth = ball((60, 50, 30), 22)
    predictor, seen = knowing(truth)
    look = predictor.looks.seen

    def blind(view: View, prompts: list[Prompt], prior: Patch | None = None) -> torch.Tensor:
        drawn: torch.Tensor = look(view, prompts, prior)
        return torch.zeros_like(drawn) if len(seen) == 2 else drawn

    predictor.looks.seen = blind  # type: ignore[assignment, method-assign]
    predictor.set_volume(scan())
    prediction = predictor.predict([Click((70, 50, 30))])
    assert [view.scale for view in seen[:3]] == [1, 1, 2]
    assert dice(prediction.mask.full(), truth) > 0.9


def test_a_crop_is_not_moved_from_its_prompts() -> None:
    truth = ball((48, 50, 30), 16)
    predictor, seen = knowing(truth)
    predictor.set_volume(scan())
    box = Box((52, 46, 28), (80, 54, 32))
    predictor.predict([box])
    assert [view.scale for view in seen[:3]] == [1, 1, 2], "moved, the crop still cuts the lesion"
    assert all(view.frame.holds(box, 0.0) for view in seen[:3])


def test_one_crop_where_zoom_is_off_or_the_model_was_not_trained_for_it() -> None:
    truth = ball((60, 50, 30), 70)
    predictor, seen = knowing(truth, zoom=False)
    predictor.set_volume(scan())
    assert predictor.predict([Click((60, 50, 30))]).mask.extent_mm == (64, 64, 64)
    assert [view.scale for view in seen] == [1]
    plain = Predictor(small_bundle(), "cpu")
    assert plain.zoom
    assert plain._range == (1.0, 1.0)


def test_a_closer_look_draws_finer() -> None:
    truth = ball((60, 50, 30), 70, (1, 0.6, 0.5))
    answers = {}
    for budget in (0, 4, 200):
        predictor, seen = knowing(truth, budget=budget)
        predictor.set_volume(scan())
        prediction = predictor.predict([Click((60, 50, 30))])
        answers[budget] = dice(prediction.mask.full(), truth)
        assert prediction.crops == len(seen)
        assert len(seen) - 3 <= budget, "three crops find the lesion"
    assert answers[200] > answers[0] + 0.02
    assert answers[0] < answers[4] < answers[200], "four crops cannot follow all of the edge, but some"


def test_the_scans_end_is_no_border() -> None:
    truth = np.zeros(SHAPE, bool)
    truth[:20] = True  # reaches three pairs of the scan's faces, and is 40 mm thick
    predictor, seen = knowing(truth)
    predictor.set_volume(scan())
    prediction = predictor.predict([Click((5, 50, 30))])
    assert prediction.view.scale == 4, "240 mm of scan fit into 256 mm"
    small = Frame.centred(scan().grid, (10, 50, 30), RANGE.zoomed(8))
    assert not zoom.reaches_border(torch.ones(32, 32, 32), small)
    assert max(view.scale for view in seen) == 4


def test_specks_at_the_border_widen_nothing() -> None:
    frame = Frame.centred(scan().grid, (60, 50, 30), RANGE)
    probability = torch.zeros(32, 32, 32)
    probability[0, :2, 0] = 1
    assert not zoom.reaches_border(probability, frame)
    probability[0, :3, 0] = 1
    assert zoom.reaches_border(probability, frame)


def test_small_lesions_are_seen_from_nearer() -> None:
    truth = ball((60, 50, 30), 6)
    predictor, seen = knowing(truth, blur=False)
    predictor.set_volume(scan())
    prediction = predictor.predict([Click((60, 50, 30))])
    assert [view.scale for view in seen] == [1, 0.5]
    assert prediction.view.scale == 0.5
    predictor.predict([Click((60, 50, 30)), Click((61, 50, 30))])
    assert [view.scale for view in seen] == [1, 0.5, 0.5], "a correction stays where it is"
    predictor.predict([Click((60, 50, 30)), Click((90, 50, 30))])
    assert seen[3].scale in (1.0, 2.0), "a prompt outside the narrow field asks for a wider one"


def test_only_a_mask_that_is_cut_is_seen_from_further_away() -> None:
    """Whatever the network expects of wider views: of a small lesion in a wide one it knows nothing."""
    predictor, seen = knowing(ball((60, 50, 30), 25), quality={1: 0.1, 2: 0.9, 4: 0.9, 8: 0.9})
    predictor.set_volume(scan())
    assert predictor.predict([Click((60, 50, 30))]).view.scale == 1
    assert {view.scale for view in seen} == {1}


def test_a_nearer_look_is_taken_if_it_is_trusted_more() -> None:
    truth = ball((60, 50, 30), 6)
    for near, taken in ((0.8, 0.5), (0.5, 1)):
        predictor, _ = knowing(truth, blur=False, quality={1: 0.6, 0.5: near})
        predictor.set_volume(scan())
        assert predictor.predict([Click((60, 50, 30))]).view.scale == taken


def test_prompts_too_wide_for_a_nearer_look_keep_the_view() -> None:
    truth = ball((60, 50, 30), 5)
    predictor, _ = knowing(truth, blur=False)
    predictor.set_volume(scan())
    assert predictor.predict([Box((50, 40, 28), (70, 60, 32))]).view.scale == 1
    assert predictor.predict([Click((60, 50, 30)), Click((79, 50, 30), positive=False)]).mask.voxels


def test_many_small_changes_are_a_large_one() -> None:
    """From afar 0.9, then 0.2 less with every prompt: at last the lesion is gone."""
    truth = ball((60, 50, 30), 70)
    predictor, _ = knowing(truth, budget=0)
    level = 0.9
    predictor.looks.seen = lambda view, *_: level * (view.frame.extract(truth)[0] > 0.5)  # type: ignore[method-assign]
    predictor.set_volume(scan())
    prompts: list[Prompt] = [Click((60, 50, 30))]
    voxels = []
    for _ in range(5):
        voxels.append(predictor.predict(prompts).mask.voxels)
        prompts.append(Click((60 + len(prompts), 50, 30), positive=False))
        level -= 0.2
    assert voxels[0] > 50_000
    assert voxels[-1] < 0.1 * voxels[0]


def test_nothing_is_seen_outside_the_scan() -> None:
    """A lesion on the last slices: the prior does not go on beyond them."""
    mask = np.zeros(SHAPE, np.float32)
    mask[55:65, 45:55, 57:] = 1
    frame = Frame.centred(scan().grid, (60, 50, 58), RANGE.zoomed(2))
    prior = frame.maps([Click((60, 50, 58))], mask)[0, 3]
    _, inside = frame.extract(mask)
    assert (prior[~inside] == -1).all()
    assert prior.max() > 0.9


def test_a_box_larger_than_a_crop_is_seen_whole() -> None:
    truth = ball((60, 50, 30), 70)
    predictor, seen = knowing(truth)
    predictor.set_volume(scan())
    prediction = predictor.predict([Box((25, 15, 12), (95, 85, 48))])
    assert seen[0].scale == 4
    assert dice(prediction.mask.full(), truth) > 0.97
    far, _ = knowing(truth, zoom=False)
    far.set_volume(scan())
    with pytest.raises(PromptError, match="the prompts span 144 x 140 x 140 mm, more than this model's crop holds"):
        far.predict([Box((25, 15, 12), (95, 85, 48))])


def test_a_further_prompt_leaves_what_it_does_not_touch() -> None:
    """After a correction at one end, only crops near it are looked at again, and far voxels stay to the bit."""
    truth = ball((60, 50, 30), 70)
    predictor, seen = knowing(truth, budget=200)
    predictor.set_volume(scan())
    first = predictor.predict([Click((60, 50, 30))])
    count = len(seen)
    truth[88:93, 50:55, 28:32] = False  # what the user sees is wrong
    second = predictor.predict([Click((60, 50, 30)), Click((90, 52, 30), positive=False)])
    assert len(seen) - count < count / 2
    before, after = first.probability.full(), second.probability.full()
    assert not np.array_equal(before[80:], after[80:])
    assert np.array_equal(before[:50], after[:50])


def test_the_same_list_gives_the_same_mask_however_it_came() -> None:
    truth = ball((60, 50, 30), 60, (1, 0.6, 0.5))
    prompts: list[Prompt] = [Click((60, 50, 30)), Click((100, 50, 30), positive=False), Box((30, 30, 20), (90, 70, 40))]
    at_once, _ = knowing(truth)
    at_once.set_volume(scan())
    whole = at_once.predict(prompts)
    several, _ = knowing(truth)
    several.set_volume(scan())
    for number in (1, 3, 2, 1, 2, 3):
        answer = several.predict(prompts[:number])
    assert answer.probability.start == whole.probability.start
    assert np.array_equal(answer.probability.array, whole.probability.array)


def test_a_prompt_outside_keeps_the_mask_in_view() -> None:
    truth = ball((60, 50, 30), 20)
    predictor, _ = knowing(truth)
    predictor.set_volume(scan())
    predictor.predict([Click((60, 50, 30))])
    both = predictor.predict([Click((60, 50, 30)), Click((85, 50, 30), positive=False)])
    assert both.view.scale == 2
    low, high = (both.frame.crop_index(edge) for edge in both.mask.bounds or ())
    assert (np.minimum(low, high) > 0).all()
    assert (np.maximum(low, high) < 31).all()
    assert dice(both.mask.full(), truth) > 0.9


def test_a_large_priors_detail_stays_where_the_network_agrees() -> None:
    """A comb of one-voxel teeth, which no look from afar can draw, survives as a prior."""
    truth = ball((60, 50, 30), 70)
    comb = truth.copy()
    comb[60, :, ::2] = False
    predictor, _ = knowing(truth, budget=0)
    predictor.set_volume(scan())
    mask = predictor.predict([InitialMask(Mask(comb, (0, 0, 0), scan().grid))]).mask.full()
    assert dice(mask[60, 40:60, 25:35], comb[60, 40:60, 25:35]) == 1


def at(x: int, grid: Grid, size: int = 4) -> Frame:
    """A crop whose voxels are the grid's, from (x, 0, 0) on."""
    to_scan = np.eye(4)
    to_scan[0, 3] = x
    return Frame(grid, (size, size, size), to_scan)


def test_mosaic_by_hand() -> None:
    """A base of 0.2, and a look of 0.8 that weighs 0.25 and 1; outside both, nothing."""
    grid = Grid((10, 4, 4), np.eye(4))
    mosaic = zoom.Mosaic(Probability(np.full((4, 4, 4), 0.2, np.float32), (0, 0, 0), grid))
    weights = torch.full((4, 4, 4), 0.25)
    weights[2:] = 1
    mosaic.add(at(2, grid), torch.full((4, 4, 4), 0.8), weights)
    assert np.allclose(mosaic.merged().full()[:, 0, 0], [0.2, 0.2, 0.35, 0.35, 0.8, 0.8, 0, 0, 0, 0])
    mosaic.add(at(2, grid), torch.zeros(4, 4, 4), weights)
    merged = mosaic.merged()
    assert np.allclose(merged.full()[4, 0, 0], 0.4), "two looks that weigh as much: their mean"
    assert (merged.start, merged.array.shape) == ((0, 0, 0), (6, 4, 4))


def test_a_mosaic_keeps_only_what_counts() -> None:
    """A wide look that changed a corner takes a corner's memory; a base of nothing widens no box."""
    grid = Grid((40, 40, 40), np.eye(4))
    nothing = Probability(np.zeros((1, 1, 1), np.float32), (39, 39, 39), grid)
    mosaic = zoom.Mosaic(nothing)
    weights = torch.zeros(32, 32, 32)
    mosaic.add(at(2, grid, 32), torch.ones(32, 32, 32), weights)
    assert not mosaic.looks
    assert mosaic.merged() is nothing
    weights[4:6, 10:12, 10:12] = 1
    mosaic.add(at(2, grid, 32), torch.ones(32, 32, 32), weights)
    assert mosaic.looks[0][1].shape == (4, 4, 4), "what counts, and a voxel around it"
    merged = mosaic.merged()
    assert (merged.start, merged.array.shape) == ((5, 9, 9), (4, 4, 4))
    assert np.allclose(merged.full()[6:8, 10:12, 10:12], 1)
    assert merged.array.sum() == pytest.approx(8)


@pytest.mark.parametrize("scale", [1.0, 2.0, 4.0])
def test_a_part_reads_as_the_whole_crop_would(scale: float) -> None:
    """On slices of 4 and of 9 mm, where a crop's voxels are averaged in blocks."""
    weights = torch.zeros(32, 32, 32)
    weights[9:14, 3:8, 20:31] = torch.rand(5, 5, 11, generator=torch.Generator().manual_seed(0))
    for thickness in (4.0, 9.0):
        grid = Grid(SHAPE, np.diag([2.0, 2.0, thickness, 1.0]))
        frame = Frame.centred(grid, (60, 50, 30), RANGE.zoomed(scale))
        mosaic = zoom.Mosaic(Probability(np.zeros((1, 1, 1), np.float32), (0, 0, 0), grid))
        mosaic.add(frame, torch.ones(32, 32, 32), weights)
        whole = frame.spread(weights, None).full()
        assert np.allclose(mosaic.merged().full(), whole, atol=1e-4)
        assert whole.max() > 0.1


def test_a_far_views_patch_leaves_out_what_is_nothing() -> None:
    view = View(Frame.centred(scan().grid, (60, 50, 30), RANGE.zoomed(4)), 4)
    probability = torch.zeros(32, 32, 32)
    probability[14:18, 15:17, 15:18] = 0.9
    patch = zoom.spread(view, probability, None)
    whole = view.frame.spread(probability, None)
    assert patch.array.size < whole.array.size / 100
    assert np.allclose(patch.full(), whole.full(), atol=1e-6)
    assert not zoom.spread(view, probability * 0, None).array.any()


def test_a_budget_that_does_not_do_goes_to_the_prompt_and_where_most_is_doubtful() -> None:
    view = View(Frame.centred(scan().grid, (60, 50, 30), RANGE.zoomed(4)), 4.0)
    doubt = np.ones(view.frame.size, bool)
    named = Click((110, 100, 55))
    (only,) = zoom.tiles(view, doubt, named, Click((60, 50, 30)), RANGE, 1)
    assert only.scale == 2, "the coarsest that is nearer"
    assert only.frame.holds(named, 0.0)
    some = zoom.tiles(view, doubt, named, Click((60, 50, 30)), RANGE, 5)
    assert len(some) == 5
    assert sum(tile.frame.holds(named, 0.0) for tile in some) >= 1
    everything = zoom.tiles(view, doubt, named, Click((60, 50, 30)), RANGE, 1000)
    assert {tile.scale for tile in everything} == {zoom.finest(scan().grid, RANGE)}
    assert all(min(tile.frame.covered()[1]) > 0 for tile in everything), "none lies wholly outside the scan"


def test_budget_is_a_number_of_crops() -> None:
    with pytest.raises(PromptError, match="a budget of -1 crops; give 0 or more"):
        Predictor(small_bundle(), "cpu", budget=-1)


def test_what_was_held_can_be_taken_away() -> None:
    """A is kept though the network, in a wider view, sees but B; who then says that A is none is heard."""
    here, there = ball((30, 50, 30), 24), ball((95, 50, 30), 24)
    truth = here.copy()
    predictor, _ = knowing(truth, budget=0)
    predictor.set_volume(scan())
    prompts: list[Prompt] = [Click((30, 50, 30))]
    predictor.predict(prompts)
    truth[:] = there
    prompts.append(Click((95, 50, 30)))
    both = predictor.predict(prompts).mask.full()
    assert both[30, 50, 30]
    assert both[95, 50, 30]
    prompts.append(Click((30, 50, 30), positive=False))
    prompts[0] = Click((31, 50, 30))
    truth[:] = here
    predictor.predict(prompts[:1])
    truth[:] = there
    left = predictor.predict(prompts).mask.full()
    assert not left[30, 50, 30]
    assert left[95, 50, 30]


def seen_from_near(predictor: Predictor, truth: np.ndarray) -> None:
    """Let a predictor see another truth in crops nearer than the model's own."""
    look = predictor.looks.seen

    def either(view: View, prompts: list[Prompt], prior: Patch | None = None) -> torch.Tensor:
        drawn: torch.Tensor = look(view, prompts, prior)
        return view.frame.extract(truth)[0] if view.scale < 1 else drawn

    predictor.looks.seen = either  # type: ignore[assignment, method-assign]


def test_a_click_that_is_not_heeded_is_looked_at_from_nearer() -> None:
    """Around its very voxel; one that is heeded is not, nor is any where nothing nearer is known."""
    truth = ball((60, 50, 30), 20)
    predictor, seen = knowing(truth, blur=False)
    hole = truth.copy()
    hole[65:68, 49:52, 30] = False
    seen_from_near(predictor, hole)
    predictor.set_volume(scan())
    prompts: list[Prompt] = [Click((60, 50, 30))]
    before = predictor.predict(prompts)
    prompts.append(Click((66, 50, 30), positive=False))
    answer = predictor.predict(prompts)
    assert [view.scale for view in seen] == [1, 1, 0.5]
    assert answer.crops == 2
    assert not answer.mask.full()[66, 50, 30]
    assert np.array_equal(seen[-1].frame.scan_index([16, 16, 16]), (66, 50, 30))
    assert np.count_nonzero(before.mask.full() & ~answer.mask.full()) < 30
    predictor.predict([*prompts, Click((71, 50, 30), positive=False)])
    assert [view.scale for view in seen[3:]] == [1], "that is no lesion anyway"


def deaf_unless(
    predictor: Predictor, hears: Callable[[View, list[Prompt], Patch | None], bool], said: np.ndarray
) -> None:
    """Let a predictor see another truth only in looks that hear the last click."""
    look = predictor.looks.seen

    def either(view: View, prompts: list[Prompt], prior: Patch | None = None) -> torch.Tensor:
        drawn: torch.Tensor = look(view, prompts, prior)
        return view.frame.extract(said)[0] if hears(view, prompts, prior) else drawn

    predictor.looks.seen = either  # type: ignore[assignment, method-assign]


@pytest.mark.parametrize(
    ("hears", "scales", "heeded"),
    [
        (lambda view, prompts, prior: len(prompts) == 1 and view.scale == 0.5, [1, 0.5, 0.5], True),
        (lambda view, prompts, prior: len(prompts) == 1 and view.scale == 2, [1, 0.5, 0.5, 1, 2], True),
        (lambda view, prompts, prior: prior is None, [1, 0.5, 0.5, 1, 2, 2], True),
        (lambda view, prompts, prior: False, [1, 0.5, 0.5, 1, 2, 2], False),
    ],
)
def test_a_click_is_asked_again_until_it_is_heeded(
    hears: Callable[[View, list[Prompt], Patch | None], bool], scales: list[float], heeded: bool
) -> None:
    """From nearer, then alone, then without the mask so far; only what lies about the click counts of these."""
    truth = ball((60, 50, 30), 20)
    predictor, seen = knowing(truth, blur=False)
    predictor.set_volume(scan())
    prompts: list[Prompt] = [Click((60, 50, 30))]
    before = predictor.predict(prompts).mask.full()
    half = truth.copy()
    half[62:] = False
    deaf_unless(predictor, hears, half)
    prompts.append(Click((66, 50, 30), positive=False))
    answer = predictor.predict(prompts)
    assert [view.scale for view in seen] == [1, *scales]
    assert answer.crops == len(scales)
    mask = answer.mask.full()
    assert bool(mask[66, 50, 30]) is not heeded
    gone = np.argwhere(before & ~mask)
    if not heeded:
        assert len(gone) == 0
        return
    reach = np.linalg.norm((gone - (66, 50, 30)) * SPACING, axis=1).max()
    assert 1 < reach <= 64 * scales[-1] / 8, "an eighth of the crop's edge"


@pytest.mark.parametrize(
    ("radius", "first", "last"),
    [(5, Click((60, 50, 30)), (61, 50, 30)), (3, Box((57, 47, 29), (63, 53, 31)), (60, 50, 30))],
    ids=["an earlier click", "all of the lesion"],
)
def test_no_further_look_may_lose(radius: float, first: Click | Box, last: tuple[int, int, int]) -> None:
    truth = ball((60, 50, 30), radius)
    predictor, _ = knowing(truth, blur=False)
    predictor.set_volume(scan())
    denied = Click(last, positive=False)
    assert predictor.predict([first]).mask.full()[60, 50, 30]
    deaf_unless(predictor, lambda view, prompts, _: view.scale == 2 and len(prompts) == 1, np.zeros_like(truth))
    mask = predictor.predict([first, denied]).mask.full()
    assert mask[60, 50, 30]
    assert mask.any()


def test_within_a_large_lesion_too_a_click_that_is_not_heeded_is_looked_at_from_nearer() -> None:
    truth = ball((60, 50, 30), 70)
    predictor, seen = knowing(truth)
    hole = truth.copy()
    hole[64:69, 48:53, 29:32] = False
    seen_from_near(predictor, hole)
    predictor.set_volume(scan())
    prompts: list[Prompt] = [Click((60, 50, 30))]
    before = predictor.predict(prompts)
    assert before.view.scale == 4
    count = len(seen)
    answer = predictor.predict([*prompts, Click((66, 50, 30), positive=False)])
    assert [view.scale for view in seen[count:]].count(0.5) == 1
    assert answer.crops == len(seen) - count
    assert answer.view is before.view
    assert not answer.mask.full()[66, 50, 30]
    assert np.count_nonzero(before.mask.full() & ~answer.mask.full()) < 5 * 5 * 3 + 1


def test_every_look_is_told_all_prompts() -> None:
    """A stroke that leaves a closer look's crop, and a box around it, are known in it as far as they lie in it."""
    truth = ball((60, 50, 30), 70)
    predictor, _ = knowing(truth, budget=200)
    told: list[tuple[View, list[Prompt]]] = []
    look = predictor.looks.seen

    def listening(view: View, prompts: list[Prompt], prior: Patch | None = None) -> torch.Tensor:
        told.append((view, list(prompts)))
        return look(view, prompts, prior)

    predictor.looks.seen = listening  # type: ignore[assignment, method-assign]
    predictor.set_volume(scan())
    prompts: list[Prompt] = [Box((25, 15, 12), (95, 85, 48)), Scribble.along([(30, 50, 30), (90, 50, 30)])]
    predictor.predict(prompts)
    nearer = [(view, some) for view, some in told if view.scale < 4]
    assert nearer
    assert all(some == prompts[: len(some)] for _, some in nearer)
    frames = [view.frame for view, some in nearer if some == prompts]
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
    """Odd sizes, several prompts, and views from afar: a scan with its axes in another order has the same mask."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(95, 71, 47)), 3)
    base = Volume((2000 * smooth).astype(np.int16), np.diag([1.2, 1.0, 1.7, 1.0]))
    bundle = prompted_bundle()
    preprocessing = bundle.preprocessing.model_copy(update={"zoom": (0.5, 4.0)})
    predictor = Predictor(Bundle(bundle.network, preprocessing, bundle.provenance), "cpu", budget=8)
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
