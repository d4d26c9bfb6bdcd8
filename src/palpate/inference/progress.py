"""Progress of one call, which never runs backwards, and its cancellation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import CancelledError

ProgressHook = Callable[[float], None]  # takes the share that is done, 0 to 1
Cancel = Callable[[], bool]  # whether to stop


class Progress:
    """The share of a call that is done.

    How many crops a prompt needs is known only when they are predicted. So each takes a share of what is left.

    Args:
        report: called with the share that is done, 0 to 1, each time larger than before; None: nobody asks.
        cancel: asked before each crop and each block of the encoder; None: never cancelled.
    """

    def __init__(self, report: ProgressHook | None = None, cancel: Cancel | None = None):
        self._report, self._cancel = report, cancel
        self._done, self._end = 0.0, 1.0
        self._reported = 0.0

    def check(self) -> None:
        """Stop here if the call was cancelled.

        Raises:
            CancelledError: it was.
        """
        if self._cancel is not None and self._cancel():
            raise CancelledError("cancelled; nothing was changed")

    @contextmanager
    def part(self, share: float) -> Iterator[ProgressHook]:
        """A part of the work, which takes a share of what is left, 0 to 1; yields where its own progress goes.

        Raises:
            CancelledError: the call was cancelled.
        """
        self.check()
        low, outer = self._done, self._end
        self._end = low + share * (outer - low)

        def inner(done: float) -> None:
            self.check()
            self._show(low + done * (self._end - low))

        yield inner
        self._done, self._end = self._end, outer
        self._show(self._done)

    def _show(self, done: float) -> None:
        if self._report is not None and done > self._reported:
            self._reported = done
            self._report(done)
