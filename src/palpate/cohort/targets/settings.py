"""How often each kind of target is drawn."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ...randomness import counted_rng

TargetKind = Literal["contours", "labels", "supervoxels", "thresholds", "synthetic", "transplants"]
CONTOURED: tuple[TargetKind, ...] = ("contours", "labels")  # these are drawn from a scan's label
MADE: tuple[TargetKind, ...] = ("supervoxels", "thresholds", "synthetic", "transplants")  # these need none


class TargetSampling(BaseModel):
    """How often a training crop's target is of each kind, as weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    contours: float = Field(1.0, ge=0, description="weight of the cohort's contours: all of target_labels together")
    labels: float = Field(
        0.0,
        ge=0,
        description="weight of one label of the scan by itself, as one organ of several, at times with one that it "
        "touches; labels outside target_labels too",
    )
    supervoxels: float = Field(
        0.0, ge=0, description="weight of supervoxels of any size: of SLIC, a watershed, or a merged graph of regions"
    )
    thresholds: float = Field(
        0.0, ge=0, description="weight of connected pieces of a threshold that changes little where it is moved"
    )
    synthetic: float = Field(
        0.0, ge=0, description="weight of synthetic shapes, painted into the scan with any contrast, texture and rim"
    )
    transplants: float = Field(
        0.0, ge=0, description="weight of contoured targets of other scans, pasted into this one at another size"
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not sum(self.weight(kind) for kind in (*CONTOURED, *MADE)):
            raise ValueError(f"one kind of target, at least, needs a weight above 0: {', '.join((*CONTOURED, *MADE))}")
        return self

    def weight(self, kind: TargetKind) -> float:
        """The weight of a kind."""
        weight: float = getattr(self, kind)
        return weight

    @property
    def contours_alone(self) -> bool:
        """Whether every target is a cohort's contour."""
        return not any(self.weight(kind) for kind in ("labels", *MADE))

    def possible(self, contoured: bool, labelled: bool) -> list[TargetKind]:
        """The kinds that a scan can have and that have a weight; none: training cannot use the scan.

        Args:
            contoured: whether it has any of the cohort's target.
            labelled: whether it has any label at all; where neither, the target must be made.
        """
        there = ("contours",) * contoured + ("labels",) * labelled + MADE
        return [kind for kind in (*CONTOURED, *MADE) if self.weight(kind) and kind in there]

    def kind(self, seed: int, number: int, contoured: bool, labelled: bool) -> TargetKind:
        """The kind of example `number`'s target, of those that are possible for its scan."""
        kinds = self.possible(contoured, labelled)
        weights = np.array([self.weight(kind) for kind in kinds])
        rng = counted_rng(seed, "kind of a target", number)
        return kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
