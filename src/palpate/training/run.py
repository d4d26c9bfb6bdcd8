"""A training in its folder: steps, validations, states, and the model at the end.

A run is a folder::

    run/
        settings.json        what was asked, in full: preset, split, cohorts by their hash, the start
        state-STEP/          what going on needs (`state`)
        metrics.jsonl        a row now and then, and one for each validation
        tensorboard/         the same, for TensorBoard
        curves.png           the same, to look at
        best.safetensors     the model with the best validation so far; at the end with its held-out figures
        last.safetensors     the model at the end
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..bundle import Bundle, Calibration, Provenance
from ..cohort import Part
from ..cohort.cache import PreparedCohort, PreparedScan
from ..cohort.sampling import CropSampler
from ..errors import CohortError, OutputError, SettingsError
from ..files import replacing, tidy
from .loop import Trainer
from .measuring import Measuring
from .records import Records
from .settings import Settings, cohort_scans
from .state import load_state, save_state

SAVE_EVERY = 300.0  # seconds between states, beside those at validations
NOTICE = "Research software, not a medical device; not for diagnosis or treatment."
AUTOMATIC_NOTICE = "Proposes lesions by itself: it misses some, and some of what it proposes is none."
TEST_SEEDS = range(5)


@dataclass
class Report:
    """What is told after a step.

    Attributes:
        step: steps done.
        total: steps in all.
        loss: of this step.
        rate: learning rate of this step.
        seconds: since this process began to train.
        memory_gb: peak so far.
        dice: the last validation's, if there was one.
    """

    step: int
    total: int
    loss: float
    rate: float
    seconds: float
    memory_gb: float
    dice: float | None = None


@dataclass
class Outcome:
    """How a training ended.

    Attributes:
        why: "finished", "plateau", "hours" or "stopped".
        step: steps done.
        best: validation of the best model, or None before the first.
        test: figure of the best model on test patients, if they were measured.
        looks: how often any of these test patients have been measured, this time included.
        model: the best model's file, or None before the first validation.
    """

    why: str
    step: int
    best: dict[str, Any] | None = None
    test: dict[str, Any] | None = None
    looks: int = 0
    model: Path | None = None


class Run:
    """A training in its folder.

    Args:
        settings: what to do.
        bundle: the model to start from.
        folder: the run's.
        accelerator: of accelerate; None: one process on the CPU.
        workers: loader processes.
        tell: called with sentences for the user.

    Raises:
        CohortError: a prepared cohort that changed since the run was begun, or one with nothing to learn from.
        SettingsError: a state of another network, another number of processes than it was begun with, or no monai for
            measuring an automatic model.
    """

    def __init__(
        self,
        settings: Settings,
        bundle: Bundle,
        folder: Path,
        accelerator: Any = None,  # noqa: ANN401 - accelerate has no types
        workers: int = 0,
        tell: Callable[[str], None] = print,
    ):
        self.settings, self.folder, self.tell = settings, folder, tell
        preset = settings.preset
        prepared = [PreparedCohort.open(path) for path in settings.prepared]
        if tuple(cohort.sha256 for cohort in prepared) != settings.cohorts_sha256:
            raise CohortError(f"{settings.prepared}: changed since the training in {folder} was begun; begin a new one")
        self.start = bundle.provenance
        self.measuring = Measuring(settings, cohort_scans(prepared, preset), bundle.network.prompt is None, tell)
        training = self.measuring.by_cohort("train")
        for scans, path in zip(training, settings.prepared, strict=True):
            if not scans:
                labels = list(preset.target_labels) or "above 0"
                raise CohortError(f"{path}: no scan under train of the split has any lesion (labels {labels})")
        if not self.part("validation"):
            raise CohortError(
                "no scan under validation of the split has any lesion; it is needed to choose the best model"
            )
        sampler = CropSampler(
            training,
            settings.shares,
            preset.preprocessing,
            preset.augmentation,
            preset.prompt_sampling,
            preset.recipe.seed,
            device="cpu" if workers or accelerator is None else accelerator.device,
        )
        self.trainer = Trainer(bundle.network, sampler, preset.recipe, accelerator, workers, tell)
        if self.trainer.accelerator.num_processes != settings.processes:
            raise SettingsError(
                f"the training in {folder} was begun with {settings.processes} processes, and its crops are counted by "
                f"that; go on with as many, not with {self.trainer.accelerator.num_processes}"
            )
        self.best: dict[str, Any] | None = None
        self.since_best = 0
        self.seconds_before = 0.0
        self.unreported: list[float] = []
        self.curve: list[list[float]] = []

    def part(self, part: Part) -> list[PreparedScan]:
        """The scans of a part, of all cohorts."""
        return self.measuring.part(part)

    @property
    def main(self) -> bool:
        """Whether this process writes the files."""
        return bool(self.trainer.accelerator.is_main_process)

    @property
    def best_path(self) -> Path:
        """Where the best model lies."""
        return self.folder / "best.safetensors"

    @cached_property
    def measured_at(self) -> set[int]:
        """The steps after which it is validated: evenly spread, the last among them."""
        total = self.trainer.total
        count = min(self.settings.preset.recipe.num_validations, total)
        return {round(total * (number + 1) / count) for number in range(count)}

    @cached_property
    def reported_at(self) -> int:
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
            }
            save_state(self.folder, self.trainer.step, self.trainer.tensors(), numbers)
        self.trainer.accelerator.wait_for_everyone()

    def train(
        self,
        report: Callable[[Report], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
        hours: float | None = None,
        test: bool = True,
    ) -> Outcome:
        """Train to the end, a plateau, the time that was given, or until `stop` says so.

        Args:
            report: called after every step.
            stop: asked after every step.
            hours: time for this call.
            test: measure the best model on test patients when it ends (not when it is stopped).
        """
        records = Records(self.folder, self.trainer.step) if self.main else None
        began = saved = time.monotonic()
        self._mend_best()
        why = "plateau" if self._on_plateau() else "finished"
        steps: Iterator[float] = iter(()) if why == "plateau" else self.trainer.steps()
        for loss in steps:
            now = time.monotonic()
            self._record(records, loss, self.seconds_before + now - began)
            better = self.trainer.step in self.measured_at and self._validate(records)
            report(self._report(loss, now - began))
            asked = self.trainer.anywhere(stop())
            late = self.trainer.anywhere(hours is not None and now - began > hours * 3600)
            ends = asked or late or self._on_plateau()
            due = self.trainer.step in self.measured_at or self.trainer.anywhere(now - saved > SAVE_EVERY)
            if ends or due:
                self.save(self.seconds_before + now - began)
                saved = now
            if better:  # after the state that knows of it, so that no kill leaves a model of a future undone
                self._save_best()
            if ends:
                why = "stopped" if asked else "hours" if late else "plateau"
                break
        return self._finish(why, records, test)

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
        if step % self.reported_at and step != self.trainer.total:
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

    def _report(self, loss: float, seconds: float) -> Report:
        trainer = self.trainer
        rate = self.settings.preset.recipe.rate(trainer.step - 1, trainer.total)
        dice = self.curve[-1][1] if self.curve else None
        return Report(trainer.step, trainer.total, loss, rate, seconds, peak_memory_gb(trainer.device), dice)

    def measure(self, part: Part, seeds: Sequence[int]) -> dict[str, Any]:
        """The figure of the kept network on a part (`Measuring.figure`); every process must ask."""
        return self.measuring.figure(self.model(), part, seeds, self.trainer.accelerator)

    def rehearse(self, scan: PreparedScan) -> None:
        """Measure a scan for the sake of its cost."""
        list(self.measuring.answers(self.model(), [scan], (0,), str(self.trainer.device)))

    def _mend_best(self) -> None:
        """Write the best model where a kill came between a state that knows of it and its file."""
        if self.best is None or self.best["step"] != self.trainer.step:
            return
        kept = self.trainer.ema.state_dict()
        with suppress(OSError, SafetensorError):
            stored = load_file(self.best_path)
            if all(n in kept and torch.equal(kept[n].cpu().to(value.dtype), value) for n, value in stored.items()):
                return
        self._save_best()

    def _validate(self, records: Records | None) -> bool:
        """Measure, and write it down; whether these weights are the best so far."""
        figure, step = self.measure("validation", seeds=(0,)), self.trainer.step
        dice = float(figure["dice"])
        self.curve.append([step, dice])
        better = self.best is None or dice > self.best["dice"]
        if better:
            self.best, self.since_best = {"step": step, **figure}, 0
        else:
            self.since_best += 1
        if records is not None:
            records.add({"step": step, "validation": figure})
            records.draw(self.folder / "curves.png", self.measuring.words.short)
        return better

    def _finish(self, why: str, records: Records | None, test: bool) -> Outcome:
        outcome = Outcome(why, self.trainer.step, self.best)
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
        self.trainer.take(load_file(self.best_path))
        figures: dict[str, Any] = {}
        tested = self._known_test() or (self._tested() if test and self.part("test") else None)
        if tested is not None:
            outcome.test, outcome.looks = tested
            figures = {
                self.measuring.words.test: outcome.test,
                "looks at these test patients, this one included": outcome.looks,
            }
        if self.main:  # last, since it does this alone, and nobody may wait for it
            self._save_best(figures, self.measuring.calibration(self.model(), str(self.trainer.device)))
        return outcome

    def _known_test(self) -> tuple[dict[str, Any], int] | None:
        """The figure on the test patients, where the run had ended before with the same best model: no further look."""
        with suppress(OSError, ValueError, KeyError, TypeError):  # none yet, or a damaged one
            known = json.loads((self.folder / "test.json").read_text())
            if known["model"] == self.model().sha256():
                return known["figure"], known["looks"]
        return None

    def _tested(self) -> tuple[dict[str, Any], int]:
        """The best model's figure on the test patients, measured now, and how often these were looked at."""
        path, model = self.folder / "test.json", self.model().sha256()
        figure = self.measure("test", TEST_SEEDS)
        looks = self.measuring.log_look(self.folder, figure) if self.main else 0
        if self.main:
            try:
                with replacing(path) as (staged,):
                    staged.write_text(json.dumps({"model": model, "figure": figure, "looks": looks}))
            except OutputError as error:  # the model's own file has the figure
                self.tell(str(error))
        return figure, looks

    def model(self, figures: dict[str, Any] | None = None) -> Bundle:
        """The kept network, while it is the best or on the way there, as a model that says where it comes from."""
        return self._described(({self.measuring.words.validation: self.best} if self.best else {}) | (figures or {}))

    def _last(self) -> Bundle:
        """The network at the end, with its own figure."""
        if self.best is None or self.best["step"] == self.trainer.step:
            return self.model()
        step, dice = self.curve[-1]
        measured = step == self.trainer.step  # not where the time was up
        return self._described({self.measuring.words.unchosen: {"step": step, "dice": dice}} if measured else {})

    def _described(self, figures: dict[str, Any]) -> Bundle:
        settings, preset = self.settings, self.settings.preset
        trained = self.part("train")
        provenance = Provenance(
            name=preset.name,
            origin=f"palpate {settings.palpate} train: {Path(preset.init).name}, "
            f"{'automatic, ' if preset.automatic else ''}tuning {preset.tuning}, "
            f"{len(trained)} scans of {len({scan.patient for scan in trained})} patients",
            licence=self.start.licence if preset.init != "none" else "",
            data=tuple(
                f"{Path(p).name}: content {h}" for p, h in zip(settings.prepared, settings.cohorts_sha256, strict=True)
            ),
            figures=figures,
            recipe={
                "preset": preset.model_dump(mode="json", exclude={"split"}) | {"init": Path(preset.init).name},
                "shares": settings.shares,
                "split (SHA-256)": settings.split.sha256,
                "steps": self.trainer.total,
                "processes": self.trainer.accelerator.num_processes,
                "curve (step, validation Dice)": self.curve,
            },
            notice=f"{AUTOMATIC_NOTICE} {NOTICE}" if preset.automatic else NOTICE,
        )
        return Bundle(self.trainer.ema, preset.preprocessing, provenance)

    def _save_best(self, figures: dict[str, Any] | None = None, calibration: Calibration | None = None) -> None:
        """Write the kept network as the best; only the main process does."""
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
