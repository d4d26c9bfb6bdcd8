"""Worker processes at a queue of jobs: the death of one costs one job, and a job that takes too long is stopped."""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Generic, TypeVar

from ..errors import PalpateError, WorkerError
from ..openmp import passive_children
from .outcome import Completed, Failed, Outcome
from .queue import JobQueue

Job = TypeVar("Job")
Result = TypeVar("Result")

STOP_SECONDS = 10.0  # that a worker has to delete its unfinished files when it is stopped; then it is killed
MAX_DEFAULT_WORKERS = 8


def default_workers() -> int:
    """How many workers fit this machine: one a core, at most eight."""
    return min(MAX_DEFAULT_WORKERS, os.cpu_count() or 1)


def run_here(start: Callable[[], Callable[[Job], Result]], queue: JobQueue[Job]) -> Generator[Outcome[Job, Result]]:
    """Do a queue's jobs in this process, one after the other, group by group; as `WorkerPool.outcomes` otherwise."""
    if not len(queue):
        return
    work, job = start(), queue.take()
    while job is not None:
        try:
            outcome: Outcome[Job, Result] = Completed(job, work(job))
        except Exception as error:
            outcome = Failed(job, "error", error)
        yield outcome
        job = queue.take(queue.group(job))


def run_function(
    function: Callable[[Job], Result], jobs: Iterable[Job], workers: int | None = None
) -> Generator[Outcome[Job, Result]]:
    """Call a function for every job; each outcome as it comes, in any order unless there is one worker.

    Args:
        function: one that other processes can import (no lambda), of jobs that can be pickled.
        jobs: not None.
        workers: processes; None: `default_workers`; 1: this process.
    """
    count = default_workers() if workers is None else max(1, workers)
    queue = JobQueue(jobs)
    if count == 1:
        yield from run_here(_Ready(function), queue)
        return
    with WorkerPool(_Ready(function), queue, count) as pool:
        yield from pool.outcomes()


@dataclass(frozen=True)
class _Ready(Generic[Job, Result]):
    """A start that has nothing to load."""

    function: Callable[[Job], Result]

    def __call__(self) -> Callable[[Job], Result]:
        return self.function


@dataclass(eq=False)
class _Worker(Generic[Job]):
    """A worker process, as the process that leads it sees it.

    Attributes:
        process: the process.
        pipe: jobs go in, replies come out.
        ready: it has started and waits for jobs.
        job: the job that it does.
        group: the group of its last job, which it holds in memory.
        deadline: when its job is stopped, in seconds of the monotonic clock.
        kill_at: when a worker that was stopped is killed.
    """

    process: SpawnProcess
    pipe: Connection
    ready: bool = False
    job: Job | None = None
    group: Hashable = None
    deadline: float = math.inf
    kill_at: float = math.inf

    @property
    def stopped(self) -> bool:
        """Whether its job took too long, so that it ends now."""
        return self.kill_at < math.inf


