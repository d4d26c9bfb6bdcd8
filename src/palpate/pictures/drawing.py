"""One plane drawn in its panel: the slice, contours, prompts, sides, and a scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .planes import Mark, Place, Plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GROUND, BEYOND, INK = "#0b0d10", "#171b21", "#eceff1"
# At least 24 apart in CIELAB for protan, deutan and tritan readers too (Machado et al. 2009), but for white, which is
# dotted; whatever has one colour differs in form.
MASK, TRUTH, FOREGROUND, BACKGROUND, INITIAL = "#2ff3c5", "#ffb000", "#e8488a", "#4d9dff", "#ffffff"
LESIONS = (MASK, "#ffb000", "#e8488a", "#4d9dff", "#fff3a8")
_LINES: tuple[Any, ...] = ("-", (0, (4, 2.5)), (0, (1, 1.5)))
_TRUTH_LINE: Any = (0, (4, 2.5))
_DOTS: Any = (0, (1, 1.5))

_DIRECTIONS = {
    "axial": ("above", "below"),
    "coronal": ("in front", "behind"),
    "sagittal": ("to the right", "to the left"),
}


@dataclass(frozen=True)
class MarkStyle:
    """How a thing is drawn, here and in the legend.

    Attributes:
        label: its name in the legend.
        color: of its line, its marker or its filling.
        line: matplotlib's line style; empty: no line.
        marker: matplotlib's marker, or "minus", a circle with a minus in it; empty: none.
        filled: whether its region is filled.
    """

    label: str
    color: str
    line: Any = "-"
    marker: str = ""
    filled: bool = False


_LOOKS = {
    ("click", True): MarkStyle("foreground click", FOREGROUND, "", "+"),
    ("click", False): MarkStyle("background click", BACKGROUND, "", "minus"),
    ("box", True): MarkStyle("box", FOREGROUND, "-"),
    ("scribble", True): MarkStyle("foreground stroke", FOREGROUND, "", "s", filled=True),
    ("scribble", False): MarkStyle("background stroke", BACKGROUND, "", "s", filled=True),
    ("lasso", True): MarkStyle("foreground lasso", FOREGROUND, (0, (6, 1.5, 1, 1.5))),
    ("lasso", False): MarkStyle("background lasso", BACKGROUND, (0, (6, 1.5, 1, 1.5))),
    ("initial_mask", True): MarkStyle("initial mask", INITIAL, _DOTS),
}
TRUTH_STYLE = MarkStyle("truth", TRUTH, _TRUTH_LINE)


def prompt_style(kind: str, positive: bool) -> MarkStyle:
    """How prompts of a kind are drawn, and what the legend calls them."""
    return _LOOKS[kind, positive]


def marker_of(mark_style: MarkStyle) -> dict[str, Any]:
    """The arguments of `Line2D` for a style's marker."""
    if mark_style.marker != "minus":
        return {"marker": mark_style.marker, "markeredgewidth": 1.6}
    from matplotlib.path import Path

    bar = Path([(-0.55, 0), (0.55, 0)])
    circled = Path.make_compound_path(Path.unit_circle(), bar)
    return {"marker": circled, "markeredgewidth": 1.6, "markerfacecolor": "none"}


