"""Speed of two revisions, alternated in one run.

    git worktree add ../before REVISION
    python benchmarks/compare.py --before ../before
    python benchmarks/compare.py --before ../before --steps encode further_click --size vit_b --crop 128
    python benchmarks/compare.py --before ../before --steps first_click_tiny correction_tiny --scan large
    python benchmarks/compare.py --before ../before --log runs.jsonl  # stopped and begun again, it goes on

Each run is a process of its own, of the one revision and of the other in turn, so that what else the machine does hits
both alike. A step is slower where the median of its ratios, after over before, is above 1.03 and the 95 % interval of
that median (bootstrap over pairs) excludes 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parents[1]
# Clicks through the Predictor, in words that every revision reads; the last of three, since the first warm up.
CLICKS = """
import json, sys, time
import palpate
from palpate.phantom import make_phantom
shape, spacing = ((512, 512, 400), (0.8, 0.8, 1.0)) if sys.argv[1] == "large" else ((128, 128, 128), (1.0, 1.0, 1.0))
phantom = make_phantom(shape=shape, spacing=spacing, lesion_diameter_mm=28, site="lung")
predictor, times = palpate.Predictor("palpate-tiny"), []
x, y, z = phantom.click.index
for turn in range(5):
    predictor.set_volume(phantom.volume)
    prompts = [palpate.Click((x + turn % 3, y, z))]
    began = time.perf_counter()
    predictor.predict(prompts)
    middle = time.perf_counter()
    predictor.predict([*prompts, palpate.Click((x - 3, y + turn, z))])
    times.append((middle - began, time.perf_counter() - middle))
first, second = zip(*times[1:])
print(json.dumps({"first_click_tiny": sorted(first)[1], "correction_tiny": sorted(second)[1]}))
"""
# Steps of benchmarks/speed.py, each with a network of its own, as that revision times them.
STEPS = """
import json, sys
sys.path.insert(0, ".")
from speed import Bench
size, crop, train_crop, *steps = sys.argv[1:]
times = {step: getattr(Bench(size, int(crop), int(train_crop), "cpu", "float32"), step)()[0] for step in steps}
print(json.dumps(times))
"""
NETWORK = ("embedding_folded", "attention_fused", "encode", "first_click", "further_click", "correcting_click")
SLOW = ("automatic_window", "training_step")
TINY = ("first_click_tiny", "correction_tiny")


def seconds(checkout: Path, steps: list[str], arguments: argparse.Namespace) -> dict[str, float]:
    """Each step's seconds, in a process of one revision."""
    environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
    found: dict[str, float] = {}
    network = [step for step in steps if step not in TINY]
    if network:
        sizes = [arguments.size, str(arguments.crop), str(arguments.train_crop)]
        command = [sys.executable, "-c", STEPS, *sizes, *network]
        output = subprocess.run(
            command, env=environment, cwd=checkout / "benchmarks", check=True, capture_output=True, text=True
        ).stdout
        found |= json.loads(output)
    if set(TINY) & set(steps):
        command = [sys.executable, "-c", CLICKS, arguments.scan]
        output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
        found |= {step: value for step, value in json.loads(output).items() if step in steps}
    return found


def interval(ratios: list[float], draws: int = 10_000) -> tuple[float, float]:
    """A 95 % interval of the median, by drawing pairs with replacement."""
    drawn = np.random.default_rng(0).choice(np.array(ratios), (draws, len(ratios)))
    low, high = np.percentile(np.median(drawn, axis=1), (2.5, 97.5)).tolist()
    return low, high


def table(pairs: dict[str, list[tuple[float, float]]]) -> list[str]:
    """Medians, ratios and verdicts, a row a step."""
    lines = [
        "| step | before, s | after, s | ratio | 95 % interval | slower |",
        "|---|---|---|---|---|---|",
    ]
    for step, times in pairs.items():
        ratios = [after / before for before, after in times]
        low, high = interval(ratios)
        ratio = float(np.median(ratios))
        medians = [float(np.median(side)) for side in zip(*times, strict=True)]
        slower = "yes" if ratio > 1.03 and low > 1 else "no"
        lines.append(
            f"| {step.replace('_', ' ')} | {medians[0]:.3f} | {medians[1]:.3f} | {ratio:.3f} | "
            f"{low:.3f} to {high:.3f} | {slower} |"
        )
    return lines


def main() -> None:
    """Run both revisions in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="a checkout of the earlier revision")
    parser.add_argument("--after", type=Path, default=HERE, help="a checkout of the later one; this one by default")
    parser.add_argument("--steps", nargs="+", choices=(*NETWORK, *SLOW, *TINY), default=[*NETWORK, *SLOW, *TINY])
    parser.add_argument("--runs", type=int, default=10, help="of each revision")
    parser.add_argument("--size", default="vit_b")
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--train-crop", type=int, default=64)
    parser.add_argument("--scan", choices=("small", "large"), default="small", help="of palpate-tiny's clicks")
    parser.add_argument("--log", type=Path, help="a line a run of both; what it holds already is not run again")
    parser.add_argument("--write", type=Path, help="append the table to this page")
    arguments = parser.parse_args()
    known = arguments.log.read_text().splitlines() if arguments.log is not None and arguments.log.exists() else []
    logged: list[dict[str, list[float]]] = [json.loads(line) for line in known[: arguments.runs]]
    pairs = {step: [(run[step][0], run[step][1]) for run in logged] for step in arguments.steps}
    for run in range(len(logged), arguments.runs):
        order = (arguments.before, arguments.after) if run % 2 == 0 else (arguments.after, arguments.before)
        found = {checkout: seconds(checkout.resolve(), arguments.steps, arguments) for checkout in order}
        for step, times in pairs.items():
            times.append((found[arguments.before][step], found[arguments.after][step]))
        last = {step: times[-1] for step, times in pairs.items()}
        print(f"run {run + 1} of {arguments.runs}", last, flush=True)
        if arguments.log is not None:
            with arguments.log.open("a") as log:
                log.write(json.dumps(last) + "\n")
    lines = table(pairs)
    print("\n".join(lines))
    if arguments.write is not None:
        about = f"{arguments.size} at {arguments.crop}³ (training {arguments.train_crop}³), {arguments.scan} scan, "
        about += f"{arguments.runs} runs each, {torch.get_num_threads()} threads, {platform.machine()}"
        with arguments.write.open("a") as page:
            page.write("\n".join(["", about, "", *lines, ""]))


if __name__ == "__main__":
    main()
