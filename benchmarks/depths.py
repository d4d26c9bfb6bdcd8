"""What a click costs in a crop of 64³: palpate-tiny, and DINOv2's ViT-S/14 cut to several depths.

    python benchmarks/depths.py --depths 4 6 8 12 --rounds 9

Prints, as Markdown, floating point operations (PyTorch's counter), seconds of one thread (medians of the thread's own
CPU time, the networks in turn, so that other work on the machine weighs little), and the size of the file in half
precision. Weights are random: they change neither.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict

import torch
from torch.utils.flop_counter import FlopCounterMode

from palpate.bundle import load
from palpate.model import SIZES, Features, Network

HEADS = {"dense_width": 16, "quality_width": 64}  # palpate-tiny's
CROP = torch.zeros(1, 1, 64, 64, 64)
CLICK, LABEL, MAPS = torch.full((1, 1, 3), 32.0), torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 4, 64, 64, 64)


def decode(network: Network, features: Features) -> None:
    """One click's share."""
    network.decode(features, CLICK, LABEL, MAPS)


def operations(network: Network) -> tuple[float, float]:
    """GFLOP of encoding the crop, and of decoding a click in it."""
    with FlopCounterMode(display=False) as encoding:
        features = network.encode(CROP)
    with FlopCounterMode(display=False) as decoding:
        decode(network, features)
    return encoding.get_total_flops() / 1e9, decoding.get_total_flops() / 1e9


def seconds(network: Network) -> tuple[float, float]:
    """CPU seconds of the same."""
    started = time.thread_time()
    features = network.encode(CROP)
    encoded = time.thread_time()
    decode(network, features)
    return encoded - started, time.thread_time() - encoded


@torch.inference_mode()
def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", type=int, nargs="+", default=[4, 6, 8, 12])
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds, after one that is not counted")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    small = SIZES["dinov2_s"].model_copy(update=HEADS)
    networks = {"palpate-tiny": load("palpate-tiny").network}
    networks |= {f"ViT-S/14, {depth} blocks": Network(small.first_blocks(depth)).eval() for depth in arguments.depths}
    times: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(1 + arguments.rounds):
        for name, network in networks.items():
            times[name].append(seconds(network))
    print("| network | encode, GFLOP | decode, GFLOP | encode, s | decode, s | parameters | file, half precision |")
    print("|---|---|---|---|---|---|---|")
    for name, network in networks.items():
        counted = operations(network)
        timed = [statistics.median(part) for part in zip(*times[name][1:], strict=True)]
        parameters = sum(p.numel() for p in network.parameters())
        cells = [*(f"{n:.1f}" for n in counted), *(f"{n:.3f}" for n in timed), f"{parameters / 1e6:.1f} M"]
        print(f"| {name} | {' | '.join(cells)} | {2 * parameters / 1e6:.1f} MB |")


if __name__ == "__main__":
    main()