def mask_styles(names: Sequence[str]) -> list[MarkStyle]:
    """How masks are drawn: each in a colour of its own, and after five with another line."""
    count = len(LESIONS)
    return [
        MarkStyle(name, LESIONS[place % count], _LINES[place // count % len(_LINES)])
        for place, name in enumerate(names)
    ]


def position(place: Place) -> str:
    """How far a slice lies from the picture's first slice of its name, in words; empty for that slice itself."""
    if place.offset_mm == 0:
        return ""
    away = abs(place.offset_mm)
    length = f"{away:.0f}" if away >= 3 else f"{away:.2g}"
    return f"{length} mm {_DIRECTIONS[place.name][place.offset_mm < 0]}"


def slice_name(place: Place) -> str:
    """A slice's name and index, and how far it lies from the first of its name: "axial z = 69, 12 mm below"."""
    return ", ".join(filter(None, (f"{place.name} {'xyz'[place.axis]} = {place.index}", position(place))))


def draw(
    axes: Axes,
    plane: Plane,
    window: tuple[float, float],
    mark_styles: Sequence[MarkStyle],
    labels: Sequence[str],
    prompt_labels: Sequence[str],
) -> None:
    """One plane in its square panel, in millimetres from the slice's top left corner.

    Args:
        axes: the panel.
        plane: the slice.
        window: the values shown as black and as white.
        mark_styles: of each of the plane's masks.
        labels: what to write beside each mask; none: nothing.
        prompt_labels: what to write beside each prompt; empty: nothing.
    """
    (height, width), side = plane.size_mm, plane.view_mm
    axes.set_facecolor(BEYOND)
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
        _outline(axes, plane, plane.truth, TRUTH_STYLE)
    for place, (mask, mark_style) in enumerate(zip(plane.masks, mark_styles, strict=True)):
        _outline(axes, plane, mask, mark_style, filling=0.13)
        if labels and mask.any():
            _label(axes, plane, _top(mask), labels[place], mark_style.color)
    for mark in plane.marks:
        _mark(axes, plane, mark, prompt_labels[mark.number - 1])
    _letters(axes, plane)
    _scale_bar(axes, side)


def _outline(
    axes: Axes, plane: Plane, shape: npt.NDArray[np.bool_], mark_style: MarkStyle, *, filling: float = 0
) -> None:
    """The border of a shape, midway between the voxels inside and those outside; closed at the slice's edge."""
    if not shape.any():
        return
    padded = np.pad(shape, 1).astype(np.float32)
    rows, columns = ((np.arange(n) - 0.5) * s for n, s in zip(padded.shape, plane.spacing, strict=True))
    if filling:
        axes.contourf(columns, rows, padded, levels=[0.5, 1.5], colors=[mark_style.color], alpha=filling)
    style = mark_style.line or "-"
    axes.contour(columns, rows, padded, levels=[0.5], colors=[mark_style.color], linewidths=1.4, linestyles=[style])


def _mark(axes: Axes, plane: Plane, mark: Mark, label: str) -> None:
    """A prompt where it lies: a click's marker, a closed line, or a region."""
    from matplotlib.patheffects import Normal, Stroke

    mark_style = prompt_style(mark.kind, mark.positive)
    if mark.points is None:
        assert mark.region is not None
        _outline(axes, plane, mark.region, mark_style, filling=0.5 if mark_style.filled else 0)
        anchor = _top(mark.region)
    else:
        rows, columns = ((mark.points[:, side] + 0.5) * plane.spacing[side] for side in (0, 1))
        if mark_style.marker:
            halo = [Stroke(linewidth=3.2, foreground="black"), Normal()]
            # Whole, and above letters: a click may lie on the scan's first row.
            style: dict[str, Any] = {
                "markersize": 10,
                "path_effects": halo,
                "clip_on": False,
                "zorder": 5,
                **marker_of(mark_style),
            }
            axes.plot(columns, rows, "", color=mark_style.color, **style)
        else:
            closed = np.append(columns, columns[0]), np.append(rows, rows[0])
            halo = [Stroke(linewidth=2.6, foreground="black"), Normal()]
            axes.plot(*closed, color=mark_style.color, linestyle=mark_style.line, linewidth=1.4, path_effects=halo)
        row, column = mark.points[np.lexsort((-mark.points[:, 1], mark.points[:, 0]))[0]].tolist()
        anchor = row, column
    if label:
        _label(axes, plane, anchor, label, mark_style.color)


def _top(shape: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Row and column of a shape's highest voxel; of several the one furthest to the right."""
    row = int(shape.any(axis=1).argmax())
    return row, float(np.flatnonzero(shape[row])[-1])


def _label(axes: Axes, plane: Plane, anchor: tuple[float, float], label: str, color: str) -> None:
    """A few characters to the upper right of a voxel; near the panel's right or upper edge, on the other side."""
    from matplotlib.patheffects import withStroke

    (height, width), side = plane.size_mm, plane.view_mm
    x, y = (anchor[1] + 0.5) * plane.spacing[1], (anchor[0] + 0.5) * plane.spacing[0]
    right, top = x < (width + 0.88 * side) / 2, y > (height - 0.88 * side) / 2
    axes.annotate(
        label,
        (x, y),
        xytext=(3.5 if right else -3.5, 3.5 if top else -3.5),
        textcoords="offset points",
        ha="left" if right else "right",
        va="bottom" if top else "top",
        color=color,
        fontsize=8.5,
        fontweight="bold",
        path_effects=[withStroke(linewidth=2, foreground="black")],
    )


def _letters(axes: Axes, plane: Plane) -> None:
    """The patient's sides at the panel's edges; and above it, where it covers nothing, which slice this is."""
    left, right, top, bottom = plane.letters
    for letter, x, y in ((left, 0.02, 0.5), (right, 0.98, 0.5), (top, 0.5, 0.975), (bottom, 0.5, 0.025)):
        _text(axes, x, y, letter, color=INK, fontsize=10, fontweight="bold")
    above: dict[str, Any] = {"xycoords": "axes fraction", "xytext": (0, 4), "textcoords": "offset points"}
    axes.annotate(slice_name(plane.place), (0, 1), va="bottom", color=INK, fontsize=9, **above)


def _scale_bar(axes: Axes, side: float) -> None:
    length = _rounded_down(side / 5)
    right, bottom = axes.get_xlim()[1] - 0.03 * side, axes.get_ylim()[0] - 0.03 * side
    for color, width in (("black", 4), (INK, 2)):
        axes.plot([right - length, right], [bottom, bottom], color=color, linewidth=width, solid_capstyle="butt")
    _text(axes, 0.97 - length / side / 2, 0.045, f"{length:g} mm", ha="center", va="bottom", fontsize=8)


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
        "color": INK,
        **style,
    }
    halo = withStroke(linewidth=1.4, foreground="black")
    axes.text(x, y, text, transform=axes.transAxes, path_effects=[halo], **placed)
