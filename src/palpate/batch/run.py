"""The batch from its list to its results."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ..bundle import Bundle, load
from ..devices import Precision
from ..errors import SettingsError
from ..inference import BUDGET
from .crew import Crew
from .jobs import Job, Stamps
from .queue import Queue
from .results import Results, Row
from .work import Engine, Finding

Progress = Callable[[int, Job], None]


@dataclass(frozen=True)
class Summary:
    """What a batch came to.

    Attributes:
        jobs: every job of the list.
        rows: what became of each, in the same order.
        before: how many of them an earlier run had done.
    """

    jobs: tuple[Job, ...]
    rows: tuple[Row, ...]
    before: int

    @property
    def failed(self) -> list[tuple[Job, Row]]:
        """The jobs that failed, with their rows."""
        return [(job, row) for job, row in zip(self.jobs, self.rows, strict=True) if row.status == "failed"]


class Batch:
    """A list of jobs with the model that does them; those that are not done yet are done by `run`.

    A job is done when the results say so of the same scan (path, bytes, time), prompts, model, precision and outputs,
    and its outputs are still there.

    Args:
        jobs: from `read_jobs`.
        results: the results' CSV, a new one or an earlier run's.
        model: a bundled model's name, or a file.
        base: for an adapter, the model that holds its frozen tensors.
        device: "auto", "cpu", "cuda", ...
        precision: arithmetic of the network.
        zoom: look wider and closer, as far as the model was trained for (`Predictor`).
        budget: most crops of a refinement.

    Attributes:
        jobs: all of them.
        missing: those that are not done yet.

    Raises:
        ModelError: see `bundle.load`.
        OutputError: the results cannot be written, or hold something else.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        results: str | Path,
        model: str | Path = "palpate-tiny",
        *,
        base: str | Path | None = None,
        device: str = "auto",
        precision: Precision = "float32",
        zoom: bool = True,
        budget: int = BUDGET,
    ):
        self._results = Results(results)
        self._bundle: Bundle | None = load(model, base=base)
        self._engine = Engine(model, base, device, precision, self._bundle.answers_sha256(), zoom, budget)
        arithmetic = self._engine.arithmetic
        stamps = Stamps()
        self._keys = {job: job.key(arithmetic, stamps) for job in jobs}
        self.jobs = tuple(jobs)
        self.missing = tuple(job for job in jobs if not self._results.done(job, self._keys[job]))

    def run(self, workers: int = 1, progress: Progress | None = None) -> Summary:
        """Do what is missing; a job that fails is a row of the results, and the rest go on.

        A row is added as each job is finished, and in the end they are in the order of the list. Stopped at any point,
        even by a kill, a new `Batch` of the same list does the rest.

        Args:
            workers: processes, each with the model in memory and its share of the cores; 1: this process.
            progress: called with jobs done, those of earlier runs counted, and the last job.

        Raises:
            SettingsError: fewer workers than one.
            BatchError: another run writes these results; or no worker is left.
            OutputError: the results cannot be written any more; what was finished is kept.
            ModelError: the model's file was changed.
            DeviceError: no such device or precision here.
        """
        if workers < 1:
            raise SettingsError(f"{workers} workers: at least one is needed")
        with self._results as results:
            missing = [job for job in self.missing if not results.done(job, self._keys[job])]  # by another run, since
            before = len(self.jobs) - len(missing)
            queue = Queue(missing, lambda job: results.begin(job, self._keys[job]))
            with closing(self._here(queue) if workers == 1 else self._elsewhere(queue, workers)) as findings:
                for count, (job, finding) in enumerate(findings, before + 1):
                    results.add(finding.row(job, self._keys[job], results.place(job)))
                    if progress is not None:
                        progress(count, job)
            results.conclude(self.jobs)
        return Summary(self.jobs, tuple(results.latest[results.place(job)] for job in self.jobs), before)

    def _here(self, queue: Queue) -> Generator[tuple[Job, Finding]]:
        """Each job with what it came to, done in this process."""
        if not len(queue):
            return
        segmenter, job = self._engine.start(self._bundle), queue.take()
        while job is not None:
            yield job, segmenter.do(job)
            job = queue.take(job.source)

    def _elsewhere(self, queue: Queue, workers: int) -> Generator[tuple[Job, Finding]]:
        """Each job with what it came to, done by other processes."""
        self._bundle = None  # each has its own
        with Crew(self._engine, queue, workers) as crew:
            yield from crew.findings()
