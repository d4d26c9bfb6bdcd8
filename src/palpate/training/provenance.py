"""The provenance of a run's models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..bundle import Provenance
from ..cohort.prepared import PreparedCohort, PreparedScan
from ..figures import FigureRecord
from .settings import Settings

NOTICE = "Research software, not a medical device; not for diagnosis or treatment."
AUTOMATIC_NOTICE = "Proposes lesions by itself: it misses some, and some of what it proposes is none."


def provenance(
    settings: Settings,
    start: Provenance,
    trained: Sequence[PreparedScan],
    figures: tuple[FigureRecord, ...],
    steps_and_processes: tuple[int, int],
    curve: Sequence[Sequence[float]],
) -> Provenance:
    """The provenance of a model that a run trained.

    Args:
        settings: the run's.
        start: of the model that it started from.
        trained: its training scans.
        figures: of this model.
        steps_and_processes: optimiser steps in all, and processes.
        curve: pairs of step and validation Dice.
    """
    preset, (steps, processes) = settings.preset, steps_and_processes
    automatic = "automatic, " if preset.automatic else ""
    return Provenance(
        name=preset.name,
        origin=f"palpate {settings.palpate} train: {Path(preset.init).name}, {automatic}tuning {preset.tuning}, "
        f"{len(trained)} scans of {len({scan.patient for scan in trained})} patients",
        licence=start.licence if preset.init != "none" else "",
        data=_data(settings),
        figures=figures,
        recipe={
            "preset": preset.model_dump(mode="json", exclude={"split"}) | {"init": Path(preset.init).name},
            "started from": start.origin,
            "shares": settings.shares,
            "split (SHA-256)": settings.split.sha256,
            "steps": steps,
            "processes": processes,
            "curve (step, validation Dice)": curve,
        },
        notice=f"{AUTOMATIC_NOTICE} {NOTICE}" if preset.automatic else NOTICE,
    )


def _data(settings: Settings) -> tuple[str, ...]:
    """A sentence on each cohort: its content, its licence, or that none is stated, and transplants."""
    sentences = []
    for folder, content in zip(settings.prepared, settings.cohorts_sha256, strict=True):
        licence = PreparedCohort.open(folder).index.licence
        parts = [f"{Path(folder).name}: content {content}", f"licence {licence or 'not stated'}"]
        if settings.preset.targets.transplants:
            parts.append("contoured targets transplanted into other training scans")
        sentences.append("; ".join(parts))
    return tuple(sentences)
