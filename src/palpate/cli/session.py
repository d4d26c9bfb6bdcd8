"""`palpate session`: several lesions on one scan, kept in a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ..errors import PalpateError, SessionError, SettingsError
from .console import (
    BaseOption,
    BudgetOption,
    Console,
    DeviceOption,
    JsonOption,
    ModelOption,
    PrecisionOption,
    ZoomOption,
    app,
    predictor_of,
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

if TYPE_CHECKING:
    from ..prompts import Prompt
    from ..session import Lesion, Session

session_app = typer.Typer(
    help="Several lesions on one scan, in a folder that keeps every prompt (docs/sessions.md).",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    epilog="Examples:\n\n`palpate session add visit1/ --scan scan.nii.gz --lesion liver1 --click 120,88,45`\n\n"
    "`palpate session replay visit1/ --scan scan.nii.gz -o lesions.nii.gz`",
)
app.add_typer(session_app, name="session")

FolderArgument = Annotated[Path, typer.Argument(help="The session's folder.")]
ScanOption = Annotated[Path, typer.Option(help="The scan: a file, or a folder of DICOM slices.")]
SeriesOption = Annotated[str | None, typer.Option(help="Which DICOM series, where a folder holds several.")]
OtherModelOption = Annotated[
    bool, typer.Option("--other-model", help="Go on with another model than the session was made with.")
]


class PredictorOptions(NamedTuple):
    """Which model, and how it looks: what the verbs' options say, as `predictor_of` takes it."""

    model: str
    base: Path | None
    device: str
    precision: str
    zoom: bool
    budget: int | None


