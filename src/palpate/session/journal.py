"""A session on disk: a journal to which every operation is appended before it counts as done.

::

    FOLDER/
        journal.jsonl    a header, then an operation a line; only ever appended to
        journal.lock     who appends to it at the moment
        files/           masks and long strokes that lines name, each called by the SHA-256 of its bytes

A line is one JSON object that ends in its own checksum. Nothing that is read is executed: lines are JSON, checked by
pydantic, and files are NIfTI and plain arrays, checked by their names before they are opened.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticSerializationError

from ..devices import Precision
from ..errors import OutputError, PalpateError, PromptError, ScanError, SessionError
from ..export import ScanIdentity
from ..files import error_text, file_sha256, hidden_folder, lock, replacing, tidy, writing
from ..formats import write
from ..inference import BUDGET
from ..prompts import Places
from ..volume import Grid, Mask, Source
from .lesions import Operation

if TYPE_CHECKING:
    from filelock import BaseFileLock

VERSION = 1
JOURNAL, LOCK, FILES = "journal.jsonl", "journal.lock", "files"
MOST_BYTES = 64 * 2**20  # of a line; our own are smaller by far, since large things lie in files
_CHECK = ', "crc32": "'
_NAME = re.compile(r"[0-9a-f]{64}(\.nii\.gz|\.npy)")
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


T = TypeVar("T", bound=_Part)


class ModelIdentity(_Part):
    """Which model, and how it looks.

    Attributes:
        name: what it calls itself; told, not compared.
        sha256: of its tensors, shape and preprocessing.
        budget: most crops of a refinement (`Predictor`); None: it does not zoom.
        precision: the arithmetic of its network.
    """

    name: str
    sha256: Sha256
    budget: int | None = Field(BUDGET, ge=0)
    precision: Precision = "float32"

    def same_as(self, other: ModelIdentity) -> bool:
        """Whether the same prompts give the same masks."""
        mine, others = ((one.sha256, one.budget, one.precision) for one in (self, other))
        return mine == others

    @property
    def told(self) -> str:
        """It in words."""
        looks = "" if self.budget == BUDGET else ", no zoom" if self.budget is None else f", budget {self.budget}"
        looks += "" if self.precision == "float32" else f", {self.precision}"
        return f"{self.name} ({self.sha256[:12]}{looks})"


class Header(_Part):
    """The first line.

    Attributes:
        version: of the journal's form.
        palpate: of the program that began it.
        scan: which scan.
        model: which model it was begun with.
        id: drawn at random, so that no two sessions are one, whenever they began; None: of a program before there were.
    """

    version: Literal[1] = 1
    palpate: str
    scan: ScanIdentity
    model: ModelIdentity
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None


class Undo(_Part):
    """The last operation taken back."""

    kind: Literal["undo"] = "undo"


class Redo(_Part):
    """What was undone last, done again."""

    kind: Literal["redo"] = "redo"


class OtherModel(_Part):
    """From here on another model."""

    kind: Literal["other_model"] = "other_model"
    model: ModelIdentity


Step = Annotated[Operation | Undo | Redo | OtherModel, Field(discriminator="kind")]


class Line(_Part):
    """Every further line.

    Attributes:
        sequence: 1, 2, 3, ...
        at: when, UTC.
        step: what was done.
    """

    sequence: int
    at: str
    step: Step


class SessionFiles:
    """The files that lines name, and the context in which prompts are read and written.

    Args:
        folder: the session's.
        grid: the scan's.
        source: the scan's header, which masks repeat.
    """

    def __init__(self, folder: Path, grid: Grid, source: Source | None):
        self.folder, self.grid, self.source = folder / FILES, grid, source
        self._made: list[Path] = []

    def save_mask(self, mask: Mask) -> str:
        """A mask as a NIfTI file; returns its name.

        Raises:
            OutputError: it cannot be written.
        """
        # On the scan's own grid: another program's header may differ from it by rounding.
        ours = Mask(mask.array, mask.start, self.grid, self.source)
        return self._keep(".nii.gz", lambda path: write(ours, path))

    def save_places(self, places: Places) -> str:
        """Voxels `[N, 3]` as a NumPy file; returns its name.

        Raises:
            OutputError: it cannot be written.
        """
        return self._keep(".npy", lambda path: np.save(path, places.astype(np.int32), allow_pickle=False))

    def check(self, name: str) -> None:
        """Refuse a name that is not a whole file of ours.

        Raises:
            SessionError: another folder's file, none, or one whose content is not what its name says.
        """
        path = self.folder / name
        if not _NAME.fullmatch(name):
            raise SessionError(f"it names the file {name[:200]!r}, which is none that a session writes")
        try:
            found = file_sha256(path)
        except OSError as error:
            raise SessionError(f"{path} cannot be read ({error_text(error)}); put the session's files back") from error
        if not name.startswith(found):
            raise SessionError(f"{path} is damaged: its content is not what its name says; put a whole copy there")

    def tidy(self) -> None:
        """Take away what a kill left half written."""
        tidy(self.folder)

    def discard(self) -> None:
        """Take away every file that this object made, and their folder if it made that and it is empty."""
        _take_away(self._made)
        self._made = []

    def _keep(self, ending: str, write_to: Callable[[Path], None]) -> str:
        """Write a file, name it by its content, and be sure that it is on the disk."""
        with writing(self.folder):
            if not self.folder.is_dir():
                self.folder.mkdir()
                self._made.append(self.folder)
            with hidden_folder(self.folder) as staging:
                path = Path(staging) / f"new{ending}"
                write_to(path)
                name = file_sha256(path) + ending
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                if not (self.folder / name).exists():
                    self._made.append(self.folder / name)
                path.replace(self.folder / name)
            _sync_folder(self.folder)
        return name


class Journal:
    """The journal's file, open for appending; no other process appends to it meanwhile.

    Made by `create` and `open`.
    """

    def __init__(self, folder: Path, held: BaseFileLock, made: Sequence[Path] = ()):
        self.path = folder / JOURNAL
        self._lock, self._made = held, made
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
        self._size = os.fstat(self._file).st_size
        self._sequence = 0
        self._broken = False

    @classmethod
    def create(cls, folder: Path, header: Header) -> Journal:
        """A new journal in a folder, which is made if need be.

        Raises:
            SessionError: there is a journal already, or another process holds it.
            OutputError: it cannot be written.
        """
        made = [path for path in (folder, folder / LOCK) if not path.exists()]
        with writing(folder):
            folder.mkdir(exist_ok=True)
        try:
            held = lock(folder / LOCK, in_use(folder))
        except PalpateError:
            _take_away([path for path in made if path == folder])  # the lock may be another process's
            raise
        try:
            if (folder / JOURNAL).exists():
                raise SessionError(f"{folder}: holds a session already; open that one, or choose another folder")
            with replacing(folder / JOURNAL) as (staged,):
                staged.write_bytes(_sealed(header))
            _sync_folder(folder)
            return cls(folder, held, made)
        except BaseException:
            _take_away(made)
            held.release()
            raise

    @classmethod
    def open(cls, folder: Path) -> Journal:
        """The journal in a folder, to go on with; a last line that was torn while it was written is cut off.

        Raises:
            SessionError: no journal, or another process holds it.
            OutputError: it cannot be written.
        """
        check_there(folder)
        held = lock(folder / LOCK, in_use(folder))
        try:
            with writing(folder / JOURNAL):
                journal = cls(folder, held)
                journal._cut()
        except OutputError:
            held.release()
            raise
        return journal

    def go_on_after(self, sequence: int) -> None:
        """Number the next line one higher than this."""
        self._sequence = sequence

    def append(self, step: Step, files: SessionFiles) -> None:
        """Append a line; it is on the disk, or nothing was changed.

        Raises:
            OutputError: the disk is full or fails.
        """
        if self._broken:
            raise OutputError(f"{self.path}: could not be repaired after a failed write; close the session and open it")
        line = Line(sequence=self._sequence + 1, at=datetime.now(UTC).isoformat(timespec="seconds"), step=step)
        text = _sealed(line, files)
        if len(text) > MOST_BYTES:
            raise SessionError(f"a step of {len(text)} bytes is more than a journal's line may have ({MOST_BYTES})")
        try:
            with writing(self.path):
                done = 0
                while done < len(text):
                    done += os.write(self._file, text[done:])
                os.fsync(self._file)
        except BaseException:
            self._take_back()
            raise
        self._size += len(text)
        self._sequence += 1

    def close(self) -> None:
        """Let others append."""
        os.close(self._file)
        self._lock.release()

    def discard(self) -> None:
        """Take it away, with what else `create` made; a folder in which something else lies stays. And close it."""
        _take_away([*self._made, self.path])
        self.close()

    def _take_back(self) -> None:
        """Cut off what of a line was written before the disk failed."""
        try:
            os.ftruncate(self._file, self._size)
        except OSError:
            self._broken = True

    def _cut(self) -> None:
        whole = _whole_bytes(self.path)
        if whole < self._size:
            os.ftruncate(self._file, whole)
            os.fsync(self._file)
            self._size = whole


def read_header(folder: Path) -> Header:
    """The first line of the journal in a folder.

    Raises:
        SessionError: no journal, one of another version, or a damaged header.
    """
    check_there(folder)
    first = next(_lines(folder / JOURNAL), None)
    if first is None:
        raise SessionError(f"{folder / JOURNAL}: has no whole line; start a new session in another folder")
    newer = re.match(rb'\{"version": (\d+)', first)
    if newer and newer[1] != str(VERSION).encode():
        raise SessionError(
            f"{folder / JOURNAL}: a journal of version {newer[1][:9].decode()}, this program reads {VERSION}; "
            "update palpate"
        )
    return _parsed(Header, first, folder / JOURNAL, 1, None)


def read_lines(folder: Path, files: SessionFiles) -> Iterator[Line]:
    """The lines after the header, each checked; a last line that was torn while it was written is left out.

    Raises:
        SessionError: a line that is damaged, missing or hostile; the message says which.
    """
    path = folder / JOURNAL
    for number, text in enumerate(_lines(path), start=1):
        if number == 1:
            continue
        line = _parsed(Line, text, path, number, files)
        if line.sequence != number - 1:
            raise SessionError(f"{path}: line {number} is step {line.sequence}, not {number - 1}: {_REPAIR}")
        yield line


def in_use(folder: Path) -> Callable[[str], SessionError]:
    """The error for a folder that somebody else holds (`files.lock`)."""
    return lambda holder: SessionError(f"{folder}: is in use by {holder}; close it there first")


def is_there(folder: Path) -> bool:
    """Whether a folder has a journal.

    Raises:
        SessionError: that may not be looked at.
    """
    try:
        return (folder / JOURNAL).is_file()
    except OSError as error:
        raise SessionError(f"{folder}: cannot be looked into ({error_text(error)}); name another") from error


def check_there(folder: Path) -> None:
    """Refuse a folder without a journal.

    Raises:
        SessionError: there is none.
    """
    if not is_there(folder):
        raise SessionError(f"{folder}: holds no session ({JOURNAL} is missing); check the folder, or start one there")


def fingerprint(folder: Path) -> str:
    """What tells the session in a folder from every other, of the same scan too: a hash of its journal's beginning.

    The header has its own random number, the first step its time, and no line is ever changed.
    """
    return hashlib.sha256(b"\n".join(itertools.islice(_lines(folder / JOURNAL), 2))).hexdigest()


def _sealed(content: BaseModel, files: SessionFiles | None = None) -> bytes:
    """A line of the journal: the content with a checksum of its text as its last field; writes the files it names.

    Raises:
        OutputError: a file that it names cannot be written.
    """
    try:
        plain = content.model_dump(mode="json", context=files)
    except PydanticSerializationError as error:
        raise (error.__cause__ or error) from None  # what went wrong with a file, in its own words
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False)[:-1]
    return f'{text}{_CHECK}{zlib.crc32(text.encode()):08x}"}}\n'.encode()


def _lines(path: Path) -> Iterator[bytes]:
    """The whole lines of a file, without their ends."""
    try:
        with path.open("rb") as file:
            for number in itertools.count(1):
                text = file.readline(MOST_BYTES + 1)
                if len(text) > MOST_BYTES:
                    raise SessionError(f"{path}: line {number} is longer than {MOST_BYTES} bytes: {_REPAIR}")
                if not text.endswith(b"\n"):
                    return
                yield text[:-1]
    except OSError as error:
        raise SessionError(f"{path}: cannot be read ({error_text(error)}); check the disk") from error


_REPAIR = "the journal is damaged there; put a whole copy back, or cut the file before that line and lose what follows"


def _parsed(kind: type[T], text: bytes, path: Path, number: int, files: SessionFiles | None) -> T:
    body, found, rest = text.rpartition(_CHECK.encode())
    if not found or rest != f'{zlib.crc32(body):08x}"}}'.encode():
        raise SessionError(f"{path}: line {number} is not what was written: {_REPAIR}")
    try:
        return kind.model_validate_json(body + b"}", context=files)
    except ValidationError as error:
        said = error.errors()[0]
        where = ".".join(str(part) for part in said["loc"])
        raise SessionError(f"{path}: line {number}: {where}: {said['msg'][:300]}: {_REPAIR}") from error
    except (SessionError, PromptError, ScanError, MemoryError) as error:
        raise SessionError(f"{path}: line {number}: {error}") from error


def _whole_bytes(path: Path) -> int:
    """How many bytes of a file its whole lines take."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
    return 0


def _take_away(made: Sequence[Path]) -> None:
    """Remove files and folders, what was made last first; a folder in which somebody else put something stays."""
    for path in reversed(made):
        with suppress(OSError):
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Put a folder's list of names on the disk, without which a new file may be lost with the power."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
