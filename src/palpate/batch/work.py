"""One job after the other, in one process, with one model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ..bundle import Bundle
from ..errors import ModelError
from ..files import all_or_none
from ..formats import check_output, read, written_files
from ..inference import InferenceSettings
from ..lesions import Postprocessing
from ..predictor import Prediction, Predictor
from ..volume import Volume
from .jobs import Job, ScanSource
from .pictures import JobPictures
from .results import ResultRow


@dataclass(frozen=True)
class WorkerStart:
    """What a worker process needs to begin; calling it loads the model there.

    Attributes:
        settings: how to infer.
        sha256: of all that the model's masks come from (`Bundle.answers_sha256`), when the batch began.
        pictures: where a picture of each mask goes, if anywhere.
        postprocessing: what becomes of a mask before it is saved.
    """

    settings: InferenceSettings
    sha256: str
    pictures: JobPictures | None = None
    postprocessing: Postprocessing = field(default_factory=Postprocessing)

    def __call__(self) -> Callable[[Job], JobResult]:
        """Load the model, and return what does a job with it.

        Raises:
            ModelError: see `bundle.load`; or another model lies there by now.
            DeviceError: no such device here.
        """
        bundle = self.settings.load()
        if bundle.answers_sha256() != self.sha256:
            raise ModelError(f"{self.settings.model}: was changed while the batch ran; run the same command again")
        return self.with_bundle(bundle)

    def with_bundle(self, bundle: Bundle) -> Callable[[Job], JobResult]:
        """What does a job with a model that is in memory.

        Raises:
            DeviceError: no such device here.
        """
        return Segmenter(Predictor(bundle, self.settings), self.pictures, self.postprocessing).segment


@dataclass(frozen=True)
class JobResult:
    """What became of a job: a row without the job's own columns (`ResultRow`), and why there is no picture, if so."""

    seconds: float | None = None
    error: str = ""
    message: str = ""
    volume_ml: float | None = None
    voxels: int | None = None
    extent_mm: str = ""
    quality: float | None = None
    warnings: str = ""
    no_picture: str = ""

    @classmethod
    def of(cls, prediction: Prediction) -> JobResult:
        """The measurements of a mask."""
        mask, iou = prediction.mask, prediction.predicted_iou
        return cls(
            volume_ml=round(mask.volume_ml, 4),
            voxels=mask.voxels,
            extent_mm=" x ".join(f"{edge:.2f}" for edge in mask.extent_mm),
            quality=None if iou is None else round(iou, 3),
        )

    def row(self, job: Job, key: str, output: str) -> ResultRow:
        """The row of the results.

        Args:
            job: the job.
            key: its key.
            output: its output, as the results name it.
        """
        facts = {name: value for name, value in vars(self).items() if name != "no_picture"}
        return ResultRow(
            key=key,
            scan=job.listed(job.source.scan),
            output=output,
            status="failed" if self.error else "done",
            **facts,
        )


class Segmenter:
    """Does jobs; consecutive ones of one scan read it once and share what the network computed of it.

    Args:
        predictor: the model.
        pictures: where a picture of each mask goes, if anywhere.
        postprocessing: what becomes of a mask before it is saved; None: nothing.
    """

    def __init__(
        self, predictor: Predictor, pictures: JobPictures | None = None, postprocessing: Postprocessing | None = None
    ):
        self.predictor, self.pictures = predictor, pictures
        self._postprocessing = postprocessing or Postprocessing()
        self._source: ScanSource | None = None
        self._volume: Volume | None = None

    def segment(self, job: Job) -> JobResult:
        """Segment and save. Whatever goes wrong is in the result: one strange file must not end a night's work."""
        began = time.perf_counter()
        notes: list[str] = []
        try:
            result = self._segmented(job, notes)
        except Exception as error:
            words = " ".join(str(error).split()) or "no more is known"
            result = JobResult(error=type(error).__name__, message=words)
        warnings = "; ".join(" ".join(note.split()) for note in notes)
        return replace(result, seconds=round(time.perf_counter() - began, 3), warnings=warnings)

    def _segmented(self, job: Job, notes: list[str]) -> JobResult:
        """Segment, save, draw, and note what the readers of the files doubt, and why the mask may be wrong."""
        volume = self._read(job.source)
        notes += volume.notes
        for path in job.outputs:
            check_output(path, volume)
        prompts = job.read_prompts(volume.grid)
        notes += [note for prompt in prompts for note in prompt.notes]
        predicted = self.predictor.predict(prompts)
        mask = self._postprocessing.apply(predicted.mask, predicted.probability, prompts)
        prediction = predicted.with_mask(mask, prompts, self._postprocessing.note(predicted.mask, mask))
        notes += [warning.message for warning in prediction.warnings]
        with all_or_none(*written_files(*job.outputs)):
            if job.probability is not None:
                prediction.probability.save(job.probability)
            prediction.mask.save(job.output)
        result = JobResult.of(prediction)
        if self.pictures is None:
            return result
        return replace(result, no_picture=self.pictures.draw(job, volume, prediction.mask, prompts))

    def _read(self, source: ScanSource) -> Volume:
        if self._volume is None or self._source != source:
            self._source, self._volume = source, None
            volume = read(source.scan, series=source.series, warn=False)
            self.predictor.set_volume(volume)
            self._volume = volume
        return self._volume
