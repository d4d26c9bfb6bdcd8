"""Jobs that wait, group by group."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable
from typing import Generic, TypeVar

Job = TypeVar("Job")


def _one_group(_: object) -> Hashable:
    return None


class JobQueue(Generic[Job]):
    """Jobs that wait; those of one group go to one worker where possible.

    Args:
        jobs: in their order. A job is never None.
        group: what jobs share that a worker keeps in memory from one to the next, as the scan that they read. By
            default all jobs are of one group, and are taken in their order.
        begin: called with each job that is taken.
    """

    def __init__(
        self,
        jobs: Iterable[Job],
        group: Callable[[Job], Hashable] = _one_group,
        begin: Callable[[Job], None] | None = None,
    ):
        self._waiting: dict[Hashable, deque[Job]] = {}
        for job in jobs:
            self._waiting.setdefault(group(job), deque()).append(job)
        self.group = group
        self._begin = begin

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def take(self, group: Hashable = None, others: Collection[Hashable] = ()) -> Job | None:
        """The next job for a worker: of the group that it holds; else of one that nobody holds; else of the longest.

        Args:
            group: the group that the worker holds.
            others: the groups that other workers hold.

        Returns:
            The job, or None where nothing waits.
        """
        if not self._waiting:
            return None
        if group not in self._waiting:
            longest = max(self._waiting, key=lambda waiting: len(self._waiting[waiting]))
            group = next((waiting for waiting in self._waiting if waiting not in others), longest)
        jobs = self._waiting[group]
        job = jobs.popleft()
        if not jobs:
            del self._waiting[group]
        if self._begin is not None:
            self._begin(job)
        return job
