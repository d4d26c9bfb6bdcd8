"""A click of palpate-tiny alone and beside a busy process, by threads that wait asleep and by threads that spin.

    python benchmarks/waiting.py
    python benchmarks/waiting.py --rounds 10 --write benchmarks/waiting.md

Each round runs every case once, in turns, so that whatever else a machine does meets all cases alike; compare ratios
within one run, on a machine that does nothing else. A click is the step "segment" of `palpate segment --json`, without
reading, loading and saving. A job is the same click by a worker of `palpate batch`, with reading and saving.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from palpate.cli.machine import processor
from palpate.openmp import CHOICES

PALPATE = [sys.executable, "-m", "palpate.cli"]
# GNU's and Intel's own defaults, which hold where the environment says nothing. Set here they count as a user's choice,
# which the command line leaves as it is.
SPINNING = {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"}
POLICIES: dict[str, dict[str, str]] = {"asleep (Palpate's)": {}, "spinning (OpenMP's default)": SPINNING}
LIMIT = 2.2  # of a click beside a busy process, over the same click alone


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Other processes, each of which keeps a core busy while the block runs."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def environment(policy: dict[str, str], threads: int) -> dict[str, str]:
    """The environment of a command: this one's, without what it says of waiting, and with a policy."""
    kept = {name: value for name, value in os.environ.items() if name not in CHOICES}
    return {**kept, "OMP_NUM_THREADS": str(threads), **policy}


class Case:
    """A synthetic scan, and the seconds of its click by two ways."""

    def __init__(self, folder: Path, diameter: float) -> None:
        command = [*PALPATE, "phantom", str(folder), "--site", "lung", "--diameter", str(diameter), "--json"]
        made = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        self.folder, self.scan = folder, made["scan"]
        self.click = ",".join(map(str, made["click"]))

    def command_line(self, variables: dict[str, str]) -> float:
        """Seconds of the step "segment" of `palpate segment`."""
        mask = str(self.folder / "mask.nii.gz")
        command = [*PALPATE, "segment", self.scan, "--click", self.click, "-o", mask, "--json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=variables)
        return float(json.loads(done.stdout)["seconds"]["segment"])

    def worker(self, variables: dict[str, str]) -> float:
        """Seconds of a job in a worker of `palpate batch`, with all threads."""
        jobs, results = self.folder / "jobs.csv", self.folder / "results.csv"
        results.unlink(missing_ok=True)
        jobs.write_text(f'scan,prompts,output\n{self.scan},"click={self.click}",{self.folder / "listed.nii.gz"}\n')
        command = [
            *PALPATE,
            "batch",
            str(jobs),
            "--results",
            str(results),
            "--timeout",
            "3600",
        ]  # which asks for a worker
        subprocess.run(command, check=True, capture_output=True, env=variables)
        with results.open(newline="") as file:
            return float(next(csv.DictReader(file))["seconds"])


Seconds = dict[tuple[str, str, bool], list[float]]  # by way, policy and whether others were busy: one for each round


def measure(case: Case, rounds: int, threads: int, processes: int) -> Seconds:
    """Every case once a round, in turns."""
    seconds: Seconds = {}
    for number in range(1, rounds + 1):
        for way, run in (("click", case.command_line), ("job of a worker", case.worker)):
            for name, policy in POLICIES.items():
                for load in (False, True):
                    with busy(processes if load else 0):
                        took = run(environment(policy, threads))
                    seconds.setdefault((way, name, load), []).append(took)
                    print(f"round {number}: {way}, {name}, {'busy' if load else 'alone'}: {took:.2f} s", flush=True)
    return seconds


def ratios(seconds: Seconds, way: str, name: str) -> list[float]:
    """Of each round: beside a busy process over alone."""
    return [b / a for a, b in zip(seconds[way, name, False], seconds[way, name, True], strict=True)]


def table(seconds: Seconds) -> list[str]:
    """Medians, and the ratios of the rounds: busy over alone, and alone over spinning alone."""
    lines = [
        "| | threads wait | alone, s | beside a busy process, s | ratio (least to most) | alone, over spinning |",
        "|---|---|---|---|---|---|",
    ]
    spinning = list(POLICIES)[1]
    for way in dict.fromkeys(way for way, _, _ in seconds):
        for name in POLICIES:
            alone, beside, times = seconds[way, name, False], seconds[way, name, True], ratios(seconds, way, name)
            cost = statistics.median(a / s for a, s in zip(alone, seconds[way, spinning, False], strict=True))
            lines.append(
                f"| {way} | {name} | {statistics.median(alone):.2f} | {statistics.median(beside):.2f} | "
                f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f}) | {cost:.2f} |"
            )
    return lines


def heading(given: argparse.Namespace) -> list[str]:
    """What was measured, where and how."""
    others = "one other process keeps" if given.busy == 1 else f"{given.busy} other processes keep"
    machine = f"{processor()['model']}, {os.cpu_count()} cores, {given.threads} threads"
    return [
        "# How threads wait",
        "",
        f"Measured {datetime.date.today()} by `python benchmarks/waiting.py --rounds {given.rounds}` on {machine};",
        f"torch {importlib.metadata.version('torch')}. The first click of palpate-tiny on a synthetic nodule of "
        f"{given.diameter:g} mm.",
        f"Beside it {others} a core busy. Medians and ratios of the rounds.",
        "",
        "PyTorch computes with OpenMP, whose threads spin while they wait for each other. Where one of them has to",
        "share its core, the others spin until it comes. The command line and the workers let them sleep",
        "(OMP_WAIT_POLICY=PASSIVE), unless the environment says otherwise. The last column is what that costs on an",
        "idle machine.",
        "",
    ]


def main() -> int:
    """Measure, print, and write; exit code 1 where a click beside a busy process takes too long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of OpenMP; by default one a core")
    parser.add_argument("--busy", type=int, default=1, help="other processes that keep a core busy")
    parser.add_argument("--diameter", type=float, default=28.0, help="of the synthetic lesion, mm")
    parser.add_argument("--write", type=Path, help="also write the table to this file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(Case(Path(folder), given.diameter), given.rounds, given.threads, given.busy)
    lines = table(seconds)
    print("\n".join(["", *lines]))
    if given.write is not None:
        given.write.write_text("\n".join([*heading(given), *lines]) + "\n")
    ours = next(iter(POLICIES))
    worst = max(statistics.median(ratios(seconds, way, name)) for way, name, _ in seconds if name == ours)
    if worst > LIMIT:
        print(f"beside a busy process, a click takes {worst:.2f} times as long; at most {LIMIT} is accepted")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
