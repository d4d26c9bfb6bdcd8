"""Honest figures: metrics and the protocols that produce them."""

from .metrics import dice
from .protocol import Corrected, Figure, OneClick, bootstrap_interval, corrected, one_click

__all__ = ["Corrected", "Figure", "OneClick", "bootstrap_interval", "corrected", "dice", "one_click"]
