"""Training: presets, the loop, its losses, exact resuming, one folder a run."""

from .losses import dice_cross_entropy
from .preset import PRESETS, Preset, adapting, starting_from_nothing
from .recipe import Recipe

__all__ = ["PRESETS", "Preset", "Recipe", "adapting", "dice_cross_entropy", "starting_from_nothing"]
