r"""How far a model goes beyond its training: unseen kinds, made targets, known kinds, confidence, axis orders.

    python benchmarks/generality.py DATA --model palpate-tiny --log runs/tiny.jsonl
    python benchmarks/generality.py DATA --model candidate.safetensors --log runs/candidate.jsonl --quick
    python benchmarks/generality.py DATA --model candidate.safetensors --log runs/candidate.jsonl --parts made organs
    python benchmarks/generality.py --compare runs/tiny.jsonl runs/candidate.jsonl
    python benchmarks/generality.py DATA --tune-baseline

DATA holds hippocampus/, lung_nodules/, sarcoma/ and head_neck_organs/. Each target and seed is a line of the log,
written when it is measured; the same command again does what is missing, and prints the tables. A line holds the Dice
after one to five clicks of the simulated user (evaluation.corrected), the volumes, and the overlap that the model
expected. No test patient is measured.

    made     targets that evaluation.made_targets paints into validation patients' scans and phantoms; beside the
             figure stands region growing, followed by a simulated user of its own
    organs   the organs of the 20 patients of organ_patients.json: those that subset_by_hash(patient, validation=0.24)
             calls validation. A model that learns from organs leaves these patients out
    sarcoma  training and validation patients, for models trained without sarcoma; name with --seen what a model
             was trained on
    known    validation patients of hippocampus, lung_nodules and sarcoma, with --seeds 0 1 2 3 4
    axes     one click on validation scans as they are, then on their arrays in other axis orders without orientation

--quick takes fixed few targets of every part, in minutes, to compare candidates of a training.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, product, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch

from palpate.bundle import load
from palpate.cohort import LabelledScan, LabelledVolume, Subset, subset_by_hash
from palpate.cohort.layouts import find_cohort
from palpate.evaluation import Figure, RegionGrowing, ScanResult, corrected, in_axis_orders
from palpate.evaluation.generality import (
    baseline_after,
    confidence,
    dice_after,
    difference,
    followed_share,
    grouped,
    rises,
)
from palpate.evaluation.made_targets import MIN_MM, Host, numbered_target
from palpate.evaluation.protocol import AXIS_ORDERS
from palpate.evaluation.region_growing import GrowingSettings
from palpate.inference import InferenceSettings
from palpate.phantom import make_phantom
from palpate.predictor import Predictor
from palpate.randomness import counted_rng
from palpate.volume import Volume
from train_tiny import kind_of, patient_of, subset_of

PARTS = ("made", "organs", "sarcoma", "known", "axes")
COUNT = 5  # prompts a target
MADE = 200
TUNING_SEED = 1  # of the made targets on which region growing was tuned; those that are measured have seed 0
ORGAN_PATIENTS = Path(__file__).parent / "organ_patients.json"
QUICK = {"made": 12, "organs": 4, "sarcoma": 2, "known": 6, "axes": 2}  # the first of each part
AXES = 12  # scans of a cohort whose axes are reordered
PHANTOMS, FIRST_PHANTOM = 24, 7000  # hosts; no training uses these seeds
Rows = Sequence[ScanResult]


@dataclass(frozen=True)
class Task:
    """A measurement of one target with one seed.

    Attributes:
        part: one of `PARTS`.
        name: the target's.
        seed: of the simulated user.
        run: measures it.
        last: the name of the last record that it gives; that of its only one unless it gives several.
    """

    part: str
    name: str
    seed: int
    run: Callable[[], Iterable[ScanResult]]
    last: str = ""

    @property
    def key(self) -> str:
        """The key of its last record."""
        return f"{self.part}: {self.last or self.name}, seed {self.seed}"


def read_target(scan: LabelledScan, values: tuple[int, ...] = (), name: str = "") -> LabelledVolume:
    """A scan and where its label has one of these values; of none, any."""
    volume, label = scan.load()
    target = np.isin(label.array, values) if values else np.asarray(label.array > 0)
    return LabelledVolume(name or scan.name, scan.patient, volume, target)


def scans_in(data: Path, cohort: str, *subsets: Subset) -> list[LabelledScan]:
    """A cohort's scans of some subsets, in the order of their names."""
    found = find_cohort(data / cohort).scans
    return [scan for scan in found if subset_of(cohort, scan.name) in subsets]


