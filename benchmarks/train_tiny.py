r"""Train palpate-tiny from nothing on three public cohorts, and evaluate it on held-out patients.

    python benchmarks/train_tiny.py prepare DATA --out runs/tiny
    palpate train runs/tiny/{hippocampus,lung_nodules,sarcoma} --share 0.4 --share 0.45 --share 0.15 \
        --preset runs/tiny/stage1.yaml --out runs/tiny/stage1 --no-test
    palpate train runs/tiny/{hippocampus,lung_nodules,sarcoma,synthetic} --share 0.32 --share 0.36 --share 0.12 \
        --share 0.2 --preset runs/tiny/stage2.yaml --init runs/tiny/stage1/best.safetensors --out runs/tiny/stage2 \
        --no-test
    python benchmarks/train_tiny.py blend DATA runs/tiny/stage1/best.safetensors runs/tiny/stage2/best.safetensors \
        --share 0.65 -o runs/tiny/blend.safetensors
    palpate train runs/tiny/{hippocampus,lung_nodules,sarcoma,synthetic} --share 0.34 --share 0.36 --share 0.22 \
        --share 0.08 --preset runs/tiny/stage3.yaml --init runs/tiny/blend.safetensors --out runs/tiny/stage3 --no-test
    python benchmarks/train_tiny.py publish DATA --model runs/tiny/stage3/last.safetensors -o palpate-tiny.safetensors \
        --stage runs/tiny/stage1 runs/tiny/stage2 runs/tiny/stage3 --blends "the first two stages, 0.35 and 0.65"
    python benchmarks/train_tiny.py answers DATA --model palpate-tiny.safetensors -o answers.json
    python benchmarks/train_tiny.py test DATA --model palpate-tiny.safetensors --answers answers.json
    python benchmarks/train_tiny.py test DATA --model palpate-tiny.safetensors --answers answers.json \
        --subsets validation test --min-ml 500
    python benchmarks/train_tiny.py test DATA --model palpate-tiny.safetensors --answers answers.json \
        --subsets validation test --min-ml 500 --no-zoom
    python benchmarks/train_tiny.py correct DATA --model palpate-tiny.safetensors --answers answers.json
    python benchmarks/train_tiny.py figures --model palpate-tiny.safetensors --write benchmarks/palpate-tiny.md

DATA holds hippocampus/, lung_nodules/ and sarcoma/. The first two stages of the `palpate-tiny` that ships ran under
version 0.1.0's own loop, before there was `palpate train`: their logs are train_tiny.stage1.jsonl and
train_tiny.stage2.jsonl, beside this file. The second stage exists because the first took a crop that lies wholly
inside its scan for a sign of a large lesion (docs/design/experiments.md). The third learns from a simulated user; it
reached its settings by detours, in six runs and four blends, which the model's file lists (`palpate info
palpate-tiny`): stage3.yaml in one go has not been run.

Hippocampus and nodules are split 80/10/10 by a hash of file and patient; sarcoma by its fixed patients (001-014,
015-017, 018-020). `prepare` packs every scan; only `test` and `correct` use a test patient's mask, and both append
to a ledger, so that every use is known. Figures belong to the answers that `answers` recorded: the same answers, the
same figures, whatever the code.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from palpate.bundle import Bundle, load, with_tuning
from palpate.cohort import Cohort, LabelledScan, LabelledVolume, Split, Subset, subset_by_hash, target_of
from palpate.cohort.layouts import find_cohort
from palpate.cohort.prepare import prepare
from palpate.evaluation import Corrected, Figure, HeldOutLedger, calibrated, corrected, interact, one_click, sampled
from palpate.frame import CropPercentiles, Preprocessing
from palpate.inference import RULES, InferenceSettings
from palpate.phantom import Phantom, make_phantom, write_phantom
from palpate.predictor import Predictor
from palpate.randomness import counted_rng
from palpate.simulation import FIRST_PROMPT_KINDS, UserModel
from palpate.training import starting_from_nothing
from palpate.training.settings import Settings
from tiny_figures import (
    ONE_CLICK,
    answers_of,
    correcting,
    correction_figures,
    digest,
    holding,
    origin_of,
    page_of,
    protocol,
)

SHARES = {"hippocampus": 0.4, "lung_nodules": 0.45, "sarcoma": 0.15}
PREPROCESSING = Preprocessing(crop=(64, 64, 64), spacing=(1.0, 1.0, 1.0), normalisation=CropPercentiles())
LEDGER = Path(__file__).parent / "test_set_uses.jsonl"
DATA = (
    "hippocampus: Medical Segmentation Decathlon, task 04 (T1 MR), CC BY-SA 4.0, doi 10.1038/s41467-022-30695-9; "
    "split by file, since files do not tell their patients",
    "lung nodules: derived from LIDC-IDRI, The Cancer Imaging Archive (CT), CC BY 3.0, "
    "doi 10.7937/K9/TCIA.2015.LO9QL9SX; split by patient",
    "soft-tissue sarcoma: Image Biomarker Standardisation Initiative, from Vallières et al. (CT, T1 MR, FDG-PET), "
    "CC BY 3.0, doi 10.7937/K9/TCIA.2015.7GO2GSKS; patients 001-014 train, 015-017 validation, 018-020 test",
)
PATIENT = {"hippocampus": None, "lung_nodules": r"^(LIDC-IDRI-\d+)", "sarcoma": r"^(STS_\d+)"}
SYNTHETIC, FIRST_SYNTHETIC = 90, 1000  # phantoms that train, and the first one's seed
MAX_VALIDATION = 40  # scans of a cohort that are evaluated while training: the first, by name
MAX_CALIBRATION = 20  # and those that a model is calibrated on


def patient_of(cohort: str, name: str) -> str:
    """A scan's patient: hippocampus files name none, so each counts as a patient of its own."""
    return {"hippocampus": name, "lung_nodules": name.partition("_")[0], "sarcoma": name[:7]}[cohort]


