"""Seconds, memory, and how far from the machine's own limit, in one run.

    python benchmarks/speed.py                                  # vit_b at 128³, and palpate-tiny, on the CPU
    python benchmarks/speed.py --device cuda --precision bfloat16
    python benchmarks/speed.py --write benchmarks/speed.md

The machine's float32 matrix-product rate is measured before and after each step, in the step's own
process; the ratio is the step's time over what its arithmetic (of the plain, unshortened network) would
take at that rate. Timings on shared machines are noisy: compare ratios, within one run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from oracles import explicit_attention, unfolded_embedding
from palpate.automatic import Proposer
from palpate.bundle import Bundle, Provenance, paper_preprocessing
from palpate.inference import InferenceSettings
from palpate.model import SIZES, Network, NetworkConfig
from palpate.model.attention import WindowAttention
from palpate.model.encoder import Block
from palpate.phantom import make_phantom
from palpate.predictor import Predictor
from palpate.prompts import Click, Prompt
from palpate.training import dice_cross_entropy
from palpate.volume import Volume


class Arithmetic(NamedTuple):
    """Floating-point operations of the plain network, multiply and add counted apart."""

    embedding: float
    attention: float
    encode: float
    first_click: float
    further_click: float


def arithmetic(config: NetworkConfig, crop: int) -> Arithmetic:
    """Operations of the paper's network (no detail path) on a cubic crop."""
    tokens = (crop // config.token_voxels) ** 3
    fine, C, N, W = 8 * tokens, config.width, config.neck_width, config.decoder_width
    inner, window = int(C * config.adapter_ratio), config.window**3
    embedding = 2 * tokens * C * (config.token_voxels + 2) ** 3
    attention = 2 * tokens * 4 * C * C + 4 * tokens * window * C
    block = attention + 2 * tokens * 2 * config.mlp_ratio * C * C + 2 * tokens * inner * (2 * C + 27)
    necks = 4 * 2 * tokens * N * (C + 27 * N)
    head = 2 * tokens * W * 27 * (N + W)
    joint = 2 * fine * W * 27
    image_to_queries = config.prompt_layers * (2 * tokens * N * (N // 2) * 2 + 4 * tokens * config.queries * N // 2)
    image_to_queries *= not config.promptless
    encode = embedding + config.depth * block + necks + 3 * head + joint * (3 * W + 1)
    further = image_to_queries + head + joint * W + 2 * fine * W * 2 * 27
    return Arithmetic(embedding, attention, encode, encode + further, further)


def synchronise(device: str) -> None:
    """Wait for a GPU."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def timed(work: Callable[[], object], device: str) -> float:
    """Seconds of one call."""
    synchronise(device)
    began = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - began


def matrix_rate(device: str, size: int = 4096) -> float:
    """Float32 operations a second of square matrix products."""
    a, b = torch.randn(2, size, size, device=device).unbind(0)
    timed(lambda: a @ b, device)
    return 2 * size**3 / min(timed(lambda: a @ b, device) for _ in range(3))


def peak_gb(device: str) -> float:
    """Most memory this process has held: on the GPU, or resident on the CPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


class Bench:
    """The steps of one size, each run in a process of its own.

    Args:
        size: a name in `model.SIZES`.
        crop: edge of the crop, voxels.
        train_crop: edge of the training step's crop.
        device: where to compute.
        precision: float32, bfloat16 or float16 (by autocast).
    """

    def __init__(self, size: str, crop: int, train_crop: int, device: str, precision: str) -> None:
        torch.manual_seed(0)
        self.config, self.crop, self.train_crop = SIZES[size], crop, train_crop
        self.device, self.precision = device, precision
        self.network = Network(self.config).eval().to(device)
        self.work = arithmetic(self.config, crop)
        self.clicks = torch.full((1, 1, 3), crop // 2, device=device)

    def image(self, edge: int) -> torch.Tensor:
        """A crop of noise."""
        return torch.randn(1, 1, edge, edge, edge, device=self.device)

    def embedding_folded(self) -> tuple[float, float]:
        """Voxels to tokens as one convolution."""
        crop = self.image(self.crop)
        with torch.inference_mode():
            self.network.encoder.embedding(crop)
            return timed(lambda: self.network.encoder.embedding(crop), self.device), self.work.embedding

    def embedding_unfolded(self) -> tuple[float, float]:
        """The released program's three steps."""
        crop, factor = self.image(self.crop), 16 // self.config.token_voxels
        with torch.inference_mode():
            return timed(lambda: unfolded_embedding(self.network.encoder.embedding, crop, factor), self.device), 0.0

    def _windows(self) -> torch.Tensor:
        edge = self.crop // self.config.token_voxels
        return torch.randn(1, edge, edge, edge, self.config.width, device=self.device)

    def _attention(self) -> WindowAttention:
        block = self.network.encoder.blocks[0]
        assert isinstance(block, Block)
        return block.attn

    def attention_fused(self) -> tuple[float, float]:
        """Attention of one shifted block, a few windows at a time."""
        tokens, layer = self._windows(), self._attention()
        plan = layer.plan(tokens.shape[1:4])
        with torch.inference_mode(), self.arithmetic():
            plan.apply(tokens, layer)
            return timed(lambda: plan.apply(tokens, layer), self.device), self.work.attention

    def attention_explicit(self) -> tuple[float, float]:
        """The same with the whole score matrix in memory."""
        tokens, layer = self._windows(), self._attention()
        plan = layer.plan(tokens.shape[1:4])
        rows = tokens.flatten(0, 3)[plan.tokens(tokens.device)]
        with torch.inference_mode():
            return timed(lambda: explicit_attention(layer, rows, plan), self.device), self.work.attention

    def arithmetic(self) -> torch.autocast:
        """The precision asked for."""
        kind = getattr(torch, self.precision)
        reduced = self.precision != "float32"
        return torch.autocast(self.device.partition(":")[0], kind if reduced else torch.bfloat16, enabled=reduced)

    def encode(self) -> tuple[float, float]:
        """A crop's features, and the decoder's kept share."""
        crop = self.image(self.crop)
        with torch.inference_mode(), self.arithmetic():
            return timed(lambda: self.network.encode(crop), self.device), self.work.encode

    def first_click(self) -> tuple[float, float]:
        """Encode, then decode one click."""
        crop = self.image(self.crop)
        with torch.inference_mode(), self.arithmetic():
            return timed(lambda: self.network(crop, self.clicks), self.device), self.work.first_click

    def further_click(self) -> tuple[float, float]:
        """Decode a further click; median of three."""
        crop = self.image(self.crop)
        with torch.inference_mode(), self.arithmetic():
            features = self.network.encode(crop)
            self.network.decode(features, self.clicks)
            seconds = [timed(lambda: self.network.decode(features, self.clicks), self.device) for _ in range(3)]
        return statistics.median(seconds), self.work.further_click

    def correcting_click(self) -> tuple[float, float]:
        """A correction, from prompts to the mask on the scan's grid, dense prompts and prior included; median of three.

        Its limit is the paper's further click, which has no dense prompts.
        """
        network = Network(self.config.model_copy(update={"dense_width": 16})).eval()
        crop = (self.crop, self.crop, self.crop)
        preprocessing = paper_preprocessing().model_copy(update={"crop": crop})
        bundle = Bundle(network, preprocessing, Provenance(name="random", origin="a benchmark"))
        predictor = Predictor(bundle, InferenceSettings(device=self.device, precision=self.precision))  # type: ignore[arg-type]
        scan = np.random.default_rng(0).integers(-1000, 1000, (512, 512, 400), dtype=np.int16)
        predictor.set_volume(Volume(scan, np.diag([0.8, 0.8, 1, 1])))
        prompts = [Click((256, 256, 200)), *(Click((256 + 6 * n, 250, 200), positive=False) for n in range(1, 5))]
        predictor.predict(prompts[:2])
        seconds = [timed(lambda n=n: predictor.predict(prompts[:n]), self.device) for n in (3, 4, 5)]  # type: ignore[misc]
        return statistics.median(seconds), self.work.further_click

    def automatic_window(self) -> tuple[float, float]:
        """A window without a prompt; of SAM's sizes as `train --automatic` sets it: 256³ where the crop is 128³."""
        wider = 2 if self.config.token_voxels == 4 else 1
        changes = {"token_voxels": wider * self.config.token_voxels, "promptless": True, "spare_attention": False}
        config = self.config.model_copy(update=changes)
        network, edge = Network(config).eval().to(self.device), wider * self.crop
        window = self.image(edge)
        with torch.inference_mode(), self.arithmetic():
            seconds = timed(lambda: network.decode(network.encode(window)), self.device)
        return seconds, arithmetic(config, edge).first_click

    def training_step(self) -> tuple[float, float]:
        """Forward, backward and optimiser on one crop, tuned as the paper does, with activation checkpointing."""
        self.network.train().freeze()
        self.network.encoder.checkpointing = True
        tuned = [p for p in self.network.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(tuned, lr=4e-4, weight_decay=0)
        edge = self.train_crop
        crop, clicks = self.image(edge), torch.full((1, 30, 3), edge // 2, device=self.device)
        truth = torch.zeros(1, edge, edge, edge, dtype=torch.int64, device=self.device)

        def step() -> None:
            with self.arithmetic():
                logits = self.network(crop, clicks)
            optimiser.zero_grad()
            dice_cross_entropy(logits, truth).backward()  # type: ignore[no-untyped-call]
            optimiser.step()

        step()
        # Three forwards: forward, forward again, and the activations' gradients; those of the few tuned weights
        # are left out of the limit.
        return timed(step, self.device), 3 * arithmetic(self.config, edge).first_click


STEPS = (
    "embedding_folded",
    "embedding_unfolded",
    "attention_fused",
    "attention_explicit",
    "encode",
    "first_click",
    "further_click",
    "correcting_click",
    "automatic_window",
    "training_step",
)


def run_step(arguments: argparse.Namespace) -> None:
    """One step, in this process; prints one JSON line."""
    bench = Bench(arguments.size, arguments.crop, arguments.train_crop, arguments.device, arguments.precision)
    before = matrix_rate(arguments.device)
    seconds, operations = getattr(bench, arguments.step)()
    peak = peak_gb(arguments.device)
    rate = (before + matrix_rate(arguments.device)) / 2
    print(json.dumps({"seconds": seconds, "operations": operations, "peak_gb": peak, "rate": rate}))


def measure(arguments: argparse.Namespace, size: str, crop: int, train_crop: int) -> list[str]:
    """A table of all steps of one size."""
    lines = [
        f"### {size}, {crop}³ crop (training step: {train_crop}³), {arguments.precision}",
        "",
        "| step | seconds | arithmetic, TFLOP | matrix products, TFLOP/s | ratio to the limit | peak memory, GB |",
        "|---|---|---|---|---|---|",
    ]
    for step in STEPS:
        command = [sys.executable, __file__, "--step", step, "--size", size, "--crop", str(crop)]
        command += ["--train-crop", str(train_crop), "--device", arguments.device, "--precision", arguments.precision]
        said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        limit = said["operations"] / said["rate"]
        known = said["operations"] > 0
        cells = [
            step.replace("_", " "),
            f"{said['seconds']:.3f}",
            f"{said['operations'] / 1e12:.3f}" if known else "",
            f"{said['rate'] / 1e12:.3f}",
            f"{said['seconds'] / limit:.2f}" if known else "",
            f"{said['peak_gb']:.2f}",
        ]
        print(*cells, sep="  ", flush=True)
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def click_times(device: str) -> list[str]:
    """Ten first clicks of palpate-tiny on a synthetic 28 mm nodule, and what ten more on each then take, in turn.

    The further ones say now lesion, now none; the small and the large scan lie in memory.
    """
    predictor = Predictor("palpate-tiny", InferenceSettings(device=device))
    spacings = {(128, 128, 128): (1.0, 1.0, 1.0), (512, 512, 400): (0.8, 0.8, 1.0)}
    made = {
        " x ".join(map(str, shape)): make_phantom(shape=shape, spacing=edges, lesion_diameter_mm=28, site="lung")
        for shape, edges in spacings.items()
    }
    first: dict[str, list[float]] = {name: [] for name in made}
    further: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(11):
        for name, phantom in made.items():
            predictor.set_volume(phantom.volume)
            x, y, z = phantom.click.index
            prompts: list[Prompt] = [Click((x + turn % 3, y, z + turn // 3 - 1))]
            seconds = timed(lambda asked=prompts: predictor.predict(asked), device)  # type: ignore[misc]
            if turn:  # the first turn warms up
                first[name].append(seconds)
            prompts.append(Click((x + 6, y + turn - 5, z), positive=False) if turn % 2 else Click((x - 3, y, z)))
            seconds = timed(lambda asked=prompts: predictor.predict(asked), device)  # type: ignore[misc]
            if turn:
                further[name].append(seconds)
    lines = ["### palpate-tiny through the Predictor, a synthetic nodule of 28 mm: seconds of ten clicks", ""]
    lines += ["| scan | first click: median | longest | further click: median | longest |", "|---|---|---|---|---|"]
    for name in made:
        cells = [f"{f(times[name]):.3f}" for times in (first, further) for f in (statistics.median, max)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    print("\n".join(lines), flush=True)
    return lines


def proposals_on_a_ct(device: str) -> dict[str, float]:
    """Seconds and memory of an automatic `tiny` with random weights on a CT of 512 x 512 x 400; in GB."""
    phantom = make_phantom(shape=(512, 512, 400), spacing=(0.8, 0.8, 1.0), lesion_diameter_mm=28, site="lung")
    torch.manual_seed(0)
    config = SIZES["tiny"].model_copy(update={"promptless": True, "spare_attention": False})
    preprocessing = paper_preprocessing().model_copy(update={"crop": (128, 128, 128), "spacing": (1.0, 1.0, 1.0)})
    proposer = Proposer(
        Bundle(Network(config), preprocessing, Provenance(name="random", origin="a benchmark")),
        InferenceSettings(device=device),
    )
    seconds = timed(lambda: proposer.probability(phantom.volume), device)
    return {"seconds": seconds, "peak": peak_gb("cpu")}


def automatic() -> list[str]:
    """`proposals_on_a_ct` in a process of its own, told."""
    command = [sys.executable, __file__, "--ct"]
    said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return [
        f"An automatic `tiny` (128³ windows at 1 mm, random weights) over a CT of 512 x 512 x 400 voxels: "
        f"{said['seconds']:.0f} s; peak memory {said['peak']:.2f} GB, scan, network and libraries included."
    ]


def help_time() -> list[str]:
    """Seconds of `palpate --help`, median of five."""
    command = [sys.executable, "-m", "palpate.cli", "--help"]
    seconds = statistics.median(
        timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL), "cpu") for _ in range(5)
    )
    return [f"`palpate --help`: {seconds:.2f} s (median of five)."]


def processor() -> str:
    """The processor's name and the threads at work."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {torch.get_num_threads()} threads"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--size", default="vit_b", choices=tuple(SIZES))
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--train-crop", type=int, default=64, help="vit_b at 128³ needs minutes a step on a CPU")
    parser.add_argument("--step", choices=STEPS, help="this step alone, as JSON")
    parser.add_argument("--ct", action="store_true", help="proposals on a large CT alone, as JSON")
    parser.add_argument("--write", type=Path, help="write the table here, as Markdown")
    arguments = parser.parse_args()
    if arguments.step:
        run_step(arguments)
        return
    if arguments.ct:
        print(json.dumps(proposals_on_a_ct(arguments.device)))
        return
    on = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else processor()
    lines = [
        "# Speed",
        "",
        f"Measured {datetime.date.today()} by `python benchmarks/speed.py` on {on}; torch {torch.__version__}.",
        "The ratio is a step's time over what its arithmetic would take at the machine's matrix-product rate.",
        "",
    ]
    lines += measure(arguments, arguments.size, arguments.crop, arguments.train_crop)
    lines += ["", *click_times(arguments.device), "", *automatic(), "", *help_time()]
    if arguments.write:
        arguments.write.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
