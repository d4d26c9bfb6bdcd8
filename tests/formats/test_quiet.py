"""Libraries' remarks are dropped while ours read, and nobody else's filters change."""

import logging
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from palpate.formats.quiet import ignored_warnings, muted


def remark(module: str) -> None:
    warnings.warn_explicit("odd", UserWarning, "a.py", 1, module=module)


class Listing(logging.Handler):
    """Appends each message to a list."""

    def __init__(self, messages: list[str]):
        super().__init__()
        self.messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def test_only_the_package_s_warnings_are_ignored() -> None:
    with ignored_warnings("somelib"):
        remark("somelib")
        remark("somelib.inner")
        with pytest.warns(UserWarning, match="odd"):
            remark("somelibrary")
    with pytest.warns(UserWarning, match="odd"):
        remark("somelib.inner")


def test_threads_that_leave_in_another_order_leave_the_filters_as_they_were() -> None:
    before = list(warnings.filters)
    first_in, first_out = threading.Event(), threading.Event()

    def first() -> None:
        with ignored_warnings("somelib"):
            first_in.set()
            assert second_in.wait(10)
        first_out.set()

    second_in = threading.Event()

    def second() -> None:
        assert first_in.wait(10)
        with ignored_warnings("somelib"):
            second_in.set()
            assert first_out.wait(10)
            remark("somelib")

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(first), pool.submit(second)]:
            done.result()
    assert list(warnings.filters) == before


def test_a_filter_that_a_user_adds_meanwhile_stays() -> None:
    with warnings.catch_warnings():
        with ignored_warnings("somelib"):
            warnings.filterwarnings("ignore", message="a user's own")
        assert any(getattr(one[1], "pattern", "") == "a user's own" for one in warnings.filters)


def test_another_thread_s_log_passes() -> None:
    logger, records = logging.Logger("somelib"), list[str]()
    logger.addHandler(Listing(records))
    with muted(logger):
        logger.warning("mine")
        other = threading.Thread(target=logger.warning, args=("another's",))
        other.start()
        other.join()
    logger.warning("later")
    assert records == ["another's", "later"]
