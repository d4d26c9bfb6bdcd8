"""Prompts as texts: every kind, in their order, and a name for what is wrong."""

from pathlib import Path

import numpy as np
import pytest

from palpate.errors import PromptError, ScanError
from palpate.formats import write
from palpate.masks import Mask
from palpate.prompt_text import from_line, from_text
from palpate.prompts import Box, Click, InitialMask, Lasso, Scribble
from palpate.volume import Grid

GRID = Grid((20, 20, 20), np.diag([2.0, 2.0, 2.0, 1.0]))


def test_a_box_is_a_bound_or_a_hint(tmp_path: Path) -> None:
    tight, loose = (e.prompt(GRID, tmp_path) for e in from_line("box=9,2,3,4,5,6; loose-box=9,2,3,4,5,6"))
    assert tight == Box((4, 2, 3), (9, 5, 6))
    assert loose == Box((4, 2, 3), (9, 5, 6), loose=True)
    (placed,) = (entry.prompt(GRID, tmp_path) for entry in from_line("box-mm=18.2,4,6,8,10.0,12.9"))
    assert placed == tight
    with pytest.raises(PromptError, match=r"box-mm '1,2,3': six numbers, such as -41\.5,2,60\.2,-21\.5,22,80\.2"):
        from_line("box-mm=1,2,3")


def test_every_kind_in_the_order_of_the_line(tmp_path: Path) -> None:
    lesion = np.zeros(GRID.shape, bool)
    lesion[3:6, 3:6, 3:6] = True
    write(Mask(lesion, (0, 0, 0), GRID), tmp_path / "before.nii.gz")
    line = (
        "click=1,2,3; background=5,6,7;mm=10.2,4.0,6.0; box=9,2,3,4,5,6; scribble=1,1,1:3,1,1 ;"
        "scribble=background:before.nii.gz;"
        "lasso=background:y=4:1,1:5,1:1,5; initial-mask = before.nii.gz; background-mm=10.2,4.0,6.0"
    )
    click, away, place, box, stroke, painted, lasso, start, beside = (e.prompt(GRID, tmp_path) for e in from_line(line))
    assert click == Click((1, 2, 3))
    assert away == Click((5, 6, 7), positive=False)
    assert place == Click((5, 2, 3))
    assert box == Box((4, 2, 3), (9, 5, 6))
    assert isinstance(stroke, Scribble)
    assert stroke.places.tolist() == [[1, 1, 1], [2, 1, 1], [3, 1, 1]]
    assert stroke.positive
    assert isinstance(painted, Scribble)
    assert len(painted.places) == 27
    assert not painted.positive
    assert isinstance(lasso, Lasso)
    assert (lasso.axis, lasso.slice_index, lasso.positive) == (1, 4, False)
    assert isinstance(start, InitialMask)
    assert start.mask.voxels == 27
    assert beside == Click((5, 2, 3), positive=False)


@pytest.mark.parametrize(
    ("kind", "name", "text", "other"),
    [
        ("box", "--box", "14.25, -15.75,-21,44,14,11", "--box-mm=14.25,-15.75,-21,44,14,11"),
        ("click", "--click", "30.75,0.75,-3.75", "--click-mm=30.75,0.75,-3.75"),
        ("background", "background", "30.75,0.75,-3.75", "background-mm=30.75,0.75,-3.75"),
        ("click", "click", "30.75,0.75,-3.75", "mm=30.75,0.75,-3.75"),
    ],
)
def test_numbers_that_are_not_whole_are_millimetres_most_likely(kind: str, name: str, text: str, other: str) -> None:
    with pytest.raises(PromptError) as raised:
        from_text(kind, text, name)
    assert str(raised.value).endswith(f"; as RAS millimetres: {other}")


