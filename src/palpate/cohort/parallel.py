"""Work on many scans in several processes, a few of them waiting at a time."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from ..errors import CohortError

Item = TypeVar("Item")
Result = TypeVar("Result")


def mapped(work: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None) -> Iterator[Result]:
    """What `work` makes of each item, as it is finished: in any order, unless there is one worker.

    Args:
        work: a function that other processes can import (not a lambda), of items that can be pickled.
        items: taken one by one, only a few ahead of the work.
        workers: processes; None: one a core, at most eight. 1: in this process, in order.

    Raises:
        CohortError: a worker process died.
    """
    count = max(1, workers if workers is not None else min(8, os.cpu_count() or 1))
    if count == 1:
        yield from map(work, items)
        return
    waiting: set[Future[Result]] = set()
    # Forking a process whose threads are at work can hang it; spawned ones start clean.
    pool = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))
    try:
        for item in items:
            waiting.add(pool.submit(work, item))
            if len(waiting) >= 4 * count:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool as error:
        raise CohortError(
            "a worker process was killed, perhaps for want of memory; what was finished is kept. "
            "Run the same command again, with fewer workers (--workers 1)"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
