"""How masks come about: a model at work, an encoded scan, and what a lesion's prompts have led to."""

from .cache import CACHE, ByteCache
from .encoded_scan import EncodedScan
from .lesion_state import LesionState, Prediction
from .refinement import BUDGET
from .runtime import Capabilities, Runtime, TorchRuntime
from .settings import InferenceIdentity, InferenceSettings
from .views import View

__all__ = [
    "BUDGET",
    "CACHE",
    "ByteCache",
    "Capabilities",
    "EncodedScan",
    "InferenceIdentity",
    "InferenceSettings",
    "LesionState",
    "Prediction",
    "Runtime",
    "TorchRuntime",
    "View",
]
