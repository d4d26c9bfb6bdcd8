r"""Train palpate-small, a model that follows a click beyond the kinds of its contours, and try what it is made of.

    python benchmarks/train_small.py prepare DATA --out runs/small
    palpate train runs/small/{hippocampus,lung_nodules,head_neck_organs,synthetic} --share 0.25 --share 0.25 \
        --share 0.35 --share 0.15 --preset runs/small/targets-refiner.yaml --out runs/small/a-targets-refiner --no-test

DATA holds hippocampus/, lung_nodules/, sarcoma/ and head_neck_organs/. `prepare` packs every scan, makes phantoms, and
writes a preset for each of `VARIANTS`, all of one length and seed, so that one change at a time can be compared:

    before           today's recipe in one stage: contours alone
    targets          targets without contours beside them, intensities remapped, axes in any order, any field of view
    refiner          contours alone, with the refiner and its cues
    targets-refiner  both

A name that ends in `-coarse` is the same on crops of half as many voxels a side, twice as wide: an eighth of the
arithmetic a step. One at full resolution goes on from its file (`init`). `small-coarse` and `small` are
targets-refiner for longer, which set out from palpate-tiny; the first learns from a first prompt alone.

Each is trained once for each of three comparisons (benchmarks/generality.py measures them):

    a  without sarcoma: before on hippocampus, nodules and phantoms; the others with the organs' scans too
    b  without organs: on hippocampus, nodules, sarcoma and phantoms
    c  on everything: the model that ships

The patients are split as for palpate-tiny (train_tiny.py); of the organs' patients the 20 that are measured
(organ_patients.json) are validation.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import nibabel as nib
import numpy as np

from palpate.cohort import Cohort, LabelledScan, Split
from palpate.cohort.augmentation import Augmentation
from palpate.cohort.intensity import IntensityMaps
from palpate.cohort.layouts import find_cohort
from palpate.cohort.prepare import prepare
from palpate.cohort.targets import TargetSampling
from palpate.training import starting_from_nothing
from palpate.training.preset import Preset
from train_tiny import PATIENT, PREPROCESSING, SHARES, split_of_all, synthetic_cohort

ORGANS = "head_neck_organs"
ORGAN_PATIENTS = Path(__file__).parent / "organ_patients.json"
VARIANTS = ("before", "targets", "refiner", "targets-refiner")
STEPS = 800
LONG = 4000  # steps of the model that ships, coarse and again at full resolution
VALIDATION = 8  # scans of a cohort
TARGETS = TargetSampling(contours=0.4, labels=0.05, supervoxels=0.2, thresholds=0.1, synthetic=0.2, transplants=0.05)
MAPS = IntensityMaps(prob=0.4)


def split_with_organs(cohorts: dict[str, Cohort], organs: Cohort) -> Split:
    """Every training patient, and a few validation scans of each cohort, which a training looks at.

    All other patients are in no subset: benchmarks/generality.py measures validation patients. Of the organs' patients
    the listed ones are validation, and all others are for training.
    """
    split = split_of_all(cohorts)
    listed = set(json.loads(ORGAN_PATIENTS.read_text())["patients"])
    some: list[str] = []
    for cohort in cohorts.values():
        held_out = [scan.name for scan in cohort.scans if scan.patient in set(split.validation)]
        some += sorted(held_out)[:VALIDATION]
    of_organs = [scan.name for scan in organs.scans if scan.patient in listed]
    some += sorted(of_organs)[:: max(1, len(of_organs) // VALIDATION)][:VALIDATION]
    patients = {scan.patient for scan in organs.scans}
    return Split(train=tuple(sorted({*split.train, *(patients - listed)})), validation=tuple(some))


def organ_cohort(organs: Cohort, folder: Path) -> Cohort:
    """Each organ of each scan as a scan of its own: all organs together are nothing that a click means."""
    scans = []
    for scan in organs.scans:
        label = nib.load(scan.label)
        values = np.asarray(label.dataobj)
        for value, organ in sorted(organs.labels.items()):
            if (values == value).any():
                path = folder / f"{scan.name}_{organ}.nii.gz".replace(" ", "_")
                if not path.exists():
                    nib.save(nib.Nifti1Image((values == value).astype(np.uint8), label.affine), path)
                scans.append(LabelledScan(f"{scan.name}_{organ}", scan.image, path, scan.patient))
    return Cohort(folder, "one organ a scan", tuple(scans))


def presets(split: Split) -> dict[str, Preset]:
    """A preset for each of `VARIANTS`, at full resolution and coarse."""
    plain = starting_from_nothing("palpate-small", (), PREPROCESSING, split)
    augmentation = plain.augmentation.model_copy(update={"mask_out_prob": 0.1, "background_paste_prob": 0.2})
    before = plain.model_copy(update={"augmentation": augmentation}).as_interactive()
    before = before.with_recipe(steps=STEPS, num_validations=4, patience=None, precision="bfloat16")
    wide = {"resize_prob": 0.7, "axis_order_prob": 1.0, "intensity_maps": MAPS}
    varied = Augmentation.model_validate(before.augmentation.model_copy(update=wide).model_dump())
    with_targets = {"targets": TARGETS, "augmentation": varied}
    made: dict[str, Preset] = {}
    for name in VARIANTS:
        changes: dict[str, object] = {}
        if "targets" in name:
            changes |= with_targets
        if "refiner" in name:
            changes |= {"refiner": 8}
        made[name] = Preset.model_validate(before.model_copy(update=changes).model_dump())
        coarse = made[name].preprocessing.model_copy(update={"crop": (32, 32, 32), "spacing": (2.0, 2.0, 2.0)})
        made[f"{name}-coarse"] = made[name].model_copy(update={"preprocessing": coarse})
    for ending in ("-coarse", ""):
        longer = made[f"targets-refiner{ending}"].with_recipe(steps=LONG, learning_rate=5e-4, num_validations=5)
        made[f"small{ending}"] = longer.model_copy(update={"init": "palpate-tiny"})
    # Coarse, a first prompt alone: corrections take half of a step, and come at full resolution.
    first = made["small-coarse"].prompt_sampling.model_copy(update={"rounds": 1, "stroke_prob": 0.0})
    made["small-coarse"] = made["small-coarse"].model_copy(update={"prompt_sampling": first})
    return made


def run_prepare(arguments: argparse.Namespace) -> None:
    """Prepare the cohorts and the phantoms, and write the presets."""
    out: Path = arguments.out
    cohorts = {name: find_cohort(arguments.data / name, patient=PATIENT[name]) for name in SHARES}
    (out / "organ_labels").mkdir(exist_ok=True, parents=True)
    organs = organ_cohort(find_cohort(arguments.data / ORGANS), out / "organ_labels")
    for name, preset in presets(split_with_organs(cohorts, organs)).items():
        preset.write(out / f"{name}.yaml")
    for name, cohort in {**cohorts, ORGANS: organs, "synthetic": synthetic_cohort(out / "phantoms")}.items():
        print(name, prepare(cohort, out / name).sha256, flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    preparing = commands.add_parser("prepare", help="prepare the cohorts and write the presets")
    preparing.add_argument("data", type=Path)
    preparing.add_argument("--out", type=Path, required=True)
    preparing.set_defaults(run=run_prepare)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
