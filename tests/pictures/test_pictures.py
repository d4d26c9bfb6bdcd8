"""Pictures: what is drawn of each prompt, the words around the panels, and files written whole."""

import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from palpate.errors import GeometryError, OutputError, PromptError, SettingsError
from palpate.masks import Mask
from palpate.phantom import oblique_affine
from palpate.pictures import (
    ENDINGS,
    is_own_picture,
    lay_out,
    lesion_picture,
    lesions_picture,
    save_picture,
)
from palpate.prompts import Box, Click, InitialMask, Lasso, Prompt, Scribble
from palpate.volume import Volume
from scans import cube, empty, plain


def words_of(figure: Any) -> str:
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    return "\n".join(text.get_text() for text in texts)


def legend_of(figure: Any) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def every_kind(volume: Volume) -> list[Prompt]:
    return [
        Click((24, 24, 24)),
        Click((40, 24, 24), positive=False),
        Box((18, 18, 18), (32, 32, 30)),
        Scribble.along([(22, 22, 24), (26, 22, 24)]),
        Scribble.along([(36, 30, 24), (40, 34, 24)], positive=False),
        Lasso(2, 24, np.array([(20, 20), (30, 20), (30, 26)])),
        Lasso(2, 24, np.array([(34, 10), (40, 10), (40, 16)]), positive=False),
        InitialMask(cube(volume.grid, (22, 22, 22), (26, 26, 26))),
    ]


def test_empty_mask_says_so_and_shows_the_first_prompt() -> None:
    volume = plain((10, 12, 14))
    figure: Any = lesion_picture(volume, empty(volume.grid), [Click((7, 8, 9)), Click((1, 1, 9), positive=False)])
    assert "empty mask" in words_of(figure)
    assert legend_of(figure) == ["foreground click", "background click"]
    assert [axes.texts[-2].get_text() for axes in figure.axes] == ["axial z = 9", "coronal y = 8", "sagittal x = 7"]
    nothing: Any = lesion_picture(volume, empty(volume.grid))
    assert nothing.legends == []


def test_picture_says_what_was_measured() -> None:
    volume = Volume(np.zeros((20, 30, 40), dtype=np.uint8), oblique_affine((20, 30, 40), (1, 2, 3), orientation="SPL"))
    # 4 x 5 x 6 voxels of 6 mm3: 0.72 mL; x is superior, y posterior, z left: 18 x 10 x 4 mm.
    figure: Any = lesion_picture(
        volume, cube(volume.grid, (2, 3, 4), (5, 7, 9)), [Click((3, 4, 5))], title="synthetic cube"
    )
    words = words_of(figure)
    assert "0.72 mL   18 × 10 × 4 mm (R–L × A–P × S–I)" in words
    assert {"axial x = 3", "coronal y = 4", "sagittal z = 5"} <= set(words.splitlines())
    assert "window −0.50 to 0.50" in words.splitlines()[0]
    assert "synthetic cube" in words
    assert "on other slices" not in words
    for axes, letters in zip(figure.axes, ("RLAP", "RLSI", "APSI"), strict=True):
        assert {text.get_text() for text in axes.texts} >= {*letters, "10 mm"}


def test_each_kind_of_prompt_has_a_form_and_a_name_of_its_own() -> None:
    volume = plain((60, 60, 60))
    mask = cube(volume.grid, (20, 20, 20), (29, 29, 29))
    figure: Any = lesion_picture(volume, mask, every_kind(volume), truth=mask)
    names = [
        "mask", "truth", "foreground click", "background click", "box", "foreground stroke", "background stroke",
        "foreground lasso", "background lasso", "initial mask",
    ]  # fmt: skip
    assert legend_of(figure) == names
    looks = {
        (line.get_color(), str(line.get_marker()), str(line.get_linestyle()), str(line._dash_pattern))
        for line in figure.legends[0].get_lines()
    }
    assert len(looks) == len(names)
    # Each is numbered where it lies, since there are several.
    numbers = {text.get_text() for text in figure.axes[0].texts}
    assert {str(number) for number in range(1, 9)} <= numbers


