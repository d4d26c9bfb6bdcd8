"""One cache for the whole process, bounded in bytes: features of crops, and states of lesions."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from cachetools import LRUCache

DEFAULT_MB = 2048
VARIABLE = "PALPATE_CACHE_MB"  # another bound, in MiB


class Key(NamedTuple):
    """What a cached value is of.

    Attributes:
        scan: the number of an `EncodedScan`, which no other one of the process has.
        kind: "features" of a crop, "state" of a lesion, or a session's "mask".
        content: which crop, or which prompts.
    """

    scan: int
    kind: str
    content: bytes


class _Cached(NamedTuple):
    value: object
    nbytes: int


class ByteCache:
    """Values by key; where the bound is reached, the value that was not used for the longest time goes first.

    Several threads may use it at once: one lock guards it, and nothing else is locked or computed while it is held.
    A scan may be let go of at any moment, also by the garbage collector while the lock is held (`release`).
    A value that is larger than the bound is cached alone, until the next one comes.

    Args:
        max_bytes: the bound.
    """

    def __init__(self, max_bytes: int):
        self._lock = threading.Lock()
        self._max_bytes = max_bytes
        self._values: LRUCache[Key, _Cached] = self._empty(max_bytes)
        self._released: deque[int] = deque()
        self._oversized: tuple[Key, _Cached] | None = None

    @staticmethod
    def _empty(max_bytes: int) -> LRUCache[Key, _Cached]:
        return LRUCache(max_bytes, getsizeof=lambda cached: cached.nbytes)

    @property
    def max_bytes(self) -> int:
        """The bound."""
        return self._max_bytes

    @property
    def nbytes(self) -> int:
        """What all cached values take."""
        with self._held():
            alone = self._oversized
            return int(self._values.currsize) + (0 if alone is None else alone[1].nbytes)

    def __len__(self) -> int:
        with self._held():
            return len(self._values) + (self._oversized is not None)

    def get(self, key: Key) -> object | None:
        """The value of a key, which is used now; None: it is not cached."""
        with self._held():
            if self._oversized is not None and self._oversized[0] == key:
                return self._oversized[1].value
            cached = self._values.get(key)
            return None if cached is None else cached.value

    def __contains__(self, key: Key) -> bool:
        with self._held():
            return key in self._values or (self._oversized is not None and self._oversized[0] == key)

    def put(self, key: Key, value: object, nbytes: int) -> None:
        """Cache a value that takes `nbytes`, in place of the key's former one."""
        with self._held():
            self._oversized = None
            self._values.pop(key, None)
            if nbytes > self._max_bytes:
                self._values.clear()
                self._oversized = (key, _Cached(value, nbytes))
            else:
                self._values[key] = _Cached(value, nbytes)

    def discard(self, scan: int) -> None:
        """Let go of all that is cached of one scan."""
        self.release(scan)
        with self._held():
            pass

    def release(self, scan: int) -> None:
        """Let go of all that is cached of one scan, at the next use of the cache.

        It takes no lock: a finalizer may call it in the midst of another call of the same thread.
        """
        self._released.append(scan)

    @contextmanager
    def _held(self) -> Iterator[None]:
        """The lock; first, released scans go."""
        with self._lock:
            scans = {self._released.popleft() for _ in range(len(self._released))}
            if scans:
                if self._oversized is not None and self._oversized[0].scan in scans:
                    self._oversized = None
                for key in [key for key in self._values if key.scan in scans]:
                    del self._values[key]
            yield

    def resize(self, max_bytes: int) -> None:
        """Another bound; what exceeds it goes."""
        with self._held():
            before, self._values, self._max_bytes = self._values, self._empty(max_bytes), max_bytes
            self._oversized = None
            while before:
                key, cached = before.popitem()  # the one not used for the longest time
                if cached.nbytes <= max_bytes:
                    self._values[key] = cached


def bound_from_environment() -> int:
    """The bound that the environment asks for, bytes; the default where it asks for none, or for no number."""
    given = os.environ.get(VARIABLE, "")
    return (int(given) if given.isdecimal() else DEFAULT_MB) * 2**20


CACHE = ByteCache(bound_from_environment())
