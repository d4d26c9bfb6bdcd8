"""The simulated user: prompts drawn from a truth. Shared by training and evaluation.

Randomness is counted: every draw comes from `(seed, what, index)`, so a draw can be repeated alone.
"""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

from .errors import ScanError
from .prompts import Click


def counted_rng(seed: int, what: str, *index: int) -> np.random.Generator:
    """The generator of one random choice, named by a seed, a word and counters."""
    return np.random.default_rng([seed, zlib.crc32(what.encode()), *index])


def random_clicks(truth: npt.NDArray[np.bool_], count: int, rng: np.random.Generator) -> list[Click]:
    """`count` voxels of a truth `[X, Y, Z]`, drawn uniformly with replacement (paper, section 4.1).

    Raises:
        ScanError: an empty truth.
    """
    places = np.flatnonzero(truth)
    if not places.size:
        raise ScanError("the truth is empty: there is no lesion to click on")
    drawn = np.unravel_index(places[rng.integers(places.size, size=count)], truth.shape)
    return [Click((int(x), int(y), int(z))) for x, y, z in zip(*drawn, strict=True)]
