"""A lesion with its mask and all that is known of it: what an export, a report and a server are given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from ..masks import Mask
from ..prompts import InitialMask, Prompt
from .measurements import Measurements, measure_lesion

Status = Literal["proposed", "open", "accepted"]


@dataclass(frozen=True)
class NumberedPrompt:
    """A prompt and its number, which no other prompt of the session ever has."""

    number: int
    prompt: Prompt


@dataclass(frozen=True, eq=False)
class LesionRecord:
    """One lesion with its mask.

    Attributes:
        number: counted from 1; the lesion's value in label maps.
        name: one line of text.
        status: "proposed" by a program and not reviewed, "open" to changes, or "accepted".
        mask: on the scan's grid.
        numbered: the prompts that led to the mask, with their numbers, in order.
        initial_mask: the mask that the lesion began with, if it did.
        score: the score of the program that proposed the lesion, 0 to 1; None: no program did.
    """

    number: int
    name: str
    status: Status
    mask: Mask
    numbered: tuple[NumberedPrompt, ...] = ()
    initial_mask: InitialMask | None = None
    score: float | None = None

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompts that led to the mask, in order."""
        return tuple(each.prompt for each in self.numbered)

    @cached_property
    def measurements(self) -> Measurements:
        """The mask's volume and diameters."""
        return measure_lesion(self.mask)
