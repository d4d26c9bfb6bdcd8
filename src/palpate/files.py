"""Files on the disk: written whole or not at all, locked by one process at a time, identified by their content."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import OutputError, PalpateError

if TYPE_CHECKING:
    from filelock import BaseFileLock

HIDDEN = ".palpate-"  # begins the names of folders in which files are written before they take their place
FREE_SPACE = "nothing was changed. Free some space or choose another place"
LOCK_WAIT = 0.2  # seconds: a lock that ends just now is waited for, and its next holder has time to write its name


def error_text(error: OSError) -> str:
    """The operating system's words for an error, as "No space left on device"."""
    return error.strerror or str(error) or type(error).__name__


@contextmanager
def writing(path: str | Path, advice: str = FREE_SPACE, *, action: str = "write") -> Iterator[None]:
    """Turn an `OSError` of the block into an `OutputError` that names the path and the next step.

    Args:
        path: what the block writes.
        advice: what is on the disk after an error, and what to do next.
        action: what the block does with the path, as "write" or "make the folder".

    Raises:
        OutputError: the block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot {action} {path}: {error_text(error)}; {advice}") from error


def check_writable(path: str | Path) -> Path:
    """The path, if a file can be made there; asked before long work whose result it will hold.

    Raises:
        OutputError: the folder is missing or not writable, or the path is a folder.
    """
    path = Path(path)
    with writing(path, "choose another place"):  # a locked folder above it, a name too long
        if path.is_dir():
            raise OutputError(f"cannot write {path}: it is a folder; give a file's name")
        if not path.parent.is_dir():
            raise OutputError(f"cannot write {path}: the folder {path.parent} does not exist; make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {path}: no permission in {path.parent}; choose another folder")
    return path


@contextmanager
def replacing(*paths: str | Path) -> Iterator[tuple[Path, ...]]:
    """Temporary paths (same names, in a hidden folder beside) that replace `paths` when the block ends well.

    With several paths, the last is renamed last: make it the one that names the others. After an
    error nothing is left behind and old files are intact. Formats that read a file's ending, or
    name one file in another, work unchanged since the names are the final ones.

    Raises:
        OutputError: the file cannot be made or written (folder, permission, full disk).
    """
    targets = [check_writable(path) for path in paths]
    with writing(targets[-1]), hidden_folder(targets[0].parent) as folder:
        staged = tuple(Path(folder) / target.name for target in targets)
        yield staged
        for part, target in zip(staged, targets, strict=True):
            _sync(part)
            # Some writers make files that only their owner can read; a result has the mode any new file would.
            part.chmod(stat.S_IMODE(target.stat().st_mode) if target.exists() else _new_file_mode(Path(folder)))
        for part, target in zip(staged, targets, strict=True):
            part.replace(target)


@contextmanager
def all_or_none(*paths: Path | None) -> Iterator[None]:
    """After an error, delete the files that were new, so that no half of a result is left."""
    new = [path for path in paths if path is not None and not path.exists()]
    try:
        yield
    except PalpateError:
        for path in new:
            path.unlink(missing_ok=True)
        raise


def tidy(folder: Path) -> None:
    """Delete what a killed process left half written in a folder."""
    for torn in folder.glob(f"{HIDDEN}*"):
        shutil.rmtree(torn, ignore_errors=True)


def hidden_folder(parent: Path) -> tempfile.TemporaryDirectory[str]:
    """A context: a hidden folder in `parent` for files that then take their place there; deleted in the end."""
    return tempfile.TemporaryDirectory(prefix=HIDDEN, dir=parent, ignore_cleanup_errors=True)


def settle(staged: Path, target: Path) -> None:
    """Rename a hidden folder of files to its place, once all that it holds is on the disk.

    Raises:
        OSError: there is something in its place, or the disk is full.
    """
    for path in staged.iterdir():
        _sync(path)
    staged.chmod(_new_folder_mode(staged))  # a hidden folder is readable by its owner alone
    staged.rename(target)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _new_file_mode(folder: Path) -> int:
    """The permissions of a new file in a folder, read from one: the process's umask can only be read by setting it."""
    probe = folder / f"{HIDDEN}mode"
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    return mode


def _new_folder_mode(folder: Path) -> int:
    """The permissions of a new folder in a folder, likewise."""
    probe = folder / f"{HIDDEN}mode"
    probe.mkdir()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.rmdir()
    return mode


def lock(path: Path, refusal: Callable[[str], PalpateError], *, keep: bool = True) -> BaseFileLock:
    """Lock a file for this process, and write into it who holds it; `release()` of what is returned ends that.

    The lock also ends with the process, however that ends. Any thread may release it.

    Args:
        path: the file to lock; made if it is missing, in a folder that exists.
        refusal: makes the error from the holder's description, "process 7 on host since 2026-01-31T12:00:00+00:00".
        keep: leave the file there when the lock is released; else the holder deletes it (`locked`).

    Raises:
        PalpateError: the refusal, where it is locked already, in this process or in another.
        OutputError: the file cannot be made.
    """
    # 40 ms, which a process that locks nothing need not pay. Releases before 3.30 empty the file of who holds it.
    from filelock import FileLock, Timeout

    held = FileLock(
        path,
        timeout=LOCK_WAIT,
        poll_interval=LOCK_WAIT / 10,
        thread_local=False,
        preserve_lock_file=keep,
        fallback_to_soft=False,  # a file that merely exists would outlive its process
        on_acquired=_write_holder,
    )
    with writing(path):
        if not path.parent.is_dir():  # the library would make it
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        try:
            held.acquire()
        except Timeout as error:  # an OSError too
            raise refusal(_holder(path)) from error
    return held


@contextmanager
def locked(path: Path, refusal: Callable[[str], PalpateError], *, keep: bool = True) -> Iterator[None]:
    """Lock a file while the block runs; arguments and errors as `lock`."""
    held = lock(path, refusal, keep=keep)
    try:
        yield
    finally:
        if not keep:
            with suppress(PermissionError):  # Windows deletes no open file; there, releasing the lock deletes it
                path.unlink(missing_ok=True)  # while it is still locked: who waits for it then opens a new one
        held.release()


def _write_holder(descriptor: int) -> None:
    """Write who holds the lock; the first byte is blank because Windows lets nobody read the byte that is locked."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, f" process {os.getpid()} on {socket.gethostname()} since {since}\n".encode())


def _holder(path: Path) -> str:
    """Who holds a lock, by the lock's file; releases before this one wrote from its first byte."""
    with suppress(OSError), path.open("rb", buffering=0) as file:
        file.seek(1 if os.name == "nt" else 0)
        return file.read(200).decode(errors="replace").strip() or "another process"
    return "another process"


def file_sha256(path: Path) -> str:
    """A file's SHA-256, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
