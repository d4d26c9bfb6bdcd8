"""Several lesions on one scan, kept in a journal, measured and exported (docs/sessions.md)."""

from .export import lesion_record
from .labels import Overlap, label_map
from .lesions import Lesion, NumberedPrompt, Status
from .measurements import Diameter, Measurements, measure
from .session import Session

__all__ = [
    "Diameter",
    "Lesion",
    "Measurements",
    "NumberedPrompt",
    "Overlap",
    "Session",
    "Status",
    "label_map",
    "lesion_record",
    "measure",
]