def test_legend_explains_only_what_is_in_the_picture() -> None:
    volume = plain((60, 60, 60))
    mask = cube(volume.grid, (20, 20, 20), (29, 29, 29))
    assert legend_of(lesion_picture(volume, mask)) == ["mask"]
    clicks = [Click((24, 24, 24)), *(Click((n, n, n)) for n in (40, 42, 44))]
    figure: Any = lesion_picture(volume, mask, [*clicks, Click((46, 46, 46), positive=False)])
    assert legend_of(figure) == ["mask", "foreground click"]
    assert "on other slices: background click 5 (axial z = 46, 22 mm above)" in words_of(figure).splitlines()
    single: Any = lesion_picture(volume, mask, clicks[:1])
    assert "1" not in {text.get_text() for text in single.axes[0].texts}


def test_crosses_are_drawn_on_their_slice_alone() -> None:
    volume = plain((60, 60, 60))
    mask, truth = cube(volume.grid, (20, 22, 24), (29, 31, 33)), cube(volume.grid, (22, 22, 24), (31, 31, 33))
    clicks = [Click((24, 26, 28)), Click((25, 26, 28)), Click((24, 26, 50), positive=False)]
    figure: Any = lesion_picture(volume, mask, clicks, truth=truth)
    drawn = [[line.get_marker() for line in axes.lines if str(line.get_marker()) != "None"] for axes in figure.axes]
    # The background click lies on the coronal and the sagittal plane, and 22 mm above the axial one.
    assert [[marker if marker == "+" else "minus" for marker in each] for each in drawn] == [
        ["+", "+"], ["+", "+", "minus"], ["+", "minus"],
    ]  # fmt: skip
    for axes in figure.axes:
        assert len(axes.collections) == 3  # the truth's line, the mask's filling and its line
    # Axial: columns run from R; x = 29 is the left border, at 59 - 29 = 30 mm, x = 20 ends at 40 mm.
    outline = figure.axes[0].collections[-1].get_paths()[0].vertices
    assert outline[:, 0].min() == pytest.approx(30)
    assert outline[:, 0].max() == pytest.approx(40)
    cross = next(line for line in figure.axes[0].lines if line.get_marker() == "+")
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == (60 - 24 - 0.5, 60 - 26 - 0.5)


def test_further_slices_are_panels_that_say_where_they_lie() -> None:
    volume = plain((60, 60, 60))
    mask = cube(volume.grid, (20, 20, 20), (29, 29, 29))
    clicks = [Click((24, 24, 24)), *(Click((n, n, n)) for n in (12, 42, 44))]
    four: Any = lesion_picture(volume, mask, clicks[:2])
    assert [axes.texts[-2].get_text() for axes in four.axes][3] == "axial z = 12, 12 mm below"
    six: Any = lesion_picture(volume, mask, clicks)
    assert len(six.axes) == 6
    for figure, rows in ((four, 1), (six, 2)):
        boxes = [axes.get_position() for axes in figure.axes]
        assert len({round(box.y0, 6) for box in boxes}) == rows
        assert all(0 < box.x0 < box.x1 < 1 and 0 < box.y0 < box.y1 < 1 for box in boxes)
        width, height = figure.get_size_inches()
        assert width == 12
        assert all(box.width * width == pytest.approx(box.height * height) for box in boxes)


def test_several_lesions_are_numbered_and_each_has_a_colour() -> None:
    volume = plain((60, 60, 60))
    lesions = [(number, f"node {number}", cube(volume.grid, (at, at, 20), (at + 4, at + 4, 24)))
               for number, at in ((1, 5), (3, 20), (4, 40))]  # fmt: skip
    figure: Any = lesions_picture(volume, lesions, title="visit1")
    assert legend_of(figure) == ["1 node 1", "3 node 3", "4 node 4"]
    assert len({line.get_color() for line in figure.legends[0].get_lines()}) == 3
    assert "3 lesions, 0.38 mL in all" in words_of(figure)
    assert {"1", "3", "4"} <= {text.get_text() for text in figure.axes[0].texts}
    assert {"1", "3", "4"} - {text.get_text() for text in figure.axes[1].texts}  # the coronal plane shows but one


