"""`palpate session`: several lesions on one scan, kept in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ..errors import PalpateError, SessionError
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


class Looks(NamedTuple):
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
        looks = Looks(model, base, device, precision, zoom, budget)
        with _opened(console, folder, scan, series, looks, new=new, other_model=other_model) as session:
            given = given_prompts(session.volume, prompts, prior, box, scribble, lasso, click, click_mm, no)
            if not given and not accept:
                raise SessionError(f"nothing to do for lesion {lesion!r}. {HOW_TO_POINT}, or --accept")
            with console.step("segment", "segmenting") as progress:
                session.predictor.progress = progress
                number = _prompted(session, lesion, given)
            if accept:
                session.accept(number)
            _tell(console, folder, session, [session.lesion(number)])


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
    looks = Looks(model, base, device, precision, zoom, budget)
    with console.reporting(), _opened(console, folder, scan, series, looks, other_model=other_model) as session:
        for _ in range(times):
            session.undo()
        _tell(console, folder, session, session.lesions)


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
        str, typer.Option(help="Whose a voxel is that lies in several: later, earlier or highest (probability).")
    ] = "later",
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
        if patient is not None and cohort is None:
            raise SessionError(f"--patient {patient}: says whose scan it is in a cohort; give --cohort too")
        looks = Looks(model, base, device, precision, zoom, budget)
        with _opened(console, folder, scan, series, looks, other_model=other_model, read_only=True) as session:
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
                        overlap=overlap,  # type: ignore[arg-type]
                        accepted_only=accepted,
                    )
                    more["files"] = [str(path) for path in made]
                if cohort is not None:
                    more["cohort"] = session.export_cohort(cohort, patient=patient)
            _tell(console, folder, session, session.lesions, more)


def _opened(
    console: Console,
    folder: Path,
    scan: Path,
    series: str | None,
    looks: Looks,
    *,
    new: bool = False,
    other_model: bool = False,
    read_only: bool = False,
) -> Session:
    """The session, with its scan read and its model loaded."""
    with console.step("read", f"reading {scan}"):
        from ..formats import read
        from ..session.journal import check_there

        if not new:
            check_there(folder)
        volume = read(scan, series=series)
    with console.step("load", f"loading {looks.model}"):
        from ..session import Session

        predictor = predictor_of(*looks)
    if new:
        return Session(predictor, volume, folder)
    return Session.open(folder, predictor, volume, allow_other_model=other_model, read_only=read_only)


def _prompted(session: Session, name: str, given: list[Prompt]) -> int:
    """Add prompts to the lesion of a name, which is begun if there is none; returns its number."""
    numbers = [lesion.number for lesion in session.lesions if lesion.name == name.strip()]
    if len(numbers) > 1:
        raise SessionError(f"several lesions are called {name!r} ({', '.join(map(str, numbers))}); rename them first")
    if not numbers and not given:
        there = ", ".join(lesion.name for lesion in session.lesions) or "none yet"
        raise SessionError(f"no lesion {name!r} to accept; there are: {there}")
    number = numbers[0] if numbers else session.add(name)
    try:
        if given:
            session.add_prompts(number, given)
    except (PalpateError, KeyboardInterrupt):
        if not numbers:
            with suppress(PalpateError):  # a full disk, say, which is told already
                session.undo()
        raise
    return number


def _tell(
    console: Console,
    folder: Path,
    session: Session,
    lesions: Sequence[Lesion],
    exported: dict[str, Any] | None = None,
) -> None:
    from ..session import lesion_record

    records = [lesion_record(session, lesion) for lesion in lesions]
    more = exported or {}
    lines = [_sentence(record) for record in records] or [f"{folder}: no lesion"]
    lines += [f"wrote {path}" for path in more.get("files", [])]
    if more.get("cohort"):
        lines.append(f"in the cohort as {more['cohort']}")
    whole = {"session": str(folder), "scan": session.scan.path, "model": session.model.name, "lesions": records}
    console.result(whole | more, lines)


def _sentence(record: dict[str, Any]) -> str:
    count = len(record["prompts"])
    said = f"{record['number']} {record['name']} ({record['status']}, {count} prompt{'s' * (count != 1)}): "
    if record["longest"] is None:
        return said + "empty"
    where = f"{'xyz'[record['slice']['axis']]}={record['slice']['index']}"
    sizes = f"{record['longest']['mm']:.1f} x {record['perpendicular']['mm']:.1f} mm on slice {where}"
    return f"{said}{record['volume_ml']:.2f} mL, {sizes}"
