"""The map between a scan's grid and a crop: by hand, and as properties on oblique, flipped, anisotropic grids."""

from itertools import pairwise, permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from palpate.errors import PromptError
from palpate.frame import ClipZScore, CropPercentiles, Frame, Preprocessing, draw_prompts, round_half
from palpate.masks import Mask, Probability
from palpate.phantom import oblique_affine
from palpate.prompts import Box, Click, InitialMask, Prompt, Scribble
from palpate.resampling import downsampling_factors
from palpate.volume import FloatArray, Grid, Volume

PLAIN = ClipZScore(low=-1e6, high=1e6, mean=0, std=1)


def setting(crop: int = 16, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Preprocessing:
    return Preprocessing(crop=(crop, crop, crop), spacing=spacing, normalisation=PLAIN)


def ramp(grid: Grid) -> Volume:
    """A scan whose voxels hold R + 10 A + 100 S, mm: linear, so that linear interpolation is exact."""
    places = grid.to_mm(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1))
    return Volume((places @ [1.0, 10.0, 100.0]).astype(np.float32), grid.affine)


orientations = st.sampled_from(["RAS", "LPS", "LAI", "PIR", "SRA", "ALI", "IPL"])
spacings = st.tuples(*[st.floats(0.5, 4.0)] * 3)
angles = st.tuples(*[st.floats(-25, 25)] * 3)
grids = st.builds(
    lambda orientation, spacing, turn: Grid(
        (20, 24, 28), oblique_affine((20, 24, 28), spacing, orientation=orientation, angles_deg=turn)
    ),
    orientations, spacings, angles,
)  # fmt: skip


def test_axes_by_hand() -> None:
    """An RAS scan of 1 mm: D is z, H is minus y, W is minus x; the click is voxel size // 2."""
    array = np.arange(40 * 41 * 42, dtype=np.float32).reshape(40, 41, 42)
    volume = Volume(array, np.eye(4))
    frame = Frame.around(volume.grid, [Click((20, 21, 22))], setting(8))
    values, inside = frame.extract(volume.array)
    assert inside.all()
    assert values[4, 4, 4] == array[20, 21, 22]
    assert values[5, 4, 4] == array[20, 21, 23]
    assert values[4, 5, 4] == array[20, 20, 22]
    assert values[4, 4, 5] == array[19, 21, 22]
    # At the model's spacing a crop is a copy, up to float32's rounding of places.
    expected = array[24:16:-1, 25:17:-1, 18:26].transpose(2, 1, 0)
    np.testing.assert_allclose(values.numpy(), expected, atol=0.05)


