r"""Train palpate-tiny from nothing on three public cohorts, and measure it on its held-out patients.

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
    python benchmarks/train_tiny.py test DATA --model palpate-tiny.safetensors
    python benchmarks/train_tiny.py test DATA --model palpate-tiny.safetensors --parts validation test --least-ml 500
    python benchmarks/train_tiny.py test DATA --model palpate-tiny.safetensors --parts validation test --least-ml 500 \
        --no-zoom
    python benchmarks/train_tiny.py correct DATA --model palpate-tiny.safetensors
    python benchmarks/train_tiny.py figures --model palpate-tiny.safetensors --write benchmarks/palpate-tiny.md

DATA holds hippocampus/, lung_nodules/ and sarcoma/. The first two stages of the `palpate-tiny` that ships ran under
version 0.1.0's own loop, before there was `palpate train`: their logs are train_tiny.stage1.jsonl and
train_tiny.stage2.jsonl, beside this file. The second stage exists because the first took a crop that lies wholly
inside its scan for a sign of a large lesion (docs/architecture.md). The third learns from a simulated user; it reached
its settings by detours, in six runs and four blends, which the model's file lists (`palpate info palpate-tiny`):
stage3.yaml in one go has not been run.

Hippocampus and nodules are split 80/10/10 by a hash of file and patient; sarcoma by its fixed patients (001-014,
015-017, 018-020). `prepare` packs every scan; only `test` and `correct` look at a test patient's mask, and both append
to a log, so that every look is known.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import palpate
from palpate.bundle import Bundle, load, with_tuning
from palpate.cohort import Cohort, LabelledScan, Split, lesion_of, split_of
from palpate.cohort.layouts import find_cohort
from palpate.cohort.prepare import prepare
from palpate.evaluation import Corrected, Figure, calibrated, corrected, one_click, sampled
from palpate.evaluation.protocol import answered
from palpate.frame import CropPercentiles, Preprocessing
from palpate.inference import InferenceSettings
from palpate.phantom import Phantom, make_phantom, write_phantom
from palpate.predictor import Predictor
from palpate.randomness import counted_rng
from palpate.simulation import KINDS, UserModel
from palpate.training import starting_from_nothing
from palpate.training.settings import Settings
from palpate.volume import Volume

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
PATIENT = {"hippocampus": None, "lung_nodules": r"^(LIDC-IDRI-\d+)", "sarcoma": r"^(STS_\d+)"}
SYNTHETIC, FIRST_SYNTHETIC = 90, 1000  # phantoms that train, and the first one's seed
VALIDATED = 40  # scans of a cohort that are looked at while training: the first, by name
CALIBRATED = 20  # and those that a model is calibrated on


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


def scans_of(
    data: Path, cohort: str, part: str, least_ml: float = 0.0
) -> Iterator[tuple[str, Volume, npt.NDArray[np.bool_]]]:
    """Name, scan and lesion of a cohort's scans of one part of the split, with a lesion of at least so many mL."""
    for scan in find_cohort(data / cohort).scans:
        if part_of(cohort, scan.name) == part:
            volume, label = scan.load()
            lesion = lesion_of(label.array, ())
            if lesion.sum() * volume.grid.voxel_ml >= least_ml:
                yield scan.name, volume, lesion


def measure(
    predictor: Predictor, data: Path, part: str, seed: int, most: int | None = None, least_ml: float = 0.0
) -> Iterator[tuple[str, str, str, float]]:
    """Kind, scan, patient and one-click Dice of every scan of a part (or of the first `most` of a cohort)."""
    for cohort in SHARES:
        for result in one_click(predictor, islice(scans_of(data, cohort, part, least_ml), most), seed):
            yield kind_of(cohort, result.name), result.name, patient_of(cohort, result.name), result.dice


