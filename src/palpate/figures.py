"""Measured results as records: what was measured, on whom, how, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class FigureRecord(BaseModel):
    """One measured number."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    subset: str = Field(description='subset of the split, such as "validation" or "test"')
    protocol: str = Field(description="how it was measured, in a phrase")
    seeds: tuple[int, ...] = Field((), description="of the simulated user's draws; none: nothing was drawn")
    cohort: str = Field("all", description="which scans of the subset")
    metric: str = Field("Dice", description="name of the metric")
    value: float = Field(description="mean over scans and seeds, unless the metric says otherwise")
    interval: tuple[float, float] | None = Field(
        None, description="95 % interval, bootstrapped by patient; none for a single patient"
    )
    n: int | None = Field(None, ge=0, description="scans, or what the metric counts; none where it was not recorded")
    patients: int | None = Field(None, ge=0, description="patients of these scans")
    note: str = Field("", description="what else must be known")

    @property
    def title(self) -> str:
        """What was measured, without its cohort and metric: "test patients, one random click, seeds 0, 1 (a note)"."""
        seeds = f", seed{'s' * (len(self.seeds) > 1)} {', '.join(map(str, self.seeds))}" if self.seeds else ""
        return f"{self.subset} patients, {self.protocol}{seeds}" + (f" ({self.note})" if self.note else "")

    @property
    def text(self) -> str:
        """The value with its interval and counts: "0.895 [0.883, 0.907], n = 22, 22 patients"."""
        interval = "" if self.interval is None else " [{:.3f}, {:.3f}]".format(*self.interval)
        patients = "" if self.patients is None else f", {self.patients} patient{'s' * (self.patients != 1)}"
        count = "" if self.n is None else f", n = {self.n}"
        return f"{self.value:.3f}{interval}{count}{patients}"


Figures = tuple[FigureRecord, ...] | dict[str, Any]  # version 0.1.0 wrote a mapping of titles to free text


def tabulated(figures: Sequence[FigureRecord] | Mapping[str, Any]) -> dict[str, Any]:
    """Figures for people: by title and cohort, each metric's value as text; an earlier version's as they are."""
    if isinstance(figures, Mapping):
        return dict(figures)
    table: dict[str, dict[str, dict[str, str]]] = {}
    for figure in figures:
        table.setdefault(figure.title, {}).setdefault(figure.cohort, {})[figure.metric] = figure.text
    return table
