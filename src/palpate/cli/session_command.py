"""What every verb of `palpate session` shares: its folder, scan and model, and how it prints lesions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PalpateError, SessionError, SettingsError
from .console import Console, app
from .inference import Inference, InferenceOptions
from .verbs import OptionGroup, Verb, verb

if TYPE_CHECKING:
    from ..lesions import Postprocessing
    from ..session import Lesion, Session, SessionStore
    from ..volume import Volume

session_app = typer.Typer(
    help="Several lesions on one scan, in a folder that stores every prompt (docs/how-to/sessions.md).",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    epilog="Examples:\n\n`palpate session add visit1/ --scan scan.nii.gz --lesion liver1 --click 120,88,45`\n\n"
    "`palpate session show visit1/`\n\n"
    "`palpate session replay visit1/ --scan scan.nii.gz -o lesions.nii.gz`",
)
app.add_typer(session_app, name="session")


@dataclass
class SessionCommand:
    """A verb's session, as the options that every verb has describe it.

    Attributes:
        console: its output.
        folder: the session's.
        scan: the scan's file or folder; None: nothing can be computed.
        inference: the model, and how to infer.
        other_model: whether to go on with another model than the session was made with.
        series: which DICOM series.
    """

    console: Console
    folder: Path
    scan: Path | None
    inference: InferenceOptions
    other_model: bool
    series: str | None

    @contextmanager
    def opened(self, *, begin: bool = False, read_only: bool = False) -> Iterator[Session]:
        """The session, with its scan read and its model loaded.

        Args:
            begin: begin one where there is none; if nothing could be done in it, nothing of it is left.
            read_only: write and lock nothing.

        Raises:
            SettingsError: --scan is missing.
            PalpateError: the scan, the model or the session cannot be read.
        """
        from ..session.lines import check_there, is_there

        if self.scan is None:
            raise SettingsError("--scan is missing: masks are computed on the scan; give its file or folder")
        new = begin and not is_there(self.folder)
        if not new:
            check_there(self.folder)
        volume = self.console.read(self.scan, self.series)
        if not new:
            _check_shape(self.folder, volume)
        with self.console.step("load", f"loading {self.inference.model}"):
            from ..predictor import Predictor
            from ..session import Session

            predictor = Predictor(self.inference.settings())
        if new:
            session = Session(predictor, volume, self.folder)
        else:
            session = Session.open(
                self.folder, predictor, volume, allow_other_model=self.other_model, read_only=read_only
            )
        with session:
            try:
                if session.other_model and not read_only:  # its first operation needs all masks, and shows no progress
                    with self.segmenting() as progress:
                        session.compute_masks(progress=progress)
                yield session
            except BaseException:
                if new and not session.can_undo:  # else it would stay bound to a scan or a model chosen by mistake
                    session.discard()
                raise

    @contextmanager
    def edited(self) -> Iterator[Session | SessionStore]:
        """The session for operations that compute nothing: without --scan, its store alone.

        Raises:
            SettingsError: --other-model without --scan.
            PalpateError: see `opened`.
        """
        if self.scan is not None:
            with self.opened() as session:
                yield session
            return
        from ..session import SessionStore

        if self.other_model:
            raise SettingsError("--other-model needs --scan: another model computes every mask first; give the scan")
        with SessionStore.open(self.folder) as store:
            yield store

    @contextmanager
    def changing(self, name: str) -> Iterator[tuple[Session, int]]:
        """The session and a lesion's number, for one operation that may compute; then the lesion is printed.

        Args:
            name: the lesion's name or its number.

        Raises:
            PalpateError: see `opened`.
            SessionError: see `lesion_called`.
        """
        with self.opened() as session:
            number = lesion_called(session, name)
            yield session, number
            self.report(session, [session.lesion(number)])

    @contextmanager
    def editing(self, name: str) -> Iterator[tuple[Session | SessionStore, int]]:
        """As `changing`, for one operation that computes nothing.

        If the lesion is gone in the end, all that are left are printed.
        """
        with self.edited() as session:
            number = lesion_called(session, name)
            yield session, number
            self.report(session, [each for each in session.lesions if each.number == number] or session.lesions)

    @contextmanager
    def segmenting(self) -> Iterator[Callable[[float], None]]:
        """A step in which the model computes; yields what takes its progress."""
        with self.console.step("segment", "segmenting") as progress:
            yield progress

    def report(
        self,
        session: Session | SessionStore,
        lesions: Sequence[Lesion],
        more: dict[str, Any] | None = None,
        none: str = "no lesion",
        postprocessing: Postprocessing | None = None,
        changes: Sequence[str] = (),
    ) -> None:
        """Print lesions as they are now, or that there is none.

        Without the scan, a mask that is not cached is not computed, and its sizes are not printed.

        Args:
            session: the session or its store.
            lesions: those to print.
            more: what was exported, for the JSON: "files" and "cohort".
            none: what to print where there is no lesion.
            postprocessing: of the masks that were exported, whose sizes are printed.
            changes: further sentences for people.
        """
        with self.segmenting() as progress:
            records = [_facts(session, lesion, progress, postprocessing) for lesion in lesions]
        for record in records:
            for warning in record["mask_warnings"] or ():
                self.console.warn(f"lesion {record['name']!r}: {warning['message']}")
        more = more or {}
        sentences = [_sentence(record) for record in records] or [f"{self.folder}: {none}"]
        sentences += changes
        sentences += [f"wrote {path}" for path in more.get("files", [])]
        if more.get("cohort"):
            sentences.append(f"in the cohort as {more['cohort']}")
        header, identity = store_of(session).header, session.identity
        record = {"session": str(self.folder), "scan": header.scan.path, "model": identity.name, "lesions": records}
        self.console.result(record | more, sentences)


def _check_shape(folder: Path, volume: Volume) -> None:
    """Refuse a scan of another shape than a session's before a model is loaded; `Session.open` looks at the voxels.

    Raises:
        SessionError: it is another scan, or the session cannot be read.
    """
    from ..export import identify_scan
    from ..session.lines import read_header
    from ..session.session import check_scan

    made_on = read_header(folder).scan
    if made_on.shape != volume.shape:
        check_scan(folder, made_on, identify_scan(volume))


def session_verb(name: str, *examples: str, scan: bool = True) -> Callable[[Verb], Verb]:
    """Register a verb of `palpate session`, which takes `SessionOptions` first.

    Args:
        name: the verb's.
        examples: what follows `palpate session VERB visit1/`, for its help.
        scan: whether the examples have `--scan scan.nii.gz` there.
    """
    words = f"palpate session {name} visit1/{' --scan scan.nii.gz' * scan}"
    return verb(session_app, name, examples=tuple(f"{words} {more}".rstrip() for more in examples))


def _session_command(
    console: Console,
    folder: Annotated[Path, typer.Argument(help="The session's folder.")],
    scan: Annotated[
        Path | None,
        typer.Option(help="The scan: a file, or a folder of DICOM slices. Needed where masks are computed."),
    ] = None,
    other_model: Annotated[
        bool, typer.Option("--other-model", help="Go on with another model than the session was made with.")
    ] = False,
    series: Annotated[str | None, typer.Option(help="Which DICOM series, where a folder holds several.")] = None,
    *,
    inference: Inference,
) -> SessionCommand:
    return SessionCommand(console, folder, scan, inference, other_model, series)


SessionOptions = Annotated[SessionCommand, OptionGroup(_session_command)]


@contextmanager
def all_or_nothing(session: Session) -> Iterator[None]:
    """All operations of the block, or none: after an error they are undone."""
    before = session.undoable
    try:
        yield
    except BaseException:
        with suppress(PalpateError):  # the first error, such as a full disk, is the one to report
            while session.undoable > before:
                session.undo()
        raise


def lesion_called(session: Session | SessionStore, name: str) -> int:
    """The number of the lesion of a name, or, where none is called so, of a number.

    Raises:
        SessionError: none, or several of that name.
    """
    numbers = numbers_called(session, name)
    if not numbers:
        there = ", ".join(f"{each.number} {each.name}" for each in session.lesions) or "none yet"
        raise SessionError(f"no lesion {name!r} in this session; there are: {there}")
    return numbers[0]


def numbers_called(session: Session | SessionStore, name: str) -> list[int]:
    """The number of the lesion of a name, or, where none is called so, of a number; empty if there is neither.

    Raises:
        SessionError: several of that name, as sessions of older programs may have.
    """
    name = name.strip()
    numbers = [lesion.number for lesion in session.lesions if lesion.name == name]
    if len(numbers) > 1:
        raise SessionError(
            f"several lesions are called {name!r}, numbers {', '.join(map(str, numbers))}; rename one first: "
            "palpate session rename --lesion NUMBER --to NAME"
        )
    return numbers or [lesion.number for lesion in session.lesions if str(lesion.number) == name]


def store_of(session: Session | SessionStore) -> SessionStore:
    """A session's store."""
    from ..session import SessionStore

    return session if isinstance(session, SessionStore) else session.store


