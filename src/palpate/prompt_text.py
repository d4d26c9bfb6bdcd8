"""Prompts as short texts: what the options of `palpate segment` take, and a cell of a batch's list.

::

    click=120,88,45; mm=-31.5,12,80.2; background=90,80,45; background-mm=-35,2.5,80.2; box=100,70,40,140,110,52
    scribble=118,80,45:124,92,45; scribble=background:painted.nii.gz; lasso=z=45:110,80:130,80:120,100
    initial-mask=before.nii.gz; loose-box=100,70,40,140,110,52; box-mm=-41.5,2,60.2,-21.5,22,80.2

Voxel indices are zero-based (x, y, z) of the scan's array; `mm`, `background-mm` and `box-mm` are RAS. They are
taken in the order of the line. Earlier versions wrote `not` for background and `prior` for initial-mask; both are
still read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import PromptError
from .formats import READABLE, read
from .prompt_file import BoxEntry, ClickEntry, InitialMaskEntry, LassoEntry, PromptEntry, ScribbleEntry
from .prompts import MAX_INDEX, Prompt, Scribble, shown
from .volume import Grid

TEXT_KINDS = (
    "initial-mask", "box", "loose-box", "box-mm", "scribble", "lasso", "click", "mm", "background", "background-mm",
)  # fmt: skip
OLD_KINDS = {"prior": "initial-mask", "not": "background"}  # as earlier versions spelt them


@dataclass(frozen=True)
class Painted:
    """A painted mask's file as a stroke, inside the lesion or outside it."""

    mask: str
    positive: bool

    def prompt(self, grid: Grid, folder: Path) -> Prompt:
        """The stroke: every voxel above 0 of the file, which must lie on the scan's grid."""
        try:
            return Scribble.of(read(folder / self.mask, warn=False), grid, self.positive)
        except PromptError as error:
            raise PromptError(f"{self.mask}: {error}") from error


TextEntry = PromptEntry | Painted


def named_files(entries: Iterable[TextEntry], folder: Path) -> tuple[Path, ...]:
    """The files that prompts name, relative to a folder: masks, and strokes' voxels."""
    found: list[str] = []
    for entry in entries:
        if isinstance(entry, InitialMaskEntry | Painted):
            found.append(entry.mask)
        elif isinstance(entry, ScribbleEntry) and entry.file is not None:
            found.append(entry.file)
    return tuple(folder / name for name in found)


def from_text(kind: str, text: str, name: str) -> TextEntry:
    """One prompt's text; nothing is read before its `prompt(grid, folder)` is called.

    Args:
        kind: one of `TEXT_KINDS`, or an old spelling of one.
        text: what follows the option, or the kind's `=`.
        name: how the user spelt the kind ("--click"), for the error.

    Raises:
        PromptError: a text that is not of this kind; the message has an example.
    """
    match OLD_KINDS.get(kind, kind):
        case "initial-mask":
            if not text.strip():
                raise PromptError(f"{name} names no mask; give its path, such as {name} mask.nii.gz")
            return InitialMaskEntry(kind="initial_mask", mask=text)
        case "box" | "loose-box" | "box-mm" as box:
            return _box(box, text, name)
        case "scribble":
            return _scribble(text, name)
        case "lasso":
            return _lasso(text, name)
        case "mm" | "background-mm" as place:
            return ClickEntry(kind="click", mm=_numbers(text, name, float), positive=place == "mm")
        case known:
            return ClickEntry(kind="click", index=_numbers(text, name, int), positive=known == "click")


def from_line(line: str) -> tuple[TextEntry, ...]:
    """Several prompts, each `kind=text`, separated by `;`.

    Raises:
        PromptError: none, an unknown kind, or a text that is not of its kind.
    """
    entries = []
    for part in filter(None, (part.strip() for part in line.split(";"))):
        kind, equals, text = (word.strip() for word in part.partition("="))
        if OLD_KINDS.get(kind, kind) not in TEXT_KINDS or not equals or not text:
            raise PromptError(
                f"{shown(part)}: a prompt is {', '.join(f'{known}=' for known in TEXT_KINDS)} and its value, such as "
                "click=120,88,45; a file of prompts ends in .json"
            )
        entries.append(from_text(kind, text, kind))
    if not entries:
        raise PromptError(f"{line!r}: no prompt; give one such as click=120,88,45")
    return tuple(entries)