def test_array_order_does_not_change_the_crop() -> None:
    array = np.random.default_rng(0).normal(size=(20, 22, 24)).astype(np.float32)
    straight = Volume(array, np.eye(4))
    # Axes (z, x, y), x and z reversed: index (a, b, c) lies at x = 19 - b, y = c, z = 23 - a.
    other = np.array([[0, -1, 0, 19], [0, 0, 1, 0], [-1, 0, 0, 23], [0, 0, 0, 1.0]])
    turned = Volume(array[::-1, :, ::-1].transpose(2, 0, 1), other)
    click = Click((9, 10, 11))
    same = Click.at_mm(turned.grid, straight.grid.to_mm(click.index).tolist())
    one = Frame.around(straight.grid, [click], setting()).extract(straight.array)[0]
    two = Frame.around(turned.grid, [same], setting()).extract(turned.array)[0]
    torch.testing.assert_close(one, two, rtol=0, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(grids, spacings)
def test_indices_round_trip(grid: Grid, spacing: tuple[float, float, float]) -> None:
    frame = Frame.centred(grid, (10, 12, 14), setting(16, spacing))
    places = np.random.default_rng(0).uniform(-5, 30, (50, 3))
    np.testing.assert_allclose(frame.scan_index(frame.crop_index(places)), places, atol=1e-9)
    assert frame.crop_index(np.array([10, 12, 14])) == pytest.approx([8, 8, 8])


@settings(max_examples=40, deadline=None)
@given(grids, spacings)
def test_a_linear_scan_is_read_exactly(grid: Grid, spacing: tuple[float, float, float]) -> None:
    """Well inside the scan, resampling a linear function gives its value at the place, averaged level or not."""
    volume = ramp(grid)
    frame = Frame.centred(grid, (10, 12, 14), setting(16, spacing))
    values, _ = frame.extract(volume.array)
    index = np.stack(np.meshgrid(*[np.arange(16)] * 3, indexing="ij"), -1).reshape(-1, 3)
    scan = frame.scan_index(index)
    factor = np.maximum(1, np.rint(np.linalg.norm(frame.to_scan[:3, :3], axis=1)))
    whole = np.array(grid.shape) // factor * factor  # a level's last, cut block counts its own centre
    deep = ((scan > factor) & (scan < whole - 1 - factor)).all(axis=1)
    expected = grid.to_mm(scan) @ [1.0, 10.0, 100.0]
    got = values.numpy().reshape(-1)
    np.testing.assert_allclose(got[deep], expected[deep], atol=2e-2 + 2e-5 * float(np.abs(volume.array).max()))


def test_a_coarser_crop_averages() -> None:
    """A checkerboard seen at half the resolution is its mean, never one of its colours."""
    board = np.indices((32, 32, 32)).sum(0) % 2
    volume = Volume(board.astype(np.float32), np.eye(4))
    values, inside = Frame.centred(volume.grid, (16, 16, 16), setting(8, (2.0, 2.0, 2.0))).extract(volume.array)
    assert inside.all()
    torch.testing.assert_close(values, torch.full((8, 8, 8), 0.5))


def test_outside_is_zero_after_normalisation_and_not_counted() -> None:
    array = np.full((10, 10, 10), 100, dtype=np.int16)
    array[5, 5, 5] = 300
    volume = Volume(array, np.eye(4))
    frame = Frame.around(volume.grid, [Click((1, 1, 1))], setting(16))
    image = frame.image(volume.array, CropPercentiles(low=0, high=100))[0, 0]
    _, inside = frame.extract(volume.array)
    assert not image[~inside].any()
    # The click is crop voxel 8 of 16: D runs up from z = -7 to 8, H and W down from y, x = 9 to -6.
    assert int(inside.sum()) == 9 * 10 * 10
    assert image[inside].mean().abs() < 1e-5
    assert image[inside].std(correction=0) == pytest.approx(1, abs=1e-4)


def test_normalisation_by_hand() -> None:
    crop = torch.tensor([[[-200.0, 0.0, 50.0, 500.0]]])
    inside = torch.tensor([[[True, True, True, False]]])
    scaled = ClipZScore(low=-100, high=100, mean=20, std=40).apply(crop, inside)
    assert scaled.flatten().tolist() == [-3.0, -0.5, 0.75, 0.0]
    assert CropPercentiles().apply(torch.full((2, 2, 2), 7.0), torch.ones(2, 2, 2, dtype=torch.bool)).abs().max() == 0
    assert CropPercentiles().apply(crop, torch.zeros_like(inside)).abs().max() == 0
    # The middle of five values is kept, the outer ones clipped to their neighbours at 25 and 75 percent.
    five = torch.tensor([[[0.0, 10.0, 20.0, 30.0, 1000.0]]])
    clipped = CropPercentiles(low=25, high=75).apply(five, torch.ones_like(five, dtype=torch.bool))
    deviation = (2 * (100 + 100) / 5) ** 0.5
    np.testing.assert_allclose(clipped.flatten(), np.array([-10, -10, 0, 10, 10]) / deviation, rtol=1e-5)


def test_probabilities_come_back_to_their_voxels() -> None:
    volume = Volume(np.zeros((30, 30, 30), np.float32), np.diag([-1.0, 1.0, 1.0, 1.0]))
    frame = Frame.around(volume.grid, [Click((3, 15, 27))], setting(16))
    probability = torch.zeros(16, 16, 16)
    d, h, w = np.rint(frame.crop_index(np.array([5, 14, 26]))).astype(int)
    probability[d, h, w] = 1
    back = frame.resample_to_scan(probability, volume.source)
    assert np.argwhere(back.full() > 0.5).tolist() == [[5, 14, 26]]
    assert back.full()[5, 14, 26] == pytest.approx(1, abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(grids)
def test_a_ball_survives_there_and_back(grid: Grid) -> None:
    """A ball drawn in the crop, mapped to the scan's grid, is the ball drawn there, but for voxels at its rim."""
    preprocessing = setting(24, (2.0, 2.0, 2.0))
    frame = Frame.centred(grid, (10, 12, 14), preprocessing)
    axes = torch.meshgrid(*[torch.arange(24.0) - 12] * 3, indexing="ij")
    distance = 2 * torch.stack(axes).square().sum(0).sqrt()
    soft = torch.sigmoid(14 - distance)
    mask = frame.resample_to_scan(soft, None).threshold()
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    offsets = (frame.crop_index(index.reshape(-1, 3)) - 12) * 2
    true = (np.linalg.norm(offsets, axis=1) < 14).reshape(grid.shape)
    wrong = np.count_nonzero(mask.full() != true)
    assert wrong <= 0.12 * np.count_nonzero(true) + 2


def test_training_and_inference_see_the_same_crop() -> None:
    """A crop that augmentation leaves alone is the one inference plans, and a mirrored one is its mirror."""
    grid = Grid((40, 40, 20), oblique_affine((40, 40, 20), (1, 1, 2.5), orientation="LPI", angles_deg=(5, 10, 15)))
    volume = ramp(grid)
    frame = Frame.around(grid, [Click((20, 20, 10))], setting(16, (1.5, 1.5, 1.5)))
    image = frame.extract(volume.array)[0]
    assert torch.equal(frame.moved(np.eye(4)).extract(volume.array)[0], image)
    mirrored = frame.moved(np.diag([1.0, 1.0, -1.0, 1.0])).extract(volume.array)[0]
    torch.testing.assert_close(mirrored[:, :, 1:], image.flip(2)[:, :, :-1], rtol=1e-4, atol=1e-2)


def test_only_the_touched_voxels_are_read() -> None:
    class Counting:
        box: tuple[slice, ...] = ()

        def __getitem__(self, box: tuple[slice, slice, slice]) -> FloatArray:
            self.box = box
            return np.zeros([s.stop - s.start for s in box])

    grid = Grid((512, 512, 400), np.diag([0.7, 0.7, 1.0, 1.0]))
    counting = Counting()
    Frame.around(grid, [Click((256, 256, 200))], setting(64)).extract(counting)
    read = [s.stop - s.start for s in counting.box]
    assert max(read) < 64 / 0.7 + 5


def test_clicks_keep_the_crop_until_one_nears_its_edge() -> None:
    grid = Grid((100, 100, 100), np.eye(4))
    preprocessing = setting(32)
    first = Frame.following(grid, [Click((50, 50, 50))], preprocessing)
    near = Frame.following(grid, [Click((50, 50, 50)), Click((55, 45, 52))], preprocessing)
    assert (first.to_scan == near.to_scan).all()
    far = Frame.following(grid, [Click((50, 50, 50)), Click((63, 50, 50))], preprocessing)
    assert (far.to_scan == Frame.around(grid, [Click((50, 50, 50)), Click((63, 50, 50))], preprocessing).to_scan).all()
    assert far.crop_index(np.array([56, 50, 50])) == pytest.approx([16, 16, 16]), "the middle, at a whole voxel"


def test_clicks_too_far_apart() -> None:
    grid = Grid((100, 100, 100), np.eye(4))
    held = r"more than this model's crop holds \(16 x 16 x 16 mm; both along S, A, R\); click nearer"
    with pytest.raises(PromptError, match=f"prompts span 0 x 0 x 60 mm, {held}"):
        Frame.around(grid, [Click((10, 50, 50)), Click((70, 50, 50))], setting(16))
    # Stored as A, S, L with voxels of 1, 2 and 3 mm: 60 voxels of the first axis are 60 mm along A, and so on.
    turned = Grid((100, 100, 100), np.array([[0, 0, -3, 0], [1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1.0]]))
    with pytest.raises(PromptError, match=f"prompts span 20 x 60 x 15 mm, {held}"):
        Frame.around(turned, [Click((10, 50, 50)), Click((70, 60, 55))], setting(16))


def test_scans_of_one_slice_and_crops_beyond_them() -> None:
    volume = Volume(np.ones((20, 20, 1), np.float32), np.diag([1, 1, 5.0, 1]))
    frame = Frame.around(volume.grid, [Click((0, 19, 0))], setting(16))
    values, inside = frame.extract(volume.array)
    assert inside.any(dim=(1, 2)).sum() == 5, "the slice is 5 mm thick"
    assert (values[inside] - 1).abs().max() < 1e-5
    assert frame.resample_to_scan(torch.ones(16, 16, 16), volume.source).full().sum() > 0


@pytest.mark.parametrize("shape", [(20, 20, 1), (1, 30, 30), (33, 1, 20), (61, 62, 63)])
def test_scans_thinner_than_a_crop_voxel(shape: tuple[int, int, int]) -> None:
    """Half a millimetre a voxel and four a crop voxel: blocks of eight, cut short at the scan's end or everywhere."""
    volume = Volume(np.full(shape, 7.0, np.float32), np.diag([0.5, 0.5, 0.5, 1]))
    for click in ((0, 0, 0), tuple(n - 1 for n in shape)):
        frame = Frame.centred(volume.grid, click, setting(16, (4.0, 4.0, 4.0)))
        values, inside = frame.extract(volume.array)
        assert inside.any()
        torch.testing.assert_close(values, torch.full_like(values, 7.0))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"crop": (0, 8, 8)}, "must be positive"),
        ({"spacing": (1, -1, 1)}, "must be positive"),
        ({"normalisation": {"kind": "clip_z_score", "low": 5, "high": 5, "mean": 0, "std": 1}}, "must lie below high"),
        ({"normalisation": {"kind": "crop_percentiles", "low": 60, "high": 40}}, "must lie below high"),
        ({"normalisation": {"kind": "by_name"}}, "does not match any of the expected tags"),
        ({"margin": 0.5}, "less than 0.5"),
    ],
)
def test_nonsense_preprocessing_is_refused(values: dict[str, object], message: str) -> None:
    good = setting().model_dump()
    with pytest.raises(ValidationError, match=message):
        Preprocessing.model_validate({**good, **values})


