"""Lesions as a picture: slices through them, with contours, prompts, a scale and what was measured.

The slices are those of the scan's own array, turned so that patients lie as radiologists are used to: the patient's
right at the viewer's left, anterior or superior at the top, and in the sagittal plane anterior at the left. Nothing is
resampled, and only what is shown is converted. A prompt is marked on the slices where it lies, and on no other.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OutputError
from ..extras import needed
from ..files import check_writable, replacing
from ..masks import Mask
from ..prompts import Prompt
from ..volume import Volume
from .drawing import GROUND, draw, mask_styles
from .planes import Mark, Place, Plane, Sheet, lay_out
from .texts import caption, left_out_note, legend_entries, write_texts
from .window import automatic_window, check_window, value_unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "ENDINGS",
    "Mark",
    "Place",
    "Plane",
    "Sheet",
    "check_picture",
    "check_window",
    "is_own_picture",
    "lay_out",
    "lesion_picture",
    "lesions_picture",
    "picture_mark",
    "save_picture",
]

CREATOR = "Palpate lesion picture"  # in the metadata of each, which no format compresses
_MARK = "Palpate"  # the key of a .png's mark
ENDINGS = (".png", ".jpg", ".jpeg", ".pdf", ".svg")
_HEAD = 4096  # bytes of a .png within which its metadata stand

# Inches; at 150 dpi three planes are 1800 pixels wide.
_WIDTH, _GAP, _TITLE, _NAME = 12.0, 0.15, 0.45, 0.22


def lesion_picture(
    volume: Volume,
    mask: Mask,
    prompts: Sequence[Prompt] = (),
    *,
    numbers: Sequence[int | None] | None = None,
    truth: Mask | None = None,
    window: tuple[float, float] | None = None,
    unit: str | None = None,
    title: str | None = None,
) -> Figure:
    """A lesion in three planes and up to three further slices, 1800 pixels wide, with its volume and extent.

    The planes go through the first foreground prompt where the mask misses it, else through the lesion; further slices
    show the prompts that lie on none of them. What no slice shows is listed below.

    Args:
        volume: the scan.
        mask: the lesion on the scan's grid; may be empty.
        prompts: what was marked, each drawn on the slices where it lies.
        numbers: what is written beside each prompt; None in the place of one: nothing. By default 1, 2, 3, ... where
            there are several prompts.
        truth: what it should have been, drawn dashed.
        window: the scan's values shown as black and as white; None: see `window.automatic_window`.
        unit: of the scan's values, as "SUV"; None: `volume.unit`, else HU for a scan with values below -500.
        title: a line above.

    Raises:
        GeometryError: a mask or a truth on another grid than the scan.
        PromptError: a prompt that does not lie in the scan.
        SettingsError: a window whose first value is not below its second, or matplotlib is not installed.
    """
    sheet = lay_out(volume, [mask], prompts, truth=truth)
    if numbers is None:
        numbers = range(1, len(prompts) + 1) if len(prompts) > 1 else [None] * len(prompts)
    prompted = [
        (prompt, "" if number is None else str(number)) for prompt, number in zip(prompts, numbers, strict=True)
    ]
    return _picture(volume, sheet, [("mask", mask)], prompted, window=window, unit=unit, title=title)


def lesions_picture(
    volume: Volume,
    lesions: Sequence[tuple[int, str, Mask]],
    *,
    window: tuple[float, float] | None = None,
    unit: str | None = None,
    title: str | None = None,
) -> Figure:
    """Several lesions of a scan, each in a colour of its own, on slices that together show as many as possible.

    Three planes go through the largest lesion; up to three further slices show others. What no slice shows is listed
    below.

    Args:
        volume: the scan.
        lesions: the number, the name and the mask of each, on the scan's grid; masks may be empty.
        window: see `lesion_picture`.
        unit: likewise.
        title: likewise.

    Raises:
        GeometryError: a mask on another grid than the scan.
        SettingsError: a window whose first value is not below its second, or matplotlib is not installed.
    """
    named = [(f"{number} {name}", mask) for number, name, mask in lesions]
    sheet = lay_out(volume, [mask for _, mask in named])
    labels = [str(number) for number, *_ in lesions]
    return _picture(volume, sheet, named, (), labels, window=window, unit=unit, title=title)


def _picture(
    volume: Volume,
    sheet: Sheet,
    named: Sequence[tuple[str, Mask]],
    prompted: Sequence[tuple[Prompt, str]],
    labels: Sequence[str] = (),
    *,
    window: tuple[float, float] | None,
    unit: str | None,
    title: str | None,
) -> Figure:
    """A sheet's planes in a row of three or four, or in two rows, and the texts around them."""
    with needed("matplotlib", "pictures need"):
        from matplotlib.figure import Figure

    if unit is None:
        unit = value_unit(volume, sheet.planes)
    shown = automatic_window(sheet.planes, unit) if window is None else check_window(*window)
    names, masks = [name for name, _ in named], [mask for _, mask in named]
    mark_styles = mask_styles(names)
    lines = [caption(volume, masks, shown, unit), *left_out_note(sheet, names, prompted)]
    entries = legend_entries(sheet, mark_styles)
    columns = 4 if len(sheet.planes) == 4 else 3
    edge = (_WIDTH - (columns + 1) * _GAP) / columns
    rows = math.ceil(len(sheet.planes) / columns)
    above = (_GAP if title is None else _TITLE) + rows * (_NAME + edge) + (rows - 1) * _GAP
    figure = Figure(dpi=150, facecolor=GROUND)
    below = write_texts(figure, lines, entries, title, width=_WIDTH, gap=_GAP, above=above)
    height = figure.get_figheight()
    for place, plane in enumerate(sheet.planes):
        row, column = divmod(place, columns)
        left, bottom = _GAP + column * (edge + _GAP), below + (rows - 1 - row) * (edge + _NAME + _GAP)
        axes = figure.add_axes((left / _WIDTH, bottom / height, edge / _WIDTH, edge / height))
        draw(axes, plane, shown, mark_styles, labels, [label for _, label in prompted])
    return figure


