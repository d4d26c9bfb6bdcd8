"""`palpate session`: a verb for each operation on its lesions, to list them, and to export them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import SessionError, SettingsError
from .changes import change
from .console import Console, given_options
from .outputs import OverwriteOption, check_replaced
from .postprocessing import PostprocessingOptions, ThresholdOption
from .prompting import HOW_TO_CORRECT, PromptOptions
from .session_command import SessionOptions, all_or_nothing, numbers_called, session_app, session_verb
from .verbs import verb

if TYPE_CHECKING:
    from ..lesions import OverlapLoss
    from ..masks import Mask
    from ..prompts import Prompt
    from ..session import Session, SessionStore

KNOWN = 0.5  # intersection over union with a lesion's initial mask, above which a proposal is of that lesion
LesionOption = Annotated[str, typer.Option(help="The lesion's name, or its number.")]
NumberOption = Annotated[int, typer.Option("--number", help="The prompt's number, as every verb prints it.")]
TimesOption = Annotated[int, typer.Option(min=1, help="How many operations.")]


@session_verb(
    "add",
    "--lesion liver1 --click 120,88,45",
    "--lesion liver1 --background 131,90,45 --accept",
    "--lesion node --box 60,70,20,72,84,26 --json",
)
def add(
    command: SessionOptions,
    lesion: Annotated[str, typer.Option(help="The lesion's name, or its number; a lesion of a new name is added.")],
    prompts: PromptOptions,
    accept: Annotated[bool, typer.Option("--accept", help="Then accept the lesion's mask.")] = False,
) -> None:
    """Add prompts to a lesion; the session and the lesion are begun where there are none."""
    if accept and not prompts and command.scan is None:
        with command.editing(lesion) as (store, number):
            store.accept(number)
        return
    with command.opened(begin=True) as session:
        given = prompts.read(session.volume, command.console.warn)
        if not given and not accept:
            raise SessionError(f"nothing to do for lesion {lesion!r}. {HOW_TO_CORRECT}, or --accept")
        with command.segmenting() as progress, all_or_nothing(session):
            before = _mask_before(session, lesion)
            number = _prompted(session, lesion, given, progress)
            if accept:
                session.accept(number)
        changes = [] if before is None or not given else [_change(given, before, session.mask(number))]
        command.report(session, [session.lesion(number)], changes=changes)


@session_verb("replace-prompt", "--lesion liver1 --number 2 --click 121,88,45")
def replace_prompt(
    command: SessionOptions,
    lesion: LesionOption,
    prompt_number: NumberOption,
    prompts: PromptOptions,
) -> None:
    """Put another prompt in the place of one, under its number."""
    with command.changing(lesion) as (session, number):
        given = prompts.read(session.volume, command.console.warn)
        if len(given) != 1:
            raise SessionError(
                f"one prompt takes the place of one, not {len(given)}. {HOW_TO_CORRECT}: one of them, once"
            )
        with command.segmenting() as progress:
            session.replace_prompt(number, prompt_number, given[0], progress=progress)


@session_verb("remove-prompt", "--lesion liver1 --number 2")
def remove_prompt(command: SessionOptions, lesion: LesionOption, prompt_number: NumberOption) -> None:
    """Remove one prompt of a lesion."""
    with command.changing(lesion) as (session, number), command.segmenting() as progress:
        session.remove_prompt(number, prompt_number, progress=progress)


@session_verb("replace-initial-mask", "--lesion liver1 --mask edited.nii.gz")
def replace_initial_mask(
    command: SessionOptions,
    lesion: LesionOption,
    mask: Annotated[Path, typer.Option(help="A mask's file on the scan's grid; every value above 0 is lesion.")],
) -> None:
    """Replace the mask that a lesion begins with; its prompts stay."""
    with command.changing(lesion) as (session, number), command.segmenting() as progress:
        session.replace_initial_mask(number, mask, progress=progress)


@session_verb("clear", "--lesion liver1", scan=False)
def clear(command: SessionOptions, lesion: LesionOption) -> None:
    """Remove all of a lesion's prompts; the mask that it began with stays."""
    with command.editing(lesion) as (session, number):
        session.clear(number)