def test_spacings_differ_by_axis() -> None:
    """D, H, W spacings belong to S, A, R, wherever the scan keeps them."""
    grid = Grid((50, 50, 50), oblique_affine((50, 50, 50), (1, 1, 1), orientation="SRA"))
    frame = Frame.centred(grid, (25, 25, 25), setting(8, (3.0, 2.0, 1.0)))
    steps = [np.linalg.norm(frame.scan_index(np.eye(3)[a]) - frame.scan_index(np.zeros(3))) for a in range(3)]
    assert steps == pytest.approx([3, 2, 1])
    assert all(a > b for a, b in pairwise(steps))


def test_tokens_and_labels_of_prompts() -> None:
    grid = Grid((64, 64, 64), np.eye(4))
    preprocessing = Preprocessing(crop=(16, 16, 16), spacing=(1.0, 1.0, 1.0), normalisation=CropPercentiles())
    frame = Frame.centred(grid, (30, 30, 30), preprocessing)
    mask = np.zeros(grid.shape, bool)
    mask[30, 30, 30] = True
    prompts: list[Prompt] = [
        Click((30, 30, 30)),
        Click((31, 30, 30), positive=False),
        Box((28, 29, 30), (32, 33, 34)),
        Scribble.along([(25, 30, 30), (36, 30, 30)], positive=False),
        InitialMask(Mask(mask, (0, 0, 0), grid)),
    ]
    points, labels = frame.tokens(prompts)
    assert labels.tolist() == [[0, 1, 2, 3] + [1] * 8]
    assert points.shape == (1, 12, 3)
    for place, prompt in zip(
        points[0, :4].numpy(), [(30, 30, 30), (31, 30, 30), (32, 33, 30), (28, 29, 34)], strict=True
    ):
        assert np.allclose(frame.scan_index(place), prompt)
    assert np.allclose(points[0, 2:4], [[8, 5, 6], [12, 9, 10]]), "lowest and highest in the crop, which runs back"
    ends = frame.scan_index(points[0, [4, 11]].numpy())
    assert np.allclose(ends, [(36, 30, 30), (25, 30, 30)])
    none, no_labels = frame.tokens(prompts[-1:])
    assert none.shape == (1, 0, 3)
    assert no_labels.shape == (1, 0)