def measured(
    predictor: Predictor, part: str, kind: str, patient: str, seed: int, scan: LabelledVolume, **tags: str
) -> Iterator[ScanResult]:
    """The simulated user's clicks on one target, as a record; of a made target region growing's too."""
    began = time.process_time()
    (result,) = corrected(predictor, [scan], COUNT, seed=seed)
    seconds = time.process_time() - began
    beside = next(corrected(RegionGrowing(), [scan], COUNT, seed=seed)) if part == "made" else None
    yield ScanResult.of(result, part, kind, patient, seed, seconds=seconds, baseline=beside, tags=tags)


def phantom_host(seed: int) -> Host:
    """A phantom to paint into: a trunk, its own lesion in one of three organs, several spacings."""

    def make() -> Volume:
        rng = counted_rng(seed, "phantom to paint into")
        plane, slices = rng.uniform(1.0, 1.8), rng.uniform(1.0, 3.5)
        return make_phantom(
            shape=(round(230 / plane), round(200 / plane), round(220 / slices)),
            spacing=(plane, plane, slices),
            seed=seed,
            site=("liver", "lung", "kidney")[seed % 3],
            lesion_diameter_mm=float(rng.uniform(8, 25)),
            noise_hu=float(rng.uniform(5, 25)),
            body_width_mm=float(rng.uniform(170, 210)),
        ).volume

    return Host(f"phantom {seed}", f"phantom {seed}", make)


def hosts(data: Path) -> dict[str, list[Host]]:
    """Scans to paint into, by modality: validation patients', and phantoms."""

    def of(scans: Iterable[LabelledScan]) -> list[Host]:
        return [Host(scan.name, scan.patient, lambda scan=scan: scan.load()[0]) for scan in scans]  # type: ignore[misc]

    sarcoma = scans_in(data, "sarcoma", "validation")
    organs = find_cohort(data / "head_neck_organs").scans
    return {
        "brain T1": of(scans_in(data, "hippocampus", "validation")),
        "chest CT": of(filter(_deep_enough, scans_in(data, "lung_nodules", "validation"))),
        **{f"limb {kind}": of(s for s in sarcoma if s.name.endswith(kind)) for kind in ("CT", "T1", "PET")},
        "head-and-neck CT": of(scan for scan in organs if subset_by_hash(scan.patient) == "validation"),
        "phantom": [phantom_host(FIRST_PHANTOM + number) for number in range(PHANTOMS)],
    }


def _deep_enough(scan: LabelledScan) -> bool:
    """Whether a nodule's crop holds a target at all, and has slices up to 2 mm."""
    grid = scan.load(warn=False)[0].grid
    return bool(grid.spacing.max() <= 2 and (grid.spacing * grid.shape).min() * 0.7 > MIN_MM)


def organ_patients() -> list[str]:
    """The patients whose organs are measured."""
    patients: list[str] = json.loads(ORGAN_PATIENTS.read_text())["patients"]
    return patients


def made_tasks(predictor: Predictor, data: Path, seeds: Sequence[int]) -> Iterator[Task]:
    """Made targets, kinds of scans in turn."""
    kinds = hosts(data)

    def run(index: int, seed: int) -> Iterator[ScanResult]:
        made = numbered_target(list(kinds.values()), index)
        modality = list(kinds)[index % len(kinds)]
        tags = {"modality": modality, "difficulty": made.difficulty, "shape": made.shape, "texture": made.texture}
        tags |= {"host": made.host, "mm": f"{made.diameter_mm:.1f}"}
        yield from measured(predictor, "made", made.size, made.scan.patient, seed, made.scan, **tags)

    for seed, index in product(seeds, range(MADE)):
        yield Task("made", f"made 0.{index}", seed, partial(run, index, seed))


