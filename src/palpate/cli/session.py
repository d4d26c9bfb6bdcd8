"""`palpate session`: a verb for each change of its lesions; its masks made anew, and exported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import SessionError, SettingsError
from .prompting import HOW_TO_CORRECT, PromptOptions
from .visit import SessionOptions, numbers_called, session_verb, wholly

if TYPE_CHECKING:
    from ..export import ExportedLesions
    from ..prompts import Prompt
    from ..session import Session
    from ..volume import Mask

LesionOption = Annotated[str, typer.Option(help="The lesion's name, or its number.")]
NumberOption = Annotated[int, typer.Option("--number", help="The prompt's number, as every verb tells it.")]
TimesOption = Annotated[int, typer.Option(min=1, help="How many operations.")]


@session_verb(
    "add",
    "--lesion liver1 --click 120,88,45",
    "--lesion liver1 --background 131,90,45 --accept",
    "--lesion node --box 60,70,20,72,84,26 --json",
)
def add(
    visit: SessionOptions,
    lesion: Annotated[str, typer.Option(help="The lesion's name, or its number; a lesion of a new name is added.")],
    prompts: PromptOptions,
    accept: Annotated[bool, typer.Option("--accept", help="Then accept the lesion's mask.")] = False,
) -> None:
    """Add prompts to a lesion; the session and the lesion are begun where there are none."""
    with visit.opened(begin=True) as session:
        given = prompts.read(session.volume, visit.console.warn)
        if not given and not accept:
            raise SessionError(f"nothing to do for lesion {lesion!r}. {HOW_TO_CORRECT}, or --accept")
        with visit.segmenting(session), wholly(session):
            number = _prompted(session, lesion, given)
            if accept:
                session.accept(number)
        visit.tell(session, [session.lesion(number)])


@session_verb("replace-prompt", "--lesion liver1 --number 2 --click 121,88,45")
def replace_prompt(
    visit: SessionOptions,
    lesion: LesionOption,
    prompt_number: NumberOption,
    prompts: PromptOptions,
) -> None:
    """Put another prompt in the place of one, under its number."""
    with visit.changing(lesion) as (session, number):
        given = prompts.read(session.volume, visit.console.warn)
        if len(given) != 1:
            raise SessionError(
                f"one prompt takes the place of one, not {len(given)}. {HOW_TO_CORRECT}: one of them, once"
            )
        session.replace_prompt(number, prompt_number, given[0])


@session_verb("remove-prompt", "--lesion liver1 --number 2")
def remove_prompt(visit: SessionOptions, lesion: LesionOption, prompt_number: NumberOption) -> None:
    """Take one prompt of a lesion away."""
    with visit.changing(lesion) as (session, number):
        session.remove_prompt(number, prompt_number)


@session_verb("clear", "--lesion liver1")
def clear(visit: SessionOptions, lesion: LesionOption) -> None:
    """Take all of a lesion's prompts away; the mask that it started from stays."""
    with visit.changing(lesion) as (session, number):
        session.clear(number)


@session_verb("rename", "--lesion liver1 --to liver2")
def rename(visit: SessionOptions, lesion: LesionOption, to: Annotated[str, typer.Option(help="Its new name.")]) -> None:
    """Give a lesion another name."""
    with visit.changing(lesion) as (session, number):
        session.rename(number, to)


@session_verb("reopen", "--lesion liver1")
def reopen(visit: SessionOptions, lesion: LesionOption) -> None:
    """Take a lesion's acceptance back, or take a proposal up."""
    with visit.changing(lesion) as (session, number):
        session.reopen(number)


@session_verb("remove", "--lesion liver1")
def remove(visit: SessionOptions, lesion: LesionOption) -> None:
    """Remove a lesion; `undo` brings it back."""
    with visit.changing(lesion) as (session, number):
        session.remove(number)


@session_verb("drop", "--lesion 3")
def drop(visit: SessionOptions, lesion: LesionOption) -> None:
    """Remove a proposal that is no lesion; `undo` brings it back."""
    with visit.changing(lesion) as (session, number):
        session.drop(number)


@session_verb("propose", "--proposer automatic.safetensors", "--proposer automatic.safetensors --min-ml 0.5 --json")
def propose(
    visit: SessionOptions,
    proposer: Annotated[str, typer.Option(help="The automatic model's file (docs/automatic.md).")],
    proposer_base: Annotated[
        Path | None, typer.Option(help="Where that is an adapter: the model it was trained on.")
    ] = None,
    min_ml: Annotated[
        float | None, typer.Option(help="Leave out proposals smaller than this, mL; 0.1 by default.")
    ] = None,
) -> None:
    """Add what an automatic model takes for lesions, as proposals; the session is begun where there is none.

    A proposal that a lesion of the session began with is not added again.
    """
    with visit.opened(begin=True) as session:
        with visit.console.step("propose", "looking for lesions") as progress:
            from ..automatic import MIN_VOLUME_ML, Proposer
            from ..inference import InferenceSettings

            base = None if proposer_base is None else str(proposer_base)
            settings = InferenceSettings(proposer, base, device=visit.device, precision=visit.precision)  # type: ignore[arg-type]
            least = MIN_VOLUME_ML if min_ml is None else min_ml
            found = Proposer(settings).propose(session.volume, least, progress=progress)
        with visit.segmenting(session), wholly(session):
            known = [each.start.mask for each in session.lesions if each.start is not None]
            new = [one for one in found if not any(_same(one.mask, mask) for mask in known)]
            numbers = [session.add(start=one.mask, score=one.score) for one in new]
        none = f"no proposal of {least:g} mL or more (--min-ml)"
        if found:
            none = f"no new proposal: all {len(found)} are lesions of this session already"
        visit.tell(session, [session.lesion(number) for number in numbers], none=none)


