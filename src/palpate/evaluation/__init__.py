"""Honest figures: metrics and the protocols that produce them."""

from .metrics import dice
from .protocol import Automatic, Corrected, Figure, OneClick, automatic, bootstrap_interval, corrected, one_click

__all__ = [
    "Automatic",
    "Corrected",
    "Figure",
    "OneClick",
    "automatic",
    "bootstrap_interval",
    "corrected",
    "dice",
    "one_click",
]
