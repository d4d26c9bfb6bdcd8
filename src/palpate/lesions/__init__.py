"""Lesions with their masks: records, measurements, label maps, connected components, postprocessing."""

from .components import Component, connected_components
from .labels import LabelMap, Overlap, OverlapLoss, check_overlap, label_map
from .measurements import Diameter, Measurements, measure_lesion
from .postprocessing import THRESHOLD, Keep, Postprocessing, check_threshold
from .records import LesionRecord, NumberedPrompt, Status

__all__ = [
    "THRESHOLD",
    "Component",
    "Diameter",
    "Keep",
    "LabelMap",
    "LesionRecord",
    "Measurements",
    "NumberedPrompt",
    "Overlap",
    "OverlapLoss",
    "Postprocessing",
    "Status",
    "check_overlap",
    "check_threshold",
    "connected_components",
    "label_map",
    "measure_lesion",
]
