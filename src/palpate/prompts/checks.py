"""Whether prompts fit their scan and each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import PromptError
from ..volume import Grid
from .grids import check_grid
from .kinds import Box, Click, InitialMask, Lasso, Prompt, Scribble
from .outside import index_advice

MAX_PROMPTS = 2_000  # of one lesion: each is a step of its own


def check_inside(prompts: Sequence[Prompt], grid: Grid) -> None:
    """Refuse a list of prompts that does not fit a scan or contradicts itself.

    Raises:
        PromptError: no list, an empty one, or too many prompts; what `check_fits` refuses; no foreground prompt; a
            voxel with a foreground and a background prompt.
    """
    check_listed(prompts)
    if not prompts:
        raise PromptError("at least one click is needed")
    if len(prompts) > MAX_PROMPTS:
        raise PromptError(
            f"{len(prompts)} prompts are more than the {MAX_PROMPTS} that one lesion may have; give many voxels as "
            "one scribble, or a whole mask as an initial mask"
        )
    for prompt in prompts:
        check_fits(prompt, grid)
    if not any(prompt.positive for prompt in prompts):
        raise PromptError("nothing says where the lesion is; give a foreground click, a box or an initial mask too")
    _check_agreement(prompts, grid)


def check_listed(prompts: Sequence[Prompt]) -> None:
    """Refuse what is not a list of prompts.

    Raises:
        PromptError: no sequence; most often a single prompt.
    """
    if not isinstance(prompts, Sequence):
        raise PromptError(f"prompts come as a list, not {type(prompts).__name__}; give a list, if only of one prompt")


def check_fits(prompt: Prompt, grid: Grid) -> None:
    """Refuse a prompt that does not lie in a scan.

    Raises:
        PromptError: no prompt; a prompt outside the grid (the message gives the valid range); an initial mask on
            another grid.
    """
    if not isinstance(prompt, (Click, Box, Scribble, Lasso, InitialMask)):
        raise PromptError(f"a prompt is a Click, Box, Scribble, Lasso or InitialMask, not {type(prompt).__name__}")
    if isinstance(prompt, InitialMask):
        check_grid("the initial mask", prompt.mask.grid, grid)
    outside = ((prompt.places < 0) | (prompt.places >= grid.shape)).any(axis=1)
    if outside.any():
        place = tuple(prompt.places[outside.argmax()].tolist())
        valid = ", ".join(f"{a} 0 to {n - 1}" for a, n in zip("xyz", grid.shape, strict=True))
        advice = index_advice(prompt.places, grid, _option(prompt))
        raise PromptError(
            f"{prompt.kind.replace('_', ' ')} {place} lies outside the scan; valid voxel indices: {valid}; {advice}"
        )


def _option(prompt: Prompt) -> str | None:
    """The command line's option for a prompt whose voxels are typed one by one; None for others."""
    if isinstance(prompt, Box):
        return "--box"
    if isinstance(prompt, Click):
        return "--click" if prompt.positive else "--background"
    return None


def _check_agreement(prompts: Sequence[Prompt], grid: Grid) -> None:
    """Refuse a voxel with a foreground and a background prompt: a later one takes no earlier one back."""
    named = [prompt for prompt in prompts if not isinstance(prompt, (Box, InitialMask))]
    flat = [np.ravel_multi_index(tuple(prompt.places.T), grid.shape) for prompt in named]
    sides = [[f for f, p in zip(flat, named, strict=True) if p.positive is side] for side in (True, False)]
    if all(sides):
        both = np.intersect1d(np.concatenate(sides[0]), np.concatenate(sides[1]))
        if both.size:
            place = tuple(int(v) for v in np.unravel_index(int(both[0]), grid.shape))
            raise PromptError(f"voxel {place} has a foreground and a background prompt; take one of the two back")
