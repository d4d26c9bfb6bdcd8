"""Training, validation and test patients: a split is always by patient."""

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

Subset = Literal["train", "validation", "test"]
SUBSETS: tuple[Subset, ...] = get_args(Subset)


class Split(BaseModel):
    """Names of scans or of patients, by subset.

    A scan belongs to the subset that lists its own name, else to the one that lists its patient, else to none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    train: tuple[str, ...] = Field((), description="training scans or patients: the weights are fitted to them")
    validation: tuple[str, ...] = Field((), description="validation scans or patients: they choose the best weights")
    test: tuple[str, ...] = Field((), description="test scans or patients: measured once, at the end")

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        seen: dict[str, Subset] = {}
        for subset in SUBSETS:
            for name in getattr(self, subset):
                if seen.setdefault(name, subset) != subset:
                    raise ValueError(f"{name!r} stands under {seen[name]} and under {subset}; leave one of them")
        return self

    def subset_of(self, name: str, patient: str) -> Subset | None:
        """The subset of a scan, or None if neither it nor its patient is listed."""
        return self._listed.get(name, self._listed.get(patient))

    @cached_property
    def _listed(self) -> dict[str, Subset]:
        return {listed: subset for subset in SUBSETS for listed in getattr(self, subset)}

    @property
    def sha256(self) -> str:
        """A hash of the lists, whatever the order of names in them."""
        text = json.dumps({subset: sorted(set(getattr(self, subset))) for subset in SUBSETS})
        return hashlib.sha256(text.encode()).hexdigest()


class PaperSplit(BaseModel):
    """One of the paper's five folds of a data set (docs/design/network.md, section 5)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    paper: Literal["kits21", "msd-pancreas", "lits17", "msd-colon"] = Field(
        description="whose folds: kits21, msd-pancreas, lits17 or msd-colon"
    )
    fold: int = Field(0, ge=FOLDS[0], le=FOLDS[-1], description="which of its folds, 0 to 4")

    def resolve(self) -> Split:
        """The fold's names."""
        folds = json.loads((resources.files(__package__) / "splits.json").read_text())[self.paper]
        fold = folds[self.fold]
        return Split(train=fold["train"], validation=fold["val"], test=fold["test"])


def subset_by_hash(patient: str, validation: float = 0.1, test: float = 0.1) -> Subset:
    """A patient's subset by a hash of the name: it never changes as a cohort grows."""
    fraction = int.from_bytes(hashlib.sha256(patient.encode()).digest()[:8], "big") / 2**64
    if fraction < test:
        return "test"
    return "validation" if fraction < test + validation else "train"


def propose_split(patients: Iterable[str], validation: float = 0.1, test: float = 0.1) -> Split:
    """Every patient by `subset_by_hash`; of few patients, at least one in validation and one in test.

    Raises:
        CohortError: fewer than three patients.
    """
    # In the order of their hashes, so that a patient who must move is not the first of the alphabet.
    names = sorted(set(patients), key=lambda name: hashlib.sha256(name.encode()).digest())
    if len(names) < 3:
        raise CohortError(
            f"{len(names)} patients cannot be split into train, validation and test; at least 3 are needed"
        )
    subsets: dict[Subset, list[str]] = {subset: [] for subset in SUBSETS}
    for name in names:
        subsets[subset_by_hash(name, validation, test)].append(name)
    for subset in SUBSETS:
        if not subsets[subset]:
            largest = max(SUBSETS, key=lambda other: len(subsets[other]))
            subsets[subset].append(subsets[largest].pop(0))
    return Split(**{subset: tuple(sorted(listed)) for subset, listed in subsets.items()})
