"""A lesion of a session as it is now: its name, status and prompts. Its mask follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import SessionError
from ..lesions import NumberedPrompt, Status
from ..prompts import InitialMask, Prompt


@dataclass(frozen=True)
class Lesion:
    """One lesion of a session.

    Attributes:
        number: counted from 1; no other lesion of the session ever has it. Its value in label maps.
        name: one line of text that no other lesion has. (Sessions of older programs may hold one name twice.)
        status: "proposed" by a program and not reviewed, "open" to changes, or "accepted".
        numbered: its prompts with their numbers, in order.
        initial_mask: the mask that it begins with, if it has one.
        score: the score of the program that proposed it, 0 to 1; None: no program did.
    """

    number: int
    name: str
    status: Status = "open"
    numbered: tuple[NumberedPrompt, ...] = ()
    initial_mask: InitialMask | None = None
    score: float | None = None

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Its prompts, in order."""
        return tuple(each.prompt for each in self.numbered)


Lesions = Mapping[int, Lesion]


def find(lesions: Lesions, number: int) -> Lesion:
    """A lesion by its number.

    Raises:
        SessionError: there is none; the message lists those that are.
    """
    if number not in lesions:
        there = ", ".join(map(str, lesions)) or "none yet"
        raise SessionError(f"no lesion {number!r} in this session; there are: {there}")
    return lesions[number]
