"""A lesion as a picture: three planes through it, with contours, clicks, a scale and what was measured.

The planes are those of the scan's own array, turned so that patients lie as radiologists are used to: the patient's
right at the viewer's left, anterior or superior at the top, and in the sagittal plane anterior at the left. Nothing is
resampled, and only what is shown is converted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import OutputError, ScanError
from ..extras import needed
from ..files import check_writable, replacing
from ..masks import Mask
from ..prompts import Click
from ..volume import Volume
from .planes import Plane, automatic_window, lesion_planes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ENDINGS", "Plane", "check_picture", "is_own_picture", "lesion_picture", "lesion_planes", "save_picture"]

CREATOR = "Palpate lesion picture"  # in the metadata of each, which no format compresses
ENDINGS = (".png", ".jpg", ".jpeg", ".pdf", ".svg")

# Inches; at 150 dpi 1800 x 705 pixels. A line of text takes `_LINE`.
_WIDTH, _PANEL, _GAP, _LINE = 12.0, 3.8, 0.15, 0.45
_GROUND, _BEYOND, _INK = "#0b0d10", "#171b21", "#eceff1"
_MASK, _TRUTH, _CLICK = "#2ff3c5", "#ffc845", "#ff6fb0"


def lesion_picture(
    volume: Volume,
    mask: Mask,
    clicks: Sequence[Click] = (),
    *,
    truth: Mask | None = None,
    window: tuple[float, float] | None = None,
    title: str | None = None,
) -> Figure:
    """A lesion in three planes, about 1800 x 700 pixels, with its volume, extent and slices.

    Args:
        volume: the scan.
        mask: the lesion on the scan's grid; may be empty.
        clicks: what was clicked, drawn as crosses; faint where a click lies in another slice.
        truth: what it should have been, drawn dashed.
        window: the scan's values shown as black and as white; None chooses them from what is shown.
        title: a line above.

    Raises:
        GeometryError: a mask or a truth on another grid than the scan.
        PromptError: a click outside the scan.
        ScanError: a window whose first value is not below its second.
        SettingsError: matplotlib is not installed.
    """
    with needed("matplotlib", "pictures need"):
        from matplotlib.figure import Figure

    planes = lesion_planes(volume, mask, clicks, truth=truth)
    black, white = automatic_window(volume, planes) if window is None else window
    if not (np.isfinite([black, white]).all() and black < white):
        raise ScanError(f"a window is two values, black and then white, not {window!r}; give the lower one first")
    height = _LINE + _PANEL + (_GAP if title is None else _LINE)
    figure = Figure(figsize=(_WIDTH, height), dpi=150, facecolor=_GROUND)
    for column, plane in enumerate(planes):
        left = _GAP + column * (_PANEL + _GAP)
        axes = figure.add_axes((left / _WIDTH, _LINE / height, _PANEL / _WIDTH, _PANEL / height))
        _draw(axes, plane, (black, white))
    _write_texts(figure, _caption(volume, mask, planes, (black, white)), title)
    _legend(figure, clicks=bool(clicks), truth=truth is not None, mask=not mask.empty)
    return figure


def save_picture(figure: Figure, path: str | Path) -> None:
    """Write a picture in the format of its path's ending: .png, .jpg, .pdf or .svg.

    Raises:
        OutputError: another ending, a missing folder, no permission, or a full disk; an old file is left intact.
    """
    with replacing(check_picture(path)) as (staged,):
        figure.savefig(staged, dpi=figure.dpi, facecolor=figure.get_facecolor(), **_signature(staged))


def is_own_picture(path: str | Path) -> bool:
    """Whether a file is a picture that `save_picture` wrote; one that was edited since may be too."""
    try:
        return CREATOR.encode() in Path(path).read_bytes()
    except OSError:
        return False


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


def _signature(path: Path) -> dict[str, Any]:
    """The arguments of `savefig` that put the creator into a picture's metadata."""
    ending = path.suffix.lower()
    if ending in {".jpg", ".jpeg"}:
        return {"pil_kwargs": {"comment": CREATOR}}
    return {"metadata": {"Software" if ending == ".png" else "Creator": CREATOR}}


def _draw(axes: Axes, plane: Plane, window: tuple[float, float]) -> None:
    """One plane in its square panel, in millimetres from the slice's top left corner."""
    (height, width), side = plane.size_mm, plane.view_mm
    axes.set_facecolor(_BEYOND)
    axes.imshow(
        # Clipped before it is interpolated, or edges beyond black and white would turn into steps.
        np.clip(plane.values, *window),
        cmap="gray",
        vmin=window[0],
        vmax=window[1],
        extent=(0, width, height, 0),
        interpolation="bilinear",
    )
    axes.set_xlim((width - side) / 2, (width + side) / 2)
    axes.set_ylim((height + side) / 2, (height - side) / 2)
    axes.set_xticks([])
    axes.set_yticks([])
    for edge in axes.spines.values():
        edge.set_color("#2a3037")
    if plane.truth is not None:
        _outline(axes, plane, plane.truth, _TRUTH, linestyles=[(0, (4, 2.5))])
    _outline(axes, plane, plane.lesion, _MASK, fill=True)
    _crosses(axes, plane)
    _letters(axes, plane)
    _scale_bar(axes, side)


