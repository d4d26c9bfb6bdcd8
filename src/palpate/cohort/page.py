"""The page of `palpate audit`: one HTML file that holds its pictures and fetches nothing."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ScanError
from ..extras import needed
from ..files import check_writable, replacing
from ..formats import read
from ..frame import CropPercentiles
from ..masks import Mask
from ..pictures import lesion_picture
from .audit import Audit
from .issues import Issue
from .scan_statistics import IntensityStatistics, ScanStatistics
from .scans import target_of

GENERATOR = '<meta name="generator" content="Palpate">'  # in the template
THUMBNAILS = 12
MAX_OF_KIND = 6  # issues of a kind before the rest is folded away
MAX_ROWS = 300  # scans in the table, beside those with issues
MUTED, TARGET, BACKGROUND = "#8b949e", "#d9480f", "#4c6ef5"  # readable on white and on black


def write_page(found: Audit, path: str | Path) -> None:
    """Write the page.

    Raises:
        OutputError: it cannot be written.
        SettingsError: jinja2 or matplotlib is not installed.
    """
    check_writable(path)
    with needed("jinja2", "the page needs"):
        import jinja2
    with needed("matplotlib", "the page needs"):
        import matplotlib  # noqa: F401 - asked for before the work of drawing
    template = (resources.files(__package__) / "audit.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    text = environment.from_string(template).render(**_content(found))
    with replacing(path) as (staged,):
        staged.write_text(text, encoding="utf-8")


def is_own_page(path: Path) -> bool:
    """Whether a file is a page that Palpate wrote; one that was edited since is too."""
    try:
        return GENERATOR.encode() in path.read_bytes()
    except OSError:
        return False


def summary(found: Audit) -> dict[str, Any]:
    """A cohort's numbers, as plain data: for the page, the terminal and machines."""
    readable = [one for one in found.statistics if one.error is None]
    ml = [one.target_ml for one in found.usable]
    labels: Counter[int] = Counter()
    for one in readable:
        labels.update(one.labels.keys())
    return {
        "origin": str(found.cohort.origin),
        "layout": found.cohort.layout,
        "scans": len(found.statistics),
        "usable": len(found.usable),
        "patients": len({one.patient for one in found.statistics}),
        "shapes": _ranges(np.array([one.shape for one in readable])),
        "spacings_mm": _ranges(np.array([one.spacing for one in readable])),
        "orientations": dict(Counter(one.orientation for one in readable).most_common()),
        "types": dict(Counter(one.dtype for one in readable).most_common()),
        "labels": {
            value: {"name": found.cohort.labels.get(value, ""), "scans": count}
            for value, count in sorted(labels.items())
        },
        "target_ml": dict(zip(("min", "median", "max"), map(_round, (min(ml), np.median(ml), max(ml))), strict=True))
        if ml
        else None,
        "components_per_scan": dict(sorted(Counter(len(one.components) for one in readable).items())),
        "target_intensities": _medians([one.target_intensities for one in readable if one.target_intensities]),
        "background_intensities": _medians(
            [one.background_intensities for one in readable if one.background_intensities]
        ),
    }


def _ranges(rows: Any) -> dict[str, list[float]]:  # noqa: ANN401 - integers or floats
    """Minimum, median and maximum along X, Y, Z."""
    if not len(rows):
        return {}
    levels = (("min", rows.min(axis=0)), ("median", np.median(rows, axis=0)), ("max", rows.max(axis=0)))
    return {name: [_round(value) for value in values] for name, values in levels}


def _medians(statistics: Sequence[IntensityStatistics]) -> dict[str, float] | None:
    """Medians over scans."""
    if not statistics:
        return None
    names = ("0.5 %", "5 %", "median", "95 %", "99.5 %")
    levels = np.median([one.percentiles for one in statistics], axis=0)
    means = {
        "mean": np.median([one.mean for one in statistics]),
        "deviation": np.median([one.std for one in statistics]),
    }
    return {name: _round(value) for name, value in (means | dict(zip(names, levels, strict=True))).items()}


def _round(value: Any) -> float:  # noqa: ANN401 - a number of whatever type
    return float(f"{float(value):.4g}")


def _content(found: Audit) -> dict[str, Any]:
    kind_of = _worst_kinds(found)
    shown = [one for one in found.statistics if one.name in kind_of or len(found.statistics) <= MAX_ROWS]
    listed = {one.name for one in (*found.statistics[:MAX_ROWS], *shown)}
    rows = [one for one in found.statistics if one.name in listed]
    first, further = _first_of_each(found)
    return {
        "found": found,
        "numbers": summary(found),
        "rows": rows,
        "hidden": len(found.statistics) - len(rows),
        "kind_of": kind_of,
        "first": first,
        "further": further,
        "kinds": Counter((issue.severity, issue.kind) for issue in found.issues).items(),
        "charts": _charts(found),
        "thumbnails": _thumbnails(found),
        "ml": _ml,
        "value": lambda x: f"{x:,.4g}" if abs(x) < 1e4 else f"{x:,.0f}",
    }


def _ml(volume: float) -> str:
    return f"{volume:.3g}" if volume < 1000 else f"{volume:,.0f}"


def _worst_kinds(found: Audit) -> dict[str, str]:
    """Names of scans with an issue, and the kind of their first."""
    return {name: issue.kind for issue in reversed(found.issues) for name in (issue.scans or (issue.name,))}


def _first_of_each(found: Audit) -> tuple[list[Issue], list[Issue]]:
    """The first issues of each kind, so that a common one hides no rare one, and all others."""
    shown: Counter[str] = Counter()
    first: list[Issue] = []
    further: list[Issue] = []
    for issue in found.issues:
        shown[issue.kind] += 1
        (first if shown[issue.kind] <= MAX_OF_KIND else further).append(issue)
    return first, further


