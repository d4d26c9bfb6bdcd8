"""What a model and a forbidden region ask of prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import PromptError
from ..masks import Mask
from ..prompts import Box, InitialMask, Prompt
from .runtime import Runtime


def check_capabilities(prompts: Sequence[Prompt], runtime: Runtime) -> None:
    """Refuse prompts of a kind or a side that the model does not take.

    Raises:
        PromptError: the message names the kind, and those that it takes.
    """
    can = runtime.capabilities
    for prompt in prompts:
        if prompt.kind in can.prompt_kinds and (prompt.positive or can.background):
            continue
        if can.prompt_kinds == {"click"} and not can.background:
            raise PromptError(
                f"the model {runtime.name!r} takes foreground clicks only, as the paper's network does; for anything "
                "else take palpate-tiny, or train a model with palpate train --interactive"
            )
        side = "foreground" if prompt.positive else "background"
        raise PromptError(
            f"the model {runtime.name!r} takes no {side} {prompt.kind}; it takes {', '.join(sorted(can.prompt_kinds))}"
        )


def check_allowed(prompts: Sequence[Prompt], forbidden: Mask) -> None:
    """Refuse foreground clicks and strokes in a forbidden region.

    Raises:
        PromptError: the message names the first such voxel.
    """
    for prompt in prompts:
        if isinstance(prompt, (Box, InitialMask)) or not prompt.positive:
            continue
        places = prompt.places - forbidden.start
        inside = np.flatnonzero(((places >= 0) & (places < forbidden.array.shape)).all(axis=1))
        hit = inside[forbidden.array[tuple(places[inside].T)]]
        if len(hit):
            place = tuple(prompt.places[hit[0]].tolist())
            raise PromptError(f"voxel {place} lies where the lesion cannot be; point elsewhere, or allow that region")
