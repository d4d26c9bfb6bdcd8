"""What is pointed at on the command line: the options of every verb that takes prompts, and how they are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
InitialMaskOption = Annotated[
    list[str] | None, typer.Option(metavar="<path>", help="A mask to start from, on the scan's grid; may be repeated.")
]
PromptsOption = Annotated[
    list[Path] | None,
    typer.Option(help="A JSON file of prompts, in order (docs/prompts.md); taken before the others; may be repeated."),
]
_OTHERS = "--box, --scribble, --lasso, --prior or --prompts"
HOW_TO_POINT = f"Give --click X,Y,Z (voxel index), --click-mm X,Y,Z (RAS millimetres), {_OTHERS}"
HOW_TO_CORRECT = f"Give --click or --not X,Y,Z (voxel index), --click-mm X,Y,Z (RAS millimetres), {_OTHERS}"


def prompt_files(files: list[Path] | None, priors: list[str] | None, scribbles: list[str] | None) -> tuple[Path, ...]:
    """The files that prompts are read from: files of prompts, what these name, priors, painted strokes.

    Raises:
        PromptError: what cannot be read as a prompt.
    """
    from ..prompt_file import read_entries
    from ..prompt_text import from_text, named_files

    listed: list[Path] = []
    for file in files or []:
        listed += (file, *named_files(read_entries(file), file.parent))
    texts = [("prior", text) for text in priors or []] + [("scribble", text) for text in scribbles or []]
    return (*listed, *named_files((from_text(kind, text, f"--{kind}") for kind, text in texts), Path()))


def given_prompts(
    volume: Volume,
    files: list[Path] | None,
    priors: list[str] | None,
    boxes: list[str] | None,
    scribbles: list[str] | None,
    lassos: list[str] | None,
    clicks: list[str] | None,
    clicks_mm: list[str] | None,
    nots: list[str] | None,
) -> list[Prompt]:
    """All that was pointed at: the files' prompts, the priors, then large things before small, what denies last.

    Raises:
        PromptError: what cannot be read as a prompt.
        ScanError: a mask that cannot be read.
    """
    from ..prompt_file import read_prompts
    from ..prompt_text import from_text

    given: list[Prompt] = [prompt for file in files or [] for prompt in read_prompts(file, volume.grid)]
    texts = {
        "prior": priors,
        "box": boxes,
        "scribble": scribbles,
        "lasso": lassos,
        "click": clicks,
        "mm": clicks_mm,
        "not": nots,
    }
    pointed: list[Prompt] = []
    for kind, said in texts.items():
        option = "--click-mm" if kind == "mm" else f"--{kind}"
        pointed += [from_text(kind, text, option).prompt(volume.grid, Path()) for text in said or []]
    return given + sorted(pointed, key=lambda prompt: not prompt.positive)
