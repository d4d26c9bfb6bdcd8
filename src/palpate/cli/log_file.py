"""The log of a command (`--log FILE`): time-stamped lines, added at the end of a file."""

from __future__ import annotations

import logging
import re
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
_LINE = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \d+ (DEBUG|INFO|WARNING|ERROR|CRITICAL): ")  # begins so
_OF_OTHERS = (".png", ".jpg", ".jpeg", ".pdf", ".svg", ".safetensors", ".pt", ".pth", ".ckpt", ".yaml", ".yml")


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
        OutputError: it cannot be written, has the name of an image, a model or a preset, or holds something else than a
            log of Palpate's.
    """
    from ..formats import READABLE

    close_log()
    if path.name.lower().endswith((*READABLE, *_OF_OTHERS)):
        raise OutputError(f"{path}: has the name of an image, a model or a preset; give --log a name as palpate.log")
    try:
        if path.is_file() and not _is_log(path):
            raise OutputError(
                f"{path}: exists and is no log of Palpate's, and nothing is added to it; name another file with --log"
            )
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


def _is_log(path: Path) -> bool:
    """Whether a file is empty, or begins with a line of a log."""
    with path.open("rb") as file:
        first = file.readline(128)
    return not first or _LINE.match(first) is not None
