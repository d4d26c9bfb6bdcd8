"""What training costs: crops from prepared scans against crops from files, and full-size steps.

    python benchmarks/training.py                         # all of it, on the CPU (about half an hour of two cores)
    python benchmarks/training.py --device cuda           # the steps on a GPU
    python benchmarks/training.py --write benchmarks/training.md
    git worktree add ../before REVISION
    python benchmarks/training.py --before ../before --networks tiny vit --precision float32 bfloat16 --runs 5
    python benchmarks/training.py --profile --networks tiny vit --precision float32 bfloat16

- crops: random 128³ crops of a synthetic 512 x 512 x 400 CT, from its `.nii.gz` and from its prepared chunks, through
  the same Frame; the ratio is within one run.
- steps: two optimiser steps of vit_b at 128³, started from a checkpoint laid out as SAM's (its weights mean nothing),
  spatial adapters, blocks recomputed, through `Trainer`; seconds of the second, and the process's peak memory.

- `--before`: crops a second of optimiser steps of four 64³ crops with a simulated user, loader included, of two
  revisions in turn: `tiny` as palpate-tiny, and a transformer of 22.8 million parameters on tokens of 8 voxels. On a
  machine that others use too, processor seconds are the steadier figure.
- `--profile`: where the time of such a step goes, by operation.

Each part runs in a process of its own, so that its peak is its own.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
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
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from compare import interval
from golden.recipe import sam_checkpoint
from palpate.bundle import import_foreign, paper_preprocessing, with_tuning
from palpate.cohort import Cohort, LabelledScan
from palpate.cohort.prepare import prepare
from palpate.cohort.sampling import CropSampler
from palpate.formats import read
from palpate.frame import CropPercentiles, Frame, Preprocessing
from palpate.model import SIZES, Network
from palpate.phantom import make_phantom
from palpate.randomness import counted_rng
from palpate.training import starting_from_nothing
from palpate.training.loop import Trainer
from palpate.training.outcome import peak_memory_gb
from palpate.training.preset import Preset
from small import prepared_scan
from speed import processor

HERE = Path(__file__).resolve().parents[1]
CROPS = 5
# What the networks of the steps have beyond `tiny`.
WIDER: dict[str, dict[str, Any]] = {"tiny": {}, "vit": {"width": 384, "depth": 12, "adapter": "none"}}
# A step's operations, as the profiler names them.
OPERATIONS = {
    "convolutions, forwards": {"aten::mkldnn_convolution", "aten::slow_conv3d_forward"},
    "convolutions, backwards": {"aten::convolution_backward"},
    "matrix products": {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"},
    "fused attention, forwards": {"aten::_scaled_dot_product_flash_attention_for_cpu"},
    "fused attention, backwards": {"aten::_scaled_dot_product_flash_attention_for_cpu_backward"},
    "copies": {"aten::copy_", "aten::cat", "aten::fill_", "aten::index_select"},
    "norms": {
        "aten::native_batch_norm",
        "aten::native_batch_norm_backward",
        "aten::native_layer_norm",
        "aten::native_layer_norm_backward",
        "aten::sum",
    },
    "enlargement": {"aten::upsample_trilinear3d", "aten::upsample_trilinear3d_backward"},
    "resampling": {"aten::grid_sampler_3d"},
    "elementwise": {
        "aten::add",
        "aten::add_",
        "aten::sub",
        "aten::mul",
        "aten::mul_",
        "aten::clamp_min",
        "aten::threshold_backward",
        "aten::gelu",
        "aten::gelu_backward",
        "aten::_softmax",
        "aten::_softmax_backward_data",
    },
    "pooling": {"aten::max_pool3d_with_indices", "aten::avg_pool3d"},
}


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


def small_trainer(network: str, precision: str, steps: int) -> Trainer:
    """A training of four 64³ crops a step with a simulated user, from phantoms."""
    preset = starting_from_nothing(
        "small", (), Preprocessing(crop=(64, 64, 64), spacing=(1.0, 1.0, 1.0), normalisation=CropPercentiles()), None
    )
    preset = preset.as_interactive().with_recipe(precision=precision, steps=steps)
    made = [make_phantom(shape=(112, 112, 90), spacing=(1.4, 1.4, 2.2), seed=seed) for seed in range(4)]
    scans = [prepared_scan(one.volume, one.lesion.full(), one.title) for one in made]
    sampler = CropSampler([scans], None, preset.preprocessing, preset.augmentation, preset.prompt_sampling, seed=3)
    torch.manual_seed(0)
    shape = SIZES["tiny"].model_copy(update={"tuned": "all", "dense_width": 16, "quality_width": 64} | WIDER[network])
    return Trainer(Network(shape), sampler, preset.recipe, Accelerator(cpu=True), notify=print)


def measure_rate(network: str, precision: str, steps: int) -> dict[str, float]:
    """Crops a second and processor seconds of a step, after a first one."""
    trainer = small_trainer(network, precision, steps + 1)
    running = trainer.steps()
    next(running)
    began, processor_began = time.perf_counter(), time.process_time()
    for _ in range(steps):
        next(running)
    rate = trainer.recipe.batch * steps / (time.perf_counter() - began)
    return {"crops a second": rate, "processor s": (time.process_time() - processor_began) / steps}


def measure_operations(network: str, precision: str, steps: int) -> dict[str, Any]:
    """Shares of a step's time by operation, %."""
    running = small_trainer(network, precision, steps + 1).steps()
    next(running)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(steps):
            next(running)
    events = profiler.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    found = dict.fromkeys([*OPERATIONS, "all else"], 0.0)
    for event in events:
        kind = next((kind for kind, names in OPERATIONS.items() if event.key in names), "all else")
        found[kind] += 100 * event.self_cpu_time_total / total
    return {"network": network, "precision": precision} | {kind: round(share, 1) for kind, share in found.items()}


