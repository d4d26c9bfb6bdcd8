"""A summary of a session's store, as plain data, without scan and model."""

from __future__ import annotations

from typing import Any

from ..prompt_file import summary
from ..prompts import Box, Click, InitialMask, Lasso, Prompt, Scribble
from .lesion import Lesion
from .store import SessionStore


def session_summary(store: SessionStore) -> dict[str, Any]:
    """A session: which scan and model, when it was begun and changed, and its lesions.

    No scan, no model and no mask's image file is read. Sizes are those of masks that are cached on disk, else None.
    """
    times, scan, identity = store.times, store.header.scan, store.identity
    return {
        "session": str(store.folder),
        "palpate": store.header.palpate,
        "scan": scan.model_dump(mode="json"),
        "model": identity.model_dump(mode="json"),
        "began": times.first,
        "changed": times.last,
        "undoable": store.undoable,
        "redoable": store.redoable,
        "lesions": [_lesion_summary(store, lesion) for lesion in store.lesions],
    }


def _lesion_summary(store: SessionStore, lesion: Lesion) -> dict[str, Any]:
    mask, times = store.mask(lesion), store.times
    return {
        "number": lesion.number,
        "name": lesion.name,
        "status": lesion.status,
        "score": lesion.score,
        "start": lesion.initial_mask is not None,
        "added": times.added[lesion.number],
        "changed": times.changed[lesion.number],
        "voxels": None if mask is None else mask.voxels,
        "volume_ml": None if mask is None else round(mask.volume_ml, 4),
        "prompts": [
            {"number": each.number, "at": times.prompts[each.number], **prompt_summary(each.prompt)}
            for each in lesion.numbered
        ],
    }


def facts_without_mask(lesion: Lesion) -> dict[str, Any]:
    """The facts of `export.lesion_facts`, with None for all that depends on the mask."""
    unknown = dict.fromkeys(("voxels", "volume_ml", "longest", "perpendicular", "slice"))
    return {
        "number": lesion.number,
        "name": lesion.name,
        "status": lesion.status,
        "score": lesion.score,
        **unknown,
        "start": lesion.initial_mask is not None,
        "prompts": [prompt_summary(prompt) for prompt in lesion.prompts],
        "prompt_numbers": [each.number for each in lesion.numbered],
    }


def prompt_summary(prompt: Prompt) -> dict[str, Any]:
    """A prompt as `prompt_file.summary`; an initial mask's file is not read to count its voxels."""
    return {"kind": "prior"} if isinstance(prompt, InitialMask) else summary(prompt)


def prompt_text(prompt: Prompt) -> str:
    """A prompt in a few words, for people."""
    side = "" if prompt.positive else "background "
    if isinstance(prompt, Click):
        return f"{side}click {_listed(prompt.index)}"
    if isinstance(prompt, Box):
        loose = "loose " if prompt.loose and not prompt.on_slice else ""
        return f"{loose}box {_listed(prompt.first)} to {_listed(prompt.last)}"
    if isinstance(prompt, Scribble):
        return f"{side}scribble of {len(prompt.places)} voxels"
    if isinstance(prompt, Lasso):
        return f"{side}lasso on slice {'xyz'[prompt.axis]}={prompt.slice_index}, {len(prompt.places)} voxels"
    return "initial mask"


def _listed(index: tuple[int, int, int]) -> str:
    return ",".join(map(str, index))
