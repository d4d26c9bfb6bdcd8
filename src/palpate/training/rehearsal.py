"""What a training will cost, measured before it begins."""

from __future__ import annotations

import time
from typing import Any

from ..errors import SettingsError
from .run import Run, peak_memory_gb

LONG = 20.0  # seconds: a first step longer than this is not repeated for a better estimate


def rehearse(run: Run) -> dict[str, Any]:
    """Take one or two steps and measure one validation scan; what they cost, and what all that is left will.

    The network is changed by it: a run that was rehearsed is not trained.

    Raises:
        DeviceError: not enough memory for a single crop.
        SettingsError: a run that has ended.
    """
    trainer, recipe = run.trainer, run.settings.preset.recipe
    if run.ended:
        raise SettingsError(
            f"the training in {run.folder} has ended at step {trainer.step}; nothing is left to rehearse"
        )
    left, validations = trainer.total - trainer.step, sum(1 for step in run.measured_at if step > trainer.step)
    steps = trainer.steps()
    began = time.monotonic()
    next(steps)
    first = step = time.monotonic() - began
    if first < LONG and left > 1:  # the first step also sets things up
        began = time.monotonic()
        next(steps)
        step = time.monotonic() - began
    memory = peak_memory_gb(trainer.device)
    validation = run.part("validation")
    began = time.monotonic()
    run.rehearse(validation[0])
    scan = time.monotonic() - began
    measured = validations * scan * len(validation) / trainer.accelerator.num_processes
    parameters = sum(p.numel() for p in trainer.tuned.values())
    return {
        "scans": {part: len(run.part(part)) for part in ("train", "validation", "test")},
        "tuned_parameters": parameters,
        "parameters": sum(p.numel() for p in trainer.network.parameters()),
        "steps": left,
        "validations": validations,
        "epochs": round(left * recipe.batch * trainer.accelerator.num_processes / trainer.sampler.epoch, 1),
        "micro_batch": trainer.micro_batch,
        "first_step_seconds": round(first, 2),
        "step_seconds": round(step, 2),
        "validation_scan_seconds": round(scan, 2),
        "expected_hours": round((left * step + measured) / 3600, 2),
        "peak_memory_gb": round(memory, 2),
        "model_file_mb": round(parameters * (4 if recipe.weights_dtype == "float32" else 2) / 1e6, 1),
    }
