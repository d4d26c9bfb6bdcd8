"""What is pointed at on the command line: the options of every verb that takes prompts, and how they are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PromptError

if TYPE_CHECKING:
    from ..prompts import Prompt
    from ..volume import Volume

ClickOption = Annotated[
    list[str] | None, typer.Option(help="Voxel index X,Y,Z in the file's array, from 0; may be repeated.")
]
ClickMmOption = Annotated[list[str] | None, typer.Option(help="Place X,Y,Z in RAS mm; may be repeated.")]
NotOption = Annotated[
    list[str] | None, typer.Option("--not", help="Voxel index X,Y,Z outside the lesion; may be repeated.")
]
BoxOption = Annotated[
    list[str] | None,
    typer.Option(help="Two corners' voxels X,Y,Z,X,Y,Z; with one coordinate equal, a box on that slice."),
]
ScribbleOption = Annotated[
    list[str] | None,
    typer.Option(help="A stroke X,Y,Z:X,Y,Z:... or a painted mask's file; `not:` before it: outside the lesion."),
]
LassoOption = Annotated[
    list[str] | None,
    typer.Option(help="A slice and an outline on it, z=45:X,Y:X,Y:X,Y; `not:` before it: outside the lesion."),
]
PriorOption = Annotated[Path | None, typer.Option(help="A mask to start from, on the scan's grid.")]
PromptsOption = Annotated[
    Path | None, typer.Option(help="A JSON file of prompts, in order (docs/prompts.md); taken before the others.")
]
HOW_TO_POINT = (
    "Give --click X,Y,Z (voxel index), --click-mm X,Y,Z (RAS millimetres), "
    "--box, --scribble, --lasso, --prior or --prompts"
)


def given_prompts(
    volume: Volume,
    file: Path | None,
    prior: Path | None,
    boxes: list[str] | None,
    scribbles: list[str] | None,
    lassos: list[str] | None,
    clicks: list[str] | None,
    clicks_mm: list[str] | None,
    nots: list[str] | None,
) -> list[Prompt]:
    """All that was pointed at: the file's prompts, the prior, then large things before small ones; perhaps nothing.

    Raises:
        PromptError: what cannot be read as a prompt.
        ScanError: a mask that cannot be read.
    """
    from ..prompt_file import read_prior, read_prompts
    from ..prompts import Box, Click

    given: list[Prompt] = read_prompts(file, volume.grid) if file is not None else []
    if prior is not None:
        given.append(read_prior(prior))
    for text in boxes or []:
        corners = _numbers(text, "--box", int, 6)
        given.append(Box(corners[:3], corners[3:]))
    given += [_scribble(text, volume) for text in scribbles or []]
    given += [_lasso(text) for text in lassos or []]
    given += [Click(_numbers(text, "--click", int)) for text in clicks or []]
    given += [Click.at_mm(volume.grid, _numbers(text, "--click-mm", float)) for text in clicks_mm or []]
    given += [Click(_numbers(text, "--not", int), positive=False) for text in nots or []]
    return given


def _scribble(text: str, volume: Volume) -> Prompt:
    from ..formats import read
    from ..prompts import Scribble

    positive, rest = not text.startswith("not:"), text.removeprefix("not:")
    if Path(rest).is_file():
        return Scribble.of(read(rest).array > 0, volume.grid, positive)
    return Scribble.along([_numbers(part, "--scribble", int) for part in rest.split(":")], positive)


def _lasso(text: str) -> Prompt:
    import numpy as np

    from ..prompts import Lasso

    positive, rest = not text.startswith("not:"), text.removeprefix("not:")
    plane, *corners = rest.split(":")
    axis, _, number = plane.partition("=")
    if axis not in ("x", "y", "z") or not number.isdigit() or len(corners) < 3:
        raise PromptError(
            f"--lasso {text!r}: a slice and at least three corners on it, such as z=45:110,80:130,80:120,100"
        )
    outline = np.array([_numbers(corner, "--lasso", float, 2) for corner in corners])
    return Lasso("xyz".index(axis), int(number), outline, positive)


def _numbers(text: str, option: str, kind: type[int] | type[float], count: int = 3) -> tuple[Any, ...]:
    """Numbers separated by commas."""
    try:
        values = tuple(kind(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count:
        example = {2: "110,80", 3: "120,88,45" if kind is int else "-31.5,12,80.2", 6: "100,70,40,140,110,52"}[count]
        words = {2: "two", 3: "three", 6: "six"}[count]
        raise PromptError(f"{option} {text!r}: {words} {'whole ' if kind is int else ''}numbers, such as {example}")
    return values