def _facts(
    session: Session | SessionStore,
    lesion: Lesion,
    progress: Callable[[float], None],
    postprocessing: Postprocessing | None,
) -> dict[str, Any]:
    """What is known of a lesion, for JSON; sizes and warnings are None where its mask is not computed."""
    from ..export import lesion_facts
    from ..session import SessionStore
    from ..session.summary import facts_without_mask

    if isinstance(session, SessionStore):
        record = session.record(lesion.number)
        facts = facts_without_mask(lesion) if record is None else lesion_facts(record)
        warnings = session.warnings(lesion.number)
    else:
        facts = lesion_facts(session.record(lesion.number, postprocessing=postprocessing, progress=progress))
        warnings = session.warnings(lesion.number, postprocessing=postprocessing)
    return facts | {"mask_warnings": None if warnings is None else [asdict(warning) for warning in warnings]}


def _sentence(record: dict[str, Any]) -> str:
    numbers = record["prompt_numbers"]
    details = f"prompt{'s' * (len(numbers) != 1)} {', '.join(map(str, numbers))}" if numbers else "no prompt"
    if record["score"] is not None:
        details += f", score {record['score']:.2f}"
    beginning = f"{record['number']} {record['name']} ({record['status']}, {details}): "
    if record["voxels"] is None:
        return f"{beginning}mask not computed yet (give --scan)"
    if record["longest"] is None:
        return f"{beginning}empty"
    where = f"{'xyz'[record['slice']['axis']]}={record['slice']['index']}"
    sizes = f"{record['longest']['mm']:.1f} x {record['perpendicular']['mm']:.1f} mm on slice {where}"
    return f"{beginning}{record['volume_ml']:.2f} mL, {sizes}"
