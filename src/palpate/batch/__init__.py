"""A long list of scans, prompts and outputs: done once, over several processes, and gone on with after a stop."""

from .jobs import Job, read_jobs
from .pictures import JobPictures
from .results import ResultRow, results_path
from .run import Batch, Summary

__all__ = ["Batch", "Job", "JobPictures", "ResultRow", "Summary", "read_jobs", "results_path"]
