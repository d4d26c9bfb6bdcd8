"""Work over processes: all of it, a little ahead, and a death that is told."""

import os
from collections.abc import Iterator

import pytest

from palpate.cohort.parallel import mapped
from palpate.errors import CohortError


def test_one_worker_keeps_the_order() -> None:
    assert list(mapped(abs, [-3, 1, -2], workers=1)) == [3, 1, 2]


def test_several_do_it_all() -> None:
    assert sorted(mapped(abs, range(-40, 0), workers=2)) == list(range(1, 41))
    assert list(mapped(abs, [], workers=2)) == []


def test_items_are_taken_only_a_little_ahead() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield number

    results = mapped(abs, items(), workers=2)
    next(results)
    assert taken <= 8
    assert len(list(results)) == 99


def test_a_worker_that_dies() -> None:
    with pytest.raises(CohortError, match="a worker process was killed, perhaps for want of memory"):
        list(mapped(os._exit, [3], workers=2))


def test_errors_come_through() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        list(mapped(int, ["x"], workers=2))
