"""One process at a time in a folder; the lock ends with its process, however that ends."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ..errors import OutputError, SessionError


def lock(folder: Path, name: str) -> int:
    """Hold a folder by a lock on a file in it, which says who holds it; returns what `os.close` gives back.

    Raises:
        SessionError: somebody holds it already, in this process or in another.
        OutputError: the file cannot be made.
    """
    try:
        import fcntl
    except ImportError as error:
        raise SessionError("a session on disk needs file locks (flock), which this system does not have") from error
    path = folder / name
    try:
        held = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise unwritten(path, error) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        os.ftruncate(held, 0)
        os.pwrite(held, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode(), 0)
    except BlockingIOError as error:
        holder = os.pread(held, 200, 0).decode(errors="replace").strip() or "another process"
        os.close(held)
        raise SessionError(f"{folder}: is in use by {holder}; close it there first") from error
    except OSError as error:
        os.close(held)
        raise unwritten(path, error) from error
    return held


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Hold a folder while the block runs; raises as `lock`."""
    held = lock(folder, name)
    try:
        yield
    finally:
        os.close(held)


def unwritten(path: Path, error: OSError) -> OutputError:
    """What to say of a file that could not be written."""
    return OutputError(
        f"cannot write {path}: {error.strerror or error}; nothing was changed. Free some space or choose another place"
    )
