"""Labelled scans: find them, split them, draw training crops from them."""

from .decathlon import LabelledScan, list_scans
from .split import split_of

__all__ = ["LabelledScan", "list_scans", "split_of"]
