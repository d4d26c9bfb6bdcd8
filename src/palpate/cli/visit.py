"""What every verb of `palpate session` shares: its folder, scan and model, and how it tells what became of lesions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PalpateError, SessionError
from .console import (
    BaseOption,
    BudgetOption,
    Console,
    DeviceOption,
    ModelOption,
    PrecisionOption,
    ZoomOption,
    app,
    predictor_of,
)
from .verbs import OptionGroup, Verb, verb

if TYPE_CHECKING:
    from ..session import Lesion, Session

session_app = typer.Typer(
    help="Several lesions on one scan, in a folder that keeps every prompt (docs/sessions.md).",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    epilog="Examples:\n\n`palpate session add visit1/ --scan scan.nii.gz --lesion liver1 --click 120,88,45`\n\n"
    "`palpate session replay visit1/ --scan scan.nii.gz -o lesions.nii.gz`",
)
app.add_typer(session_app, name="session")


@dataclass
class Visit:
    """A session that a verb is called on: what the options say that every verb has.

    Attributes:
        console: how it speaks.
        folder: the session's.
        scan: the scan's file or folder.
        model: a bundled model's name, or a file.
        base: for an adapter, the model it was trained on.
        other_model: whether to go on with another model than the session was made with.
        series: which DICOM series.
        device: where the network computes.
        precision: its arithmetic.
        zoom: whether it looks wider and closer.
        budget: most crops of a refinement; None: the Predictor's own.
    """

    console: Console
    folder: Path
    scan: Path
    model: str
    base: Path | None
    other_model: bool
    series: str | None
    device: str
    precision: str
    zoom: bool
    budget: int | None

    @contextmanager
    def opened(self, *, begin: bool = False, read_only: bool = False) -> Iterator[Session]:
        """The session, with its scan read and its model loaded.

        Args:
            begin: begin one where there is none; if nothing could be done in it, it leaves no trace.
            read_only: write and lock nothing.

        Raises:
            PalpateError: the scan, the model or the session cannot be read.
        """
        from ..session.journal import check_there, is_there

        new = begin and not is_there(self.folder)
        if not new:
            check_there(self.folder)
        volume = self.console.read(self.scan, self.series)
        with self.console.step("load", f"loading {self.model}"):
            from ..session import Session

            predictor = predictor_of(self.model, self.base, self.device, self.precision, self.zoom, self.budget)
        if new:
            session = Session(predictor, volume, self.folder)
        else:
            session = Session.open(
                self.folder, predictor, volume, allow_other_model=self.other_model, read_only=read_only
            )
        with session:
            try:
                yield session
            except BaseException:
                if new and not session.can_undo:  # else it would stay bound to a scan or a model chosen by mistake
                    session.discard()
                raise

    @contextmanager
    def changing(self, lesion: str) -> Iterator[tuple[Session, int]]:
        """The session and a lesion's number, for one operation on it; then what became of it is told.

        Args:
            lesion: its name or its number; if it is gone in the end, all that are left are told.

        Raises:
            PalpateError: see `opened`.
            SessionError: see `lesion_called`.
        """
        with self.opened() as session:
            number = lesion_called(session, lesion)
            with self.segmenting(session):
                yield session, number
            self.tell(session, [each for each in session.lesions if each.number == number] or session.lesions)

    @contextmanager
    def segmenting(self, session: Session) -> Iterator[None]:
        """A step in which the network works, with its progress."""
        with self.console.step("segment", "segmenting") as progress:
            session.progress = progress
            yield

    def tell(
        self,
        session: Session,
        lesions: Sequence[Lesion],
        exported: dict[str, Any] | None = None,
        none: str = "no lesion",
    ) -> None:
        """Print lesions as they are now, or that there is none, and what was exported of them."""
        from ..export import lesion_facts

        with self.segmenting(session):  # what is not kept is made anew
            records = [lesion_facts(session.record(lesion.number)) for lesion in lesions]
        more = exported or {}
        lines = [_sentence(record) for record in records] or [f"{self.folder}: {none}"]
        lines += [f"wrote {path}" for path in more.get("files", [])]
        lines += [_loss_sentence(loss) for loss in more.get("overlap", [])]
        if more.get("cohort"):
            lines.append(f"in the cohort as {more['cohort']}")
        whole = {
            "session": str(self.folder),
            "scan": session.scan.path,
            "model": session.model.name,
            "lesions": records,
        }
        self.console.result(whole | more, lines)


def session_verb(name: str, *examples: str) -> Callable[[Verb], Verb]:
    """Register a verb of `palpate session`, which takes `SessionOptions` first.

    Args:
        name: the verb's.
        examples: what follows `palpate session VERB visit1/ --scan scan.nii.gz`, for its help.
    """
    words = f"palpate session {name} visit1/ --scan scan.nii.gz"
    return verb(session_app, name, examples=tuple(f"{words} {more}".rstrip() for more in examples))


def _visit(
    console: Console,
    folder: Annotated[Path, typer.Argument(help="The session's folder.")],
    scan: Annotated[Path, typer.Option(help="The scan: a file, or a folder of DICOM slices.")],
    model: ModelOption = "palpate-tiny",
    base: BaseOption = None,
    other_model: Annotated[
        bool, typer.Option("--other-model", help="Go on with another model than the session was made with.")
    ] = False,
    series: Annotated[str | None, typer.Option(help="Which DICOM series, where a folder holds several.")] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    zoom: ZoomOption = True,
    budget: BudgetOption = None,
) -> Visit:
    return Visit(console, folder, scan, model, base, other_model, series, device, precision, zoom, budget)


SessionOptions = Annotated[Visit, OptionGroup(_visit)]


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
    numbers = numbers_called(session, said)
    if not numbers:
        there = ", ".join(f"{each.number} {each.name}" for each in session.lesions) or "none yet"
        raise SessionError(f"no lesion {said!r} in this session; there are: {there}")
    return numbers[0]


def numbers_called(session: Session, said: str) -> list[int]:
    """The number of the lesion of a name, or, where none is called so, of a number; empty if there is neither.

    Raises:
        SessionError: several of that name.
    """
    said = said.strip()
    numbers = [lesion.number for lesion in session.lesions if lesion.name == said]
    if len(numbers) > 1:
        raise SessionError(
            f"several lesions are called {said!r}, numbers {', '.join(map(str, numbers))}; tell them apart first: "
            "palpate session rename --lesion NUMBER --to NAME"
        )
    return numbers or [lesion.number for lesion in session.lesions if str(lesion.number) == said]


def _loss_sentence(loss: dict[str, int]) -> str:
    lesion, lost, voxels = loss["lesion"], loss["lost"], loss["voxels"]
    if lost == voxels:
        return f"warning: lesion {lesion} is not in the label map: other lesions cover all of its {voxels} voxels"
    return f"warning: the label map gives {lost} of the {voxels} voxels of lesion {lesion} to lesions that overlap it"


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
