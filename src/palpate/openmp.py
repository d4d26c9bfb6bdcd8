"""How OpenMP's threads wait: asleep, where the environment does not say otherwise.

PyTorch computes with OpenMP, whose threads by default spin while they wait for each other. Where another process uses
one of the cores, the others then spin for as long as the late one takes: a click takes three times as long
(`benchmarks/waiting.md`). The OpenMP library reads its environment once, when PyTorch loads it, so this comes first.

The command line and the processes that Palpate starts wait asleep. `import palpate` changes nothing: a program that
imports it sets OMP_WAIT_POLICY=PASSIVE itself, in its environment or in `os.environ` before its first `import torch`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}  # of the standard: GNU's library and LLVM's (Intel's) both read it
CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # a user who set one of them has chosen


def chosen() -> dict[str, str]:
    """The variables of the environment that say how OpenMP's threads wait."""
    return {name: os.environ[name] for name in CHOICES if name in os.environ}


def wait_passively() -> None:
    """Let this process's OpenMP threads wait asleep, unless its environment says otherwise.

    It has an effect before the first `import torch` only.
    """
    if not chosen():
        os.environ.update(PASSIVE)


@contextmanager
def passive_children() -> Iterator[None]:
    """Let processes that are started in the block wait asleep, unless the environment says otherwise."""
    if chosen():
        yield
        return
    os.environ.update(PASSIVE)
    try:
        yield
    finally:
        for name in PASSIVE:
            os.environ.pop(name, None)
