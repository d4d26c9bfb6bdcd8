"""Where a model came from, and how far its certainty can be trusted."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..figures import Figures


class Provenance(BaseModel):
    """Where a model came from: for `palpate info`, and for whoever is responsible for a result."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(description="what the model calls itself")
    origin: str = Field(description="what it was made from: an imported file's kind, or the training command")
    imported_from: Literal["sam", "dinov2", "release"] | None = Field(
        None,
        description="whose checkpoint it is, untrained since its import; SAM's and DINOv2's train the encoder alone",
    )
    licence: str = Field("", description="licence of the weights")
    data: tuple[str, ...] = Field((), description="data it was trained on, each with its licence and source")
    figures: Figures = Field((), description="held-out figures")
    recipe: dict[str, Any] = Field({}, description="settings of the training that repeat it")
    changes: tuple[str, ...] = Field((), description="what was changed since that model was made, a sentence each")
    notice: str = Field("", description="what a user must know before use")

    @property
    def is_bare_encoder(self) -> bool:
        """Whether only the image transformer has learned anything, so that all else may be drawn anew."""
        return self.imported_from in ("sam", "dinov2")


class Calibration(BaseModel):
    """How a network's probabilities and predicted IoU are corrected, so that they hold on patients it has not seen.

    Fitted on validation patients when a training ends; without a fit nothing is corrected. No mask depends on it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    temperature: float = Field(1.0, gt=0, description="divides the logit of a voxel's probability (Guo et al. 2017)")
    quality_slope: float = Field(1.0, ge=0, description="multiplies the logit of the expected IoU (Platt 1999)")
    quality_offset: float = Field(0.0, description="is added to it")
    measured: dict[str, Any] = Field({}, description="on which scans, and how far off it was before and after")
