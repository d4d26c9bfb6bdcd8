"""A file's tensors by our names, every key accounted for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError
from ..model import SIZES, Network, NetworkConfig

State = dict[str, Tensor]
Rules = tuple[tuple[str, str], ...]
MAX_LISTED = 8  # keys that an error lists


def renamed(tensors: dict[str, Any], rules: Rules, unused: tuple[str, ...]) -> tuple[State, list[str]]:
    """Our names for a file's tensors, in float32, and the keys that no rule knows.

    Args:
        tensors: the file's.
        rules: patterns of its keys, each with the name that it has here.
        unused: patterns of keys that are left out.
    """
    state: State = {}
    unknown: list[str] = []
    for key, value in tensors.items():
        if any(re.fullmatch(rule, key) for rule in unused):
            continue
        ours = next((re.sub(rule, new, key) for rule, new in rules if re.fullmatch(rule, key)), None)
        if ours is None or not isinstance(value, Tensor):
            unknown.append(key)
        else:
            state[ours] = value.detach().float().contiguous()
    return state, unknown


def check(path: Path, state: State, expected: dict[str, tuple[int, ...]], left: list[str]) -> None:
    """Refuse a file that does not fill the shapes of `expected` exactly.

    Raises:
        ModelError: keys are missing, left over, or of another shape; the message lists them.
    """
    missing = sorted(expected.keys() - state.keys())
    left = sorted(left + [key for key in state if key not in expected])
    wrong = [
        f"{key} {tuple(state[key].shape)} instead of {expected[key]}"
        for key in sorted(state.keys() & expected.keys())
        if tuple(state[key].shape) != expected[key]
    ]
    problems = (("missing", missing), ("left over", left), ("of another shape", wrong))
    found = [f"{len(keys)} {what}: {_listed(keys)}" for what, keys in problems if keys]
    if found:
        raise ModelError(f"{path}: does not fit the network. " + "; ".join(found))


def _listed(keys: list[str]) -> str:
    more = len(keys) - MAX_LISTED
    return ", ".join(keys[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def shapes(config: NetworkConfig) -> dict[str, tuple[int, ...]]:
    """The shape of each of a network's tensors."""
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in Network(config).state_dict().items()}


def fresh_state(config: NetworkConfig) -> State:
    """A network's tensors before any training, seed 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return dict(Network(config).state_dict())


def size_by_width(path: Path, positions: object, whose: str, names: tuple[str, ...]) -> NetworkConfig:
    """The size whose tokens are as wide as a file's position table.

    Args:
        path: the file, for the message.
        positions: what it has for a position table, its channels last.
        whose: the transformer's makers' name for it.
        names: the sizes, as `model.SIZES` has them.

    Raises:
        ModelError: none is.
    """
    width = positions.shape[-1] if isinstance(positions, Tensor) and positions.ndim > 1 else None
    for name in names:
        if SIZES[name].width == width:
            return SIZES[name]
    known = ", ".join(f"{SIZES[name].width} ({name})" for name in names)
    raise ModelError(f"{path}: its position table is {width} wide; {whose}'s are {known}")


def size_name(config: NetworkConfig, whose: str) -> str:
    """The name of a size, or `whose` alone."""
    return next((name for name, size in SIZES.items() if size == config), whose)
