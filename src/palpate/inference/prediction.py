"""The answer to prompts: a mask, the probability behind it, how sure the model is, and what makes it doubtful."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..frame import Frame
from ..masks import Mask, Probability
from ..prompts import Prompt
from .blending import NEGLIGIBLE
from .plausibility import MaskWarning, dice_of_iou, mask_warnings
from .views import View


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
        return self.probability.array.nbytes + self.mask.array.nbytes

    def __repr__(self) -> str:
        iou = "" if self.predicted_iou is None else f", predicted IoU {self.predicted_iou:.2f}"
        return f"Prediction({self.mask.volume_ml:.2f} mL{iou}, {self.crops} crops)"
