"""Files from a scan and its lesions: masks, label maps, a listing, a training cohort (docs/how-to/sessions.md)."""

from .cohort import append_to_cohort, check_patient
from .lesions import ExportedLesions, LesionExport, lesion_facts, of_other_session
from .provenance import ExportProvenance, ScanIdentity, identify_scan

__all__ = [
    "ExportProvenance",
    "ExportedLesions",
    "LesionExport",
    "ScanIdentity",
    "append_to_cohort",
    "check_patient",
    "identify_scan",
    "lesion_facts",
    "of_other_session",
]
