"""Many jobs over processes: a queue, a pool whose workers may die, and a ledger of what became of each job."""

from .ledger import CsvLines, JsonLines, Ledger
from .outcome import Completed, Failed, Outcome, results
from .pool import WorkerPool, default_workers, run_function, run_here
from .queue import JobQueue

__all__ = [
    "Completed",
    "CsvLines",
    "Failed",
    "JobQueue",
    "JsonLines",
    "Ledger",
    "Outcome",
    "WorkerPool",
    "default_workers",
    "results",
    "run_function",
    "run_here",
]
