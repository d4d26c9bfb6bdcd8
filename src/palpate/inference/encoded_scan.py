"""One scan on a runtime: each of its crops is encoded once, and decoded for every prompt."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from functools import cached_property

from torch import Tensor

from ..frame import Frame, Padding, Preprocessing, find_padding
from ..masks import Patch, Probability
from ..prompts import Prompt
from ..volume import Volume
from .cache import CACHE, ByteCache, Key
from .crop_prompts import CropPrompts
from .rules import RULES
from .runtime import EncodedCrop, Runtime
from .views import View

_numbers = itertools.count()


class EncodedScan:
    """A scan and the features of its crops, which lie in the process's cache.

    Several may live at once on one runtime, and several threads may use one.

    Args:
        runtime: the model at work.
        volume: the scan; its voxels must not change any more.
        cache: where features and states of lesions lie.
        rules: version of the rules by which masks are made (`InferenceSettings.rules`).

    Attributes:
        runtime: as given.
        volume: as given.
        cache: as given.
        rules: as given.
        number: which one of this process; part of every key in the cache.
    """

    def __init__(self, runtime: Runtime, volume: Volume, cache: ByteCache = CACHE, rules: int = RULES):
        self.runtime, self.volume, self.cache, self.rules = runtime, volume, cache, rules
        self.number = next(_numbers)
        weakref.finalize(self, cache.release, self.number)

    @property
    def preprocessing(self) -> Preprocessing:
        """The model's."""
        return self.runtime.preprocessing

    @cached_property
    def padding(self) -> Padding | None:
        """Where the scan is padded, which is outside it; None: nowhere, or the rules know of no padding."""
        return find_padding(self.volume.array, self.volume.grid) if self.rules > 1 else None

    def features(self, frame: Frame, progress: Callable[[float], None] | None = None) -> EncodedCrop:
        """A crop's features; encoded now, unless they are cached."""
        key = self._key(frame)
        found = self.cache.get(key)
        if found is None:
            normalisation = self.preprocessing.normalisation
            image = frame.image(self.volume.array, normalisation, self.runtime.device, self.padding)
            found = self.runtime.encode(image, progress)
            self.cache.put(key, found, found.nbytes)
        assert isinstance(found, EncodedCrop)
        return found

    def cache_features(self, frame: Frame, crop: EncodedCrop) -> None:
        """Cache a crop's features again, as those used last: other crops may have taken their place."""
        if self._key(frame) not in self.cache:
            self.cache.put(self._key(frame), crop, crop.nbytes)

    def predict_crop(
        self,
        view: View,
        prompts: Sequence[Prompt],
        initial: Patch | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Tensor:
        """The foreground's probability in a crop, `[D, H, W]`.

        Without an initial mask a single prompt says little: a model that asks for it (`Preprocessing.mirror`) then
        predicts the crop and its mirror image, and the two are averaged.

        Args:
            view: the crop.
            prompts: all of the lesion's so far.
            initial: the mask so far or its probability, on the scan's grid.
            progress: called with the share that is done, 0 to 1.
        """
        if initial is not None or not self.preprocessing.mirror:
            return self._predict(view, prompts, initial, progress)
        first, second = (None, None) if progress is None else _halves(progress)
        probability = self._predict(view, prompts, None, first)
        mirrored = self._predict(View(view.frame.mirrored(), view.scale), prompts, None, second)
        return (probability + mirrored.flip(-1)) / 2

    def _predict(
        self, view: View, prompts: Sequence[Prompt], initial: Patch | None, progress: Callable[[float], None] | None
    ) -> Tensor:
        features = self.features(view.frame, progress)
        return self.runtime.decode(features, CropPrompts(view, prompts, initial))

    def predicted_iou(self, view: View, probability: Tensor) -> float | None:
        """The intersection over union that the model predicts of a view's mask, 0 to 1; None: it predicts none."""
        if not self.runtime.capabilities.predicts_iou:
            return None
        return self.runtime.predicted_iou(self.features(view.frame), probability)

    def crop_probability(self, probability: Probability, view: View) -> Tensor:
        """A probability of the scan's grid in a view's crop, `[D, H, W]`; 0 outside the scan."""
        values, inside = view.frame.extract(probability, self.runtime.device)
        return values * inside

    def _key(self, frame: Frame) -> Key:
        return Key(self.number, "features", frame.to_scan.tobytes())


def _halves(progress: Callable[[float], None]) -> tuple[Callable[[float], None], Callable[[float], None]]:
    """Progress of the first and of the second half of a piece of work."""
    return (lambda done: progress(done / 2)), (lambda done: progress(0.5 + done / 2))
