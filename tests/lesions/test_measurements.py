"""Diameters, against rectangles by hand, ellipses by formula and a plain search."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from palpate.lesions import Diameter, Measurements, measure_lesion
from palpate.masks import Mask
from palpate.phantom import oblique_affine
from palpate.volume import Grid

STRAIGHT = Grid((40, 40, 12), np.diag([2.0, 3.0, 5.0, 1.0]))


def measured(grid: Grid, *boxes: tuple[slice, slice, slice]) -> Measurements:
    array = np.zeros(grid.shape, bool)
    for box in boxes:
        array[box] = True
    return measure_lesion(Mask(array, (0, 0, 0), grid))


def both(size: Measurements) -> tuple[Diameter, Diameter]:
    assert size.longest is not None
    assert size.perpendicular is not None
    return size.longest, size.perpendicular


def test_a_rectangle_by_hand() -> None:
    # 4 x 6 voxels of 2 x 3 mm: 8 x 18 mm. Its diagonal is sqrt(64 + 324); the line across it, from long side to
    # long side, is 8 * diagonal / 18 long.
    size = measured(STRAIGHT, np.s_[10:14, 20:26, 7:8])
    longest, perpendicular = both(size)
    diagonal = np.sqrt(8**2 + 18**2)
    assert longest.mm == pytest.approx(diagonal)
    assert perpendicular.mm == pytest.approx(8 * diagonal / 18)
    # Voxel edges: x from 9.5 to 13.5, y from 19.5 to 25.5, in millimetres; z = 7 * 5.
    corners = {(19.0, 58.5, 35.0), (27.0, 76.5, 35.0), (19.0, 76.5, 35.0), (27.0, 58.5, 35.0)}
    assert {tuple(np.round(end, 9)) for end in longest.ends} <= corners
    assert (size.axis, size.slice_index) == (2, 7)
    assert size.volume_ml == pytest.approx(4 * 6 * 2 * 3 * 5 / 1000)


def test_one_voxel_and_a_line_of_voxels() -> None:
    longest, perpendicular = both(measured(STRAIGHT, np.s_[3:4, 4:5, 5:6]))
    assert longest.mm == pytest.approx(np.sqrt(2**2 + 3**2))
    assert perpendicular.mm == pytest.approx(2 * np.sqrt(13) / 3)
    longest, perpendicular = both(measured(STRAIGHT, np.s_[3:13, 4:5, 5:6]))
    assert longest.mm == pytest.approx(np.sqrt(20**2 + 3**2))
    assert perpendicular.mm == pytest.approx(3 * np.sqrt(409) / 20)
    # One voxel wide across all slices: no slice has more than one voxel of it.
    longest, _ = both(measured(STRAIGHT, np.s_[3:4, 4:5, :]))
    assert longest.mm == pytest.approx(np.sqrt(13))


def test_the_slice_with_the_longest_diameter_and_of_equals_the_first() -> None:
    size = measured(STRAIGHT, np.s_[0:4, 0:4, 2:9], np.s_[10:20, 10:20, 5:7])
    assert size.slice_index == 5
    assert both(size)[0].mm == pytest.approx(np.sqrt(40**2 + 60**2)), "both pieces, across the gap"


def test_an_empty_mask_has_no_diameter() -> None:
    assert measured(STRAIGHT) == Measurements(0.0, None, None, 2, None)


@pytest.mark.parametrize("degrees", [0, 17, 30, 45, 90, 130])
@pytest.mark.parametrize("axes", [(30.0, 18.0), (12.0, 11.0)])
def test_an_ellipse_by_formula(degrees: int, axes: tuple[float, float]) -> None:
    """Its axes are 2a and 2b; voxels that are half in and their edges add at most a voxel's diagonal."""
    spacing, (a, b), turn = 0.4, axes, np.deg2rad(degrees)
    u, v = np.meshgrid(*[(np.arange(170) - 85) * spacing] * 2, indexing="ij")
    along, across = u * np.cos(turn) + v * np.sin(turn), v * np.cos(turn) - u * np.sin(turn)
    inside = (along / a) ** 2 + (across / b) ** 2 <= 1
    grid = Grid((170, 170, 1), np.diag([spacing, spacing, 3.0, 1.0]))
    longest, perpendicular = both(measure_lesion(Mask(inside[:, :, None], (0, 0, 0), grid)))
    assert longest.mm == pytest.approx(2 * a, abs=2 * spacing)
    # Nearly a circle, the longest axis of the voxels may lie askew, and so the other.
    assert perpendicular.mm == pytest.approx(2 * b, abs=2 * spacing)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "SRA", "AIR", "PSL"])
def test_slices_are_axial_whatever_the_order_of_the_axes(orientation: str) -> None:
    """A block 30 mm along R and A and 80 mm along S: its length along S is not within any axial slice."""
    grid = Grid((24, 24, 24), oblique_affine((24, 24, 24), (5, 5, 5), orientation=orientation, angles_deg=(9, -12, 20)))
    axis = next(a for a, letter in enumerate(orientation) if letter in "SI")
    box = [slice(4, 10)] * 3
    box[axis] = slice(3, 19)
    size = measured(grid, (box[0], box[1], box[2]))
    assert size.axis == axis
    assert size.slice_index == (3 if orientation[axis] == "S" else 18), "the lowest of equals"
    longest, perpendicular = both(size)
    assert longest.mm == pytest.approx(30 * np.sqrt(2))
    assert perpendicular.mm == pytest.approx(30 * np.sqrt(2))