def save_picture(figure: Figure, path: str | Path, *, mark: str | None = None) -> None:
    """Write a picture in the format of its path's ending: .png, .jpg, .pdf or .svg.

    Args:
        figure: the picture.
        path: where it goes.
        mark: what `picture_mark` reads of a .png; other formats have none.

    Raises:
        OutputError: another ending, a missing folder, no permission, or a full disk; an old file is left intact.
    """
    with replacing(check_picture(path)) as (staged,), warnings.catch_warnings():
        # A name in letters that matplotlib's font lacks is drawn with boxes in their place.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(staged, dpi=figure.dpi, facecolor=figure.get_facecolor(), **_signature(staged, mark))


def is_own_picture(path: str | Path) -> bool:
    """Whether a file is a picture that `save_picture` wrote; one that was edited since may be too."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            return CREATOR.encode() in file.read(_HEAD if path.suffix.lower() == ".png" else -1)
    except OSError:
        return False


def picture_mark(path: str | Path) -> str | None:
    """The mark with which a .png was saved; None where there is none, or no .png that can be read."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            mark = picture.info.get(_MARK)
    except (OSError, ValueError, SyntaxError):  # what Pillow raises of damaged files
        return None
    return mark if isinstance(mark, str) else None


def check_picture(path: str | Path) -> Path:
    """The path, if a picture can be saved there; asked before long work.

    Raises:
        OutputError: an ending that is no picture's, a missing folder, or no permission.
        SettingsError: matplotlib is not installed.
    """
    with needed("matplotlib", "pictures need"):
        import matplotlib  # noqa: F401 - asked for before the work of drawing
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise OutputError(f"cannot write {path}: a picture's name ends in one of {', '.join(ENDINGS)}")
    return check_writable(path)


def _signature(path: Path, mark: str | None) -> dict[str, Any]:
    """The arguments of `savefig` that put the creator, and a .png's mark, into a picture's metadata."""
    ending = path.suffix.lower()
    if ending in {".jpg", ".jpeg"}:
        return {"pil_kwargs": {"comment": CREATOR}}
    if ending == ".png":
        return {"metadata": {"Software": CREATOR} | ({} if mark is None else {_MARK: mark})}
    return {"metadata": {"Creator": CREATOR}}
