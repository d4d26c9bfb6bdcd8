"""Forty hippocampi with planted outliers: what `palpate audit` names, and how its suggested settings train.

    python benchmarks/audit_outliers.py hippocampus/ --out runs/outliers
    python benchmarks/audit_outliers.py hippocampus/ --out runs/outliers --write benchmarks/audit_outliers.md

The cohort is the first forty scans, by name, that are stored as float32 on one scale (the Decathlon has others, in
uint8 and 400 times brighter) and that the project's split does not keep for tests: 28 to train on and 12 for
validation, which no row changes. Outliers are planted among the 28: two scans times 400, four rescaled to 0 to 255 and
stored as uint8, two inverted. Each row audits its cohort, and trains the tiny network from nothing by the commands of
docs/how-to/train.md, with as many steps and the same seed. A row that is finished stays; run the script again for the
others.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from palpate.cli.machine import processor
from palpate.cohort import LabelledScan
from palpate.cohort.audit import Audit, audit
from palpate.cohort.layouts import find_cohort
from palpate.cohort.outliers import KINDS
from palpate.cohort.split import subset_by_hash
from palpate.frame import ClipZScore, CropPercentiles, Normalisation
from palpate.training.preset import Preset

PALPATE = [sys.executable, "-m", "palpate.cli"]
TRAINING, VALIDATION = 28, 12
BRIGHT = 10_000  # most scans stored as float32 reach about 1,000, the others 440,000
EDGE = (64, 64, 64)  # the tiny network's crop

Voxels = npt.NDArray[Any]
PLANTED: dict[str, tuple[tuple[int, ...], Callable[[Voxels], Voxels]]] = {
    "times 400": ((3, 17), lambda voxels: voxels * np.float32(400)),
    "uint8": ((5, 11, 20, 26), lambda voxels: _scaled(voxels, 255).astype(np.uint8)),
    "inverted": ((8, 23), lambda voxels: voxels.max() + voxels.min() - voxels),
}


@dataclass(frozen=True)
class Row:
    """A cohort and the intensities that it is trained with.

    Attributes:
        name: of its folder.
        planted: which of `PLANTED`.
        intensities: "suggested", "pooled" (percentiles of all targets' voxels together, as version 0.1.0 suggested
            first), or "crop" (each crop's own percentiles).
    """

    name: str
    planted: tuple[str, ...]
    intensities: str = "suggested"


ROWS = (
    Row("clean", ()),
    Row("all", tuple(PLANTED)),
    Row("all-pooled", tuple(PLANTED), "pooled"),
    Row("times-400", ("times 400",)),
    Row("uint8", ("uint8",)),
    Row("inverted", ("inverted",)),
    Row("clean-crop", (), "crop"),
    Row("all-crop", tuple(PLANTED), "crop"),
)


def _scaled(voxels: Voxels, largest: float) -> Voxels:
    low, high = float(voxels.min()), float(voxels.max())
    return np.round((voxels - low) / (high - low) * largest)


def forty(data: Path) -> list[LabelledScan]:
    """The scans of the cohort, by name."""
    found = [scan for scan in find_cohort(data).scans if subset_by_hash(scan.name) != "test" and _is_common(scan)]
    if len(found) < TRAINING + VALIDATION:
        raise SystemExit(f"{data}: {len(found)} scans that will do; {TRAINING + VALIDATION} are needed")
    return found[: TRAINING + VALIDATION]


def _is_common(scan: LabelledScan) -> bool:
    image = nib.load(scan.image)
    return bool(image.get_data_dtype() == np.float32 and np.asarray(image.dataobj).max() < BRIGHT)


def planted_cohort(row: Row, scans: list[LabelledScan], folder: Path) -> tuple[Path, dict[str, str]]:
    """A CSV that lists the cohort of a row, and the names of its planted scans with what was planted."""
    folder.mkdir(parents=True, exist_ok=True)
    planted = {}
    lines = []
    for number, scan in enumerate(scans):
        image = scan.image.resolve()
        for kind in row.planted:
            places, change = PLANTED[kind]
            if number in places:
                original = nib.load(scan.image)
                changed = nib.Nifti1Image(change(np.asarray(original.dataobj)), original.affine)
                image = (folder / f"{scan.name}.nii.gz").resolve()
                nib.save(changed, image)
                planted[scan.name] = kind
        subset = "train" if number < TRAINING else "validation"
        lines.append((image, scan.label.resolve(), scan.name, subset))
    path = folder / "cohort.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "label", "name", "split"), *lines])
    return path, planted


def intensities(row: Row, found: Audit) -> Normalisation:
    """The normalisation that a row trains with."""
    assert found.suggestion is not None
    if row.intensities == "suggested":
        return found.suggestion.preprocessing.normalisation
    if row.intensities == "crop":
        return CropPercentiles()
    pooled = np.concatenate([np.array(one.target_sample) for one in found.usable])
    low, high = (float(value) for value in np.percentile(pooled, (0.5, 99.5)))
    clipped = pooled.clip(low, high)
    return ClipZScore(low=low, high=high, mean=float(clipped.mean()), std=float(clipped.std()))


def run_row(row: Row, data: Path, out: Path, steps: int, trains: bool) -> dict[str, Any]:
    """Audit, and train if the row is asked for; the record of a row that was trained is read."""
    folder = out / row.name
    finished = folder / "row.json"
    if finished.is_file():
        return dict(json.loads(finished.read_text(encoding="utf-8")))
    path, planted = planted_cohort(row, forty(data), folder)
    found = audit(find_cohort(path), crop=EDGE, workers=1)
    rule = intensities(row, found)
    record = {
        "planted": planted,
        "named": {issue.name: issue.kind for issue in found.issues if issue.kind in KINDS},
        "intensities": rule.model_dump(mode="json"),
        "steps": steps,
    }
    if trains:
        record["validation"] = trained(path, folder, rule, steps, found.has_errors)
        finished.write_text(json.dumps(record, indent=1), encoding="utf-8")
    return record


def trained(path: Path, folder: Path, rule: Normalisation, steps: int, has_errors: bool) -> dict[str, Any]:
    """The validation figure of a training by the commands of docs/how-to/train.md, with these intensities."""
    preset = folder / "preset.yaml"
    _palpate("audit", path, "--network", "tiny", "--preset", preset, "--overwrite", fails=has_errors)
    made = Preset.load(preset)
    made.model_copy(update={"preprocessing": made.preprocessing.model_copy(update={"normalisation": rule})}).write(
        preset
    )
    _palpate("prepare", path, "-o", folder / "prepared")
    train = ("train", folder / "prepared", "--preset", preset, "--init", "none", "--steps", steps)
    text = _palpate(*train, "--num-validations", 1, "--no-test", "--out", folder / "run", "--json")
    return dict(json.loads(text)["validation"])


def _palpate(*arguments: object, fails: bool = False) -> str:
    """The output of a command; `fails`: its exit code is 1."""
    done = subprocess.run([*PALPATE, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != int(fails):
        raise SystemExit(f"palpate {' '.join(map(str, arguments))}: exit code {done.returncode}\n{done.stdout}")
    return done.stdout


def table(records: dict[str, dict[str, Any]], steps: int) -> str:
    """The page."""
    machine = processor()
    threads = int(os.environ.get("OMP_NUM_THREADS", machine["usable_cores"]))
    lines = [
        "# Planted outliers",
        "",
        f"Measured {datetime.date.today()} by `python benchmarks/audit_outliers.py hippocampus/ --out runs/outliers`",
        f"on {machine['model']}, {threads} thread{'s' * (threads > 1)}; torch {importlib.metadata.version('torch')}.",
        "",
        "- Data: Medical Segmentation Decathlon, task 04 (T1 MR of the hippocampus, CC BY-SA 4.0):",
        f"  {TRAINING} scans to train on, {VALIDATION} for validation, float32 on one scale, none a test scan.",
        "- Planted, among the training scans alone: two scans times 400, four rescaled to 0 to 255 in",
        "  uint8, two inverted.",
        f"- Trained: the tiny network from nothing, {steps} steps, seed 0, one run a row.",
        f"- Dice: one click a scan, mean over the {VALIDATION} validation scans, which are the same in every row.",
        "",
        "| planted | named by the audit | others named | intensities | Dice [interval] | more than clean |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_line(row, records[row.name], records["clean"]) for row in ROWS]
    return "\n".join(lines) + "\n"


def _line(row: Row, one: dict[str, Any], clean: dict[str, Any]) -> str:
    planted, named = one["planted"], one["named"]
    hits = f"{len(planted.keys() & named.keys())} of {len(planted)}" if planted else "-"
    figure, difference = "not trained", ""
    if "validation" in one:
        dice = float(one["validation"]["dice"])
        figure = "{:.3f} [{:.3f}, {:.3f}]".format(dice, *one["validation"]["interval"])
        if one is not clean and "validation" in clean:
            difference = f"{dice - float(clean['validation']['dice']):+.3f}"
    what = ", ".join(row.planted) or "nothing"
    others = str(len(named.keys() - planted.keys()))
    return f"| {' | '.join((what, hits, others, _rule(row, one['intensities']), figure, difference))} |"


def _rule(row: Row, rule: dict[str, Any]) -> str:
    source = {"suggested": "suggested", "pooled": "pooled over all voxels, as before", "crop": "chosen"}[
        row.intensities
    ]
    if rule["kind"] == "crop_percentiles":
        return f"{source}: each crop's own {rule['low']:g} and {rule['high']:g} percentiles"
    return f"{source}: {rule['low']:.4g} to {rule['high']:.4g}, mean {rule['mean']:.4g}, std {rule['std']:.4g}"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the Decathlon's task 04")
    parser.add_argument("--out", type=Path, required=True, help="a folder for cohorts and runs")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument(
        "--rows",
        nargs="*",
        default=[row.name for row in ROWS],
        choices=[row.name for row in ROWS],
        help="what to train",
    )
    parser.add_argument("--write", type=Path, help="write the table here, as Markdown")
    arguments = parser.parse_args()
    records = {}
    for row in ROWS:
        trains = row.name in arguments.rows
        records[row.name] = run_row(row, arguments.data, arguments.out, arguments.steps, trains)
        print(row.name, records[row.name].get("validation", "audited"), flush=True)
    text = table(records, arguments.steps)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
