"""The training loop and its losses."""

from .loop import Recipe, train
from .losses import dice_cross_entropy

__all__ = ["Recipe", "dice_cross_entropy", "train"]
