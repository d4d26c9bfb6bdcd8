"""Labelled scans: find them, look at them, prepare them, draw training crops from them."""

from .scans import Cohort, LabelledScan, lesion_of
from .split import PARTS, PaperSplit, Part, Split, propose_split, split_of

__all__ = [
    "PARTS",
    "Cohort",
    "LabelledScan",
    "PaperSplit",
    "Part",
    "Split",
    "lesion_of",
    "propose_split",
    "split_of",
]
