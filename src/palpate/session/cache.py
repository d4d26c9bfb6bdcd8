"""Masks and lesion states on disk, beside the journal: a cache that may be deleted at any time.

::

    FOLDER/cache/
        KEY.SHA256.mask.npz            a mask and the probability of its voxels; or an initial mask
        KEY.SHA256.state.safetensors   a lesion's state, from which a further prompt is one step
        FILE.DIGEST.initial            empty: the digest of the initial mask in files/FILE.nii.gz

KEY is a hash of the scan, the model with its settings, and the prompts in their order. SHA256 is that of the file's
bytes, and is checked before they are used. So a file that is damaged, or of something else, is not used; it is removed.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from ..errors import PalpateError
from ..export import ScanIdentity
from ..files import file_sha256, hidden_folder, tidy
from ..inference.plausibility import MaskWarning, mask_warnings
from ..masks import Mask, Probability
from ..prompts import InitialMask, Prompt
from ..volume import Grid, Source

if TYPE_CHECKING:
    from ..inference.prediction import Prediction
    from ..inference.settings import InferenceIdentity

CACHE = "cache"
VERSION = 3  # part of every key; higher once the same prompts give other masks than they did
MAX_BYTES = 2**30  # of all files; what was used longest ago goes first
MASK, STATE, INITIAL = ".mask.npz", ".state.safetensors", ".initial"
_NAME = re.compile(
    r"(?P<key>[0-9a-f]{64})\.(?P<hash>[0-9a-f]{64})(?P<ending>\.mask\.npz|\.state\.safetensors|\.initial)"
)


@dataclass(frozen=True, eq=False)
class CachedMask:
    """A mask that a model made of prompts.

    Attributes:
        mask: cropped to its bounding box, read-only.
        values: float32 `[N]`, the probability of each of the mask's voxels, in the order of its array.
        predicted_iou: as `Prediction.predicted_iou`.
        cut: as `Prediction.cut`.
        ignored: as `Prediction.ignored`.
    """

    mask: Mask
    values: npt.NDArray[np.float32]
    predicted_iou: float | None = None
    cut: float = 0.0
    ignored: tuple[int, ...] = ()

    @classmethod
    def of(cls, prediction: Prediction) -> CachedMask:
        """A prediction's mask, with the probability of its voxels and what makes it doubtful."""
        mask = prediction.mask.cropped()
        mask.array.setflags(write=False)
        values = np.asarray(prediction.probability[mask.box][mask.array], dtype=np.float32)
        return cls(mask, values, prediction.predicted_iou, prediction.cut, prediction.ignored)

    @classmethod
    def of_initial_mask(cls, mask: Mask) -> CachedMask:
        """An initial mask, whose voxels have the probability 1."""
        mask = mask.cropped()
        mask.array.setflags(write=False)
        return cls(mask, np.ones(mask.voxels, dtype=np.float32))

    @property
    def probability(self) -> Probability:
        """The probability of the mask's voxels, 0 at all others."""
        array = np.zeros(self.mask.array.shape, dtype=np.float32)
        array[self.mask.array] = self.values
        return Probability(array, self.mask.start, self.mask.grid, self.mask.source)

    def warnings(
        self, prompts: Sequence[Prompt], mask: Mask | None = None, emptied: str | None = None
    ) -> tuple[MaskWarning, ...]:
        """Why it may be wrong, as the mask of some prompts.

        Args:
            prompts: those that it is of.
            mask: the one that is exported in place of it; None: itself.
            emptied: why that one is empty, where the model's is not.
        """
        shown = self.mask if mask is None else mask
        return mask_warnings(prompts, shown, self.predicted_iou, self.cut, self.ignored, emptied)

    @property
    def nbytes(self) -> int:
        """What its arrays take."""
        return self.mask.array.nbytes + self.values.nbytes


def cache_keys(scan: ScanIdentity, identity: InferenceIdentity, prompts: Sequence[Prompt]) -> list[str]:
    """A key for the state after each of the prompts: 64 hexadecimal digits.

    Args:
        scan: which scan.
        identity: which model, and how it infers.
        prompts: in their order.
    """
    begin = f"{VERSION} {scan.sha256} {identity.sha256} {identity.budget} {identity.precision}"
    if identity.rules > 1:  # so keys of before there were versions stay
        begin += f" rules {identity.rules}"
    digest = hashlib.sha256(begin.encode()).digest()
    keys = []
    for prompt in prompts:
        digest = hashlib.sha256(digest + prompt.digest).digest()
        keys.append(digest.hex())
    return keys