def organ_tasks(predictor: Predictor, data: Path, seeds: Sequence[int]) -> Iterator[Task]:
    """Every organ of the listed patients that a scan has."""
    cohort = find_cohort(data / "head_neck_organs")
    listed = set(organ_patients())

    def run(scan: LabelledScan, value: int, organ: str, seed: int) -> Iterator[ScanResult]:
        target = read_target(scan, (value,), f"{scan.name}, {organ}")
        if target.target.any():
            yield from measured(predictor, "organs", organ, scan.patient, seed, target)

    scans = [scan for scan in cohort.scans if scan.patient in listed]
    organs = sorted(cohort.labels.items())
    for seed, turn, (number, scan) in product(seeds, range(len(organs)), enumerate(scans)):
        value, organ = organs[(turn + number) % len(organs)]  # the first few targets are of many patients and organs
        yield Task("organs", f"{scan.name}, {organ}", seed, partial(run, scan, value, organ, seed))


def cohort_task(predictor: Predictor, part: str, cohort: str, scan: LabelledScan, seed: int) -> Task:
    """A scan of one of the three cohorts that train_tiny.py knows."""

    def run() -> Iterator[ScanResult]:
        patient, subset = patient_of(cohort, scan.name), subset_of(cohort, scan.name)
        yield from measured(
            predictor, part, kind_of(cohort, scan.name), patient, seed, read_target(scan), cohort=cohort, subset=subset
        )

    return Task(part, scan.name, seed, run)


def in_turn(data: Path, max_scans: int | None = None) -> Iterator[tuple[str, LabelledScan]]:
    """Validation scans of the three cohorts in turn, of each at most so many; PET before the slower T1 and CT."""
    by_cohort = [
        [
            (cohort, scan)
            for scan in scans_in(data, cohort, "validation")[:: -1 if cohort == "sarcoma" else 1][:max_scans]
        ]
        for cohort in ("hippocampus", "lung_nodules", "sarcoma")
    ]
    return filter(None, chain(*zip_longest(*by_cohort)))


def sarcoma_tasks(predictor: Predictor, data: Path, seeds: Sequence[int]) -> Iterator[Task]:
    """Sarcomas of validation, then of training patients; in each patient PET first, which is quick."""
    for seed in seeds:
        scans = chain(*(reversed(scans_in(data, "sarcoma", subset)) for subset in ("validation", "train")))
        yield from (cohort_task(predictor, "sarcoma", "sarcoma", scan, seed) for scan in scans)


def known_tasks(predictor: Predictor, data: Path, seeds: Sequence[int]) -> Iterator[Task]:
    """Validation scans of the three cohorts in turn."""
    for seed in seeds:
        for cohort, scan in in_turn(data):
            yield cohort_task(predictor, "known", cohort, scan, seed)


def axis_tasks(predictor: Predictor, data: Path, seeds: Sequence[int]) -> Iterator[Task]:
    """One click on validation scans of the three cohorts in turn, in several axis orders."""

    def run(cohort: str, scan: LabelledScan, seed: int) -> Iterator[ScanResult]:
        patient, kind, began = patient_of(cohort, scan.name), kind_of(cohort, scan.name), time.process_time()
        for order, value in in_axis_orders(predictor, read_target(scan), seed):
            began, seconds = time.process_time(), time.process_time() - began
            yield ScanResult(
                part="axes", kind=kind, name=f"{scan.name}, {order}", patient=patient, seed=seed, dice=(value,),
                tags={"scan": scan.name, "order": order}, seconds=round(seconds, 2),
            )  # fmt: skip

    for seed in seeds:
        for cohort, scan in in_turn(data, AXES):
            last = f"{scan.name}, {list(AXIS_ORDERS)[-1]}"
            yield Task("axes", scan.name, seed, partial(run, cohort, scan, seed), last)


TASKS: dict[str, Callable[[Predictor, Path, Sequence[int]], Iterator[Task]]] = {
    "made": made_tasks,
    "organs": organ_tasks,
    "sarcoma": sarcoma_tasks,
    "known": known_tasks,
    "axes": axis_tasks,
}


