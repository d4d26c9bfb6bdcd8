"""Honest figures: metrics and the protocols that produce them."""

from .calibration import Reliability, calibrated, sampled
from .metrics import dice, iou
from .protocol import Corrected, Figure, Heeded, OneClick, bootstrap_interval, corrected, one_click

__all__ = [
    "Corrected",
    "Figure",
    "Heeded",
    "OneClick",
    "Reliability",
    "bootstrap_interval",
    "calibrated",
    "corrected",
    "dice",
    "iou",
    "one_click",
    "sampled",
]
