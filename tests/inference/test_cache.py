"""The process's one cache: its order, its bound, its lock."""

import gc
import threading
import weakref

import pytest

from palpate.inference import cache as caching
from palpate.inference.cache import ByteCache, Key


def key(number: int, scan: int = 0) -> Key:
    return Key(scan, "features", bytes([number]))


def test_the_value_not_used_for_the_longest_time_goes_first() -> None:
    cache = ByteCache(30)
    for number in range(3):
        cache.put(key(number), f"value {number}", 10)
    assert cache.get(key(0)) == "value 0"
    cache.put(key(3), "value 3", 10)
    assert [number for number in range(4) if key(number) in cache] == [0, 2, 3]
    assert (len(cache), cache.nbytes, cache.max_bytes) == (3, 30, 30)


def test_a_value_put_again_counts_once() -> None:
    cache = ByteCache(30)
    cache.put(key(0), "a", 10)
    cache.put(key(0), "b", 20)
    assert (cache.get(key(0)), len(cache), cache.nbytes) == ("b", 1, 20)


def test_a_value_beyond_the_bound_is_alone_until_the_next() -> None:
    """One crop of a large model may take more than all of a small bound, and is needed twice for one click."""
    cache = ByteCache(30)
    cache.put(key(0), "small", 10)
    cache.put(key(1), "large", 50)
    assert cache.get(key(1)) == "large"
    assert key(1) in cache
    assert cache.get(key(0)) is None
    assert (len(cache), cache.nbytes) == (1, 50)
    cache.put(key(2), "small", 10)
    assert cache.get(key(1)) is None
    assert (len(cache), cache.nbytes) == (1, 10)


def test_all_of_a_scan_goes_at_once() -> None:
    cache = ByteCache(30)
    cache.put(key(0, scan=1), "a", 10)
    cache.put(key(0, scan=2), "b", 10)
    cache.discard(1)
    assert cache.get(key(0, scan=1)) is None
    assert cache.get(key(0, scan=2)) == "b"
    cache.put(key(1, scan=2), "large", 50)
    cache.discard(2)
    assert (len(cache), cache.nbytes) == (0, 0)


class Cycle:
    """An object that only the garbage collector frees, and that lets go of a scan then."""

    def __init__(self, cache: ByteCache):
        self.itself = self
        weakref.finalize(self, cache.release, 1)


def test_a_scan_that_the_garbage_collector_frees_blocks_nothing() -> None:
    """Its finalizer may run in the midst of any call of the same thread, with the lock held."""
    cache = ByteCache(30)
    cache.put(key(0, scan=1), "a", 10)
    cache.put(key(0, scan=2), "b", 10)
    Cycle(cache)
    with cache._held():
        gc.collect()
    assert key(0, scan=1) not in cache
    assert cache.get(key(0, scan=2)) == "b"


def test_another_bound_keeps_what_was_used_last() -> None:
    cache = ByteCache(30)
    for number in range(3):
        cache.put(key(number), number, 10)
    cache.get(key(0))
    cache.resize(20)
    assert [number for number in range(3) if key(number) in cache] == [0, 2]
    assert cache.max_bytes == 20


def test_threads_never_exceed_the_bound() -> None:
    cache, sizes = ByteCache(1000), []

    def work(scan: int) -> None:
        for number in range(200):
            cache.put(key(number % 50, scan), number, 10 + number % 7)
            cache.get(key(number % 13, scan))
            sizes.append(cache.nbytes)

    threads = [threading.Thread(target=work, args=(scan,)) for scan in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sizes) == 800
    assert max(sizes) <= 1000


@pytest.mark.parametrize(("given", "megabytes"), [("", 2048), ("100", 100), ("0", 0), ("many", 2048), ("-5", 2048)])
def test_the_bound_is_the_environments(given: str, megabytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(caching.VARIABLE, given)
    assert caching.bound_from_environment() == megabytes * 2**20