def subset_of(cohort: str, name: str) -> Subset:
    """The subset of a scan."""
    if cohort == "sarcoma":
        number = int(name[4:7])
        return "train" if number <= 14 else "validation" if number <= 17 else "test"
    return subset_by_hash(patient_of(cohort, name))


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


def scans_of(data: Path, cohort: str, subset: str, min_ml: float = 0.0) -> Iterator[LabelledVolume]:
    """A cohort's scans of a subset, with a target of at least so many mL."""
    for scan in find_cohort(data / cohort).scans:
        if subset_of(cohort, scan.name) == subset:
            volume, label = scan.load()
            target = target_of(label.array, ())
            if target.sum() * volume.grid.voxel_ml >= min_ml:
                yield LabelledVolume(scan.name, patient_of(cohort, scan.name), volume, target)


def evaluate(
    predictor: Predictor, data: Path, subset: str, seed: int, max_scans: int | None = None, min_ml: float = 0.0
) -> Iterator[tuple[str, str, str, float]]:
    """Kind, scan, patient and one-click Dice of every scan of a subset (or of the first `max_scans` of a cohort)."""
    for cohort in SHARES:
        for result in one_click(predictor, islice(scans_of(data, cohort, subset, min_ml), max_scans), seed):
            yield kind_of(cohort, result.name), result.name, patient_of(cohort, result.name), result.dice


def means(rows: list[tuple[str, str, str, float]]) -> dict[str, float]:
    """Mean Dice by kind."""
    grouped: dict[str, list[float]] = defaultdict(list)
    for kind, _, _, value in rows:
        grouped[kind].append(value)
    return {kind: round(float(np.mean(values)), 4) for kind, values in sorted(grouped.items())}


def split_of_all(cohorts: dict[str, Cohort]) -> Split:
    """Every patient of every cohort, by subset; phantoms are for training."""
    subsets: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
    for name, cohort in cohorts.items():
        for scan in cohort.scans:
            subsets[subset_of(name, scan.name)].add(scan.patient)
    subsets["train"] |= {f"synthetic_{seed}" for seed in range(FIRST_SYNTHETIC, FIRST_SYNTHETIC + SYNTHETIC)}
    return Split(**{subset: tuple(sorted(names)) for subset, names in subsets.items()})


def synthetic_cohort(folder: Path) -> Cohort:
    """The phantoms as files."""
    folder.mkdir(parents=True, exist_ok=True)
    scans = []
    for seed, made in enumerate(synthetic(SYNTHETIC, first=FIRST_SYNTHETIC), FIRST_SYNTHETIC):
        image, label = write_phantom(made, folder / f"synthetic_{seed}")
        scans.append(LabelledScan(f"synthetic_{seed}", image, label, f"synthetic_{seed}"))
    return Cohort(folder, "phantoms", tuple(scans))