@session_app.command(
    epilog="Examples:\n\n"
    "`palpate session add visit1/ --scan scan.nii.gz --lesion liver1 --click 120,88,45`\n\n"
    "`palpate session add visit1/ --scan scan.nii.gz --lesion liver1 --not 131,90,45 --accept`\n\n"
    "`palpate session add visit1/ --scan scan.nii.gz --lesion node --box 60,70,20,72,84,26 --json`"
)
def add(
    folder: FolderArgument,
    scan: ScanOption,
    lesion: Annotated[str, typer.Option(help="The lesion's name; a new one is added.")],
    click: ClickOption = None,
    click_mm: ClickMmOption = None,
    no: NotOption = None,
    box: BoxOption = None,
    scribble: ScribbleOption = None,
    lasso: LassoOption = None,
    prior: PriorOption = None,
    prompts: PromptsOption = None,
    accept: Annotated[bool, typer.Option("--accept", help="Then accept the lesion's mask.")] = False,
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
    """Add prompts to a lesion; the session and the lesion are begun where there are none."""
    console = Console(machine)
    with console.reporting():
        from ..session.journal import JOURNAL

        new = not (folder / JOURNAL).exists()
        options = PredictorOptions(model, base, device, precision, zoom, budget)
        with opened(console, folder, scan, series, options, new=new, other_model=other_model) as session:
            given = given_prompts(session.volume, prompts, prior, box, scribble, lasso, click, click_mm, no)
            if not given and not accept:
                raise SessionError(f"nothing to do for lesion {lesion!r}. {HOW_TO_POINT}, or --accept")
            with console.step("segment", "segmenting") as progress, wholly(session):
                session.predictor.progress = progress
                number = _prompted(session, lesion, given)
                if accept:
                    session.accept(number)
            tell(console, folder, session, [session.lesion(number)])


@session_app.command(
    epilog="Examples:\n\n`palpate session undo visit1/ --scan scan.nii.gz`\n\n"
    "`palpate session undo visit1/ --scan scan.nii.gz --times 3`"
)
def undo(
    folder: FolderArgument,
    scan: ScanOption,
    times: Annotated[int, typer.Option(min=1, help="How many operations.")] = 1,
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
    """Take the last operations back: prompts, an acceptance, a new lesion."""
    console = Console(machine)
    options = PredictorOptions(model, base, device, precision, zoom, budget)
    with console.reporting(), opened(console, folder, scan, series, options, other_model=other_model) as session:
        _check_times(times, session.undoable, "undone")
        for _ in range(times):
            session.undo()
        tell(console, folder, session, session.lesions)


@session_app.command(
    epilog="Examples:\n\n`palpate session redo visit1/ --scan scan.nii.gz`\n\n"
    "`palpate session redo visit1/ --scan scan.nii.gz --times 3`"
)
def redo(
    folder: FolderArgument,
    scan: ScanOption,
    times: Annotated[int, typer.Option(min=1, help="How many operations.")] = 1,
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
    """Do again what was undone last, as long as nothing else was done since."""
    console = Console(machine)
    options = PredictorOptions(model, base, device, precision, zoom, budget)
    with console.reporting(), opened(console, folder, scan, series, options, other_model=other_model) as session:
        _check_times(times, session.redoable, "done again")
        for _ in range(times):
            session.redo()
        tell(console, folder, session, session.lesions)


@session_app.command(
    epilog="Examples:\n\n"
    "`palpate session replay visit1/ --scan scan.nii.gz`\n\n"
    "`palpate session replay visit1/ --scan scan.nii.gz -o lesions.nii.gz --overlap highest --accepted`\n\n"
    "`palpate session replay visit1/ --scan scan.nii.gz -o masks/ --separate --json`\n\n"
    "`palpate session replay visit1/ --scan scan.nii.gz --cohort mine/ --patient P017`"
)
def replay(
    folder: FolderArgument,
    scan: ScanOption,
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
        Path | None, typer.Option(help="Append the accepted lesions to this cohort, for `look` and `train`.")
    ] = None,
    patient: Annotated[str | None, typer.Option(help="In the cohort: whose scan it is.")] = None,
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
    """Make a session's masks anew from its journal, which is only read; print their sizes, and export them."""
    console = Console(machine)
    with console.reporting():
        _check_export(output, cohort, patient, separate=separate, overlap=overlap, accepted=accepted)
        options = PredictorOptions(model, base, device, precision, zoom, budget)
        with opened(console, folder, scan, series, options, other_model=other_model, read_only=True) as session:
            with console.step("segment", "segmenting") as progress:
                session.predictor.progress = progress
                for lesion in session.lesions:
                    session.mask(lesion.number)
            more: dict[str, Any] = {"files": [], "cohort": None}
            with console.step("export", "exporting"):
                if output is not None:
                    made = session.export(
                        output,
                        separate=separate,
                        overlap=overlap or "later",  # type: ignore[arg-type]
                        accepted_only=accepted,
                    )
                    more["files"] = [str(path) for path in made]
                if cohort is not None:
                    more["cohort"] = session.export_cohort(cohort, patient=patient)
            tell(console, folder, session, session.lesions, more)


@contextmanager
def opened(
    console: Console,
    folder: Path,
    scan: Path,
    series: str | None,
    options: PredictorOptions,
    *,
    new: bool = False,
    other_model: bool = False,
    read_only: bool = False,
) -> Iterator[Session]:
    """The session, with its scan read and its model loaded; a new one in which nothing could be done leaves no trace.

    Raises:
        PalpateError: the scan, the model or the session cannot be read.
    """
    with console.step("read", f"reading {scan}"):
        from ..formats import read
        from ..session.journal import check_there

        if not new:
            check_there(folder)
        volume = read(scan, series=series)
    with console.step("load", f"loading {options.model}"):
        from ..session import Session

        predictor = predictor_of(*options)
    if new:
        session = Session(predictor, volume, folder)
    else:
        session = Session.open(folder, predictor, volume, allow_other_model=other_model, read_only=read_only)
    with session:
        try:
            yield session
        except BaseException:
            if new and not session.can_undo:  # else it would stay bound to a scan or a model chosen by mistake
                session.discard()
            raise


@contextmanager
def wholly(session: Session) -> Iterator[None]:
    """All that is done to a session in the block, or nothing: after an error it is taken back."""
    before = session.undoable
    try:
        yield
    except BaseException:
        with suppress(PalpateError):  # a full disk, say, which is told already
            while session.undoable > before:
                session.undo()
        raise


def lesion_called(session: Session, said: str) -> int:
    """The number of the lesion of a name, or, where none is called so, of a number.

    Raises:
        SessionError: none, or several of that name.
    """
    numbers = _called(session, said) or [each.number for each in session.lesions if str(each.number) == said.strip()]
    if not numbers:
        there = ", ".join(f"{each.number} {each.name}" for each in session.lesions) or "none yet"
        raise SessionError(f"no lesion {said!r} in this session; there are: {there}")
    return numbers[0]


def _called(session: Session, name: str) -> list[int]:
    """The number of the lesion of a name, if there is one."""
    numbers = [lesion.number for lesion in session.lesions if lesion.name == name.strip()]
    if len(numbers) > 1:
        raise SessionError(
            f"several lesions are called {name!r}, numbers {', '.join(map(str, numbers))}; tell them apart first: "
            "palpate session rename --lesion NUMBER --to NAME"
        )
    return numbers


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
        from ..session.growing import check_patient

        check_patient(patient)
        if cohort is None:
            raise SessionError(f"--patient {patient}: says whose scan it is in a cohort; give --cohort too")


def _check_times(times: int, there: int, done: str) -> None:
    """Refuse more steps than there are, before the first; what to say of none, the session knows."""
    if 0 < there < times:
        raise SessionError(f"--times {times}: no more than {there} can be {done}; nothing was changed")


def _prompted(session: Session, name: str, given: list[Prompt]) -> int:
    """Add prompts to the lesion of a name, which is begun if there is none; returns its number."""
    numbers = _called(session, name)
    if not numbers and not given:
        there = ", ".join(lesion.name for lesion in session.lesions) or "none yet"
        raise SessionError(f"no lesion {name!r} to accept; there are: {there}")
    if not numbers:
        session.check(given)  # before it is begun, which discards what was undone
    number = numbers[0] if numbers else session.add(name)
    if given:
        session.add_prompts(number, given)
    return number


def tell(
    console: Console,
    folder: Path,
    session: Session,
    lesions: Sequence[Lesion],
    exported: dict[str, Any] | None = None,
    none: str = "no lesion",
) -> None:
    """Print lesions as they are now, or that there is none, and what was exported of them."""
    from ..session import lesion_record

    records = [lesion_record(session, lesion) for lesion in lesions]
    more = exported or {}
    lines = [_sentence(record) for record in records] or [f"{folder}: {none}"]
    lines += [f"wrote {path}" for path in more.get("files", [])]
    if more.get("cohort"):
        lines.append(f"in the cohort as {more['cohort']}")
    whole = {"session": str(folder), "scan": session.scan.path, "model": session.model.name, "lesions": records}
    console.result(whole | more, lines)


def _sentence(record: dict[str, Any]) -> str:
    numbers = record["prompt_numbers"]
    pointed = f"prompt{'s' * (len(numbers) != 1)} {', '.join(map(str, numbers))}" if numbers else "no prompt"
    if record["score"] is not None:
        pointed += f", score {record['score']:.2f}"
    said = f"{record['number']} {record['name']} ({record['status']}, {pointed}): "
    if record["longest"] is None:
        return said + "empty"
    where = f"{'xyz'[record['slice']['axis']]}={record['slice']['index']}"
    sizes = f"{record['longest']['mm']:.1f} x {record['perpendicular']['mm']:.1f} mm on slice {where}"
    return f"{said}{record['volume_ml']:.2f} mL, {sizes}"
