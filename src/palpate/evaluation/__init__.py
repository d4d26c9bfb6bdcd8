"""Evaluation: metrics, protocols that produce figures, calibration, and the ledger of test-set uses."""

from .calibration import Reliability, calibrated, sampled
from .figure import Figure, bootstrap_interval
from .ledger import HeldOutLedger
from .metrics import dice, iou
from .protocol import Automatic, Corrected, CorrectionEffect, OneClick, automatic, corrected, interact, one_click

__all__ = [
    "Automatic",
    "Corrected",
    "CorrectionEffect",
    "Figure",
    "HeldOutLedger",
    "OneClick",
    "Reliability",
    "automatic",
    "bootstrap_interval",
    "calibrated",
    "corrected",
    "dice",
    "interact",
    "iou",
    "one_click",
    "sampled",
]
