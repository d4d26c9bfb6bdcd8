"""Labelled scans: find them, audit them, prepare them, draw training crops from them."""

from .scans import Cohort, LabelledScan, LabelledVolume, target_of
from .split import SUBSETS, PaperSplit, Split, Subset, propose_split, subset_by_hash

__all__ = [
    "SUBSETS",
    "Cohort",
    "LabelledScan",
    "LabelledVolume",
    "PaperSplit",
    "Split",
    "Subset",
    "propose_split",
    "subset_by_hash",
    "target_of",
]