class Log:
    """Records of a model as lines of a file, the first of which says of which model and where.

    Args:
        path: the file; made by the first record.
        about: the first line; its `sha256` names the model.

    Raises:
        SystemExit: the file is of another model.
    """

    def __init__(self, path: Path, about: dict[str, Any]):
        self.path = path
        if not path.exists() or not path.stat().st_size:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(about) + "\n")
        found, rows = read_log(path)
        if found["sha256"] != about["sha256"]:
            raise SystemExit(f"{path}: a log of {found['model']} ({found['sha256'][:8]}); name another file with --log")
        self.rows = {row.key: row for row in rows}

    def measure(self, task: Task) -> None:
        """Do a task and write its records, unless they are there."""
        if task.key in self.rows:
            return
        other = "known" if task.part == "sarcoma" else "sarcoma" if task.part == "known" else ""
        same = self.rows.get(f"{other}: {task.name}, seed {task.seed}")  # one measurement serves both parts
        rows = [same.model_copy(update={"part": task.part})] if same is not None else list(task.run())
        for row in rows:
            self.rows[row.key] = row
            with self.path.open("a") as file:
                file.write(row.model_dump_json(exclude_defaults=True) + "\n")
            texts = " ".join(f"{value:.3f}" for value in row.dice)
            print(f"{row.key}: {row.kind}, Dice {texts}, {row.seconds:.1f} s", flush=True)


def read_log(path: Path) -> tuple[dict[str, Any], list[ScanResult]]:
    """What a log is about, and its records; a last line that a kill tore is cut off the file.

    Raises:
        SystemExit: no such log.
    """
    if not path.exists():
        raise SystemExit(f"{path}: there is no such log")
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    first, *lines = whole.splitlines()
    return json.loads(first), [ScanResult.model_validate_json(line) for line in lines]


def shown(figure: Figure) -> str:
    """A Dice with its interval."""
    return f"{figure.dice:.3f}" + ("" if figure.interval is None else " [{:.3f}, {:.3f}]".format(*figure.interval))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table as Markdown; nothing where it has no row."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return ["", f"## {title}", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *lines] if lines else []


def counts(rows: Rows) -> list[str]:
    """How many targets, and of how many patients."""
    return [str(len({row.name for row in rows})), str(len({row.patient for row in rows}))]


def made_table(rows: Rows) -> list[str]:
    """Made targets by class, and region growing beside the model."""

    def hard(row: ScanResult) -> str:
        return "clear" if row.tags["difficulty"] == "clear" else "hard"

    groupings: list[Callable[[ScanResult], str]] = [
        lambda row: row.kind,
        lambda row: f"{row.kind}; {hard(row)}",
        lambda row: row.tags["difficulty"],
        lambda row: row.tags["modality"],
        lambda _: "all",
    ]
    lines = [
        [
            name,
            *(shown(of(found, count)) for of in (dice_after, baseline_after) for count in (1, COUNT)),
            *counts(found),
        ]
        for by in groupings
        for name, found in grouped(rows, by).items()
    ]
    columns = ("targets", "one click", "five clicks", "region growing, one", "five", "n", "patients")
    return table("Made targets", columns, lines)


def unseen_table(rows: Rows, seen: Sequence[str]) -> list[str]:
    """Organs and sarcomas; those that the model has seen are called so."""

    def label(row: ScanResult) -> str:
        return row.kind + (" (seen in training)" if row.tags.get("cohort") in seen else "")

    organs = [row for row in rows if row.part == "organs"]
    groups = grouped(rows, label) | ({"all organs": organs} if organs else {})
    lines = [[name, *(shown(dice_after(g, n)) for n in (1, COUNT)), *counts(g)] for name, g in groups.items()]
    title = "Kinds left out: organs, and sarcoma of training and validation patients"
    return table(title, ("kind", "one click", "five clicks", "n", "patients"), lines)


def known_table(rows: Rows) -> list[str]:
    """Dice after every number of clicks, and how far clicks are followed."""
    lines = []
    for kind, found in grouped(rows, lambda row: row.kind).items():
        share, clicks = followed_share(found)
        followed = f"{share:.3f} of {clicks}"
        values = [shown(dice_after(found, count)) for count in range(1, COUNT + 1)]
        lines.append([kind, *values, "yes" if rises(found) else "no", followed, *counts(found)])
    clicks_given = [f"{count} click{'s' * (count > 1)}" for count in range(1, COUNT + 1)]
    seeds = ", ".join(map(str, sorted({row.seed for row in rows})))
    columns = ("kind", *clicks_given, "rises", "followed", "n", "patients")
    return table(f"Known kinds, validation patients, seeds {seeds}", columns, lines)