def test_many_lesions_of_long_names_fit() -> None:
    volume = plain((80, 80, 80))
    lesions = [(n, f"$x^{n}$ " + "a" * 90, cube(volume.grid, (5 * n, 5, 5), (5 * n + 1, 8, 8))) for n in range(15)]
    figure: Any = lesions_picture(volume, [*lesions, (15, "away", cube(volume.grid, (70, 70, 70), (70, 70, 70)))])
    FigureCanvasAgg(figure).draw()
    names = legend_of(figure)
    assert len(names) == 12
    assert names[-1] == "and 5 more"
    assert names[0].startswith("0 $x^0$ aaa")
    width = figure.get_size_inches()[0] * figure.dpi
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= width


def test_no_text_reaches_beyond_the_picture_or_into_another() -> None:
    """The fullest of pictures: all kinds of prompt, six panels, and three prompts that no slice shows."""
    volume = Volume(np.zeros((120, 120, 120), dtype=np.int16), np.diag([0.7, 0.7, 1.3, 1]), unit="arbitrary units")
    mask = cube(volume.grid, (20, 20, 20), (99, 99, 99))
    clicks = [Click((n, 119 - n, 3 * n - 60), positive=False) for n in range(30, 40)]
    figure: Any = lesion_picture(volume, mask, [*every_kind(volume), *clicks], truth=mask, title="x" * 300)
    FigureCanvasAgg(figure).draw()
    width, height = figure.get_size_inches() * figure.dpi
    boxes = [text.get_window_extent() for text in figure.texts] + [figure.legends[0].get_window_extent()]
    for box in boxes:
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height
    panels = [axes.get_window_extent() for axes in figure.axes]
    names = [axes.texts[-2].get_window_extent() for axes in figure.axes]
    everything = [*boxes, *panels, *names]
    for number, box in enumerate(everything):
        assert not any(box.overlaps(other) for other in everything[number + 1 :])


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


def test_prompts_have_the_numbers_that_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = plain((40, 40, 40))
    mask = cube(volume.grid, (18, 18, 18), (22, 22, 22))
    prompts: list[Prompt] = [InitialMask(mask), Click((20, 20, 20)), Click((20, 14, 20))]

    def written(numbers: Sequence[int | None] | None, prompts: Sequence[Prompt] = prompts) -> set[str]:
        figure: Any = lesion_picture(volume, mask, prompts, numbers=numbers)
        return {word for axes in figure.axes for text in axes.texts if (word := text.get_text()).isdigit()}

    assert written(None) == {"1", "2", "3"}
    assert written([None, 4, 7]) == {"4", "7"}
    assert written(None, prompts[1:2]) == set()
    assert written([4], prompts[1:2]) == {"4"}
    monkeypatch.setattr("palpate.pictures.choice.MAX_FURTHER", 0)
    figure: Any = lesion_picture(volume, mask, [prompts[1], Click((2, 3, 4))], numbers=[4, 7])
    assert "on other slices: foreground click 7 (axial z = 4, " in words_of(figure)
    assert "foreground click 2" not in words_of(figure)
    with pytest.raises(ValueError, match="zip"):
        lesion_picture(volume, mask, prompts, numbers=[1])


def test_window_given_is_the_window_drawn() -> None:
    volume = plain((9, 9, 9))
    figure: Any = lesion_picture(volume, cube(volume.grid, (4, 4, 4), (5, 5, 5)), window=(-160, 240))
    assert figure.axes[0].images[0].get_clim() == (-160, 240)
    assert words_of(figure).splitlines()[0].endswith("window −160 to 240")
    for window in ((3, 3), (4, 1), (0, math.nan)):
        with pytest.raises(SettingsError, match="give two finite values, the one shown as black first"):
            lesion_picture(volume, cube(volume.grid, (4, 4, 4), (5, 5, 5)), window=window)