@session_verb("undo", "", "--times 3")
def undo(visit: SessionOptions, times: TimesOption = 1) -> None:
    """Take the last operations back: prompts, an acceptance, a new lesion."""
    with visit.opened() as session:
        _check_times(times, session.undoable, "undone")
        with visit.segmenting(session):
            for _ in range(times):
                session.undo()
        visit.tell(session, session.lesions)


@session_verb("redo", "", "--times 3")
def redo(visit: SessionOptions, times: TimesOption = 1) -> None:
    """Do again what was undone last, as long as nothing else was done since."""
    with visit.opened() as session:
        _check_times(times, session.redoable, "done again")
        with visit.segmenting(session):
            for _ in range(times):
                session.redo()
        visit.tell(session, session.lesions)


@session_verb(
    "replay",
    "",
    "-o lesions.nii.gz --overlap highest --accepted",
    "-o masks/ --separate --json",
    "--cohort mine/ --patient P017",
)
def replay(
    visit: SessionOptions,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A label map's file, or a folder; with a list of the lesions beside it."),
    ] = None,
    separate: Annotated[bool, typer.Option("--separate", help="In a folder, a mask a lesion.")] = False,
    overlap: Annotated[
        str | None,
        typer.Option(
            help="Whose a voxel is that lies in several: later (the default), earlier or highest (probability)."
        ),
    ] = None,
    accepted: Annotated[bool, typer.Option("--accepted", help="Export what is accepted only.")] = False,
    cohort: Annotated[
        Path | None, typer.Option(help="Append the accepted lesions to this cohort, for `audit` and `train`.")
    ] = None,
    patient: Annotated[str | None, typer.Option(help="In the cohort: whose scan it is.")] = None,
) -> None:
    """Make a session's masks anew from its journal, which is only read; print their sizes, and export them."""
    _check_export(output, cohort, patient, separate=separate, overlap=overlap, accepted=accepted)
    with visit.opened(read_only=True) as session:
        with visit.segmenting(session):
            for lesion in session.lesions:
                session.mask(lesion.number)
        more: dict[str, Any] = {"files": [], "overlap": [], "cohort": None}
        with visit.console.step("export", "exporting"):
            if output is not None:
                made = session.export(
                    output,
                    separate=separate,
                    overlap=overlap or "later",  # type: ignore[arg-type]
                    accepted_only=accepted,
                )
                more["files"] = [str(path) for path in made.files]
                more["overlap"] = _losses(made)
            if cohort is not None:
                more["cohort"] = session.export_cohort(cohort, patient=patient)
        visit.tell(session, session.lesions, more)


def _losses(exported: ExportedLesions) -> list[dict[str, int]]:
    """What the overlap rule took from lesions, as plain data."""
    return [{"lesion": loss.value, "lost": loss.lost, "voxels": loss.voxels} for loss in exported.losses]


def _check_export(
    output: Path | None,
    cohort: Path | None,
    patient: str | None,
    *,
    separate: bool,
    overlap: str | None,
    accepted: bool,
) -> None:
    """Refuse options of an export that was not asked for, and a patient that no list can hold."""
    given = {"--separate": separate, "--overlap": overlap is not None, "--accepted": accepted}
    alone = [option for option in given if given[option]]
    if output is None and alone:
        raise SettingsError(f"{', '.join(alone)}: for what -o writes; give -o FILE or FOLDER, or leave it out")
    if patient is not None:
        from ..export import check_patient

        check_patient(patient)
        if cohort is None:
            raise SessionError(f"--patient {patient}: says whose scan it is in a cohort; give --cohort too")


def _same(one: Mask, other: Mask) -> bool:
    """Whether two masks on the session's grid are of the same voxels."""
    import numpy as np

    one, other = one.cropped(), other.cropped()
    return one.start == other.start and np.array_equal(one.array, other.array)


def _check_times(times: int, there: int, done: str) -> None:
    """Refuse more steps than there are, before the first; what to say of none, the session knows."""
    if 0 < there < times:
        raise SessionError(f"--times {times}: no more than {there} can be {done}; nothing was changed")


def _prompted(session: Session, name: str, given: list[Prompt]) -> int:
    """Add prompts to the lesion of a name or a number; one of a new name is begun. Returns its number."""
    numbers = numbers_called(session, name)
    if not numbers and not given:
        there = ", ".join(lesion.name for lesion in session.lesions) or "none yet"
        raise SessionError(f"no lesion {name!r} to accept; there are: {there}")
    if not numbers:
        session.check(given)  # before it is begun, which discards what was undone
    number = numbers[0] if numbers else session.add(name)
    if given:
        session.add_prompts(number, given)
    return number
