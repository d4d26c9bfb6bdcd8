"""What a further prompt changed of a mask, in words: a correction that made things worse is seen at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..lesions import Postprocessing
    from ..masks import Mask
    from ..predictor import Predictor
    from ..prompts import Prompt

MAX_TOLD = 4  # of a list of prompts, the last ones


def change(before: Mask, after: Mask) -> str:
    """What was done to a mask: "added 1.12 mL", "took 1.90 mL", both, or "changed nothing".

    Args:
        before: a mask.
        after: what became of it, on the same grid.
    """
    done = (("added", _beyond_ml(after, before)), ("took", _beyond_ml(before, after)))
    return " and ".join(f"{verb} {_short(ml)} mL" for verb, ml in done if ml) or "changed nothing"


def prompt_changes(predictor: Predictor, prompts: Sequence[Prompt], postprocessing: Postprocessing) -> list[str]:
    """A line that says what each of the last prompts changed, as far as the masks before them are cached.

    An initial mask is compared with what the model made of it. Of a model that takes all prompts at once, no mask in
    between is known.

    Args:
        predictor: it has just answered the prompts.
        prompts: in their order.
        postprocessing: of the mask that is saved.
    """
    from ..prompts import InitialMask
    from ..session.summary import prompt_text

    found: list[str] = []
    before: Mask | None = None
    for count in range(max(1, len(prompts) - MAX_TOLD), len(prompts) + 1):
        after, prompt = _cached_mask(predictor, prompts[:count], postprocessing), prompts[count - 1]
        words = prompt_text(prompt)
        if isinstance(prompt, InitialMask):
            before, words = prompt.mask, "initial mask, redrawn by the model,"
        if before is not None and after is not None:
            found.append(f"{words} {change(before, after)}")
        before = after
    return [f"changes: {'; '.join(found)}"] if found else []


def _cached_mask(predictor: Predictor, prompts: Sequence[Prompt], postprocessing: Postprocessing) -> Mask | None:
    """The mask after some prompts as it would be saved; None: it is not cached, or there is none yet."""
    state = None if predictor.scan is None else predictor.cached_state(predictor.scan, prompts)
    if state is None or state.answer is None:
        return None
    return postprocessing.apply(state.answer.mask, state.answer.probability, prompts)


def _beyond_ml(mask: Mask, other: Mask) -> float:
    """How much of a mask lies outside another."""
    import numpy as np

    return float(np.count_nonzero(mask.array & ~other[mask.box])) * mask.grid.voxel_ml


def _short(ml: float) -> str:
    return f"{ml:.2f}" if ml >= 0.1 else f"{ml:.2g}"
