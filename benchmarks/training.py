"""What training costs: crops from prepared scans against crops from files, and full-size steps.

    python benchmarks/training.py                         # all of it, on the CPU (about half an hour of two cores)
    python benchmarks/training.py --device cuda           # the steps on a GPU
    python benchmarks/training.py --write benchmarks/training.md

- crops: random 128³ crops of a synthetic 512 x 512 x 400 CT, from its `.nii.gz` and from its prepared chunks, through
  the same Frame; the ratio is within one run.
- steps: two optimiser steps of vit_b at 128³, started from a checkpoint laid out as SAM's (its weights mean nothing),
  spatial adapters, blocks recomputed, through `Trainer`; seconds of the second, and the process's peak memory.

Each part runs in a process of its own, so that its peak is its own.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from accelerate import Accelerator

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from golden.recipe import sam_checkpoint
from palpate.bundle import import_foreign, paper_preprocessing, with_tuning
from palpate.cohort import Cohort, LabelledScan
from palpate.cohort.prepare import prepare
from palpate.cohort.sampling import CropSampler
from palpate.formats import read
from palpate.frame import Frame
from palpate.phantom import make_phantom
from palpate.randomness import counted_rng
from palpate.training.loop import Trainer
from palpate.training.outcome import peak_memory_gb
from palpate.training.preset import Preset
from small import prepared_scan
from speed import processor

CROPS = 5


def synthetic_ct(folder: Path) -> LabelledScan:
    """A 512 x 512 x 400 scan of smooth tissue with noise, and a label, as `.nii.gz`."""
    rng = np.random.default_rng(0)
    tissue = np.kron(rng.normal(0, 120, (32, 32, 25)), np.ones((16, 16, 16)))
    scan = (tissue + rng.normal(0, 12, tissue.shape)).astype(np.int16)
    label = np.zeros(scan.shape, np.uint8)
    label[200:260, 240:290, 180:220] = 1
    for name, array in (("image", scan), ("label", label)):
        nib.save(nib.Nifti1Image(array, np.diag([0.8, 0.8, 1.0, 1.0])), folder / f"{name}.nii.gz")
    return LabelledScan("synthetic", folder / "image.nii.gz", folder / "label.nii.gz", "synthetic")


def measure_crops() -> dict[str, Any]:
    """Seconds of a crop, image and label, by both ways; and that they are equal."""
    preprocessing = paper_preprocessing("kits21")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scan = synthetic_ct(folder)
        began = time.perf_counter()
        prepared = prepare(Cohort(folder, "synthetic", (scan,)), folder / "prepared", workers=1)
        packing = time.perf_counter() - began
        lazy = prepared.scan(prepared.index.scans[0])
        seconds: dict[str, list[float]] = {"file": [], "prepared": []}
        for number in range(CROPS):
            rng = counted_rng(0, "crop", number)
            frame = Frame.centred(lazy.grid, [int(rng.integers(n)) for n in lazy.grid.shape], preprocessing)
            began = time.perf_counter()
            image, label = read(scan.image), read(scan.label)
            whole, _ = frame.extract_all((image.array, label.array > 0))
            seconds["file"].append(time.perf_counter() - began)
            began = time.perf_counter()
            chunks, _ = frame.extract_all((lazy.image, lazy.target))
            seconds["prepared"].append(time.perf_counter() - began)
            if not torch.equal(whole, chunks):
                raise AssertionError("the two ways give different crops")
        sizes = [
            sum(p.stat().st_size for p in folder.glob(pattern)) / 1e6 for pattern in ("*.nii.gz", "prepared/**/*.*")
        ]
    medians = {way: float(np.median(values)) for way, values in seconds.items()}
    return {
        "from file, s": round(medians["file"], 3),
        "prepared, s": round(medians["prepared"], 4),
        "times faster": round(medians["file"] / medians["prepared"], 1),
        "packing once, s": round(packing, 1),
        "files, MB": round(sizes[0], 1),
        "prepared, MB": round(sizes[1], 1),
    }


def measure_steps(size: str, precision: str, device: str, crop: int) -> dict[str, Any]:
    """Two optimiser steps: seconds of each, the losses, and the peak memory."""
    preset = Preset.load("kits21").with_recipe(precision=precision, steps=2)
    preprocessing = preset.preprocessing.model_copy(update={"crop": (crop, crop, crop)})
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "sam.pth"
        torch.save(sam_checkpoint(size), path)
        bundle = with_tuning(import_foreign(path, preprocessing), "spatial")
    made = make_phantom(shape=(160, 160, 120), spacing=(1.2, 1.2, 1.5), site="kidney")
    sampler = CropSampler(
        [[prepared_scan(made.volume, made.lesion.full())]],
        None,
        preprocessing,
        preset.augmentation,
        preset.prompt_sampling,
    )
    trainer = Trainer(bundle.network, sampler, preset.recipe, Accelerator(cpu=device == "cpu"))
    seconds, losses = [], []
    began = time.perf_counter()
    for loss in trainer.steps():
        seconds.append(round(time.perf_counter() - began, 2))
        losses.append(round(loss, 4))
        began = time.perf_counter()
    return {
        "network": size,
        "crop": crop,
        "precision": precision,
        "device": torch.cuda.get_device_name() if device == "cuda" else processor(),
        "first step, s": seconds[0],
        "second step, s": seconds[1],
        "losses": losses,
        "peak memory, GB": round(peak_memory_gb(trainer.device), 2),
    }


def alone(part: str, *more: str) -> dict[str, Any]:
    """A part in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--part", part, *more], stdout=subprocess.PIPE, check=True, text=True
    )
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(row), flush=True)
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as Markdown."""
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([str(row[name]) for name in head] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--size", choices=("vit_b", "vit_l", "vit_h"), default="vit_b")
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--precision", nargs="+", default=["bfloat16"])
    parser.add_argument("--write", type=Path, help="write the tables to this file")
    parser.add_argument("--part", choices=("crops", "steps"), help="one part, in this process")
    arguments = parser.parse_args()
    options = ("--device", arguments.device, "--size", arguments.size, "--crop", str(arguments.crop))
    if arguments.part == "crops":
        print(json.dumps(measure_crops()))
    elif arguments.part == "steps":
        print(json.dumps(measure_steps(arguments.size, arguments.precision[0], arguments.device, arguments.crop)))
    else:
        crops = alone("crops")
        steps = [alone("steps", *options, "--precision", precision) for precision in arguments.precision]
        when = datetime.datetime.now(datetime.UTC).date()
        text = (
            f"# Training\n\nMeasured {when} by `python benchmarks/training.py` on {processor()}; "
            f"torch {torch.__version__}.\n\n"
            "### A 128³ crop, image and label, of a synthetic 512 x 512 x 400 CT: medians of five\n\n"
            f"{table([crops])}\n\n"
            f"### Two optimiser steps, batch 1, spatial adapters, blocks recomputed\n\n{table(steps)}\n"
        )
        print(text)
        if arguments.write:
            arguments.write.write_text(text)


if __name__ == "__main__":
    main()