def run_prepare(arguments: argparse.Namespace) -> None:
    """Prepare the cohorts and the phantoms, and write all stages' presets."""
    out: Path = arguments.out
    cohorts = {name: find_cohort(arguments.data / name, patient=PATIENT[name]) for name in SHARES}
    split = split_of_all(cohorts)
    for name, cohort in {**cohorts, "synthetic": synthetic_cohort(out / "phantoms")}.items():
        print(name, prepare(cohort, out / name).sha256, flush=True)
    first = starting_from_nothing("palpate-tiny", (), PREPROCESSING, split).with_recipe(steps=4500, num_validations=9)
    first.write(out / "stage1.yaml")
    second = first.with_recipe(steps=1500, num_validations=5, learning_rate=5e-4, seed=1)
    augmentation = second.augmentation.model_copy(update={"mask_out_prob": 0.3, "background_paste_prob": 0.5})
    second = second.model_copy(update={"augmentation": augmentation})
    second.write(out / "stage2.yaml")
    # Less is masked out and pasted than in the second stage: a run with as much lost Dice on tight crops.
    augmentation = augmentation.model_copy(update={"mask_out_prob": 0.1, "background_paste_prob": 0.2})
    third = second.model_copy(update={"augmentation": augmentation}).as_interactive()
    third.with_recipe(steps=5000, num_validations=4, seed=3, patience=None).write(out / "stage3.yaml")


def checked_origin(arguments: argparse.Namespace, bundle: Bundle) -> str:
    """The digest of the recorded answers that figures will belong to.

    Raises:
        SystemExit: the record is of another model, or this code or machine gives another answer to its first scan.
    """
    record = json.loads(arguments.answers.read_text())
    if record["sha256"] != bundle.sha256():
        raise SystemExit(f"{arguments.answers}: of another model; write this one's with `answers`")
    answers = answers_of(record)
    key, found = next(recorded(bundle, arguments.data, 1, record["count"], arguments.device))
    if answers.get(key) != found:
        raise SystemExit(f"{arguments.answers}: this code, on this machine, answers {key} otherwise; write them anew")
    return digest(answers)


def about(arguments: argparse.Namespace, bundle: Bundle, origin: str) -> dict[str, Any]:
    """What every line of the ledger says of a measurement."""
    known = {"model": arguments.model, "sha256": bundle.sha256(), "answers": origin, "zoom": not arguments.no_zoom}
    return known | {"seeds": arguments.seeds, "rules": RULES}


def run_test(arguments: argparse.Namespace) -> None:
    """One random click a scan: mean Dice, its interval by patients, scans and patients of each kind of scan."""
    bundle = load(arguments.model)
    origin = checked_origin(arguments, bundle)
    predictor = Predictor(bundle, InferenceSettings(device=arguments.device, zoom=not arguments.no_zoom))
    rows = [
        row
        for subset in arguments.subsets
        for seed in arguments.seeds
        for row in evaluate(predictor, arguments.data, subset, seed, min_ml=arguments.min_ml)
    ]
    subset = " and ".join(arguments.subsets)
    how = protocol(ONE_CLICK, min_ml=arguments.min_ml, zoom=not arguments.no_zoom)
    figures = [
        Figure.of(row[1:] for row in rows if row[0] == kind).record(subset, how, seeds=arguments.seeds, cohort=kind)
        for kind in sorted({kind for kind, *_ in rows})
    ]
    use = about(arguments, bundle, origin) | {"subset": subset, "patients": sorted({row[2] for row in rows})}
    HeldOutLedger(arguments.log).append(use | {"figures": [figure.model_dump(mode="json") for figure in figures]})
    print("\n".join(f"{figure.cohort}: {figure.text}" for figure in figures))


def corrections(
    predictor: Predictor, arguments: argparse.Namespace, cohort: str, kind: str, count: int
) -> Iterator[tuple[str, str, Corrected]]:
    """Kind of scan, patient and a simulated user's corrections of a cohort's scans of a subset, one after the other."""
    user_model = UserModel(stroke_prob=arguments.strokes)
    for seed in arguments.seeds:
        scans = islice(scans_of(arguments.data, cohort, arguments.subset), arguments.max_scans)
        for result in corrected(predictor, scans, count, kind, seed, user_model):
            yield kind_of(cohort, result.name), patient_of(cohort, result.name), result


