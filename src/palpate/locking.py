"""One process at a time at work on what is kept; a lock ends with its process, however that ends."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from .errors import BatchError, OutputError, PalpateError, SessionError

HAS_LOCKS = importlib.util.find_spec("fcntl") is not None  # not on Windows


def lock(folder: Path, name: str) -> int:
    """Hold a folder by a lock on a file in it, which says who holds it; returns what `os.close` gives back.

    Raises:
        SessionError: somebody holds it already, in this process or in another.
        OutputError: the file cannot be made.
    """
    if not HAS_LOCKS:
        raise SessionError("a session on disk needs file locks (flock), which this system does not have")
    return _hold(folder / name, lambda who: SessionError(f"{folder}: is in use by {who}; close it there first"))


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Hold a folder while the block runs; raises as `lock`."""
    held = lock(folder, name)
    try:
        yield
    finally:
        os.close(held)


@contextmanager
def running(results: Path) -> Iterator[None]:
    """Let one run at a time write a file of results, by a hidden file beside it that is gone in the end.

    A system without file locks has none of this.

    Raises:
        BatchError: another run writes them.
        OutputError: the file cannot be made.
    """
    if not HAS_LOCKS:
        yield
        return
    path = results.with_name(f".{results.name}.lock")
    other = "let it end, or name another --results"
    held = _hold(path, lambda who: BatchError(f"{results}: another run writes it, {who}; {other}"))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is still held: who waits for it looks whether it is still there
        os.close(held)


def _hold(path: Path, refusal: Callable[[str], PalpateError]) -> int:
    """Lock a file, and write into it who does; what to say of whoever holds it already is the refusal."""
    import fcntl

    try:
        held = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise unwritten(path, error) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not path.exists() or not os.path.samestat(os.fstat(held), path.stat()):  # its holder took it away just now
            os.close(held)
            return _hold(path, refusal)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        os.ftruncate(held, 0)
        os.pwrite(held, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode(), 0)
    except BlockingIOError as error:
        holder = os.pread(held, 200, 0).decode(errors="replace").strip() or "another process"
        os.close(held)
        raise refusal(holder) from error
    except OSError as error:
        os.close(held)
        raise unwritten(path, error) from error
    return held


def unwritten(path: Path, error: OSError) -> OutputError:
    """What to say of a file that could not be written."""
    return OutputError(
        f"cannot write {path}: {error.strerror or error}; nothing was changed. Free some space or choose another place"
    )
