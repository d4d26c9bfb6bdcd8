"""The batch from its list to its results."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from ..bundle import Bundle
from ..errors import SettingsError
from ..inference import InferenceIdentity, InferenceSettings
from ..jobs import Completed, JobQueue, Outcome, WorkerPool, run_here
from ..lesions import Postprocessing
from .jobs import FileStats, Job, check_outputs_replaceable
from .pictures import JobPictures
from .results import ResultRow, Results
from .work import JobResult, WorkerStart

BatchProgressHook = Callable[[int, Job], None]


@dataclass(frozen=True)
class Summary:
    """What a batch came to.

    Attributes:
        jobs: every job of the list.
        rows: what became of each, in the same order.
        before: how many of them an earlier run had done.
        undrawn: the jobs whose mask is there, and their picture could not be drawn; each with the reason.
    """

    jobs: tuple[Job, ...]
    rows: tuple[ResultRow, ...]
    before: int
    undrawn: tuple[tuple[Job, str], ...] = ()

    @property
    def failed(self) -> list[tuple[Job, ResultRow]]:
        """The jobs that failed, with their rows."""
        return [(job, row) for job, row in zip(self.jobs, self.rows, strict=True) if row.status == "failed"]


class Batch:
    """A list of jobs with the model that does them; those that are not done yet are done by `run`.

    A job is done when the results have a row "done" of the same scan (path, bytes, time), prompts, model, settings and
    outputs, and its outputs are still there.

    Args:
        jobs: from `read_jobs`.
        results: the results' CSV, a new one or an earlier run's.
        settings: how to infer, and with which model; None: the defaults.
        overwrite: whether a job may replace a file that Palpate did not write, or that was changed since, as a mask
            that was mended by hand.
        pictures: where a picture of each mask goes, if anywhere. A job that is done and lacks only its picture is not
            segmented again: `run` draws it from the files.
        postprocessing: what becomes of a mask before it is saved; None: nothing.

    Attributes:
        jobs: all of them.
        missing: those that are not done yet.
        of_earlier_rules: those that are done, by an earlier version of the rules by which masks are made.

    Raises:
        ModelError: see `bundle.load`.
        OutputError: the results cannot be written, or hold something else.
        BatchError: a job that is not done yet would replace such a file, and `overwrite` is false; or two jobs have one
            picture; nothing was done.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        results: str | Path,
        settings: InferenceSettings | None = None,
        *,
        overwrite: bool = False,
        pictures: JobPictures | None = None,
        postprocessing: Postprocessing | None = None,
    ):
        settings = settings or InferenceSettings()
        self._results = Results(results)
        self._bundle: Bundle | None = settings.load()
        postprocessing = postprocessing or Postprocessing()
        sha256 = self._bundle.answers_sha256()
        # Whether the model has other fields than its own is in its SHA-256; keys have the settings as they are.
        identity = InferenceIdentity.of(settings.model, sha256, settings)
        stats = FileStats()
        self.of_earlier_rules: list[Job] = []
        self._keys = {job: self._key(job, identity, postprocessing, stats) for job in jobs}
        if pictures is not None:
            pictures = replace(pictures, keys={job.output: key for job, key in self._keys.items()})
        self._start = WorkerStart(settings, sha256, pictures, postprocessing)
        self.jobs = tuple(jobs)
        self.missing = tuple(job for job in jobs if not self._results.done(job, self._keys[job]))
        if not overwrite:
            check_outputs_replaceable(self.missing)
        if pictures is not None:
            pictures.check(self.jobs, overwrite=overwrite)

    def _key(self, job: Job, identity: InferenceIdentity, postprocessing: Postprocessing, stats: FileStats) -> str:
        """A job's key; of one that was done by an earlier version of the rules, that one's: what is finished stays."""
        extra = ""
        if not postprocessing.is_default:  # so that rows of earlier versions, which had none, stay done
            extra = f" {postprocessing.threshold} {postprocessing.keep}"
        versions = (identity.model_copy(update={"rules": rules}) for rules in range(identity.rules, 0, -1))
        keys = [job.key(f"{version.sha256} {version.arithmetic}{extra}", stats) for version in versions]
        found = next((key for key in keys if self._results.done(job, key)), keys[0])
        if found != keys[0]:
            self.of_earlier_rules.append(job)
        return found

    def run(self, workers: int = 1, progress: BatchProgressHook | None = None, timeout: float | None = None) -> Summary:
        """Do what is missing; a job that fails is a row of the results, and the rest go on.

        A row is added as each job is finished, and in the end they are in the order of the list. Stopped at any point,
        even by a kill, a new `Batch` of the same list does the rest.

        Args:
            workers: processes, each with the model in memory and its share of the cores; 1: this process, unless there
                is a timeout.
            progress: called with jobs done, those of earlier runs counted, and the last job.
            timeout: seconds that a job may take, reading and saving included; one that takes longer is stopped and
                fails as "JobTimeout". None: any time. It needs a worker process, since only a process can be stopped.

        Raises:
            SettingsError: fewer workers than one, or no time at all.
            BatchError: another run writes these results.
            WorkerError: no worker process lived until it was ready.
            OutputError: the results cannot be written any more; what was finished is kept.
            ModelError: the model's file was changed.
            DeviceError: no such device or precision here.
        """
        if workers < 1:
            raise SettingsError(f"{workers} workers: at least one is needed")
        if timeout is not None and not timeout > 0:
            raise SettingsError(f"a timeout of {timeout:g} seconds: give more than 0, or leave it out")
        with self._results as results:
            missing = [job for job in self.missing if not results.done(job, self._keys[job])]  # by another run, since
            before = len(self.jobs) - len(missing)
            undrawn: list[tuple[Job, str]] = []
            queue = JobQueue(missing, lambda job: job.source, lambda job: results.begin(job, self._keys[job]))
            with closing(self._outcomes(queue, workers, timeout)) as outcomes:
                for count, outcome in enumerate(outcomes, before + 1):
                    job, result = outcome.job, _result(outcome)
                    undrawn += [(job, result.no_picture)] if result.no_picture else []
                    results.append(result.row(job, self._keys[job], results.place(job)))
                    if progress is not None:
                        progress(count, job)
            results.conclude(self.jobs)
            undrawn += self._draw_missing(missing, progress)
        rows = tuple(results.latest[results.place(job)] for job in self.jobs)
        return Summary(self.jobs, rows, before, tuple(undrawn))

    def _draw_missing(self, done_now: Sequence[Job], progress: BatchProgressHook | None) -> list[tuple[Job, str]]:
        """Draw the pictures that jobs of earlier runs lack; returns those that could not be drawn, with the reason."""
        if self._start.pictures is None:
            return []
        undrawn = []
        tried = set(done_now)
        for job, reason in self._start.pictures.draw_missing(job for job in self.jobs if job not in tried):
            undrawn += [(job, reason)] if reason else []
            if progress is not None:
                progress(len(self.jobs), job)
        return undrawn

    def _outcomes(
        self, queue: JobQueue[Job], workers: int, timeout: float | None
    ) -> Generator[Outcome[Job, JobResult]]:
        """Each job's outcome, from this process or from others."""
        bundle = self._bundle
        if workers == 1 and timeout is None:
            yield from run_here(self._start if bundle is None else partial(self._start.with_bundle, bundle), queue)
            return
        self._bundle = None  # each worker has its own
        with WorkerPool(self._worker_start(min(workers, len(queue))), queue, workers, timeout) as pool:
            yield from pool.outcomes()

    def _worker_start(self, count: int) -> WorkerStart:
        """The start of one of several workers: each has its share of the cores, or the settings' number of threads."""
        share = max(1, torch.get_num_threads() // max(1, count))
        settings = self._start.settings
        return replace(self._start, settings=replace(settings, threads=settings.threads or share))


def _result(outcome: Outcome[Job, JobResult]) -> JobResult:
    """The result, or the error's row where a worker lost the job."""
    if isinstance(outcome, Completed):
        return outcome.result
    if outcome.reason == "timeout":
        advice = "allow more (--timeout) and run the same command again"
        return JobResult(error="JobTimeout", message=f"{outcome.error}; {advice}")
    if outcome.reason == "died":
        advice = "run the same command again, with fewer workers (--workers 1) if memory is short"
        return JobResult(error="WorkerDied", message=f"{outcome.error}; {advice}")
    return JobResult(error=type(outcome.error).__name__, message=" ".join(str(outcome.error).split()))