def run_correct(arguments: argparse.Namespace) -> None:
    """A simulated user's prompts and corrections: Dice after 1, 2, 3, 5 and 10 prompts, by cohort and first prompt."""
    bundle = load(arguments.model)
    origin = checked_origin(arguments, bundle)
    predictor = Predictor(bundle, InferenceSettings(device=arguments.device, zoom=not arguments.no_zoom))
    counts = tuple(count for count in (1, 2, 3, 5, 10) if count <= arguments.count)
    for kind, cohort in product(arguments.kinds, arguments.cohorts):
        rows: dict[str, list[tuple[str, Corrected]]] = defaultdict(list)
        for scans, patient, result in corrections(predictor, arguments, cohort, kind, counts[-1]):
            rows[scans].append((patient, result))
        how = correcting(kind, arguments.strokes)
        known = {
            "subset": arguments.subset,
            "protocol": protocol(how, max_scans=arguments.max_scans, zoom=not arguments.no_zoom),
            "seeds": tuple(arguments.seeds),
        }
        figures = [
            figure
            for scans, found in sorted(rows.items())
            for figure in correction_figures(found, counts, cohort=scans, **known)
        ]
        patients = sorted({patient for found in rows.values() for patient, _ in found})
        use = about(arguments, bundle, origin) | {"subset": arguments.subset, "patients": patients}
        use |= {"first_prompt": kind, "figures": [figure.model_dump(mode="json") for figure in figures]}
        HeldOutLedger(arguments.log).append(use)  # one by one: a use is known, whatever becomes of the rest
        print("\n".join(f"{kind}, {figure.cohort}, {figure.metric}: {figure.text}" for figure in figures), flush=True)


def run_blend(arguments: argparse.Namespace) -> None:
    """Average the weights of two stages, tensor by tensor, and validate (Wortsman et al., arXiv 2109.01903)."""
    first, second = load(arguments.first), load(arguments.second)
    state = second.network.state_dict()
    common = first.network.state_dict()  # what only the second has stays as it is
    blended = {k: torch.lerp(common[k], v, arguments.share) if k in common else v for k, v in state.items()}
    second.network.load_state_dict(blended)
    predictor = Predictor(second, InferenceSettings(device=arguments.device))
    rows = list(evaluate(predictor, arguments.data, "validation", 0, MAX_VALIDATION))
    rows += [("synthetic", name, name, value) for name, _, value in one_click(predictor, held_out_phantoms())]
    print(json.dumps({"share": arguments.share, "validation": means(rows)}), flush=True)
    if arguments.output:
        second.save(arguments.output)


def held_out_phantoms() -> list[LabelledVolume]:
    """Twelve phantoms that are in no training."""
    return [LabelledVolume(m.title, m.title, m.volume, m.lesion.full()) for m in synthetic(12, first=500)]


def run_publish(arguments: argparse.Namespace) -> None:
    """Write a trained model in half precision, calibrated on validation, with its data, licences and recipe inside."""
    trained = with_tuning(load(arguments.model), "spatial")  # adapting it tunes what the paper tunes, by default
    # Its stages ran before models predicted mirrored crops; half of their crops were mirrored.
    preprocessing = trained.preprocessing.model_copy(update={"mirror": True})
    Bundle(trained.network, preprocessing, trained.provenance).save(arguments.output, dtype=torch.float16)
    stored = load(arguments.output)  # what is evaluated is what is shipped
    scans = (
        scan for cohort in SHARES for scan in islice(scans_of(arguments.data, cohort, "validation"), MAX_CALIBRATION)
    )
    predictor = Predictor(stored, InferenceSettings(device=arguments.device))
    calibration = calibrated(sampled(predictor, scans, 3, ("click", "box")))
    print(calibration.model_dump_json(indent=1))
    before = {"set out from": load(arguments.before).provenance.recipe} if arguments.before else {}
    provenance = stored.provenance.model_copy(
        update={
            "name": "palpate-tiny",
            "origin": "trained from nothing by benchmarks/train_tiny.py; every parameter was tuned",
            "licence": "CC BY-SA 4.0",
            "data": DATA,
            "figures": (),
            "recipe": before | {"stages": [stage_of(run) for run in arguments.stage], "blends": arguments.blends},
            "notice": "Research software, not a medical device; not for diagnosis or treatment.",
        }
    )
    Bundle(stored.network, stored.preprocessing, provenance, calibration).save(arguments.output, dtype=torch.float16)


