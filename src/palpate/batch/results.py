"""What became of each job: a CSV that gains a row as each is finished, and is read again after a kill."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ..errors import BatchError
from ..formats import written_files
from ..jobs import CsvLines, Ledger
from .jobs import Job


class ResultRow(BaseModel):
    """What became of a job; its fields are the columns.

    Attributes:
        key: a hash of the scan, the prompts, the model and the places of the results (`Job.key`).
        scan: the scan's path, as the list has it.
        output: the mask's, likewise; of a list in another folder than the results, as seen from theirs.
        status: "done" or "failed".
        error: of a failed one, the error's kind.
        message: and its words.
        volume_ml: the mask's volume, mL.
        voxels: how many of the scan's voxels are in the mask.
        extent_mm: edges of its bounding box along the array's axes, mm: "12.0 x 8.0 x 5.0".
        quality: the intersection over union with the truth that the model expects, where it expects any.
        seconds: how long it took, with reading and saving.
        warnings: what the readers of the scan and of the prompts' masks doubt, and why the mask may be wrong.
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


COLUMNS = tuple(ResultRow.model_fields)


def results_path(jobs: str | Path) -> Path:
    """Where the results of a list go by default: `jobs.csv` has `jobs.results.csv` beside it."""
    jobs = Path(jobs)
    stem = jobs.name[:-4] if jobs.name.lower().endswith(".csv") else jobs.name
    return jobs.with_name(f"{stem}.results.csv")


class Results(Ledger[ResultRow]):
    """The ledger of a batch: a row a job, by its output.

    Args:
        path: the CSV; a new one, or one that an earlier run left.

    Raises:
        OutputError: it cannot be written, or holds something else.
        BatchError: opened while another run writes it.
    """

    def __init__(self, path: str | Path):
        super().__init__(
            path,
            CsvLines(ResultRow),
            key=lambda row: row.output,
            content="a batch's results",
            advice="name another file with --results",
            refusal=lambda holder: BatchError(
                f"{path}: another run writes it, {holder}; let it end, or name another --results"
            ),
        )

    def done(self, job: Job, key: str) -> bool:
        """Whether this very job was done, and its results are still there."""
        row = self.latest.get(self.place(job))
        known = row is not None and row.status == "done" and row.key == key
        with suppress(OSError):  # in a folder that may not be read: the job fails with that error
            return known and all(file.is_file() for path in job.outputs for file in written_files(path))
        return False

    def place(self, job: Job) -> str:
        """A job's output as the list has it; of a list in another folder, as seen from that of the results."""
        here, there, listed = self.path.absolute().parent, job.folder.absolute(), job.listed(job.output)
        if here == there or Path(listed).is_absolute():
            return listed
        with suppress(OSError, ValueError):  # a loop of links; another drive
            return os.path.relpath(there.resolve() / listed, here.resolve())
        return str(job.output)

    def begin(self, job: Job, key: str) -> None:
        """Take back the row of an output that is made anew: a kill must not leave an old row beside a new mask."""
        if self.place(job) in self.latest:
            message = "was begun and not finished; run the same command again"
            scan, output = job.listed(job.source.scan), self.place(job)
            self.append(
                ResultRow(key=key, scan=scan, output=output, status="failed", error="Interrupted", message=message)
            )

    def conclude(self, jobs: Iterable[Job]) -> None:
        """Put the rows in the order of the list, one a job; then what other lists, or this one once, had done.

        A job that lost its row would be done again, over a mask that was mended since. Nothing is appended after this.
        """
        listed = [self.latest[self.place(job)] for job in jobs]
        outputs = {row.output for row in listed}
        others = [row for row in self.latest.values() if row.output not in outputs and row.status == "done"]
        self.rewrite([*listed, *others])
