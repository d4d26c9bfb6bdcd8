"""What a user marks on a scan, as voxels of its own grid."""

from .checks import MAX_PROMPTS, check_fits, check_inside, check_listed
from .given import MAX_INDEX, MAX_VOXELS, Places, shown
from .grids import check_grid
from .kinds import Box, Click, InitialMask, Lasso, Prompt, Scribble
from .touching import touches

__all__ = [
    "MAX_INDEX",
    "MAX_PROMPTS",
    "MAX_VOXELS",
    "Box",
    "Click",
    "InitialMask",
    "Lasso",
    "Places",
    "Prompt",
    "Scribble",
    "check_fits",
    "check_grid",
    "check_inside",
    "check_listed",
    "shown",
    "touches",
]