def mask_key(
    scan: ScanIdentity,
    identity: InferenceIdentity,
    prompts: Sequence[Prompt],
    initial_mask: InitialMask | None,
    takes_initial_mask: bool,
) -> str:
    """A key for the mask of a lesion's prompts.

    A model that takes no initial mask is given the prompts alone. Its mask has a key of its own nevertheless, so that
    nobody takes the mask of before an initial mask was given for that of after.

    Args:
        scan: which scan.
        identity: which model, and how it infers.
        prompts: in their order, at least one.
        initial_mask: the lesion's, if it has one.
        takes_initial_mask: whether the model takes it.
    """
    if initial_mask is None:
        return cache_keys(scan, identity, prompts)[-1]
    if takes_initial_mask:
        return cache_keys(scan, identity, (initial_mask, *prompts))[-1]
    alone = cache_keys(scan, identity, prompts)[-1]
    return hashlib.sha256(f"{alone} without the initial mask ".encode() + initial_mask.digest).hexdigest()


def initial_mask_key(scan: ScanIdentity, initial_mask: InitialMask) -> str:
    """A key for an initial mask itself, which no model made."""
    return hashlib.sha256(f"initial mask {scan.sha256} ".encode() + initial_mask.digest).hexdigest()


class SessionCache:
    """The cache of one session. What goes wrong with its files is never an error: it can be computed again.

    Args:
        folder: the session's.
        shape: the scan's.
        writable: False: nothing is written, removed or touched.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int], *, writable: bool):
        self._folder, self._shape, self._writable = folder / CACHE, shape, writable
        self._made_folder = False
        self._nbytes = 0  # of all files; what others removed since is counted until the bound is reached

    @cached_property
    def _names(self) -> dict[tuple[str, str], str]:
        """The files' names, by key and ending."""
        found: dict[tuple[str, str], str] = {}
        with suppress(OSError):
            for entry in os.scandir(self._folder):
                match = _NAME.fullmatch(entry.name)
                if match:
                    found[match["key"], match["ending"]] = entry.name
                    self._nbytes += entry.stat().st_size
        return found

    def mask(self, key: str, grid: Grid | None = None, source: Source | None = None) -> CachedMask | None:
        """The mask of a key; None: it is not cached.

        Args:
            key: of `cache_keys`.
            grid: the scan's; None: the one in the file.
            source: the scan's header.
        """
        path = self._checked(key, MASK)
        if path is None:
            return None
        try:
            return _read_mask(path, self._shape, grid, source)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, PalpateError):
            self._remove(key, MASK)
            return None

    def put_mask(self, key: str, cached: CachedMask) -> None:
        """Write a mask."""
        if (key, MASK) not in self._names:
            self._write(key, MASK, lambda path: _write_mask(path, cached))

    def has_state(self, key: str) -> bool:
        """Whether there is a file for the state of a key."""
        return (key, STATE) in self._names

    def load_state(self, key: str, load: Callable[[Path], bool]) -> bool:
        """Give the file of a state to `load`, which returns whether it could be used."""
        path = self._checked(key, STATE)
        if path is None:
            return False
        with suppress(PalpateError):
            if load(path):
                return True
        self._remove(key, STATE)
        return False

    def put_state(self, key: str, save: Callable[[Path], None]) -> None:
        """Write a state by `save`."""
        if not self.has_state(key):
            self._write(key, STATE, save)

    def get(self, name: str) -> bytes | None:
        """See `files.Digests`."""
        found = self._names.get((name[:64], INITIAL))
        return None if found is None else bytes.fromhex(found[65:129])

    def put(self, name: str, digest: bytes) -> None:
        """See `files.Digests`."""
        if self._writable and self.get(name) != digest:
            with suppress(OSError):
                self._make_folder()
                made = f"{name[:64]}.{digest.hex()}{INITIAL}"
                (self._folder / made).touch()
                self._names[name[:64], INITIAL] = made

    def tidy(self) -> None:
        """Remove what a kill left half written."""
        if self._writable:
            tidy(self._folder)

    def discard(self) -> None:
        """Remove the files, and the folder if this object made it and nothing else lies there."""
        for key, ending in list(self._names):
            self._remove(key, ending)
        if self._made_folder:
            with suppress(OSError):
                self._folder.rmdir()

    def _make_folder(self) -> None:
        if not self._folder.is_dir():
            self._folder.mkdir()
            self._made_folder = True

    def _checked(self, key: str, ending: str) -> Path | None:
        """The file of a key, if its bytes have the hash in its name."""
        name = self._names.get((key, ending))
        if name is None:
            return None
        path = self._folder / name
        try:
            if file_sha256(path) != name[65:129]:
                self._remove(key, ending)
                return None
            if self._writable:
                os.utime(path)  # the latest used stays longest
        except OSError:
            self._names.pop((key, ending), None)
            return None
        return path

    def _write(self, key: str, ending: str, write_to: Callable[[Path], None]) -> None:
        """Write a file, named by its content; a disk that is full leaves no file."""
        if not self._writable:
            return
        with suppress(OSError, PalpateError):
            self._make_folder()
            with hidden_folder(self._folder) as staging:
                path = Path(staging) / f"new{ending}"
                write_to(path)
                name = f"{key}.{file_sha256(path)}{ending}"
                size = path.stat().st_size
                path.replace(self._folder / name)
            self._names[key, ending] = name
            self._nbytes += size
            if self._nbytes > MAX_BYTES:
                self._remove_oldest(name)

    def _remove_oldest(self, newest: str) -> None:
        """Remove the files that were used longest ago until a tenth of the bound is free; the newest stays."""
        files = []
        for (key, ending), name in self._names.items():
            with suppress(OSError):
                status = (self._folder / name).stat()
                files.append((name == newest, status.st_mtime_ns, status.st_size, key, ending))
        self._nbytes, most = 0, MAX_BYTES * 9 // 10  # so that few writes list all files
        for _, _, size, key, ending in sorted(files, reverse=True):
            if self._nbytes + size > most and self._names[key, ending] != newest and ending != INITIAL:
                self._remove(key, ending)
            else:
                self._nbytes += size

    def _remove(self, key: str, ending: str) -> None:
        name = self._names.pop((key, ending), None)
        if name is not None and self._writable:
            with suppress(OSError):
                (self._folder / name).unlink()


