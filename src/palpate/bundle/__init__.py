"""A model as one file: safetensors, with its shape, preprocessing and provenance in the header.

Two kinds of file: a full model, and an adapter that holds what was trained and names its base by a
SHA-256 over the base's frozen tensors. What is frozen follows from the adapter's own tuning choice, so
its base may have adapters of another kind, or none. Nothing here unpickles.
"""

from .description import describe
from .imports import PAPER_INTENSITIES, import_foreign, paper_preprocessing
from .loading import BUNDLED, load
from .model_file import FORMAT, Bundle, frozen_sha256, is_model
from .provenance import Calibration, Provenance
from .variants import with_depth, with_extra_heads, with_patch_size, with_tuning, without_prompt_encoder

__all__ = [
    "BUNDLED",
    "FORMAT",
    "PAPER_INTENSITIES",
    "Bundle",
    "Calibration",
    "Provenance",
    "describe",
    "frozen_sha256",
    "import_foreign",
    "is_model",
    "load",
    "paper_preprocessing",
    "with_depth",
    "with_extra_heads",
    "with_patch_size",
    "with_tuning",
    "without_prompt_encoder",
]
