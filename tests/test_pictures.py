"""Pictures: the right voxels on the right side, the numbers that are written on them, and files written whole."""

import math
import subprocess
import sys
import tracemalloc
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palpate.errors import GeometryError, OutputError, PromptError, ScanError
from palpate.masks import Mask
from palpate.phantom import make_phantom, oblique_affine
from palpate.pictures import ENDINGS, is_own_picture, lesion_picture, lesion_planes, save_picture
from palpate.pictures.planes import automatic_window
from palpate.prompts import Click
from palpate.volume import Grid, Volume

ORIENTATIONS = ["".join(letters) for pairs in permutations(("RL", "AP", "SI")) for letters in product(*pairs)]


def cube(grid: Grid, low: tuple[int, int, int], high: tuple[int, int, int]) -> Mask:
    """A mask that fills the voxels `low` to `high`, both inclusive."""
    return Mask(np.ones(np.subtract(high, low) + 1, dtype=bool), low, grid)


def plain(shape: tuple[int, int, int], spacing: tuple[float, float, float] = (1, 1, 1), value: int = 0) -> Volume:
    """A straight RAS scan of one value, which takes no memory."""
    return Volume(np.broadcast_to(np.int16(value), shape), np.diag([*spacing, 1.0]))


def words_of(figure: Any) -> str:
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    return "\n".join(text.get_text() for text in texts)


def numbered() -> tuple[Volume, Mask, Click]:
    """A RAS scan whose values tell their voxel, with a lesion that has no symmetry."""
    x, y, z = np.indices((9, 8, 7))
    volume = Volume(100 * x + 10 * y + z, np.diag([2.0, 3.0, 4.0, 1.0]))
    lesion = np.zeros((9, 8, 7), dtype=bool)
    lesion[5:8, 1:4, 2:5] = True
    lesion[7, 3, 4] = False
    return volume, Mask(lesion, (0, 0, 0), volume.grid), Click((7, 2, 3))


def test_each_plane_by_hand() -> None:
    volume, mask, click = numbered()
    axial, coronal, sagittal = lesion_planes(volume, mask, [click])
    assert [p.name for p in (axial, coronal, sagittal)] == ["axial", "coronal", "sagittal"]
    # The lesion fills 5 to 7, 1 to 3, 2 to 4: the middle slices are x = 6, y = 2, z = 3.
    assert [(p.axis, p.index) for p in (axial, coronal, sagittal)] == [(2, 3), (1, 2), (0, 6)]
    # The top left corner is the patient's right and anterior, right and superior, anterior and superior.
    assert [int(p.values[0, 0]) for p in (axial, coronal, sagittal)] == [873, 826, 676]
    assert [int(p.values[-1, 0]) for p in (axial, coronal, sagittal)] == [803, 820, 670]
    assert [int(p.values[0, -1]) for p in (axial, coronal, sagittal)] == [73, 26, 606]
    assert [p.letters for p in (axial, coronal, sagittal)] == [
        ("R", "L", "A", "P"),
        ("R", "L", "S", "I"),
        ("A", "P", "S", "I"),
    ]
    assert [p.spacing for p in (axial, coronal, sagittal)] == [(3, 2), (4, 2), (4, 3)]
    # x = 7 is the second column from the right side of nine; y = 2 row 5 of eight; z = 3 row 3 of seven.
    assert [p.clicks for p in (axial, coronal, sagittal)] == [((5, 1, True),), ((3, 1, True),), ((3, 5, False),)]
    assert np.argwhere(axial.lesion).min(axis=0).tolist() == [4, 1]
    assert np.argwhere(axial.lesion).max(axis=0).tolist() == [6, 3]
    assert all(p.values.dtype == np.float32 for p in (axial, coronal, sagittal))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation_gives_the_same_planes(orientation: str) -> None:
    volume, mask, click = numbered()
    axes = ["RAS".find(a) if a in "RAS" else "LPI".find(a) for a in orientation]
    flips = tuple(slice(None, None, 1 if a in "RAS" else -1) for a in orientation)
    shape = tuple(np.array(volume.shape)[axes].tolist())
    edges = volume.spacing[axes].tolist()
    turned = Volume(
        volume.array.transpose(axes)[flips],
        oblique_affine(shape, edges, orientation=orientation, angles_deg=(5, -8, 11)),
    )
    x, y, z = (
        click.index[a] if s.step == 1 else volume.shape[a] - 1 - click.index[a]
        for a, s in zip(axes, flips, strict=True)
    )
    lesion = Mask(mask.array.transpose(axes)[flips], (0, 0, 0), turned.grid)
    expected = lesion_planes(volume, mask, [click], truth=mask)
    for mine, theirs in zip(lesion_planes(turned, lesion, [Click((x, y, z))], truth=lesion), expected, strict=True):
        assert np.array_equal(mine.values, theirs.values)
        assert np.array_equal(mine.lesion, theirs.lesion)
        assert mine.truth is not None
        assert np.array_equal(mine.truth, theirs.lesion)
        assert (mine.letters, mine.clicks) == (theirs.letters, theirs.clicks)
        assert mine.spacing == pytest.approx(theirs.spacing)
        assert orientation[mine.axis] in {"axial": "SI", "coronal": "AP", "sagittal": "RL"}[mine.name]


