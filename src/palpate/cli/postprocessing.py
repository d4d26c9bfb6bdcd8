"""The options of which voxels a saved mask holds: defined once, for every verb that saves masks of prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .completion import complete_from
from .console import Console
from .verbs import OptionGroup

if TYPE_CHECKING:
    from ..lesions import Postprocessing
    from ..predictor import Prediction
    from ..prompts import Prompt

_PANEL = "The mask"
ThresholdOption = Annotated[
    float, typer.Option(rich_help_panel=_PANEL, help="A voxel is lesion where its probability exceeds this.")
]


def _postprocessing(
    keep: Annotated[
        str,
        typer.Option(
            rich_help_panel=_PANEL,
            metavar="all|largest|clicked",
            help="Which connected parts of the mask stay: all, the largest, or those that hold a foreground prompt.",
            autocompletion=complete_from("all", "largest", "clicked"),
        ),
    ] = "all",
    threshold: ThresholdOption = 0.5,
) -> Any:  # noqa: ANN401 - a Postprocessing, which is imported with NumPy
    from ..lesions import Postprocessing

    return Postprocessing(threshold, keep)  # type: ignore[arg-type] # it checks the word


PostprocessingOptions = Annotated["Postprocessing", OptionGroup(_postprocessing)]


def postprocessed(
    prediction: Prediction, postprocessing: Postprocessing, prompts: list[Prompt], console: Console
) -> Prediction:
    """A prediction with the mask that is saved; its warnings, which are those of that mask, are printed."""
    mask = postprocessing.apply(prediction.mask, prediction.probability, prompts)
    saved = prediction.with_mask(mask, prompts, postprocessing.note(prediction.mask, mask))
    for warning in saved.warnings:
        console.warn(warning.message)
    return saved
