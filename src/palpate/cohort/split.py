"""Who trains, who validates, who tests: a function of the patient's name alone."""

from __future__ import annotations

import hashlib
from typing import Literal

Part = Literal["train", "validation", "test"]


def split_of(patient: str, validation: float = 0.1, test: float = 0.1) -> Part:
    """The part a patient falls in, by a hash of the name: it never changes as a cohort grows."""
    share = int.from_bytes(hashlib.sha256(patient.encode()).digest()[:8], "big") / 2**64
    if share < test:
        return "test"
    return "validation" if share < test + validation else "train"
