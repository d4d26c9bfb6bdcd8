"""A model's description on a screen: a summary of a few lines, or all of it."""

from __future__ import annotations

import shutil
import textwrap
from typing import Any

MAX_FIGURES = 8  # lines of held-out figures in the summary


def summary(record: dict[str, Any]) -> list[str]:
    """What most people ask of a model: size, prompts, crop, intensities, origin, licence, data, figures.

    Args:
        record: as `bundle.describe` gives it.
    """
    provenance, parameters = record["provenance"], record["parameters"]
    lines = {
        "model": f"{record['name']}, {parameters['all']:,} parameters; a training that begins with it tunes "
        f"{parameters['tuned by a cohort']:,} of them ({record['tuning']})",
        "prompts": _prompts(record["network"]),
        "crop": _crop(record["preprocessing"]),
        "intensities": _intensities(record["preprocessing"]["normalisation"]),
        "notice": provenance["notice"],
        "origin": provenance["origin"],
        "licence": provenance["licence"],
    }
    columns = max(60, shutil.get_terminal_size((100, 24)).columns)
    shown = [line for name, text in lines.items() if text for line in _wrapped(f"{name}: {text}", columns)]
    shown += ["data"] * bool(provenance["data"])
    shown += ["  " + textwrap.shorten(source, columns - 2, placeholder=" ...") for source in provenance["data"]]
    return shown + _figures(provenance["figures"])


def _wrapped(text: str, columns: int) -> list[str]:
    return textwrap.wrap(text, columns, subsequent_indent="  ", max_lines=2, placeholder=" ...")


def _prompts(network: dict[str, Any]) -> str:
    if network["promptless"]:
        return "none: an automatic model, for `palpate propose`"
    if not network["dense_width"]:
        return "foreground clicks"
    return "clicks, boxes, strokes, lassos and initial masks"


def _crop(preprocessing: dict[str, Any]) -> str:
    voxels, edges = preprocessing["crop"], preprocessing["spacing"]
    finest, coarsest = preprocessing["zoom"]
    text = f"{' x '.join(map(str, voxels))} voxels of {' x '.join(f'{edge:g}' for edge in edges)} mm"
    return text if (finest, coarsest) == (1, 1) else f"{text}, zoom {finest:g} to {coarsest:g}"


def _intensities(normalisation: dict[str, Any]) -> str:
    values = {name: value for name, value in normalisation.items() if name != "kind"}
    numbers = ", ".join(f"{name} {value}" for name, value in values.items())
    return f"{normalisation['kind'].replace('_', ' ')}{': ' if numbers else ''}{numbers}"


def _figures(figures: dict[str, Any]) -> list[str]:
    """Held-out figures, where they are few; else how many there are."""
    lines = described({"figures": figures})
    return lines if len(lines) <= MAX_FIGURES else [f"figures: {len(figures)} tables of held-out patients, in --all"]


def described(record: dict[str, Any], indent: str = "") -> list[str]:
    """A nested record as indented lines, empty values left out."""
    lines: list[str] = []
    for key, value in record.items():
        if value in (None, "", [], {}):
            continue
        if isinstance(value, dict):
            lines += [f"{indent}{key}", *described(value, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], str):
            lines += [f"{indent}{key}", *(f"{indent}  {item}" for item in value)]
        else:
            shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
            lines.append(f"{indent}{key}: {shown}")
    return lines
