"""What became of each job: a CSV that grows by a row as each is finished, and outlives a kill."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ..errors import BatchError, OutputError
from ..files import check_writable, locked, replacing, writing
from ..formats import written_files
from .jobs import Job


class Row(BaseModel):
    """What became of a job; its fields are the columns.

    Attributes:
        key: a hash of the scan, the prompts, the model and the places of the results (`Job.key`).
        scan: the scan's path, as the list has it.
        output: the mask's, likewise; of a list in another folder than the results, as seen from theirs.
        status: "done" or "failed".
        error: of a failed one, the error's kind.
        message: and its words.
        volume_ml: the lesion's volume, mL.
        voxels: how many of the scan's voxels are lesion.
        extent_mm: edges of its bounding box along the array's axes, mm: "12.0 x 8.0 x 5.0".
        quality: the intersection over union with the truth that the model expects, where it expects any.
        seconds: how long it took, with reading and saving.
        warnings: what was odd about the scan.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    key: str
    scan: str
    output: str
    status: Literal["done", "failed"]
    error: str = ""
    message: str = ""
    volume_ml: float | None = None
    voxels: int | None = None
    extent_mm: str = ""
    quality: float | None = None
    seconds: float | None = None
    warnings: str = ""


GO_ON = "what was finished is kept. Free some space and run the same command again"
COLUMNS = tuple(Row.model_fields)


def results_path(jobs: str | Path) -> Path:
    """Where the results of a list go by default: `jobs.csv` has `jobs.results.csv` beside it."""
    jobs = Path(jobs)
    stem = jobs.name[:-4] if jobs.name.lower().endswith(".csv") else jobs.name
    return jobs.with_name(f"{stem}.results.csv")


class Results:
    """The file of results, open for more.

    Args:
        path: the CSV; a new one, or one that an earlier run left.

    Attributes:
        path: the CSV.
        latest: the last row of each output, by its place.

    Raises:
        OutputError: it cannot be written, or holds something else.
    """

    def __init__(self, path: str | Path):
        self.path = check_writable(path)
        self.latest = self._read()
        self._open = ExitStack()

    def __enter__(self) -> Results:
        """Make the file whole, so that no line which a kill tore is left in it, and open it for this process alone.

        Raises:
            BatchError: another run writes it.
        """
        lock = self.path.with_name(f".{self.path.name}.lock")
        with ExitStack() as opening:
            opening.enter_context(locked(lock, self._in_use, keep=False))
            self.latest = self._read()  # another run may have gone on since
            self._rewrite(self.latest.values())
            with writing(self.path, GO_ON):
                self._file = self.path.open("a", encoding="utf-8", errors="backslashreplace", newline="")
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; every row is in it."""
        self._close()
        self._open.close()

    def done(self, job: Job, key: str) -> bool:
        """Whether this very job was done, and its results are still there."""
        row = self.latest.get(self.place(job))
        known = row is not None and row.status == "done" and row.key == key
        with suppress(OSError):  # in a folder that may not be looked at: the job will say so
            return known and all(file.is_file() for path in job.outputs for file in written_files(path))
        return False

    def place(self, job: Job) -> str:
        """A job's output as the list has it; of a list in another folder, as seen from that of the results."""
        here, there, told = self.path.absolute().parent, job.folder.absolute(), job.told(job.output)
        if here == there or Path(told).is_absolute():
            return told
        with suppress(OSError, ValueError):  # a loop of links; another drive
            return os.path.relpath(there.resolve() / told, here.resolve())
        return str(job.output)

    def begin(self, job: Job, key: str) -> None:
        """Take back what is known of an output that another job made: a kill must not leave it as that one's."""
        if self.place(job) in self.latest:
            message = "was begun and not finished; run the same command again"
            scan, output = job.told(job.source.scan), self.place(job)
            self.add(Row(key=key, scan=scan, output=output, status="failed", error="Interrupted", message=message))

    def add(self, row: Row) -> None:
        """Append a row; when this returns, it is on the disk.

        Raises:
            OutputError: the disk is full; what was finished is kept.
        """
        with writing(self.path, GO_ON):
            self._file.write(_line(row.model_dump().values()))
            self._file.flush()
            os.fsync(self._file.fileno())
        self.latest[row.output] = row

    def conclude(self, jobs: Iterable[Job]) -> None:
        """Put the rows in the order of the list, one a job; then what other lists, or this one once, had done.

        Who lost its row would be done again, over a mask that was mended since. Nothing is added after this.
        """
        self._close()
        ours = [self.latest[self.place(job)] for job in jobs]
        named = {row.output for row in ours}
        others = [row for row in self.latest.values() if row.output not in named and row.status == "done"]
        self._rewrite([*ours, *others])

    def _in_use(self, holder: str) -> BatchError:
        advice = "let it end, or name another --results"
        return BatchError(f"{self.path}: another run writes it, {holder}; {advice}")

    def _read(self) -> dict[str, Row]:
        return {row.output: row for row in _known(self.path)}

    def _close(self) -> None:
        with suppress(OSError):  # of a full disk, told already
            self._file.close()

    def _rewrite(self, rows: Iterable[Row]) -> None:
        text = "".join([_line(COLUMNS), *(_line(row.model_dump().values()) for row in rows)])
        with replacing(self.path) as (staged,):
            staged.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")


def _known(path: Path) -> Iterator[Row]:
    """The rows of an earlier run, save a line that a kill tore."""
    if not path.is_file() or not path.stat().st_size:
        return
    header, *lines = path.read_bytes().decode("utf-8-sig", errors="replace").split("\n")
    if header.strip() != ",".join(COLUMNS):
        raise OutputError(f"{path}: holds something else than a batch's results; name another file with --results")
    for line in lines[:-1]:  # what follows the last line's end is nothing, or torn
        with suppress(csv.Error, ValueError, StopIteration):
            named = zip(COLUMNS, next(csv.reader([line], strict=True)), strict=True)
            yield Row.model_validate({name: cell for name, cell in named if cell})


def _line(cells: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow("" if cell is None else cell for cell in cells)
    return text.getvalue()
