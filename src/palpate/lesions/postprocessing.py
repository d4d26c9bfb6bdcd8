"""From a probability to the mask that is saved: the threshold, and which connected components stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from ..errors import SettingsError
from ..masks import Mask, Probability
from ..prompts import Prompt, touches
from .components import Component, connected_components

THRESHOLD = 0.5


class Keep(StrEnum):
    """Which connected components of a mask stay; voxels that share a face, an edge or a corner are connected."""

    ALL = "all"
    LARGEST = "largest"
    CLICKED = "clicked"


def check_threshold(threshold: float) -> None:
    """Refuse what is no threshold of a probability.

    Raises:
        SettingsError: it is not between 0 and 1.
    """
    if not 0 < threshold < 1:
        raise SettingsError(f"a threshold of {threshold:g}; give a probability between 0 and 1, such as 0.5")


@dataclass(frozen=True)
class Postprocessing:
    """What becomes of a model's answer before it is saved; the default leaves its mask as it is.

    Attributes:
        threshold: a voxel is foreground where its probability exceeds this.
        keep: all connected components; the largest, of equal ones the first; or those that a foreground prompt
            touches: that hold a voxel of a click, a stroke or a lasso, or share one with a box or an initial mask.

    Raises:
        SettingsError: a threshold that is not between 0 and 1, or no such choice of components.
    """

    threshold: float = THRESHOLD
    keep: Keep = Keep.ALL

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        if self.keep not in list(Keep):
            raise SettingsError(f"keep {self.keep!r}: one of {', '.join(Keep)}")
        object.__setattr__(self, "keep", Keep(self.keep))

    @property
    def is_default(self) -> bool:
        """Whether masks stay as they are."""
        return self == Postprocessing()

    @property
    def record(self) -> dict[str, Any]:
        """As plain data, for what is written beside a mask."""
        return {"threshold": self.threshold, "keep": str(self.keep)}

    def apply(self, mask: Mask, probability: Probability | None, prompts: Sequence[Prompt]) -> Mask:
        """The mask to save.

        Args:
            mask: the model's, of a threshold of 0.5; or a mask that no model made.
            probability: the model's; None: there is none, and the threshold says nothing.
            prompts: those that the mask is of.
        """
        if probability is not None and self.threshold != THRESHOLD:
            mask = probability.threshold(self.threshold)
        if self.keep is Keep.ALL or mask.empty:
            return mask
        found = connected_components(mask.array)
        if self.keep is Keep.LARGEST:
            kept = [max(found, key=lambda component: int(np.count_nonzero(component.inside)))]
        else:
            marked = [prompt for prompt in prompts if prompt.positive]
            parts = [(component, _part(component, mask)) for component in found]
            kept = [component for component, part in parts if any(touches(prompt, part) for prompt in marked)]
        array = np.zeros(mask.array.shape, dtype=bool)
        for component in kept:
            array[component.box] |= component.inside
        return Mask(array, mask.start, mask.grid, mask.source)

    def note(self, before: Mask, after: Mask) -> str | None:
        """What a user should know of a mask that is empty only since `apply`; None: nothing."""
        if before.empty or not after.empty:
            return None
        if self.keep is Keep.CLICKED:
            above = "" if self.threshold == THRESHOLD else f" above the threshold of {self.threshold:g}"
            return f"no connected part of the mask{above} holds a foreground prompt: what stays (clicked) is empty"
        return f"no probability exceeds the threshold of {self.threshold:g}: the mask is empty"


def _part(component: Component, mask: Mask) -> Mask:
    """A component of a mask, as a mask."""
    x, y, z = (int(part.start + start) for part, start in zip(component.box, mask.start, strict=True))
    return Mask(component.inside, (x, y, z), mask.grid)
