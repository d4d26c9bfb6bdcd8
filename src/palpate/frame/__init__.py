"""The map between a scan's grid and a model's crop, and the one preprocessing."""

from .frame import CROP_AXES, STROKE_TOKENS, Frame, draw_prompts, round_half
from .padding import padding_value
from .preprocessing import ClipZScore, CropPercentiles, Normalisation, Preprocessing

__all__ = [
    "CROP_AXES",
    "STROKE_TOKENS",
    "ClipZScore",
    "CropPercentiles",
    "Frame",
    "Normalisation",
    "Preprocessing",
    "draw_prompts",
    "padding_value",
    "round_half",
]
