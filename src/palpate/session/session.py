"""Several lesions on one scan: pointed at, undone, accepted, measured and exported, and kept through every kill."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from ..errors import GeometryError, PromptError, SessionError
from ..export import ExportedLesions, ExportProvenance, LesionExport, ScanIdentity, append_to_cohort, identify_scan
from ..files import writing
from ..inference.progress import Report
from ..lesions import LabelMap, LesionRecord, Measurements, Overlap, check_overlap, label_map, measure_lesion
from ..predictor import Prediction, Predictor
from ..prompts import InitialMask, Prompt, check_listed
from ..volume import Mask, Probability, Volume
from .journal import (
    Header,
    Journal,
    ModelIdentity,
    OtherModel,
    Redo,
    SessionFiles,
    Step,
    Undo,
    fingerprint,
    read_header,
    read_lines,
)
from .lesions import (
    Add,
    AddPrompts,
    Clear,
    Drop,
    History,
    Judge,
    Lesion,
    Lesions,
    Operation,
    Remove,
    RemovePrompt,
    Rename,
    ReplacePrompt,
    find,
)

KEPT = 8  # predictions, with their probabilities, that are kept: as many lesions can be switched between at no cost
KEPT_BYTES = 2**30  # of predictions, and of masks
T = TypeVar("T")
K = TypeVar("K", bound=BaseModel)
MASKS = 256  # masks that are kept; each is a lesion's bounding box of booleans


class Session:
    """Several lesions on one scan, over a predictor that others may share.

    A lesion's mask is what `Predictor.predict` makes of its prompts in their order, however they came about. A lesion
    with a start mask has that for a mask until it is given prompts, and from then on as its first prompt, an
    `InitialMask`, where the model takes one. A lesion with neither has an empty mask.
    A change of prompts makes a lesion open.

    Every operation that the predictor or the disk refuses changes nothing. With a folder, an operation is on the disk
    before it returns. A session is used by one thread at a time.

    Args:
        predictor: the model.
        volume: the scan.
        folder: where to keep the session; a new one, or one without a session. None: in memory only.

    Attributes:
        volume: the scan.
        predictor: the model.
        folder: where it is kept, if it is.
        progress: called with the share of a prediction that is done, 0 to 1; None: nobody is told.

    Raises:
        SessionError: the folder holds a session already, or another process works there.
        OutputError: the folder cannot be written.
    """

    def __init__(self, predictor: Predictor, volume: Volume, folder: str | Path | None = None):
        self.predictor, self.volume = predictor, volume
        self.folder = None if folder is None else Path(folder)
        self.scan = identify_scan(volume)
        self.model = _model(predictor)
        self._files: SessionFiles | None = None
        self._journal: Journal | None = None
        self._read_only = False
        self._other_model = False  # whether the journal is still to be told that it goes on with another
        self._history = History()
        self._predictions: _Recent[Prediction] = _Recent(
            KEPT, lambda p: p.probability.array.nbytes + p.mask.array.nbytes
        )
        self._masks: _Recent[Mask] = _Recent(MASKS, lambda mask: mask.array.nbytes)
        self._encoded = predictor.encode_scan(volume)
        self.progress: Report | None = None
        if self.folder is not None:
            self._files = SessionFiles(self.folder, volume.grid, volume.source)
            header = Header(palpate=_version(), scan=self.scan, model=self.model, id=uuid.uuid4().hex)
            self._journal = Journal.create(self.folder, header)
        self._begun = self._journal is not None
        self._own = uuid.uuid4().hex

    @classmethod
    def open(
        cls,
        folder: str | Path,
        predictor: Predictor,
        volume: Volume,
        *,
        allow_other_model: bool = False,
        read_only: bool = False,
    ) -> Session:
        """The session in a folder, as it was when its last operation returned.

        Args:
            folder: where it is kept.
            predictor: the model that it was made with.
            volume: the scan that it was made on; where its file lies now does not matter.
            allow_other_model: go on with another model: masks are then this model's. It is written down with the first
                operation, which is refused if this model refuses any lesion's prompts; until then the session is the
                former's.
            read_only: look only: nothing is written or locked, and every operation is refused.

        Raises:
            SessionError: no session there, another scan, another model, a damaged line or file, or another process
                works there.
            OutputError: the folder cannot be written.
        """
        folder = Path(folder)
        header = read_header(folder)
        session = cls(predictor, volume)
        session.folder, session._read_only = folder, read_only
        session._files = SessionFiles(folder, volume.grid, volume.source)
        session._check_scan(header.scan)
        if not read_only:
            session._journal = Journal.open(folder)
            session._files.tidy()
        try:
            made_with = session._replay(header.model)
            if not made_with.same_as(session.model):
                if not allow_other_model:
                    same = made_with.sha256 == session.model.sha256
                    raise SessionError(
                        f"{folder}: was made with the model {made_with.told}, this is {session.model.told}; load that "
                        f"one{' with its settings (--precision, --zoom, --budget)' * same}, or allow another model "
                        "(allow_other_model, --other-model) and check every mask"
                    )
                session._other_model = True
        except BaseException:
            session.close()
            raise
        return session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes go on with it; nothing needs saving."""
        if self._journal is not None:
            self._journal.close()
            self._journal, self._read_only = None, True

    def discard(self) -> None:
        """Close it and take away all that it wrote: for a session whose very first step was refused.

        Its folder goes too, if it made that and nothing else lies there.

        Raises:
            SessionError: it was not begun on the disk by this object, or is closed.
        """
        if not self._begun or self._journal is None or self._files is None:
            raise SessionError(f"{self.folder}: was not begun here; remove its folder yourself")
        self._files.discard()
        self._journal.discard()
        self._journal, self._read_only = None, True

    # What there is

    @property
    def lesions(self) -> tuple[Lesion, ...]:
        """All lesions, in the order in which they were added."""
        return tuple(self._history.lesions.values())

    @property
    def fingerprint(self) -> str:
        """What tells it from every other session, of the same scan too; on the disk it stays from its first step on."""
        return self._own if self.folder is None else fingerprint(self.folder)

    def lesion(self, number: int) -> Lesion:
        """A lesion by its number.

        Raises:
            SessionError: there is none.
        """
        return find(self._history.lesions, number)

    def prediction(self, number: int) -> Prediction | None:
        """What the model makes of a lesion's prompts, with probabilities; None for a lesion without prompts.

        Raises:
            SessionError: no such lesion.
            PromptError: prompts that this model refuses, after going on with another model.
        """
        return self._predicted(self.lesion(number))

    def mask(self, number: int) -> Mask:
        """A lesion's mask: of its prompts, else its start mask, else empty. Its array is read-only: others share it.

        Raises:
            SessionError, PromptError: as `prediction`.
        """
        lesion = self.lesion(number)
        if not lesion.prompts:
            return self._unprompted(lesion)
        mask = self._masks.find(number, self._list(lesion))
        if mask is None:
            prediction = self._predicted(lesion)
            assert prediction is not None
            mask = self._keep_mask(lesion, prediction)
        return mask

    def measure(self, number: int) -> Measurements:
        """A lesion's volume and diameters.

        Raises:
            SessionError, PromptError: as `prediction`.
        """
        return measure_lesion(self.mask(number))

    def label_map(self, overlap: Overlap = "later", *, accepted_only: bool = False) -> LabelMap:
        """All lesions in one array, each with its number as its value: uint8, or uint16 where a number needs it.

        Args:
            overlap: whose a voxel is that lies in several: "later", "earlier", or "highest" probability. In the last,
                a start mask without prompts counts with its score, or with 1 if it has none.
            accepted_only: leave out what is not accepted.

        Raises:
            SessionError: no such overlap rule.
            PromptError: as `prediction`.
        """
        check_overlap(overlap)
        numbers = [each.number for each in self.lesions if each.status == "accepted" or not accepted_only]
        shown = [(number, self.mask(number)) for number in numbers]
        return label_map(shown, self.volume.grid, self.volume.source, overlap, self._confidence)

    # What is done

    def add(self, name: str | None = None, start: Mask | None = None, score: float | None = None) -> int:
        """A new lesion; returns its number.

        Args:
            name: what it is called; "lesion N" by default.
            start: a mask to begin with, on the scan's grid: a proposal, whose status is "proposed".
            score: how sure the proposer was, 0 to 1.

        Raises:
            SessionError: a name that is empty or longer than 100 characters, or a score that is none.
            PromptError: an empty start mask, or one that is no `Mask`.
            GeometryError: a start mask on another grid.
            OutputError: it could not be written down.
        """
        if start is not None and not isinstance(start, Mask):
            InitialMask(start)  # says what is wanted instead
        if start is not None and not start.grid.same_as(self.volume.grid, tolerance=1e-2):
            raise GeometryError(
                f"the start mask lies on another grid ({start.grid.shape}) than the scan ({self.volume.shape}); "
                "resample it first"
            )
        ours = None if start is None else InitialMask(self._on_grid(start).cropped())
        number = self._history.last_lesion + 1
        name = f"lesion {number}" if name is None else name
        self._do(_made(Add, lesion=number, name=name, start=ours, score=score))
        return number

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Refuse prompts that a new lesion could not begin with, before it is added; nothing is changed.

        Raises:
            PromptError: the predictor refuses them.
        """
        self.predictor.predict_on(self._encoded, prompts, progress=self.progress)

    def remove(self, number: int) -> None:
        """Remove a lesion.

        Raises:
            SessionError: there is none of that number.
            OutputError: it could not be written down.
        """
        self._change(Remove, number)

    def drop(self, number: int) -> None:
        """Remove a proposal that is no lesion.

        Raises:
            SessionError: no such lesion, or no proposal any more.
            OutputError: it could not be written down.
        """
        self._change(Drop, number)

    def rename(self, number: int, name: str) -> None:
        """Give a lesion another name.

        Raises:
            SessionError: no such lesion, or no such name.
            OutputError: it could not be written down.
        """
        self._change(Rename, number, name=name)

    def accept(self, number: int) -> None:
        """Call a lesion's mask right, until its prompts are changed.

        Raises:
            SessionError: no such lesion.
            OutputError: it could not be written down.
        """
        self._change(Judge, number, status="accepted")

    def reopen(self, number: int) -> None:
        """Take a lesion's acceptance back, or take a proposal up.

        Raises:
            SessionError: no such lesion.
            OutputError: it could not be written down.
        """
        self._change(Judge, number, status="open")

    def add_prompt(self, number: int, prompt: Prompt) -> int:
        """A further prompt on a lesion; returns the prompt's number.

        Raises:
            SessionError: no such lesion.
            PromptError: the predictor refuses it, or the list with it.
            OutputError: it could not be written down.
        """
        return self.add_prompts(number, [prompt])[0]

    def add_prompts(self, number: int, prompts: Sequence[Prompt]) -> tuple[int, ...]:
        """Several prompts at once, which are undone at once; returns their numbers.

        Raises:
            SessionError, PromptError, OutputError: as `add_prompt`.
        """
        check_listed(prompts)
        if not prompts:
            raise PromptError("no prompt was given")
        first = self._history.last_prompt + 1
        numbers = tuple(range(first, first + len(prompts)))
        self._change(AddPrompts, number, prompts=tuple(zip(numbers, prompts, strict=True)))
        return numbers

    def replace_prompt(self, number: int, prompt_number: int, prompt: Prompt) -> None:
        """Another prompt in the place of one, under its number.

        Raises:
            SessionError: no such lesion or prompt.
            PromptError, OutputError: as `add_prompt`.
        """
        self._change(ReplacePrompt, number, number=prompt_number, prompt=prompt)

    def remove_prompt(self, number: int, prompt_number: int) -> None:
        """A prompt less.

        Raises:
            SessionError: no such lesion or prompt.
            PromptError: the predictor refuses what is left, such as a negative click alone.
            OutputError: it could not be written down.
        """
        self._change(RemovePrompt, number, number=prompt_number)

    def clear(self, number: int) -> None:
        """Take all of a lesion's prompts away; a start mask stays.

        Raises:
            SessionError: no such lesion.
            OutputError: it could not be written down.
        """
        self._change(Clear, number)

    @property
    def undoable(self) -> int:
        """How many operations can be taken back."""
        return self._history.counts[0]

    @property
    def redoable(self) -> int:
        """How many operations can be done again."""
        return self._history.counts[1]

    @property
    def can_undo(self) -> bool:
        """Whether there is an operation to take back."""
        return self.undoable > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is an operation to do again."""
        return self.redoable > 0

    def undo(self) -> int:
        """Take the last operation back; returns the number of the lesion that it was done to.

        Raises:
            SessionError: there is none.
            OutputError: it could not be written down.
        """
        operation = self._history.done
        if operation is None:
            raise SessionError("nothing to undo: no operation is left")
        self._check_other_model(self._history.before_last)
        self._write(Undo())
        self._history.undo()
        return operation.lesion

    def redo(self) -> int:
        """Do again what was undone last; returns the number of the lesion that it is done to.

        Raises:
            SessionError: nothing was undone, or another operation was done since.
            OutputError: it could not be written down.
        """
        operation = self._history.undone
        if operation is None:
            raise SessionError("nothing to redo: no operation was undone, or another was done since")
        self._check_other_model(operation.apply(self._history.lesions))
        self._write(Redo())
        self._history.redo()
        return operation.lesion

    # What is given away

    def record(self, number: int) -> LesionRecord:
        """A lesion with its mask and all that is known of it.

        Raises:
            SessionError, PromptError: as `prediction`.
        """
        lesion, mask = self.lesion(number), self.mask(number)
        return LesionRecord(number, lesion.name, lesion.status, mask, lesion.numbered, lesion.start, lesion.score)

    def export(
        self,
        path: str | Path,
        *,
        separate: bool = False,
        overlap: Overlap = "later",
        accepted_only: bool = False,
        ending: str = ".nii.gz",
    ) -> ExportedLesions:
        """Write the lesions and what is known about them; returns the files, and what the overlap rule took.

        Args:
            path: a label map's file (.nii, .nii.gz, .nrrd, .mha or .mhd), beside which `NAME.lesions.json` is written;
                or a folder, made if need be, for `labels.nii.gz` and `lesions.json`.
            separate: in a folder, one mask file for each lesion instead, each whole, whether or not they overlap.
            overlap: see `label_map`.
            accepted_only: leave out what is not accepted.
            ending: of the files in a folder.

        Raises:
            SessionError: no lesion, no such overlap rule, or separate masks for one file.
            OutputError: the files cannot be written, or the folder holds another session's export; old files are left
                intact.
            PromptError: as `prediction`.
        """
        planned = LesionExport(path, self.volume, separate=separate, overlap=overlap, ending=ending)
        numbers = [lesion.number for lesion in self.lesions if lesion.status == "accepted" or not accepted_only]
        if accepted_only and not numbers:
            raise SessionError("there is no accepted lesion to export; accept one first")
        provenance = ExportProvenance(self.fingerprint, self.scan, self.model.model_dump(mode="json"))
        return planned.write([self.record(number) for number in numbers], provenance, self._confidence)

    def export_cohort(self, folder: str | Path, *, patient: str | None = None) -> str:
        """Append the scan and its accepted lesions to a cohort for `palpate audit` and `train`; returns its name there.

        The same scan exported again replaces what was there of it.

        Args:
            folder: the cohort's, made if need be: `cohort.csv`, `images` and `labels`.
            patient: whose scan it is, so that no patient's scans are split; by default what the cohort says already,
                else the scan is a patient of its own.

        Raises:
            SessionError: nothing accepted, or only empty masks; or a patient with line breaks or other control
                characters, or that a spreadsheet would take for a formula.
            OutputError: the folder is another layout's, or cannot be written; the cohort is left as it was.
            PromptError: as `prediction`.
        """
        masks = [self.mask(lesion.number) for lesion in self.lesions if lesion.status == "accepted"]
        with writing(folder):
            return append_to_cohort(Path(folder), self.volume, self.scan, masks, patient)

    # How

    def _change(self, kind: type[Operation], number: int, /, **fields: Any) -> None:
        self.lesion(number)
        self._do(_made(kind, lesion=number, **fields))

    def _do(self, operation: Operation) -> None:
        self._check_open()
        before = self._history.lesions
        after = operation.apply(before)
        if after is before:
            return
        lesion = after.get(operation.lesion)
        if lesion is not None and isinstance(operation, (AddPrompts, ReplacePrompt, RemovePrompt)):
            self._predicted(lesion)
        self._check_other_model(after)
        self._write(operation)
        self._history.add(operation, after)

    def _check_other_model(self, after: Lesions) -> None:
        """Before it is written down that the session goes on with another: make every mask that would then be its."""
        if self._other_model:
            for lesion in after.values():
                self._predicted(lesion)

    def _check_open(self) -> None:
        if self._read_only:
            raise SessionError(f"{self.folder}: is closed, or open for reading only; open it again to go on")

    def _write(self, step: Step) -> None:
        self._check_open()
        if self._journal is not None:
            assert self._files is not None
            if self._other_model:
                self._journal.append(OtherModel(model=self.model), self._files)
                self._other_model = False
            self._journal.append(step, self._files)

    def _replay(self, model: ModelIdentity) -> ModelIdentity:
        """Do what the journal says; returns the model that it was last made with."""
        assert self.folder is not None
        assert self._files is not None
        sequence = 0
        for line in read_lines(self.folder, self._files):
            step, sequence = line.step, line.sequence
            try:
                if isinstance(step, OtherModel):
                    model = step.model
                elif isinstance(step, Undo):
                    self._history.undo()
                elif isinstance(step, Redo):
                    self._history.redo()
                else:
                    self._history.add(step, step.apply(self._history.lesions))
            except SessionError as error:
                raise SessionError(f"{self.folder}: line {sequence + 1} of its journal cannot be: {error}") from error
        if self._journal is not None:
            self._journal.go_on_after(sequence)
        return model

    def _check_scan(self, made_on: ScanIdentity) -> None:
        if made_on.sha256 != self.scan.sha256:
            raise SessionError(
                f"{self.folder}: was made on another scan: {made_on.path or 'one in memory'} of shape {made_on.shape}, "
                f"this one is {self.scan.path or 'in memory'} of shape {self.scan.shape}; give that scan"
            )

    def _list(self, lesion: Lesion) -> tuple[Prompt, ...]:
        """What the predictor is asked: a start mask comes first, where the model knows what to do with it."""
        if lesion.start is None or not lesion.prompts or not self.predictor.capabilities.takes_initial_mask:
            return lesion.prompts
        return (lesion.start, *lesion.prompts)

    def _predicted(self, lesion: Lesion) -> Prediction | None:
        prompts = self._list(lesion)
        if not prompts:
            return None
        prediction = self._predictions.find(lesion.number, prompts)
        if prediction is None:
            state = self.predictor.predict_on(self._encoded, prompts, progress=self.progress)
            prediction = state.prediction
            self._predictions.keep(lesion.number, prompts, prediction)
            self._keep_mask(lesion, prediction)
        return prediction

    def _keep_mask(self, lesion: Lesion, prediction: Prediction) -> Mask:
        mask = prediction.mask.cropped()
        mask.array.setflags(write=False)
        self._masks.keep(lesion.number, self._list(lesion), mask)
        return mask

    def _unprompted(self, lesion: Lesion) -> Mask:
        if lesion.start is not None:
            return lesion.start.mask
        return Mask(np.zeros((0, 0, 0), dtype=bool), (0, 0, 0), self.volume.grid, self.volume.source)

    def _on_grid(self, mask: Mask) -> Mask:
        """The mask on the scan's very grid, from which another program's header may differ by rounding."""
        return Mask(mask.array, mask.start, self.volume.grid, self.volume.source)

    def _confidence(self, number: int) -> Probability | float:
        lesion = self.lesion(number)
        prediction = self._predicted(lesion)
        if prediction is not None:
            return prediction.probability
        return 1.0 if lesion.score is None else lesion.score


