"""Evaluation: metrics, protocols that produce figures, calibration, and the ledger of test-set uses."""

from .calibration import Reliability, calibrated, sampled
from .figure import Figure, bootstrap_interval
from .generality import ScanResult
from .ledger import HeldOutLedger
from .metrics import dice, iou
from .protocol import (
    Automatic,
    Corrected,
    CorrectionEffect,
    OneClick,
    automatic,
    corrected,
    in_axis_orders,
    interact,
    one_click,
)
from .region_growing import RegionGrowing

__all__ = [
    "Automatic",
    "Corrected",
    "CorrectionEffect",
    "Figure",
    "HeldOutLedger",
    "OneClick",
    "RegionGrowing",
    "Reliability",
    "ScanResult",
    "automatic",
    "bootstrap_interval",
    "calibrated",
    "corrected",
    "dice",
    "in_axis_orders",
    "interact",
    "iou",
    "one_click",
    "sampled",
]
