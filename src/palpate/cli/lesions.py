"""`palpate session`: what is changed on its lesions and their prompts, and lesions proposed by an automatic model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import SessionError
from .console import (
    BaseOption,
    BudgetOption,
    Console,
    DeviceOption,
    JsonOption,
    ModelOption,
    PrecisionOption,
    ZoomOption,
)
from .prompting import (
    HOW_TO_POINT,
    BoxOption,
    ClickMmOption,
    ClickOption,
    LassoOption,
    NotOption,
    PriorOption,
    PromptsOption,
    ScribbleOption,
    given_prompts,
)
from .session import (
    FolderArgument,
    OtherModelOption,
    PredictorOptions,
    ScanOption,
    SeriesOption,
    lesion_called,
    opened,
    session_app,
    tell,
    wholly,
)

LesionOption = Annotated[str, typer.Option(help="The lesion's name, or its number.")]
NumberOption = Annotated[int, typer.Option("--number", help="The prompt's number, as every verb tells it.")]


@session_app.command(
    epilog="Example:\n\n`palpate session rename visit1/ --scan scan.nii.gz --lesion liver1 --to liver2`"
)
def rename(
    folder: FolderArgument,
    scan: ScanOption,
    lesion: LesionOption,
    to: Annotated[str, typer.Option(help="Its new name.")],
    model: ModelOption = "palpate-tiny",
    base: BaseOption = None,
    other_model: OtherModelOption = False,
    series: SeriesOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    zoom: ZoomOption = True,
    budget: BudgetOption = None,
    machine: JsonOption = False,
) -> None:
    """Give a lesion another name."""
    console = Console(machine)
    options = PredictorOptions(model, base, device, precision, zoom, budget)
    with console.reporting(), opened(console, folder, scan, series, options, other_model=other_model) as session:
        number = lesion_called(session, lesion)
        session.rename(number, to)
        tell(console, folder, session, [session.lesion(number)])


def _changing(name: str, told: str, lesion_named: str = "liver1") -> None:
    """Register a verb that does one thing to one lesion: the method of `Session` by its name.

    Args:
        name: the verb's, and the method's.
        told: what it does, for its help.
        lesion_named: the lesion of its example.
    """

    def verb(
        folder: FolderArgument,
        scan: ScanOption,
        lesion: LesionOption,
        model: ModelOption = "palpate-tiny",
        base: BaseOption = None,
        other_model: OtherModelOption = False,
        series: SeriesOption = None,
        device: DeviceOption = "auto",
        precision: PrecisionOption = "float32",
        zoom: ZoomOption = True,
        budget: BudgetOption = None,
        machine: JsonOption = False,
    ) -> None:
        console = Console(machine)
        options = PredictorOptions(model, base, device, precision, zoom, budget)
        with console.reporting(), opened(console, folder, scan, series, options, other_model=other_model) as session:
            number = lesion_called(session, lesion)
            getattr(session, name)(number)
            left = [known for known in session.lesions if known.number == number]
            tell(console, folder, session, left or session.lesions)  # of one that is gone, what is left

    example = f"`palpate session {name} visit1/ --scan scan.nii.gz --lesion {lesion_named}`"
    session_app.command(name, help=told, epilog=f"Example:\n\n{example}")(verb)


_changing("reopen", "Take a lesion's acceptance back, or take a proposal up.")
_changing("clear", "Take all of a lesion's prompts away; the mask that it started from stays.")
_changing("remove", "Remove a lesion; `undo` brings it back.")
_changing("drop", "Remove a proposal that is no lesion; `undo` brings it back.", "3")


@session_app.command(
    "remove-prompt",
    epilog="Example:\n\n`palpate session remove-prompt visit1/ --scan scan.nii.gz --lesion liver1 --number 2`",
)
def remove_prompt(
    folder: FolderArgument,
    scan: ScanOption,
    lesion: LesionOption,
    prompt_number: NumberOption,
    model: ModelOption = "palpate-tiny",
    base: BaseOption = None,
    other_model: OtherModelOption = False,
    series: SeriesOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    zoom: ZoomOption = True,
    budget: BudgetOption = None,
    machine: JsonOption = False,
) -> None:
    """Take one prompt of a lesion away."""
    console = Console(machine)
    options = PredictorOptions(model, base, device, precision, zoom, budget)
    with console.reporting(), opened(console, folder, scan, series, options, other_model=other_model) as session:
        number = lesion_called(session, lesion)
        with console.step("segment", "segmenting") as progress:
            session.predictor.progress = progress
            session.remove_prompt(number, prompt_number)
        tell(console, folder, session, [session.lesion(number)])


@session_app.command(
    "replace-prompt",
    epilog="Example:\n\n"
    "`palpate session replace-prompt visit1/ --scan scan.nii.gz --lesion liver1 --number 2 --click 121,88,45`",
)
def replace_prompt(
    folder: FolderArgument,
    scan: ScanOption,
    lesion: LesionOption,
    prompt_number: NumberOption,
    click: ClickOption = None,
    click_mm: ClickMmOption = None,
    no: NotOption = None,
    box: BoxOption = None,
    scribble: ScribbleOption = None,
    lasso: LassoOption = None,
    prior: PriorOption = None,
    prompts: PromptsOption = None,
    model: ModelOption = "palpate-tiny",
    base: BaseOption = None,
    other_model: OtherModelOption = False,
    series: SeriesOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    zoom: ZoomOption = True,
    budget: BudgetOption = None,
    machine: JsonOption = False,
) -> None:
    """Put another prompt in the place of one, under its number."""
    console = Console(machine)
    options = PredictorOptions(model, base, device, precision, zoom, budget)
    with console.reporting(), opened(console, folder, scan, series, options, other_model=other_model) as session:
        number = lesion_called(session, lesion)
        given = given_prompts(session.volume, prompts, prior, box, scribble, lasso, click, click_mm, no)
        if len(given) != 1:
            raise SessionError(
                f"one prompt takes the place of one, not {len(given)}. {HOW_TO_POINT}: one of them, once"
            )
        with console.step("segment", "segmenting") as progress:
            session.predictor.progress = progress
            session.replace_prompt(number, prompt_number, given[0])
        tell(console, folder, session, [session.lesion(number)])


@session_app.command(
    epilog="Examples:\n\n`palpate session propose visit1/ --scan scan.nii.gz --proposer automatic.safetensors`\n\n"
    "`palpate session propose visit1/ --scan scan.nii.gz --proposer automatic.safetensors --least-ml 0.5 --json`"
)
def propose(
    folder: FolderArgument,
    scan: ScanOption,
    proposer: Annotated[str, typer.Option(help="The automatic model's file (docs/automatic.md).")],
    proposer_base: Annotated[
        Path | None, typer.Option(help="Where that is an adapter: the model it was trained on.")
    ] = None,
    least_ml: Annotated[
        float | None, typer.Option(help="Leave out proposals smaller than this, mL; 0.1 by default.")
    ] = None,
    model: ModelOption = "palpate-tiny",
    base: BaseOption = None,
    other_model: OtherModelOption = False,
    series: SeriesOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    zoom: ZoomOption = True,
    budget: BudgetOption = None,
    machine: JsonOption = False,
) -> None:
    """Add what an automatic model takes for lesions, as proposals; the session is begun where there is none."""
    console = Console(machine)
    with console.reporting():
        from ..session.journal import JOURNAL

        new = not (folder / JOURNAL).exists()
        options = PredictorOptions(model, base, device, precision, zoom, budget)
        with opened(console, folder, scan, series, options, new=new, other_model=other_model) as session:
            with console.step("propose", "looking for lesions") as progress:
                from ..automatic import LEAST_ML, Proposer
                from ..bundle import load

                finder = Proposer(load(proposer, base=proposer_base), device, precision)  # type: ignore[arg-type]
                finder.progress = progress
                least = LEAST_ML if least_ml is None else least_ml
                found = finder.propose(session.volume, least)
            with wholly(session):
                numbers = [session.add(start=one.mask, score=one.score) for one in found]
            none = f"no proposal of {least:g} mL or more (--least-ml)"
            tell(console, folder, session, [session.lesion(number) for number in numbers], none=none)
