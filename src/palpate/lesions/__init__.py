"""Lesions with their masks: records, measurements, label maps, connected components."""

from .components import Component, connected_components
from .labels import LabelMap, Overlap, OverlapLoss, check_overlap, label_map
from .measurements import Diameter, Measurements, measure_lesion
from .records import LesionRecord, NumberedPrompt, Status

__all__ = [
    "Component",
    "Diameter",
    "LabelMap",
    "LesionRecord",
    "Measurements",
    "NumberedPrompt",
    "Overlap",
    "OverlapLoss",
    "Status",
    "check_overlap",
    "connected_components",
    "label_map",
    "measure_lesion",
]