def test_prompts_are_sampled_alike_however_a_scan_is_stored() -> None:
    """A box's corners and a painted stroke's few voxels, in every order and direction of the same scan's axes."""
    shape = np.array((20, 24, 28))
    affine = oblique_affine((20, 24, 28), (2.0, 1.0, 1.5), orientation="LPS", angles_deg=(4, -6, 3))
    painted = np.random.default_rng(0).integers(7, 12, (40, 3))
    preprocessing = Preprocessing(crop=(32, 32, 32), spacing=(1.0, 1.0, 1.0), normalisation=CropPercentiles())
    answers = []
    for order in permutations(range(3)):
        for signs in product((1, -1), repeat=3):
            to_first = np.eye(4)  # from this order's indices to the first's
            to_first[:3, :3] = np.eye(3)[:, order] * signs
            size = shape[list(order)]
            to_first[:3, 3] = np.eye(3)[:, order] @ ((size - 1) * (np.array(signs) < 0))
            grid = Grid((int(size[0]), int(size[1]), int(size[2])), affine @ to_first)
            back = np.linalg.inv(to_first)
            places = np.array([(5, 6, 8), (12, 20, 19), (10, 12, 14), *painted])
            moved = np.rint(places @ back[:3, :3].T + back[:3, 3]).astype(int)
            (x, y, z), (u, v, w) = moved[:2].min(axis=0).tolist(), moved[:2].max(axis=0).tolist()
            stroke = Scribble(moved[3:][np.lexsort(moved[3:].T[::-1])])
            frame = Frame.centred(grid, moved[2], preprocessing)
            answers.append(frame.tokens([Box((x, y, z), (u, v, w)), stroke]))
    assert len(answers) == 48
    for points, labels in answers:
        assert labels.tolist() == [[2, 3] + [0] * 8]
        assert torch.allclose(points, answers[0][0], atol=1e-3)


