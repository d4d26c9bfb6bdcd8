"""Lesions and what is done to them: each operation takes the lesions as they are to the lesions as they will be.

An operation is checked by pydantic, holds prompts and masks themselves, and writes them as the entries of
`prompt_file`; masks and long strokes go to files that the context (`Context`) of writing and reading keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializationInfo,
    StringConstraints,
    TypeAdapter,
    ValidationInfo,
    model_validator,
)

from ..errors import SessionError
from ..lesions import NumberedPrompt, Status
from ..prompt_file import Files, PromptEntry, record
from ..prompts import Box, Click, InitialMask, Lasso, Prompt, Scribble
from ..volume import Grid

EVERY = 64  # operations from one kept state of the lesions to the next
MOST_LESIONS = 65535  # a lesion's number is its value in a label map of 16 bits


@dataclass(frozen=True)
class Lesion:
    """One lesion of a session, as it is now.

    Attributes:
        number: counted from 1; no other lesion of the session ever has it. Its value in label maps.
        name: what it is called.
        status: "proposed" by a program and not looked at, "open" to changes, or "accepted".
        numbered: its prompts with their numbers, in order.
        start: the mask that it began with, if it did, as a prior.
        score: how sure the program was that proposed it, 0 to 1.
    """

    number: int
    name: str
    status: Status = "open"
    numbered: tuple[NumberedPrompt, ...] = ()
    start: InitialMask | None = None
    score: float | None = None

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Its prompts, in order."""
        return tuple(each.prompt for each in self.numbered)


Lesions = Mapping[int, Lesion]


class Context(Files, Protocol):
    """What prompts are read and written with.

    Attributes:
        grid: the scan's.
        folder: where the files lie that lines name.
    """

    grid: Grid
    folder: Path

    def check(self, name: str) -> None:
        """Refuse a name that is not a whole file of ours."""


_ENTRY: TypeAdapter[PromptEntry] = TypeAdapter(PromptEntry)


def _read_prompt(value: Any, info: ValidationInfo) -> Prompt:  # noqa: ANN401 - a prompt, or whatever a line holds
    if isinstance(value, (Click, Box, Scribble, Lasso, InitialMask)):
        return value
    context: Context | None = info.context
    if context is None:
        record(value)  # says what is not a prompt
    assert context is not None
    entry = _ENTRY.validate_python(value)
    for name in (getattr(entry, "mask", None), getattr(entry, "file", None)):
        if name is not None:
            context.check(name)
    return entry.prompt(context.grid, context.folder)


def _write_prompt(prompt: Prompt, info: SerializationInfo) -> dict[str, Any]:
    return record(prompt, info.context)


Number = Annotated[int, Field(ge=1, le=MOST_LESIONS, strict=True)]
PromptNumber = Annotated[int, Field(ge=1, strict=True)]
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$", strict=True),
]
Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
AnyPrompt = Annotated[Prompt, PlainValidator(_read_prompt), PlainSerializer(_write_prompt)]


