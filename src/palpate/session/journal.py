"""A session's journal on disk: every operation is appended before it counts as done.

::

    FOLDER/
        journal.jsonl    a header, then a line for each step; only ever appended to
        journal.lock     which process appends to it at the moment
        files/           masks and long strokes that lines name, each called by the SHA-256 of its bytes
        cache/           masks and states that were computed; may be deleted
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import OutputError, PalpateError, SessionError
from ..files import lock, replacing, writing
from .files import SessionFiles, remove_made, sync_folder
from .lines import JOURNAL, MAX_BYTES, Header, Line, Step, check_there, sealed

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK = "journal.lock"


class Journal:
    """The journal's file, open for appending; no other process appends to it meanwhile.

    Made by `create` and `open`.
    """

    def __init__(self, folder: Path, held: BaseFileLock, made: Sequence[Path] = ()):
        self.path = folder / JOURNAL
        self._lock, self._made = held, made
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
        self._size = os.fstat(self._file).st_size
        self._sequence = 0
        self._broken = False

    @classmethod
    def create(cls, folder: Path, header: Header) -> Journal:
        """A new journal in a folder, which is made if need be.

        Raises:
            SessionError: there is a journal already, or another process holds it.
            OutputError: it cannot be written.
        """
        made = [path for path in (folder, folder / LOCK) if not path.exists()]
        with writing(folder):
            folder.mkdir(exist_ok=True)
        try:
            held = lock(folder / LOCK, in_use(folder))
        except PalpateError:
            remove_made([path for path in made if path == folder])  # the lock may be another process's
            raise
        try:
            if (folder / JOURNAL).exists():
                raise SessionError(f"{folder}: holds a session already; open that one, or choose another folder")
            with replacing(folder / JOURNAL) as (staged,):
                staged.write_bytes(sealed(header))
            sync_folder(folder)
            return cls(folder, held, made)
        except BaseException:
            remove_made(made)
            held.release()
            raise

    @classmethod
    def open(cls, folder: Path) -> Journal:
        """The journal in a folder, to go on with; a last line that was torn while it was written is cut off.

        Raises:
            SessionError: no journal, or another process holds it.
            OutputError: it cannot be written.
        """
        check_there(folder)
        held = lock(folder / LOCK, in_use(folder))
        try:
            with writing(folder / JOURNAL):
                journal = cls(folder, held)
                journal._cut()
        except OutputError:
            held.release()
            raise
        return journal

    def go_on_after(self, sequence: int) -> None:
        """Number the next line one higher than this."""
        self._sequence = sequence

    def append(self, step: Step, files: SessionFiles) -> str:
        """Append a line; it is on the disk, or nothing was changed. Returns its time.

        Raises:
            OutputError: the disk is full or fails.
        """
        if self._broken:
            raise OutputError(f"{self.path}: could not be repaired after a failed write; close the session and open it")
        line = Line(sequence=self._sequence + 1, at=datetime.now(UTC).isoformat(timespec="seconds"), step=step)
        text = sealed(line, files)
        if len(text) > MAX_BYTES:
            raise SessionError(f"a step of {len(text)} bytes is more than a journal's line may have ({MAX_BYTES})")
        try:
            with writing(self.path):
                done = 0
                while done < len(text):
                    done += os.write(self._file, text[done:])
                os.fsync(self._file)
        except BaseException:
            self._restore_size()
            raise
        self._size += len(text)
        self._sequence += 1
        return line.at

    def close(self) -> None:
        """Let others append."""
        os.close(self._file)
        self._lock.release()

    def discard(self) -> None:
        """Remove it and what else `create` made, and close it; a folder in which something else lies stays."""
        remove_made([*self._made, self.path])
        self.close()

    def _restore_size(self) -> None:
        """Cut off the part of a line that was written before the disk failed."""
        try:
            os.ftruncate(self._file, self._size)
        except OSError:
            self._broken = True

    def _cut(self) -> None:
        whole = _whole_bytes(self.path)
        if whole < self._size:
            os.ftruncate(self._file, whole)
            os.fsync(self._file)
            self._size = whole


def in_use(folder: Path) -> Callable[[str], SessionError]:
    """The error for a folder that somebody else holds (`files.lock`)."""
    return lambda holder: SessionError(f"{folder}: is in use by {holder}; close it there first")


def _whole_bytes(path: Path) -> int:
    """How many bytes of a file its whole lines take."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
    return 0
