r"""Train palpate-tiny from nothing on three public cohorts, and measure it on its held-out patients.

    python benchmarks/train_tiny.py train DATA --out runs/stage1
    python benchmarks/train_tiny.py train DATA --out runs/stage2 --init runs/stage1/model.safetensors --seed 1 \
        --steps 1500 --learning-rate 5e-4 --synthetic 90 --hide 0.3 --fill 0.5 --validate-every 300
    python benchmarks/train_tiny.py blend DATA runs/stage1/model.safetensors runs/stage2/model.safetensors \
        --share 0.65 -o runs/blend.safetensors
    python benchmarks/train_tiny.py publish DATA --model runs/blend.safetensors -o palpate-tiny.safetensors \
        --training-log runs/stage1/log.jsonl runs/stage2/log.jsonl --blend 0.65
    python benchmarks/train_tiny.py test DATA

DATA holds hippocampus/, lung_nodules/ and sarcoma/. The logs of the runs behind the model that ships are
train_tiny.stage1.jsonl and train_tiny.stage2.jsonl, beside this file; the second stage exists because the
first took a crop that lies wholly inside its scan for a sign of a large lesion (docs/architecture.md).

Each cohort is laid out as the Medical Segmentation Decathlon's. Hippocampus and nodules are split
80/10/10 by a hash of file and patient; sarcoma by its fixed patients (001-014, 015-017, 018-020).
Only `publish` and `test` open a test scan; both append to a log, so that every look is known.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from palpate.bundle import Bundle, Provenance, load
from palpate.cohort import LabelledScan, list_scans, split_of
from palpate.cohort.sampling import Augmentation, CropSampler, Labelled
from palpate.evaluation import bootstrap_interval, one_click
from palpate.frame import CropPercentiles, Preprocessing
from palpate.model import SIZES, Network
from palpate.phantom import Phantom, make_phantom
from palpate.predictor import Predictor
from palpate.simulation import counted_rng
from palpate.training import Recipe, train
from palpate.volume import Volume
from speed import processor

SHARES = {"hippocampus": 0.4, "lung_nodules": 0.45, "sarcoma": 0.15}
PREPROCESSING = Preprocessing(crop=(64, 64, 64), spacing=(1.0, 1.0, 1.0), normalisation=CropPercentiles())
LOOKS = Path(__file__).parent / "test_looks.jsonl"
DATA = (
    "hippocampus: Medical Segmentation Decathlon, task 04 (T1 MR), CC BY-SA 4.0, doi 10.1038/s41467-022-30695-9; "
    "split by file, since files do not tell their patients",
    "lung nodules: derived from LIDC-IDRI, The Cancer Imaging Archive (CT), CC BY 3.0, "
    "doi 10.7937/K9/TCIA.2015.LO9QL9SX; split by patient",
    "soft-tissue sarcoma: Image Biomarker Standardisation Initiative, from Vallières et al. (CT, T1 MR, FDG-PET), "
    "CC BY 3.0, doi 10.7937/K9/TCIA.2015.7GO2GSKS; patients 001-014 train, 015-017 validation, 018-020 test",
)
SYNTHETIC_SHARE = 0.25
VALIDATED = 40  # scans of a cohort that are looked at while training: the first, by name


def patient_of(cohort: str, name: str) -> str:
    """Whose scan it is: hippocampus files do not tell, so each counts as a patient of its own."""
    return {"hippocampus": name, "lung_nodules": name.partition("_")[0], "sarcoma": name[:7]}[cohort]


def part_of(cohort: str, name: str) -> str:
    """Train, validation or test."""
    if cohort == "sarcoma":
        number = int(name[4:7])
        return "train" if number <= 14 else "validation" if number <= 17 else "test"
    return split_of(patient_of(cohort, name))


def kind_of(cohort: str, name: str) -> str:
    """What a scan's figure is counted under: the cohort, and for sarcoma the modality."""
    return f"sarcoma {name.split('_', 2)[2]}" if cohort == "sarcoma" else cohort


def synthetic(count: int, first: int) -> Iterator[Phantom]:
    """Phantoms of seeds `first` to `first + count`: small to large lesions in three organs, several spacings."""
    for seed in range(first, first + count):
        rng = counted_rng(seed, "synthetic cohort")
        plane, slices = rng.uniform(1.1, 1.8), rng.uniform(1.1, 3.0)
        yield make_phantom(
            shape=(112, 112, round(200 / slices)),
            spacing=(plane, plane, slices),
            seed=seed,
            site=("liver", "lung", "kidney")[seed % 3],
            lesion_diameter_mm=float(np.exp(rng.uniform(np.log(7), np.log(34)))),
            noise_hu=float(rng.uniform(4, 25)),
        )