def test_a_sheared_grid_by_hand() -> None:
    """Steps (2, 0) and (1, 2) mm: three voxels square are a parallelogram, whose long diagonal is (9, 6)."""
    affine = np.array([[2.0, 1.0, 0.0, 5.0], [0.0, 2.0, 0.0, 6.0], [0.0, 0.0, 4.0, 7.0], [0.0, 0.0, 0.0, 1.0]])
    longest, _ = both(measured(Grid((8, 8, 4), affine), np.s_[2:5, 2:5, 1:2]))
    assert longest.mm == pytest.approx(np.hypot(9, 6))


def test_of_equal_diameters_one_is_chosen_however_a_scan_is_stored() -> None:
    """Four pairs of corners are as far apart as any; the chord across one of them is as long as that, 5.83 mm."""
    rows = ["01010", "00001", "00110", "10010", "01110"]
    plane = np.array([[letter == "1" for letter in row] for row in rows])
    for turned in (plane, plane[::-1], plane[:, ::-1], plane.T):
        size = measure_lesion(Mask(turned[:, :, None], (0, 0, 0), Grid((5, 5, 1), np.eye(4))))
        assert [one.mm for one in both(size)] == pytest.approx([np.sqrt(34), np.sqrt(34)])
    lower, upper = np.s_[0:4, 0:1, 2:3], np.s_[0:4, 10:11, 8:9]
    for sign in (1.0, -1.0):
        grid = Grid((40, 40, 12), np.diag([2.0, 3.0, 5.0 * sign, 1.0]))
        found = measured(grid, lower, upper)
        assert found.slice_index == (2 if sign > 0 else 8), "the one nearer to the feet"
    wider = measured(STRAIGHT, np.s_[0:3, 0:2, 2:3], np.s_[0:2, 0:2, 8:9], np.s_[2:3, 0:1, 8:9], np.s_[2:3, 1:2, 8:9])
    assert wider.slice_index == 2


def test_a_mask_in_a_box_measures_as_on_the_whole_grid() -> None:
    array = np.random.default_rng(0).random((6, 7, 3)) < 0.3
    small = Mask(array, (5, 11, 4), STRAIGHT)
    assert measure_lesion(small) == measure_lesion(Mask(small.full(), (0, 0, 0), STRAIGHT))


@settings(deadline=None, max_examples=60)
@given(arrays(bool, (5, 6)), st.sampled_from([(1.0, 1.0), (0.7, 2.5)]), st.floats(-40, 40))
def test_a_plain_search_finds_the_same(plane: npt.NDArray[np.bool_], spacing: tuple[float, float], turn: float) -> None:
    affine = oblique_affine((5, 6, 1), (*spacing, 3.0), angles_deg=(4, 6, turn))
    grid = Grid((5, 6, 1), affine)
    size = measure_lesion(Mask(plane[:, :, None], (0, 0, 0), grid))
    if not plane.any():
        assert size.longest is None
        return
    longest, perpendicular = both(size)
    corners = [(x + dx, y + dy, 0) for x, y in np.argwhere(plane) for dx in (-0.5, 0.5) for dy in (-0.5, 0.5)]
    places = grid.to_mm(corners)
    assert longest.mm == pytest.approx(max(np.linalg.norm(places - place, axis=1).max() for place in places))
    ends = np.array(longest.ends)
    along = (ends[1] - ends[0]) / longest.mm
    normal = affine[:3, 2] / np.linalg.norm(affine[:3, 2])
    across = np.cross(normal, along)
    t, s = (places - ends[0]) @ along, (places - ends[0]) @ across
    # Every segment between two corners lies in their hull: at a place along the diameter, the chord runs from the
    # lowest to the highest of them.
    best = 0.0
    one, other = np.triu_indices(len(t))
    for place in t:
        hit = (np.minimum(t[one], t[other]) <= place + 1e-9) & (np.maximum(t[one], t[other]) >= place - 1e-9)
        gap = t[other][hit] - t[one][hit]
        share = np.divide(place - t[one][hit], gap, out=np.zeros_like(gap), where=np.abs(gap) > 1e-9)
        heights = s[one][hit] + np.clip(share, 0, 1) * (s[other][hit] - s[one][hit])
        best = max(best, float(heights.max() - heights.min()))
    assert perpendicular.mm == pytest.approx(best, abs=1e-6)
    line = np.array(perpendicular.ends)
    assert np.linalg.norm(line[1] - line[0]) == pytest.approx(perpendicular.mm)
    assert (line[1] - line[0]) @ along == pytest.approx(0, abs=1e-6)
    assert np.vstack([line, ends]) @ normal == pytest.approx(float(grid.to_mm((0, 0, 0)) @ normal), abs=1e-6)
