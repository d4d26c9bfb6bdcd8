"""Slices as they are shown: the right voxels on the right side, and each prompt on the slices where it lies."""

import math
import tracemalloc
from itertools import permutations, product

import numpy as np
import pytest

from palpate.errors import GeometryError, PromptError
from palpate.masks import Mask
from palpate.phantom import make_phantom, oblique_affine
from palpate.pictures import Mark, Plane, lay_out
from palpate.prompts import Box, Click, InitialMask, Lasso, Prompt, Scribble
from palpate.volume import Volume
from scans import cube, empty, plain

ORIENTATIONS = ["".join(letters) for pairs in permutations(("RL", "AP", "SI")) for letters in product(*pairs)]


def numbered() -> tuple[Volume, Mask, Click]:
    """A RAS scan whose values tell their voxel, with a lesion that has no symmetry."""
    x, y, z = np.indices((9, 8, 7))
    volume = Volume(100 * x + 10 * y + z, np.diag([2.0, 3.0, 4.0, 1.0]))
    lesion = np.zeros((9, 8, 7), dtype=bool)
    lesion[5:8, 1:4, 2:5] = True
    lesion[7, 3, 4] = False
    return volume, Mask(lesion, (0, 0, 0), volume.grid), Click((6, 2, 3))


def of_name(planes: tuple[Plane, ...]) -> list[tuple[str, int, int]]:
    return [(plane.place.name, plane.place.axis, plane.place.index) for plane in planes]


def points(mark: Mark) -> list[list[float]]:
    assert mark.points is not None
    found: list[list[float]] = mark.points.tolist()
    return found


def on_planes(volume: Volume, mask: Mask, *prompts: Prompt) -> list[list[int]]:
    """The numbers of the prompts that are marked on each plane."""
    return [[mark.number for mark in plane.marks] for plane in lay_out(volume, [mask], prompts).planes]


