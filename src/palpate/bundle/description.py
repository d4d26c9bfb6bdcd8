"""A model described in plain data."""

from __future__ import annotations

from typing import Any

from ..figures import tabulated
from ..model import is_unused, tuning_of
from .model_file import Bundle, frozen_sha256


def describe(bundle: Bundle) -> dict[str, Any]:
    """What `palpate info` shows: sizes, parameters, preprocessing, provenance; plain data."""
    config, parameters = bundle.network.config, dict(bundle.network.named_parameters())
    tuned = {name: p.numel() for name, p in bundle.network.named_tuned()}
    return {
        "name": bundle.provenance.name,
        "tuning": tuning_of(config),
        "parameters": {
            "all": sum(p.numel() for p in parameters.values()),
            "tuned by a cohort": sum(tuned.values()),
            "of these stored but unused": sum(n for name, n in tuned.items() if is_unused(name)),
        },
        "network": config.model_dump(mode="json"),
        "preprocessing": bundle.preprocessing.model_dump(mode="json"),
        "calibration": bundle.calibration.model_dump(mode="json"),
        "provenance": bundle.provenance.model_dump(mode="json", exclude={"name"})
        | {"figures": tabulated(bundle.provenance.figures)},
        "frozen tensors (SHA-256)": frozen_sha256(bundle.network.state_dict(), config) if config.has_frozen else None,
    }
