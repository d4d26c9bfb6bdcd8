"""The options of how to infer: defined once, for every verb that does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .completion import DEVICES, PRECISIONS, complete_from, complete_model
from .verbs import OptionGroup

if TYPE_CHECKING:
    from ..devices import Precision
    from ..inference import InferenceSettings

_PANEL = "Model and machine"


@dataclass(frozen=True)
class MachineOptions:
    """Where and in which arithmetic to compute, as typed."""

    device: str
    precision: str
    threads: int | None

    def settings(self, model: str, base: Path | None = None) -> InferenceSettings:
        """How to infer with a model, with the default zoom and budget.

        Raises:
            DeviceError: no such precision.
        """
        return InferenceOptions(self, model, base, True, None, None).settings()


@dataclass(frozen=True)
class InferenceOptions:
    """How to infer, as typed; a budget or a version of the rules of None is the default."""

    machine: MachineOptions
    model: str
    base: Path | None
    zoom: bool
    budget: int | None
    rules: int | None

    def settings(self) -> InferenceSettings:
        """The same as settings of the library.

        Raises:
            DeviceError: no such precision.
        """
        from ..inference import BUDGET, RULES, InferenceSettings

        precision: Precision = self.machine.precision  # type: ignore[assignment] # InferenceSettings checks it
        return InferenceSettings(
            model=self.model,
            base=None if self.base is None else str(self.base),
            device=self.machine.device,
            precision=precision,
            threads=self.machine.threads,
            zoom=self.zoom,
            budget=BUDGET if self.budget is None else self.budget,
            rules=RULES if self.rules is None else self.rules,
        )


ThreadsOption = Annotated[
    int | None, typer.Option(min=1, rich_help_panel=_PANEL, help="Threads of a CPU; one a core by default.")
]


def _machine(
    device: Annotated[
        str,
        typer.Option(
            rich_help_panel=_PANEL, help="auto, cpu, cuda, cuda:1, ...", autocompletion=complete_from(*DEVICES)
        ),
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            rich_help_panel=_PANEL, help="float32, bfloat16 or float16.", autocompletion=complete_from(*PRECISIONS)
        ),
    ] = "float32",
    threads: ThreadsOption = None,
) -> MachineOptions:
    return MachineOptions(device, precision, threads)


Machine = Annotated[MachineOptions, OptionGroup(_machine)]
BaseOption = Annotated[
    Path | None, typer.Option(rich_help_panel=_PANEL, help="For an adapter: the model it was trained on.")
]


def _inference(
    *,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            rich_help_panel=_PANEL,
            help="A bundled model's name, or a model's file.",
            autocompletion=complete_model,
        ),
    ] = "palpate-tiny",
    base: BaseOption = None,
    machine: Machine,
    zoom: Annotated[
        bool,
        typer.Option(
            rich_help_panel=_PANEL,
            help="Use a wider field where the mask reaches its crop's border and a narrower one for a small lesion, "
            "and refine the boundary of a large one, if the model was trained for it; or predict in one crop.",
        ),
    ] = True,
    budget: Annotated[
        int | None,
        typer.Option(
            min=0,
            rich_help_panel=_PANEL,
            help="Most crops of a refinement along a large lesion's boundary; 32 by default.",
        ),
    ] = None,
    rules: Annotated[
        int | None,
        typer.Option(
            min=1,
            rich_help_panel=_PANEL,
            help="Version of the rules by which masks are made; the newest by default. 1: as the first version of "
            "palpate-tiny made them. A session keeps to its own.",
        ),
    ] = None,
) -> InferenceOptions:
    return InferenceOptions(machine, model, base, zoom, budget, rules)


Inference = Annotated[InferenceOptions, OptionGroup(_inference)]