def test_each_plane_by_hand() -> None:
    volume, mask, click = numbered()
    planes = lay_out(volume, [mask], [click]).planes
    axial = planes[0]
    assert of_name(planes) == [("axial", 2, 3), ("coronal", 1, 2), ("sagittal", 0, 6)]
    # The top left corner is the patient's right and anterior, right and superior, anterior and superior.
    assert [int(p.values[0, 0]) for p in planes] == [873, 826, 676]
    assert [int(p.values[-1, 0]) for p in planes] == [803, 820, 670]
    assert [int(p.values[0, -1]) for p in planes] == [73, 26, 606]
    assert [p.letters for p in planes] == [("R", "L", "A", "P"), ("R", "L", "S", "I"), ("A", "P", "S", "I")]
    assert [p.spacing for p in planes] == [(3, 2), (4, 2), (4, 3)]
    # x = 6 is the third column from the right side of nine; y = 2 row 5 of eight; z = 3 row 3 of seven.
    assert [points(p.marks[0]) for p in planes] == [[[5, 2]], [[3, 2]], [[3, 5]]]
    assert [p.focus for p in planes] == [(5, 2), (3, 2), (3, 5)]
    assert np.argwhere(axial.masks[0]).min(axis=0).tolist() == [4, 1]
    assert np.argwhere(axial.masks[0]).max(axis=0).tolist() == [6, 3]
    assert all(p.values.dtype == np.float32 for p in planes)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation_gives_the_same_planes(orientation: str) -> None:
    """Turned, flipped and oblique: the same slices, the same marks in the same places."""
    volume, mask, click = numbered()
    axes = ["RAS".find(a) if a in "RAS" else "LPI".find(a) for a in orientation]
    steps = [1 if a in "RAS" else -1 for a in orientation]
    flips = tuple(slice(None, None, step) for step in steps)
    shape = tuple(np.array(volume.shape)[axes].tolist())
    edges = volume.spacing[axes].tolist()
    turned = Volume(
        volume.array.transpose(axes)[flips],
        oblique_affine(shape, edges, orientation=orientation, angles_deg=(5, -8, 11)),
    )

    def there(index: tuple[float, ...]) -> list[float]:
        return [
            index[a] if step == 1 else shape[n] - 1 - index[a]
            for n, (a, step) in enumerate(zip(axes, steps, strict=True))
        ]

    def moved(prompt: Prompt) -> Prompt:
        if isinstance(prompt, Click):
            return Click(tuple(map(int, there(prompt.index))), prompt.positive)  # type: ignore[arg-type] # of three
        if isinstance(prompt, Box):
            return Box(tuple(map(int, there(prompt.first))), tuple(map(int, there(prompt.last))))  # type: ignore[arg-type] # likewise
        if isinstance(prompt, InitialMask):
            return InitialMask(Mask(prompt.mask.full().transpose(axes)[flips], (0, 0, 0), turned.grid))
        assert isinstance(prompt, Lasso)
        corners = np.insert(prompt.outline, prompt.axis, prompt.slice_index, axis=1)
        axis = axes.index(prompt.axis)
        outline = np.array([there(tuple(corner)) for corner in corners])
        return Lasso(axis, int(outline[0, axis]), np.delete(outline, axis, axis=1), prompt.positive)

    prompts: list[Prompt] = [
        click,
        Click((1, 6, 6), positive=False),
        Box((4, 1, 2), (8, 4, 5)),
        Lasso(2, 3, np.array([(4.6, 0.6), (8.4, 0.7), (7.2, 3.9)])),
        InitialMask(mask),
    ]
    lesion = Mask(mask.array.transpose(axes)[flips], (0, 0, 0), turned.grid)
    expected = lay_out(volume, [mask], prompts, truth=mask)
    found = lay_out(turned, [lesion], [moved(prompt) for prompt in prompts], truth=lesion)
    assert len(found.planes) == len(expected.planes) == 4
    for mine, theirs in zip(found.planes, expected.planes, strict=True):
        assert np.array_equal(mine.values, theirs.values)
        assert np.array_equal(mine.masks[0], theirs.masks[0])
        assert mine.truth is not None
        assert np.array_equal(mine.truth, theirs.masks[0])
        assert (mine.letters, mine.focus) == (theirs.letters, theirs.focus)
        assert mine.spacing == pytest.approx(theirs.spacing)
        assert mine.place.name == theirs.place.name
        assert mine.place.offset_mm == pytest.approx(theirs.place.offset_mm)
        assert orientation[mine.place.axis] in {"axial": "SI", "coronal": "AP", "sagittal": "RL"}[mine.place.name]
        assert [mark.number for mark in mine.marks] == [mark.number for mark in theirs.marks]
        for mark, model in zip(mine.marks, theirs.marks, strict=True):
            if model.points is None:
                assert mark.region is not None
                assert model.region is not None
                assert np.array_equal(mark.region, model.region)
            else:
                assert np.allclose(sorted(points(mark)), sorted(points(model)))


def test_liver_is_at_the_viewers_left_and_the_spine_below() -> None:
    affine = oblique_affine((64, 96, 96), (4, 2, 2), orientation="SPL", angles_deg=(6, 4, -5))
    phantom = make_phantom(shape=(64, 96, 96), affine=affine, noise_hu=0)
    axial = lay_out(phantom.volume, [phantom.lesion], [phantom.click, Click((1, 1, 1)), Click((62, 94, 94))]).planes[0]
    rows, columns = np.nonzero(axial.masks[0])
    assert columns.mean() < 0.45 * axial.masks[0].shape[1]
    bone = np.argwhere(axial.values > 200)
    central = bone[np.abs(bone[:, 1] - axial.values.shape[1] / 2) < 8]
    assert np.median(central[:, 0]) > rows.mean()


