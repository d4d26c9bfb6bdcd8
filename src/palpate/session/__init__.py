"""Several lesions on one scan, kept in a journal (docs/sessions.md)."""

from .lesions import Lesion
from .session import Session

__all__ = ["Lesion", "Session"]