def stage_of(run: Path) -> dict[str, object]:
    """A stage's settings and steps, from its run's folder."""
    settings = Settings.read(run)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    preset = settings.preset.model_dump(mode="json", exclude={"split"}) | {"init": Path(settings.preset.init).name}
    return {"run": run.name, "shares": settings.shares, "steps done": rows[-1]["step"], "preset": preset}


def recorded(bundle: Bundle, data: Path, max_scans: int, count: int, device: str) -> Iterator[tuple[str, list[str]]]:
    """A key and hashes of each prompt and mask of a simulated user on validation scans; without zoom, one click's.

    Args:
        bundle: the model.
        data: the cohorts' folder.
        max_scans: scans of a cohort, the first by name.
        count: prompts a scan.
        device: where it runs.
    """
    for zoom, kind, cohort in (*product((True,), FIRST_PROMPT_KINDS, SHARES), *product((False,), ("click",), SHARES)):
        predictor = Predictor(bundle, InferenceSettings(device=device, zoom=zoom))
        for scan in islice(scans_of(data, cohort, "validation"), max_scans):
            hashes = []
            for prompts, prediction in interact(predictor, scan, count if zoom else 1, kind):
                answer = hashlib.sha256(prompts[-1].places.tobytes())
                answer.update(np.packbits(prediction.mask.full()).tobytes())
                hashes.append(answer.hexdigest())
            yield f"{kind}, {scan.name}, {'' if zoom else 'no '}zoom", hashes


def run_answers(arguments: argparse.Namespace) -> None:
    """Write down a hash of every prompt and mask of a simulated user on validation scans: what figures belong to."""
    bundle = load(arguments.model)
    answers: dict[str, list[str]] = {}
    for key, hashes in recorded(bundle, arguments.data, arguments.max_scans, arguments.count, arguments.device):
        answers[key] = hashes
        print(key, len(hashes), flush=True)
    record = {"model": arguments.model, "sha256": bundle.sha256(), "count": arguments.count, "answers": answers}
    arguments.output.write_text(json.dumps(record, indent=1) + "\n")


def run_same(arguments: argparse.Namespace) -> None:
    """Write down that figures of earlier answers hold for these, which are equal, voxel for voxel.

    Those that begin with some kinds of prompt may be left out, and must be measured again. Answers that are equal
    without exception have one digest, and need no such line; it is for those of version 0.1.0, which have none.
    """
    before, now = (json.loads(path.read_text()) for path in (arguments.before, arguments.now))
    if before["sha256"] != now["sha256"]:
        raise SystemExit("both must be of one model")
    earlier, current = answers_of(before), answers_of(now)
    keys = [key for key in current if key.split(", ")[0] not in arguments.but]
    differ = [key for key in keys if earlier.get(key) != current[key]]
    if differ or not keys:
        raise SystemExit("not the same:\n" + "\n".join(differ))
    masks = sum(len(current[key]) for key in keys)
    line = {"model": now["model"], "sha256": now["sha256"], "answers": origin_of(now), "same as": origin_of(before)}
    line |= {"but": arguments.but, "why": arguments.why, "subset": "validation", "masks alike": masks}
    HeldOutLedger(arguments.log).append(line)
    print(f"{masks} masks are equal; figures of {origin_of(before)} hold")


def uses_of(model: str, log: Path) -> list[dict[str, Any]]:
    """The ledger's lines of a model (its SHA-256)."""
    return [use for use in HeldOutLedger(log).uses() if use.get("sha256") == model]


def run_figures(arguments: argparse.Namespace) -> None:
    """Write the figures of a model that hold into its file, and onto a page."""
    bundle = load(arguments.model)
    uses = uses_of(bundle.sha256(), arguments.log)
    figures = tuple(holding(uses))
    if not figures:
        raise SystemExit(f"{arguments.log} has no figure of {arguments.model} ({bundle.sha256()})")
    provenance = bundle.provenance.model_copy(update={"figures": figures})
    Bundle(bundle.network, bundle.preprocessing, provenance, bundle.calibration).save(
        arguments.model, dtype=torch.float16
    )
    if arguments.write:
        arguments.write.write_text("\n".join(page_of(provenance.name, bundle.sha256(), uses, figures)) + "\n")
    print("\n".join(dict.fromkeys(figure.title for figure in figures)))


