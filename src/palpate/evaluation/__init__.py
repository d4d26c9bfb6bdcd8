"""Honest figures: metrics and the protocols that produce them."""

from .calibration import Reliability, calibrated, sampled
from .metrics import dice, iou
from .protocol import (
    Automatic,
    Corrected,
    Figure,
    Heeded,
    OneClick,
    automatic,
    bootstrap_interval,
    corrected,
    one_click,
)

__all__ = [
    "Automatic",
    "Corrected",
    "Figure",
    "Heeded",
    "OneClick",
    "Reliability",
    "automatic",
    "bootstrap_interval",
    "calibrated",
    "corrected",
    "dice",
    "iou",
    "one_click",
    "sampled",
]
