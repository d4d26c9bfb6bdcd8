"""When things were done in a session, read off its journal."""

from __future__ import annotations

from dataclasses import dataclass, field

from .history import History
from .lines import OtherModel, Redo, Step, Undo


@dataclass
class JournalTimes:
    """Times of a session's steps, UTC, as ISO 8601 text with seconds.

    Attributes:
        first: of the first step; None: there is none.
        last: of the last step.
        added: of each lesion's adding, by its number.
        changed: of the last step that was done to each lesion, by its number.
        prompts: of each prompt's adding, by its number.
    """

    first: str | None = None
    last: str | None = None
    added: dict[int, str] = field(default_factory=dict)
    changed: dict[int, str] = field(default_factory=dict)
    prompts: dict[int, str] = field(default_factory=dict)

    def note(self, step: Step, at: str, history: History) -> None:
        """Take the time of a step.

        Args:
            step: the step.
            at: its time.
            history: as it was before the step.
        """
        self.first = self.first or at
        self.last = at
        if isinstance(step, OtherModel):
            return
        operation = history.done if isinstance(step, Undo) else history.undone if isinstance(step, Redo) else step
        if operation is None or isinstance(operation, (Undo, Redo, OtherModel)):
            return
        self.added.setdefault(operation.lesion, at)
        self.changed[operation.lesion] = at
        for number in operation.prompt_numbers:
            self.prompts.setdefault(number, at)
