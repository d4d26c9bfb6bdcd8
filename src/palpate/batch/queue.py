"""What is left to do, by scan."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable

from .jobs import Job, Source


class Queue:
    """Jobs that wait, those of one scan together.

    Args:
        jobs: in the order of the list.
        begin: called with each job that is taken.
    """

    def __init__(self, jobs: Iterable[Job], begin: Callable[[Job], None]):
        self._waiting: dict[Source, deque[Job]] = {}
        for job in jobs:
            self._waiting.setdefault(job.source, deque()).append(job)
        self._begin = begin

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def take(self, source: Source | None = None, held: Collection[Source | None] = ()) -> Job | None:
        """The next job for whoever holds a scan: of that scan; else of one that nobody holds; else of any.

        Args:
            source: the scan it holds.
            held: those that others hold.

        Returns:
            The job, or None: nothing waits.
        """
        if not self._waiting:
            return None
        if source not in self._waiting:
            free = (waiting for waiting in self._waiting if waiting not in held)
            source = next(free, None) or max(self._waiting, key=lambda waiting: len(self._waiting[waiting]))
        jobs = self._waiting[source]
        job = jobs.popleft()
        if not jobs:
            del self._waiting[source]
        self._begin(job)
        return job
