"""How a run's models are measured: on validation while it trains, on test patients when it ends, every look counted."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..automatic import Proposer, sliding_window
from ..bundle import Bundle, Calibration
from ..cohort import Part
from ..cohort.cache import PreparedScan
from ..errors import ScanError
from ..evaluation import Figure, automatic, calibrated, one_click, sampled
from ..files import error_text
from ..inference import InferenceSettings
from ..predictor import Predictor
from ..volume import Volume
from .settings import Settings

CALIBRATED = 60  # validation scans, the first by name of each cohort, that a finished training is calibrated on


@dataclass(frozen=True)
class Measure:
    """What is measured, in words.

    Attributes:
        short: for a line on a terminal, and for a plot.
        seeds: the same, of test patients.
        validation: the validation's figure in the model's file.
        unchosen: the same, of weights that are the last and not the best.
        test: the test's.
    """

    short: str
    seeds: str
    validation: str
    unchosen: str
    test: str


ONE_CLICK = Measure(
    "one click",
    "one click, 5 seeds",
    "validation patients, one random click a scan, native grid, seed 0 (chose these weights)",
    "validation patients, one random click a scan, native grid, seed 0 (not the best weights)",
    "test patients, one random click a scan, native grid, seeds 0-4",
)
AUTOMATIC = Measure(
    "no prompt, whole scans",
    "no prompt, whole scans",
    "validation patients, no prompt: all above 0.5 in the whole scan, native grid (chose these weights)",
    "validation patients, no prompt: all above 0.5 in the whole scan, native grid (not the best weights)",
    "test patients, no prompt: all above 0.5 in the whole scan, native grid",
)


class Measuring:
    """The scans of a run, by part, and what is measured on them.

    Args:
        settings: the run's.
        cohorts: the scans of each cohort that have some lesion.
        promptless: whether its models take no prompts.
        tell: called with sentences for the user.

    Attributes:
        words: what is measured.

    Raises:
        SettingsError: no monai for measuring an automatic model.
    """

    def __init__(
        self,
        settings: Settings,
        cohorts: Sequence[Sequence[PreparedScan]],
        promptless: bool,
        tell: Callable[[str], None] = print,
    ):
        self.settings, self.cohorts, self.tell = settings, cohorts, tell
        self.words = AUTOMATIC if promptless else ONE_CLICK
        if promptless:
            sliding_window()

    def by_cohort(self, part: Part) -> list[list[PreparedScan]]:
        """The scans of a part, cohort by cohort."""
        split = self.settings.split
        return [[scan for scan in scans if split.part_of(scan.name, scan.patient) == part] for scans in self.cohorts]

    def part(self, part: Part) -> list[PreparedScan]:
        """The scans of a part, of all cohorts."""
        return [scan for scans in self.by_cohort(part) for scan in scans]

    @cached_property
    def names(self) -> list[str]:
        """What the cohorts are called: their folders' names, or where two are alike, their paths."""
        names = [Path(folder).name for folder in self.settings.prepared]
        return names if len(set(names)) == len(names) else list(self.settings.prepared)

    def figure(self, model: Bundle, part: Part, seeds: Sequence[int], accelerator: Any) -> dict[str, Any]:  # noqa: ANN401 - accelerate has no types
        """What `words` says, on each scan's own grid; every process takes its share of the scans.

        Returns:
            The record of a `Figure` of all scans; of several cohorts, `cohorts` has each one's, by its folder.
        """
        mine = self.part(part)[accelerator.process_index :: accelerator.num_processes]
        patients = {scan.name: scan.patient for scan in mine}
        found = self.answers(model, mine, seeds, str(accelerator.device))
        rows = [(name, patients[name], value) for name, value in found]  # scan, patient, Dice
        if accelerator.num_processes > 1:
            from accelerate.utils import gather_object

            rows = gather_object(rows)
        rows = sorted(rows)
        record: dict[str, Any] = Figure.of(rows).record()
        if len(self.cohorts) > 1:
            home = {scan.name: name for name, scans in zip(self.names, self.cohorts, strict=True) for scan in scans}
            there = sorted({home[name] for name, *_ in rows})
            record["cohorts"] = {one: Figure.of(row for row in rows if home[row[0]] == one).record() for one in there}
        return record

    def answers(
        self, model: Bundle, scans: Sequence[PreparedScan], seeds: Sequence[int], device: str
    ) -> Iterator[tuple[str, float]]:
        """Each scan's name and Dice, once a seed; without prompts nothing is drawn, and once is enough."""
        if self.words is AUTOMATIC:
            yield from automatic(Proposer(model, InferenceSettings(device=device)), _loaded(scans))
            return
        predictor = Predictor(model, InferenceSettings(device=device))
        for seed in seeds:
            yield from ((one.name, one.dice) for one in one_click(predictor, _loaded(scans), seed))

    def calibration(self, model: Bundle, device: str) -> Calibration:
        """How a model's certainty is to be read, by a simulated user's prompts on validation scans."""
        if self.words is AUTOMATIC:
            return Calibration()
        self.tell("calibrating on validation scans")
        predictor, chosen = Predictor(model, InferenceSettings(device=device)), self.calibrating()
        scans = _loaded([scan for cohort in chosen.values() for scan in cohort])
        corrects = predictor.capabilities.takes_initial_mask
        samples = sampled(predictor, scans, 3 if corrects else 1, ("click", "box") if corrects else ("click",))
        if samples.broken_off:
            self.tell(f"simulated users who broke off: {len(samples.broken_off)}, such as {samples.broken_off[0]}")
        try:
            found = calibrated(samples)
        except ScanError as error:
            self.tell(f"the model's certainty stays uncalibrated: {error}")
            return Calibration()
        counts = {name: len(cohort) for name, cohort in chosen.items()}
        return found.model_copy(update={"measured": {"validation scans": counts, **found.measured}})

    def calibrating(self) -> dict[str, list[PreparedScan]]:
        """Each cohort's first validation scans by name, as many of each as there are and `CALIBRATED` allows."""
        by_cohort = self.by_cohort("validation")
        turns = [(turn, number) for number, scans in enumerate(by_cohort) for turn in range(len(scans))]
        shares = Counter(number for _, number in sorted(turns)[:CALIBRATED])
        return {name: scans[: shares[n]] for n, (name, scans) in enumerate(zip(self.names, by_cohort, strict=True))}

    def log_look(self, run: Path, figure: dict[str, Any]) -> int:
        """Write down, beside each cohort, that its test patients were measured; how often any of them has been.

        Args:
            run: whose look it is.
            figure: what was seen.
        """
        when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        patients = {scan.patient for scan in self.part("test")}
        look = {"when": when, "run": str(run.resolve()), "split": self.settings.split.sha256, **figure}
        line = json.dumps(look | {"of": sorted(patients)})
        count = 0
        for folder in self.settings.prepared:
            path = Path(folder) / "test_looks.jsonl"
            try:
                with path.open("a") as log:
                    log.write(f"{line}\n")
                count = max(count, sum(_looked_at(patients, known) for known in path.read_text().splitlines()))
            except OSError as error:  # the model's own file has the figure; the count is what suffers
                self.tell(f"this look at the test patients could not be written to {path}: {error_text(error)}")
        return count


def _looked_at(patients: set[str], line: str) -> bool:
    """Whether a line of the log is a look at any of these patients; one that does not tell, counts."""
    try:
        whose = json.loads(line)["of"]
    except (ValueError, KeyError, TypeError):
        return True
    return bool(patients & set(whose))


def _loaded(scans: Sequence[PreparedScan]) -> Iterator[tuple[str, Volume, npt.NDArray[np.bool_]]]:
    return ((scan.name, *scan.load()) for scan in scans)
