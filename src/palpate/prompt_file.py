"""Prompts as JSON: what `palpate segment --prompts` reads; version 1.

::

    {"version": 1, "prompts": [
      {"kind": "click", "index": [120, 88, 45]},
      {"kind": "click", "mm": [-31.5, 12.0, 80.2], "positive": false},
      {"kind": "box", "first": [100, 70, 40], "last": [140, 110, 52]},
      {"kind": "box", "first_mm": [-41.5, 2.0, 60.2], "last_mm": [-21.5, 22.0, 80.2]},
      {"kind": "scribble", "along": [[118, 80, 45], [124, 92, 45]]},
      {"kind": "scribble", "voxels": [[90, 84, 45], [91, 84, 45]], "positive": false},
      {"kind": "scribble", "file": "painted.npy"},
      {"kind": "lasso", "axis": 2, "slice": 45, "outline": [[110, 80], [130, 80], [120, 100]]},
      {"kind": "initial_mask", "mask": "before.nii.gz"}]}

Indices are zero-based voxels (x, y, z) of the scan's array; `mm`, `first_mm` and `last_mm` are RAS. They are taken in
the order of the list. Paths are relative to the file's folder; a long stroke's `.npy` holds whole numbers `[N, 3]`. A
session's journal writes prompts the same way. A box with `"loose": true` is a hint, one without `loose` bounds the
mask; in a journal that one is a hint too, as it was when an earlier version wrote it. An initial mask's kind may be
written "prior" too, as earlier versions call it; `record` writes that, so that they can read what this version
writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from .errors import PromptError, ScanError
from .files import error_text
from .formats import read
from .masks import Mask
from .prompts import MAX_VOXELS, Box, Click, InitialMask, Lasso, Places, Prompt, Scribble, check_fits, shown
from .volume import Grid, Index3

VERSION = 1
LONG = 1000  # voxels of a stroke: longer ones go to a file, where there is a place for files
Two = tuple[StrictFloat, StrictFloat]
Three = tuple[StrictFloat, StrictFloat, StrictFloat]


def _number(value: object) -> object:
    """Refuse `true` and "1", which pydantic would read as whole numbers."""
    if isinstance(value, (bool, str)):
        raise ValueError("Input should be a whole number")
    return value


Whole = Annotated[int, BeforeValidator(_number)]


class _PromptEntry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ClickEntry(_PromptEntry):
    """A voxel, or a place in RAS millimetres."""

    kind: Literal["click"]
    index: Three | None = None
    mm: Three | None = None
    positive: StrictBool = True

    @model_validator(mode="after")
    def _one_of_them(self) -> ClickEntry:
        if (self.index is None) == (self.mm is None):
            raise ValueError("a click has either index or mm")
        return self

    def prompt(self, grid: Grid, _: Path) -> Prompt:
        """The click on a grid."""
        if self.mm is not None:
            return Click.at_mm(grid, self.mm, self.positive)
        assert self.index is not None
        return Click(_whole(self.index), self.positive)


class BoxEntry(_PromptEntry):
    """Two opposite corners, both in the box: voxels, or places in RAS millimetres.

    Attributes:
        kind: "box".
        first: one corner's voxel.
        last: the opposite one's.
        first_mm: one corner, RAS millimetres.
        last_mm: the opposite one.
        loose: whether it is a hint, or bounds the mask; None: it is not said, and it bounds the mask.
    """

    kind: Literal["box"]
    first: Three | None = None
    last: Three | None = None
    first_mm: Three | None = None
    last_mm: Three | None = None
    loose: StrictBool | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> BoxEntry:
        given = [name for name in ("first", "last", "first_mm", "last_mm") if getattr(self, name) is not None]
        if given not in (["first", "last"], ["first_mm", "last_mm"]):
            raise ValueError(f"a box has first and last, or first_mm and last_mm, not {' and '.join(given) or 'none'}")
        return self

    def may_bound(self) -> bool:
        """Whether it may bound the mask; of one in millimetres only a scan tells whether it is one slice thick."""
        if self.first is None or self.last is None:
            return not self.loose
        return Box(_whole(self.first), _whole(self.last), loose=bool(self.loose)).bounds_mask

    def prompt(self, grid: Grid, _: Path) -> Prompt:
        """The box on a grid."""
        loose = bool(self.loose)
        if self.first_mm is not None and self.last_mm is not None:
            return Box.at_mm(grid, self.first_mm, self.last_mm, loose=loose)
        assert self.first is not None
        assert self.last is not None
        return Box(_whole(self.first), _whole(self.last), loose=loose)


class ScribbleEntry(_PromptEntry):
    """Voxels, their file, or corners of a stroke that runs straight from one to the next."""

    kind: Literal["scribble"]
    along: tuple[Three, ...] | None = None
    voxels: tuple[Three, ...] | None = None
    file: str | None = None
    positive: StrictBool = True

    @model_validator(mode="after")
    def _one_of_them(self) -> ScribbleEntry:
        if (self.along, self.voxels, self.file).count(None) != 2:
            raise ValueError("a scribble has either along or voxels or file")
        return self

    def prompt(self, _: Grid, folder: Path) -> Prompt:
        """The stroke."""
        if self.along is not None:
            return Scribble.along(self.along, self.positive)
        places = np.array(self.voxels) if self.file is None else _read_places(folder / self.file)
        return Scribble(places, self.positive)


class LassoEntry(_PromptEntry):
    """An outline on one slice across an array axis."""

    kind: Literal["lasso"]
    axis: Whole
    slice: Whole
    outline: tuple[Two, ...]
    positive: StrictBool = True

    def prompt(self, _: Grid, __: Path) -> Prompt:
        """What the outline encloses."""
        return Lasso(self.axis, self.slice, np.array(self.outline), self.positive)


class InitialMaskEntry(_PromptEntry):
    """A mask's file, on the scan's grid.

    Attributes:
        kind: "prior" once it is read, however it was written, so that both spellings make one entry and one hash.
        mask: the file's path.
    """

    kind: Literal["prior", "initial_mask"]
    mask: str

    @field_validator("kind")
    @classmethod
    def _spelt_once(cls, _: str) -> str:
        return "prior"

    @field_validator("mask")
    @classmethod
    def _named(cls, mask: str) -> str:
        if not mask.strip():  # which would be the folder itself
            raise ValueError("empty; give the mask's path")
        return mask

    def prompt(self, _: Grid, folder: Path) -> Prompt:
        """The initial mask."""
        return read_initial_mask(folder / self.mask)


PromptEntry = Annotated[
    ClickEntry | BoxEntry | ScribbleEntry | LassoEntry | InitialMaskEntry, Field(discriminator="kind")
]


class PromptFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: Literal[1]
    prompts: tuple[PromptEntry, ...]


Entry = TypeVar("Entry")


def with_loose_boxes(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entries, in which a box that does not say whether it bounds the mask is a hint."""
    return tuple(
        entry.model_copy(update={"loose": True}) if isinstance(entry, BoxEntry) and entry.loose is None else entry
        for entry in entries
    )


