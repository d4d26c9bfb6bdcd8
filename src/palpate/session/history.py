"""Operations done and undone, and the lesions that they lead to."""

from __future__ import annotations

from ..errors import SessionError
from .lesion import Lesions
from .operations import Add, Operation

CHECKPOINT_EVERY = 64  # operations between two states of the lesions that are stored


class History:
    """Operations done, and those undone that can be done again; the lesions are what the done ones make of none.

    The operations are stored, and the lesions after every 64 of them. So undoing has no limit, and the state after any
    operation is at most 63 operations from a stored one.

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
        self._checkpoints: list[Lesions] = [{}]  # the lesions after 0, 64, 128, ... operations

    def add(self, operation: Operation, after: Lesions) -> None:
        """Record an operation that makes the lesions what they are `after` it; what was undone is forgotten.

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
        del self._checkpoints[self._done // CHECKPOINT_EVERY + 1 :]
        self._operations[self._done :] = [operation]
        self._done += 1
        if self._done % CHECKPOINT_EVERY == 0:
            self._checkpoints.append(after)
        self.lesions = after

    @property
    def counts(self) -> tuple[int, int]:
        """How many operations can be undone, and how many redone."""
        return self._done, len(self._operations) - self._done

    @property
    def done(self) -> Operation | None:
        """The operation that `undo` would undo."""
        return self._operations[self._done - 1] if self._done else None

    @property
    def undone(self) -> Operation | None:
        """The operation that `redo` would do again."""
        return self._operations[self._done] if self._done < len(self._operations) else None

    def after_undo(self) -> Lesions:
        """The lesions that `undo` would leave.

        Raises:
            SessionError: there is nothing to undo.
        """
        if not self._done:
            raise SessionError("nothing to undo: no operation is left")
        left = self._done - 1
        nearest = left // CHECKPOINT_EVERY
        lesions = self._checkpoints[nearest]
        for operation in self._operations[nearest * CHECKPOINT_EVERY : left]:
            lesions = operation.apply(lesions)
        return lesions

    def after_redo(self) -> Lesions:
        """The lesions that `redo` would leave.

        Raises:
            SessionError: there is nothing to redo.
        """
        if self.undone is None:
            raise SessionError("nothing to redo: no operation was undone, or another was done since")
        return self.undone.apply(self.lesions)

    def undo(self) -> None:
        """Undo the last operation.

        Raises:
            SessionError: there is none.
        """
        self.lesions = self.after_undo()
        self._done -= 1

    def redo(self) -> None:
        """Do again what was undone last.

        Raises:
            SessionError: there is nothing to redo.
        """
        self.lesions = self.after_redo()
        self._done += 1