def _numbers(text: str, name: str, kind: type[int] | type[float], count: int = 3) -> tuple[Any, ...]:
    """Numbers separated by commas."""
    try:
        sizes = [float(part) for part in text.split(",")]  # an int of any length has one; infinity, if need be
        huge = any(abs(size) > MAX_INDEX for size in sizes)
        values = tuple(sizes if huge else (kind(part) for part in text.split(",")))
    except ValueError:
        values, huge = (), False
    if len(values) != count or any(map(math.isnan, values)):
        whole = kind is int
        example = {
            2: "110,80",
            3: "120,88,45" if whole else "-31.5,12,80.2",
            6: "100,70,40,140,110,52" if whole else "-41.5,2,60.2,-21.5,22,80.2",
        }[count]
        words = {2: "two", 3: "three", 6: "six"}[count]
        meant = _meant_as_mm(text, name, count) if whole else ""
        raise PromptError(f"{name} {shown(text)}: {words} {'whole ' if whole else ''}numbers, such as {example}{meant}")
    if huge:
        raise PromptError(f"{name} {shown(text)} lies outside any scan; give numbers of at most {MAX_INDEX}")
    return values


def _meant_as_mm(text: str, name: str, count: int) -> str:
    """Where numbers that are not whole have an option of their own, that: they are millimetres, most likely."""
    kinds = {"click": "mm", "background": "background-mm", "box": "box-mm"}
    other = {f"--{kind}": f"--{kind}-mm" for kind in kinds} | kinds
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        return ""
    if name not in other or len(values) != count or not all(map(math.isfinite, values)):
        return ""
    return f"; as RAS millimetres: {other[name]}={text.replace(' ', '')}"


def _box(kind: str, text: str, name: str) -> TextEntry:
    in_mm = kind == "box-mm"
    corners = _numbers(text, name, float if in_mm else int, 6)
    if in_mm:
        return BoxEntry(kind="box", first_mm=corners[:3], last_mm=corners[3:])
    loose = True if kind == "loose-box" else None
    return BoxEntry(kind="box", first=corners[:3], last=corners[3:], loose=loose)


def _side(text: str) -> tuple[bool, str]:
    """Whether it is a foreground prompt, and what comes after `background:` (or `not:`, its old spelling)."""
    for background in ("background:", "not:"):
        if text.startswith(background):
            return False, text.removeprefix(background)
    return True, text


def _scribble(text: str, name: str) -> TextEntry:
    positive, rest = _side(text)
    if rest.lower().endswith((*READABLE, ".dcm")):  # the reader says what a mask in DICOM needs
        return Painted(rest, positive)
    if rest.lower().endswith(".npy"):
        raise PromptError(
            f"{name} {shown(text)}: a stroke's .npy is named in a file of prompts (docs/how-to/prompts.md)"
        )
    along = tuple(_numbers(part, name, int) for part in rest.split(":"))
    return ScribbleEntry(kind="scribble", along=along, positive=positive)


def _lasso(text: str, name: str) -> TextEntry:
    positive, rest = _side(text)
    plane, *corners = rest.split(":")
    axis, _, number = plane.partition("=")
    if axis not in ("x", "y", "z") or not number.isdecimal() or len(number) > 9 or len(corners) < 3:
        raise PromptError(
            f"{name} {shown(text)}: a slice and at least three corners on it, such as z=45:110,80:130,80:120,100"
        )
    outline = tuple(_numbers(corner, name, float, 2) for corner in corners)
    return LassoEntry(kind="lasso", axis="xyz".index(axis), slice=int(number), outline=outline, positive=positive)