def scans_of(data: Path, cohort: str, part: str) -> list[LabelledScan]:
    """A cohort's scans of one part of the split."""
    return [scan for scan in list_scans(data / cohort) if part_of(cohort, scan.name) == part]


def measure(
    predictor: Predictor, data: Path, part: str, seed: int, most: int | None = None
) -> Iterator[tuple[str, str, float]]:
    """Kind, patient and one-click Dice of every scan of a part (or of the first `most` of a cohort)."""
    for cohort in SHARES:
        scans = ((scan.name, *scan.load()) for scan in scans_of(data, cohort, part)[:most])
        for result in one_click(predictor, scans, seed):
            yield kind_of(cohort, result.name), patient_of(cohort, result.name), result.dice


def means(rows: list[tuple[str, str, float]]) -> dict[str, float]:
    """Mean Dice by kind."""
    grouped: dict[str, list[float]] = defaultdict(list)
    for kind, _, value in rows:
        grouped[kind].append(value)
    return {kind: round(float(np.mean(values)), 4) for kind, values in sorted(grouped.items())}


def run_training(arguments: argparse.Namespace) -> None:
    """Train, validating through the Predictor, and keep the averaged weights."""
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(arguments.seed)
    network = load(arguments.init).network if arguments.init else Network(SIZES["tiny"])
    recipe = Recipe(
        steps=arguments.steps,
        batch=arguments.batch,
        learning_rate=arguments.learning_rate,
        precision=arguments.precision,
        seed=arguments.seed,
    )
    cohorts = [[Labelled(*scan.load()) for scan in scans_of(arguments.data, cohort, "train")] for cohort in SHARES]
    shares = list(SHARES.values())
    if arguments.synthetic:
        cohorts.append([Labelled(m.volume, m.lesion.full()) for m in synthetic(arguments.synthetic, first=1000)])
        shares.append(SYNTHETIC_SHARE)
    held_out = held_out_phantoms()
    augmentation = Augmentation(hide=arguments.hide, fill=arguments.fill)
    sampler = CropSampler(cohorts, shares, PREPROCESSING, augmentation, arguments.seed)
    log = (out / "log.jsonl").open("a")

    def tell(**row: object) -> None:
        line = json.dumps(row)
        print(line, flush=True)
        log.write(line + "\n")
        log.flush()

    provenance = Provenance(name="palpate-tiny", origin="benchmarks/train_tiny.py", recipe=recipe.model_dump())
    losses: list[float] = []

    def report(step: int, loss: float, averaged: Network, seconds: float) -> None:
        losses.append(loss)
        if step % 20 == 0:
            tell(step=step, loss=round(float(np.mean(losses[-20:])), 4), seconds=round(seconds, 1))
        if step % arguments.validate_every == 0 or step == recipe.steps:
            bundle = Bundle(averaged, PREPROCESSING, provenance)
            bundle.save(out / "model.safetensors")
            predictor = Predictor(bundle, device=arguments.device)
            rows = list(measure(predictor, arguments.data, "validation", 0, VALIDATED))
            rows += [("synthetic", name, value) for name, _, value in one_click(predictor, held_out)]
            tell(step=step, validation=means(rows))

    tell(started=str(datetime.datetime.now(datetime.UTC)), machine=processor(), torch=torch.__version__)
    tell(
        scans=[len(c) for c in cohorts],
        recipe=recipe.model_dump(),
        augmentation=augmentation.model_dump(),
        init=arguments.init,
        synthetic=arguments.synthetic,
        parameters=sum(p.numel() for p in network.parameters()),
    )
    train(network, sampler, recipe, report, arguments.device)


def figures(predictor: Predictor, arguments: argparse.Namespace) -> dict[str, dict[str, object]]:
    """One random click a scan, seeds 0 to 4: mean Dice, its interval by patients, scans and patients of each kind."""
    rows = [row for seed in arguments.seeds for row in measure(predictor, arguments.data, arguments.part, seed)]
    table: dict[str, dict[str, object]] = {}
    for kind, mean in means(rows).items():
        by_patient: dict[str, list[float]] = defaultdict(list)
        for _, patient, value in (row for row in rows if row[0] == kind):
            by_patient[patient].append(value)
        low, high = bootstrap_interval([float(np.mean(values)) for values in by_patient.values()])
        scans = sum(row[0] == kind for row in rows) // len(arguments.seeds)
        table[kind] = {
            "dice": mean,
            "interval": [round(low, 3), round(high, 3)],
            "scans": scans,
            "patients": len(by_patient),
        }
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    look = {"when": when, "model": arguments.model, "part": arguments.part, "seeds": arguments.seeds, "table": table}
    with arguments.log.open("a") as log:
        log.write(json.dumps(look) + "\n")
    print(json.dumps(table, indent=1))
    return table


