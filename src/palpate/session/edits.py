"""What is done to a session's lesions without its scan and its model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from ..errors import SessionError
from .history import History
from .lesion import Lesion, Lesions, find
from .lines import Redo, Step, Undo
from .operations import Clear, Operation, RejectProposal, Remove, Rename, SetStatus, checked


class LesionEdits(ABC):
    """Lesions, and the operations on them that compute nothing.

    Attributes:
        history: the operations, and the lesions that they lead to.
    """

    history: History

    @abstractmethod
    def _record(self, step: Step, after: Lesions) -> None:
        """Write a step down before it counts as done.

        Args:
            step: the step.
            after: the lesions after it.

        Raises:
            PalpateError: it could not be written down, or may not be; then nothing was changed.
        """

    @abstractmethod
    def _check_writable(self) -> None:
        """Refuse every operation where none may be written down; called before anything is computed.

        Raises:
            SessionError: closed, or open for reading only.
        """

    @property
    def lesions(self) -> tuple[Lesion, ...]:
        """All lesions, in the order in which they were added."""
        return tuple(self.history.lesions.values())

    def lesion(self, number: int) -> Lesion:
        """A lesion by its number.

        Raises:
            SessionError: there is none.
        """
        return find(self.history.lesions, number)

    def rename(self, number: int, name: str) -> None:
        """Give a lesion another name.

        Raises:
            SessionError: no such lesion, no such name, or another lesion has it.
            OutputError: it could not be written down.
        """
        operation = checked(Rename, lesion=number, name=name)
        self.lesion(number)
        self._check_name(operation.name, number)
        self._commit(operation)

    def accept(self, number: int) -> None:
        """Mark a lesion's mask as right, until its prompts are changed.

        Raises:
            SessionError: no such lesion.
            OutputError: it could not be written down.
        """
        self._change(SetStatus, number, status="accepted")

    def reopen(self, number: int) -> None:
        """Make a lesion open: an accepted one, or a proposal.

        Raises:
            SessionError: no such lesion.
            OutputError: it could not be written down.
        """
        self._change(SetStatus, number, status="open")

    def remove(self, number: int) -> None:
        """Remove a lesion.

        Raises:
            SessionError: there is none of that number.
            OutputError: it could not be written down.
        """
        self._change(Remove, number)

    def reject(self, number: int) -> None:
        """Remove a proposal that is no lesion.

        Raises:
            SessionError: no such lesion, or no proposal any more.
            OutputError: it could not be written down.
        """
        self._change(RejectProposal, number)

    def clear(self, number: int) -> None:
        """Remove all of a lesion's prompts; an initial mask stays.

        Raises:
            SessionError: no such lesion.
            OutputError: it could not be written down.
        """
        self._change(Clear, number)

    @property
    def undoable(self) -> int:
        """How many operations can be undone."""
        return self.history.counts[0]

    @property
    def redoable(self) -> int:
        """How many operations can be redone."""
        return self.history.counts[1]

    @property
    def can_undo(self) -> bool:
        """Whether there is an operation to undo."""
        return self.undoable > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is an operation to redo."""
        return self.redoable > 0

    def undo(self) -> int:
        """Undo the last operation; returns the number of the lesion that it was done to.

        Raises:
            SessionError: there is none.
            OutputError: it could not be written down.
        """
        self._check_writable()
        after, operation = self.history.after_undo(), self.history.done
        assert operation is not None
        self._record(Undo(), after)
        self.history.undo()
        return operation.lesion

    def redo(self) -> int:
        """Do again what was undone last; returns the number of the lesion that it is done to.

        Raises:
            SessionError: nothing was undone, or another operation was done since.
            OutputError: it could not be written down.
        """
        self._check_writable()
        after, operation = self.history.after_redo(), self.history.undone
        assert operation is not None
        self._record(Redo(), after)
        self.history.redo()
        return operation.lesion

    def _change(self, kind: type[Operation], number: int, /, **fields: Any) -> None:
        self.lesion(number)
        self._commit(checked(kind, lesion=number, **fields))

    def _commit(self, operation: Operation, check: Callable[[Lesion], None] | None = None) -> None:
        """Do an operation; one that changes nothing is none.

        Args:
            operation: what to do.
            check: called with the lesion as it would be, before the operation is recorded; what it raises refuses it.
        """
        self._check_writable()
        before = self.history.lesions
        after = operation.apply(before)
        if after is not before:
            if check is not None:
                check(after[operation.lesion])
            self._record(operation, after)
            self.history.add(operation, after)

    def _check_name(self, name: str, number: int) -> None:
        """Refuse a name that another lesion has.

        Raises:
            SessionError: another has it.
        """
        for lesion in self.lesions:
            if lesion.name == name and lesion.number != number:
                raise SessionError(f"lesion {lesion.number} is called {name!r} already; choose another name")
