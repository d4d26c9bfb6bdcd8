"""Counted randomness: every random choice is named by a seed, a word and counters, so that it can be repeated alone."""

from __future__ import annotations

import zlib

import numpy as np


def counted_rng(seed: int, what: str, *index: int) -> np.random.Generator:
    """The generator of one random choice, named by a seed, a word and counters."""
    return np.random.default_rng([seed, zlib.crc32(what.encode()), *index])