def run_test(arguments: argparse.Namespace) -> None:
    """Measure a model on a part of the split."""
    figures(Predictor(load(arguments.model), device=arguments.device), arguments)


def run_blend(arguments: argparse.Namespace) -> None:
    """Average the weights of two stages, tensor by tensor, and validate (Wortsman et al., arXiv 2109.01903)."""
    first, second = load(arguments.first), load(arguments.second)
    state = second.network.state_dict()
    blended = {k: torch.lerp(v, state[k], arguments.share) for k, v in first.network.state_dict().items()}
    second.network.load_state_dict(blended)
    predictor = Predictor(second, device=arguments.device)
    rows = list(measure(predictor, arguments.data, "validation", 0, VALIDATED))
    rows += [("synthetic", name, value) for name, _, value in one_click(predictor, held_out_phantoms())]
    print(json.dumps({"share": arguments.share, "validation": means(rows)}), flush=True)
    if arguments.output:
        second.save(arguments.output)


def held_out_phantoms() -> list[tuple[str, Volume, npt.NDArray[np.bool_]]]:
    """Twelve phantoms that no training sees: name, scan and lesion."""
    return [(m.title, m.volume, m.lesion.full()) for m in synthetic(12, first=500)]


def settings_of(log: Path) -> dict[str, object]:
    """The settings that a training run wrote at the head of its log."""
    rows = (json.loads(line) for line in log.read_text().splitlines())
    settings: dict[str, object] = next(row for row in rows if "recipe" in row)
    return settings


def run_publish(arguments: argparse.Namespace) -> None:
    """Write a trained model in half precision, with its data, licences and held-out figures inside."""
    stages = [settings_of(log) for log in arguments.training_log]
    trained = load(arguments.model)
    trained.save(arguments.output, dtype=torch.float16)
    stored = load(arguments.output)  # what is measured is what is shipped
    table = figures(Predictor(stored, device=arguments.device), arguments)
    provenance = stored.provenance.model_copy(
        update={
            "origin": "trained from nothing by benchmarks/train_tiny.py; every parameter was tuned",
            "licence": "CC BY-SA 4.0",
            "data": DATA,
            "figures": {f"{arguments.part} patients, one random click a scan, native grid, seeds 0-4": table},
            "recipe": {
                "shares": SHARES,
                "synthetic share": SYNTHETIC_SHARE,
                "stages": stages,
                "blend": arguments.blend,
            },
            "notice": "Research software, not a medical device; not for diagnosis or treatment.",
        }
    )
    Bundle(stored.network, stored.preprocessing, provenance).save(arguments.output, dtype=torch.float16)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train", help="train from nothing")
    training.add_argument("data", type=Path)
    training.add_argument("--out", type=Path, required=True)
    training.add_argument("--steps", type=int, default=4500)
    training.add_argument("--batch", type=int, default=4)
    training.add_argument("--learning-rate", type=float, default=1e-3)
    training.add_argument("--init", help="go on from this model instead of from nothing")
    training.add_argument("--synthetic", type=int, default=0, help="how many phantoms to mix in")
    training.add_argument("--hide", type=float, default=0.0, help="see cohort.sampling.Augmentation")
    training.add_argument("--fill", type=float, default=0.0, help="see cohort.sampling.Augmentation")
    training.add_argument("--precision", default="bfloat16")
    training.add_argument("--seed", type=int, default=0)
    training.add_argument("--device", default="cpu")
    training.add_argument("--validate-every", type=int, default=500)
    training.set_defaults(run=run_training)
    testing = commands.add_parser("test", help="measure on held-out patients")
    testing.set_defaults(run=run_test)
    publishing = commands.add_parser("publish", help="measure, and write the model that ships")
    publishing.set_defaults(run=run_publish)
    publishing.add_argument("-o", "--output", type=Path, required=True)
    publishing.add_argument("--training-log", type=Path, nargs="+", required=True, help="log.jsonl of each stage")
    publishing.add_argument("--blend", type=float, help="the share of the second stage that `blend` was given")
    blending = commands.add_parser("blend", help="average the weights of two stages, and validate")
    blending.set_defaults(run=run_blend)
    blending.add_argument("data", type=Path)
    blending.add_argument("first")
    blending.add_argument("second")
    blending.add_argument("--share", type=float, required=True, help="of the second, 0 to 1")
    blending.add_argument("-o", "--output", type=Path)
    blending.add_argument("--device", default="cpu")
    for command in (testing, publishing):
        command.add_argument("data", type=Path)
        command.add_argument("--model", default="palpate-tiny")
        command.add_argument("--part", choices=("validation", "test"), default="test")
        command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
        command.add_argument("--device", default="cpu")
        command.add_argument("--log", type=Path, default=LOOKS, help="append the figures here, one line a look")
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
