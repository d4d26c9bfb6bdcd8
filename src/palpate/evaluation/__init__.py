"""Honest figures: metrics and the protocols that produce them."""

from .metrics import dice
from .protocol import Figure, OneClick, bootstrap_interval, one_click

__all__ = ["Figure", "OneClick", "bootstrap_interval", "dice", "one_click"]
