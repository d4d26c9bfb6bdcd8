"""The files that a journal's lines name: masks and long strokes, each called by the SHA-256 of its bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import PromptError, ScanError, SessionError
from ..files import error_text, file_sha256, hidden_folder, tidy, writing
from ..formats import write
from ..masks import Mask
from ..prompt_file import ClickEntry, PromptEntry, read_initial_mask
from ..prompts import InitialMask, Places, Prompt
from ..volume import Grid, Source

FILES = "files"
_NAME = re.compile(r"[0-9a-f]{64}(\.nii\.gz|\.npy)")


class Digests(Protocol):
    """Digests of initial masks by their files' names: so that a mask need not be read to find what follows from it."""

    def get(self, name: str) -> bytes | None:
        """The digest of the mask in a file; None: it is not known."""

    def put(self, name: str, digest: bytes) -> None:
        """Remember the digest of the mask in a file."""


class StoredInitialMask(InitialMask):
    """An initial mask that lies in a session's file, and is read when it is needed.

    Args:
        path: the file, whose bytes were checked.
        digests: where its digest may be known.
    """

    def __init__(self, path: Path, digests: Digests):
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "positive", True)
        object.__setattr__(self, "_digests", digests)

    @cached_property
    def mask(self) -> Mask:
        """The mask, as the file has it.

        Raises:
            SessionError: the file holds no mask.
        """
        path: Path = self.__dict__["path"]
        try:
            return read_initial_mask(path).mask
        except (PromptError, ScanError) as error:
            raise SessionError(f"{path}: {error}") from error

    @cached_property
    def digest(self) -> bytes:
        """See `InitialMask`."""
        digests: Digests = self.__dict__["_digests"]
        name = self.__dict__["path"].name
        known = digests.get(name)
        if known is None:
            known = InitialMask(self.mask).digest
            digests.put(name, known)
        return known

    def __repr__(self) -> str:
        return f"StoredInitialMask({self.__dict__['path'].name})"


class SessionFiles:
    """The files of one session, and the context in which prompts are read and written.

    Args:
        folder: the session's.
        grid: the scan's; None: the session is read without its scan, and no file can be written.
        source: the scan's header, which masks repeat.
        digests: where digests of initial masks are remembered.
    """

    def __init__(self, folder: Path, grid: Grid | None, source: Source | None, digests: Digests):
        self.folder, self.grid, self.source, self.digests = folder / FILES, grid, source, digests
        self._made: list[Path] = []

    def prompt(self, entry: PromptEntry) -> Prompt:
        """The prompt of an entry that is no initial mask.

        Raises:
            SessionError: its file is none of ours, missing or damaged; or a place in millimetres, without the scan.
            PromptError: it is no prompt.
        """
        file = getattr(entry, "file", None)
        if file is not None:
            self.check(file)
        if self.grid is None:
            if isinstance(entry, ClickEntry) and entry.mm is not None:
                raise SessionError("a click is given in millimetres, which need the scan; open the session with it")
            return entry.prompt(Grid((1, 1, 1), np.eye(4)), self.folder)  # no other entry depends on the grid
        return entry.prompt(self.grid, self.folder)

    def stored_initial_mask(self, name: str) -> StoredInitialMask:
        """The initial mask in a file, which is read when it is needed.

        Raises:
            SessionError: see `check`.
        """
        self.check(name)
        return StoredInitialMask(self.folder / name, self.digests)

    def save_mask(self, mask: Mask) -> str:
        """Write a mask to a NIfTI file; returns its name.

        Raises:
            OutputError: it cannot be written.
        """
        assert self.grid is not None
        # On the scan's own grid: another program's header may differ from it by rounding.
        ours = Mask(mask.array, mask.start, self.grid, self.source)
        return self._keep(".nii.gz", lambda path: write(ours, path))

    def save_places(self, places: Places) -> str:
        """Write voxels `[N, 3]` to a NumPy file; returns its name.

        Raises:
            OutputError: it cannot be written.
        """
        return self._keep(".npy", lambda path: np.save(path, places.astype(np.int32), allow_pickle=False))

    def check(self, name: str) -> None:
        """Refuse a name that is not a whole file of ours.

        Raises:
            SessionError: another folder's file, none, or one whose hash is not that in its name.
        """
        path = self.folder / name
        if not _NAME.fullmatch(name):
            raise SessionError(f"it names the file {name[:200]!r}, which is none that a session writes")
        try:
            found = file_sha256(path)
        except OSError as error:
            raise SessionError(f"{path} cannot be read ({error_text(error)}); put the session's files back") from error
        if not name.startswith(found):
            raise SessionError(f"{path} is damaged: its hash is not that in its name; put a whole copy there")

    def tidy(self) -> None:
        """Remove what a kill left half written."""
        tidy(self.folder)

    def discard(self) -> None:
        """Remove every file that this object made, and their folder if it made that and it is empty."""
        remove_made(self._made)
        self._made = []

    def _keep(self, ending: str, write_to: Callable[[Path], None]) -> str:
        """Write a file, name it by its content, and be sure that it is on the disk."""
        with writing(self.folder):
            if not self.folder.is_dir():
                self.folder.mkdir()
                self._made.append(self.folder)
            with hidden_folder(self.folder) as staging:
                path = Path(staging) / f"new{ending}"
                write_to(path)
                name = file_sha256(path) + ending
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                if not (self.folder / name).exists():
                    self._made.append(self.folder / name)
                path.replace(self.folder / name)
            sync_folder(self.folder)
        return name


def remove_made(made: Sequence[Path]) -> None:
    """Remove files and folders, what was made last first; a folder in which somebody else put something stays."""
    for path in reversed(made):
        with suppress(OSError):
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Put a folder's list of names on the disk, without which a new file may be lost with the power."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
