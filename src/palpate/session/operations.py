"""What is done to lesions: each operation takes the lesions as they are to the lesions as they will be.

An operation is checked by pydantic and holds prompts and masks themselves. It writes them as the entries of
`prompt_file`; masks and long strokes go to files (`files.SessionFiles`, the context of reading and writing). The kinds
and fields that are written are those of the first version, so older programs read what this one writes, but for
`replace_initial_mask` and for boxes that are thicker than a slice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializationInfo,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from ..errors import SessionError
from ..lesions import NumberedPrompt, Status
from ..prompt_file import InitialMaskEntry, PromptEntry, record, with_loose_boxes
from ..prompts import Box, Click, InitialMask, Lasso, Prompt, Scribble
from .files import SessionFiles
from .lesion import Lesion, Lesions, find

MAX_LESIONS = 65535  # a lesion's number is its value in a label map of 16 bits
K = TypeVar("K", bound=BaseModel)
_ENTRY: TypeAdapter[PromptEntry] = TypeAdapter(PromptEntry)


def _read_prompt(value: Any, info: ValidationInfo) -> Prompt:  # noqa: ANN401 - a prompt, or whatever a line holds
    if isinstance(value, (Click, Box, Scribble, Lasso, InitialMask)):
        return value
    files: SessionFiles | None = info.context
    if files is None:
        record(value)  # raises: it is no prompt
    assert files is not None
    (entry,) = with_loose_boxes([_ENTRY.validate_python(value)])  # a box of before any bounded a mask was a hint
    if isinstance(entry, InitialMaskEntry):
        return files.stored_initial_mask(entry.mask)
    return files.prompt(entry)


def _write_prompt(prompt: Prompt, info: SerializationInfo) -> dict[str, Any]:
    files: SessionFiles | None = info.context
    entry = record(prompt, files)
    if files is not None and isinstance(prompt, InitialMask):
        files.digests.put(entry["mask"], prompt.digest)
    return entry


Number = Annotated[int, Field(ge=1, le=MAX_LESIONS, strict=True)]
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
    def _score_of_an_initial_mask(self) -> Add:
        if self.start is not None and not isinstance(self.start, InitialMask):
            raise ValueError("a lesion begins with an initial mask")
        if self.score is not None and self.start is None:
            raise ValueError("a score belongs to an initial mask, and there is none")
        return self

    def apply(self, lesions: Lesions) -> Lesions:
        """The lesions with this one at their end."""
        if self.lesion in lesions:
            raise SessionError(f"there is a lesion {self.lesion} already; give another number")
        status: Status = "open" if self.start is None else "proposed"
        assert self.start is None or isinstance(self.start, InitialMask)
        made = Lesion(self.lesion, self.name, status, initial_mask=self.start, score=self.score)
        return {**lesions, self.lesion: made}


class Remove(_Operation):
    """A lesion less."""

    kind: Literal["remove"] = "remove"

    def apply(self, lesions: Lesions) -> Lesions:
        """The lesions without this one."""
        return _without(lesions, find(lesions, self.lesion))


class RejectProposal(_Operation):
    """A proposal that is no lesion; apart from `Remove`, so that rejected proposals can be counted."""

    kind: Literal["drop"] = "drop"

    def apply(self, lesions: Lesions) -> Lesions:
        """The lesions without this one, which was a proposal."""
        lesion = find(lesions, self.lesion)
        if lesion.status != "proposed":
            raise SessionError(f"lesion {self.lesion} is {lesion.status}, not a proposal to reject; remove it instead")
        return _without(lesions, lesion)


class Rename(_Operation):
    """Another name."""

    kind: Literal["rename"] = "rename"
    name: Name

    def _changed(self, lesion: Lesion) -> Lesion:
        return replace(lesion, name=self.name)


class SetStatus(_Operation):
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
    """No prompt any more; an initial mask stays."""

    kind: Literal["clear"] = "clear"

    def _changed(self, lesion: Lesion) -> Lesion:
        return replace(lesion, status="open", numbered=()) if lesion.numbered else lesion


class ReplaceInitialMask(_Operation):
    """Another initial mask; a score, which was of the former one, goes."""

    kind: Literal["replace_initial_mask"] = "replace_initial_mask"
    initial_mask: AnyPrompt

    @model_validator(mode="after")
    def _is_a_mask(self) -> ReplaceInitialMask:
        if not isinstance(self.initial_mask, InitialMask):
            raise ValueError("a lesion begins with an initial mask")
        return self

    def _changed(self, lesion: Lesion) -> Lesion:
        assert isinstance(self.initial_mask, InitialMask)
        return replace(lesion, status="open", initial_mask=self.initial_mask, score=None)


Operation = Annotated[
    Add
    | Remove
    | RejectProposal
    | Rename
    | SetStatus
    | AddPrompts
    | ReplacePrompt
    | RemovePrompt
    | Clear
    | ReplaceInitialMask,
    Field(discriminator="kind"),
]


def checked(kind: type[K], **fields: Any) -> K:
    """An operation of some fields.

    Raises:
        SessionError: a field is not what it must be; the message names it.
    """
    try:
        return kind(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or kind.__name__.lower()
        if where == "name":
            raise SessionError(
                f"a lesion's name is a line of 1 to 100 characters, not {first['input']!r:.60}; choose another"
            ) from error
        raise SessionError(f"{where}: {first['msg']}, not {first['input']!r}") from error


def _without(lesions: Lesions, gone: Lesion) -> Lesions:
    return {number: lesion for number, lesion in lesions.items() if lesion is not gone}


def _place(lesion: Lesion, number: int) -> int:
    for place, each in enumerate(lesion.numbered):
        if each.number == number:
            return place
    there = ", ".join(str(each.number) for each in lesion.numbered[:20]) or "none"
    raise SessionError(f"lesion {lesion.number} has no prompt {number!r}; its prompts: {there}")
