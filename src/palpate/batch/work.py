"""One job after the other, in one process, with one model."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..bundle import Bundle, load
from ..devices import Precision
from ..errors import ModelError, PalpateWarning
from ..files import all_or_none
from ..formats import check_output, read, written_files
from ..inference import BUDGET, InferenceSettings
from ..predictor import Prediction, Predictor
from ..volume import Volume
from .jobs import Job, Source
from .results import Row


@dataclass(frozen=True)
class Engine:
    """What every worker segments with.

    Attributes:
        model: a bundled model's name, or a file.
        base: for an adapter, the model that holds its frozen tensors.
        device: where the network runs.
        precision: its arithmetic.
        sha256: of all that the model's answers come from (`Bundle.answers_sha256`), when the batch began.
        zoom: whether it looks wider and closer (`Predictor`).
        budget: most crops of a refinement.
    """

    model: str | Path
    base: str | Path | None
    device: str
    precision: Precision
    sha256: str
    zoom: bool = True
    budget: int = BUDGET

    @property
    def arithmetic(self) -> str:
        """What, beside a scan and its prompts, a result depends on."""
        return f"{self.sha256} {self.precision} {self.budget if self.zoom else 'no zoom'}"

    def start(self, bundle: Bundle | None = None) -> Segmenter:
        """A segmenter with the model.

        Args:
            bundle: the model, if it is loaded already.

        Raises:
            ModelError: see `bundle.load`; or another model lies there by now.
            DeviceError: no such device or precision here.
        """
        if bundle is None:
            bundle = load(self.model, base=self.base)
            if bundle.answers_sha256() != self.sha256:
                raise ModelError(f"{self.model}: was changed while the batch ran; run the same command again")
        settings = InferenceSettings(device=self.device, precision=self.precision, zoom=self.zoom, budget=self.budget)
        return Segmenter(Predictor(bundle, settings))


@dataclass(frozen=True)
class Finding:
    """What a job came to: a row without its job."""

    seconds: float | None = None
    error: str = ""
    message: str = ""
    volume_ml: float | None = None
    voxels: int | None = None
    extent_mm: str = ""
    quality: float | None = None
    warnings: str = ""

    def row(self, job: Job, key: str, output: str) -> Row:
        """The row of the results, in which the output is named as they name it."""
        return Row(
            key=key,
            scan=job.told(job.source.scan),
            output=output,
            status="failed" if self.error else "done",
            **vars(self),
        )


class Segmenter:
    """Does jobs; consecutive ones of one scan read it once and share what the network made of it.

    Args:
        predictor: the model.
    """

    def __init__(self, predictor: Predictor):
        self.predictor = predictor
        self._source: Source | None = None
        self._volume: Volume | None = None
        self._odd: list[str] = []  # about the scan

    def do(self, job: Job) -> Finding:
        """Segment and save; whatever goes wrong is told in what comes back."""
        began = time.perf_counter()
        of_prompts: list[str] = []
        with _noting() as odd:
            try:
                prediction = self._segmented(job, of_prompts)
            except Exception as error:  # one strange file must not end a night's work
                words = " ".join(str(error).split()) or "no more is known"
                finding = Finding(error=type(error).__name__, message=words)
            else:
                mask, quality = prediction.mask, prediction.predicted_iou
                finding = Finding(
                    volume_ml=round(mask.volume_ml, 4),
                    voxels=mask.voxels,
                    extent_mm=" x ".join(f"{edge:.2f}" for edge in mask.extent_mm),
                    quality=None if quality is None else round(quality, 3),
                )
        return replace(
            finding, seconds=round(time.perf_counter() - began, 3), warnings="; ".join([*self._odd, *of_prompts, *odd])
        )

    def _segmented(self, job: Job, notes: list[str]) -> Prediction:
        volume = self._read(job.source)
        for path in job.outputs:
            check_output(path, volume)
        prompts = job.pointed(volume.grid)
        notes += [note for prompt in prompts for note in prompt.notes]
        prediction = self.predictor.predict(prompts)
        with all_or_none(*written_files(*job.outputs)):
            if job.probability is not None:
                prediction.probability.save(job.probability)
            prediction.mask.save(job.output)
        return prediction

    def _read(self, source: Source) -> Volume:
        if self._volume is None or self._source != source:
            self._source, self._volume, self._odd = source, None, []
            with _noting() as self._odd:
                self._volume = read(source.scan, series=source.series)
            self.predictor.set_volume(self._volume)
        return self._volume


@contextmanager
def _noting() -> Iterator[list[str]]:
    """A list that, in the end, holds our warnings; strangers' are passed on."""
    noted: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PalpateWarning)
        yield noted
    for warning in caught:
        if issubclass(warning.category, PalpateWarning):
            noted.append(" ".join(str(warning.message).split()))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
