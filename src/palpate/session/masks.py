"""The masks of a session's lesions: each computed at most once while a cache holds it, in the process or on disk."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..export import ScanIdentity
from ..inference.cache import Key
from ..masks import Mask
from ..prompts import Prompt
from ..volume import Volume
from .cache import CachedMask, SessionCache, cache_keys, initial_mask_key, mask_key
from .lesion import Lesion

if TYPE_CHECKING:
    from ..inference.lesion_state import LesionState
    from ..inference.progress import Cancel, ProgressHook
    from ..predictor import Predictor


class LesionMasks:
    """Computes and caches masks of lesions on one scan.

    Args:
        predictor: the model; others may share it.
        volume: the scan.
        scan: which scan.
        disk: the session's cache on disk; None: in memory only.
    """

    def __init__(self, predictor: Predictor, volume: Volume, scan: ScanIdentity, disk: SessionCache | None):
        self._predictor, self._volume, self._scan, self._disk = predictor, volume, scan, disk
        self._encoded = predictor.encode_scan(volume)
        self._identity = predictor.identity
        self._unsaved: set[int] = set()  # lesions that were predicted since their states were written

    def prompts(self, lesion: Lesion) -> tuple[Prompt, ...]:
        """What the predictor is given: an initial mask comes first, where the model takes one."""
        takes = self._predictor.capabilities.takes_initial_mask
        if lesion.initial_mask is None or not lesion.prompts or not takes:
            return lesion.prompts
        return (lesion.initial_mask, *lesion.prompts)

    def cached(self, lesion: Lesion) -> CachedMask | None:
        """The mask of a lesion's prompts, if it is cached in the process or on disk."""
        key = self._mask_key(lesion)
        found = self._encoded.cache.get(self._in_process(key))
        if isinstance(found, CachedMask):
            return found
        state = self._predictor.cached_state(self._encoded, self.prompts(lesion))
        if state is not None:
            return self._remember(key, state)
        stored = None if self._disk is None else self._disk.mask(key, self._volume.grid, self._volume.source)
        if stored is not None:
            self._encoded.cache.put(self._in_process(key), stored, stored.nbytes)
        return stored

    def mask(self, lesion: Lesion, progress: ProgressHook | None = None, cancel: Cancel | None = None) -> CachedMask:
        """The mask of a lesion's prompts, computed if it is not cached.

        Raises:
            PromptError: the predictor refuses the prompts.
            CancelledError: it was cancelled.
        """
        found = self.cached(lesion)
        if found is None:
            state = self.predict(lesion, progress, cancel)
            found = self._remember(self._mask_key(lesion), state)
        return found

    def initial(self, lesion: Lesion) -> Mask:
        """A lesion's initial mask, on the scan's very grid; empty where it has none."""
        grid, source = self._volume.grid, self._volume.source
        if lesion.initial_mask is None:
            return Mask(np.zeros((0, 0, 0), dtype=bool), (0, 0, 0), grid, source)
        key = initial_mask_key(self._scan, lesion.initial_mask) if self._disk is not None else ""
        stored = None if self._disk is None else self._disk.mask(key, grid, source)
        if stored is not None:
            return stored.mask
        held = lesion.initial_mask.mask
        # Another program's header may differ from the scan's by rounding.
        mask = CachedMask.of_initial_mask(Mask(held.array, held.start, grid, source))
        if self._disk is not None:
            self._disk.put_mask(key, mask)
        return mask.mask

    def predict(
        self, lesion: Lesion, progress: ProgressHook | None = None, cancel: Cancel | None = None
    ) -> LesionState:
        """The state of a lesion after its prompts, with all probabilities.

        What the prompts before have led to is taken from the process's cache, or from the disk; so is the state itself.

        Raises:
            PromptError: the predictor refuses the prompts.
            CancelledError: it was cancelled.
        """
        prompts = self.prompts(lesion)
        keys = self._keys(prompts)
        if self._disk is not None:
            self._load(prompts, keys)
        state = self._predictor.predict_on(self._encoded, prompts, progress=progress, cancel=cancel)
        key = self._mask_key(lesion)
        cached = self._remember(key, state)
        if self._disk is not None:
            self._disk.put_mask(key, cached)
            self._unsaved.add(lesion.number)
        return state

    def save_states(self, lesions: Sequence[Lesion]) -> None:
        """Write the states of lesions to disk, for those that were predicted here and whose state the process has.

        A state may be large, so it is written once, when the session is closed, and not after each prompt.
        """
        if self._disk is None:
            return
        for lesion in lesions:
            prompts = self.prompts(lesion)
            state = self._predictor.cached_state(self._encoded, prompts) if lesion.number in self._unsaved else None
            if state is not None:
                save = partial(self._predictor.save_state, self._encoded, state)
                self._disk.put_state(self._keys(prompts)[-1], save)
        self._unsaved.clear()

    def _load(self, prompts: tuple[Prompt, ...], keys: list[str]) -> None:
        """Put the state after as many of the prompts as the disk has one of into the process's cache."""
        assert self._disk is not None
        on_disk = next((count for count in range(len(prompts), 0, -1) if self._disk.has_state(keys[count - 1])), 0)
        nearest = [count for count in (len(prompts), len(prompts) - 1) if count >= max(on_disk, 1)]
        known = (self._predictor.cached_state(self._encoded, prompts[:count]) for count in nearest)
        if on_disk and all(state is None for state in known):
            begin = prompts[:on_disk]
            self._disk.load_state(
                keys[on_disk - 1], lambda path: self._predictor.load_state(self._encoded, begin, path)
            )

    def _remember(self, key: str, state: LesionState) -> CachedMask:
        found = self._encoded.cache.get(self._in_process(key))
        if not isinstance(found, CachedMask):
            found = CachedMask.of(state.prediction)
            self._encoded.cache.put(self._in_process(key), found, found.nbytes)
        return found

    def _keys(self, prompts: tuple[Prompt, ...]) -> list[str]:
        return cache_keys(self._scan, self._identity, prompts)

    def _mask_key(self, lesion: Lesion) -> str:
        """The key of a lesion's mask."""
        takes = self._predictor.capabilities.takes_initial_mask
        return mask_key(self._scan, self._identity, lesion.prompts, lesion.initial_mask, takes)

    def _in_process(self, key: str) -> Key:
        return Key(self._encoded.number, "mask", bytes.fromhex(key))
