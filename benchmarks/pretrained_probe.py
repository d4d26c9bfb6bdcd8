r"""A short comparison of two starts: DINOv2's first blocks, and the same network from nothing.

    python benchmarks/pretrained_probe.py DATA --out runs/probe
    palpate import dinov2_vits14.safetensors -o runs/probe/dinov2_s.safetensors
    for start in runs/probe/dinov2_s.safetensors none; do
        palpate train runs/probe/{hippocampus,lung_nodules,sarcoma} --share 0.35 --share 0.35 --share 0.3 \
            --preset runs/probe/probe.yaml --init $start --tune full --depth 6 --no-test --threads 1 --device cpu \
            --out runs/probe/from_$(basename $start .safetensors)
    done

DATA holds hippocampus/, lung_nodules/ and sarcoma/. Of each, the first training and validation scans by name
are prepared, few enough that three validations take minutes, and no test patient. Crops of 64³ at 1 mm, half of them
resized to fit their target, so that sarcomas fit in; validation zooms.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from palpate.cohort.layouts import find_cohort
from palpate.cohort.prepare import prepare
from palpate.training import starting_from_nothing
from train_tiny import PATIENT, PREPROCESSING, subset_of

SCANS = {"hippocampus": (60, 9), "lung_nodules": (120, 9), "sarcoma": (42, 9)}  # training and validation scans


def listed(data: Path, cohort: str, out: Path) -> Path:
    """The cohort's first scans of each subset, as a CSV."""
    scans = find_cohort(data / cohort, patient=PATIENT[cohort]).scans
    path = out / f"{cohort}.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "label", "patient", "name", "split"))
        for subset, count in zip(("train", "validation"), SCANS[cohort], strict=True):
            chosen = [scan for scan in scans if subset_of(cohort, scan.name) == subset][:count]
            writer.writerows((scan.image, scan.label, scan.patient, scan.name, subset) for scan in chosen)
    return path


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=120)
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    for cohort in SCANS:
        print(cohort, prepare(find_cohort(listed(arguments.data.resolve(), cohort, out)), out / cohort).sha256)
    preset = starting_from_nothing("probe", (), PREPROCESSING.model_copy(update={"zoom": (0.5, 8.0)}), None)
    augmentation = preset.augmentation.model_copy(update={"resize_prob": 0.5})
    preset = preset.model_copy(update={"network": "dinov2_s", "augmentation": augmentation}).with_recipe(
        steps=arguments.steps,
        learning_rate=5e-4,
        warmup=20,
        ema_decay=0.95,
        precision="float32",
        num_validations=3,
        patience=None,
        seed=1,
    )
    preset.write(out / "probe.yaml")


if __name__ == "__main__":
    main()
