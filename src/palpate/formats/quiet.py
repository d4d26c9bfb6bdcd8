"""Keeps file libraries' own remarks from the user, whichever thread reads; ours travel as `Volume.notes`."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections import Counter
from collections.abc import Iterator

_lock = threading.Lock()
_readers: Counter[str] = Counter()


@contextlib.contextmanager
def ignored_warnings(package: str) -> Iterator[None]:
    """Ignore warnings that a package's modules issue, while at least one thread is inside.

    `warnings.catch_warnings` would not do: it replaces the process's list of filters, and two threads that leave it in
    another order than they entered put each other's list back. This adds one filter and takes that one away.
    """
    with _lock:
        _readers[package] += 1
        if _readers[package] == 1:
            warnings.filterwarnings("ignore", module=_modules(package))
    try:
        yield
    finally:
        with _lock:
            _readers[package] -= 1
            if not _readers[package]:
                ours = [one for one in warnings.filters if getattr(one[3], "pattern", None) == _modules(package)]
                for one in ours:
                    warnings.filters.remove(one)  # type: ignore[attr-defined]  # a list; typed as any sequence


@contextlib.contextmanager
def muted(logger: logging.Logger) -> Iterator[None]:
    """Drop what the calling thread logs to a logger; other threads' records pass."""
    thread = threading.get_ident()

    def others(record: logging.LogRecord) -> bool:
        return record.thread != thread

    logger.addFilter(others)
    try:
        yield
    finally:
        logger.removeFilter(others)


def _modules(package: str) -> str:
    return rf"{package}(\.|$)"
