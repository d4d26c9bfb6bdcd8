"""Where results may be written: refused before any work, wherever something else would be lost."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import OutputError, SettingsError
from .console import given_options
from .verbs import OptionGroup

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..masks import Mask
    from ..volume import Volume
    from .console import Console

MAX_VALUES = 200  # different ones in a mask; of 8 bits, a scan has nearly 256

OverwriteOption = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace a file that Palpate did not write, or that was changed since."),
]


@dataclass(frozen=True)
class PictureDisplay:
    """How the scan is shown in a picture, as typed; of what is None, the picture decides."""

    unit: str | None = None
    window: tuple[float, float] | None = None


def _picture_display(
    unit: Annotated[
        str | None,
        typer.Option(
            help="In pictures, the unit of the scan's values where its file does not say, as SUV (DICOM does)."
        ),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH",
            help="In pictures, the scan's values shown as black and as white, as -160,240; chosen by default.",
        ),
    ] = None,
) -> PictureDisplay:
    return PictureDisplay(unit, None if window is None else _window(window))


def _window(typed: str) -> tuple[float, float]:
    """Two numbers with a comma between them.

    Raises:
        SettingsError: they are something else, or no window.
    """
    from ..pictures import check_window

    try:
        low, high = map(float, typed.split(","))
    except ValueError:
        raise SettingsError(f"--window {typed}: give two numbers with a comma between them, as -160,240") from None
    try:
        return check_window(low, high)
    except SettingsError as error:
        raise SettingsError(f"--window {typed}: {error}") from None


PictureDisplayOptions = Annotated[PictureDisplay, OptionGroup(_picture_display)]


def check_display(context: typer.Context, picture: Path | None, option: str) -> None:
    """Refuse a unit or a window on the command line where no picture is asked for; the user's defaults are not used.

    Args:
        context: the verb's.
        picture: the picture, or the folder of pictures.
        option: that asks for it.

    Raises:
        SettingsError: the message names both options.
    """
    given = [f"--{name} {context.params[name]}" for name in ("unit", "window") if name in given_options(context)]
    if picture is None and given:
        raise SettingsError(f"{', '.join(given)}: for a picture; give {option} too, or leave it out")


def check_outputs(
    images: tuple[Path | None, ...], picture: Path | None, truth: Path | None, scan: Volume | None = None
) -> None:
    """Refuse, before any work, results that could not be written; once the scan is known, those in its place too.

    Raises:
        OutputError: the message names the file and what to do.
    """
    from ..formats import check_output, check_spared
    from ..pictures import check_picture

    for path in images:
        if path is not None:
            check_output(path, scan)
    if picture is not None:
        check_picture(picture)
        if scan is not None:
            check_spared(picture, scan)
    named = [path.resolve() for path in (*images, picture) if path is not None]
    if len(set(named)) < len(named):
        raise OutputError(f"two results would go to one file: {', '.join(map(str, named))}; name them apart")
    if truth is not None and truth.resolve() in named:
        raise OutputError(f"cannot write {truth}: it is the --truth to compare with, and would be lost; name another")


def check_replaced(overwrite: bool, *images: Path | None, picture: Path | None = None) -> None:
    """Refuse to replace an image or a picture that Palpate did not write, or an image that was changed since.

    Args:
        overwrite: whether the user asked for it.
        images: the files on a scan's grid; None where there is none.
        picture: the picture, if any.

    Raises:
        OutputError: the message names the file and the option.
    """
    from ..formats import check_replaceable

    if overwrite:
        return
    check_replaceable(*images)
    if picture is not None:
        from ..pictures import is_own_picture

        check_own(picture, is_own_picture)


def check_own(path: Path, is_own: Callable[[Path], bool]) -> None:
    """Refuse to replace a file that Palpate did not write.

    Args:
        path: the file, which may not exist.
        is_own: whether Palpate wrote a file that exists.

    Raises:
        OutputError: the message names the file and the option.
    """
    if path.exists() and not is_own(path):
        raise OutputError(
            f"{path} exists, and Palpate did not write it, or an earlier version did; give --overwrite to replace it, "
            "or name another"
        )


def check_inputs_stay(results: tuple[Path | None, ...], inputs: tuple[Path, ...]) -> None:
    """Refuse results in place of files that prompts are read from.

    Raises:
        OutputError: the message names the file.
    """
    places = {path.resolve() for path in results if path is not None}
    for path in inputs:
        if path.resolve() in places:
            raise OutputError(f"cannot write {path}: prompts are read from it, and it would be lost; name another")


def read_truth(console: Console, path: Path | None, volume: Volume, scan: Path) -> Mask | None:
    """A known mask on the scan's grid, or None.

    Args:
        console: reads it.
        path: its file.
        volume: the scan.
        scan: the scan's file, which the error for another grid names.

    Raises:
        GeometryError: it lies on another grid.
        ScanError: it cannot be read, or is no mask.
    """
    if path is None:
        return None
    from ..errors import GeometryError
    from ..masks import Mask

    known = console.read(path)
    differences = known.grid.differences(volume.grid)
    if differences:
        command = shlex.join(["palpate", "resample", str(path), "--like", str(scan), "-o", "truth_on_scan.nii.gz"])
        raise GeometryError(
            f"{path}: not on the scan's grid, so it cannot be compared: {'; '.join(differences)}; first run {command}"
        )
    _check_labels(known.array, path)
    return Mask(known.array > 0, (0, 0, 0), volume.grid)  # from which another program's header may differ by rounding


def _check_labels(array: npt.NDArray[Any], path: Path) -> None:
    """Refuse a scan where a mask is meant.

    Raises:
        FormatError: fractions, or more different values than a mask has.
    """
    import numpy as np

    from ..errors import FormatError

    fractions = array.dtype.kind == "f" and bool((array != np.rint(array)).any())
    if not fractions and float(array.max()) - float(array.min()) < MAX_VALUES:  # spares sorting a large mask
        return
    found = np.unique(array).size
    if fractions or found > MAX_VALUES:
        raise FormatError(
            f"{path}: holds {found:,} different values{', fractions among them' if fractions else ''}, so it is no "
            "mask; give --truth a mask of whole numbers, whose values above 0 are the lesion"
        )


def text(path: Path | None) -> str | None:
    """A path in a record."""
    return None if path is None else str(path)
