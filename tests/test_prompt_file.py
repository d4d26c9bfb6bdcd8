"""Prompts as JSON: all kinds, in their order, and a name for what is wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palpate import prompt_file
from palpate.errors import PromptError, ScanError
from palpate.formats import write
from palpate.masks import Mask
from palpate.prompt_file import LONG, PromptEntry, read_entries, read_prompts, record, summary
from palpate.prompts import MAX_VOXELS, Box, Click, InitialMask, Lasso, Places, Prompt, Scribble, check_inside
from palpate.volume import Grid

DOCUMENT = Path(__file__).parents[1] / "docs" / "how-to" / "prompts.md"
GRID = Grid((20, 20, 20), np.diag([2.0, 2.0, 2.0, 1.0]))
ALL = [
    {"kind": "click", "index": [1, 2, 3]},
    {"kind": "click", "mm": [10.2, 4.0, 6.0], "positive": False},
    {"kind": "box", "first": [9, 2, 3], "last": [4, 5, 6]},
    {"kind": "scribble", "along": [[1, 1, 1], [3, 1, 1]]},
    {"kind": "scribble", "voxels": [[7, 7, 7]], "positive": False},
    {"kind": "lasso", "axis": 2, "slice": 4, "outline": [[1, 1], [5, 1], [1, 5]]},
    {"kind": "initial_mask", "mask": "before.nii.gz"},
]


def test_every_kind_in_order(tmp_path: Path) -> None:
    lesion = np.zeros(GRID.shape, bool)
    lesion[3:6, 3:6, 3:6] = True
    write(Mask(lesion, (0, 0, 0), GRID), tmp_path / "before.nii.gz")
    (tmp_path / "prompts.json").write_text(json.dumps({"version": 1, "prompts": ALL}))
    click, away, box, stroke, spots, lasso, start = read_prompts(tmp_path / "prompts.json", GRID)
    assert click == Click((1, 2, 3))
    assert away == Click((5, 2, 3), positive=False)
    assert box == Box((4, 2, 3), (9, 5, 6))
    assert isinstance(stroke, Scribble)
    assert stroke.places.tolist() == [[1, 1, 1], [2, 1, 1], [3, 1, 1]]
    assert not spots.positive
    assert isinstance(lasso, Lasso)
    assert (lasso.axis, lasso.slice_index) == (2, 4)
    assert isinstance(start, InitialMask)
    assert start.mask.voxels == 27


def test_what_is_recorded_is_read_back(tmp_path: Path) -> None:
    given: list[Prompt] = [
        Click((1, 2, 3), positive=False),
        Box((1, 1, 1), (4, 4, 4)),
        Scribble.along([(2, 2, 2), (6, 2, 2)]),
    ]
    entries = [record(prompt) for prompt in given]
    (tmp_path / "p.json").write_text(json.dumps({"version": 1, "prompts": entries}))
    again = read_prompts(tmp_path / "p.json", GRID)
    assert [record(prompt) for prompt in again] == entries
    lasso = Lasso(1, 3, np.array([[1, 1], [6, 1], [3, 7.5]]), positive=False)
    (tmp_path / "p.json").write_text(json.dumps({"version": 1, "prompts": [record(lasso)]}))
    (same,) = read_prompts(tmp_path / "p.json", GRID)
    assert np.array_equal(same.places, lasso.places)
    assert not same.positive


def test_a_box_says_whether_it_bounds_the_mask(tmp_path: Path) -> None:
    """One that does not say so does; where a caller wants it, it is a hint. On a slice there is nothing to say."""
    corners = {"kind": "box", "first": [1, 1, 1], "last": [4, 4, 4]}
    entries = [corners, {**corners, "loose": True}, {**corners, "loose": False}]
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"version": 1, "prompts": entries}))
    tight, loose = Box((1, 1, 1), (4, 4, 4)), Box((1, 1, 1), (4, 4, 4), loose=True)
    assert read_prompts(path, GRID) == [tight, loose, tight]
    assert read_prompts(path, GRID, loose_boxes=True) == [loose, loose, tight]
    assert [record(box) for box in (loose, tight)] == entries[1:]
    flat = {"kind": "box", "first": [1, 1, 4], "last": [4, 4, 4]}
    assert record(Box((1, 1, 4), (4, 4, 4))) == record(Box((1, 1, 4), (4, 4, 4), loose=True)) == flat
    path.write_text(json.dumps({"version": 1, "prompts": [{**corners, "loose": 1}]}))
    with pytest.raises(PromptError, match=r"prompt 1 \(box\): loose: Input should be a valid boolean, not 1"):
        read_prompts(path, GRID)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"p\.json: not a file of prompts, version 1: Invalid JSON"),
        ("[]", r"p\.json: not a file of prompts, version 1: Input should be an object"),
        ({"version": 2, "prompts": []}, r"p\.json: .* version: Input should be 1, not 2"),
        ({"version": 1, "prompts": [5]}, r"p\.json, prompt 1: Input should be an object, not 5"),
        ({"version": 1, "prompts": [{"index": [1, 2, 3]}]}, r"prompt 1: no kind; give click, box, scribble, lasso or"),
        ({"version": 1, "prompts": [{"kind": "point"}]}, r"p\.json, prompt 1: Input tag 'point'"),
        ({"version": 1, "prompts": [{"kind": "click"}]}, "either index or mm"),
        (
            {"version": 1, "prompts": [{"kind": "click", "index": [1, 2]}]},
            r"prompt 1 \(click\): index\.2: Field required",
        ),
        ({"version": 1, "prompts": [{"kind": "click", "index": [1, 2, 3.5]}]}, "whole numbers"),
        ('{"version": 1, "prompts": [{"kind": "click", "index": [1, 2, NaN]}]}', "finite number"),
        ({"version": 1, "prompts": [{"kind": "scribble", "file": "gone.npy"}]}, r"gone\.npy: not a stroke's file"),
        ({"version": 1, "prompts": [{"kind": "scribble"}]}, "either along or voxels or file"),
        (
            {"version": 1, "prompts": [{"kind": "box", "first": [1, 1, 1]}]},
            r"\(box\): a box has first and last, or first_mm and last_mm, not first$",
        ),
        ({"version": 1, "prompts": [{"kind": "box"}]}, r"first_mm and last_mm, not none$"),
        (
            {"version": 1, "prompts": [{"kind": "box", "first": [1, 1, 1], "last_mm": [1, 1, 1]}]},
            r"not first and last_mm$",
        ),
        (
            {"version": 1, "prompts": [{"kind": "box", "first_mm": [0, 0, 0], "last_mm": [900, 0, 0]}]},
            r"prompt 1 \(box\): a box's corner at .* mm lies outside the scan",
        ),
        ({"version": 1, "prompts": [{"kind": "click", "mm": [900, 0, 0]}]}, "lies outside the scan"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(PromptError, match=message):
        read_prompts(path, GRID)


LASSO = {"kind": "lasso", "axis": 2, "slice": 4, "outline": [[1, 1], [5, 1], [1, 5]]}
HUGE = int("9" * 400)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"kind": "click", "index": [HUGE, 2, 3]},
            r"\(click\): index\.0: Input should be a finite number, not 9{80}\.\.\.$",
        ),
        ({"kind": "click", "index": [1e300, 2, 3]}, r"\(click\): a click at .* lies outside any scan"),
        ({"kind": "click", "mm": [HUGE, 2, 3]}, r"\(click\): mm\.0: Input should be a finite number"),
        (
            {"kind": "scribble", "along": [[1, 2, 3], [HUGE, 2, 3]]},
            r"\(scribble\): along\.1\.0: Input should be a finite",
        ),
        ({**LASSO, "slice": HUGE}, r"\(lasso\): a lasso on slice 9.* lies outside any scan"),
        ({**LASSO, "axis": HUGE}, r"\(lasso\): a lasso's axis is 0, 1 or 2, not 9"),
        (
            {**LASSO, "outline": [[1, 1], [5, 1], [1, HUGE]]},
            r"\(lasso\): outline\.2\.1: Input should be a finite number",
        ),
        ({"kind": "click", "index": [True, 1, 2]}, r"\(click\): index\.0: Input should be a valid number, not True"),
        ({"kind": "click", "index": ["1", 1, 2]}, r"\(click\): index\.0: Input should be a valid number, not '1'"),
        (
            {"kind": "click", "index": [1, 1, 2], "positive": "off"},
            r"positive: Input should be a valid boolean, not 'off'",
        ),
        ({"kind": "click", "index": [1, 1, 2], "positive": 0}, r"positive: Input should be a valid boolean, not 0"),
        ({**LASSO, "slice": True}, r"slice: Input should be a whole number, not True"),
        ({**LASSO, "axis": "1"}, r"axis: Input should be a whole number, not '1'"),
        ({**LASSO, "slice": 4.5}, r"slice: Input should be a valid integer, .* not 4\.5"),
        ({**LASSO, "outline": [[1, 1], [5, 1], [True, 5]]}, r"outline\.2\.0: Input should be a valid number, not True"),
        (
            {"kind": "click", "index": [20, 2, 3]},
            r"\(click\): click \(20, 2, 3\) lies outside the scan; valid voxel indices",
        ),
        ({**LASSO, "slice": 20}, r"\(lasso\): lasso \(1, 1, 20\) lies outside the scan"),
        (
            {"kind": "prior", "mask": "moved.nii.gz"},
            r"\(initial_mask\): the initial mask lies on another grid than the scan: origin",
        ),
    ],
)
def test_a_prompt_that_is_wrong_is_named_by_its_file_and_number(
    tmp_path: Path, entry: dict[str, Any], message: str
) -> None:
    shifted = GRID.affine.copy()
    shifted[0, 3] = 6
    write(Mask(np.ones((2, 2, 2), bool), (0, 0, 0), Grid(GRID.shape, shifted)), tmp_path / "moved.nii.gz")
    (tmp_path / "p.json").write_text(json.dumps({"version": 1, "prompts": [ALL[0], entry]}))
    with pytest.raises(PromptError, match=r"p\.json, prompt 2 .*" + message):
        read_prompts(tmp_path / "p.json", GRID)


def test_an_initial_mask_that_is_missing_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps({"version": 1, "prompts": [ALL[6]]}))
    with pytest.raises(ScanError, match=r"p\.json, prompt 1 \(initial_mask\): .*before\.nii\.gz: no such file"):
        read_prompts(tmp_path / "p.json", GRID)


@pytest.mark.parametrize("number", ["1e400", "-1e400", "Infinity", "9" * 5000])
def test_numbers_that_are_infinite(tmp_path: Path, number: str) -> None:
    entry = '{"version": 1, "prompts": [{"kind": "click", "index": [1, 2, %s]}]}'
    (tmp_path / "p.json").write_text(entry % number)
    with pytest.raises(PromptError, match=r"Input should be a finite number, not -?inf|number out of range"):
        read_prompts(tmp_path / "p.json", GRID)


def test_a_mark_before_the_text_is_passed_over(tmp_path: Path) -> None:
    """Some editors begin a UTF-8 file with the bytes EF BB BF."""
    (tmp_path / "p.json").write_text(json.dumps({"version": 1, "prompts": ALL[:1]}), encoding="utf-8-sig")
    assert (tmp_path / "p.json").read_bytes()[:3] == b"\xef\xbb\xbf"
    assert read_prompts(tmp_path / "p.json", GRID) == [Click((1, 2, 3))]
    (tmp_path / "p.json").write_bytes(b"{ \xff")
    with pytest.raises(PromptError, match=r"p\.json: not UTF-8 at byte 2; save it as UTF-8"):
        read_prompts(tmp_path / "p.json", GRID)


def test_the_example_of_the_format_is_free_of_contradictions(tmp_path: Path) -> None:
    """As the module and docs/how-to/prompts.md print it; the files that it names are made here."""
    example = str(prompt_file.__doc__).split("::\n")[1].split("Indices")[0]
    assert " ".join(example.split()) in " ".join(DOCUMENT.read_text(encoding="utf-8").split())
    grid = Grid((150, 130, 90), np.diag([1.0, 1.0, 1.0, 1.0]) + np.outer([1, 0, 0, 0], [0, 0, 0, -100.0]))
    np.save(tmp_path / "painted.npy", np.array([[120, 88, 46]]))
    write(Mask(np.ones((2, 2, 2), bool), (120, 88, 45), grid), tmp_path / "before.nii.gz")
    (tmp_path / "p.json").write_text(example)
    prompts = read_prompts(tmp_path / "p.json", grid)
    assert len(prompts) == 9
    check_inside(prompts, grid)


class Drawer:
    """A place for files that keeps them under fixed names."""

    def __init__(self, folder: Path):
        self.folder = folder

    def save_mask(self, mask: Mask) -> str:
        write(mask, self.folder / "mask.nii.gz")
        return "mask.nii.gz"

    def save_places(self, places: Places) -> str:
        np.save(self.folder / "places.npy", places)
        return "places.npy"


def test_large_things_go_to_files_where_there_is_a_place_for_them(tmp_path: Path) -> None:
    stroke = Scribble(np.argwhere(np.ones((12, 10, 9), bool))[::-1], positive=False)
    short = Scribble(stroke.places[:LONG])
    start = InitialMask(Mask(np.ones((2, 3, 4), bool), (1, 2, 3), GRID))
    entries = [record(prompt, Drawer(tmp_path)) for prompt in (stroke, short, start)]
    assert entries[0] == {"kind": "scribble", "file": "places.npy", "positive": False}
    assert len(entries[1]["voxels"]) == LONG
    assert entries[2] == {"kind": "prior", "mask": "mask.nii.gz"}
    (tmp_path / "p.json").write_text(json.dumps({"version": 1, "prompts": entries}))
    long, _, mask = read_prompts(tmp_path / "p.json", GRID)
    assert np.array_equal(long.places, stroke.places), "in its order"
    assert not long.positive
    assert isinstance(mask, InitialMask)
    assert np.array_equal(mask.mask.full(), start.mask.full())
    assert mask.mask.array.shape == (2, 3, 4)
    assert "file" not in record(stroke)
    with pytest.raises(PromptError, match="an initial mask is a file of its own; save it, and name that file"):
        record(start)
    with pytest.raises(PromptError, match="a prompt is a Click, Box, Scribble, Lasso or InitialMask, not str"):
        record("click")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "stored",
    [np.zeros(3, np.int64), np.array([[{}] * 3], object), np.zeros((3, 3), "U5"), np.zeros((MAX_VOXELS + 1, 3), "u1")],
)
def test_a_strokes_file_is_plain_numbers(tmp_path: Path, stored: Any) -> None:
    np.save(tmp_path / "bad.npy", stored, allow_pickle=True)
    (tmp_path / "p.json").write_text('{"version": 1, "prompts": [{"kind": "scribble", "file": "bad.npy"}]}')
    with pytest.raises(PromptError, match=r"not a stroke's file|a scribble is a list of voxel indices"):
        read_prompts(tmp_path / "p.json", GRID)


def test_a_summary_tells_large_things_by_their_size() -> None:
    assert summary(Click((1, 2, 3))) == {"kind": "click", "index": [1, 2, 3], "positive": True}
    assert summary(Scribble(np.array([[1, 2, 3], [1, 2, 4]]))) == {"kind": "scribble", "voxels": 2, "positive": True}
    assert summary(InitialMask(Mask(np.ones((2, 3, 4), bool), (1, 2, 3), GRID))) == {"kind": "prior", "voxels": 24}


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"gone\.json: cannot be read"):
        read_prompts(tmp_path / "gone.json", GRID)


def test_both_spellings_of_an_initial_mask_are_one_entry(tmp_path: Path) -> None:
    entries: list[PromptEntry] = []
    for kind in ("prior", "initial_mask"):
        document = {"version": 1, "prompts": [{"kind": kind, "mask": "before.nii.gz"}]}
        (tmp_path / "p.json").write_text(json.dumps(document))
        entries += read_entries(tmp_path / "p.json")
    old, new = entries
    assert old == new
    assert old.model_dump_json() == new.model_dump_json() == '{"kind":"prior","mask":"before.nii.gz"}'
