"""The prompts on a command line: the options of every verb that takes them, and how they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .verbs import OptionGroup

if TYPE_CHECKING:
    from ..prompts import Prompt
    from ..volume import Volume

_OTHERS = "--box, --scribble, --lasso, --initial-mask or --prompts"
HOW_TO_POINT = f"Give --click X,Y,Z (voxel index), --click-mm=X,Y,Z (RAS millimetres), {_OTHERS}"
HOW_TO_CORRECT = (
    "Give --click or --background X,Y,Z (voxel index), --click-mm=X,Y,Z or --background-mm=X,Y,Z (RAS millimetres), "
    f"{_OTHERS}"
)
_PANEL = "Prompts"


@dataclass(frozen=True)
class GivenPrompts:
    """The prompts of a command line, as they were typed.

    Attributes:
        files: JSON files of prompts.
        texts: the other options' values, as `(kind, text)`: initial masks, then large things before small ones.
        loose_box: boxes that do not say whether they bound the mask are hints.
    """

    files: tuple[Path, ...]
    texts: tuple[tuple[str, str], ...]
    loose_box: bool = False

    def __bool__(self) -> bool:
        return bool(self.files or self.texts)

    def read(self, volume: Volume, warn: Callable[[str], None]) -> list[Prompt]:
        """The prompts on a scan: those of the files, initial masks, foreground prompts, then background prompts.

        Args:
            volume: the scan.
            warn: called with each note about a mask's file.

        Raises:
            PromptError: what cannot be read as a prompt.
            ScanError: a mask that cannot be read.
        """
        from ..prompt_file import read_prompts, with_loose_boxes
        from ..prompt_text import from_text

        grid, loose = volume.grid, self.loose_box
        filed = [prompt for file in self.files for prompt in read_prompts(file, grid, loose_boxes=loose)]
        entries = [from_text(kind, text, _option(kind)) for kind, text in self.texts]
        typed = [entry.prompt(grid, Path()) for entry in (with_loose_boxes(entries) if loose else entries)]
        for prompt in (*filed, *typed):
            for note in prompt.notes:
                warn(note)
        return filed + sorted(typed, key=lambda prompt: not prompt.positive)

    def read_from(self) -> tuple[Path, ...]:
        """Every file that the prompts are read from: the files, masks that they name, initial masks, painted strokes.

        Raises:
            PromptError: what cannot be read as a prompt.
        """
        from ..prompt_file import read_entries
        from ..prompt_text import from_text, named_files

        listed: list[Path] = []
        for file in self.files:
            listed += (file, *named_files(read_entries(file), file.parent))
        masks = [(kind, text) for kind, text in self.texts if kind in ("initial-mask", "scribble")]
        return (*listed, *named_files((from_text(kind, text, _option(kind)) for kind, text in masks), Path()))


def _option(kind: str) -> str:
    return "--click-mm" if kind == "mm" else f"--{kind}"


def _given(
    click: Annotated[
        list[str] | None,
        typer.Option(rich_help_panel=_PANEL, help="Voxel index X,Y,Z in the file's array, from 0; may be repeated."),
    ] = None,
    click_mm: Annotated[
        list[str] | None, typer.Option(rich_help_panel=_PANEL, help="Place X,Y,Z in RAS mm; may be repeated.")
    ] = None,
    background: Annotated[
        list[str] | None,
        typer.Option(rich_help_panel=_PANEL, help="Voxel index X,Y,Z outside the lesion; may be repeated."),
    ] = None,
    background_mm: Annotated[
        list[str] | None,
        typer.Option(rich_help_panel=_PANEL, help="Place X,Y,Z outside the lesion in RAS mm; may be repeated."),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=_PANEL,
            help="Two corners' voxels X,Y,Z,X,Y,Z, which bound the mask; with one coordinate equal, a hint on that "
            "slice.",
        ),
    ] = None,
    box_mm: Annotated[
        list[str] | None,
        typer.Option(rich_help_panel=_PANEL, help="A box by two corners in RAS mm, X,Y,Z,X,Y,Z; may be repeated."),
    ] = None,
    loose_box: Annotated[
        bool,
        typer.Option("--loose-box", rich_help_panel=_PANEL, help="Boxes are hints: the mask may go on outside them."),
    ] = False,
    scribble: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=_PANEL,
            help="A stroke X,Y,Z:X,Y,Z:... or a painted mask's file; `background:` before it: outside the lesion.",
        ),
    ] = None,
    lasso: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=_PANEL,
            help="A slice and an outline on it, z=45:X,Y:X,Y:X,Y; `background:` before it: outside the lesion.",
        ),
    ] = None,
    initial_mask: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=_PANEL,
            metavar="<path>",
            help="A mask to start from, on the scan's grid; may be repeated.",
        ),
    ] = None,
    prompts: Annotated[
        list[Path] | None,
        typer.Option(
            rich_help_panel=_PANEL,
            help="A JSON file of prompts, in its order (docs/how-to/prompts.md); may be repeated. Prompts are taken in "
            "this order: files, initial masks, boxes, boxes in mm, strokes, lassos, clicks, clicks in mm; then "
            "background strokes, lassos, clicks and clicks in mm; within each of these, as typed.",
        ),
    ] = None,
) -> GivenPrompts:
    kinds = {
        "initial-mask": initial_mask,
        "box": box,
        "box-mm": box_mm,
        "scribble": scribble,
        "lasso": lasso,
        "click": click,
        "mm": click_mm,
        "background": background,
        "background-mm": background_mm,
    }
    texts = tuple((kind, text) for kind, given in kinds.items() for text in given or ())
    return GivenPrompts(tuple(prompts or ()), texts, loose_box)


PromptOptions = Annotated[GivenPrompts, OptionGroup(_given)]
