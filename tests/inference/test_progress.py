"""Progress only rises, and cancelling stops at the next part."""

import pytest

from palpate.errors import CancelledError
from palpate.inference.progress import Progress


def test_parts_take_shares_of_what_is_left() -> None:
    shares: list[float] = []
    progress = Progress(shares.append)
    with progress.part(0.5) as report:
        report(0.5)
        report(0.2)
    with progress.part(0.5), progress.part(1.0) as report:
        report(0.5)
    with progress.part(1.0):
        pass
    assert shares == [0.25, 0.5, 0.625, 0.75, 1.0]


def test_cancelling_stops_before_a_part_and_within_it() -> None:
    cancelled = False
    progress = Progress(cancel=lambda: cancelled)
    with progress.part(0.5) as report:
        report(0.5)
        cancelled = True
        with pytest.raises(CancelledError, match="cancelled; nothing was changed"):
            report(0.6)
    with pytest.raises(CancelledError), progress.part(0.5):
        raise AssertionError("it does not begin")