def test_liver_is_at_the_viewers_left_and_the_spine_below() -> None:
    affine = oblique_affine((64, 96, 96), (4, 2, 2), orientation="SPL", angles_deg=(6, 4, -5))
    phantom = make_phantom(shape=(64, 96, 96), affine=affine, noise_hu=0)
    corners = [Click((1, 1, 1)), Click((62, 94, 94))]
    axial = lesion_planes(phantom.volume, phantom.lesion, corners)[0]
    rows, columns = np.nonzero(axial.lesion)
    assert columns.mean() < 0.45 * axial.lesion.shape[1]
    bone = np.argwhere(axial.values > 200)
    central = bone[np.abs(bone[:, 1] - axial.values.shape[1] / 2) < 8]
    assert np.median(central[:, 0]) > rows.mean()


def test_shown_is_the_lesion_with_thirty_mm_around_it() -> None:
    volume = plain((200, 200, 100), (1, 1, 2))
    # 10 x 20 x 10 mm: 20 + 2 x 30 = 80 mm along every axis.
    planes = lesion_planes(volume, cube(volume.grid, (90, 90, 50), (99, 109, 54)))
    assert [p.values.shape for p in planes] == [(80, 80), (40, 80), (40, 80)]
    assert {p.view_mm for p in planes} == {80}
    rows, columns = np.nonzero(planes[0].lesion)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (30, 49, 35, 44)


def test_shown_moves_inward_at_the_scans_border_and_ends_with_the_scan() -> None:
    volume = plain((200, 40, 100))
    planes = lesion_planes(volume, cube(volume.grid, (198, 5, 0), (199, 6, 1)))
    # 62 mm along x and z, pushed against the corner; all 40 along y.
    assert [p.values.shape for p in planes] == [(40, 62), (62, 62), (62, 40)]
    assert np.argwhere(planes[1].lesion).tolist() == [[60, 0], [60, 1], [61, 0], [61, 1]]
    small = plain((20, 30, 10))
    assert {p.view_mm for p in lesion_planes(small, cube(small.grid, (3, 3, 3), (5, 5, 5)))} == {30}


def test_clicks_and_truth_lie_in_what_is_shown() -> None:
    volume = plain((300, 100, 100))
    truth = cube(volume.grid, (40, 50, 50), (44, 54, 54))
    axial = lesion_planes(volume, cube(volume.grid, (150, 50, 50), (159, 54, 54)), [Click((250, 52, 52))], truth=truth)[
        0
    ]
    # From 40 to 250 along x, and 30 on both sides.
    assert axial.values.shape == (100, 271)
    assert axial.clicks[0][:2] == (99 - 52, 30)
    assert axial.truth is not None
    assert axial.truth.sum() == 25