def test_prompts_that_leave_the_crop_are_cut_off_there() -> None:
    grid = Grid((64, 64, 64), np.diag([-1.0, -1.0, 1.0, 1.0]))  # a crop's axes are the scan's, in reverse order
    preprocessing = Preprocessing(crop=(16, 16, 16), spacing=(1.0, 1.0, 1.0), normalisation=CropPercentiles())
    frame = Frame.centred(grid, (32, 32, 32), preprocessing)
    assert np.allclose(frame.scan_index((0, 0, 0)), 24)
    box = Box((10, 26, 20), (28, 30, 60))
    points, labels = frame.tokens([box, Click((10, 30, 30)), Scribble.along([(30, 30, 34), (30, 30, 50)])])
    assert labels.tolist() == [[2, 3] + [0] * 6]
    assert points[0, :2].tolist() == [[-0.5, 2, -0.5], [15.5, 6, 4]]
    assert points[0, 2:, 0].tolist() == [10, 11, 12, 13, 14, 15], "of the stroke, what lies in the crop"
    assert frame.maps([box])[0, 2].sum() == 16 * 5 * 5
    apart, none = frame.tokens([Box((10, 10, 10), (20, 40, 40))])
    assert apart.shape == (1, 0, 3)
    assert none.shape == (1, 0)


