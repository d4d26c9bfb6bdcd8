"""The network: torch only, no files, no spacing, no devices."""

from .config import SIZES, NetworkConfig
from .network import Features, Network, is_frozen, is_unused

__all__ = ["SIZES", "Features", "Network", "NetworkConfig", "is_frozen", "is_unused"]
