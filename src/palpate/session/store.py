"""A session's store: its journal, its files and its cache. It is read without the scan and without the model."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from ..errors import SessionError
from ..lesions import LesionRecord
from ..masks import Mask
from ..volume import Grid, Volume
from .cache import CachedMask, SessionCache, initial_mask_key, mask_key
from .edits import LesionEdits
from .files import SessionFiles
from .history import History
from .journal import Journal
from .lesion import Lesion, Lesions
from .lines import Header, OtherModel, Redo, Step, Undo, fingerprint, read_header, read_lines
from .times import JournalTimes

if TYPE_CHECKING:
    from ..inference.plausibility import MaskWarning
    from ..inference.settings import InferenceIdentity


class SessionStore(LesionEdits):
    """The lesions of a session and the operations on them that compute nothing: to rename, accept, remove, undo, ...

    A store in memory is made by the constructor, one on disk by `create` and `open`.

    Args:
        header: which scan and which model.

    Attributes:
        header: the journal's first line.
        identity: the model that the session goes on with, and how it infers.
        folder: where it is; None: in memory only.
        history: the operations, and the lesions that they lead to.
        times: when things were done; of a store on disk.
        cache: masks and states on disk; None: in memory only.
    """

    def __init__(self, header: Header):
        self.header, self.identity = header, header.model
        self.folder: Path | None = None
        self.history = History()
        self.times = JournalTimes()
        self.cache: SessionCache | None = None
        self._files: SessionFiles | None = None
        self._journal: Journal | None = None
        self._read_only = self._begun = False
        self._id = uuid.uuid4().hex

    @classmethod
    def create(cls, folder: Path, header: Header, volume: Volume) -> Self:
        """A new store in a folder, which is made if need be.

        Raises:
            SessionError: the folder holds a session already, or another process works there.
            OutputError: the folder cannot be written.
        """
        store = cls(header)
        store._set_folder(folder, volume, read_only=False)
        store._journal = Journal.create(folder, header)
        store._begun = True
        return store

    @classmethod
    def open(cls, folder: str | Path, volume: Volume | None = None, *, read_only: bool = False) -> Self:
        """The store in a folder, as it was when its last operation returned.

        Args:
            folder: where it is.
            volume: the scan; needed only to add what is written on the scan's grid.
            read_only: nothing is written or locked, and every operation is refused.

        Raises:
            SessionError: no session there, a damaged line or file, or another process works there.
            OutputError: the folder cannot be written.
        """
        folder = Path(folder)
        store = cls(read_header(folder))
        store._set_folder(folder, volume, read_only=read_only)
        assert store._files is not None
        assert store.cache is not None
        if not read_only:
            store._journal = Journal.open(folder)
            store._files.tidy()
            store.cache.tidy()
        try:
            store._replay()
        except BaseException:
            store.close()
            raise
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes go on with it; nothing needs saving."""
        if self._journal is not None:
            self._journal.close()
            self._journal, self._read_only = None, True

    def discard(self) -> None:
        """Close it and remove all that it wrote: for a session whose very first step was refused.

        Its folder goes too, if it made that and nothing else lies there.

        Raises:
            SessionError: it was not begun on the disk by this object, or is closed.
        """
        if not self._begun or self._journal is None or self._files is None or self.cache is None:
            raise SessionError(f"{self.folder}: was not begun here; remove its folder yourself")
        self.cache.discard()
        self._files.discard()
        self._journal.discard()
        self._journal, self._read_only = None, True

    @property
    def fingerprint(self) -> str:
        """An identifier that no other session has; that of one on disk stays from its first step on."""
        return self._id if self.folder is None else fingerprint(self.folder)

    def cached_mask(self, lesion: Lesion) -> CachedMask | None:
        """The mask that the session's model made of a lesion's prompts, if it is cached on disk."""
        if self.cache is None:
            return None
        for takes in (True, False):  # only a model knows whether it takes an initial mask
            key = mask_key(self.header.scan, self.identity, lesion.prompts, lesion.initial_mask, takes)
            found = self.cache.mask(key)
            if found is not None:
                return found
        return None

    def warnings(self, number: int) -> tuple[MaskWarning, ...] | None:
        """Why a lesion's mask may be wrong; of one without prompts, nothing is known. None: it must be computed.

        Raises:
            SessionError: there is no such lesion.
        """
        lesion = self.lesion(number)
        if not lesion.prompts:
            return ()
        cached, start = self.cached_mask(lesion), () if lesion.initial_mask is None else (lesion.initial_mask,)
        return None if cached is None else cached.warnings((*start, *lesion.prompts))

    def mask(self, lesion: Lesion) -> Mask | None:
        """A lesion's mask, if it is known at once; None: it must be computed, or read from the initial mask's file.

        An empty mask lies on a grid of the scan's shape, wherever the scan lies.
        """
        if lesion.prompts:
            cached = self.cached_mask(lesion)
        elif lesion.initial_mask is None:
            nowhere = Grid(self.header.scan.shape, np.eye(4))
            return Mask(np.zeros((0, 0, 0), dtype=bool), (0, 0, 0), nowhere)
        elif self.cache is None:
            return lesion.initial_mask.mask
        else:
            cached = self.cache.mask(initial_mask_key(self.header.scan, lesion.initial_mask))
        return None if cached is None else cached.mask

    def record(self, number: int) -> LesionRecord | None:
        """A lesion with its mask; None: the mask must be computed, for which the scan and the model are needed.

        Raises:
            SessionError: there is no such lesion.
        """
        lesion = self.lesion(number)
        mask = self.mask(lesion)
        if mask is None and not lesion.prompts and lesion.initial_mask is not None:
            mask = lesion.initial_mask.mask
        return None if mask is None else record_of(lesion, mask)

    def append(self, step: Step) -> None:
        """Write a step down.

        Raises:
            SessionError: see `check_writable`.
            OutputError: the disk is full or fails.
        """
        self.check_writable()
        if self._journal is not None:
            assert self._files is not None
            self.times.note(step, self._journal.append(step, self._files), self.history)

    def adopt(self, identity: InferenceIdentity) -> None:
        """Write down that the session goes on with another model.

        Raises:
            SessionError, OutputError: as `append`.
        """
        self.append(OtherModel(model=identity))
        self.identity = identity

    def check_writable(self) -> None:
        """Refuse to write.

        Raises:
            SessionError: the store is closed, or open for reading only.
        """
        if self._read_only:
            raise SessionError(f"{self.folder}: is closed, or open for reading only; open it again to go on")

    def _check_writable(self) -> None:
        self.check_writable()

    def _record(self, step: Step, after: Lesions) -> None:
        self.append(step)

    def _set_folder(self, folder: Path, volume: Volume | None, *, read_only: bool) -> None:
        grid, source = (None, None) if volume is None else (volume.grid, volume.source)
        self.folder, self._read_only = folder, read_only
        self.cache = SessionCache(folder, self.header.scan.shape, writable=not read_only)
        self._files = SessionFiles(folder, grid, source, self.cache)

    def _replay(self) -> None:
        """Do the steps of the journal.

        Raises:
            SessionError: a step that cannot be done; the message gives its line.
        """
        assert self.folder is not None
        assert self._files is not None
        sequence = 0
        for line in read_lines(self.folder, self._files):
            step, sequence = line.step, line.sequence
            self.times.note(step, line.at, self.history)
            try:
                if isinstance(step, OtherModel):
                    self.identity = step.model
                elif isinstance(step, Undo):
                    self.history.undo()
                elif isinstance(step, Redo):
                    self.history.redo()
                else:
                    self.history.add(step, step.apply(self.history.lesions))
            except SessionError as error:
                raise SessionError(f"{self.folder}: line {sequence + 1} of its journal cannot be: {error}") from error
        if self._journal is not None:
            self._journal.go_on_after(sequence)


def record_of(lesion: Lesion, mask: Mask) -> LesionRecord:
    """A lesion with its mask."""
    return LesionRecord(
        lesion.number, lesion.name, lesion.status, mask, lesion.numbered, lesion.initial_mask, lesion.score
    )