def _outline(
    axes: Axes, plane: Plane, shape: npt.NDArray[np.bool_], color: str, *, fill: bool = False, **style: object
) -> None:
    """The border of a shape, midway between the voxels inside and those outside; closed at the slice's edge."""
    if not shape.any():
        return
    padded = np.pad(shape, 1).astype(np.float32)
    rows, columns = ((np.arange(n) - 0.5) * s for n, s in zip(padded.shape, plane.spacing, strict=True))
    if fill:
        axes.contourf(columns, rows, padded, levels=[0.5, 1.5], colors=[color], alpha=0.13)
    axes.contour(columns, rows, padded, levels=[0.5], colors=[color], linewidths=1.4, **style)


def _crosses(axes: Axes, plane: Plane) -> None:
    from matplotlib.patheffects import Normal, Stroke

    for row, column, here in plane.clicks:
        at = (column + 0.5) * plane.spacing[1], (row + 0.5) * plane.spacing[0]
        style = {"path_effects": [Stroke(linewidth=3.2, foreground="black"), Normal()]} if here else {"alpha": 0.55}
        axes.plot(*at, "+", color=_CLICK, ms=10, mew=1.6, **style)


def _letters(axes: Axes, plane: Plane) -> None:
    """The patient's sides at the panel's edges, and which slice this is."""
    left, right, top, bottom = plane.letters
    for letter, x, y in ((left, 0.02, 0.5), (right, 0.98, 0.5), (top, 0.5, 0.975), (bottom, 0.5, 0.025)):
        _text(axes, x, y, letter, color=_INK, fontsize=10, fontweight="bold")
    _text(axes, 0.02, 0.975, f"{plane.name}  {'xyz'[plane.axis]} = {plane.index}", color=_INK, fontsize=8.5)


def _scale_bar(axes: Axes, side: float) -> None:
    length = _rounded_down(side / 5)
    right, bottom = axes.get_xlim()[1] - 0.03 * side, axes.get_ylim()[0] - 0.03 * side
    for color, width in (("black", 4), (_INK, 2)):
        axes.plot([right - length, right], [bottom, bottom], color=color, linewidth=width, solid_capstyle="butt")
    _text(axes, 0.97 - length / side / 2, 0.045, f"{length:g} mm", ha="center", va="bottom", color=_INK, fontsize=8)


def _rounded_down(length: float) -> float:
    """The longest of 1, 2, 5, 10, 20, ... and 0.5, 0.2, 0.1, ... that is not longer."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(next(round(n * power, 12) for n in (5, 2, 1) if n * power <= length * (1 + 1e-9)))


def _text(axes: Axes, x: float, y: float, text: str, **style: object) -> None:
    """Text at a place of the panel, legible on black and on white; near an edge they grow away from it."""
    from matplotlib.patheffects import withStroke

    placed: dict[str, Any] = {
        "ha": "left" if x < 0.3 else "right" if x > 0.7 else "center",
        "va": "bottom" if y < 0.3 else "top" if y > 0.7 else "center",
        **style,
    }
    halo = withStroke(linewidth=1.4, foreground="black")
    axes.text(x, y, text, transform=axes.transAxes, path_effects=[halo], **placed)


def _caption(volume: Volume, mask: Mask, planes: Sequence[Plane], window: tuple[float, float]) -> str:
    """What was measured, in one line; the extent along the patient's axes."""
    edges = [mask.extent_mm[axis] for axis, _ in volume.grid.anatomical_axes]
    extent = " × ".join(f"{edge:.0f}" if edge >= 3 else f"{edge:.2g}" for edge in edges)
    size = f"{mask.volume_ml:.2f}" if mask.volume_ml >= 0.1 else f"{mask.volume_ml:.2g}"
    measured = "empty mask" if mask.empty else f"{size} mL   {extent} mm (R–L × A–P × S–I)"
    slices = ", ".join(f"{plane.name} {'xyz'[plane.axis]} {plane.index}" for plane in planes)
    return f"{measured}   ·   slices {slices}   ·   window {_number(window, 0)} to {_number(window, 1)}"


def _number(window: tuple[float, float], which: int) -> str:
    """One end of a window, as finely as the window is narrow."""
    digits = max(0, 2 - int(np.floor(np.log10(window[1] - window[0]))))
    return f"{window[which]:.{digits}f}".replace("-", "−")


def _write_texts(figure: Figure, caption: str, title: str | None) -> None:
    height = figure.get_figheight()
    figure.text(_GAP / _WIDTH, _LINE / 2 / height, caption, color=_INK, fontsize=9.5, va="center")
    if title is not None:
        top = 1 - _LINE / 2 / height
        figure.text(_GAP / _WIDTH, top, title, color=_INK, fontsize=11, fontweight="bold", va="center")


def _legend(figure: Figure, *, mask: bool, truth: bool, clicks: bool) -> None:
    from matplotlib.lines import Line2D

    known: dict[str, tuple[bool, dict[str, Any]]] = {
        "mask": (mask, {"color": _MASK}),
        "truth": (truth, {"color": _TRUTH, "linestyle": (0, (4, 2))}),
        "click": (clicks, {"color": _CLICK, "marker": "+", "linestyle": "", "markeredgewidth": 1.6}),
    }
    lines = [Line2D([], [], label=name, **style) for name, (drawn, style) in known.items() if drawn]
    if lines:
        figure.legend(
            handles=lines,
            loc="center right",
            bbox_to_anchor=(1 - _GAP / _WIDTH, _LINE / 2 / figure.get_figheight()),
            ncols=len(lines),
            frameon=False,
            labelcolor=_INK,
            fontsize=9.5,
            borderpad=0,
            borderaxespad=0,
            handlelength=1.8,
        )
