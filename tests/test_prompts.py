import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from palpate.errors import GeometryWarning, PromptError
from palpate.formats import read
from palpate.masks import Mask, Probability
from palpate.prompts import Box, Click, InitialMask, Lasso, Prompt, Scribble, check_grid, check_inside, shown, touches
from palpate.volume import Grid, Volume
from scans import cube, empty, plain

# 2 x 3 x 4 mm voxels, x to the left: voxel (1, 2, 3) lies at (10 - 2, 20 + 6, 30 + 12) mm.
GRID = Grid((5, 6, 7), np.array([[-2, 0, 0, 10], [0, 3, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1.0]]))


def test_whole_numbers_of_any_kind_are_a_click() -> None:
    assert Click((1, 2, 3)) == Click((np.int16(1), 2.0, 3))  # type: ignore[arg-type]
    assert Click((1, 2, 3)).index == (1, 2, 3)


def test_a_box_by_places_in_millimetres() -> None:
    """x of this grid runs to the left, so that the first corner's voxel is the last one along x."""
    assert Box.at_mm(GRID, (4, 23, 34), (8.9, 29, 45)) == Box((1, 1, 1), (3, 3, 4))
    assert Box.at_mm(GRID, (8, 26, 42), (4, 29, 34), loose=True) == Box((1, 2, 1), (3, 3, 3), loose=True)
    with pytest.raises(PromptError, match=r"a box's corner at \[40\.0, 26\.0, 42\.0\] mm lies outside the scan, which"):
        Box.at_mm(GRID, (8, 26, 42), (40, 26, 42))
    with pytest.raises(PromptError, match="three RAS millimetres x, y, z, not"):
        Box.at_mm(GRID, (8, 26), (4, 26, 42))


@pytest.mark.parametrize("index", [(1, 2), (1, 2, 3, 4), ("a", 1, 2), (np.nan, 1, 2), (1.5, 2, 3), ()])
def test_anything_else_is_not(index: object) -> None:
    with pytest.raises(PromptError, match="a click"):
        Click(index)  # type: ignore[arg-type]


def test_a_place_falls_into_the_nearest_voxel() -> None:
    assert Click.at_mm(GRID, (8, 26, 42)).index == (1, 2, 3)
    assert Click.at_mm(GRID, (8.9, 24.6, 43.9)).index == (1, 2, 3)


def test_a_place_midway_goes_to_the_higher_index() -> None:
    assert Click.at_mm(GRID, (9, 26, 42)).index == (1, 2, 3)


@given(st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 6)))
def test_every_voxel_centre_finds_its_voxel(index: tuple[int, int, int]) -> None:
    assert Click.at_mm(GRID, GRID.to_mm(index).tolist()).index == index


def test_a_place_outside_is_refused_with_the_scan_s_span() -> None:
    with pytest.raises(PromptError, match=r"R 1\.0 to 11\.0, A 18\.5 to 36\.5, S 28\.0 to 56\.0 mm"):
        Click.at_mm(GRID, (12, 26, 42))
    with pytest.raises(PromptError, match="three RAS millimetres"):
        Click.at_mm(GRID, (np.inf, 0, 0))


def test_clicks_must_be_there_and_inside() -> None:
    check_inside([Click((0, 0, 0)), Click((4, 5, 6))], GRID)
    with pytest.raises(PromptError, match="at least one"):
        check_inside([], GRID)
    for index in ((5, 0, 0), (0, -1, 0)):
        with pytest.raises(PromptError, match="x 0 to 4, y 0 to 5, z 0 to 6"):
            check_inside([Click(index)], GRID)


def test_too_many_prompts() -> None:
    grid = Grid((4, 4, 4), np.eye(4))
    check_inside([Click((1, 2, 3))] * 2000, grid)
    with pytest.raises(PromptError, match="10000 prompts are more than the 2000 that one lesion may have; give many"):
        check_inside([Click((1, 2, 3))] * 10_000, grid)


def test_a_place_beyond_all_integers_is_outside() -> None:
    with pytest.raises(PromptError, match="lies outside the scan, which spans"):
        Click.at_mm(Grid((4, 4, 4), np.eye(4)), (1e20, 0, 0))


