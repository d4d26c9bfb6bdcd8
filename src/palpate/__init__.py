"""Palpate: one click on a tumour in a 3-D scan, its mask back.

    import palpate
    volume = palpate.read("scan.nii.gz")
    predictor = palpate.Predictor("palpate-tiny")
    predictor.set_volume(volume)
    mask = predictor.predict([palpate.Click((120, 88, 45))]).mask
    mask.save("lesion.nii.gz")

Names are resolved when first used, so that `import palpate` needs neither PyTorch nor a file library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .automatic import Proposal, Proposer
    from .bundle import Bundle, import_foreign, load
    from .errors import (
        BatchError,
        CancelledError,
        CohortError,
        DeviceError,
        FormatError,
        GeometryError,
        GeometryWarning,
        ModelError,
        OutputError,
        PalpateError,
        PalpateWarning,
        PromptError,
        ScanError,
        SeriesError,
        SessionError,
        SettingsError,
    )
    from .formats import read, write
    from .inference.settings import InferenceSettings
    from .lesions import Measurements, Postprocessing, measure_lesion
    from .masks import Mask, Patch, Probability
    from .predictor import Prediction, Predictor
    from .prompts import Box, Click, InitialMask, Lasso, Scribble
    from .session import Lesion, Session
    from .volume import Grid, Volume

__version__ = "0.1.0"

_ROOMS = {
    "automatic": ("Proposal", "Proposer"),
    "bundle": ("Bundle", "import_foreign", "load"),
    "errors": (
        "BatchError",
        "CancelledError",
        "CohortError",
        "DeviceError",
        "FormatError",
        "GeometryError",
        "GeometryWarning",
        "ModelError",
        "OutputError",
        "PalpateError",
        "PalpateWarning",
        "PromptError",
        "ScanError",
        "SeriesError",
        "SessionError",
        "SettingsError",
    ),
    "formats": ("read", "write"),
    "inference": ("InferenceSettings",),
    "lesions": ("Measurements", "Postprocessing", "measure_lesion"),
    "predictor": ("Prediction", "Predictor"),
    "prompts": ("Box", "Click", "Lasso", "InitialMask", "Scribble"),
    "session": ("Lesion", "Session"),
    "masks": ("Mask", "Patch", "Probability"),
    "volume": ("Grid", "Volume"),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "BatchError",
    "Box",
    "Bundle",
    "CancelledError",
    "Click",
    "CohortError",
    "DeviceError",
    "FormatError",
    "GeometryError",
    "GeometryWarning",
    "Grid",
    "InferenceSettings",
    "InitialMask",
    "Lasso",
    "Lesion",
    "Mask",
    "Measurements",
    "ModelError",
    "OutputError",
    "PalpateError",
    "PalpateWarning",
    "Patch",
    "Postprocessing",
    "Prediction",
    "Predictor",
    "Probability",
    "PromptError",
    "Proposal",
    "Proposer",
    "ScanError",
    "Scribble",
    "SeriesError",
    "Session",
    "SessionError",
    "SettingsError",
    "Volume",
    "__version__",
    "import_foreign",
    "load",
    "measure_lesion",
    "read",
    "write",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'palpate' has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