def test_shown_is_the_lesion_with_thirty_mm_around_it() -> None:
    volume = plain((200, 200, 100), (1, 1, 2))
    # 10 x 20 x 10 mm: 20 + 2 x 30 = 80 mm along every axis.
    planes = lay_out(volume, [cube(volume.grid, (90, 90, 50), (99, 109, 54))]).planes
    assert [p.values.shape for p in planes] == [(80, 80), (40, 80), (40, 80)]
    assert {p.view_mm for p in planes} == {80}
    rows, columns = np.nonzero(planes[0].masks[0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (30, 49, 35, 44)


def test_shown_moves_inward_at_the_scans_border_and_ends_with_the_scan() -> None:
    volume = plain((200, 40, 100))
    planes = lay_out(volume, [cube(volume.grid, (198, 5, 0), (199, 6, 1))]).planes
    # 62 mm along x and z, pushed against the corner; all 40 along y.
    assert [p.values.shape for p in planes] == [(40, 62), (62, 62), (62, 40)]
    assert np.argwhere(planes[1].masks[0]).tolist() == [[60, 0], [60, 1], [61, 0], [61, 1]]
    small = plain((20, 30, 10))
    assert {p.view_mm for p in lay_out(small, [cube(small.grid, (3, 3, 3), (5, 5, 5))]).planes} == {30}


def test_prompts_and_truth_lie_in_what_is_shown() -> None:
    volume = plain((300, 100, 100))
    truth = cube(volume.grid, (40, 50, 50), (44, 54, 54))
    mask = cube(volume.grid, (150, 50, 50), (159, 54, 54))
    axial = lay_out(volume, [mask], [Click((152, 52, 52)), Click((250, 52, 52))], truth=truth).planes[0]
    # From 40 to 250 along x, and 30 on both sides.
    assert axial.values.shape == (100, 271)
    assert points(axial.marks[1]) == [[99 - 52, 30]]
    assert axial.truth is not None
    assert axial.truth.sum() == 25


def test_a_prompt_is_marked_where_it_lies_and_nowhere_else() -> None:
    volume = plain((60, 60, 60))
    mask = cube(volume.grid, (20, 20, 20), (29, 29, 29))
    inside = Click((24, 24, 24))
    # Axial z = 24, coronal y = 24, sagittal x = 24; then axial z = 40 for the second click.
    assert on_planes(volume, mask, inside, Click((10, 50, 40), positive=False)) == [[1], [1], [1], [2]]
    assert on_planes(volume, mask, inside, Click((10, 24, 40), positive=False)) == [[1], [1, 2], [1]]
    # A box is drawn on every slice that cuts it.
    assert on_planes(volume, mask, inside, Box((18, 18, 18), (32, 32, 23))) == [[1], [1, 2], [1, 2]]
    assert on_planes(volume, mask, inside, Box((18, 18, 24), (32, 32, 24))) == [[1, 2], [1, 2], [1, 2]]
    assert on_planes(volume, mask, inside, Scribble.along([(10, 5, 24), (15, 5, 24)])) == [[1, 2], [1], [1]]


def test_marks_have_the_forms_of_their_prompts() -> None:
    volume = plain((60, 60, 60))
    mask = cube(volume.grid, (20, 20, 20), (29, 29, 29))
    prompts: list[Prompt] = [
        Click((24, 24, 24)),
        Box((20, 18, 22), (31, 30, 26)),
        Lasso(2, 24, np.array([(20.0, 20.0), (30.0, 20.0), (30.0, 26.0)]), positive=False),
        Scribble.along([(10, 12, 24), (12, 12, 24)], positive=False),
        InitialMask(cube(volume.grid, (22, 22, 22), (26, 26, 26))),
    ]
    axial, coronal, _ = lay_out(volume, [mask], prompts).planes
    assert [(mark.kind, mark.positive) for mark in axial.marks] == [
        ("click", True), ("box", True), ("lasso", False), ("scribble", False), ("initial_mask", True),
    ]  # fmt: skip
    # Rows run from y = 59 down, columns from x = 59: the box's outer edges are half a voxel beyond its corners'.
    box, lasso, stroke, start = axial.marks[1:]
    assert points(box) == [[28.5, 27.5], [28.5, 39.5], [41.5, 39.5], [41.5, 27.5]]
    assert points(lasso) == [[39, 39], [39, 29], [33, 29]]
    assert stroke.points is None
    assert stroke.region is not None
    assert np.argwhere(stroke.region).tolist() == [[47, 47], [47, 48], [47, 49]]
    assert start.region is not None
    assert start.region.sum() == 25
    # Across its own slice, a lasso is the line of its voxels: y = 24 has x = 27 to 29.
    (crossed,) = (mark for mark in coronal.marks if mark.kind == "lasso")
    assert crossed.points is None
    assert crossed.region is not None
    assert np.argwhere(crossed.region)[:, 0].tolist() == [35] * 3


def test_further_slices_say_how_far_they_lie_from_the_first_of_their_name() -> None:
    volume = Volume(np.zeros((60, 60, 60), dtype=np.int16), oblique_affine((60, 60, 60), (1, 2, 3), orientation="LPI"))
    mask = cube(volume.grid, (20, 20, 20), (29, 29, 29))
    lasso = Lasso(0, 40, np.array([(5, 5), (15, 5), (15, 15)]))
    sheet = lay_out(volume, [mask], [Click((24, 24, 24)), Click((10, 50, 28)), lasso])
    assert of_name(sheet.planes)[3:] == [("axial", 2, 28), ("sagittal", 0, 40)]
    # Indices run towards the feet and the left: 4 slices of 3 mm below, 16 of 1 mm to the left.
    assert [p.place.offset_mm for p in sheet.planes] == pytest.approx([0, 0, 0, -12, -16])


def test_what_no_slice_shows_is_listed() -> None:
    volume = plain((60, 60, 60))
    mask = cube(volume.grid, (20, 20, 20), (29, 29, 29))
    clicks = [Click((24, 24, 24)), *(Click((n, n, n), positive=False) for n in (40, 42, 44, 46))]
    sheet = lay_out(volume, [mask], clicks)
    assert sheet.masks_left_out == ()
    ((number, place),) = sheet.prompts_left_out
    assert (number, place.name, place.index, place.offset_mm) == (5, "axial", 46, 22)
    small = [cube(volume.grid, (n, n, n), (n, n, n)) for n in (40, 42, 44, 46)]
    sheet = lay_out(volume, [mask, *small])
    assert sheet.prompts_left_out == ()
    ((number, place),) = sheet.masks_left_out
    assert (number, place.index) == (5, 46)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 1), (64, 48, 1), (1, 5, 7)])