def compare_rates(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Both revisions in turn; medians, and the ratios with their 95 % intervals."""
    rows = []
    for network in arguments.networks:
        for precision in arguments.precision:
            options = ("--networks", network, "--precision", precision, "--steps", str(arguments.steps))
            sides: dict[Path, list[dict[str, float]]] = {arguments.before: [], HERE: []}
            for run in range(arguments.runs):
                for checkout in list(sides)[:: 1 if run % 2 == 0 else -1]:
                    sides[checkout].append(alone("rate", *options, checkout=checkout))
            row: dict[str, Any] = {"network": network, "precision": precision}
            for what in ("crops a second", "processor s"):
                before, after = ([one[what] for one in sides[checkout]] for checkout in sides)
                ratios = [(a / b if what == "crops a second" else b / a) for b, a in zip(before, after, strict=True)]
                low, high = interval(ratios)
                row |= {f"{what}, before": round(float(np.median(before)), 2)}
                row |= {f"{what}, after": round(float(np.median(after)), 2)}
                row |= {f"{what}: times better": f"{np.median(ratios):.2f} ({low:.2f} to {high:.2f})"}
            rows.append(row)
    return rows


def alone(part: str, *more: str, checkout: Path | None = None) -> dict[str, Any]:
    """A part in a process of its own, with the code of this checkout or of another."""
    environment = os.environ | {"PYTHONPATH": str(((checkout or HERE) / "src").resolve())}
    done = subprocess.run(
        [sys.executable, __file__, "--part", part, *more],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        env=environment,
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
    parser.add_argument("--part", choices=("crops", "steps", "rate", "operations"), help="one part, in this process")
    parser.add_argument("--before", type=Path, help="a checkout of an earlier revision: compare crops a second")
    parser.add_argument("--profile", action="store_true", help="where the time of a step goes")
    parser.add_argument("--networks", nargs="+", choices=tuple(WIDER), default=list(WIDER))
    parser.add_argument("--runs", type=int, default=5, help="of each revision")
    parser.add_argument("--steps", type=int, default=3, help="of each run, after a first one")
    arguments = parser.parse_args()
    options = ("--device", arguments.device, "--size", arguments.size, "--crop", str(arguments.crop))
    if arguments.part == "crops":
        print(json.dumps(measure_crops()))
    elif arguments.part == "steps":
        print(json.dumps(measure_steps(arguments.size, arguments.precision[0], arguments.device, arguments.crop)))
    elif arguments.part == "rate":
        print(json.dumps(measure_rate(arguments.networks[0], arguments.precision[0], arguments.steps)))
    elif arguments.part == "operations":
        print(json.dumps(measure_operations(arguments.networks[0], arguments.precision[0], arguments.steps)))
    elif arguments.before is not None:
        print(table(compare_rates(arguments)))
    elif arguments.profile:
        each = [(network, precision) for network in arguments.networks for precision in arguments.precision]
        more = ("--steps", str(arguments.steps))
        print(table([alone("operations", "--networks", n, "--precision", p, *more) for n, p in each]))
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