def _write_mask(path: Path, cached: CachedMask) -> None:
    mask = cached.mask
    with path.open("wb") as file:
        np.savez(
            file,
            bits=np.packbits(mask.array),
            values=cached.values,
            box=np.array([mask.start, mask.array.shape], dtype=np.int64),
            grid=np.array(mask.grid.shape, dtype=np.int64),
            affine=mask.grid.affine,
            doubts=np.array([np.nan if cached.predicted_iou is None else cached.predicted_iou, cached.cut]),
            ignored=np.array(cached.ignored, dtype=np.int64),
        )


def _read_mask(path: Path, shape: tuple[int, int, int], grid: Grid | None, source: Source | None) -> CachedMask:
    """The mask in a file.

    Raises:
        ValueError: the file holds another scan's mask, or none.
    """
    with np.load(path, allow_pickle=False) as stored:
        box, affine = stored["box"], stored["affine"]
        start, size = box.tolist()
        if tuple(stored["grid"].tolist()) != shape or any(
            s < 0 or n < 0 or s + n > end for s, n, end in zip(start, size, shape, strict=True)
        ):
            raise ValueError("a mask of another scan")
        array = np.unpackbits(stored["bits"], count=int(np.prod(size))).astype(bool).reshape(size)
        values = stored["values"].astype(np.float32)
        # Initial masks of earlier programs have neither.
        iou, cut = stored["doubts"].tolist() if "doubts" in stored else (np.nan, 0.0)
        ignored = tuple(stored["ignored"].tolist()) if "ignored" in stored else ()
    if grid is not None and not np.array_equal(affine, grid.affine):
        raise ValueError("a mask on another grid")
    if len(values) != np.count_nonzero(array):
        raise ValueError("no probability for each voxel")
    array.setflags(write=False)
    mask = Mask(array, (start[0], start[1], start[2]), grid or Grid(shape, affine), source)
    return CachedMask(mask, values, None if np.isnan(iou) else iou, cut, ignored)
