"""What is done to a session's lesions with the scan and the model: prompts and initial masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import GeometryError, PromptError
from ..lesions import NumberedPrompt
from ..masks import Mask
from ..prompts import InitialMask, Prompt, check_inside, check_listed
from ..volume import Volume
from .edits import LesionEdits
from .lesion import Lesion
from .masks import LesionMasks
from .operations import Add, AddPrompts, Operation, RemovePrompt, ReplaceInitialMask, ReplacePrompt, checked

if TYPE_CHECKING:
    from ..formats.reading import ImageLike
    from ..inference.progress import Cancel, ProgressHook


class PromptEdits(LesionEdits):
    """Lesions on a scan, and the operations on them that may compute.

    Attributes:
        volume: the scan.
    """

    volume: Volume
    _masks: LesionMasks

    def add(
        self, name: str | None = None, initial_mask: Mask | ImageLike | None = None, score: float | None = None
    ) -> int:
        """A new lesion; returns its number.

        Args:
            name: a line of text that no other lesion has; "lesion N" by default.
            initial_mask: a mask to begin with, on the scan's grid, or what `InitialMask` makes one of. The lesion is a
                proposal then, with the status "proposed".
            score: of the program that proposed it, 0 to 1.

        Raises:
            SessionError: a name that is empty, longer than 100 characters or another lesion's, or a score that is none.
            PromptError: an empty initial mask.
            TypeError: see `InitialMask`.
            GeometryError: an initial mask on another grid.
            OutputError: it could not be written down.
        """
        ours = None if initial_mask is None else self._initial_mask(initial_mask)
        number = self.history.last_lesion + 1
        operation = checked(
            Add, lesion=number, name=self._free_name(number) if name is None else name, start=ours, score=score
        )
        self._check_name(operation.name, number)
        self._commit(operation)
        self._masks.initial(self.lesion(number))  # cached on disk, for readers of the store without the scan
        return number

    def replace_initial_mask(
        self,
        number: int,
        initial_mask: Mask | ImageLike,
        *,
        predict: bool = True,
        progress: ProgressHook | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        """Give a lesion another initial mask, or its first one. Its score, which was of the former mask, goes.

        Args:
            number: the lesion's.
            initial_mask: on the scan's grid, or what `InitialMask` makes one of.
            predict: see `add_prompts`.
            progress: see the class.
            cancel: see the class.

        Raises:
            SessionError: no such lesion.
            PromptError: an empty mask, or the predictor refuses it before the lesion's prompts.
            TypeError: see `InitialMask`.
            GeometryError: a mask on another grid.
            OutputError: it could not be written down.
        """
        self.lesion(number)
        operation = checked(ReplaceInitialMask, lesion=number, initial_mask=self._initial_mask(initial_mask))
        self._commit_prompts(operation, predict, progress, cancel)
        self._masks.initial(self.lesion(number))

    def check(
        self, prompts: Sequence[Prompt], *, progress: ProgressHook | None = None, cancel: Cancel | None = None
    ) -> None:
        """Refuse prompts that a new lesion could not begin with, before it is added; nothing is changed.

        Raises:
            PromptError: the predictor refuses them.
        """
        self._masks.predict(Lesion(0, "", numbered=self._numbered(prompts)), progress, cancel)

    def add_prompt(
        self,
        number: int,
        prompt: Prompt,
        *,
        predict: bool = True,
        progress: ProgressHook | None = None,
        cancel: Cancel | None = None,
    ) -> int:
        """A further prompt on a lesion; returns the prompt's number. Arguments and errors as `add_prompts`."""
        return self.add_prompts(number, [prompt], predict=predict, progress=progress, cancel=cancel)[0]

    def add_prompts(
        self,
        number: int,
        prompts: Sequence[Prompt],
        *,
        predict: bool = True,
        progress: ProgressHook | None = None,
        cancel: Cancel | None = None,
    ) -> tuple[int, ...]:
        """Several prompts at once, which are undone at once; returns their numbers.

        Args:
            number: the lesion's.
            prompts: at least one.
            predict: compute the mask first, so that prompts that the predictor refuses are not recorded. False: record
                them at once; the mask is computed when it is asked for. What the predictor alone refuses, such as
                prompts too far apart, is then refused by `mask`.
            progress: see the class.
            cancel: see the class.

        Raises:
            SessionError: no such lesion.
            PromptError: the predictor refuses a prompt, or the list with it.
            OutputError: it could not be written down.
        """
        if not prompts and isinstance(prompts, Sequence):
            raise PromptError("no prompt was given")
        numbered = tuple((each.number, each.prompt) for each in self._numbered(prompts))
        self.lesion(number)
        self._commit_prompts(checked(AddPrompts, lesion=number, prompts=numbered), predict, progress, cancel)
        return tuple(each for each, _ in numbered)

    def replace_prompt(
        self,
        number: int,
        prompt_number: int,
        prompt: Prompt,
        *,
        predict: bool = True,
        progress: ProgressHook | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        """Another prompt in the place of one, under its number; other arguments as `add_prompts`.

        Raises:
            SessionError: no such lesion or prompt.
            PromptError, OutputError: as `add_prompts`.
        """
        self.lesion(number)
        operation = checked(ReplacePrompt, lesion=number, number=prompt_number, prompt=prompt)
        self._commit_prompts(operation, predict, progress, cancel)

    def remove_prompt(
        self,
        number: int,
        prompt_number: int,
        *,
        predict: bool = True,
        progress: ProgressHook | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        """A prompt less; other arguments as `add_prompts`.

        Raises:
            SessionError: no such lesion or prompt.
            PromptError: the predictor refuses what is left, such as a background click alone.
            OutputError: it could not be written down.
        """
        self.lesion(number)
        operation = checked(RemovePrompt, lesion=number, number=prompt_number)
        self._commit_prompts(operation, predict, progress, cancel)

    def _commit_prompts(
        self, operation: Operation, predict: bool, progress: ProgressHook | None, cancel: Cancel | None
    ) -> None:
        """Do an operation that changes prompts, with the lesion's prediction first, if it is wanted."""

        def check(lesion: Lesion) -> None:
            prompts = self._masks.prompts(lesion)
            if prompts and predict:
                self._masks.predict(lesion, progress, cancel)
            elif prompts:
                check_inside(prompts, self.volume.grid)

        self._commit(operation, check)

    def _numbered(self, prompts: Sequence[Prompt]) -> tuple[NumberedPrompt, ...]:
        check_listed(prompts)
        first = self.history.last_prompt + 1
        return tuple(NumberedPrompt(number, prompt) for number, prompt in enumerate(prompts, start=first))

    def _initial_mask(self, mask: Mask | ImageLike) -> InitialMask:
        """A mask to begin with, on the scan's very grid.

        Raises:
            PromptError: an empty mask.
            TypeError: see `InitialMask`.
            GeometryError: a mask on another grid.
        """
        held = InitialMask(mask).mask
        differences = held.grid.differences(self.volume.grid)
        if differences:
            raise GeometryError(
                f"the initial mask lies on another grid than the scan: {'; '.join(differences)}; "
                "resample it first (palpate resample MASK --like SCAN -o OUT)"
            )
        return InitialMask(self._on_grid(held).cropped())

    def _on_grid(self, mask: Mask) -> Mask:
        """The mask on the scan's very grid, from which another program's header may differ by rounding."""
        return Mask(mask.array, mask.start, self.volume.grid, self.volume.source)

    def _free_name(self, number: int) -> str:
        """The name of a lesion that was given none."""
        taken = {lesion.name for lesion in self.lesions}
        name, count = f"lesion {number}", 2
        while name in taken:
            name, count = f"lesion {number} ({count})", count + 1
        return name