def test_slice_has_most_of_the_lesion_near_its_middle() -> None:
    volume = plain((12, 12, 12))
    lesion = np.zeros(volume.shape, dtype=bool)
    lesion[5:7, 5:7, 1:10] = True  # nine slices; the middle half is 3 to 7
    lesion[3:9, 3:9, 1] = True  # the largest, but at the end
    lesion[4:7, 5:7, 6] = True  # the largest in the middle
    assert lesion_planes(volume, Mask(lesion, (0, 0, 0), volume.grid))[0].index == 6
    lesion[:] = False
    lesion[5, 5, [0, 11]] = True
    lesion[5, 6, 11] = True
    assert lesion_planes(volume, Mask(lesion, (0, 0, 0), volume.grid))[0].index == 11


def test_empty_mask_is_shown_at_the_last_click_else_the_truth_else_the_middle() -> None:
    volume = plain((10, 12, 14))
    empty = Mask(np.zeros((2, 2, 2)), (0, 0, 0), volume.grid)
    truth = cube(volume.grid, (2, 3, 4), (2, 3, 4))

    def slices(clicks: list[Click], truth: Mask | None) -> list[int]:
        return [plane.index for plane in lesion_planes(volume, empty, clicks, truth=truth)]

    assert slices([Click((1, 1, 1)), Click((7, 8, 9))], truth) == [9, 8, 7]
    assert slices([], truth) == [4, 3, 2]
    assert slices([], None) == slices([], empty) == [7, 6, 5]
    figure: Any = lesion_picture(volume, empty, [Click((7, 8, 9))])
    assert "empty mask" in words_of(figure)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["click"]
    assert lesion_picture(volume, empty).legends == []


def test_picture_says_what_was_measured() -> None:
    volume = Volume(np.zeros((20, 30, 40), dtype=np.uint8), oblique_affine((20, 30, 40), (1, 2, 3), orientation="SPL"))
    # 4 x 5 x 6 voxels of 6 mm3: 0.72 mL; x is superior, y posterior, z left: 18 x 10 x 4 mm.
    figure: Any = lesion_picture(
        volume, cube(volume.grid, (2, 3, 4), (5, 7, 9)), [Click((3, 4, 5))], title="synthetic cube"
    )
    words = words_of(figure)
    assert "0.72 mL   18 × 10 × 4 mm (R–L × A–P × S–I)" in words
    assert "slices axial x 3, coronal y 5, sagittal z 6" in words
    assert "window −0.50 to 0.50" in words
    assert "synthetic cube" in words
    assert "50 mm" not in words
    for axes, letters in zip(figure.axes, ("RLAP", "RLSI", "APSI"), strict=True):
        assert {text.get_text() for text in axes.texts} >= {*letters, "10 mm"}


def test_picture_has_contours_and_crosses() -> None:
    volume = plain((60, 60, 60))
    mask, truth = cube(volume.grid, (20, 22, 24), (29, 31, 33)), cube(volume.grid, (22, 22, 24), (31, 31, 33))
    x, y, z = (plane.index for plane in lesion_planes(volume, mask)[::-1])
    figure: Any = lesion_picture(volume, mask, [Click((x, y, z)), Click((x + 1, y, z))], truth=truth)
    for axes, on_plane in zip(figure.axes, (2, 2, 1), strict=True):
        crosses = [line for line in axes.lines if line.get_marker() == "+"]
        assert [line.get_alpha() is None for line in crosses].count(True) == on_plane
        assert len(axes.collections) == 3  # the truth's line, the mask's filling and its line
    # Axial: columns run from R; x = 29 is the left border, at 59 - 29 = 30 mm, x = 20 ends at 40 mm.
    outline = figure.axes[0].collections[-1].get_paths()[0].vertices
    assert outline[:, 0].min() == pytest.approx(30)
    assert outline[:, 0].max() == pytest.approx(40)
    cross = next(line for line in figure.axes[0].lines if line.get_marker() == "+")
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == (60 - x - 0.5, 60 - y - 0.5)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["mask", "truth", "click"]