def _charts(found: Audit) -> list[tuple[str, str]]:
    """Titles, and SVG pictures as data addresses."""
    usable = found.usable
    if not usable:
        return []
    components = [component for one in usable for component in one.components]
    ml = np.array([component.volume_ml for component in components])
    longest = np.array([max(component.extent_mm) for component in components])
    counts = np.array([len(one.components) for one in usable])
    whole = np.arange(max(int(counts.max()), 5) + 1) + 0.5
    axes = np.array([sorted(one.spacing) for one in usable])
    volumes = np.geomspace(max(ml.min() * 0.9, 1e-4), ml.max() * 1.1 + 1e-4, 40)
    edges = np.linspace(0, longest.max() * 1.05, 40)
    both = [(axes[:, 0], TARGET, "finest"), (axes[:, 2], BACKGROUND, "coarsest")]
    return [
        _intensities(found),
        ("Volume of a component, mL", _histogram([(ml, TARGET, None)], volumes, logarithmic=True)),
        ("Components per scan", _histogram([(counts, TARGET, None)], whole, whole=True)),
        ("Longest edge of a component, mm", _histogram([(longest, TARGET, None)], edges)),
        ("Spacing of a scan's finest and coarsest axis, mm", _histogram(both, np.linspace(0, axes.max() * 1.1, 40))),
    ]


def _intensities(found: Audit) -> tuple[str, str]:
    """The target's and the background's; by each scan's own scale where numbers mean another thing in each.

    Scans on another scale, which would stretch the axis until nothing is seen of the others, are left out.
    """
    scaled = {issue.name for issue in found.issues if issue.kind == "another scale"}
    shown = [one for one in found.usable if one.name not in scaled]
    relative = found.suggestion is not None and isinstance(
        found.suggestion.preprocessing.normalisation, CropPercentiles
    )
    sides: list[list[Any]] = [[], []]
    for one in shown:
        known = one.background_intensities
        middle, scale = (known.percentiles[2], known.std or 1.0) if relative and known else (0.0, 1.0)
        for side, values in zip(sides, (one.target_sample, one.background_sample), strict=True):
            side.append((np.array(values) - middle) / scale)
    inside, outside = (np.concatenate(side) for side in sides)
    low, high = np.percentile(np.concatenate([inside, outside]), (0.5, 99.5))
    bins = np.linspace(low, max(high, low + 1e-6), 60)
    unit = "deviations from the median of each scan" if relative else "as stored"
    left_out = f" (without {len(scaled)} on another scale)" if scaled else ""
    sides_named = [(inside, TARGET, "target"), (outside, BACKGROUND, "background")]
    return f"Intensities, {unit}{left_out}", _histogram(sides_named, bins)


def _histogram(
    series: Sequence[tuple[Any, str, str | None]],
    bins: Any,  # noqa: ANN401 - numpy's edges
    *,
    logarithmic: bool = False,
    whole: bool = False,
) -> str:
    """Shares of each series in each bin, as an SVG that suits a light and a dark page."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(4.6, 2.5), layout="constrained")
    figure.patch.set_alpha(0)
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    axes.patch.set_alpha(0)
    for values, colour, label in series:
        if len(values):
            weights = np.full(len(values), 100 / len(values))
            axes.hist(values, bins, weights=weights, color=colour, alpha=0.55, label=label)
    if logarithmic:
        axes.set_xscale("log")
        # Matplotlib's own labels, 2 x 10^0, lie on each other here.
        decades = bins[-1] >= 10 * bins[0]
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if decades else MaxNLocator(5))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    if whole:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # no half components
    axes.set_ylabel("% of all", color=MUTED, fontsize=8)
    axes.tick_params(colors=MUTED, labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    if any(label for *_, label in series):
        axes.legend(frameon=False, fontsize=8, labelcolor=MUTED)
    return _address(figure, "svg+xml", "svg")


def _thumbnails(found: Audit) -> list[tuple[str, str, str]]:
    """Name, a few words and a picture of some scans: readable ones of each issue, then small to large targets."""
    kind_of = _worst_kinds(found)
    usable = sorted(found.usable, key=lambda one: one.target_ml)
    marked = [one for one in usable if one.name in kind_of]
    of_each = {kind_of[one.name]: one.name for one in reversed(marked)}.values()  # the smallest target of each kind
    first = sorted(marked, key=lambda one: one.name not in of_each)[: THUMBNAILS // 3]
    rest = [one for one in usable if one not in first]
    places = np.linspace(0, len(rest) - 1, min(len(rest), THUMBNAILS - len(first))).round().astype(int).tolist()
    pictures = []
    for one in (*first, *(rest[place] for place in places)):
        words = f"{_ml(one.target_ml)} mL, {len(one.components)} component{'s' * (len(one.components) > 1)}"
        picture = _picture(one, found)
        if picture is not None:
            pictures.append((one.name, f"{kind_of[one.name]}; {words}" if one.name in kind_of else words, picture))
    return pictures


def _picture(one: ScanStatistics, found: Audit) -> str | None:
    try:
        volume, label = read(one.image, warn=False), read(one.label, warn=False)  # notes stand among the issues
        mask = Mask(target_of(label.array, found.target_labels), (0, 0, 0), volume.grid)
        figure = lesion_picture(volume, mask)
    except ScanError:  # it could be read before: it is being changed; the page does without its picture
        return None
    figure.set_dpi(60)
    return _address(figure, "png", "png")


def _address(figure: Any, kind: str, form: str) -> str:  # noqa: ANN401 - matplotlib's Figure
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, dpi=figure.dpi, facecolor=figure.get_facecolor())
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
