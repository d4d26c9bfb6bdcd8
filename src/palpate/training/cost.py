"""An estimate of a training's cost, by a dry run of a few steps."""

from __future__ import annotations

import time
from typing import Any

from ..cohort import SUBSETS
from ..errors import SettingsError
from .outcome import peak_memory_gb
from .run import Run

LONG = 20.0  # seconds: a first step longer than this is not repeated for a better estimate


def estimate_cost(run: Run) -> dict[str, Any]:
    """Take one or two steps and validate one scan; their cost, and that of all steps that are left.

    It changes the network: this run is not to be trained afterwards.

    Raises:
        DeviceError: not enough memory for a single crop.
        SettingsError: a run that has ended.
    """
    trainer, recipe = run.trainer, run.settings.preset.recipe
    if run.ended:
        raise SettingsError(
            f"the training in {run.folder} has ended at step {trainer.step}; there is no cost to estimate"
        )
    left, validations = trainer.total - trainer.step, sum(1 for step in run.validation_steps if step > trainer.step)
    steps = trainer.steps()
    began = time.monotonic()
    next(steps)
    first = step = time.monotonic() - began
    if first < LONG and left > 1:  # the first step also sets things up
        began = time.monotonic()
        next(steps)
        step = time.monotonic() - began
    memory = peak_memory_gb(trainer.device)
    validation = run.scans("validation")
    began = time.monotonic()
    run.validate_one(validation[0])
    scan = time.monotonic() - began
    validating = validations * scan * len(validation) / trainer.accelerator.num_processes
    parameters = sum(p.numel() for p in trainer.tuned.values())
    return {
        "scans": {subset: len(run.scans(subset)) for subset in SUBSETS},
        "tuned_parameters": parameters,
        "parameters": sum(p.numel() for p in trainer.network.parameters()),
        "steps": left,
        "validations": validations,
        "epochs": round(left * recipe.batch * trainer.accelerator.num_processes / trainer.sampler.epoch, 1),
        "micro_batch": trainer.micro_batch,
        "first_step_seconds": round(first, 2),
        "step_seconds": round(step, 2),
        "validation_scan_seconds": round(scan, 2),
        "expected_hours": round((left * step + validating) / 3600, 2),
        "peak_memory_gb": round(memory, 2),
        "model_file_mb": round(parameters * (4 if recipe.weights_dtype == "float32" else 2) / 1e6, 1),
    }