def inference() -> str:
    """A hash of the code that answers, clicks and measures: figures of another are figures of another program."""
    package = Path(palpate.__file__).parent
    names = ("predictor", "frame", "resampling", "prompts", "volume", "bundle", "simulation")
    files = [package / f"{name}.py" for name in names]
    files += [file for room in ("inference", "model", "evaluation") for file in sorted((package / room).glob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def means(rows: list[tuple[str, str, str, float]]) -> dict[str, float]:
    """Mean Dice by kind."""
    grouped: dict[str, list[float]] = defaultdict(list)
    for kind, _, _, value in rows:
        grouped[kind].append(value)
    return {kind: round(float(np.mean(values)), 4) for kind, values in sorted(grouped.items())}


def split_of_all(cohorts: dict[str, Cohort]) -> Split:
    """Every patient of every cohort, by part; phantoms train."""
    parts: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
    for name, cohort in cohorts.items():
        for scan in cohort.scans:
            parts[part_of(name, scan.name)].add(scan.patient)
    parts["train"] |= {f"synthetic_{seed}" for seed in range(FIRST_SYNTHETIC, FIRST_SYNTHETIC + SYNTHETIC)}
    return Split(**{part: tuple(sorted(names)) for part, names in parts.items()})


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
    # Less is hidden and filled than in the second stage: one that had as much forgot what tight crops tell.
    augmentation = augmentation.model_copy(update={"mask_out_prob": 0.1, "background_paste_prob": 0.2})
    third = second.model_copy(update={"augmentation": augmentation}).as_interactive()
    third.with_recipe(steps=5000, num_validations=4, seed=3, patience=None).write(out / "stage3.yaml")


def figures(predictor: Predictor, arguments: argparse.Namespace) -> dict[str, dict[str, object]]:
    """One random click a scan, seeds 0 to 4: mean Dice, its interval by patients, scans and patients of each kind."""
    rows = [
        row
        for part in arguments.parts
        for seed in arguments.seeds
        for row in measure(predictor, arguments.data, part, seed, least_ml=arguments.least_ml)
    ]
    kinds = sorted({kind for kind, *_ in rows})
    table = {kind: Figure.of(row[1:] for row in rows if row[0] == kind).record() for kind in kinds}
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    look = {"when": when, "model": arguments.model, "part": " and ".join(arguments.parts), "seeds": arguments.seeds}
    look |= {"sha256": predictor.runtime.sha256(), "code": inference(), "zoom": not arguments.no_zoom}
    look |= {"least mL": arguments.least_ml, "table": table}
    with arguments.log.open("a") as log:
        log.write(json.dumps(look) + "\n")
    print(json.dumps(table, indent=1))
    return table


def run_test(arguments: argparse.Namespace) -> None:
    """Measure a model on parts of the split."""
    figures(
        Predictor(load(arguments.model), InferenceSettings(device=arguments.device, zoom=not arguments.no_zoom)),
        arguments,
    )


def corrections(
    predictor: Predictor,
    data: Path,
    cohort: str,
    part: str,
    kind: str,
    seeds: list[int],
    count: int,
    most: int | None,
    user_model: UserModel,
) -> Iterator[tuple[str, str, Corrected]]:
    """Kind of scan, patient and a simulated user's corrections of a cohort's scans of a part, one after the other."""
    for seed in seeds:
        scans = islice(scans_of(data, cohort, part), most)
        for result in corrected(predictor, scans, count, kind, seed, user_model):
            yield kind_of(cohort, result.name), patient_of(cohort, result.name), result


def told(rows: list[tuple[str, Corrected]], counts: tuple[int, ...]) -> dict[str, object]:
    """Of (patient, corrections): Dice after so many prompts with intervals, and how clicks were heeded."""
    table: dict[str, object] = {}
    for count in counts:
        figure = Figure.of((r.name, patient, r.dice[count - 1]) for patient, r in rows)
        table[f"after {count}"] = [round(figure.dice, 4), *(round(edge, 3) for edge in figure.interval)]
    steps = [step for _, r in rows for step in r.heeded]
    for positive in (True, False):
        told = [step for step in steps if step.positive is positive]
        if told:
            table["positive" if positive else "negative"] = {
                "said": len(told),
                "followed": round(float(np.mean([step.followed for step in told])), 4),
                "Dice within 10 mm gains": round(float(np.mean([s.near_after - s.near_before for s in told])), 4),
            }
    expected = [pair for _, r in rows for pair in zip(r.quality, r.iou, strict=True)] if rows[0][1].quality else []
    if expected:
        a, b = np.array(expected).T
        table["expected IoU"] = {
            "mean error": round(float(np.abs(a - b).mean()), 4),
            "correlation": round(float(np.corrcoef(a, b)[0, 1]), 4),
        }
    return table


def run_correct(arguments: argparse.Namespace) -> None:
    """A simulated user's prompts and corrections: Dice after 1, 2, 3, 5 and 10 prompts, by cohort and first prompt."""
    predictor = Predictor(load(arguments.model), InferenceSettings(device=arguments.device, zoom=not arguments.no_zoom))
    counts = tuple(count for count in (1, 2, 3, 5, 10) if count <= arguments.count)
    model = {"model": arguments.model, "sha256": predictor.runtime.sha256(), "code": inference()}
    model |= {"zoom": not arguments.no_zoom, "strokes": arguments.strokes}
    user_model = UserModel(stroke_prob=arguments.strokes)
    for kind, cohort in product(arguments.kinds, arguments.cohorts):
        found: dict[str, list[tuple[str, Corrected]]] = defaultdict(list)
        for what, patient, result in corrections(
            predictor,
            arguments.data,
            cohort,
            arguments.part,
            kind,
            arguments.seeds,
            counts[-1],
            arguments.most,
            user_model,
        ):
            found[what].append((patient, result))
        table = {what: told(rows, counts) for what, rows in sorted(found.items())}
        print(kind, json.dumps(table, indent=1), flush=True)
        when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        look = {"when": when, **model, "part": arguments.part, "seeds": arguments.seeds, "most": arguments.most}
        with arguments.log.open("a") as log:  # one by one: what was seen is known, whatever becomes of the rest
            log.write(json.dumps(look | {"corrections": {kind: table}}) + "\n")


def run_blend(arguments: argparse.Namespace) -> None:
    """Average the weights of two stages, tensor by tensor, and validate (Wortsman et al., arXiv 2109.01903)."""
    first, second = load(arguments.first), load(arguments.second)
    state = second.network.state_dict()
    common = first.network.state_dict()  # what only the second has stays as it is
    blended = {k: torch.lerp(common[k], v, arguments.share) if k in common else v for k, v in state.items()}
    second.network.load_state_dict(blended)
    predictor = Predictor(second, InferenceSettings(device=arguments.device))
    rows = list(measure(predictor, arguments.data, "validation", 0, VALIDATED))
    rows += [("synthetic", name, name, value) for name, _, value in one_click(predictor, held_out_phantoms())]
    print(json.dumps({"share": arguments.share, "validation": means(rows)}), flush=True)
    if arguments.output:
        second.save(arguments.output)


def held_out_phantoms() -> list[tuple[str, Volume, npt.NDArray[np.bool_]]]:
    """Twelve phantoms that no training sees: name, scan and lesion."""
    return [(m.title, m.volume, m.lesion.full()) for m in synthetic(12, first=500)]


def run_publish(arguments: argparse.Namespace) -> None:
    """Write a trained model in half precision, calibrated on validation, with its data, licences and recipe inside."""
    trained = with_tuning(load(arguments.model), "spatial")  # who adapts it tunes what the paper tunes, by default
    # Its stages ran before models looked at mirrored crops; half of theirs were mirrored.
    preprocessing = trained.preprocessing.model_copy(update={"mirror": True})
    Bundle(trained.network, preprocessing, trained.provenance).save(arguments.output, dtype=torch.float16)
    stored = load(arguments.output)  # what is measured is what is shipped
    scans = (scan for cohort in SHARES for scan in islice(scans_of(arguments.data, cohort, "validation"), CALIBRATED))
    predictor = Predictor(stored, InferenceSettings(device=arguments.device))
    confidence = calibrated(sampled(predictor, scans, 3, ("click", "box")))
    print(confidence.model_dump_json(indent=1))
    before = {"set out from": load(arguments.before).provenance.recipe} if arguments.before else {}
    provenance = stored.provenance.model_copy(
        update={
            "name": "palpate-tiny",
            "origin": "trained from nothing by benchmarks/train_tiny.py; every parameter was tuned",
            "licence": "CC BY-SA 4.0",
            "data": DATA,
            "figures": {},
            "recipe": before | {"stages": [stage_of(run) for run in arguments.stage], "blends": arguments.blends},
            "notice": "Research software, not a medical device; not for diagnosis or treatment.",
        }
    )
    Bundle(stored.network, stored.preprocessing, provenance, confidence).save(arguments.output, dtype=torch.float16)


def stage_of(run: Path) -> dict[str, object]:
    """What a stage did, from its run's folder."""
    settings = Settings.read(run)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    preset = settings.preset.model_dump(mode="json", exclude={"split"}) | {"init": Path(settings.preset.init).name}
    return {"run": run.name, "shares": settings.shares, "steps done": rows[-1]["step"], "preset": preset}


def looks_of(model: str, log: Path) -> list[dict[str, Any]]:
    """What the log has of a model (its SHA-256), line by line."""
    return [look for look in map(json.loads, log.read_text().splitlines()) if look.get("sha256") == model]


def rows_of(look: dict[str, Any]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """A look's figures, one by one: what was measured (seeds as "{}"), the first prompt, the cohort, the figures."""
    where = f"{look['part']} patients, native grid, {{}}"
    where += f", the first {look['most']} scans of a cohort" if look.get("most") else ""
    where += f", lesions of {look['least mL']:g} mL and more" if look.get("least mL") else ""
    where += "" if look.get("zoom", True) else ", without zoom"
    for cohort, row in look.get("table", {}).items():
        yield f"{where}: one random click a scan", "click", cohort, row
    strokes = look.get("strokes", 0)
    words = "clicks" if not strokes else f"{'' if strokes == 1 else f'{strokes:.0%} '}strokes, paint and lassos"
    for kind, table in look.get("corrections", {}).items():
        for cohort, row in table.items():
            yield f"{where}: a simulated user, first a {kind}, then correcting {words}", kind, cohort, row


def holding(looks: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The figures that hold for the last code: tables, by what was measured.

    They are its own, and those of earlier code that was shown to answer alike (`run_same`); none of fewer seeds where
    all of these, and more, were measured too.
    """
    codes = [look.get("code") for look in looks]
    carried = [look for look in looks if "same as" in look]
    code = codes[-1] if codes else None
    while newer := [look["code"] for look in carried if look["same as"] == code]:
        code = newer[-1]
    but: dict[str | None, set[str]] = {code: set()}
    for look in reversed(carried):
        if look["code"] in but:
            but[look["same as"]] = but[look["code"]] | set(look["but"])
    found: dict[tuple[str, str], dict[tuple[int, ...], Any]] = defaultdict(dict)
    for look in looks:
        if "same as" not in look and look.get("code") in but:
            for what, kind, cohort, row in rows_of(look):
                if kind not in but[look.get("code")]:
                    found[what, cohort][tuple(look["seeds"])] = row
    measured: dict[str, dict[str, Any]] = {}
    for (what, cohort), by_seeds in found.items():
        for seeds, row in by_seeds.items():
            if not any(set(seeds) < set(more) for more in by_seeds):
                named = f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}"
                measured.setdefault(what.format(named), {})[cohort] = row
    return measured


def run_answers(arguments: argparse.Namespace) -> None:
    """Write down a hash of every prompt and mask of a simulated user on validation scans; without zoom, one click's."""
    bundle = load(arguments.model)
    answers: dict[str, list[str]] = {}
    for zoom, kind, cohort in (*product((True,), KINDS, SHARES), *product((False,), ("click",), SHARES)):
        predictor = Predictor(bundle, InferenceSettings(device=arguments.device, zoom=zoom))
        for name, volume, truth in islice(scans_of(arguments.data, cohort, "validation"), arguments.most):
            key = f"{kind}, {name}, {'' if zoom else 'no '}zoom"
            answers[key] = []
            for prompts, prediction in answered(predictor, name, volume, truth, arguments.count if zoom else 1, kind):
                said = hashlib.sha256(prompts[-1].places.tobytes())
                said.update(np.packbits(prediction.mask.full()).tobytes())
                answers[key].append(said.hexdigest())
            print(key, len(answers[key]), flush=True)
    record = {"model": arguments.model, "sha256": bundle.sha256(), "code": inference(), "answers": answers}
    arguments.output.write_text(json.dumps(record, indent=1) + "\n")


def run_same(arguments: argparse.Namespace) -> None:
    """Write down that this code answers as an earlier one did, voxel for voxel: figures of that one hold for this one.

    Both have written down their `answers`; those that begin with some kinds of prompt may be left out, and must be
    measured again.
    """
    before, now = (json.loads(path.read_text()) for path in (arguments.before, arguments.now))
    if now["code"] != inference() or before["sha256"] != now["sha256"]:
        raise SystemExit("NOW must be of this very code, and both of one model")
    keys = [key for key in now["answers"] if key.split(", ")[0] not in arguments.but]
    differ = [key for key in keys if before["answers"].get(key) != now["answers"][key]]
    if differ or not keys:
        raise SystemExit("not the same:\n" + "\n".join(differ))
    masks = sum(len(now["answers"][key]) for key in keys)
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    record = {"when": when, **{key: now[key] for key in ("model", "sha256", "code")}, "same as": before["code"]}
    record |= {"but": arguments.but, "why": arguments.why, "part": "validation", "masks alike": masks}
    with arguments.log.open("a") as log:
        log.write(json.dumps(record) + "\n")
    print(f"{masks} masks alike; figures of {before['code']} hold")


def run_figures(arguments: argparse.Namespace) -> None:
    """Put into a model's file what the log has of it, and write it as a page."""
    bundle = load(arguments.model)
    looks = looks_of(bundle.sha256(), arguments.log)
    measured = holding(looks)
    if not measured:
        raise SystemExit(f"{arguments.log} has no look of {arguments.model} ({bundle.sha256()})")
    provenance = bundle.provenance.model_copy(update={"figures": measured})
    Bundle(bundle.network, bundle.preprocessing, provenance, bundle.calibration).save(
        arguments.model, dtype=torch.float16
    )
    if arguments.write:
        arguments.write.write_text("\n".join(page_of(provenance.name, bundle.sha256(), looks, measured)) + "\n")
    print("\n".join(measured))


def page_of(name: str, model: str, looks: list[dict[str, Any]], measured: dict[str, dict[str, Any]]) -> list[str]:
    """Lines of Markdown: a table of each measurement; Dice with 95 % intervals by patient."""
    lines = [f"# {name}, measured", "", "Written by `python benchmarks/train_tiny.py figures`."]
    lines += ["Mean Dice, with 95 % intervals by patient in brackets.", f"Weights (SHA-256): {model}."]
    for look in looks:
        if "same as" in look:
            alike = f"{look['masks alike']} masks of a simulated user on validation scans are alike under both"
            lines += ["", f"Figures of the code {look['same as'][:8]} hold for {look['code'][:8]}: {alike}."]
            lines += [f"What changed: {look['why']}."]
            lines += [f"Measured anew: what begins with a {', a '.join(look['but'])}."] if look["but"] else []
    for what, table in measured.items():
        rows = [{"cohort": cohort} | cells_of(row) for cohort, row in table.items()]
        lines += ["", f"## {what[0].upper()}{what[1:]}", "", f"| {' | '.join(rows[0])} |", "|---" * len(rows[0]) + "|"]
        lines += [f"| {' | '.join(row.values())} |" for row in rows]
    return lines


def cells_of(row: dict[str, Any]) -> dict[str, str]:
    """A table's cells by column, of one cohort's figures: of one click each (`Figure.record`), or of many (`told`)."""
    if "dice" in row:
        low, high = row["interval"]
        return {"Dice": f"{row['dice']:.3f} [{low:.3f}, {high:.3f}]", "scans": str(row["scans"])}
    cells = {step: "{:.3f} [{:.3f}, {:.3f}]".format(*row[step]) for step in row if step.startswith("after")}
    for side in ("positive", "negative"):
        told = row.get(side)
        cells[f"{side} corrections heeded"] = f"{told['followed']:.3f} of {told['said']}" if told else "none"
        cells[f"Dice within 10 mm by a {side} one"] = f"{told['Dice within 10 mm gains']:+.4f}" if told else ""
    expected = row.get("expected IoU")
    return cells | {"expected IoU off by": f"{expected['mean error']:.3f}" if expected else ""}


def add_same(commands: Any) -> None:  # noqa: ANN401 - argparse names no public type for it
    """The two commands that let figures of earlier code hold."""
    answering = commands.add_parser("answers", help="write down a hash of every answer on some validation scans")
    answering.set_defaults(run=run_answers)
    answering.add_argument("data", type=Path)
    answering.add_argument("--model", default="palpate-tiny")
    answering.add_argument("--most", type=int, default=3, help="scans of a cohort, the first by name")
    answering.add_argument("--count", type=int, default=5, help="prompts a scan")
    answering.add_argument("--device", default="cpu")
    answering.add_argument("-o", "--output", type=Path, required=True)
    same = commands.add_parser("same", help="let figures of earlier code hold for this one, which answers alike")
    same.set_defaults(run=run_same)
    same.add_argument("before", type=Path, help="answers of the earlier code")
    same.add_argument("now", type=Path, help="answers of this code")
    same.add_argument("--but", nargs="+", default=[], choices=KINDS, help="first prompts whose figures do not hold")
    same.add_argument("--why", required=True, help="what changed, in words")
    same.add_argument("--log", type=Path, default=LOOKS)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    preparing = commands.add_parser("prepare", help="prepare the cohorts and write all stages' presets")
    preparing.add_argument("data", type=Path)
    preparing.add_argument("--out", type=Path, required=True)
    preparing.set_defaults(run=run_prepare)
    testing = commands.add_parser("test", help="measure on held-out patients")
    testing.set_defaults(run=run_test)
    testing.add_argument("--parts", nargs="+", choices=("validation", "test"), default=["test"])
    testing.add_argument("--least-ml", type=float, default=0.0, help="only lesions of so many mL and more")
    publishing = commands.add_parser("publish", help="calibrate, and write the model that ships")
    publishing.set_defaults(run=run_publish)
    publishing.add_argument("data", type=Path)
    publishing.add_argument("--model", required=True)
    publishing.add_argument("-o", "--output", type=Path, required=True)
    publishing.add_argument("--stage", type=Path, nargs="+", required=True, help="each stage's run")
    publishing.add_argument("--before", help="a published model that the first of these stages set out from")
    publishing.add_argument("--blends", nargs="+", default=[], help="which stages were blended, in words")
    publishing.add_argument("--device", default="cpu")
    telling = commands.add_parser("figures", help="put what was measured of a model into its file, and onto a page")
    telling.set_defaults(run=run_figures)
    telling.add_argument("--model", type=Path, required=True)
    telling.add_argument("--log", type=Path, default=LOOKS)
    telling.add_argument("--write", type=Path, help="a page of tables, as Markdown")
    add_same(commands)
    blending = commands.add_parser("blend", help="average the weights of two stages, and validate")
    blending.set_defaults(run=run_blend)
    blending.add_argument("data", type=Path)
    blending.add_argument("first")
    blending.add_argument("second")
    blending.add_argument("--share", type=float, required=True, help="of the second, 0 to 1")
    blending.add_argument("-o", "--output", type=Path)
    blending.add_argument("--device", default="cpu")
    correcting = commands.add_parser("correct", help="measure a simulated user's prompts and corrections")
    correcting.set_defaults(run=run_correct)
    correcting.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS, help="of the first prompt")
    correcting.add_argument("--cohorts", nargs="+", default=list(SHARES), choices=SHARES)
    correcting.add_argument("--count", type=int, default=10, help="prompts a scan")
    correcting.add_argument("--most", type=int, help="scans of a cohort, the first by name")
    correcting.add_argument("--strokes", type=float, default=0.0, help="how often a correction is a stroke, 0 to 1")
    correcting.add_argument("--part", choices=("validation", "test"), default="test")
    for command in (testing, correcting):
        command.add_argument("data", type=Path)
        command.add_argument("--model", default="palpate-tiny")
        command.add_argument("--no-zoom", action="store_true", help="one crop at the model's own spacing")
        command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
        command.add_argument("--device", default="cpu")
        command.add_argument("--log", type=Path, default=LOOKS, help="append the figures here, one line a look")
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
