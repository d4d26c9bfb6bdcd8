"""Who trains, who validates, who tests: always by patient."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cached_property
from importlib import resources
from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..errors import CohortError

FOLDS = range(5)  # of the paper's splits

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)


class Split(BaseModel):
    """Names of scans or of patients, by part.

    A scan belongs where its own name stands, else where its patient's does, else nowhere.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    train: tuple[str, ...] = Field((), description="who the weights are fitted to")
    validation: tuple[str, ...] = Field((), description="who chooses the best weights")
    test: tuple[str, ...] = Field((), description="whom nobody looks at before the end")

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        seen: dict[str, Part] = {}
        for part in PARTS:
            for name in getattr(self, part):
                if seen.setdefault(name, part) != part:
                    raise ValueError(f"{name!r} stands under {seen[name]} and under {part}; leave one of them")
        return self

    def part_of(self, name: str, patient: str) -> Part | None:
        """The part of a scan, or None if neither it nor its patient is listed."""
        return self._listed.get(name, self._listed.get(patient))

    @cached_property
    def _listed(self) -> dict[str, Part]:
        return {listed: part for part in PARTS for listed in getattr(self, part)}

    @property
    def sha256(self) -> str:
        """A hash of the lists, whatever the order of names in them."""
        text = json.dumps({part: sorted(set(getattr(self, part))) for part in PARTS})
        return hashlib.sha256(text.encode()).hexdigest()


class PaperSplit(BaseModel):
    """One of the paper's five folds of a data set (docs/network.md, section 5)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    paper: Literal["kits21", "msd-pancreas", "lits17", "msd-colon"]
    fold: int = Field(0, ge=FOLDS[0], le=FOLDS[-1])

    def resolve(self) -> Split:
        """The fold's names."""
        folds = json.loads((resources.files(__package__) / "splits.json").read_text())[self.paper]
        fold = folds[self.fold]
        return Split(train=fold["train"], validation=fold["val"], test=fold["test"])


def split_of(patient: str, validation: float = 0.1, test: float = 0.1) -> Part:
    """The part a patient falls in, by a hash of the name: it never changes as a cohort grows."""
    share = int.from_bytes(hashlib.sha256(patient.encode()).digest()[:8], "big") / 2**64
    if share < test:
        return "test"
    return "validation" if share < test + validation else "train"


def propose_split(patients: Iterable[str], validation: float = 0.1, test: float = 0.1) -> Split:
    """Every patient by `split_of`; of few patients, at least one validates and one tests.

    Raises:
        CohortError: fewer than three patients.
    """
    # In the order of their hashes, so that whoever must move is not the first of the alphabet.
    names = sorted(set(patients), key=lambda name: hashlib.sha256(name.encode()).digest())
    if len(names) < 3:
        raise CohortError(
            f"{len(names)} patients cannot be split into train, validation and test; at least 3 are needed"
        )
    parts: dict[Part, list[str]] = {part: [] for part in PARTS}
    for name in names:
        parts[split_of(name, validation, test)].append(name)
    for part in ("train", "validation", "test"):
        if not parts[part]:
            giver = max(PARTS, key=lambda other: len(parts[other]))
            parts[part].append(parts[giver].pop(0))
    return Split(**{part: tuple(sorted(listed)) for part, listed in parts.items()})