def test_prompts_are_drawn_where_they_lie() -> None:
    """On a flipped, anisotropic grid: each map, brought back to the scan, lies on its prompt."""
    affine = np.diag([-1.0, 2.0, 3.0, 1.0])
    grid = Grid((40, 20, 14), affine)
    preprocessing = Preprocessing(crop=(24, 24, 24), spacing=(1.0, 1.0, 1.0), normalisation=CropPercentiles())
    frame = Frame.centred(grid, (20, 10, 7), preprocessing)
    before = Probability(np.full((4, 2, 2), 0.75, np.float32), (18, 9, 6), grid)
    prompts: list[Prompt] = [Click((20, 10, 7)), Click((25, 8, 8), positive=False), Box((16, 8, 6), (24, 12, 8))]
    maps = frame.maps(prompts, before)[0]
    assert maps.shape == (4, 24, 24, 24)
    for channel, index in ((0, (20, 10, 7)), (1, (25, 8, 8))):
        d, h, w = np.rint(frame.crop_index(np.array(index))).astype(int)
        assert maps[channel, d, h, w] == 1
        assert maps[channel].sum() == 27
    inside = np.argwhere(maps[2].numpy() == 1)
    scan = frame.scan_index(inside)
    assert np.allclose(scan.min(axis=0), (16, 8, 6), atol=0.51)
    assert np.allclose(scan.max(axis=0), (24, 12, 8), atol=0.51)
    assert len(inside) == pytest.approx(9 * 10 * 9, rel=0.15), "millilitres of 9 x 5 x 3 voxels of 1 x 2 x 3 mm"
    assert maps[3].max() == pytest.approx(0.5)
    assert maps[3].min() == -1
    d, h, w = np.rint(frame.crop_index(np.array((19, 9, 6)))).astype(int)
    assert maps[3, d, h, w] == pytest.approx(0.5, abs=1e-6)
    assert frame.maps(prompts)[0, 3].abs().max() == 0, "no prior is zero, not minus one"


def test_spots_are_as_wide_as_pooled_ones() -> None:
    places = torch.randint(0, 7, (12, 3)).float()
    maps = draw_prompts((5, 6, 7), (places, torch.zeros(0, 3)))
    single = torch.zeros(1, 1, 5, 6, 7)
    for d, h, w in places.long().tolist():
        if d < 5 and h < 6:
            single[0, 0, d, h, w] = 1
    assert torch.equal(maps[0], torch.nn.functional.max_pool3d(single, 3, stride=1, padding=1)[0, 0])


def test_a_crop_that_is_its_scan_is_a_copy() -> None:
    """On its own grid not even the last bit changes; one voxel further it is interpolated as ever."""
    scan = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    frame = Frame(Grid((5, 6, 7), np.diag([2.0, 2.0, 2.0, 1.0])), (5, 6, 7), np.eye(4))
    values, inside = frame.extract(scan)
    assert np.array_equal(values.numpy(), scan)
    assert inside.all()
    moved, _ = Frame(frame.grid, frame.size, np.eye(4) + np.eye(4, k=3)).extract(scan)
    np.testing.assert_allclose(moved.numpy()[:-1], scan[1:], atol=1e-5)


