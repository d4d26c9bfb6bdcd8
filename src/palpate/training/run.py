"""A training in its folder: steps, validations, states, and the model at the end.

A run is a folder::

    run/
        settings.json        preset, split, hashes of the cohorts and of the model that it starts from
        state-STEP/          what resuming needs (`state`)
        metrics.jsonl        a row at regular steps, and one for each validation
        tensorboard/         the same, for TensorBoard
        curves.png           the same, as a picture
        best.safetensors     the model with the best validation so far; at the end with its held-out figures
        last.safetensors     the model at the end
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..bundle import Bundle, Calibration
from ..cohort import Subset
from ..cohort.prepared import PreparedCohort, PreparedScan
from ..cohort.sampling import CropSampler
from ..errors import CohortError, OutputError, SettingsError
from ..figures import FigureRecord
from ..files import replacing, tidy
from .evaluating import RunEvaluation
from .loop import Trainer
from .outcome import TrainingOutcome, TrainingProgress, peak_memory_gb
from .provenance import provenance
from .records import Records
from .settings import Settings, cohort_scans
from .state import load_state, save_state

SAVE_EVERY = 300.0  # seconds between states, beside those at validations


class Run:
    """A training in its folder.

    Args:
        settings: of the run.
        bundle: the model to start from.
        folder: the run's.
        accelerator: of accelerate; None: one process on the CPU.
        workers: loader processes.
        notify: called with sentences for the user.

    Raises:
        CohortError: a prepared cohort that changed since the run was started, or one with nothing to learn from.
        SettingsError: a state of another network, another number of processes than it was started with, or no monai for
            evaluating an automatic model.
    """

    def __init__(
        self,
        settings: Settings,
        bundle: Bundle,
        folder: Path,
        accelerator: Any = None,  # noqa: ANN401 - accelerate has no types
        workers: int = 0,
        notify: Callable[[str], None] = print,
    ):
        self.settings, self.folder, self.notify = settings, folder, notify
        preset = settings.preset
        prepared = [PreparedCohort.open(path) for path in settings.prepared]
        if tuple(cohort.sha256 for cohort in prepared) != settings.cohorts_sha256:
            raise CohortError(
                f"{settings.prepared}: changed since the training in {folder} was started; start a new one"
            )
        self.start = bundle.provenance
        self.evaluation = RunEvaluation(settings, cohort_scans(prepared, preset), bundle.network.prompt is None, notify)
        training = self.evaluation.by_cohort("train")
        for scans, path in zip(training, settings.prepared, strict=True):
            if not scans:
                labels = list(preset.target_labels) or "above 0"
                raise CohortError(f"{path}: no scan under train of the split has any target (labels {labels})")
        if not self.scans("validation"):
            raise CohortError(
                "no scan under validation of the split has any target; one is needed to choose the best model"
            )
        sampler = CropSampler(
            training,
            settings.shares,
            preset.preprocessing,
            preset.augmentation,
            preset.prompt_sampling,
            preset.recipe.seed,
            device="cpu" if workers or accelerator is None else accelerator.device,
            targets=preset.targets,
        )
        self.trainer = Trainer(bundle.network, sampler, preset.recipe, accelerator, workers, notify)
        if self.trainer.accelerator.num_processes != settings.processes:
            raise SettingsError(
                f"the training in {folder} was started with {settings.processes} processes, which its crops are "
                f"counted by; resume it with as many, not with {self.trainer.accelerator.num_processes}"
            )
        self.best: dict[str, Any] | None = None
        self.since_best = 0
        self.seconds_before = 0.0
        self.unreported: list[float] = []
        self.curve: list[list[float]] = []
        self.last_validation: dict[str, Any] | None = None

    def scans(self, subset: Subset) -> list[PreparedScan]:
        """The scans of a subset, of all cohorts."""
        return self.evaluation.scans(subset)

    @property
    def main(self) -> bool:
        """Whether this process writes the files."""
        return bool(self.trainer.accelerator.is_main_process)

    @property
    def best_path(self) -> Path:
        """Where the best model lies."""
        return self.folder / "best.safetensors"

    @cached_property
    def validation_steps(self) -> set[int]:
        """The steps after which it is validated: evenly spread, the last among them."""
        total = self.trainer.total
        count = min(self.settings.preset.recipe.num_validations, total)
        return {round(total * (number + 1) / count) for number in range(count)}

    @cached_property
    def report_interval(self) -> int:
        """Steps between two rows of the metrics."""
        return max(1, min(50, self.trainer.total // 200))

    def restore(self) -> bool:
        """Go on from the newest state in the folder; whether there was one."""
        found = load_state(self.folder)
        if found is None:
            return False
        files, numbers = found
        self.trainer.restore(files, numbers["trainer"])
        self.best, self.since_best = numbers["best"], numbers["since_best"]
        self.seconds_before, self.unreported = numbers["seconds"], numbers["unreported"]
        self.curve = numbers["curve"]
        self.last_validation = numbers.get("last_validation")  # version 0.1.0 had none
        return True

    def save(self, seconds: float) -> None:
        """Write the state; only the main process does."""
        if self.main:
            tidy(self.folder)
            numbers = {
                "trainer": self.trainer.numbers(),
                "best": self.best,
                "since_best": self.since_best,
                "seconds": seconds,
                "unreported": self.unreported,
                "curve": self.curve,
                "last_validation": self.last_validation,
            }
            save_state(self.folder, self.trainer.step, self.trainer.tensors(), numbers)
        self.trainer.accelerator.wait_for_everyone()

    def train(
        self,
        report: Callable[[TrainingProgress], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
        hours: float | None = None,
        test: bool | None = None,
    ) -> TrainingOutcome:
        """Train to the end, a plateau, the end of `hours`, or until `stop` is true.

        Args:
            report: called after every step.
            stop: asked after every step.
            hours: time for this call.
            test: evaluate the best model on test patients when it ends (not when it is stopped); None: as the settings
                say.
        """
        records = Records(self.folder, self.trainer.step) if self.main else None
        began = saved = time.monotonic()
        self._restore_best()
        why = "plateau" if self._on_plateau() else "finished"
        steps: Iterator[float] = iter(()) if why == "plateau" else self.trainer.steps()
        for loss in steps:
            now = time.monotonic()
            self._record(records, loss, self.seconds_before + now - began)
            validated = self.trainer.step in self.validation_steps
            better = validated and self._validate(records)
            report(self._report(loss, now - began, validated))
            asked = self.trainer.in_any_process(stop())
            late = self.trainer.in_any_process(hours is not None and now - began > hours * 3600)
            ends = asked or late or self._on_plateau()
            due = validated or self.trainer.in_any_process(now - saved > SAVE_EVERY)
            if ends or due:
                self.save(self.seconds_before + now - began)
                saved = now
            if better:  # after the state that knows of it, so that no kill leaves a model of a future undone
                self._save_best()
            if ends:
                why = "stopped" if asked else "hours" if late else "plateau"
                break
        return self._finish(why, records, self.settings.test if test is None else test)

    @property
    def ended(self) -> bool:
        """Whether no step is left to take."""
        return self.trainer.step >= self.trainer.total or self._on_plateau()

    def _on_plateau(self) -> bool:
        patience = self.settings.preset.recipe.patience
        return patience is not None and self.since_best >= patience

    def _record(self, records: Records | None, loss: float, seconds: float) -> None:
        self.unreported.append(loss)
        step = self.trainer.step
        if step % self.report_interval and step != self.trainer.total:
            return
        mean = sum(self.unreported) / len(self.unreported)
        self.unreported = []
        if records is not None:
            records.add(
                {
                    "step": step,
                    "loss": round(mean, 5),
                    "learning_rate": self.settings.preset.recipe.rate(step - 1, self.trainer.total),
                    "seconds": round(seconds, 1),
                    "memory_gb": round(peak_memory_gb(self.trainer.device), 3),
                }
            )

    def _report(self, loss: float, seconds: float, validated: bool) -> TrainingProgress:
        trainer = self.trainer
        rate = self.settings.preset.recipe.rate(trainer.step - 1, trainer.total)
        dice = self.curve[-1][1] if validated else None
        return TrainingProgress(trainer.step, trainer.total, loss, rate, seconds, peak_memory_gb(trainer.device), dice)

    def evaluate(self, subset: Subset) -> dict[str, Any]:
        """The figure of the EMA network on a subset (`RunEvaluation.evaluate`); every process must call it."""
        count = len(self.scans(subset))
        self.notify(f"evaluating {count} {subset} scan{'s' * (count > 1)}, {self.evaluation.protocol.short}")
        return self.evaluation.evaluate(self.model(), subset, self.trainer.accelerator)

    def validate_one(self, scan: PreparedScan) -> None:
        """Evaluate one scan, for an estimate of its cost."""
        list(self.evaluation.dice(self.model(), [scan], (0,), str(self.trainer.device)))

    def _restore_best(self) -> None:
        """Write the best model where a kill came between a state that knows of it and its file."""
        if self.best is None or self.best["step"] != self.trainer.step:
            return
        ours = self.trainer.ema.state_dict()
        with suppress(OSError, SafetensorError):
            stored = load_file(self.best_path)
            if all(n in ours and torch.equal(ours[n].cpu().to(value.dtype), value) for n, value in stored.items()):
                return
        self._save_best()

    def _validate(self, records: Records | None) -> bool:
        """Validate, and record it; whether these weights are the best so far."""
        figure, step = self.evaluate("validation"), self.trainer.step
        dice = float(figure["dice"])
        self.curve.append([step, dice])
        self.last_validation = {"step": step, **figure}
        better = self.best is None or dice > self.best["dice"]
        if better:
            self.best, self.since_best = self.last_validation, 0
        else:
            self.since_best += 1
        if records is not None:
            records.add({"step": step, "validation": figure})
            records.draw(self.folder / "curves.png", self.evaluation.protocol.short)
        return better

    def _finish(self, why: str, records: Records | None, test: bool) -> TrainingOutcome:
        outcome = TrainingOutcome(why, self.trainer.step, self.best)
        if records is not None:
            records.close()
        outcome.model = self.best_path if self.best is not None else None
        if why == "stopped":
            return outcome
        if self.main:
            self._write_model(self.folder / "last.safetensors", self._last())
        if outcome.model is None:
            return outcome
        self.trainer.accelerator.wait_for_everyone()  # until the main process has written the best model
        self.trainer.load_weights(load_file(self.best_path))
        figures: tuple[FigureRecord, ...] = ()
        tested = self._known_test() or (self._tested() if test and self.scans("test") else None)
        if tested is not None:
            outcome.test, outcome.test_uses = tested
            note = f"use number {outcome.test_uses} of these test patients"
            figures = self.evaluation.records(outcome.test, "test", note)
        if self.main:  # last, since it does this alone, and nobody may wait for it
            self._save_best(figures, self.evaluation.calibrate(self.model(), str(self.trainer.device)))
        return outcome

    def _known_test(self) -> tuple[dict[str, Any], int] | None:
        """The figure on test patients, where the same best model had one before: they are not used again."""
        with suppress(OSError, ValueError, KeyError, TypeError):  # none yet, or a damaged one
            known = json.loads((self.folder / "test.json").read_text())
            if known["model"] == self.model().sha256():
                return known["figure"], known["uses" if "uses" in known else "looks"]
        return None

    def _tested(self) -> tuple[dict[str, Any], int]:
        """The best model's figure on the test patients, evaluated now, and how often these were used."""
        path, model = self.folder / "test.json", self.model().sha256()
        figure = self.evaluate("test")
        uses = self.evaluation.record_test_use(self.folder, figure) if self.main else 0
        if self.main:
            try:
                with replacing(path) as (staged,):
                    staged.write_text(json.dumps({"model": model, "figure": figure, "uses": uses}))
            except OutputError as error:  # the model's own file has the figure
                self.notify(str(error))
        return figure, uses

    def model(self, figures: Sequence[FigureRecord] = ()) -> Bundle:
        """The EMA network, while it is the best or on the way there, as a model with its provenance."""
        chosen: tuple[FigureRecord, ...] = ()
        if self.best is not None:
            chosen = self.evaluation.records(self.best, "validation", f"step {self.best['step']}; chose these weights")
        return self._described((*chosen, *figures))

    def _last(self) -> Bundle:
        """The network at the end, with its own figure."""
        if self.best is None or self.best["step"] == self.trainer.step:
            return self.model()
        if self.last_validation is None or self.last_validation["step"] != self.trainer.step:  # the time was up
            return self._described(())
        note = f"step {self.trainer.step}; not the best weights"
        return self._described(self.evaluation.records(self.last_validation, "validation", note))

    def _described(self, figures: tuple[FigureRecord, ...]) -> Bundle:
        processes, total = self.trainer.accelerator.num_processes, self.trainer.total
        made = provenance(self.settings, self.start, self.scans("train"), figures, (total, processes), self.curve)
        return Bundle(self.trainer.ema, self.settings.preset.preprocessing, made)

    def _save_best(self, figures: Sequence[FigureRecord] = (), calibration: Calibration | None = None) -> None:
        """Write the EMA network as the best; only the main process does."""
        if self.main:
            self._write_model(self.best_path, replace(self.model(figures), calibration=calibration or Calibration()))

    def _write_model(self, path: Path, bundle: Bundle) -> None:
        """Write a model: what was tuned, if anything was not, else all of it."""
        adapter_only = bundle.network.config.has_frozen
        bundle.save(
            path,
            adapter_only=adapter_only,
            base_name=Path(self.settings.preset.init).name if adapter_only else None,
            dtype=getattr(torch, self.settings.preset.recipe.weights_dtype),
        )
