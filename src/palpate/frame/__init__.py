"""The map between a scan's grid and a model's crop, and the one preprocessing."""

from .frame import CROP_AXES, STROKE_TOKENS, Frame, draw_prompts, round_half
from .padding import Padding, find_padding
from .preprocessing import ClipZScore, CropPercentiles, Normalisation, Preprocessing

__all__ = [
    "CROP_AXES",
    "STROKE_TOKENS",
    "ClipZScore",
    "CropPercentiles",
    "Frame",
    "Normalisation",
    "Padding",
    "Preprocessing",
    "draw_prompts",
    "find_padding",
    "round_half",
]