@session_verb("rename", "--lesion liver1 --to liver2", scan=False)
def rename(
    command: SessionOptions, lesion: LesionOption, to: Annotated[str, typer.Option(help="Its new name.")]
) -> None:
    """Give a lesion another name."""
    with command.editing(lesion) as (session, number):
        session.rename(number, to)


@session_verb("accept", "--lesion liver1", scan=False)
def accept_lesion(command: SessionOptions, lesion: LesionOption) -> None:
    """Accept a lesion's mask; a change of its prompts makes it open again."""
    with command.editing(lesion) as (session, number):
        session.accept(number)


@session_verb("reopen", "--lesion liver1", scan=False)
def reopen(command: SessionOptions, lesion: LesionOption) -> None:
    """Make a lesion open: an accepted one, or a proposal."""
    with command.editing(lesion) as (session, number):
        session.reopen(number)


@session_verb("remove", "--lesion liver1", scan=False)
def remove(command: SessionOptions, lesion: LesionOption) -> None:
    """Remove a lesion; `undo` brings it back."""
    with command.editing(lesion) as (session, number):
        session.remove(number)


@session_verb("reject", "--lesion 3", scan=False)
def reject(command: SessionOptions, lesion: LesionOption) -> None:
    """Remove a proposal that is no lesion; `undo` brings it back."""
    with command.editing(lesion) as (session, number):
        session.reject(number)


@session_verb("propose", "--proposer automatic.safetensors", "--proposer automatic.safetensors --min-ml 0.5 --json")
def propose(
    command: SessionOptions,
    proposer: Annotated[str, typer.Option(help="The automatic model's file (docs/how-to/propose.md).")],
    proposer_base: Annotated[
        Path | None, typer.Option(help="Where that is an adapter: the model it was trained on.")
    ] = None,
    min_ml: Annotated[
        float | None, typer.Option(help="Leave out proposals smaller than this, mL; 0.1 by default.")
    ] = None,
    threshold: ThresholdOption = 0.5,
) -> None:
    """Add what an automatic model takes for lesions, as proposals; the session is begun where there is none.

    A proposal is not added again where a lesion of the session began with it, or with one that overlaps it by more than
    half, as another --threshold makes it.
    """
    with command.opened(begin=True) as session:
        with command.console.step("propose", "proposing lesions") as progress:
            from ..automatic import MIN_VOLUME_ML, Proposer

            settings = command.inference.machine.settings(proposer, proposer_base)
            least = MIN_VOLUME_ML if min_ml is None else min_ml
            found = Proposer(settings).propose(session.volume, least, threshold=threshold, progress=progress)
        with all_or_nothing(session):
            known = [session.initial_mask(each.number) for each in session.lesions if each.initial_mask is not None]
            new = [one for one in found if not any(_overlap(one.mask, mask) > KNOWN for mask in known)]
            numbers = [session.add(initial_mask=one.mask, score=one.score) for one in new]
        none = f"no proposal of {least:g} mL or more (--min-ml)"
        if found:
            none = f"no new proposal: all {len(found)} are lesions of this session already"
        command.report(session, [session.lesion(number) for number in numbers], none=none)


@session_verb("undo", "", "--times 3", scan=False)
def undo(command: SessionOptions, times: TimesOption = 1) -> None:
    """Undo the last operations: prompts, an acceptance, a new lesion."""
    with command.edited() as session:
        _check_times(times, session.undoable, "undone")
        for _ in range(times):
            session.undo()
        command.report(session, session.lesions)