def test_what_is_no_place_is_no_place_in_millimetres() -> None:
    for kind, text in (("click", "1.5,2"), ("click", "1.5,2,nan"), ("scribble", "1.5,2,3:1,2,3")):
        with pytest.raises(PromptError) as raised:
            from_text(kind, text, kind)
        assert "millimetres" not in str(raised.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "'': no prompt; give one such as click=120,88,45"),
        (" ; ", "no prompt"),
        (
            "point=1,2,3",
            r"'point=1,2,3': a prompt is initial-mask=, box=, loose-box=, .* such as click=120,88,45; .* in \.json",
        ),
        ("click=1,2,3; 4,5,6", "'4,5,6': a prompt is"),
        ("click=", "'click=': a prompt is"),
        ("click=1,2", r"click '1,2': three whole numbers, such as 120,88,45"),
        ("not=1,2,3.5", r"not '1,2,3.5': three whole numbers"),
        ("mm=a,b,c", r"mm 'a,b,c': three numbers, such as -31.5,12,80.2"),
        ("box=1,2,3", r"box '1,2,3': six whole numbers, such as 100,70,40,140,110,52"),
        ("scribble=1,2,3:4", "scribble '4': three whole numbers"),
        ("lasso=z=4:1,1:2,2", "lasso 'z=4:1,1:2,2': a slice and at least three corners on it"),
        ("lasso=z=²:1,1:2,2:1,3", "a slice and at least three corners"),
        ("lasso=z=1234567890:1,1:2,2:1,3", "a slice and at least three corners"),
        ("lasso=z=4:1,1:2,2:3", "lasso '3': two numbers, such as 110,80"),
        ("mm=nan,0,0", "mm 'nan,0,0': three numbers"),
        ("mm=inf,0,0", "mm 'inf,0,0' lies outside any scan; give numbers of at most 2147483648"),
        ("click=2147483649,1,2", "click '2147483649,1,2' lies outside any scan"),
        (f"click={'9' * 400},1,2", r"click '9{79}\.\.\. lies outside any scan"),
        (f"not={'9' * 5000},1,2", "not '9.* lies outside any scan"),
        (f"box=1,2,3,4,5,-{'9' * 400}", "box '1,2,3.* lies outside any scan"),
        (f"mm={'9' * 400},1,2", "mm '9.* lies outside any scan"),
        (f"scribble=1,1,1:1,1,{'9' * 400}", "scribble '1,1,9.* lies outside any scan"),
        (f"lasso=z=4:1,1:2,2:3,{'9' * 400}", "lasso '3,9.* lies outside any scan"),
    ],
)
def test_what_is_wrong_is_named(line: str, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        from_line(line)


def test_the_option_is_named_as_the_user_called_it() -> None:
    with pytest.raises(PromptError, match="--click-mm '1': three numbers"):
        from_text("mm", "1", "--click-mm")


def test_a_painted_mask_must_lie_on_the_scans_grid(tmp_path: Path) -> None:
    painted = np.zeros(GRID.shape, bool)
    painted[3, 4, 5] = True
    shifted = GRID.affine.copy()
    shifted[0, 3] = 6
    write(Mask(painted, (0, 0, 0), Grid(GRID.shape, shifted)), tmp_path / "moved.nii.gz")
    (entry,) = from_line("scribble=moved.nii.gz")
    message = r"moved\.nii\.gz: the painted mask lies on another grid than the scan: origin \(6, 0, 0\) .*; resample it"
    with pytest.raises(PromptError, match=message):
        entry.prompt(GRID, tmp_path)


def test_a_painted_mask_that_is_missing_is_missed_when_it_is_read(tmp_path: Path) -> None:
    (entry,) = from_line("scribble=gone.NII.gz")
    with pytest.raises(ScanError, match=r"gone\.NII\.gz: no such file"):
        entry.prompt(GRID, tmp_path)


def test_an_initial_mask_has_a_name() -> None:
    with pytest.raises(
        PromptError, match=r"--initial-mask names no mask; give its path, such as --initial-mask mask\.nii\.gz"
    ):
        from_text("initial-mask", " ", "--initial-mask")


def test_old_spellings_are_read() -> None:
    old = "not=5,6,7; scribble=not:1,1,1:3,1,1; lasso=not:y=4:1,1:5,1:1,5; prior=before.nii.gz"
    new = old.replace("not=", "background=").replace("not:", "background:").replace("prior=", "initial-mask=")
    assert from_line(old) == from_line(new)
