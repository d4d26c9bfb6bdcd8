"""The audit of a cohort: its statistics, its issues, and the settings that a training on it should have."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from ..frame import ClipZScore
from ..jobs import results, run_function
from ..volume import Index3
from .issues import Issue, find_issues, ordered
from .outliers import find_outlying
from .scan_statistics import ScanStatistics, scan_statistics
from .scans import Cohort
from .split import Split
from .suggestion import MR_ADVICE, SuggestedSettings, may_be_mr, suggest_settings

SAMPLES = 2_000_000  # intensities sampled of a whole cohort's targets, and as many of all else


@dataclass(frozen=True)
class Audit:
    """What an audit of a cohort found.

    Attributes:
        cohort: what was audited.
        statistics: of every scan, by name.
        issues: errors first.
        suggestion: None where too few scans can be trained on.
        target_labels: label values of the target; none: all above 0.
    """

    cohort: Cohort
    statistics: tuple[ScanStatistics, ...]
    issues: tuple[Issue, ...]
    suggestion: SuggestedSettings | None
    target_labels: tuple[int, ...] = ()

    @property
    def usable(self) -> list[ScanStatistics]:
        """The scans that can be read and have some target."""
        return [one for one in self.statistics if one.usable]

    @property
    def has_errors(self) -> bool:
        """Whether a training on the cohort as it is would be wrong."""
        return any(issue.severity == "error" for issue in self.issues)


def audit(
    cohort: Cohort,
    *,
    target_labels: tuple[int, ...] = (),
    split: Split | None = None,
    crop: Index3 = (128, 128, 128),
    workers: int | None = None,
    progress: Callable[[int, str], None] | None = None,
) -> Audit:
    """Read every scan once; find issues and suggest settings.

    Args:
        cohort: what `find_cohort` found.
        target_labels: label values of the target; none: all above 0.
        split: one to be checked against the cohort, and to be suggested if it is this cohort's.
        crop: voxels of the model's crop, for which a spacing is suggested.
        workers: processes.
        progress: called with scans done and the last one's name.

    Raises:
        WorkerError: worker processes died; the scans that they read are named.
    """
    samples = max(50, min(2000, SAMPLES // max(1, len(cohort.scans))))
    found = []
    work = partial(scan_statistics, target_labels=target_labels, samples=samples)
    with closing(run_function(work, cohort.scans, workers)) as outcomes:
        for one in results(outcomes, lambda scan: scan.name):
            found.append(one)
            if progress is not None:
                progress(len(found), one.name)
    statistics = tuple(sorted(found, key=lambda one: one.name))
    usable = [one for one in statistics if one.usable]
    suggestion, impossible = suggest_settings(usable, target_labels, crop, split, cohort.modality)
    fixed = suggestion is not None and isinstance(suggestion.preprocessing.normalisation, ClipZScore)
    outlying = find_outlying(usable, comparable=fixed, advice=MR_ADVICE if may_be_mr(usable, cohort.modality) else "")
    issues = ordered([*find_issues(cohort, statistics, target_labels, split), *outlying, *impossible])
    return Audit(cohort, statistics, issues, suggestion, target_labels)
