"""The log of a command (`--log FILE`): time-stamped lines, added at the end of a file."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from pathlib import Path

import typer

from ..errors import OutputError
from ..files import error_text

LOG = logging.getLogger("palpate.cli")
LOG.setLevel(logging.INFO)
LOG.propagate = False  # what is meant for people is printed by the Console, and by nobody else
LOG.addHandler(logging.NullHandler())
_FORMAT = logging.Formatter("%(asctime)s %(process)d %(levelname)s: %(message)s", "%Y-%m-%dT%H:%M:%S%z")
_BEGINNING = 1024  # bytes of a file by which it is told apart from an image


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Warn once, and go on without the log: a full disk must not end the work."""
        error = sys.exc_info()[1]
        LOG.removeHandler(self)
        with suppress(OSError):  # what is left to write cannot be written either
            self.close()
        reason = error_text(error) if isinstance(error, OSError) else str(error)
        typer.secho(
            f"warning: {self.baseFilename}: the log can no longer be written ({reason}); the work goes on without it",
            fg="yellow",
            err=True,
        )


def open_log(path: Path) -> None:
    """Write all further messages to a file too, after what it holds; a log that was open is closed.

    Raises:
        OutputError: it cannot be written, or holds something that is no text.
    """
    close_log()
    try:
        if path.is_file() and _is_binary(path):
            raise OutputError(f"{path}: is no text, and a log would damage it; name another file")
        handler = _LogFile(path, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{path}: the log cannot be written ({error_text(error)}); name another file with --log, or leave it out"
        ) from error
    handler.setFormatter(_FORMAT)
    LOG.addHandler(handler)


def close_log() -> None:
    """Write no more messages to a file."""
    for handler in [each for each in LOG.handlers if isinstance(each, _LogFile)]:
        LOG.removeHandler(handler)
        handler.close()


def _is_binary(path: Path) -> bool:
    """Whether a file begins as images and models do, and texts do not."""
    with path.open("rb") as file:
        return b"\0" in file.read(_BEGINNING)
