"""Several processes at one list: each loads the model once, and the death of one costs one job."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType

import torch

from ..errors import BatchError, PalpateError
from .jobs import Job, Source
from .queue import Queue
from .work import Engine, Finding

PATIENCE = 10.0  # seconds that a worker has to put things away when it is stopped


@dataclass(eq=False)
class Worker:
    """A process, as the one that leads it sees it.

    Attributes:
        process: the process.
        pipe: jobs go in, findings come out.
        ready: it has loaded the model.
        job: what it is at.
        source: the scan that it holds in memory.
    """

    process: SpawnProcess
    pipe: Connection
    ready: bool = False
    job: Job | None = None
    source: Source | None = None


class Crew:
    """Workers at a queue; leaving the block ends them all, whatever they are at.

    Args:
        engine: what they segment with.
        queue: what there is to do.
        count: how many work at a time.
    """

    def __init__(self, engine: Engine, queue: Queue, count: int):
        self._engine = engine
        self._queue = queue
        self._threads = max(1, torch.get_num_threads() // count)
        self._count = min(count, len(queue))
        self._staff: list[Worker] = []
        self._dismissed: list[Worker] = []
        self._trouble: PalpateError = BatchError("a worker process ended before it had loaded the model")

    def __enter__(self) -> Crew:
        """Nobody is hired before there is work."""
        return self

    def __exit__(self, *_: object) -> None:
        """End every process; one that is at work puts its unfinished files away."""
        for worker in self._staff:
            worker.process.terminate()
        for worker in (*self._staff, *self._dismissed):
            worker.pipe.close()
            worker.process.join(PATIENCE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.process.close()

    def findings(self) -> Iterator[tuple[Job, Finding]]:
        """Each job with what it came to, as they are finished.

        Raises:
            PalpateError: no worker could load the model; what one of them said.
        """
        for _ in range(self._count):
            self._hire()
        while self._staff:
            for pipe in wait([worker.pipe for worker in self._staff]):
                worker = next(worker for worker in self._staff if worker.pipe is pipe)
                yield from self._heard(worker)
        if len(self._queue):
            raise self._trouble

    def _heard(self, worker: Worker) -> Iterator[tuple[Job, Finding]]:
        """Take what a worker says, and give it the next job."""
        try:
            said = worker.pipe.recv()
        except (EOFError, OSError):
            yield from self._died(worker)
            return
        if isinstance(said, PalpateError):
            self._trouble = said
            self._dismiss(worker)
            return
        if worker.job is not None:
            yield worker.job, said
        worker.ready, worker.job = True, None
        held = {other.source for other in self._staff if other is not worker}
        job = self._queue.take(worker.source, held)
        if job is None:
            self._dismiss(worker)
            return
        worker.job, worker.source = job, job.source
        with suppress(OSError):  # it died just now; its end of the pipe will say so
            worker.pipe.send(job)

    def _died(self, worker: Worker) -> Iterator[tuple[Job, Finding]]:
        self._dismiss(worker)
        worker.process.join()
        code = worker.process.exitcode or 0
        how = (
            f"was killed by signal {-code}, perhaps for want of memory" if code < 0 else f"ended with exit code {code}"
        )
        advice = "run the same command again, with fewer workers (--workers 1) if memory is short"
        if worker.job is not None:
            yield worker.job, Finding(error="WorkerDied", message=f"the worker process {how}; {advice}")
        if worker.ready and len(self._queue):
            self._hire()
        elif not worker.ready:
            self._trouble = BatchError(f"a worker process {how}, before it had loaded the model; {advice}")

    def _dismiss(self, worker: Worker) -> None:
        """A worker whose pipe is closed goes home."""
        worker.pipe.close()
        self._staff.remove(worker)
        self._dismissed.append(worker)

    def _hire(self) -> None:
        # Forking a process whose threads are at work can hang it; spawned ones start clean.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self._engine, self._threads), daemon=True)
        with _deaf_to_interrupts():
            process.start()
        theirs.close()
        self._staff.append(Worker(process, ours))


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """A process started here never hears Ctrl-C, which a terminal sends to all: who leads it will end it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _leave(number: int, _: FrameType | None) -> None:
    """Unwind, so that half-written files are put away."""
    sys.exit(128 + number)


def _work(pipe: Connection, engine: Engine, threads: int) -> None:
    """A worker's life: load the model, say so, do jobs until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    torch.set_num_threads(threads)
    with suppress(EOFError, OSError):  # the pipe was closed: no more to do, or nobody to do it for
        try:
            segmenter = engine.start()
        except PalpateError as error:
            pipe.send(error)
            return
        pipe.send(None)
        while True:
            pipe.send(segmenter.do(pipe.recv()))
