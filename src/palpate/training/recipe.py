"""The recipe of a training: numbers only, no data."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

LENGTHS = frozenset({"epochs", "steps"})  # how long a training is: a recipe has one of the two


class Recipe(BaseModel):
    """Optimiser, schedule, arithmetic and validation of a training.

    The defaults are the paper's (docs/design/network.md, section 4), with activations recomputed to save memory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    epochs: int | None = Field(
        None,
        gt=0,
        description="length of the training, in epochs: one crop of every scan each (or, in its place, steps: "
        "optimiser steps)",
    )
    steps: int | None = Field(
        None,
        gt=0,
        description="length of the training, in optimiser steps (or, in its place, epochs: one crop of every scan)",
    )
    batch: int = Field(1, gt=0, description="crops of a step, in each process")
    learning_rate: float = Field(4e-4, gt=0, description="AdamW's learning rate at its peak")
    schedule: Literal["linear", "cosine"] = Field("linear", description="how the learning rate falls: linear or cosine")
    final_lr_fraction: float = Field(
        0.01, ge=0, le=1, description="learning rate of the last step, as a fraction of the peak"
    )
    warmup: int = Field(0, ge=0, description="steps over which the learning rate rises from 0")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay; 0: none")
    gradient_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of the weights' exponential moving average (0 to 1), which is validated and saved; 0: none",
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "bfloat16", description="arithmetic of the forward pass: float32, bfloat16 or float16; weights stay in float32"
    )
    checkpointing: bool = Field(
        True,
        description="true: recompute blocks in the backward pass, for a third more time and a fraction of the memory",
    )
    weights_dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="data type of the weights in the model's file: float32, or bfloat16, which halves its size and "
        "rounds them",
    )
    num_validations: int = Field(50, gt=0, description="validations in the whole training")
    patience: int | None = Field(
        20, gt=0, description="validations without a better Dice after which training ends; null: never"
    )
    seed: int = Field(0, ge=0, description="seed of fresh weights, crops and clicks")

    @model_validator(mode="before")
    @classmethod
    def _one_length(cls, given: Any) -> Any:  # noqa: ANN401 - whatever a file holds
        """The paper's 500 epochs where nothing says how long."""
        if not isinstance(given, dict):
            return given
        named = [name for name in sorted(LENGTHS) if given.get(name) is not None]
        if len(named) > 1:
            raise ValueError("epochs and steps both say how long; leave one of them")
        return given if named else {**given, "epochs": 500}

    def total(self, epoch: int, processes: int = 1) -> int:
        """Optimiser steps in all, with `epoch` crops an epoch."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None, "one of the two is set"
        return max(1, math.ceil(self.epochs * epoch / (self.batch * processes)))

    def rate(self, step: int, total: int) -> float:
        """The learning rate of a step, counted from 0 to `total` - 1."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, total - self.warmup)
        left = (1 + math.cos(math.pi * progress)) / 2 if self.schedule == "cosine" else 1 - progress
        return self.learning_rate * (self.final_lr_fraction + (1 - self.final_lr_fraction) * left)


def from_nothing(steps: int = 3000) -> Recipe:
    """The recipe of small networks without a base, as `palpate-tiny` was trained."""
    return Recipe(
        steps=steps,
        batch=4,
        learning_rate=1e-3,
        schedule="cosine",
        warmup=50,
        weight_decay=0.01,
        ema_decay=0.995,
        checkpointing=False,
        num_validations=20,
    )
