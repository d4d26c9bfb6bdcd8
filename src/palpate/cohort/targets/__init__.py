"""Targets without contours: regions of a scan, or shapes and lesions painted into it, for training crops to learn.

A maker takes a crop as it was resampled, before normalisation, and a voxel of it, the click. It gives the crop's
values, perhaps painted over, and a target that holds the click. All that it draws comes from the generator that it is
given, so that a target is a function of the crop and of the example's number.
"""

from __future__ import annotations

from .canvas import Canvas, MadeTarget
from .making import DonorDrawer, made_target
from .settings import MADE, TargetKind, TargetSampling
from .transplants import Donor

__all__ = [
    "MADE",
    "Canvas",
    "Donor",
    "DonorDrawer",
    "MadeTarget",
    "TargetKind",
    "TargetSampling",
    "made_target",
]
