"""Evaluation of a run's models: on validation while it trains, on test patients when it ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..automatic import Proposer, sliding_window
from ..bundle import Bundle, Calibration
from ..cohort import LabelledVolume, Subset
from ..cohort.prepared import PreparedScan
from ..errors import OutputError, ScanError
from ..evaluation import Figure, HeldOutLedger, automatic, calibrated, one_click, sampled
from ..figures import FigureRecord
from ..inference import InferenceSettings
from ..predictor import Predictor
from .settings import Settings

MAX_CALIBRATION = 60  # validation scans, the first by name of each cohort, that a finished training is calibrated on


@dataclass(frozen=True)
class Protocol:
    """How a run's models are evaluated.

    Attributes:
        short: its name on a terminal, and in a plot.
        description: the same in a figure's record.
        seeds: of validation, and of the test patients; empty: nothing is drawn.
    """

    short: str
    description: str
    seeds: Mapping[Subset, tuple[int, ...]]

    @property
    def on_test(self) -> str:
        """Its name on a terminal, for the figure of the test patients."""
        count = len(self.seeds["test"])
        return f"{self.short}, {count} seeds" if count else self.short


ONE_CLICK = Protocol("one click", "one random click a scan, native grid", {"validation": (0,), "test": tuple(range(5))})
AUTOMATIC = Protocol(
    "no prompt, whole scans",
    "no prompt, all above 0.5 in the whole scan, native grid",
    {"validation": (), "test": ()},
)


class RunEvaluation:
    """The scans of a run, by subset, and the evaluation of models on them.

    Args:
        settings: the run's.
        cohorts: the scans of each cohort; those without a target train alone.
        promptless: whether its models take no prompts.
        notify: called with sentences for the user.

    Attributes:
        protocol: how models are evaluated.

    Raises:
        SettingsError: no monai for evaluating an automatic model.
    """

    def __init__(
        self,
        settings: Settings,
        cohorts: Sequence[Sequence[PreparedScan]],
        promptless: bool,
        notify: Callable[[str], None] = print,
    ):
        self.settings, self.cohorts, self.notify = settings, cohorts, notify
        self.protocol = AUTOMATIC if promptless else ONE_CLICK
        if promptless:
            sliding_window()

    def by_cohort(self, subset: Subset) -> list[list[PreparedScan]]:
        """The scans of a subset, cohort by cohort; outside of training, those with some target."""
        split = self.settings.split
        return [
            [
                s
                for s in scans
                if split.subset_of(s.name, s.patient) == subset and (subset == "train" or s.target_voxels)
            ]
            for scans in self.cohorts
        ]

    def scans(self, subset: Subset) -> list[PreparedScan]:
        """The scans of a subset, of all cohorts."""
        return [scan for scans in self.by_cohort(subset) for scan in scans]

    @cached_property
    def names(self) -> list[str]:
        """Names of the cohorts: of their folders, or where two are alike, the folders' paths."""
        names = [Path(folder).name for folder in self.settings.prepared]
        return names if len(set(names)) == len(names) else list(self.settings.prepared)

    def evaluate(self, model: Bundle, subset: Subset, accelerator: Any) -> dict[str, Any]:  # noqa: ANN401 - accelerate has no types
        """Dice of a model by `protocol`, on each scan's own grid; every process takes its share of the scans.

        Returns:
            `Figure.plain` of all scans; of several cohorts, `cohorts` has each one's, by its name.
        """
        mine = self.scans(subset)[accelerator.process_index :: accelerator.num_processes]
        patients = {scan.name: scan.patient for scan in mine}
        found = self.dice(model, mine, self.protocol.seeds[subset], str(accelerator.device))
        rows = [(name, patients[name], value) for name, value in found]
        if accelerator.num_processes > 1:
            from accelerate.utils import gather_object

            rows = gather_object(rows)
        rows = sorted(rows)
        figure: dict[str, Any] = Figure.of(rows).plain()
        if len(self.cohorts) > 1:
            home = {scan.name: name for name, scans in zip(self.names, self.cohorts, strict=True) for scan in scans}
            there = sorted({home[name] for name, *_ in rows})
            figure["cohorts"] = {one: Figure.of(row for row in rows if home[row[0]] == one).plain() for one in there}
        return figure

    def dice(
        self, model: Bundle, scans: Sequence[PreparedScan], seeds: Sequence[int], device: str
    ) -> Iterator[tuple[str, float]]:
        """Each scan's name and Dice, once a seed; once in all where nothing is drawn."""
        if self.protocol is AUTOMATIC:
            yield from automatic(Proposer(model, InferenceSettings(device=device)), _loaded(scans))
            return
        predictor = Predictor(model, InferenceSettings(device=device))
        for seed in seeds:
            yield from ((one.name, one.dice) for one in one_click(predictor, _loaded(scans), seed))

    def records(self, figure: Mapping[str, Any], subset: Subset, note: str) -> tuple[FigureRecord, ...]:
        """What `evaluate` gave as records: of all scans, then of each of several cohorts."""
        known = {"subset": subset, "protocol": self.protocol.description, "seeds": self.protocol.seeds[subset]}
        rows = {"all": figure, **figure.get("cohorts", {})}
        return tuple(
            FigureRecord.model_validate(
                known
                | {"cohort": cohort, "note": note, "value": row["dice"], "interval": row["interval"]}
                | {"n": row["scans"], "patients": row["patients"]}
            )
            for cohort, row in rows.items()
        )

    def calibrate(self, model: Bundle, device: str) -> Calibration:
        """The calibration of a model, by a simulated user's prompts on validation scans."""
        if self.protocol is AUTOMATIC:
            return Calibration()
        self.notify("calibrating on validation scans")
        predictor, chosen = Predictor(model, InferenceSettings(device=device)), self.calibration_scans()
        scans = _loaded([scan for cohort in chosen.values() for scan in cohort])
        corrects = predictor.capabilities.takes_initial_mask
        samples = sampled(predictor, scans, 3 if corrects else 1, ("click", "box") if corrects else ("click",))
        if samples.too_wide:
            self.notify(f"no crop holds the prompts of {len(samples.too_wide)} simulated users: {samples.too_wide[0]}")
        try:
            found = calibrated(samples)
        except ScanError as error:
            self.notify(f"the model's probabilities stay uncalibrated: {error}")
            return Calibration()
        counts = {name: len(cohort) for name, cohort in chosen.items()}
        return found.model_copy(update={"measured": {"validation scans": counts, **found.measured}})

    def calibration_scans(self) -> dict[str, list[PreparedScan]]:
        """Each cohort's first validation scans by name, as many of each as there are and `MAX_CALIBRATION` allows."""
        by_cohort = self.by_cohort("validation")
        turns = [(turn, number) for number, scans in enumerate(by_cohort) for turn in range(len(scans))]
        counts = Counter(number for _, number in sorted(turns)[:MAX_CALIBRATION])
        return {name: scans[: counts[n]] for n, (name, scans) in enumerate(zip(self.names, by_cohort, strict=True))}

    def record_test_use(self, run: Path, figure: Mapping[str, Any]) -> int:
        """Write into each cohort's ledger that its test patients were evaluated; how often any of them has been.

        Args:
            run: the run's folder.
            figure: what `evaluate` gave.
        """
        patients = sorted({scan.patient for scan in self.scans("test")})
        use = {"run": str(run.resolve()), "split": self.settings.split.sha256, "patients": patients, "figure": figure}
        count = 0
        for folder in self.settings.prepared:
            ledger = HeldOutLedger.of_cohort(Path(folder))
            try:
                ledger.append(use)
                count = max(count, ledger.count(patients))
            except OutputError as error:  # the model's own file has the figure; the count is what suffers
                self.notify(str(error))
        return count


def _loaded(scans: Sequence[PreparedScan]) -> Iterator[LabelledVolume]:
    return (scan.load() for scan in scans)
