"""What became of each job, in a file that gains a line as each is finished and is read again after a kill."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Generic, Protocol, Self, TypeVar

from pydantic import BaseModel

from ..errors import OutputError, PalpateError
from ..files import check_writable, locked, replacing, writing

Record = TypeVar("Record", bound=BaseModel)
GO_ON = "what was finished is kept. Free some space and run the same command again"


class Lines(Protocol[Record]):
    """How records are lines of text."""

    header: str
    """The first line, with its end; empty: none."""

    def is_first(self, line: str) -> bool:
        """Whether a file may begin with this line."""

    def write(self, record: Record) -> str:
        """A record's line, with its end."""

    def read(self, line: str) -> Record:
        """The record of a line without its end.

        Raises:
            ValueError: it is none.
        """


class CsvLines(Generic[Record]):
    """A record is a row of a CSV; its fields are the columns, None is an empty cell.

    Args:
        record: the records' class.
    """

    def __init__(self, record: type[Record]):
        self._record = record
        self._columns = tuple(record.model_fields)
        self.header = _row(self._columns)

    def is_first(self, line: str) -> bool:
        """Whether a file may begin with this line."""
        return line.strip() == self.header.strip()

    def write(self, record: Record) -> str:
        """A record's line, with its end."""
        return _row("" if cell is None else cell for cell in record.model_dump().values())

    def read(self, line: str) -> Record:
        """The record of a line without its end.

        Raises:
            ValueError: it is none.
        """
        try:
            cells = next(csv.reader([line], strict=True))
        except (csv.Error, StopIteration) as error:
            raise ValueError(f"no row of a CSV: {line!r}") from error
        return self._record.model_validate({n: cell for n, cell in zip(self._columns, cells, strict=True) if cell})


class JsonLines(Generic[Record]):
    """A record is a JSON object on a line; empty lines count for nothing.

    Args:
        record: the records' class.
    """

    header = ""

    def __init__(self, record: type[Record]):
        self._record = record

    def is_first(self, line: str) -> bool:
        """Whether a file may begin with this line."""
        return not line.strip() or line.lstrip().startswith("{")

    def write(self, record: Record) -> str:
        """A record's line, with its end."""
        return record.model_dump_json() + "\n"

    def read(self, line: str) -> Record:
        """The record of a line without its end.

        Raises:
            ValueError: it is none.
        """
        return self._record.model_validate_json(line)


def _row(cells: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


class Ledger(Generic[Record]):
    """A file of records, open for more inside a `with` block: what is appended is on the disk, and stays after a kill.

    A line that a kill tore is left out when the file is read, and so is one that is damaged. One process at a time
    writes it, by a lock on a hidden file beside it, which is deleted in the end.

    Args:
        path: the file; a new one, or one that an earlier run left.
        lines: how records are lines, as `CsvLines(ResultRow)`.
        key: what a record is of; of several with one key the last counts.
        content: what the file holds, for the error where it holds something else.
        advice: what to do then.
        refusal: makes the error where another run writes the file, from that run's description.

    Attributes:
        path: the file.
        latest: the last record of each key.

    Raises:
        OutputError: the file cannot be written, or holds something else.
    """

    def __init__(
        self,
        path: str | Path,
        lines: Lines[Record],
        key: Callable[[Record], Hashable],
        *,
        content: str,
        advice: str = "name another file",
        refusal: Callable[[str], PalpateError],
    ):
        self.path = check_writable(path)
        self._lines = lines
        self._key = key
        self._content = content
        self._advice = advice
        self._refusal = refusal
        self._file: IO[str] | None = None
        self._open = ExitStack()
        self.latest = self._read()

    def __enter__(self) -> Self:
        """Lock the file, write it anew without torn lines, and open it.

        Raises:
            PalpateError: the refusal, where another run writes it.
            OutputError: it cannot be written.
        """
        lock = self.path.with_name(f".{self.path.name}.lock")
        with ExitStack() as opening:
            opening.enter_context(locked(lock, self._refusal, keep=False))
            self.latest = self._read()  # another run may have gone on since
            self._write_all(self.latest.values())
            with writing(self.path, GO_ON):
                self._file = self.path.open("a", encoding="utf-8", errors="backslashreplace", newline="")
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file and release the lock."""
        self._close()
        self._open.close()

    def append(self, record: Record) -> None:
        """Append a record; when this returns, it is on the disk.

        Raises:
            OutputError: the disk is full; what was appended before is kept.
            ValueError: the record has a line break, or the ledger is not open.
        """
        if self._file is None:
            raise ValueError(f"{self.path}: is not open")
        with writing(self.path, GO_ON):
            self._file.write(self._line(record))
            self._file.flush()
            os.fsync(self._file.fileno())
        self.latest[self._key(record)] = record

    def rewrite(self, records: Iterable[Record]) -> None:
        """Hold these records and no others, in this order; nothing is appended after this.

        Raises:
            OutputError: the disk is full; the file is as it was.
        """
        self._close()
        self._write_all(records)

    def delete(self) -> None:
        """Delete the file, once what it holds is written elsewhere; nothing is appended after this."""
        self._close()
        self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # of a full disk, reported already
                self._file.close()
            self._file = None

    def _line(self, record: Record) -> str:
        line = self._lines.write(record)
        if "\n" in line[:-1] or "\r" in line:
            raise ValueError(f"a record with a line break: {line!r}")
        return line

    def _write_all(self, records: Iterable[Record]) -> None:
        text = "".join([self._lines.header, *map(self._line, records)])
        with replacing(self.path) as (staged,):
            staged.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")

    def _read(self) -> dict[Hashable, Record]:
        return {self._key(record): record for record in self._records()}

    def _records(self) -> Iterator[Record]:
        if not self.path.is_file() or not self.path.stat().st_size:
            return
        lines = self.path.read_bytes().decode("utf-8-sig", errors="replace").split("\n")
        if not self._lines.is_first(lines[0]):
            raise OutputError(f"{self.path}: holds something else than {self._content}; {self._advice}")
        for line in lines[bool(self._lines.header) : -1]:  # what follows the last line's end is nothing, or torn
            with suppress(ValueError):
                yield self._lines.read(line)