@session_verb("redo", "", "--times 3", scan=False)
def redo(command: SessionOptions, times: TimesOption = 1) -> None:
    """Do again what was undone last, as long as nothing else was done since."""
    with command.edited() as session:
        _check_times(times, session.redoable, "redone")
        for _ in range(times):
            session.redo()
        command.report(session, session.lesions)


@verb(session_app, "show", examples=("palpate session show visit1/", "palpate session show visit1/ --json"))
def show(console: Console, folder: Annotated[Path, typer.Argument(help="The session's folder.")]) -> None:
    """List a session's lesions, their states, prompts and times; the scan and the model are not read."""
    from ..session import SessionStore
    from ..session.summary import session_summary

    store = SessionStore.open(folder, read_only=True)
    summary = session_summary(store)
    console.result(summary, _show_sentences(store, summary))


@session_verb(
    "replay",
    "",
    "-o lesions.nii.gz --overlap highest --accepted",
    "-o masks/ --separate --json",
    "--cohort mine/ --patient P017",
)
def replay(
    command: SessionOptions,
    context: typer.Context,
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
    overwrite: OverwriteOption = False,
    *,
    postprocessing: PostprocessingOptions,
) -> None:
    """Compute a session's masks that are not cached, print their sizes, and export them; the session is only read."""
    _check_export(given_options(context), output, cohort, patient)
    if cohort is None:
        patient = None  # of the user's defaults
    if output is None and cohort is None:
        postprocessing = type(postprocessing)()  # nothing is written, so that the defaults' are not used
    with command.opened(read_only=True) as session:
        if output is not None:
            _check_file(output, session, overwrite)
        for lesion in session.lesions:
            with command.segmenting() as progress:
                session.mask(lesion.number, progress=progress)
        more: dict[str, Any] = {"files": [], "overlap": [], "cohort": None}
        with command.console.step("export", "exporting"):
            if output is not None:
                made = session.export(
                    output,
                    separate=separate,
                    overlap=overlap or "later",  # type: ignore[arg-type]
                    accepted_only=accepted,
                    postprocessing=postprocessing,
                )
                more["files"] = [str(path) for path in made.files]
                more["overlap"] = [asdict(loss) for loss in made.losses]
                for loss in made.losses:
                    command.console.warn(_loss_sentence(session.lesion(loss.value).name, loss))
            if cohort is not None:
                more["cohort"] = session.export_cohort(cohort, patient=patient, postprocessing=postprocessing)
        command.report(session, session.lesions, more | postprocessing.record, postprocessing=postprocessing)


def _check_file(output: Path, session: Session, overwrite: bool) -> None:
    """Refuse a label map's file in place of the scan, another program's file or another session's label map.

    A folder's files are checked by the export.
    """
    from ..errors import OutputError
    from ..export import of_other_session
    from ..formats import WRITABLE, check_output

    if output.name.endswith(WRITABLE) and not output.is_dir():
        check_output(output, session.volume)
        check_replaced(overwrite, output)
        if not overwrite and of_other_session(output, session.fingerprint):
            raise OutputError(
                f"{output} is another session's label map; give --overwrite to replace it, or name another"
            )


def _loss_sentence(name: str, loss: OverlapLoss) -> str:
    """What the label map's overlap rule took from a lesion."""
    if loss.whole:
        return f"lesion {name!r} is not in the label map: other lesions cover all of its {loss.voxels} voxels"
    return f"the label map gives {loss.lost} of the {loss.voxels} voxels of lesion {name!r} to lesions that overlap it"


