"""The one inference path: a model, a scan, and prompts that say which lesion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .bundle import Bundle
from .errors import ModelError, PromptError, SettingsError
from .inference import lesion_state, state_file
from .inference.cache import Key
from .inference.encoded_scan import EncodedScan
from .inference.lesion_state import LesionState
from .inference.prediction import Prediction
from .inference.progress import Cancel, ProgressHook
from .inference.runtime import Capabilities, Runtime
from .inference.settings import InferenceIdentity, InferenceSettings
from .inference.views import ViewPolicy
from .masks import Mask
from .prompts import Prompt

if TYPE_CHECKING:
    from .formats.reading import ImageLike

__all__ = ["Prediction", "Predictor"]


class Predictor:
    """Answers prompts on scans.

    `set_volume` and `predict` serve one scan at a time. With several scans, or several threads, give each an
    `EncodedScan` of its own, and call `predict_on`.

    Args:
        model: settings that name the model; or a bundle in memory, a model at work, a bundled model's name, or a file.
        settings: all other settings, where `model` is none.

    Attributes:
        settings: how it infers.
        runtime: the model at work.

    Raises:
        ModelError: see `bundle.load`; or a model that takes no prompts.
        DeviceError: no such device here.
    """

    def __init__(
        self,
        model: InferenceSettings | Bundle | Runtime | str | Path = "palpate-tiny",
        settings: InferenceSettings | None = None,
    ):
        self.settings, self.runtime = started(model, settings)
        if self.capabilities.promptless:
            raise ModelError(
                f"{self.runtime.name}: an automatic model takes no prompts: use `palpate propose`, or "
                "palpate.Proposer in Python"
            )
        self._policy = ViewPolicy(self.runtime.preprocessing, self.settings.zoom, self.settings.rules)
        self._scan: EncodedScan | None = None

    @property
    def capabilities(self) -> Capabilities:
        """What the model can do."""
        return self.runtime.capabilities

    @property
    def identity(self) -> InferenceIdentity:
        """What masks depend on, beside a scan and its prompts."""
        return InferenceIdentity.of(self.runtime.name, self.runtime.sha256(), self.settings, self._policy.zooms)

    def with_rules(self, rules: int) -> Predictor:
        """A predictor of the same model at work, by another version of the rules (`InferenceSettings.rules`).

        Raises:
            SettingsError: no such version.
        """
        return Predictor(self.runtime, replace(self.settings, rules=rules))

    @property
    def scan(self) -> EncodedScan | None:
        """The scan of `predict`; None: none yet."""
        return self._scan

    def set_volume(self, volume: ImageLike) -> None:
        """Turn to a scan; nothing is computed before the first prompt.

        Args:
            volume: a `Volume`, a path, or an image of nibabel or SimpleITK.

        Raises:
            TypeError: anything else.
            ScanError: the file cannot be read.
        """
        self._scan = self.encode_scan(volume)

    def predict(
        self,
        prompts: Sequence[Prompt],
        *,
        forbidden: Mask | None = None,
        progress: ProgressHook | None = None,
        cancel: Cancel | None = None,
    ) -> Prediction:
        """The lesion under an ordered list of prompts, which its mask is a function of.

        Raises:
            PromptError: no scan set; or see `predict_on`.
            CancelledError: it was cancelled; nothing was changed.
        """
        if self._scan is None:
            raise PromptError("no scan yet: call set_volume before predict")
        return self.predict_on(self._scan, prompts, forbidden=forbidden, progress=progress, cancel=cancel).prediction

    def encode_scan(self, volume: ImageLike) -> EncodedScan:
        """A scan on this model, for `predict_on`; its crops are encoded when they are needed. As `set_volume`."""
        from .formats import as_volume  # file libraries are loaded where they are needed

        return EncodedScan(self.runtime, as_volume(volume), rules=self.settings.rules)

    def predict_on(
        self,
        scan: EncodedScan,
        prompts: Sequence[Prompt],
        *,
        forbidden: Mask | None = None,
        progress: ProgressHook | None = None,
        cancel: Cancel | None = None,
    ) -> LesionState:
        """The state of a lesion after an ordered list of prompts.

        Args:
            scan: of `encode_scan`.
            prompts: in their order.
            forbidden: where the lesion cannot be, on the scan's grid.
            progress: called with the share that is done, 0 to 1, which never falls.
            cancel: asked now and then whether to stop.

        Raises:
            PromptError: no prompt, one outside the scan or in the forbidden region, prompts that no crop holds or that
                contradict each other, or a kind that the model does not take.
            CancelledError: it was cancelled; nothing was changed.
        """
        budget = self.settings.budget
        return lesion_state.predict(
            scan, self._policy, budget, prompts, forbidden=forbidden, progress=progress, cancel=cancel
        )

    def cached_state(self, scan: EncodedScan, prompts: Sequence[Prompt]) -> LesionState | None:
        """The state after some prompts, if `predict_on` would compute nothing; None: it would."""
        return lesion_state.cached_state(scan, self._policy, self.settings.budget, prompts)

    def save_state(self, scan: EncodedScan, state: LesionState, path: Path) -> None:
        """Write a state to a file, for a cache on disk.

        Args:
            scan: the scan of the state.
            state: with an answer.
            path: the file, named by the scan's content: the file itself tells apart grids and models, but no voxels.

        Raises:
            OutputError: the file cannot be written.
        """
        state_file.save_state(state, path, self._content(scan, state.prompts), self.runtime)

    def load_state(self, scan: EncodedScan, prompts: Sequence[Prompt], path: Path) -> bool:
        """Put the state after some prompts, from its file, into the cache; whether it was there, whole and the same."""
        state = state_file.load_state(path, scan, prompts, self._content(scan, prompts))
        if state is not None:
            scan.cache.put(self._keys(scan, prompts)[-1], state, state.nbytes)
        return state is not None

    def _keys(self, scan: EncodedScan, prompts: Sequence[Prompt]) -> list[Key]:
        return lesion_state.state_keys(scan, self._policy, self.settings.budget, prompts, None)

    def _content(self, scan: EncodedScan, prompts: Sequence[Prompt]) -> bytes:
        return self._keys(scan, prompts)[-1].content


def started(
    model: InferenceSettings | Bundle | Runtime | str | Path, settings: InferenceSettings | None
) -> tuple[InferenceSettings, Runtime]:
    """Settings, and their model at work.

    Raises:
        ModelError: see `bundle.load`.
        DeviceError: no such device here.
        SettingsError: settings twice.
    """
    if isinstance(model, InferenceSettings):
        if settings is not None:
            raise SettingsError("settings were given twice; give one InferenceSettings, or a model and its settings")
        return model, model.start()
    settings = settings or InferenceSettings()
    if isinstance(model, Runtime):  # its precision is what masks depend on
        return replace(settings, precision=model.precision), model
    if isinstance(model, (str, Path)):
        settings = replace(settings, model=str(model))
    return settings, settings.start(model)