def read_prompts(path: str | Path, grid: Grid, *, loose_boxes: bool = False) -> list[Prompt]:
    """The prompts of a file, for a scan's grid, in their order; of images that the file names, notes are in theirs.

    Args:
        path: the file.
        grid: the scan's.
        loose_boxes: boxes that do not say whether they bound the mask are hints.

    Raises:
        PromptError: no such file, not this schema, or a prompt that is none or does not lie in the scan.
        ScanError: an initial mask that cannot be read.

    Each message has the file, and the number and kind of the prompt, counted from 1.
    """
    prompts: list[Prompt] = []
    entries = read_entries(path)
    for number, entry in enumerate(with_loose_boxes(entries) if loose_boxes else entries, 1):
        try:
            prompts.append(entry.prompt(grid, Path(path).parent))
            check_fits(prompts[-1], grid)
        except (PromptError, ScanError) as error:
            kind = "initial_mask" if isinstance(entry, InitialMaskEntry) else entry.kind
            raise type(error)(f"{path}, prompt {number} ({kind}): {error}") from error
    return prompts


def read_entries(path: str | Path) -> tuple[PromptEntry, ...]:
    """The entries of a file; a scan is not needed.

    Raises:
        PromptError: no such file, not UTF-8, or not this schema; the message names the prompt and the field.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")  # some editors begin a file with a mark
        return PromptFile.model_validate_json(text).prompts
    except OSError as error:
        raise PromptError(f"{path}: cannot be read ({error_text(error)}); give a JSON file of prompts") from error
    except UnicodeDecodeError as error:
        raise PromptError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    except ValidationError as error:
        raise PromptError(_fault(path, error.errors()[0])) from error


def _fault(path: Path, error: ErrorDetails) -> str:
    """The first fault of a file's content, and its place."""
    place, message = error["loc"], error["msg"].removeprefix("Value error, ")
    if error["type"] == "union_tag_not_found":
        message = "no kind; give click, box, scribble, lasso or initial_mask"
    elif error["type"] not in ("missing", "json_invalid") and not isinstance(error["input"], (dict, list, tuple)):
        message += f", not {shown(error['input'])}"
    where, fields = f"{path}: not a file of prompts, version {VERSION}", place
    if place[0:1] == ("prompts",) and len(place) > 1:
        kind = f" ({place[2]})" if len(place) > 2 else ""
        where, fields = f"{path}, prompt {int(place[1]) + 1}{kind}", place[3:]
    return ": ".join([where, *filter(None, [".".join(map(str, fields))]), message])