@pytest.mark.parametrize(
    ("own", "given", "ends"),
    [("SUV", None, "0.00 to 5.00 SUV"), (None, "SUV", "0.00 to 5.00 SUV"), ("HU", None, " HU"), (None, None, "0.50")],
)
def test_the_window_has_the_unit_of_the_values(own: str | None, given: str | None, ends: str) -> None:
    volume = Volume(np.zeros((9, 9, 9)), np.eye(4), unit=own)
    figure: Any = lesion_picture(volume, cube(volume.grid, (4, 4, 4), (5, 5, 5)), unit=given)
    assert words_of(figure).splitlines()[0].endswith(ends)


def test_masks_and_prompts_of_another_scan_are_refused() -> None:
    volume, other = plain((9, 9, 9)), plain((9, 9, 8))
    mine, theirs = cube(volume.grid, (1, 1, 1), (2, 2, 2)), cube(other.grid, (1, 1, 1), (2, 2, 2))
    with pytest.raises(GeometryError, match="the mask lies on another grid"):
        lesions_picture(volume, [(1, "a", mine), (2, "b", theirs)])
    with pytest.raises(PromptError, match=r"click \(9, 0, 0\) lies outside the scan"):
        lesion_picture(volume, mine, [Click((9, 0, 0))])


@pytest.mark.parametrize("ending", [*ENDINGS, ".PNG"])
def test_pictures_are_written_as_their_ending_says(ending: str, tmp_path: Path) -> None:
    volume = plain((9, 9, 9))
    figure: Any = lesion_picture(volume, cube(volume.grid, (4, 4, 4), (5, 5, 5)), title="synthetic 肝 $a")
    path = tmp_path / f"lesion{ending}"
    assert not is_own_picture(path)
    save_picture(figure, path)
    assert is_own_picture(path)
    starts = {".png": b"\x89PNG", ".jpg": b"\xff\xd8", ".jpeg": b"\xff\xd8", ".pdf": b"%PDF", ".svg": b"<?xml"}
    assert path.read_bytes().startswith(starts[ending.lower()])
    assert list(tmp_path.iterdir()) == [path]


def test_picture_is_1800_pixels_wide_and_dark(tmp_path: Path) -> None:
    from matplotlib.image import imread

    volume = plain((9, 9, 9))
    save_picture(lesion_picture(volume, cube(volume.grid, (4, 4, 4), (5, 5, 5)), title="x"), tmp_path / "a.png")
    pixels = imread(tmp_path / "a.png")
    assert pixels.shape[1] == 1800
    assert 700 <= pixels.shape[0] <= 800  # by the texts below
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


def test_a_mask_at_the_scans_edge_has_a_closed_outline() -> None:
    volume = plain((40, 40, 40))
    corner = cube(volume.grid, (38, 0, 39), (39, 1, 39))
    figure: Any = lesion_picture(volume, corner, [Click((39, 0, 39))])
    for axes, plane in zip(figure.axes, lay_out(volume, [corner], [Click((39, 0, 39))]).planes, strict=True):
        assert plane.masks[0].any()
        line = axes.collections[-1].get_paths()[0].vertices
        assert np.allclose(line[0], line[-1])
        assert axes.lines  # the cross


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


def test_a_mask_is_read_as_it_is() -> None:
    """Full masks, as an audit has them, and patches give the same picture."""
    volume = plain((30, 30, 30))
    patch = cube(volume.grid, (4, 4, 4), (9, 9, 9))
    full = Mask(patch.full(), (0, 0, 0), volume.grid)
    for one, other in zip(lay_out(volume, [patch]).planes, lay_out(volume, [full]).planes, strict=True):
        assert one.place == other.place
        assert np.array_equal(one.masks[0], other.masks[0])
