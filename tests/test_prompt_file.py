"""Prompts as JSON: all kinds, in their order, and a name for what is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest

from palpate.errors import PromptError
from palpate.formats import write
from palpate.prompt_file import read_prompts, record
from palpate.prompts import Box, Click, Lasso, Prior, Prompt, Scribble
from palpate.volume import Grid, Mask

GRID = Grid((20, 20, 20), np.diag([2.0, 2.0, 2.0, 1.0]))
ALL = [
    {"kind": "click", "index": [1, 2, 3]},
    {"kind": "click", "mm": [10.2, 4.0, 6.0], "positive": False},
    {"kind": "box", "first": [9, 2, 3], "last": [4, 5, 6]},
    {"kind": "scribble", "along": [[1, 1, 1], [3, 1, 1]]},
    {"kind": "scribble", "voxels": [[7, 7, 7]], "positive": False},
    {"kind": "lasso", "axis": 2, "slice": 4, "outline": [[1, 1], [5, 1], [1, 5]]},
    {"kind": "prior", "mask": "before.nii.gz"},
]


def test_every_kind_in_order(tmp_path: Path) -> None:
    lesion = np.zeros(GRID.shape, bool)
    lesion[3:6, 3:6, 3:6] = True
    write(Mask(lesion, (0, 0, 0), GRID), tmp_path / "before.nii.gz")
    (tmp_path / "prompts.json").write_text(json.dumps({"version": 1, "prompts": ALL}))
    click, away, box, stroke, spots, lasso, prior = read_prompts(tmp_path / "prompts.json", GRID)
    assert click == Click((1, 2, 3))
    assert away == Click((5, 2, 3), positive=False)
    assert box == Box((4, 2, 3), (9, 5, 6))
    assert isinstance(stroke, Scribble)
    assert stroke.places.tolist() == [[1, 1, 1], [2, 1, 1], [3, 1, 1]]
    assert not spots.positive
    assert isinstance(lasso, Lasso)
    assert (lasso.axis, lasso.slice_index) == (2, 4)
    assert isinstance(prior, Prior)
    assert prior.mask.voxels == 27


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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a file of prompts, version 1"),
        ({"version": 2, "prompts": []}, "version: Input should be 1"),
        ({"version": 1, "prompts": [{"kind": "point"}]}, r"prompts\.0: Input tag 'point'"),
        ({"version": 1, "prompts": [{"kind": "click"}]}, "either index or mm"),
        ({"version": 1, "prompts": [{"kind": "click", "index": [1, 2]}]}, r"prompts\.0\.click\.index\.2"),
        ({"version": 1, "prompts": [{"kind": "click", "index": [1, 2, 3.5]}]}, "whole numbers"),
        ({"version": 1, "prompts": [{"kind": "scribble"}]}, "either along or voxels"),
        ({"version": 1, "prompts": [{"kind": "box", "first": [1, 1, 1]}]}, r"last: Field required"),
        ({"version": 1, "prompts": [{"kind": "click", "mm": [900, 0, 0]}]}, "lies outside the scan"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(PromptError, match=message):
        read_prompts(path, GRID)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"gone\.json: cannot be read"):
        read_prompts(tmp_path / "gone.json", GRID)