def test_scans_of_few_voxels_or_one_slice(shape: tuple[int, int, int]) -> None:
    volume = plain(shape, (0.5, 1, 4))
    corner = shape[0] - 1, shape[1] - 1, shape[2] - 1
    for mask in (cube(volume.grid, (0, 0, 0), corner), cube(volume.grid, corner, corner), empty(volume.grid)):
        planes = lay_out(volume, [mask], [Click(corner), Box((0, 0, 0), corner)]).planes
        assert len(planes) == 3
        assert all(len(plane.marks) == 2 for plane in planes)
        assert planes[0].values.size == shape[0] * shape[1] or planes[0].values.shape[0] <= math.ceil(shape[1] + 60)


def test_a_large_scan_costs_what_is_shown_of_it() -> None:
    volume = plain((512, 512, 400))
    mask = cube(volume.grid, (200, 200, 200), (219, 219, 219))
    prompts: list[Prompt] = [
        Click((210, 210, 210)),
        Box((0, 0, 0), (511, 511, 399)),
        Click((205, 205, 205), positive=False),
    ]
    tracemalloc.start()
    lay_out(volume, [mask], prompts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6  # the scan converted would be 400 MB, and the box as an array 100


def test_masks_and_prompts_that_do_not_belong_to_the_scan() -> None:
    volume, other = plain((9, 9, 9)), plain((9, 9, 8))
    mine, theirs = cube(volume.grid, (1, 1, 1), (2, 2, 2)), cube(other.grid, (1, 1, 1), (2, 2, 2))
    with pytest.raises(GeometryError, match=r"the mask lies on another grid than the scan: shape \(9, 9, 8\)"):
        lay_out(volume, [theirs])
    with pytest.raises(GeometryError, match="the truth lies on another grid"):
        lay_out(volume, [mine], truth=theirs)
    with pytest.raises(PromptError, match=r"click \(9, 0, 0\) lies outside the scan"):
        lay_out(volume, [mine], [Click((9, 0, 0), positive=False)])
    with pytest.raises(PromptError, match="the initial mask lies on another grid"):
        lay_out(volume, [mine], [InitialMask(theirs)])