def test_a_box_bounds_the_mask_unless_it_is_loose_or_flat() -> None:
    tight, loose = Box((1, 1, 1), (3, 3, 3)), Box((1, 1, 1), (3, 3, 3), loose=True)
    assert (tight.bounds_mask, loose.bounds_mask) == (True, False)
    assert tight != loose
    corners = np.array([[1, 1, 1], [3, 3, 3]])
    assert loose.digest == hashlib.sha256(b"box 1 (2, 3) " + corners.tobytes()).digest(), "as before boxes bounded"
    flat = Box((1, 1, 2), (3, 3, 2))
    assert (flat.on_slice, flat.bounds_mask, tight.on_slice) == (True, False, False)
    assert flat == Box((1, 1, 2), (3, 3, 2), loose=True)
    with pytest.raises(PromptError, match=r"a box's loose is True .* not 'yes'"):
        Box((1, 1, 1), (3, 3, 3), loose="yes")  # type: ignore[arg-type]


def test_boxes_are_put_in_order() -> None:
    box = Box((5, 2, 9), (1, 8, 9))
    assert (box.first, box.last) == ((1, 2, 9), (5, 8, 9))
    assert box.places.tolist() == [[1, 2, 9], [5, 8, 9]]
    with pytest.raises(PromptError, match="whole numbers"):
        Box((0.5, 0, 0), (1, 1, 1))  # type: ignore[arg-type]


def test_a_stroke_runs_straight_and_names_each_voxel_once() -> None:
    stroke = Scribble.along([(0, 0, 0), (2, 2, 0), (2, 0, 0), (0, 0, 0)])
    expected = [(0, 0, 0), (1, 1, 0), (2, 2, 0), (2, 1, 0), (2, 0, 0), (1, 0, 0)]
    assert [tuple(place) for place in stroke.places.tolist()] == expected
    assert Scribble.along([(4, 4, 4)]).places.tolist() == [[4, 4, 4]]


def test_a_painted_array_is_a_stroke() -> None:
    grid = Grid((4, 5, 6), np.eye(4))
    mask = np.zeros(grid.shape, bool)
    mask[1, 2, 3] = mask[0, 0, 0] = True
    assert Scribble.of(mask, grid, positive=False).places.tolist() == [[0, 0, 0], [1, 2, 3]]
    with pytest.raises(PromptError, match=r"a scribble of shape \(4, 5\) does not fit a scan of \(4, 5, 6\)"):
        Scribble.of(mask[..., 0], grid)
    with pytest.raises(PromptError, match="the painted mask is empty: no voxel of it is above 0; paint some"):
        Scribble.of(mask & False, grid)


