"""What a training reports: after each step, and at its end."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass
class TrainingProgress:
    """The state of a training after a step.

    Attributes:
        step: steps done.
        total: steps in all.
        loss: of this step.
        rate: learning rate of this step.
        seconds: since this process began to train.
        memory_gb: peak so far.
        dice: of the validation after this step; None where there was none.
    """

    step: int
    total: int
    loss: float
    rate: float
    seconds: float
    memory_gb: float
    dice: float | None = None


@dataclass
class TrainingOutcome:
    """How a training ended.

    Attributes:
        why: "finished", "plateau", "hours" or "stopped".
        step: steps done.
        best: validation of the best model, or None before the first.
        test: figure of the best model on test patients, if they were evaluated.
        test_uses: how often any of these test patients have been evaluated, this time included.
        model: the best model's file, or None before the first validation.
    """

    why: str
    step: int
    best: dict[str, Any] | None = None
    test: dict[str, Any] | None = None
    test_uses: int = 0
    model: Path | None = None


def peak_memory_gb(device: torch.device) -> float:
    """The most memory used so far, GB: a GPU's by tensors, else the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        usage: Any = psutil.Process().memory_info()
        return float(usage.peak_wset) / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9