def confidence_table(rows: Rows, seen: Sequence[str]) -> list[str]:
    """The overlap that the model expects of one-click masks against what it is."""
    unseen = [row for row in rows if row.part in ("organs", "sarcoma") and row.tags.get("cohort") not in seen]
    both = {(row.name, row.seed): row for row in rows}  # a sarcoma of two parts counts once
    kinds = grouped(both.values(), lambda row: "made targets" if row.part == "made" else row.kind)
    groups = kinds | {"all unseen kinds": unseen, "all": list(both.values())}
    lines = []
    for name, found in groups.items():
        known = confidence(found)
        if known is not None:
            values = [str(known.masks), str(known.runaway), f"{known.error:.3f}", f"{known.rank_correlation:.2f}"]
            lines.append([name, *values, f"{known.good_share:.2f} of {known.good}"])
    columns = (
        "masks of one click", "masks", "more than 5 × the target, expected > 0.5", "mean error of the expected IoU",
        "rank correlation with Dice", "Dice ≥ 0.8: expected > 0.5",
    )  # fmt: skip
    return table("Confidence", columns, lines)


def axis_differences(rows: Rows) -> dict[str, list[ScanResult]]:
    """Records in each axis order, named as those of the scan as it is, so that they pair."""
    named = [row.model_copy(update={"name": row.tags["scan"]}) for row in rows]
    return grouped(named, lambda row: row.tags["order"])


def axis_table(rows: Rows) -> list[str]:
    """Dice of one click by axis order, and its difference from that of the scan as it is."""
    orders = axis_differences(rows)
    lines = []
    for order, found in orders.items():
        gained = difference(orders["as it is"], found, 1)
        if gained is not None:
            lines.append([order, shown(dice_after(found, 1)), signed(gained.mean, gained.interval), *counts(found)])
    return table("Axis orders, one click", ("axes", "Dice", "difference", "n", "patients"), lines)


def signed(mean: float, interval: tuple[float, float] | None) -> str:
    """A difference with its interval."""
    return f"{mean:+.3f}" + ("" if interval is None else " [{:+.3f}, {:+.3f}]".format(*interval))


def tables(about: dict[str, Any], rows: Rows, seen: Sequence[str]) -> list[str]:
    """All tables of a log, as Markdown."""
    parts = {part: [row for row in rows if row.part == part] for part in PARTS}
    taken = sum({(row.part, row.name, row.seed): row.seconds for row in rows if row.part != "known"}.values())
    counted = {
        part: len({(row.tags.get("scan", row.name), row.seed) for row in found}) for part, found in parts.items()
    }
    seeds = ", ".join(map(str, sorted({row.seed for row in rows})))
    given = f" --seen {' '.join(seen)}" if seen else ""
    lines = [f"# {about['model']}: how far it generalises", ""]
    lines += [f"Written by `python benchmarks/generality.py DATA --model {about['model']} --log LOG{given}`;"]
    lines += [f"measurements: {', '.join(f'{part} {count}' for part, count in counted.items())}; seeds {seeds}."]
    lines += [
        f"Weights (SHA-256) {about['sha256']}. {about['cpu']}, {about['threads']} thread(s); {taken / 60:.0f} min."
    ]
    lines += ["Dice on the scan's own grid, 95 % intervals by patient. The expected overlap is an IoU."]
    lines += made_table(parts["made"]) if parts["made"] else []
    lines += unseen_table([*parts["organs"], *parts["sarcoma"]], seen)
    lines += known_table(parts["known"]) if parts["known"] else []
    lines += confidence_table([row for part in PARTS[:-1] for row in parts[part]], seen)
    lines += axis_table(parts["axes"])
    return lines


def comparison(first: Path, second: Path) -> list[str]:
    """The paired differences of two logs, by part and kind."""
    (before, old), (after, new) = read_log(first), read_log(second)
    lines = []
    for part in PARTS:
        rows = [row for row in new if row.part == part]
        for kind, found in (grouped(rows, lambda row: row.kind) | {"all": rows}).items():
            gains = [difference(old, found, count) for count in (1, COUNT) if part != "axes" or count == 1]
            shared = [gain for gain in gains if gain is not None]
            if shared:
                texts = [signed(gain.mean, gain.interval) for gain in shared]
                lines.append([part, kind, *texts, *[""] * (2 - len(texts)), str(shared[0].pairs)])
    title = f"{after['model']} ({after['sha256'][:8]}) less {before['model']} ({before['sha256'][:8]})"
    return table(title, ("part", "kind", "one click", "five clicks", "pairs"), lines)