def add_evaluation(commands: Any) -> None:  # noqa: ANN401 - argparse names no public type for it
    """The commands that evaluate a model, and the one that writes its figures down."""
    testing = commands.add_parser("test", help="measure on held-out patients")
    testing.set_defaults(run=run_test)
    testing.add_argument("--subsets", "--parts", nargs="+", choices=("validation", "test"), default=["test"])
    testing.add_argument("--min-ml", "--least-ml", type=float, default=0.0, help="only lesions of so many mL and more")
    correcting_ = commands.add_parser("correct", help="measure a simulated user's prompts and corrections")
    correcting_.set_defaults(run=run_correct)
    correcting_.add_argument(
        "--kinds", nargs="+", default=list(FIRST_PROMPT_KINDS), choices=FIRST_PROMPT_KINDS, help="of the first prompt"
    )
    correcting_.add_argument("--cohorts", nargs="+", default=list(SHARES), choices=SHARES)
    correcting_.add_argument("--count", type=int, default=10, help="prompts a scan")
    correcting_.add_argument("--max-scans", "--most", type=int, help="scans of a cohort, the first by name")
    correcting_.add_argument("--strokes", type=float, default=0.0, help="how often a correction is a stroke, 0 to 1")
    correcting_.add_argument("--subset", "--part", choices=("validation", "test"), default="test")
    for command in (testing, correcting_):
        command.add_argument("data", type=Path)
        command.add_argument("--model", default="palpate-tiny")
        command.add_argument("--no-zoom", action="store_true", help="one crop at the model's own spacing")
        command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
        command.add_argument("--device", default="cpu")
        command.add_argument("--answers", type=Path, required=True, help="what `answers` recorded of this model")
        command.add_argument("--log", type=Path, default=LEDGER, help="the ledger, one line a use")
    figuring = commands.add_parser("figures", help="put what was measured of a model into its file, and onto a page")
    figuring.set_defaults(run=run_figures)
    figuring.add_argument("--model", type=Path, required=True)
    figuring.add_argument("--log", type=Path, default=LEDGER)
    figuring.add_argument("--write", type=Path, help="a page of tables, as Markdown")


def add_same(commands: Any) -> None:  # noqa: ANN401 - argparse names no public type for it
    """The two commands about recorded answers."""
    answering = commands.add_parser("answers", help="record a hash of every answer on some validation scans")
    answering.set_defaults(run=run_answers)
    answering.add_argument("data", type=Path)
    answering.add_argument("--model", default="palpate-tiny")
    answering.add_argument("--max-scans", "--most", type=int, default=3, help="scans of a cohort, the first by name")
    answering.add_argument("--count", type=int, default=5, help="prompts a scan")
    answering.add_argument("--device", default="cpu")
    answering.add_argument("-o", "--output", type=Path, required=True)
    same = commands.add_parser("same", help="let figures of earlier answers hold for these, which are equal")
    same.set_defaults(run=run_same)
    same.add_argument("before", type=Path, help="the earlier answers")
    same.add_argument("now", type=Path, help="these answers")
    same.add_argument(
        "--but", nargs="+", default=[], choices=FIRST_PROMPT_KINDS, help="first prompts whose figures do not hold"
    )
    same.add_argument("--why", required=True, help="what changed, in words")
    same.add_argument("--log", type=Path, default=LEDGER)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    preparing = commands.add_parser("prepare", help="prepare the cohorts and write all stages' presets")
    preparing.add_argument("data", type=Path)
    preparing.add_argument("--out", type=Path, required=True)
    preparing.set_defaults(run=run_prepare)
    publishing = commands.add_parser("publish", help="calibrate, and write the model that ships")
    publishing.set_defaults(run=run_publish)
    publishing.add_argument("data", type=Path)
    publishing.add_argument("--model", required=True)
    publishing.add_argument("-o", "--output", type=Path, required=True)
    publishing.add_argument("--stage", type=Path, nargs="+", required=True, help="each stage's run")
    publishing.add_argument("--before", help="a published model that the first of these stages set out from")
    publishing.add_argument("--blends", nargs="+", default=[], help="which stages were blended, in words")
    publishing.add_argument("--device", default="cpu")
    add_evaluation(commands)
    add_same(commands)
    blending = commands.add_parser("blend", help="average the weights of two stages, and validate")
    blending.set_defaults(run=run_blend)
    blending.add_argument("data", type=Path)
    blending.add_argument("first")
    blending.add_argument("second")
    blending.add_argument("--share", type=float, required=True, help="of the second, 0 to 1")
    blending.add_argument("-o", "--output", type=Path)
    blending.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