def test_spots_outside_a_crop_are_left_out() -> None:
    maps = draw_prompts((4, 4, 4), (torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]]), torch.zeros(0, 3)))
    assert maps[0].sum() == 8
    assert maps[1:].abs().sum() == 0


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "SAR"])
def test_a_whole_scan_is_one_crop(orientation: str) -> None:
    """Every voxel lies in it; it overhangs by less than a voxel, alike at both ends, along the patient's axes."""
    shape = (23, 17, 11)
    affine = oblique_affine(shape, (1.3, 2.0, 3.1), orientation=orientation, angles_deg=(12, -7, 9))
    settings = Preprocessing(crop=(8, 8, 8), spacing=(1.5, 2.0, 0.9), normalisation=CropPercentiles())
    frame = Frame.whole(Grid(shape, affine), settings)
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in shape])).reshape(3, -1).T
    places = frame.crop_index(corners)
    low, high = places.min(axis=0) + 0.5, np.array(frame.size) - 0.5 - places.max(axis=0)
    assert low == pytest.approx(high)
    assert (low > -1e-3).all()
    assert (low < 0.5).all()
    assert np.linalg.norm(affine[:3, :3] @ frame.to_scan[:3, :3], axis=0) == pytest.approx([1.5, 2.0, 0.9])
    assert frame.covered() == ((0, 0, 0), shape)


