"""Files on the disk: written whole or not at all, held by one process at a time, and told apart by their content."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from .errors import BatchError, OutputError, PalpateError, SessionError

HAS_LOCKS = importlib.util.find_spec("fcntl") is not None  # not on Windows
HIDDEN = ".palpate-"  # begins the names of folders that things are written in before they take their place


def check_writable(path: str | Path) -> Path:
    """The path, if a file can be made there; asked before long work whose result it will hold.

    Raises:
        OutputError: the folder is missing or not writable, or the path is a folder.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise OutputError(f"cannot write {path}: it is a folder; give a file's name")
        if not path.parent.is_dir():
            raise OutputError(f"cannot write {path}: the folder {path.parent} does not exist; make it first")
    except OSError as error:  # a locked folder above it, a name too long
        raise OutputError(f"cannot write {path}: {error.strerror or error}; choose another place") from error
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {path}: no permission in {path.parent}; choose another folder")
    return path


@contextmanager
def replacing(*paths: str | Path) -> Iterator[tuple[Path, ...]]:
    """Temporary paths (same names, in a hidden folder beside) that replace `paths` when the block ends well.

    With several paths, the last is renamed last: make it the one that names the others. After an
    error nothing is left behind and old files are intact. Formats that look at a file's ending, or
    name one file in another, work unchanged since the names are the final ones.

    Raises:
        OutputError: the file cannot be made or written (folder, permission, full disk).
    """
    targets = [check_writable(path) for path in paths]
    try:
        with hidden_folder(targets[0].parent) as folder:
            staged = tuple(Path(folder) / target.name for target in targets)
            yield staged
            for part, target in zip(staged, targets, strict=True):
                with part.open("rb") as file:
                    os.fsync(file.fileno())
                # Some writers make files that only their owner can read; a result has the mode any new file would.
                part.chmod(stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666 & ~_umask())
            for part, target in zip(staged, targets, strict=True):
                part.replace(target)
    except OSError as error:
        raise OutputError(
            f"cannot write {targets[-1]}: {error.strerror or error}; nothing was changed. "
            "Free some space or choose another place"
        ) from error


@contextmanager
def all_or_none(*paths: Path | None) -> Iterator[None]:
    """After an error, take away the files that were new: whoever is told of a failure finds no half of a result."""
    new = [path for path in paths if path is not None and not path.exists()]
    try:
        yield
    except PalpateError:
        for path in new:
            path.unlink(missing_ok=True)
        raise


def tidy(folder: Path) -> None:
    """Take away what a kill left half written in a folder."""
    for torn in folder.glob(f"{HIDDEN}*"):
        shutil.rmtree(torn, ignore_errors=True)


def hidden_folder(parent: Path) -> tempfile.TemporaryDirectory[str]:
    """A context: a hidden folder in `parent`, to write in what then takes its place there; gone in the end."""
    return tempfile.TemporaryDirectory(prefix=HIDDEN, dir=parent, ignore_cleanup_errors=True)


def settle(staged: Path, target: Path) -> None:
    """Rename a folder of files to its place, once all that it holds is on the disk; others may read it.

    Raises:
        OSError: there is something in its place, or a full disk.
    """
    for path in staged.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    staged.chmod(0o755)
    staged.rename(target)


def _umask() -> int:
    """The permissions that new files lack; it can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


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


def file_sha256(path: Path) -> str:
    """A file's SHA-256, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