class _Recent(Generic[T]):
    """What a few lesions' prompts gave; what was not asked for longest is forgotten.

    Args:
        most: how many are kept.
        size: bytes of one; beyond `KEPT_BYTES` of them only the last is kept for certain.
    """

    def __init__(self, most: int, size: Callable[[T], int]):
        self._most, self._size = most, size
        self._kept: OrderedDict[int, tuple[tuple[Prompt, ...], T]] = OrderedDict()

    def find(self, number: int, prompts: tuple[Prompt, ...]) -> T | None:
        """What a lesion's prompts gave, if it is kept and was of these very prompts."""
        kept = self._kept.get(number)
        if kept is None or len(kept[0]) != len(prompts):
            return None
        if any(one is not other for one, other in zip(kept[0], prompts, strict=True)):
            return None
        self._kept.move_to_end(number)
        return kept[1]

    def keep(self, number: int, prompts: tuple[Prompt, ...], value: T) -> None:
        """Keep what a lesion's prompts gave, instead of what others gave before."""
        self._kept[number] = (prompts, value)
        self._kept.move_to_end(number)
        while len(self._kept) > 1 and (len(self._kept) > self._most or self._bytes() > KEPT_BYTES):
            self._kept.popitem(last=False)

    def _bytes(self) -> int:
        return sum(self._size(value) for _, value in self._kept.values())


def _made(kind: type[K], **fields: Any) -> K:
    """An operation, or a refusal in our words."""
    try:
        return kind(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or kind.__name__.lower()
        if where == "name":
            told = f"{first['input']!r:.60}"
            raise SessionError(
                f"a lesion's name is a line of 1 to 100 characters, not {told}; choose another"
            ) from error
        raise SessionError(f"{where}: {first['msg']}, not {first['input']!r}") from error


def _model(predictor: Predictor) -> ModelIdentity:
    return ModelIdentity(**predictor.identity.model_dump())


def _version() -> str:
    from .. import __version__

    return __version__