def _whole(index: Three) -> Index3:
    """An index of whole numbers; 3.5 is refused, not rounded."""
    if any(value != round(value) for value in index):
        raise PromptError(f"a voxel is named by whole numbers, not {index}; give a click's place as mm")
    x, y, z = (int(value) for value in index)
    return x, y, z


def read_initial_mask(path: str | Path) -> InitialMask:
    """A mask's file as an initial mask: every value above 0; doubts about the file are in its notes.

    Raises:
        ScanError: it cannot be read.
        PromptError: it is empty.
    """
    return InitialMask(read(path, warn=False))


class Files(Protocol):
    """Saves what is too large for a line of JSON; each method returns the name of the file that it made."""

    def save_mask(self, mask: Mask) -> str:
        """Save a mask."""

    def save_places(self, places: Places) -> str:
        """Save voxels, `[N, 3]`."""


def record(prompt: Prompt, files: Files | None = None) -> dict[str, Any]:
    """A prompt as an entry of such a file.

    Args:
        prompt: any of them.
        files: where masks and long strokes go; without it, strokes are written out.

    Raises:
        PromptError: an initial mask without `files`, since its mask is a file of its own; no prompt at all.
    """
    if isinstance(prompt, Click):
        return {"kind": "click", "index": list(prompt.index), "positive": prompt.positive}
    if isinstance(prompt, Box):
        corners = {"kind": "box", "first": list(prompt.first), "last": list(prompt.last)}
        return corners if prompt.on_slice else {**corners, "loose": prompt.loose}
    if isinstance(prompt, Scribble):
        if files is not None and len(prompt.places) > LONG:
            return {"kind": "scribble", "file": files.save_places(prompt.places), "positive": prompt.positive}
        return {"kind": "scribble", "voxels": prompt.places.tolist(), "positive": prompt.positive}
    if isinstance(prompt, Lasso):
        outline = prompt.outline.tolist()
        entry = {"kind": "lasso", "axis": prompt.axis, "slice": prompt.slice_index, "outline": outline}
        return {**entry, "positive": prompt.positive}
    if not isinstance(prompt, InitialMask):
        raise PromptError(f"a prompt is a Click, Box, Scribble, Lasso or InitialMask, not {type(prompt).__name__}")
    if files is None:
        raise PromptError("an initial mask is a file of its own; save it, and name that file")
    return {"kind": "prior", "mask": files.save_mask(prompt.mask)}


def summary(prompt: Prompt) -> dict[str, Any]:
    """A prompt for a result: as `record`, but a stroke or a mask by its number of voxels."""
    if isinstance(prompt, InitialMask):
        return {"kind": "prior", "voxels": prompt.mask.voxels}
    if isinstance(prompt, Scribble):
        return {"kind": "scribble", "voxels": len(prompt.places), "positive": prompt.positive}
    return record(prompt)


def _read_places(path: Path) -> Places:
    """The voxels `[N, 3]` of a NumPy file; nothing in it is executed, and a header that promises more is refused."""
    try:
        stored = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise PromptError(f"{path}: not a stroke's file ({error}); give a .npy of voxels [N, 3]") from error
    if stored.ndim != 2 or len(stored) > MAX_VOXELS:
        raise PromptError(f"{path}: not a stroke's file; give a .npy of at most {MAX_VOXELS} voxels [N, 3]")
    return np.array(stored)