def test_a_lasso_by_hand() -> None:
    """A triangle: pixel centres strictly inside, and those on its left edges."""
    lasso = Lasso(2, 7, np.array([(0.5, 0.5), (4.5, 0.5), (0.5, 4.5)]))
    assert {tuple(place) for place in lasso.places.tolist()} == {
        (1, 1, 7), (1, 2, 7), (1, 3, 7), (2, 1, 7), (2, 2, 7), (3, 1, 7),
    }  # fmt: skip
    square = Lasso(0, 3, np.array([(0.5, 0.5), (2.5, 0.5), (2.5, 3.5), (0.5, 3.5)]), positive=False)
    assert {tuple(place) for place in square.places.tolist()} == {(3, u, v) for u in (1, 2) for v in (1, 2, 3)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Lasso(3, 0, np.zeros((3, 2))), "axis is 0, 1 or 2, not 3"),
        (lambda: Lasso(0, 0, np.zeros((2, 2))), "at least three corners"),
        (lambda: Lasso(0, 0, np.array([(0, 0), (1, np.nan), (1, 1)])), "two finite numbers"),
        (lambda: Lasso(0, 0, np.array([(0.2, 0.2), (0.4, 0.2), (0.3, 0.4)])), "encloses no voxel"),
        (lambda: Scribble.along([(0, 0, 0.5)]), "whole numbers"),
        (lambda: Scribble.along([(0, 0, np.nan)]), "whole numbers"),
        (lambda: Scribble(np.zeros((3, 2), int)), "a list of voxel indices"),
        (lambda: Scribble(np.zeros((1_000_001, 3), int)), "give it as an initial mask"),
        (lambda: Click((10**19, 0, 0)), "lies outside any scan"),
        (lambda: Click((10**400, 0, 0)), "lies outside any scan"),
        (lambda: Click((10**5000, 0, 0)), "a click at tuple of thousands of digits lies outside any scan"),
        (lambda: Click((int(1e300), 0, 0)), "lies outside any scan"),
        (lambda: Box((0, 0, 0), (0, -(10**18), 0)), "lies outside any scan"),
        (lambda: Scribble.along([(0, 0, 0), (0, 0, 10**18)]), "a scribble lies outside any scan"),
        (lambda: Scribble.along([(0, 0, 0), (0, 0, 10**9)]), "a scribble of 1000000000 voxels is more than 1000000"),
        (lambda: Lasso(0, 0, np.array([(0, 0), (2**32, 0), (0, 2**32)])), "a lasso lies outside any scan"),
        (
            lambda: Lasso(0, 0, np.array([(0, 0), (2**31, 0), (0, 2**31)])),
            "spans 2147483649 x 2147483649 voxels, more than",
        ),
        (lambda: Lasso(0, 0, np.array([(0, 0), (1999, 0), (0, 999)])), "spans 2000 x 1000 .* 1000000; draw it smaller"),
        (lambda: Lasso(0, 10**400, np.zeros((3, 2))), "a lasso on slice 1000.* lies outside any scan"),
        (
            lambda: InitialMask(Mask(np.zeros((2, 2, 2)), (0, 0, 0), Grid((2, 2, 2), np.eye(4)))),
            "the initial mask is empty",
        ),
    ],
)
def test_prompts_that_are_none(make: Callable[[], object], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        make()


def test_prompts_that_do_not_fit_the_scan_or_each_other() -> None:
    grid = Grid((10, 10, 10), np.eye(4))
    lesion = np.zeros((10, 10, 9), bool)
    lesion[2, 2, 2] = True
    cases: list[tuple[list[Prompt], str]] = [
        ([], "at least one click"),
        ([Click((1, 1, 1), positive=False)], "nothing says where the lesion is"),
        ([Box((0, 0, 0), (3, 3, 10))], r"box \(3, 3, 10\) lies outside the scan; valid voxel indices: x 0 to 9"),
        ([Scribble.along([(8, 8, 8), (8, 8, 12)])], r"scribble \(8, 8, 10\) lies outside"),
        (
            [Click((1, 1, 1)), Click((1, 1, 1), positive=False)],
            r"voxel \(1, 1, 1\) has a foreground and a background prompt",
        ),
        ([Scribble.along([(0, 0, 0), (4, 4, 4)]), Click((2, 2, 2), positive=False)], r"voxel \(2, 2, 2\) has"),
        ([InitialMask(Mask(lesion, (0, 0, 0), Grid((10, 10, 9), np.eye(4))))], "lies on another grid"),
    ]
    for prompts, message in cases:
        with pytest.raises(PromptError, match=message):
            check_inside(prompts, grid)
    check_inside([Box((0, 0, 0), (9, 9, 9)), Click((1, 1, 1)), Click((1, 1, 2), positive=False)], grid)


TRIANGLE = [(0, 0), (4, 0), (0, 4)]
NO_PROMPTS: list[tuple[Callable[[Any], object], Any, str]] = [
    (Click, (True, 1, 2), r"a click is three voxel indices x, y, z, not \(True, 1, 2\)"),
    (Click, (np.True_, 1, 2), "three voxel indices"),
    (Click, np.array([True, False, True]), "three voxel indices"),
    (Click, ("1", "2", "3"), r"not \('1', '2', '3'\)"),
    (Click, None, "not None"),
    (Click, object(), "not <object"),
    (Click, ((1,), (1, 2), 3), "three voxel indices"),
    (lambda corner: Box((1, 2, 3), corner), (1, 2, (3,)), r"a box's corner is three voxel indices"),
    (lambda corner: Box(corner, (1, 2, 3)), (1, 2, False), r"a box's corner is three voxel indices"),
    (lambda side: Click((1, 2, 3), side), "off", r"positive is True \(inside the lesion\) or False .* not 'off'"),
    (lambda side: Scribble([[1, 2, 3]], side), 0, "positive is True .* not 0"),  # type: ignore[arg-type]
    (lambda side: Lasso(0, 0, TRIANGLE, side), None, "positive is True .* not None"),  # type: ignore[arg-type]
    (lambda place: Click.at_mm(GRID, place), ("8", "26", "42"), "three RAS millimetres"),
    (lambda place: Click.at_mm(GRID, place), [[1], [2, 3]], "three RAS millimetres"),
    (lambda place: Click.at_mm(GRID, place), None, "three RAS millimetres"),
    (Scribble, [[1, 2, 3], [1, 2]], "a scribble is a list of voxel indices"),
    (Scribble, [[1, 2, True]], "a scribble is a list of voxel indices"),
    (Scribble, object(), "a scribble is a list of voxel indices"),
    (Scribble.along, [(1, 2, 3), (1, 2)], "a scribble is a list of voxel indices"),
    (lambda array: Scribble.of(array, GRID), None, r"an array of numbers \[X, Y, Z\], not None"),
    (lambda array: Scribble.of(array, GRID), [[1], [1, 2]], "an array of numbers"),
    (lambda array: Scribble.of(array, GRID), np.full(GRID.shape, "a"), "an array of numbers"),
    (lambda array: Scribble.of(array, GRID), np.full(GRID.shape, np.nan), "holds NaN or infinity; give 0 where"),
    (lambda array: Scribble.of(array, GRID), np.full(GRID.shape, -1), "the painted mask is empty"),
    (lambda axis: Lasso(axis, 0, TRIANGLE), True, "axis is 0, 1 or 2, not True"),  # type: ignore[arg-type]
    (lambda axis: Lasso(axis, 0, TRIANGLE), np.zeros(3), "axis is 0, 1 or 2, not array"),  # type: ignore[arg-type]
    (lambda number: Lasso(0, number, TRIANGLE), True, "slice is a whole number, not True"),  # type: ignore[arg-type]
    (lambda number: Lasso(0, number, TRIANGLE), "4", "slice is a whole number, not '4'"),  # type: ignore[arg-type]
    (lambda outline: Lasso(0, 0, outline), [[1, 2], [3]], "two finite numbers each"),
    (lambda outline: Lasso(0, 0, outline), [["0", "0"], ["4", "0"], ["0", "4"]], "two finite numbers each"),
    (lambda outline: Lasso(0, 0, outline), None, "two finite numbers each, not None"),
]


@pytest.mark.parametrize(("make", "of_what", "message"), NO_PROMPTS)
def test_whatever_else_is_given_is_refused_by_name(make: Callable[[Any], object], of_what: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        make(of_what)


@pytest.mark.parametrize(
    ("make", "of_what", "message"),
    [
        (InitialMask, None, "an initial mask is a Mask, a Volume, a path, or .* image, not NoneType"),
        (
            InitialMask,
            np.ones(GRID.shape),
            r"not ndarray; an array alone has no spacing .* give Volume\(arr",
        ),
        (InitialMask, InitialMask(Mask(np.ones((1, 1, 1), bool), (0, 0, 0), GRID)), "not InitialMask"),
        (lambda scan: Click.at_mm(scan, (8, 26, 42)), np.ones(GRID.shape), "a grid is a Grid, .* not ndarray"),
        (lambda scan: Scribble.of(np.ones(GRID.shape), scan), GRID.affine, "a grid is a Grid, .* not ndarray"),
    ],
)
def test_what_has_no_place_in_space_is_a_type_error(make: Callable[[Any], object], of_what: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make(of_what)


def test_a_probability_is_no_painted_mask() -> None:
    probability = Probability(np.full(GRID.shape, 0.2, np.float32), (0, 0, 0), GRID)
    with pytest.raises(PromptError, match=r"a painted mask is no Probability; of a probability, give its threshold"):
        Scribble.of(probability, GRID)


def test_prompts_take_what_people_have(tmp_path: Path) -> None:
    lesion = np.zeros(GRID.shape, np.uint8)
    lesion[1:3, 2, 3] = 2
    path = tmp_path / "lesion.nii.gz"
    nib.Nifti1Image(lesion, GRID.affine).to_filename(path)
    for lent in (Volume(lesion, GRID.affine), path, str(path), nib.load(path), SimpleITK.ReadImage(str(path))):
        prompt = InitialMask(lent)
        assert np.argwhere(prompt.mask).tolist() == [[1, 2, 3], [2, 2, 3]]
        assert prompt.mask.array.shape == (2, 1, 1), "no more of the grid than its box is held"
        assert prompt.mask.grid.same_as(GRID, 1e-3)
        assert Click.at_mm(lent, (8, 26, 42)).index == (1, 2, 3)
        assert Scribble.of(lent, lent).places.tolist() == [[1, 2, 3], [2, 2, 3]]


@pytest.mark.parametrize("given", [Click((1, 1, 1)), None, {Click((1, 1, 1))}])
def test_a_bare_prompt_is_no_list(given: Any) -> None:
    with pytest.raises(PromptError, match=f"prompts come as a list, not {type(given).__name__}; give a list"):
        check_inside(given, GRID)


def test_a_list_of_something_else() -> None:
    with pytest.raises(PromptError, match="a prompt is a Click, Box, Scribble, Lasso or InitialMask, not tuple"):
        check_inside([Click((1, 1, 1)), (1, 2, 3)], GRID)  # type: ignore[list-item]


def test_what_was_asked_stays_though_the_callers_arrays_change() -> None:
    voxels, outline, lesion = np.array([[1, 2, 3]]), np.array(TRIANGLE, np.float64), np.ones((2, 2, 2), bool)
    stroke, lasso, prior = Scribble(voxels), Lasso(0, 1, outline), InitialMask(Mask(lesion, (1, 2, 3), GRID))
    before = lasso.places.copy()
    for theirs in (voxels, outline, lesion):
        theirs[:] = 0
    assert stroke.places.tolist() == [[1, 2, 3]]
    assert lasso.outline.tolist() == [list(corner) for corner in TRIANGLE]
    assert np.array_equal(lasso.places, before)
    assert prior.mask.voxels == 8
    assert prior.mask.start == (1, 2, 3)
    for ours in (stroke.places, lasso.places, lasso.outline, prior.mask.array):
        with pytest.raises(ValueError, match="read-only"):
            ours[0] = 0


def test_one_voxel_is_a_box_and_a_stroke() -> None:
    assert Box((1, 2, 3), (1, 2, 3)).places.tolist() == [[1, 2, 3], [1, 2, 3]]
    assert Scribble.along([(1, 2, 3), (1, 2, 3)]).places.tolist() == [[1, 2, 3]]


def moved(**change: Any) -> Grid:
    """`GRID` with another shape, or with rows of its affine replaced."""
    affine = GRID.affine.copy()
    for row in range(3):
        affine[row] = change.get("RAS"[row], affine[row])
    return Grid(change.get("shape", GRID.shape), affine)


OTHERS = [
    (moved(shape=(5, 6, 6)), [r"shape \(5, 6, 6\), the scan's \(5, 6, 7\)"]),
    (moved(A=(0, 2.5, 0, 20)), [r"spacing \(2, 2\.5, 4\) mm, the scan's \(2, 3, 4\)"]),
    (moved(S=(0, 0, 4, 35)), [r"origin \(10, 20, 35\) mm \(RAS\), the scan's \(10, 20, 30\)"]),
    (moved(R=(2, 0, 0, 2)), [r"origin \(2, 20, 30\) .* \(10, 20, 30\)", "directions RAS, the scan's LAS"]),
    # By 3.4 degrees: the sine of it is 0.06.
    (moved(R=(-2 * 0.9982, 0.06 * 3, 0, 10), A=(2 * 0.06, 3 * 0.9982, 0, 20)), [r"directions 3\.4 degrees off"]),
]


@pytest.mark.parametrize(("grid", "differences"), OTHERS)
def test_the_error_names_in_what_grids_differ_and_nothing_else(grid: Grid, differences: list[str]) -> None:
    listed = "; ".join(differences)
    with pytest.raises(PromptError, match=f"^the mask lies on another grid than the scan: {listed}.*; resample it to"):
        check_grid("the mask", grid, GRID)
    with pytest.raises(PromptError) as raised:
        check_grid("the mask", grid, GRID)
    named = [word for word in ("shape", "spacing", "origin", "directions") if f"{word} " in str(raised.value)]
    assert named == [difference.split()[0] for difference in differences]


def test_a_hundredth_of_a_voxel_is_the_same_grid() -> None:
    check_grid("the mask", moved(R=(-2, 0, 0, 10.019)), GRID)
    with pytest.raises(PromptError, match=r"another grid than the scan: origin \(10\.021, 20, 30\)"):
        check_grid("the mask", moved(R=(-2, 0, 0, 10.021)), GRID)


@settings(deadline=None)
@given(st.lists(st.floats(-0.02, 0.02), min_size=12, max_size=12))
def test_grids_that_are_not_the_same_differ_in_something(changes: list[float]) -> None:
    affine = GRID.affine.copy()
    affine[:3] += np.array(changes).reshape(3, 4)
    other = Grid(GRID.shape, affine)
    if not other.same_as(GRID, 1e-2):
        with pytest.raises(PromptError, match=r"than the scan: (spacing|origin|directions) "):
            check_grid("the mask", other, GRID)


def test_a_painted_volume_must_lie_on_the_scans_grid() -> None:
    painted = np.zeros(GRID.shape, np.int16)
    painted[1, 2, 3], painted[0, 0, 0] = 2, -1
    for given_as in (Volume(painted, GRID.affine), Mask(painted[1:, 2:, 3:] > 0, (1, 2, 3), GRID), painted):
        assert Scribble.of(given_as, GRID).places.tolist() == [[1, 2, 3]]
    with pytest.raises(PromptError, match="the painted mask lies on another grid than the scan: origin"):
        Scribble.of(Volume(painted, moved(S=(0, 0, 4, 35)).affine), GRID)


def test_values_are_quoted_on_one_short_line() -> None:
    assert shown((1, 2)) == "(1, 2)"
    assert shown(np.zeros((2, 2))) == "array([[0., 0.], [0., 0.]])"
    assert shown("a" * 200) == "'" + "a" * 79 + "..."


ONE_VOXEL = np.ones((1, 1, 1), dtype=bool)
SQUARE = np.array([[0.5, 0.5], [2.5, 0.5], [2.5, 2.5], [0.5, 2.5]])
DISTINCT: list[Prompt] = [
    Click((1, 2, 3)), Click((1, 2, 3), positive=False), Click((3, 2, 1)),
    Box((1, 2, 3), (1, 2, 3)), Box((1, 2, 3), (3, 3, 3)),
    Scribble(np.array([[1, 2, 3]])), Scribble(np.array([[1, 2, 3]]), positive=False),
    Scribble(np.array([[1, 2, 3], [3, 3, 3]])), Scribble(np.array([[3, 3, 3], [1, 2, 3]])),
    Lasso(0, 1, SQUARE), Lasso(1, 0, SQUARE), Lasso(0, 1, SQUARE, positive=False), Lasso(0, 1, SQUARE + 1),
    InitialMask(Mask(ONE_VOXEL, (1, 2, 3), GRID)), InitialMask(Mask(ONE_VOXEL, (3, 2, 1), GRID)),
    InitialMask(Mask(np.ones((1, 2, 1), dtype=bool), (1, 2, 3), GRID)),
    InitialMask(Mask(np.ones((2, 1, 1), dtype=bool), (1, 2, 3), GRID)),
]  # fmt: skip


def test_prompts_of_another_kind_side_or_content_have_another_digest() -> None:
    assert all(len(prompt.digest) == 32 for prompt in DISTINCT)
    assert len({prompt.digest for prompt in DISTINCT}) == len(DISTINCT)


def test_prompts_of_equal_content_have_one_digest() -> None:
    whole = np.zeros(GRID.shape, dtype=bool)
    whole[1:3, 2, 3] = True
    zeros = SQUARE - 0.5
    for one, other in (
        (Click((1, 2, 3)), Click((1.0, np.int16(2), 3))),  # type: ignore[arg-type]
        (Box((1, 2, 3), (3, 3, 3)), Box((3, 2, 3), (1, 3, 3))),
        (Scribble(np.array([[1, 2, 3]], np.int8)), Scribble(np.array([[1.0, 2, 3], [1, 2, 3]]))),
        (Lasso(0, 1, SQUARE), Lasso(0, 1, SQUARE.astype(np.float32))),
        (Lasso(0, 1, zeros), Lasso(0, 1, np.where(zeros == 0, -0.0, zeros))),
        (InitialMask(Mask(whole, (0, 0, 0), GRID)), InitialMask(Mask(whole[1:3, 2:3, 3:4], (1, 2, 3), GRID))),
    ):
        assert one.digest == other.digest
        assert one == other
        assert hash(one) == hash(other)
    assert Click((1, 2, 3)) != Click((1, 2, 3), positive=False)
    assert Click((1, 2, 3)) != (1, 2, 3)


def test_a_digest_is_the_same_in_every_process_and_found_once() -> None:
    click = Click((1, 2, 3))
    content = b"click 1 (1, 3) " + np.array([1, 2, 3], "<i8").tobytes()
    assert click.digest == hashlib.sha256(content).digest()
    assert click.digest is click.digest


def test_notes_of_an_image_travel_with_the_prompt(tmp_path: Path) -> None:
    lesion = np.zeros(GRID.shape, np.uint8)
    lesion[1, 2, 3] = 1
    image = nib.Nifti1Image(lesion, GRID.affine)
    image.set_qform(np.diag([2, 3, 4, 1]), code=1)
    image.to_filename(tmp_path / "odd.nii")
    doubt = f"{tmp_path / 'odd.nii'}: the header's sform and qform differ; the sform was believed"
    for make in (InitialMask, lambda mask: Scribble.of(mask, GRID)):
        with pytest.warns(GeometryWarning, match="sform and qform differ"):
            of_path = make(tmp_path / "odd.nii")
        assert of_path.notes == (doubt,)
        of_volume = make(read(tmp_path / "odd.nii", warn=False))
        assert (of_volume.notes, of_volume.digest) == ((doubt,), of_path.digest)
        plain = make(Mask(ONE_VOXEL, (1, 2, 3), GRID))
        assert (plain.notes, plain.digest) == ((), of_path.digest)
    assert Click((1, 2, 3)).notes == Box((1, 2, 3), (1, 2, 3)).notes == Lasso(0, 1, SQUARE).notes == ()


TOUCHED = plain((20, 20, 20)).grid


@pytest.mark.parametrize(
    ("prompt", "hit"),
    [
        (Click((5, 5, 5)), True),
        (Click((4, 5, 5)), False),
        (Click((0, 0, 0)), False),
        (Box((0, 0, 0), (5, 5, 5)), True),
        (Box((0, 0, 0), (4, 9, 9)), False),
        (Scribble.along([(0, 6, 6), (9, 6, 6)]), True),
        (Scribble.along([(0, 4, 6), (9, 4, 6)]), False),
        (Lasso(2, 7, np.array([(3.5, 3.5), (8.5, 3.5), (8.5, 8.5), (3.5, 8.5)])), True),
        (InitialMask(cube(TOUCHED, (7, 7, 7), (9, 9, 9))), True),
        (InitialMask(cube(TOUCHED, (8, 8, 8), (9, 9, 9))), False),
    ],
)
def test_whether_a_mask_touches_a_prompt(prompt: Prompt, hit: bool) -> None:
    assert touches(prompt, cube(TOUCHED, (5, 5, 5), (7, 7, 7))) is hit
    assert touches(prompt, empty(TOUCHED)) is False