def tune_baseline(data: Path, count: int) -> None:
    """Print region growing's one-click Dice under a grid of settings, on made targets of another seed."""
    kinds = list(hosts(data).values())
    made = [numbered_target(kinds, index, TUNING_SEED).scan for index in range(count)]
    for tolerance, smoothing, reach in product((0.05, 0.1, 0.15, 0.2, 0.3), (0.0, 0.7, 1.2), (10.0, 15.0, 25.0)):
        settings = GrowingSettings(tolerance, smoothing, reach)
        values = [result.dice[0] for result in corrected(RegionGrowing(settings), made, 1)]
        print(f"{np.mean(values):.4f} {settings}", flush=True)


def cpu() -> str:
    """The processor's name, as the system gives it."""
    path = Path("/proc/cpuinfo")
    named = [line for line in path.read_text().splitlines() if line.startswith("model name")] if path.exists() else []
    return named[0].partition(":")[2].strip() if named else platform.processor() or platform.machine()


def run(arguments: argparse.Namespace) -> None:
    """Measure what the log lacks, then print the tables."""
    torch.set_num_threads(arguments.threads)
    bundle = load(arguments.model)
    about = {"model": bundle.provenance.name, "sha256": bundle.sha256(), "cpu": cpu(), "threads": arguments.threads}
    log = Log(arguments.log, about)
    predictor = Predictor(bundle, InferenceSettings(device=arguments.device))
    for part in arguments.parts:
        tasks = list(TASKS[part](predictor, arguments.data, arguments.seeds))
        limit = QUICK[part] if arguments.quick else arguments.limit
        for task in tasks[:limit]:
            log.measure(task)
    rows = list(log.rows.values())
    lines = tables(about, rows, arguments.seen)
    print("\n".join(lines))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(summary(rows, arguments.seen), indent=1) + "\n")
    if arguments.write is not None:
        arguments.write.write_text("\n".join([*lines, ""]))


def summary(rows: Rows, seen: Sequence[str]) -> list[dict[str, Any]]:
    """Dice by part and kind, and the confidence in one click's masks, as plain data."""
    found = []
    for group in grouped(rows, lambda row: f"{row.part}: {row.kind}").values():
        prompts = [count for count in (1, COUNT) if count <= len(group[0].dice)]
        sure = confidence(group)
        record: dict[str, Any] = {"part": group[0].part, "kind": group[0].kind}
        record |= {"seen": group[0].tags.get("cohort") in seen, "seeds": sorted({row.seed for row in group})}
        record |= {f"after {count}": dice_after(group, count).plain() for count in prompts}
        if group[0].baseline:
            record |= {f"region growing after {count}": baseline_after(group, count).plain() for count in prompts}
        if sure is not None:  # JSON knows no NaN
            record["confidence"] = {key: None if np.isnan(value) else value for key, value in sure._asdict().items()}
        found.append(record)
    return found


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="the cohorts' folder")
    parser.add_argument("--model", default="palpate-tiny", help="a bundled model's name, or a file")
    parser.add_argument("--log", type=Path, help="a line a measurement; what it holds is not measured again")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--limit", type=int, help="only the first so many measurements of each part")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the simulated user")
    parser.add_argument("--quick", action="store_true", help="a few fixed targets of every part")
    parser.add_argument("--seen", nargs="+", default=[], help="cohorts that the model was trained on")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--write", type=Path, help="write the tables here, too, as Markdown")
    parser.add_argument("--compare", type=Path, nargs=2, metavar="LOG", help="print the differences of two logs")
    parser.add_argument("--tune-baseline", action="store_true", help="region growing under a grid of settings")
    arguments = parser.parse_args()
    if arguments.compare:
        print("\n".join(comparison(*arguments.compare)))
    elif arguments.data is None:
        parser.error("name the cohorts' folder")
    elif arguments.tune_baseline:
        tune_baseline(arguments.data, arguments.limit or 42)
    elif arguments.log is None:
        parser.error("name a log with --log")
    else:
        run(arguments)


if __name__ == "__main__":
    main()
