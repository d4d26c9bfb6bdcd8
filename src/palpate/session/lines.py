"""A journal's lines: a header, then a line for each step, each one JSON object that ends in its own checksum.

Nothing that is read is executed: lines are JSON, checked by pydantic, and files are NIfTI and plain arrays, checked by
their names before they are opened.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticSerializationError

from ..errors import PromptError, ScanError, SessionError
from ..export import ScanIdentity
from ..files import error_text
from ..inference.settings import InferenceIdentity
from .files import SessionFiles
from .operations import Operation

VERSION = 1
JOURNAL = "journal.jsonl"
MAX_BYTES = 64 * 2**20  # of a line; our own are smaller by far, since large things lie in files
_CHECK = ', "crc32": "'


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


T = TypeVar("T", bound=_Part)


class Header(_Part):
    """The first line.

    Attributes:
        version: of the journal's form.
        palpate: of the program that began it.
        scan: which scan.
        model: which model it was begun with, and how that infers.
        id: random, so that no two sessions are the same, whenever they began; None: the program was older than this.
    """

    version: Literal[1] = 1
    palpate: str
    scan: ScanIdentity
    model: InferenceIdentity
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None


class Undo(_Part):
    """The last operation undone."""

    kind: Literal["undo"] = "undo"


class Redo(_Part):
    """The operation that was undone last, done again."""

    kind: Literal["redo"] = "redo"


class OtherModel(_Part):
    """From here on another model, or other settings of inference."""

    kind: Literal["other_model"] = "other_model"
    model: InferenceIdentity


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
        SessionError: a line that is damaged, missing or hostile; the message gives its number.
    """
    path = folder / JOURNAL
    for number, text in enumerate(_lines(path), start=1):
        if number == 1:
            continue
        line = _parsed(Line, text, path, number, files)
        if line.sequence != number - 1:
            raise SessionError(f"{path}: line {number} is step {line.sequence}, not {number - 1}: {_REPAIR}")
        yield line


def is_there(folder: Path) -> bool:
    """Whether a folder has a journal.

    Raises:
        SessionError: the folder may not be read.
    """
    try:
        return (folder / JOURNAL).is_file()
    except OSError as error:
        raise SessionError(f"{folder}: cannot be read ({error_text(error)}); name another") from error


def check_there(folder: Path) -> None:
    """Refuse a folder without a journal.

    Raises:
        SessionError: there is none.
    """
    if not is_there(folder):
        raise SessionError(f"{folder}: holds no session ({JOURNAL} is missing); check the folder, or start one there")


def fingerprint(folder: Path) -> str:
    """An identifier of the session in a folder, which no other session has: a hash of its journal's first two lines.

    The header has its own random number, the first step its time, and no line is ever changed.
    """
    return hashlib.sha256(b"\n".join(itertools.islice(_lines(folder / JOURNAL), 2))).hexdigest()


def sealed(content: BaseModel, files: SessionFiles | None = None) -> bytes:
    """A line of the journal: the content with a checksum of its text as its last field; writes the files it names.

    Raises:
        OutputError: a file that it names cannot be written.
    """
    try:
        plain = content.model_dump(mode="json", context=files)
    except PydanticSerializationError as error:
        raise (error.__cause__ or error) from None  # the error of a file that could not be written
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False)[:-1]
    return f'{text}{_CHECK}{zlib.crc32(text.encode()):08x}"}}\n'.encode()


def _lines(path: Path) -> Iterator[bytes]:
    """The whole lines of a file, without their ends."""
    try:
        with path.open("rb") as file:
            for number in itertools.count(1):
                text = file.readline(MAX_BYTES + 1)
                if len(text) > MAX_BYTES:
                    raise SessionError(f"{path}: line {number} is longer than {MAX_BYTES} bytes: {_REPAIR}")
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
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SessionError(f"{path}: line {number}: {where}: {first['msg'][:300]}: {_REPAIR}") from error
    except (SessionError, PromptError, ScanError, MemoryError) as error:
        raise SessionError(f"{path}: line {number}: {error}") from error