class _Operation(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    lesion: Number

    def apply(self, lesions: Lesions) -> Lesions:
        """The lesions after it; the very same mapping where it changes nothing.

        Raises:
            SessionError: a lesion or a prompt that is not there.
        """
        before = find(lesions, self.lesion)
        after = self._changed(before)
        return lesions if after == before else {**lesions, self.lesion: after}

    def _changed(self, lesion: Lesion) -> Lesion:
        raise NotImplementedError

    @property
    def prompt_numbers(self) -> tuple[int, ...]:
        """Numbers that it gives to prompts."""
        return ()


class Add(_Operation):
    """A new lesion, after the others."""

    kind: Literal["add"] = "add"
    name: Name
    start: AnyPrompt | None = None
    score: Score | None = None

    @model_validator(mode="after")
    def _score_of_a_start(self) -> Add:
        if self.start is not None and not isinstance(self.start, InitialMask):
            raise ValueError("a lesion starts from a prior mask")
        if self.score is not None and self.start is None:
            raise ValueError("a score belongs to a start mask, and there is none")
        return self

    def apply(self, lesions: Lesions) -> Lesions:
        """The lesions with this one at their end."""
        if self.lesion in lesions:
            raise SessionError(f"there is a lesion {self.lesion} already; give another number")
        status: Status = "open" if self.start is None else "proposed"
        assert self.start is None or isinstance(self.start, InitialMask)
        made = Lesion(self.lesion, self.name, status, start=self.start, score=self.score)
        return {**lesions, self.lesion: made}


class Remove(_Operation):
    """A lesion less."""

    kind: Literal["remove"] = "remove"

    def apply(self, lesions: Lesions) -> Lesions:
        """The lesions without this one."""
        return _without(lesions, find(lesions, self.lesion))


class Drop(_Operation):
    """A proposal that is no lesion; told apart from `Remove`, so that proposals can be counted."""

    kind: Literal["drop"] = "drop"

    def apply(self, lesions: Lesions) -> Lesions:
        """The lesions without this one, which was a proposal."""
        lesion = find(lesions, self.lesion)
        if lesion.status != "proposed":
            raise SessionError(f"lesion {self.lesion} is {lesion.status}, not a proposal to drop; remove it instead")
        return _without(lesions, lesion)


class Rename(_Operation):
    """Another name."""

    kind: Literal["rename"] = "rename"
    name: Name

    def _changed(self, lesion: Lesion) -> Lesion:
        return replace(lesion, name=self.name)


class Judge(_Operation):
    """Accepted, or open again."""

    kind: Literal["judge"] = "judge"
    status: Literal["open", "accepted"]

    def _changed(self, lesion: Lesion) -> Lesion:
        return replace(lesion, status=self.status)


class AddPrompts(_Operation):
    """Prompts after those that are there. Like every change of prompts, it makes the lesion open."""

    kind: Literal["add_prompts"] = "add_prompts"
    prompts: tuple[tuple[PromptNumber, AnyPrompt], ...] = Field(min_length=1)

    def _changed(self, lesion: Lesion) -> Lesion:
        more = tuple(NumberedPrompt(number, prompt) for number, prompt in self.prompts)
        return replace(lesion, status="open", numbered=lesion.numbered + more)

    @property
    def prompt_numbers(self) -> tuple[int, ...]:
        """Those of its prompts."""
        return tuple(number for number, _ in self.prompts)


class ReplacePrompt(_Operation):
    """Another prompt in the place and under the number of one."""

    kind: Literal["replace_prompt"] = "replace_prompt"
    number: PromptNumber
    prompt: AnyPrompt

    def _changed(self, lesion: Lesion) -> Lesion:
        place = _place(lesion, self.number)
        numbered = list(lesion.numbered)
        numbered[place] = NumberedPrompt(self.number, self.prompt)
        return replace(lesion, status="open", numbered=tuple(numbered))


class RemovePrompt(_Operation):
    """A prompt less."""

    kind: Literal["remove_prompt"] = "remove_prompt"
    number: PromptNumber

    def _changed(self, lesion: Lesion) -> Lesion:
        place = _place(lesion, self.number)
        return replace(lesion, status="open", numbered=lesion.numbered[:place] + lesion.numbered[place + 1 :])


class Clear(_Operation):
    """No prompt any more; a start mask stays."""

    kind: Literal["clear"] = "clear"

    def _changed(self, lesion: Lesion) -> Lesion:
        return replace(lesion, status="open", numbered=()) if lesion.numbered else lesion


Operation = Annotated[
    Add | Remove | Drop | Rename | Judge | AddPrompts | ReplacePrompt | RemovePrompt | Clear,
    Field(discriminator="kind"),
]


class History:
    """Operations done, and those undone that can be done again; the lesions are what the done ones make of none.

    The operations are kept, and the lesions after every so many of them: undoing has no limit, and to undo is to do
    the few since then again, but for the last.

    Attributes:
        lesions: as they are now.
        last_lesion: highest number that a lesion ever had.
        last_prompt: highest number that a prompt ever had.
    """

    def __init__(self) -> None:
        self.lesions: Lesions = {}
        self.last_lesion = self.last_prompt = 0
        self._operations: list[Operation] = []
        self._done = 0
        self._after: list[Lesions] = [{}]  # after none, EVERY, twice EVERY, ... operations

    def add(self, operation: Operation, after: Lesions) -> None:
        """Take in an operation that has made the lesions what they are `after` it; what was undone is forgotten.

        Raises:
            SessionError: it gives a lesion or a prompt a number that another has or had.
        """
        if isinstance(operation, Add) and operation.lesion <= self.last_lesion:
            raise SessionError(f"lesion {operation.lesion} is a number that was given before")
        for number in operation.prompt_numbers:
            if number <= self.last_prompt:
                raise SessionError(f"prompt {number} is a number that was given before")
            self.last_prompt = number
        self.last_lesion = max(self.last_lesion, operation.lesion)
        del self._after[self._done // EVERY + 1 :]
        self._operations[self._done :] = [operation]
        self._done += 1
        if self._done % EVERY == 0:
            self._after.append(after)
        self.lesions = after

    @property
    def counts(self) -> tuple[int, int]:
        """How many operations can be taken back, and how many done again."""
        return self._done, len(self._operations) - self._done

    @property
    def undone(self) -> Operation | None:
        """What `redo` would do."""
        return self._operations[self._done] if self._done < len(self._operations) else None

    @property
    def done(self) -> Operation | None:
        """What `undo` would take back."""
        return self._operations[self._done - 1] if self._done else None

    @property
    def before_last(self) -> Lesions:
        """The lesions that `undo` would leave.

        Raises:
            SessionError: there is nothing to undo.
        """
        if not self._done:
            raise SessionError("nothing to undo: no operation is left")
        left = self._done - 1
        nearest = left // EVERY
        lesions = self._after[nearest]
        for operation in self._operations[nearest * EVERY : left]:
            lesions = operation.apply(lesions)
        return lesions

    def undo(self) -> None:
        """Take the last operation back.

        Raises:
            SessionError: there is none.
        """
        self.lesions = self.before_last
        self._done -= 1

    def redo(self) -> None:
        """Do again what was undone last.

        Raises:
            SessionError: there is nothing.
        """
        if self.undone is None:
            raise SessionError("nothing to redo: no operation was undone, or another was done since")
        self.lesions = self.undone.apply(self.lesions)
        self._done += 1


def find(lesions: Lesions, number: int) -> Lesion:
    """A lesion by its number.

    Raises:
        SessionError: there is none; the message lists those that are.
    """
    if number not in lesions:
        there = ", ".join(map(str, lesions)) or "none yet"
        raise SessionError(f"no lesion {number!r} in this session; there are: {there}")
    return lesions[number]


def _without(lesions: Lesions, gone: Lesion) -> Lesions:
    return {number: lesion for number, lesion in lesions.items() if lesion is not gone}


def _place(lesion: Lesion, number: int) -> int:
    for place, each in enumerate(lesion.numbered):
        if each.number == number:
            return place
    there = ", ".join(str(each.number) for each in lesion.numbered[:20]) or "none"
    raise SessionError(f"lesion {lesion.number} has no prompt {number!r}; its prompts: {there}")