def test_a_whole_scan_at_the_models_spacing_is_copied() -> None:
    array = np.random.default_rng(0).normal(size=(7, 5, 6)).astype(np.float32)
    settings = Preprocessing(crop=(4, 4, 4), spacing=(2.0, 1.0, 3.0), normalisation=CropPercentiles())
    frame = Frame.whole(Grid((7, 5, 6), np.diag([3.0, 1, 2, 1])), settings)
    assert frame.size == (6, 5, 7)
    values, inside = frame.extract(array)
    assert inside.all()
    expected = np.transpose(array, (2, 1, 0))[:, ::-1, ::-1]  # D up, H towards the back, W towards the left
    np.testing.assert_allclose(values.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(frame.resample_to_scan(values, None).full(), array, atol=1e-5)


@pytest.mark.parametrize("spacing", [1.7, 5.0])
def test_slab_by_slab_is_as_at_once(monkeypatch: pytest.MonkeyPatch, spacing: float) -> None:
    shape = (31, 27, 19)
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    affine = oblique_affine(shape, (1.3, 2.0, 3.1), orientation="LPI", angles_deg=(12, -7, 9))
    settings = Preprocessing(crop=(8, 8, 8), spacing=(spacing,) * 3, normalisation=CropPercentiles())
    frame = Frame.whole(Grid(shape, affine), settings)
    beyond = frame.part((-2, -3, 1), frame.size)

    def seen() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        back = frame.resample_to_scan(frame.extract(array)[0], None)
        return *beyond.extract(array), torch.from_numpy(back.array)

    at_once = seen()
    monkeypatch.setattr("palpate.resampling.SLAB", 2 * frame.size[1] * frame.size[2] + 1)
    by_slabs = seen()
    assert torch.equal(by_slabs[1], at_once[1])
    assert not at_once[1].all()
    for got, expected in zip(by_slabs[::2], at_once[::2], strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


def test_a_wide_crop_turns_no_more_than_a_slab_of_the_scan_to_float_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Listening:
        """Voxels that remember how many of them were asked for at once."""

        def __init__(self) -> None:
            self.asked: list[int] = []

        def __getitem__(self, box: tuple[slice, slice, slice]) -> np.ndarray:
            shape = [part.stop - part.start for part in box]
            self.asked.append(int(np.prod(shape)))
            return np.ones(shape, np.int16)

    settings = Preprocessing(crop=(16, 16, 16), spacing=(4.0, 4.0, 4.0), normalisation=CropPercentiles())
    monkeypatch.setattr("palpate.resampling.SLAB", 20_000)
    scan = Listening()
    values, inside = Frame.centred(Grid((64, 64, 64), np.eye(4)), (32, 32, 32), settings).extract(scan)
    assert (values[inside] - 1).abs().max() < 1e-5
    assert sum(scan.asked) > 200_000
    assert max(scan.asked) <= 20_000


def test_blocks_are_counted_from_the_same_end_however_a_scan_is_stored() -> None:
    """Five voxels averaged two by two: [0, 1], [2, 3] and a lone [4], if counted from the left."""
    settings = Preprocessing(crop=(1, 1, 3), spacing=(1.0, 1.0, 2.0), normalisation=CropPercentiles())
    line = np.array([0.0, 10, 20, 30, 90]).reshape(5, 1, 1)
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = 4
    one = Frame.centred(Grid((5, 1, 1), np.eye(4)), (2.5, 0, 0), settings).extract(line)[0]
    other = Frame.centred(Grid((5, 1, 1), flipped), (1.5, 0, 0), settings).extract(line[::-1])[0]
    assert one.flatten().tolist() == other.flatten().tolist() == [90, 25, 5]  # W runs towards the left


@pytest.mark.parametrize("spacing", [1.5, 2.5, 0.6])
@pytest.mark.parametrize("wide", [1.0, 4.5])
def test_a_headers_last_bits_change_nothing(spacing: float, wide: float) -> None:
    """Half as many voxels again are averaged as so many, though float32 may say a little more or less."""
    settings = Preprocessing(crop=(12, 12, 12), spacing=(wide,) * 3, normalisation=CropPercentiles())
    array = np.random.default_rng(0).normal(size=(24, 24, 24))
    seen = []
    for change in (0.0, 1e-7, -1e-7, 1e-5, -1e-5):
        grid = Grid((24, 24, 24), np.diag([spacing * (1 + change)] * 3 + [1.0]))
        frame = Frame.centred(grid, (12, 12, 12), settings)
        seen.append(
            (
                frame.extract(array)[0],
                downsampling_factors(frame.to_scan).tolist(),
                downsampling_factors(frame.from_scan).tolist(),
            )
        )
    for values, *factors in seen[1:]:
        assert factors == list(seen[0][1:])
        torch.testing.assert_close(values, seen[0][0], atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    ("place", "straight", "mirrored"), [(2.5, 2, 3), (3.0, 3, 3), (2.4, 2, 2), (2.6, 3, 3), (2.50001, 2, 3)]
)
def test_midway_between_voxels_is_the_same_one_however_a_scan_is_stored(
    place: float, straight: float, mirrored: float
) -> None:
    """The one more left, back and down: the lower index where an axis runs right, front and up."""
    for affine, expected in ((np.eye(4), straight), (np.diag([-1.0, -1, -1, 1]), mirrored)):
        assert round_half(Grid((9, 9, 9), affine), [place] * 3).tolist() == [expected] * 3


def test_a_mirrored_crop_has_the_same_voxels_counted_from_the_other_side() -> None:
    grid = Grid((20, 18, 16), oblique_affine((20, 18, 16), (2, 2, 3), orientation="LIP", angles_deg=(5, 8, -3)))
    array = np.random.default_rng(0).normal(size=grid.shape)
    settings = Preprocessing(crop=(7, 8, 9), spacing=(3.0, 2.5, 2.0), normalisation=CropPercentiles())
    frame = Frame.centred(grid, (9, 8, 7), settings)
    values, inside = frame.extract(array)
    other, within = frame.mirrored().extract(array)
    torch.testing.assert_close(other.flip(-1), values, atol=1e-5, rtol=0)
    assert torch.equal(within.flip(-1), inside)
    np.testing.assert_allclose(frame.mirrored().mirrored().to_scan, frame.to_scan)