def test_panels_are_square_and_share_one_scale() -> None:
    volume = plain((300, 300, 20), (1, 1, 5))
    figure: Any = lesion_picture(volume, cube(volume.grid, (100, 100, 5), (199, 199, 10)))
    for axes in figure.axes:
        assert axes.get_xlim()[1] - axes.get_xlim()[0] == pytest.approx(160)
        assert axes.get_ylim()[0] - axes.get_ylim()[1] == pytest.approx(160)
        assert "20 mm" in {text.get_text() for text in axes.texts}
        bar = axes.lines[-1].get_xdata()
        assert bar[1] - bar[0] == pytest.approx(20)


@pytest.mark.parametrize(
    ("edge", "label", "size"),
    [(0.02, "0.2 mm", "2.2e-07 mL   0.06 × 0.06 × 0.06 mm"), (0.5, "5 mm", "0.0034 mL   1.5 × 1.5 × 1.5 mm")],
)
def test_a_small_field_has_a_scale_that_fits(edge: float, label: str, size: str) -> None:
    volume = plain((60, 60, 60), (edge, edge, edge))
    figure: Any = lesion_picture(volume, cube(volume.grid, (20, 22, 24), (22, 24, 26)))
    assert size in words_of(figure)
    for axes in figure.axes:
        assert label in {text.get_text() for text in axes.texts}
        left, right = axes.get_xlim()
        assert left < min(axes.lines[-1].get_xdata()) < max(axes.lines[-1].get_xdata()) < right


def test_a_click_that_denies_can_be_drawn() -> None:
    """Whether a list can be predicted from is not asked of a picture; whether it lies in the scan is."""
    volume = plain((40, 40, 40))
    mask = cube(volume.grid, (20, 20, 20), (22, 22, 22))
    lesion_picture(volume, mask, [Click((10, 10, 10), positive=False)])
    with pytest.raises(PromptError, match="lies outside the scan"):
        lesion_picture(volume, mask, [Click((40, 10, 10), positive=False)])


@pytest.mark.parametrize(("site", "low", "high"), [("lung", -1350, 150), ("liver", -120, 215)])
def test_ct_has_a_window_for_what_surrounds_the_lesion(site: Any, low: float, high: float) -> None:
    phantom = make_phantom(shape=(96, 96, 80), spacing=(2, 2, 3), site=site, lesion_diameter_mm=16)
    window = automatic_window(phantom.volume, lesion_planes(phantom.volume, phantom.lesion, [phantom.click]))
    assert window == pytest.approx((low, high), abs=35)


def test_other_scans_have_a_window_of_percentiles() -> None:
    array = np.arange(101.0)[:, None, None] * np.ones((1, 9, 9))
    volume = Volume(array, np.eye(4))
    planes = lesion_planes(volume, cube(volume.grid, (0, 4, 4), (100, 4, 4)))
    # Axial and coronal show 0 to 100 evenly; the sagittal slice lies at 50.
    low, high = automatic_window(volume, planes[:2])
    assert (low, high) == (1, 99)
    one = plain((9, 9, 9), value=7)
    assert automatic_window(one, lesion_planes(one, cube(one.grid, (4, 4, 4), (4, 4, 4)))) == (6.5, 7.5)


def test_soft_tissue_without_contrast_keeps_a_wide_window() -> None:
    array = np.full((40, 40, 40), 50, dtype=np.int16)
    array[0] = -1000
    volume = Volume(array, np.eye(4))
    planes = lesion_planes(volume, cube(volume.grid, (20, 20, 20), (24, 24, 24)))
    assert automatic_window(volume, planes) == (-100, 200)


def test_window_given_is_the_window_drawn() -> None:
    volume = plain((9, 9, 9))
    figure: Any = lesion_picture(volume, cube(volume.grid, (4, 4, 4), (5, 5, 5)), window=(-160, 240))
    assert figure.axes[0].images[0].get_clim() == (-160, 240)
    assert "window −160 to 240" in words_of(figure)
    for window in ((3, 3), (4, 1), (0, math.nan)):
        with pytest.raises(ScanError, match="black and then white, not"):
            lesion_picture(volume, cube(volume.grid, (4, 4, 4), (5, 5, 5)), window=window)