class WorkerPool(Generic[Job, Result]):
    """Processes that do the jobs of a queue; leaving the block ends them all, whatever they do.

    Workers are spawned, do one job at a time, and hear no Ctrl-C: the process that leads them does, and ends them. A
    worker that dies, or is stopped because its job takes too long, costs that job; another takes its place.

    Args:
        start: called once in each worker, as to load a model; returns the function that does a job there. It is
            pickled, as are jobs and results. A `PalpateError` that it raises is raised by `outcomes`.
        queue: the jobs.
        count: how many processes work at a time, at most one a job.
        timeout: seconds that a job may take, reading and writing included; None: any time. The start has no limit.
    """

    def __init__(
        self,
        start: Callable[[], Callable[[Job], Result]],
        queue: JobQueue[Job],
        count: int,
        timeout: float | None = None,
    ):
        self._start = start
        self._queue = queue
        self._count = min(count, len(queue))
        self._timeout = math.inf if timeout is None else timeout
        self._workers: list[_Worker[Job]] = []
        self._retired: list[_Worker[Job]] = []
        self._startup_error: PalpateError = WorkerError("a worker process ended before it was ready")

    def __enter__(self) -> WorkerPool[Job, Result]:
        """No process is started before `outcomes` is iterated."""
        return self

    def __exit__(self, *_: object) -> None:
        """End every process; one that is at work deletes its unfinished files first."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in (*self._workers, *self._retired):
            worker.pipe.close()
            _end(worker.process)
            worker.process.close()
        self._workers, self._retired = [], []

    def outcomes(self) -> Iterator[Outcome[Job, Result]]:
        """Each job's outcome, as they come.

        Raises:
            PalpateError: no worker could start, and jobs are left; what the last start raised.
            WorkerError: no worker lived until it was ready.
        """
        for _ in range(self._count):
            self._start_worker()
        while self._workers:
            with_news = wait([worker.pipe for worker in self._workers], self._patience())
            for worker in [each for each in self._workers if each.pipe in with_news]:
                yield from self._receive(worker)
            self._stop_overdue()
        if len(self._queue):
            raise self._startup_error

    def _receive(self, worker: _Worker[Job]) -> Iterator[Outcome[Job, Result]]:
        """Read a worker's reply, and give it the next job."""
        try:
            reply = worker.pipe.recv()
        except (EOFError, OSError):
            yield from self._replace(worker)
            return
        if isinstance(reply, _NotStarted):
            self._startup_error = reply.error
            self._retire(worker)
            return
        if worker.job is not None:
            job, worker.job, worker.deadline = worker.job, None, math.inf
            yield Completed(job, reply.result) if isinstance(reply, _Done) else Failed(job, "error", reply.error)
        worker.ready = True
        if not worker.stopped:  # else it was done just before it was stopped, and ends now
            self._give_job(worker)

    def _give_job(self, worker: _Worker[Job]) -> None:
        others = {other.group for other in self._workers if other is not worker}
        job = self._queue.take(worker.group, others)
        if job is None:
            self._retire(worker)
            return
        worker.job, worker.group = job, self._queue.group(job)
        worker.deadline = time.monotonic() + self._timeout
        with suppress(OSError):  # it died just now, and its end of the pipe is closed
            worker.pipe.send(job)

    def _replace(self, worker: _Worker[Job]) -> Iterator[Outcome[Job, Result]]:
        """Retire a worker that ended, report the job that it did, and start another where jobs are left."""
        self._retire(worker)
        _end(worker.process)
        code = worker.process.exitcode or 0
        killed = f"was killed by signal {-code}, perhaps for want of memory"
        what = f"a worker process {killed if code < 0 else f'ended with exit code {code}'}"
        if worker.job is not None and worker.stopped:
            message = f"took longer than {self._timeout:g} seconds and was stopped"
            yield Failed(worker.job, "timeout", WorkerError(message))
        elif worker.job is not None:
            yield Failed(worker.job, "died", WorkerError(what))
        if not worker.ready:
            self._startup_error = WorkerError(
                f"{what}, before it was ready; start fewer workers (--workers 1) if memory is short"
            )
        elif len(self._queue):
            self._start_worker()

    def _patience(self) -> float | None:
        """Seconds until a worker has to be stopped or killed; None: never."""
        first = min(min(worker.deadline, worker.kill_at) for worker in self._workers)
        return None if math.isinf(first) else max(0.0, first - time.monotonic())

    def _stop_overdue(self) -> None:
        """Stop the workers whose job took too long; kill those that have not ended since."""
        now = time.monotonic()
        for worker in self._workers:
            if now >= worker.kill_at:
                worker.kill_at = now + STOP_SECONDS
                worker.process.kill()
            elif now >= worker.deadline:
                worker.deadline, worker.kill_at = math.inf, now + STOP_SECONDS
                worker.process.terminate()

    def _retire(self, worker: _Worker[Job]) -> None:
        """Give a worker no more jobs: it ends when its pipe is closed."""
        worker.pipe.close()
        self._workers.remove(worker)
        self._retired.append(worker)

    def _start_worker(self) -> None:
        # Forking a process whose threads are at work can hang it; spawned ones start clean.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self._start), daemon=True)
        with _interrupts_ignored(), passive_children():
            process.start()
        theirs.close()
        self._workers.append(_Worker(process, ours))


def _end(process: SpawnProcess) -> None:
    """Wait for a process that ends, and kill it if it does not."""
    process.join(STOP_SECONDS)
    if process.is_alive():
        process.kill()
        process.join()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """A process started here never hears Ctrl-C, which a terminal sends to all: the process that leads it ends it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# In a worker


@dataclass(frozen=True)
class _NotStarted:
    error: PalpateError


@dataclass(frozen=True)
class _Done(Generic[Result]):
    result: Result


@dataclass(frozen=True)
class _Raised:
    error: Exception


def _work(pipe: Connection, start: Callable[[], Callable[[Job], Result]]) -> None:
    """A worker's life: start, report that, do jobs until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        work = start()
    except PalpateError as error:
        _send(pipe, _NotStarted(error))
        return
    signal.signal(signal.SIGTERM, _leave)
    _send(pipe, _Done(None))
    while True:
        try:
            job = pipe.recv()
        except (EOFError, OSError):  # the pipe was closed: no more to do, or nobody to do it for
            return
        _send(pipe, _reply(work, job))


def _leave(number: int, frame: FrameType | None) -> None:
    """Unwind, so that unfinished files are deleted."""
    if frame is not None and frame.f_code.co_filename.startswith("<frozen importlib"):
        # In the middle of an import Python may swallow what is raised, with a trace on the terminal: a moment later.
        signal.signal(signal.SIGALRM, _leave)
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + number)


def _reply(work: Callable[[Job], Result], job: Job) -> _Done[Result] | _Raised:
    try:
        return _Done(work(job))
    except Exception as error:
        return _Raised(_portable(error))


def _portable(error: Exception) -> Exception:
    """An error that another process can read, with the lines of code that raised it as a note."""
    lines = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = WorkerError(f"{type(error).__name__}: {error}")
    error.add_note(f"In a worker process:\n{lines}")
    return error


def _send(pipe: Connection, reply: _Done[Result] | _Raised | _NotStarted) -> None:
    with suppress(OSError):  # nobody reads it any more
        try:
            pipe.send(reply)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            pipe.send(_Raised(WorkerError(f"the result cannot be sent from a worker process: {error}")))
