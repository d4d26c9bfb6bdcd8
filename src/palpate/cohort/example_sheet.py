"""Training crops as a picture: what a training will learn from, for people to judge before it starts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..extras import needed
from ..pictures.drawing import FOREGROUND, GROUND, INK, TRUTH
from .sampling import CropSampler

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 6
_EDGE, _TITLE = 1.6, 0.22  # inches


def example_sheet(sampler: CropSampler, count: int) -> Figure:
    """The first `count` examples, each in two planes through its first click, with the target's outline and its kind.

    Raises:
        SettingsError: matplotlib is not installed.
    """
    with needed("matplotlib", "pictures need"):
        from matplotlib.figure import Figure

    rows = math.ceil(count / COLUMNS)
    width, height = 2 * COLUMNS * _EDGE, rows * (_EDGE + _TITLE)
    figure = Figure(figsize=(width, height), dpi=100, facecolor=GROUND)
    for number in range(count):
        row, column = divmod(number, COLUMNS)
        bottom = (rows - 1 - row) * (_EDGE + _TITLE)
        left = 2 * column * _EDGE
        example = sampler.example(number, 1)
        image, truth = example.image[0].cpu().numpy(), example.truth.cpu().numpy()
        last = np.array(image.shape) - 1
        d, h, w = np.clip(example.clicks[0].cpu().numpy().round(), 0, last).astype(int).tolist()
        inside = image[image != 0]  # a crop is zero outside its scan
        dark, bright = np.percentile(inside, (1, 99)) if inside.size else (0.0, 1.0)
        for place, (shown, mask, mark) in enumerate(
            ((image[d], truth[d], (w, h)), (image[::-1, h], truth[::-1, h], (w, image.shape[0] - 1 - d)))
        ):
            box = ((left + place * _EDGE) / width, bottom / height, 0.97 * _EDGE / width, 0.97 * _EDGE / height)
            _panel(figure.add_axes(box), shown, mask, mark, (float(dark), float(bright)))
        filled = 100 * float(truth.mean())
        text = f"{number}  {sampler.kind(number)}, {filled:.2g} % of the crop  {sampler.scan(number).name[:18]}"
        figure.text(left / width, (bottom + 1.02 * _EDGE) / height, text, color=INK, fontsize=7)
    return figure


def _panel(axes: Any, shown: Any, mask: Any, mark: tuple[int, int], window: tuple[float, float]) -> None:  # noqa: ANN401 - matplotlib has no types
    """One plane of a crop with the target's outline and the click."""
    axes.set_axis_off()
    axes.imshow(shown, cmap="gray", vmin=window[0], vmax=max(window[1], window[0] + 1e-6), interpolation="nearest")
    if mask.any() and not mask.all():
        axes.contour(mask, [0.5], colors=TRUTH, linewidths=0.8)
    axes.plot(*mark, "+", color=FOREGROUND, markersize=6)
