"""The texts around the panels: what was measured, what the marks are, and what no slice shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..masks import Mask
from ..prompts import Prompt
from ..volume import Volume
from .drawing import INK, TRUTH_STYLE, MarkStyle, marker_of, prompt_style, slice_name
from .planes import Sheet

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

MAX_LISTED = 130  # characters of what no slice shows; the rest is counted
MAX_ENTRIES = 12  # of a legend
MAX_NAME = 24  # characters of a name
MAX_TITLE = 110  # characters
_LINE, _PAD = 0.29, 0.08  # inches: of a line of text, and above the first and below the last
_SIZE = 9.5  # points
_HANDLE, _CHARACTER = 4.8, 0.62  # widths in a legend, as shares of the size: of all but the text, and of a character


def caption(volume: Volume, masks: Sequence[Mask], window: tuple[float, float], unit: str | None) -> str:
    """What was measured, and the window, in one line; of a single mask the extent along the patient's axes."""
    if len(masks) == 1 and masks[0].empty:
        measured = "empty mask"
    elif len(masks) == 1:
        edges = [masks[0].extent_mm[axis] for axis, _ in volume.grid.anatomical_axes]
        extent = " × ".join(f"{edge:.0f}" if edge >= 3 else f"{edge:.2g}" for edge in edges)
        measured = f"{_ml(masks[0].volume_ml)} mL   {extent} mm (R–L × A–P × S–I)"
    else:
        measured = f"{len(masks)} lesions, {_ml(sum(mask.volume_ml for mask in masks))} mL in all"
    ends = f"{_number(window, 0)} to {_number(window, 1)}"
    return f"{measured}   ·   window {ends}{'' if unit is None else f' {unit}'}"


def _ml(volume: float) -> str:
    # Rounded as in results first, so that 6.645 mL reads the same in both.
    return f"{round(volume, 4):.2f}" if volume >= 0.1 else f"{volume:.2g}"


def _number(window: tuple[float, float], which: int) -> str:
    """One end of a window, as finely as the window is narrow."""
    digits = max(0, 2 - int(np.floor(np.log10(window[1] - window[0]))))
    return f"{window[which]:.{digits}f}".replace("-", "−")


def left_out_note(sheet: Sheet, names: Sequence[str], prompted: Sequence[tuple[Prompt, str]]) -> list[str]:
    """A line that names what no slice shows, with the slice where it lies; no line where there is nothing."""
    missing = [(shortened(names[number - 1], MAX_NAME), place) for number, place in sheet.masks_left_out]
    for number, place in sheet.prompts_left_out:
        prompt, label = prompted[number - 1]
        missing.append((f"{prompt_style(prompt.kind, prompt.positive).label} {label}".rstrip(), place))
    if not missing:
        return []
    words = [f"{name} ({slice_name(place)})" for name, place in missing]
    listed = words[:1]
    while len(listed) < len(words) and len(", ".join([*listed, words[len(listed)]])) <= MAX_LISTED:
        listed.append(words[len(listed)])
    more = f", and {len(words) - len(listed)} more" if len(listed) < len(words) else ""
    return [f"on other slices: {', '.join(listed)}{more}"]


def legend_entries(sheet: Sheet, mark_styles: Sequence[MarkStyle]) -> list[MarkStyle]:
    """What is drawn on any of the planes, and nothing else: masks, the truth, then the kinds of prompt."""
    planes = sheet.planes
    drawn = [
        mark_style for place, mark_style in enumerate(mark_styles) if any(plane.masks[place].any() for plane in planes)
    ]
    if any(plane.truth is not None and plane.truth.any() for plane in planes):
        drawn.append(TRUTH_STYLE)
    kinds = dict.fromkeys((mark.kind, mark.positive) for plane in planes for mark in plane.marks)
    return [*drawn, *(prompt_style(*kind) for kind in kinds)]


def write_texts(
    figure: Figure,
    lines: Sequence[str],
    entries: Sequence[MarkStyle],
    title: str | None,
    *,
    width: float,
    gap: float,
    above: float,
) -> float:
    """Write the texts of a figure, and set its size; returns the height below the panels, inches.

    Args:
        figure: the picture, without panels.
        lines: the caption, and what follows the legend.
        entries: of the legend.
        title: above the panels, if any.
        width: of the figure, inches.
        gap: between what is drawn and the figure's edge, inches.
        above: the height of all that is not below the panels, inches.
    """
    columns = _columns(entries, width - 2 * gap)
    legend_lines = -(-min(len(entries), MAX_ENTRIES) // columns)
    below = (len(lines) + legend_lines) * _LINE + 2 * _PAD
    height = above + below
    figure.set_size_inches(width, height)
    style: dict[str, Any] = {"color": INK, "va": "center", "parse_math": False}
    top = below - _PAD
    tops = [top - _LINE / 2, *(top - _LINE * (place + legend_lines + 0.5) for place in range(1, len(lines)))]
    for line, at in zip(lines, tops, strict=True):
        figure.text(gap / width, at / height, line, fontsize=_SIZE, **style)
    if entries:
        _legend(figure, entries, columns, (gap / width, (top - _LINE * (1 + legend_lines / 2)) / height))
    if title is not None:
        at = 1 - 0.225 / height
        figure.text(gap / width, at, shortened(title, MAX_TITLE), fontsize=11, fontweight="bold", **style)
    return below


def shortened(text: str, most: int) -> str:
    """A text on one line, cut to so many characters."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _columns(entries: Sequence[MarkStyle], width: float) -> int:
    """How many entries of a legend fit beside each other, in so many inches."""
    longest = max((min(len(mark_style.label), MAX_NAME) for mark_style in entries), default=0)
    return max(1, int(width * 72 // (_SIZE * (_HANDLE + _CHARACTER * longest))))


def _legend(figure: Figure, entries: Sequence[MarkStyle], columns: int, at: tuple[float, float]) -> None:
    from matplotlib.lines import Line2D

    shown = entries if len(entries) <= MAX_ENTRIES else entries[: MAX_ENTRIES - 1]
    handles: list[Artist] = []
    for mark_style in shown:
        style = {
            "color": mark_style.color,
            "linestyle": mark_style.line,
            "label": shortened(mark_style.label, MAX_NAME),
        }
        handles.append(Line2D([], [], markersize=7 if mark_style.filled else 9, **style, **marker_of(mark_style)))
    if len(shown) < len(entries):
        handles.append(Line2D([], [], linestyle="", label=f"and {len(entries) - len(shown)} more"))
    legend = figure.legend(
        handles=handles,
        loc="center left",
        bbox_to_anchor=at,
        ncols=columns,
        frameon=False,
        labelcolor=INK,
        fontsize=_SIZE,
        borderpad=0,
        borderaxespad=0,
        handlelength=2.2,
        columnspacing=1.8,
        labelspacing=0.55,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
