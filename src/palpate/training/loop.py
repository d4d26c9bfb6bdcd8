"""The training loop: counted randomness, averaged weights, checkpoints that a kill cannot spoil."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from ..cohort.sampling import CropSampler
from ..model import Network, is_unused
from ..simulation import counted_rng
from .losses import dice_cross_entropy


class Recipe(BaseModel):
    """How a network is trained from nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    steps: int = Field(gt=0, description="optimiser steps")
    batch: int = Field(4, gt=0, description="crops a step")
    learning_rate: float = Field(1e-3, gt=0, description="AdamW's, at its peak")
    final_share: float = Field(0.01, ge=0, le=1, description="share of the peak that is left at the end (cosine)")
    warmup: int = Field(50, ge=0, description="steps over which the rate rises from nothing")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's")
    gradient_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    averaging: float = Field(0.995, ge=0, lt=1, description="decay of the averaged weights, which are what is kept")
    most_clicks: int = Field(3, gt=0, description="clicks of a step: one in half of them, else 2 to this many")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="arithmetic of the forward pass")
    seed: int = 0


def learning_rate(recipe: Recipe, step: int) -> float:
    """The rate at a step (counted from 0): linear warm-up, then half a cosine down to `final_share`."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    progress = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.learning_rate * (
        recipe.final_share + (1 - recipe.final_share) * (1 + math.cos(math.pi * progress)) / 2
    )


def clicks_of_step(recipe: Recipe, step: int) -> int:
    """How many clicks each crop of a step gets."""
    rng = counted_rng(recipe.seed, "clicks of a step", step)
    return 1 if recipe.most_clicks == 1 or rng.random() < 0.5 else int(rng.integers(2, recipe.most_clicks + 1))


def train(
    network: Network,
    sampler: CropSampler,
    recipe: Recipe,
    report: Callable[[int, float, Network, float], None],
    device: str = "cpu",
) -> Network:
    """Train all of a network, and return the averaged one.

    Args:
        network: trained in place.
        sampler: where crops come from.
        recipe: how.
        report: called after every step with its number (from 1), loss, the averaged network, and seconds so far.
        device: where to compute.
    """
    # Channels last: the narrow 3-D convolutions and their gradients are faster so, on CPUs and GPUs.
    network.to(device).train()
    network.decoder.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    averaged = copy.deepcopy(network).eval()
    used = [parameter for name, parameter in network.named_parameters() if not is_unused(name)]
    optimiser = torch.optim.AdamW(used, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    began = time.monotonic()
    for step in range(recipe.steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, step)
        example = sampler.batch(step * recipe.batch, recipe.batch, clicks_of_step(recipe, step))
        with torch.autocast(device, dtype=torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            logits = network(example.image.to(device), example.clicks.to(device))
        loss = dice_cross_entropy(logits, example.truth.to(device))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(used, recipe.gradient_norm)
        optimiser.step()
        _average(averaged, network, min(recipe.averaging, (1 + step) / (10 + step)))
        report(step + 1, loss.item(), averaged, time.monotonic() - began)
    return averaged


@torch.no_grad()
def _average(averaged: Network, network: Network, decay: float) -> None:
    for kept, new in zip(averaged.parameters(), network.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)
