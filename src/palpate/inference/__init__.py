"""How masks come about: a model at work, an encoded scan, and what a lesion's prompts have led to.

Names are resolved when first used, so that settings and identities are read without PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cache import CACHE, ByteCache
    from .encoded_scan import EncodedScan
    from .lesion_state import LesionState
    from .plausibility import MaskWarning
    from .prediction import Alternative, Prediction
    from .rules import RULES
    from .runtime import Capabilities, Runtime, TorchRuntime
    from .settings import BUDGET, InferenceIdentity, InferenceSettings
    from .views import View

__all__ = [
    "BUDGET",
    "CACHE",
    "RULES",
    "Alternative",
    "ByteCache",
    "Capabilities",
    "EncodedScan",
    "InferenceIdentity",
    "InferenceSettings",
    "LesionState",
    "MaskWarning",
    "Prediction",
    "Runtime",
    "TorchRuntime",
    "View",
]

_PARTS = {
    "cache": ("CACHE", "ByteCache"),
    "encoded_scan": ("EncodedScan",),
    "lesion_state": ("LesionState",),
    "plausibility": ("MaskWarning",),
    "prediction": ("Alternative", "Prediction"),
    "rules": ("RULES",),
    "runtime": ("Capabilities", "Runtime", "TorchRuntime"),
    "settings": ("BUDGET", "InferenceIdentity", "InferenceSettings"),
    "views": ("View",),
}
_HOME = {name: part for part, names in _PARTS.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
