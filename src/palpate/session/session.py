"""A session: several lesions on one scan, prompted, undone, accepted, measured and exported."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ..errors import PromptError, SessionError
from ..export import ExportedLesions, ExportProvenance, LesionExport, ScanIdentity, append_to_cohort, identify_scan
from ..files import writing
from ..lesions import (
    THRESHOLD,
    LabelMap,
    LesionRecord,
    Measurements,
    Overlap,
    Postprocessing,
    check_overlap,
    label_map,
    measure_lesion,
)
from ..masks import Mask, Probability
from ..volume import Volume
from .cache import CachedMask
from .lesion import Lesion, Lesions
from .lines import Header, Step, read_header
from .masks import LesionMasks
from .prompt_edits import PromptEdits
from .store import SessionStore, record_of

if TYPE_CHECKING:
    from ..inference.plausibility import MaskWarning
    from ..inference.progress import Cancel, ProgressHook
    from ..predictor import Prediction, Predictor


class Session(PromptEdits):
    """Several lesions on one scan, over a predictor that other sessions may share.

    A lesion's mask is what `Predictor.predict` makes of its prompts in their order, however they came about. A lesion
    with an initial mask has that for a mask until it is given prompts, and from then on as its first prompt, where the
    model takes one. A lesion with neither has an empty mask. A change of prompts makes a lesion open.

    Every operation that the predictor or the disk refuses changes nothing. With a folder, an operation is on the disk
    before it returns, and masks are cached there. A session is used by one thread at a time; several sessions on one
    predictor may be used by several threads.

    Methods that may compute take `progress`, called with the share that is done, 0 to 1, which never falls, and
    `cancel`, asked now and then whether to stop; they raise `CancelledError`, and nothing was changed.

    Args:
        predictor: the model.
        volume: the scan.
        folder: where the session is stored; a new folder, or one without a session. None: in memory only.

    Attributes:
        volume: the scan.
        predictor: the model.
        store: the journal, the files and the cache on disk.
        history: the operations, and the lesions that they lead to.

    Raises:
        SessionError: the folder holds a session already, or another process works there.
        OutputError: the folder cannot be written.
    """

    def __init__(self, predictor: Predictor, volume: Volume, folder: str | Path | None = None):
        from .. import __version__

        identity = predictor.identity
        header = Header(palpate=__version__, scan=identify_scan(volume), model=identity, id=uuid.uuid4().hex)
        store = SessionStore(header) if folder is None else SessionStore.create(Path(folder), header, volume)
        self._set(predictor, volume, store)

    def _set(self, predictor: Predictor, volume: Volume, store: SessionStore) -> None:
        self.predictor, self.volume, self.store, self.history = predictor, volume, store, store.history
        self.identity = predictor.identity
        self._masks = LesionMasks(predictor, volume, self.scan, store.cache)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        predictor: Predictor,
        volume: Volume,
        *,
        allow_other_model: bool = False,
        read_only: bool = False,
    ) -> Self:
        """The session in a folder, as it was when its last operation returned.

        Args:
            folder: where it is.
            predictor: the model that it was made with. Unless another model is allowed, the session keeps to the
                version of the rules that it was made by (`InferenceSettings.rules`), so that its masks stay.
            volume: the scan that it was made on; where its file lies now does not matter.
            allow_other_model: go on with another model: masks are then this model's. It is written down with the first
                operation, which is refused if this model refuses any lesion's prompts; until then the session is the
                former's.
            read_only: nothing is written or locked, and every operation is refused.

        Raises:
            SessionError: no session there, another scan, another model, a damaged line or file, or another process
                works there.
            OutputError: the folder cannot be written.
        """
        folder = Path(folder)
        check_scan(folder, read_header(folder).scan, identify_scan(volume))
        store = SessionStore.open(folder, volume, read_only=read_only)
        session = cls.__new__(cls)
        if not allow_other_model and store.identity.rules != predictor.identity.rules:
            predictor = predictor.with_rules(store.identity.rules)
        session._set(predictor, volume, store)
        made_with, this = store.identity, session.identity
        if session.other_model and not allow_other_model:
            store.close()
            same = made_with.sha256 == this.sha256
            raise SessionError(
                f"{folder}: was made with the model {made_with.description}, this is {this.description}; load that "
                f"one{' with its settings (--precision, --zoom, --budget)' * same}, or allow another model "
                "(allow_other_model, --other-model) and check every mask"
            )
        return session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes go on with it. The lesions' states are cached on disk now; all else is there already."""
        self._masks.save_states(self.lesions)
        self.store.close()

    def discard(self) -> None:
        """See `SessionStore.discard`."""
        self.store.discard()
        self._masks.save_states(())  # of no lesion, now and when it is closed again

    @property
    def folder(self) -> Path | None:
        """Where it is; None: in memory only."""
        return self.store.folder

    @property
    def scan(self) -> ScanIdentity:
        """Which scan, by content."""
        return self.store.header.scan

    @property
    def fingerprint(self) -> str:
        """An identifier that no other session has; that of one on disk stays from its first step on."""
        return self.store.fingerprint

    @property
    def other_model(self) -> bool:
        """Whether the next operation will write down that the session goes on with another model."""
        return not self.store.identity.same_as(self.identity)

    def prediction(
        self, number: int, *, progress: ProgressHook | None = None, cancel: Cancel | None = None
    ) -> Prediction | None:
        """The model's answer to a lesion's prompts, with probabilities; None for a lesion without prompts.

        Raises:
            SessionError: no such lesion.
            PromptError: prompts that this model refuses: after going on with another model, or recorded without a
                prediction.
        """
        lesion = self.lesion(number)
        return self._masks.predict(lesion, progress, cancel).prediction if lesion.prompts else None

    def mask(self, number: int, *, progress: ProgressHook | None = None, cancel: Cancel | None = None) -> Mask:
        """A lesion's mask: of its prompts, else its initial mask, else empty. Its array is read-only: others share it.

        Raises:
            SessionError, PromptError: as `prediction`.
        """
        lesion = self.lesion(number)
        if lesion.prompts:
            return self._masks.mask(lesion, progress, cancel).mask
        return self._masks.initial(lesion)

    def warnings(self, number: int, *, postprocessing: Postprocessing | None = None) -> tuple[MaskWarning, ...]:
        """Why a lesion's mask may be wrong; of one without prompts, nothing is known. It may compute the mask.

        Args:
            number: the lesion's.
            postprocessing: of the mask that is exported, which the warnings are then about; see `record`.

        Raises:
            SessionError, PromptError: as `prediction`.
        """
        lesion, process = self.lesion(number), postprocessing or Postprocessing()
        if not lesion.prompts:
            return ()
        record, _ = self._processed(lesion, process, None, None)
        computed = self._masks.mask(lesion)
        note = process.note(computed.mask, record.mask)
        return computed.warnings(self._masks.prompts(lesion), record.mask, note)

    def initial_mask(self, number: int) -> Mask:
        """The mask that a lesion begins with, on the scan's very grid; empty where it begins with none.

        Raises:
            SessionError: no such lesion.
        """
        return self._masks.initial(self.lesion(number))

    def is_cached(self, number: int) -> bool:
        """Whether `mask` would compute nothing.

        Raises:
            SessionError: no such lesion.
        """
        lesion = self.lesion(number)
        return not lesion.prompts or self._masks.cached(lesion) is not None

    def compute_masks(self, *, progress: ProgressHook | None = None, cancel: Cancel | None = None) -> None:
        """Compute all masks that are not cached, so that what follows need not; prompts that are refused are left out.

        Args:
            progress: see the class.
            cancel: see the class.
        """
        missing = [lesion for lesion in self.lesions if not self.is_cached(lesion.number)]
        for place, lesion in enumerate(missing):
            with suppress(PromptError):  # which whatever needs this mask will raise
                self._masks.mask(lesion, _part(progress, place, len(missing)), cancel)

    def measure(
        self, number: int, *, progress: ProgressHook | None = None, cancel: Cancel | None = None
    ) -> Measurements:
        """A lesion's volume and diameters.

        Raises:
            SessionError, PromptError: as `prediction`.
        """
        return measure_lesion(self.mask(number, progress=progress, cancel=cancel))

    def record(
        self,
        number: int,
        *,
        postprocessing: Postprocessing | None = None,
        progress: ProgressHook | None = None,
        cancel: Cancel | None = None,
    ) -> LesionRecord:
        """A lesion with its mask.

        Args:
            number: the lesion's.
            postprocessing: what becomes of the mask that is exported; the session's own stays. None: nothing. On an
                initial mask without prompts, which has no probability, a threshold has no effect.
            progress: see the class.
            cancel: see the class.

        Raises:
            SessionError, PromptError: as `prediction`.
        """
        return self._processed(self.lesion(number), postprocessing, progress, cancel)[0]

    def label_map(
        self,
        overlap: Overlap = "later",
        *,
        accepted_only: bool = False,
        postprocessing: Postprocessing | None = None,
        progress: ProgressHook | None = None,
        cancel: Cancel | None = None,
    ) -> LabelMap:
        """All lesions in one array, each with its number as its value: uint8, or uint16 where a number needs it.

        Args:
            overlap: see `lesions.label_map`. For "highest", an initial mask without prompts counts with its score, or
                with 1 if it has none.
            accepted_only: leave out what is not accepted.
            postprocessing: see `record`.
            progress: see the class.
            cancel: see the class.

        Raises:
            SessionError: no such overlap rule.
            PromptError: as `prediction`.
        """
        check_overlap(overlap)
        records, probability = self._computed(accepted_only, postprocessing, progress, cancel)
        shown = [(record.number, record.mask) for record in records]
        return label_map(shown, self.volume.grid, self.volume.source, overlap, probability)

    def export(
        self,
        path: str | Path,
        *,
        separate: bool = False,
        overlap: Overlap = "later",
        accepted_only: bool = False,
        ending: str = ".nii.gz",
        postprocessing: Postprocessing | None = None,
        progress: ProgressHook | None = None,
        cancel: Cancel | None = None,
    ) -> ExportedLesions:
        """Write the lesions and what is known about them; returns the files, and what the overlap rule took.

        Args:
            path: a file or a folder; this and `separate`, `overlap` and `ending`: see `export.LesionExport`.
            separate: in a folder, one mask file for each lesion.
            overlap: see `label_map`.
            accepted_only: leave out what is not accepted.
            ending: of the files in a folder.
            postprocessing: see `record`; the listing has it.
            progress: see the class.
            cancel: see the class.

        Raises:
            SessionError: no lesion, no such overlap rule, or separate masks for one file.
            OutputError: the files cannot be written, or the folder holds another session's export; old files are left
                intact.
            PromptError: as `prediction`.
        """
        planned = LesionExport(path, self.volume, separate=separate, overlap=overlap, ending=ending)
        records, probability = self._computed(accepted_only, postprocessing, progress, cancel)
        if accepted_only and not records:
            raise SessionError("there is no accepted lesion to export; accept one first")
        model = self.identity.model_dump(mode="json")
        provenance = ExportProvenance(self.fingerprint, self.scan, model, postprocessing or Postprocessing())
        return planned.write(records, provenance, probability)

    def export_cohort(
        self,
        folder: str | Path,
        *,
        patient: str | None = None,
        postprocessing: Postprocessing | None = None,
        progress: ProgressHook | None = None,
        cancel: Cancel | None = None,
    ) -> str:
        """Append the scan and its accepted lesions to a cohort for `palpate audit` and `train`; returns its name there.

        The same scan exported again replaces its former entry.

        Args:
            folder: the cohort's, made if need be: `cohort.csv`, `images` and `labels`.
            patient: whose scan it is, so that no patient's scans are split; by default what the cohort has already,
                else the scan is a patient of its own.
            postprocessing: see `record`.
            progress: see the class.
            cancel: see the class.

        Raises:
            SessionError: nothing accepted, or only empty masks; or a patient with line breaks or other control
                characters, or that a spreadsheet would take for a formula.
            OutputError: the folder is another layout's, or cannot be written; the cohort is left as it was.
            PromptError: as `prediction`.
        """
        records, _ = self._computed(True, postprocessing, progress, cancel)
        masks = [record.mask for record in records]
        with writing(folder):
            return append_to_cohort(Path(folder), self.volume, self.scan, masks, patient)

    def _check_writable(self) -> None:
        self.store.check_writable()

    def _record(self, step: Step, after: Lesions) -> None:
        """Write a step down; if another model goes on, every mask is computed by it first."""
        if self.other_model:
            for lesion in after.values():
                if lesion.prompts:
                    self._masks.mask(lesion)
            self.store.adopt(self.identity)
        self.store.append(step)

    def _computed(
        self,
        accepted_only: bool,
        postprocessing: Postprocessing | None,
        progress: ProgressHook | None,
        cancel: Cancel | None,
    ) -> tuple[list[LesionRecord], Callable[[int], Probability | float]]:
        """The lesions with their masks, all or the accepted ones, and how probable the voxels of each are, by number.

        Each mask is computed at most once, whether or not the caches hold it. An initial mask without prompts is as
        probable as its score, or 1.
        """
        shown = [each for each in self.lesions if each.status == "accepted" or not accepted_only]
        records, probable = [], {}
        for place, lesion in enumerate(shown):
            part = _part(progress, place, len(shown))
            record, probable[lesion.number] = self._processed(lesion, postprocessing, part, cancel)
            records.append(record)

        def probability(number: int) -> Probability | float:
            computed = probable[number]
            if computed is not None:
                return computed.probability
            score = self.lesion(number).score
            return 1.0 if score is None else score

        return records, probability

    def _processed(
        self,
        lesion: Lesion,
        postprocessing: Postprocessing | None,
        progress: ProgressHook | None,
        cancel: Cancel | None,
    ) -> tuple[LesionRecord, CachedMask | None]:
        """A lesion with its mask as it is exported, and the probability of its voxels, if a model made it."""
        process = postprocessing or Postprocessing()
        prompts = self._masks.prompts(lesion)
        if not prompts:
            mask = process.apply(self._masks.initial(lesion), None, [each for each in [lesion.initial_mask] if each])
            return record_of(lesion, mask), None
        if process.threshold == THRESHOLD:
            computed = self._masks.mask(lesion, progress, cancel)
            return record_of(lesion, process.apply(computed.mask, None, prompts)), computed
        # What is cached is the probability of the mask's own voxels; another threshold needs that of all.
        prediction = self._masks.predict(lesion, progress, cancel).prediction
        mask = process.apply(prediction.mask, prediction.probability, prompts)
        return record_of(lesion, mask), CachedMask.of(replace(prediction, mask=mask))


def _part(progress: ProgressHook | None, place: int, count: int) -> Callable[[float], None] | None:
    """The progress of one of several equal parts."""
    return None if progress is None else lambda done: progress((place + done) / count)


def check_scan(folder: Path, made_on: ScanIdentity, given: ScanIdentity) -> None:
    """Refuse another scan than a session was made on.

    Raises:
        SessionError: the voxels, their type, the shape or the affine differ.
    """
    if made_on.sha256 != given.sha256:
        raise SessionError(
            f"{folder}: was made on another scan: {made_on.path or 'one in memory'} of shape {made_on.shape}, "
            f"this one is {given.path or 'in memory'} of shape {given.shape}; give that scan, or "
            "name another folder for a session of this one"
        )