def test_a_large_scan_costs_what_is_shown_of_it() -> None:
    volume = plain((512, 512, 400))
    mask = cube(volume.grid, (200, 200, 200), (219, 219, 219))
    lesion_picture(plain((9, 9, 9)), cube(plain((9, 9, 9)).grid, (4, 4, 4), (4, 4, 4)))  # imports are not counted
    tracemalloc.start()
    lesion_picture(volume, mask, [Click((210, 210, 210))])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6  # the scan converted would be 400 MB


def test_masks_and_clicks_that_do_not_belong_to_the_scan() -> None:
    volume, other = plain((9, 9, 9)), plain((9, 9, 8))
    mine, theirs = cube(volume.grid, (1, 1, 1), (2, 2, 2)), cube(other.grid, (1, 1, 1), (2, 2, 2))
    with pytest.raises(GeometryError, match=r"the mask lies on another grid \(shape \(9, 9, 8\), RAS\)"):
        lesion_planes(volume, theirs)
    with pytest.raises(GeometryError, match="the truth lies on another grid"):
        lesion_picture(volume, mine, truth=theirs)
    with pytest.raises(PromptError, match=r"click \(9, 0, 0\) lies outside the scan"):
        lesion_picture(volume, mine, [Click((9, 0, 0))])


@pytest.mark.parametrize("ending", [*ENDINGS, ".PNG"])
def test_pictures_are_written_as_their_ending_says(ending: str, tmp_path: Path) -> None:
    volume = plain((9, 9, 9))
    figure: Any = lesion_picture(volume, cube(volume.grid, (4, 4, 4), (5, 5, 5)), title="synthetic")
    path = tmp_path / f"lesion{ending}"
    assert not is_own_picture(path)
    save_picture(figure, path)
    assert is_own_picture(path)
    starts = {".png": b"\x89PNG", ".jpg": b"\xff\xd8", ".jpeg": b"\xff\xd8", ".pdf": b"%PDF", ".svg": b"<?xml"}
    assert path.read_bytes().startswith(starts[ending.lower()])
    assert list(tmp_path.iterdir()) == [path]


def test_picture_is_1800_by_705_pixels_and_dark(tmp_path: Path) -> None:
    from matplotlib.image import imread

    volume = plain((9, 9, 9))
    save_picture(lesion_picture(volume, cube(volume.grid, (4, 4, 4), (5, 5, 5)), title="x"), tmp_path / "a.png")
    pixels = imread(tmp_path / "a.png")
    assert pixels.shape[:2] == (705, 1800)
    assert pixels[2, 2, :3].max() < 0.1


def test_places_where_no_picture_can_be_written(tmp_path: Path) -> None:
    volume = plain((9, 9, 9))
    figure: Any = lesion_picture(volume, cube(volume.grid, (4, 4, 4), (5, 5, 5)))
    for name in ("lesion.gif", "lesion", "png"):
        with pytest.raises(OutputError, match=r"a picture's name ends in one of \.png, \.jpg, \.jpeg, \.pdf, \.svg"):
            save_picture(figure, tmp_path / name)
    with pytest.raises(OutputError, match="does not exist"):
        save_picture(figure, tmp_path / "missing" / "lesion.png")
    assert list(tmp_path.iterdir()) == []


def test_drawing_needs_no_global_state_and_no_torch() -> None:
    code = (
        "import sys, numpy as np\n"
        "import palpate.pictures as p\n"
        "assert 'matplotlib' not in sys.modules\n"
        "from palpate.masks import Mask\nfrom palpate.volume import Volume\n"
        "v = Volume(np.zeros((5, 5, 5)), np.eye(4))\n"
        "p.lesion_picture(v, Mask(np.ones((1, 1, 1)), (2, 2, 2), v.grid))\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