def _show_sentences(store: SessionStore, summary: dict[str, Any]) -> list[str]:
    """A session's summary for people: itself, then each lesion with its prompts."""
    from ..session.summary import prompt_text

    scan, model = summary["scan"], summary["model"]
    size = " x ".join(map(str, scan["shape"]))
    sentences = [
        f"{summary['session']}: scan {scan['path'] or 'in memory'} ({size}), model {model['name']} "
        f"({model['sha256'][:12]})",
        f"begun {summary['began'] or 'with no step yet'}, last changed {summary['changed'] or 'never'}; "
        f"{summary['undoable']} operations to undo, {summary['redoable']} to redo",
    ]
    for lesion, facts in zip(store.lesions, summary["lesions"], strict=True):
        score = "" if lesion.score is None else f", score {lesion.score:.2f}"
        size = "mask not computed yet" if facts["voxels"] is None else f"{facts['volume_ml']:.2f} mL"
        sentences.append(f"{lesion.number} {lesion.name} ({lesion.status}{score}): {size}; changed {facts['changed']}")
        for each, prompt in zip(lesion.numbered, facts["prompts"], strict=True):
            sentences.append(f"  prompt {each.number}: {prompt_text(each.prompt)}; {prompt['at']}")
    return sentences


def _check_export(given: dict[str, str], output: Path | None, cohort: Path | None, patient: str | None) -> None:
    """Refuse options of an export that was not asked for, and a patient that no list can hold.

    Args:
        given: the options of the command line, by parameter; those of the user's defaults are just not used.
        output: what -o writes.
        cohort: the cohort.
        patient: the patient's name.
    """
    alone = [given[name] for name in ("separate", "overlap", "accepted") if name in given]
    if output is None and alone:
        raise SettingsError(f"{', '.join(alone)}: for what -o writes; give -o FILE or FOLDER, or leave it out")
    alone = [given[name] for name in ("keep", "threshold") if name in given]
    if output is None and cohort is None and alone:
        raise SettingsError(f"{', '.join(alone)}: for what -o or --cohort writes; give one of them, or leave it out")
    if patient is not None:
        from ..export import check_patient

        check_patient(patient)
        if cohort is None and "patient" in given:
            raise SessionError(f"--patient {patient}: names the patient of a scan in a cohort; give --cohort too")


def _overlap(one: Mask, other: Mask) -> float:
    """Intersection over union of two masks on the session's grid."""
    import numpy as np

    one, other = one.cropped(), other.cropped()
    low = np.maximum(one.start, other.start)
    high = np.minimum(np.add(one.start, one.array.shape), np.add(other.start, other.array.shape))
    if (high <= low).any():
        return 0.0
    parts = [
        each.array[tuple(map(slice, low - np.array(each.start), high - np.array(each.start)))] for each in (one, other)
    ]
    both = int(np.count_nonzero(parts[0] & parts[1]))
    return both / (one.voxels + other.voxels - both)


def _mask_before(session: Session, name: str) -> Mask | None:
    """The mask of a lesion that further prompts are given to, if it is known without computing it."""
    numbers = numbers_called(session, name)
    before = session.lesion(numbers[0]) if numbers else None
    if before is None or not (before.prompts or before.initial_mask):
        return None
    return session.store.mask(before)


def _change(given: list[Prompt], before: Mask, after: Mask) -> str:
    """What further prompts changed of a lesion's mask."""
    from ..session.summary import prompt_text

    words = prompt_text(given[0]) if len(given) == 1 else f"these {len(given)} prompts"
    return f"{words} {change(before, after)}"


def _check_times(times: int, there: int, done: str) -> None:
    """Refuse more steps than there are, before the first; the session refuses where there is none."""
    if 0 < there < times:
        raise SessionError(f"--times {times}: no more than {there} can be {done}; nothing was changed")


def _prompted(session: Session, name: str, given: list[Prompt], progress: Callable[[float], None]) -> int:
    """Add prompts to the lesion of a name or a number; one of a new name is begun. Returns its number."""
    numbers = numbers_called(session, name)
    if not numbers and not given:
        there = ", ".join(lesion.name for lesion in session.lesions) or "none yet"
        raise SessionError(f"no lesion {name!r} to accept; there are: {there}")
    if not numbers:
        session.check(given, progress=progress)  # before it is begun, which discards what was undone
    number = numbers[0] if numbers else session.add(name)
    if given:
        session.add_prompts(number, given, progress=progress)
    return number
