"""What became of a job: its result, or why it has none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from ..errors import WorkerError

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Completed(Generic[Job, Result]):
    """A job and its result."""

    job: Job
    result: Result


@dataclass(frozen=True)
class Failed(Generic[Job]):
    """A job without a result.

    Attributes:
        job: the job.
        reason: "error": it raised one; "died": its worker process ended; "timeout": it took too long and was stopped.
        error: what it raised; else a `WorkerError` that describes what happened to its worker.
    """

    job: Job
    reason: Literal["error", "died", "timeout"]
    error: Exception


Outcome = Completed[Job, Result] | Failed[Job]


def results(outcomes: Iterable[Outcome[Job, Result]], name: Callable[[Job], str]) -> Iterator[Result]:
    """The results alone, for work that needs all of them.

    A job whose worker died does not stop the others: they are finished first, and the error names it then.

    Args:
        outcomes: from `WorkerPool.outcomes` or `run_function`.
        name: a job's name in that error.

    Raises:
        WorkerError: workers died at some jobs, or were stopped.
        Exception: what a job raised, at once.
    """
    lost: list[Failed[Job]] = []
    for outcome in outcomes:
        if isinstance(outcome, Completed):
            yield outcome.result
        elif outcome.reason == "error":
            raise outcome.error
        else:
            lost.append(outcome)
    if lost:
        what = "; ".join(f"{name(failed.job)}: {failed.error}" for failed in lost)
        raise WorkerError(f"{what}. Run the same command again, with fewer workers (--workers 1) if memory is short")
