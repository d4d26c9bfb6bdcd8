"""The network: torch only, no files, no spacing, no devices."""

from .config import CUES, MIN_DEPTH, SIZES, Cue, NetworkConfig
from .network import Features, Network
from .tuning import TUNINGS, is_adapter, is_frozen, is_unused, tuning_of

__all__ = [
    "CUES",
    "MIN_DEPTH",
    "SIZES",
    "TUNINGS",
    "Cue",
    "Features",
    "Network",
    "NetworkConfig",
    "is_adapter",
    "is_frozen",
    "is_unused",
    "tuning_of",
]
