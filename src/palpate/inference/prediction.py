"""The answer to prompts: a mask, the probability behind it, how sure the model is, and what makes it doubtful."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from torch import Tensor

from ..errors import SettingsError
from ..frame import Frame
from ..masks import Mask, Probability
from ..prompts import Prompt
from ..volume import Source
from .blending import NEGLIGIBLE, resample_to_scan, without
from .bounds import bounded
from .plausibility import MaskWarning, dice_of_iou, mask_warnings
from .views import View


@dataclass(frozen=True, eq=False)
class Alternative:
    """A mask that another view gave, and that was not taken; it is put on the scan's grid when it is asked for.

    Its boundary is not refined.

    Attributes:
        view: the crop, and how wide it is.
        in_view: the foreground's probability in it, `[D, H, W]`.
        predicted_iou: the intersection over union with the truth that the model predicts of the mask; None: none.
        prompts: those that it is an answer to; their boxes bound it.
        source: the scan's header, which a saved file repeats.
        forbidden: where the lesion cannot be; None: it can be anywhere.
    """

    view: View
    in_view: Tensor
    predicted_iou: float | None
    prompts: tuple[Prompt, ...]
    source: Source | None = None
    forbidden: Mask | None = None

    def on_scan(self) -> tuple[Probability, float]:
        """The model's probability, on the scan's grid, and the share of its mask that boxes cut off, 0 to 1.

        It is computed at each call: an answer that is cached must not grow.
        """
        found, cut = bounded(resample_to_scan(self.view, self.in_view, self.source), self.prompts)
        return (found if self.forbidden is None else without(found, self.forbidden)), cut

    @property
    def probability(self) -> Probability:
        """The model's probability, on the scan's grid; computed each time."""
        return self.on_scan()[0]

    @property
    def mask(self) -> Mask:
        """The lesion, on the scan's grid; computed each time."""
        return self.probability.threshold()

    @property
    def expected_dice(self) -> float | None:
        """The Dice with the truth that `predicted_iou` amounts to, 0 to 1; None: the model predicts none."""
        return None if self.predicted_iou is None else dice_of_iou(self.predicted_iou)

    @cached_property
    def volume_ml(self) -> float:
        """The mask's volume, mL."""
        return self.mask.volume_ml

    @property
    def nbytes(self) -> int:
        """What its arrays take."""
        return self.in_view.numel() * self.in_view.element_size()


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer to a list of prompts.

    Attributes:
        mask: the lesion, on the scan's grid.
        probability: the model's probability, on the scan's grid, before the threshold of 0.5.
        view: the crop that holds all of the lesion, and how wide it is.
        predicted_iou: the intersection over union with the truth that the model predicts of the mask, 0 to 1; None: it
            predicts none.
        crops: how many crops were predicted for the last prompt.
        temperature: the probability's logit is divided by it before certainty is read (`Calibration`).
        cut: of the mask that the model made when the last box came, the share of voxels that boxes cut off, 0 to 1.
        ignored: the places in the list, from 0, of background prompts that were out of the mask's reach (`reach`).
        warnings: why the mask may be wrong, and which prompts changed nothing.
        alternatives: masks of other views that were not taken, the likeliest first; of a first prompt, a box or an
            initial mask, where views disagreed.
        corrected: whether the last prompt corrected a mask; such an answer has no alternatives.
    """

    mask: Mask
    probability: Probability
    view: View
    predicted_iou: float | None
    crops: int
    temperature: float = 1.0
    cut: float = 0.0
    ignored: tuple[int, ...] = ()
    warnings: tuple[MaskWarning, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    corrected: bool = False

    def with_alternative(self, number: int) -> Prediction:
        """The answer with one of its alternatives in place of its mask.

        Args:
            number: which one, from 1.

        Raises:
            SettingsError: there is no such alternative.
        """
        if not 1 <= number <= len(self.alternatives):
            raise SettingsError(f"no alternative {number}: {self._alternatives_there}")
        taken = self.alternatives[number - 1]
        probability, cut = taken.on_scan()
        mask = probability.threshold()
        return replace(
            self, mask=mask, probability=probability, view=taken.view, predicted_iou=taken.predicted_iou, cut=cut,
            warnings=mask_warnings(taken.prompts, mask, taken.predicted_iou, cut),
        )  # fmt: skip

    @property
    def _alternatives_there(self) -> str:
        """How many alternatives there are, or why there is none."""
        if self.alternatives:
            return f"there are {len(self.alternatives)}"
        if self.corrected:
            return (
                "a correction has none. Take it with the first prompt alone (`--alternative N`), "
                "then correct the mask that this saves (`--initial-mask`)"
            )
        return "the views agree, and there is none"

    def with_mask(self, mask: Mask, prompts: Sequence[Prompt], emptied: str | None = None) -> Prediction:
        """The answer with another mask, such as the one that is saved, and with the warnings of that.

        Args:
            mask: on the scan's grid.
            prompts: those that the answer is to.
            emptied: why the other mask is empty, where the model's is not.
        """
        if mask is self.mask:
            return self
        warnings = mask_warnings(prompts, mask, self.predicted_iou, self.cut, self.ignored, emptied)
        return replace(self, mask=mask, warnings=warnings)

    @property
    def expected_dice(self) -> float | None:
        """The Dice with the truth that `predicted_iou` amounts to, 0 to 1; None: the model predicts none."""
        return None if self.predicted_iou is None else dice_of_iou(self.predicted_iou)

    @property
    def uncertainty(self) -> Probability:
        """How unsure each voxel is, on the scan's grid: entropy of its calibrated probability, bits (0 sure, 1 not)."""
        from scipy.special import entr, expit, logit

        calibrated = expit(logit(self.probability.array.clip(1e-6, 1 - 1e-6)) / self.temperature)
        bits = ((entr(calibrated) + entr(1 - calibrated)) / np.log(2)).astype(np.float32)
        # A patch ends where the probability is 0; what is as little inside it must not show where that was.
        bits[self.probability.array < NEGLIGIBLE] = 0
        return replace(self.probability, array=bits)

    @property
    def frame(self) -> Frame:
        """The crop that holds all of the lesion."""
        return self.view.frame

    @property
    def nbytes(self) -> int:
        """What its arrays take."""
        return self.probability.array.nbytes + self.mask.array.nbytes + sum(each.nbytes for each in self.alternatives)

    def __repr__(self) -> str:
        iou = "" if self.predicted_iou is None else f", predicted IoU {self.predicted_iou:.2f}"
        return f"Prediction({self.mask.volume_ml:.2f} mL{iou}, {self.crops} crops)"
