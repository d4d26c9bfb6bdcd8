"""Issues of a cohort: what would make a training on it wrong, and what is to be known before one."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from .scan_statistics import ScanStatistics
from .scans import Cohort
from .split import Split, Subset

Severity = Literal["error", "warning"]
RANKS = (
    "unreadable",
    "incomplete",
    "grids differ",
    "label with fractions",
    "patient in two subsets",
    "copies in two subsets",
    "copies of two patients",
    "split of another cohort",
    "empty label",
    "too few patients",
    "subset without scans",
    "few patients in a subset",
    "another scale",
    "shifted intensities",
    "inverted intensities",
    "another data type",
    "no target",
    "cut by the border",
    "header contradicts itself",
    "copies",
    "in no subset",
    "patients unknown",
    "listed, not there",
)


@dataclass(frozen=True)
class Issue:
    """Something wrong with a cohort.

    Attributes:
        kind: one of `RANKS`.
        severity: "error" where a training on the cohort as it is would be wrong, else "warning".
        name: the scan's, or the patient's.
        message: what was found, in which file, and what to do.
        scans: names of the scans that it is about; empty: `name` alone.
    """

    kind: str
    severity: Severity
    name: str
    message: str
    scans: tuple[str, ...] = ()


def ordered(issues: Iterable[Issue]) -> tuple[Issue, ...]:
    """Issues with errors first, then by kind as `RANKS` lists them, then by name."""
    ranks = {kind: rank for rank, kind in enumerate(RANKS)}
    return tuple(sorted(issues, key=lambda issue: (issue.severity != "error", ranks[issue.kind], issue.name)))


def find_issues(
    cohort: Cohort, statistics: Sequence[ScanStatistics], target_labels: tuple[int, ...], split: Split | None
) -> Iterator[Issue]:
    """All issues of a cohort, its scans, and its split.

    Args:
        cohort: what was audited.
        statistics: of all its scans.
        target_labels: label values of the target; none: all above 0.
        split: one to be checked against the cohort; None: the subsets that its layout names.
    """
    for sentence in cohort.incomplete:
        yield Issue("incomplete", "error", sentence.partition(":")[0], sentence)
    if cohort.absent:
        yield Issue("listed, not there", "warning", cohort.absent.partition(":")[0], cohort.absent)
    for one in statistics:
        yield from _of_scan(one, target_labels)
    readable = [one for one in statistics if one.error is None]
    # Patient and subset are known of unreadable scans too: a patient in two subsets must not show only after mending.
    subsets = {one.name: split.subset_of(one.name, one.patient) if split else one.subset for one in statistics}
    yield from _copies(readable, subsets)
    yield from _of_subsets(statistics, subsets, split)
    yield from _unknown_patients(readable)


def _of_scan(one: ScanStatistics, target_labels: tuple[int, ...]) -> Iterator[Issue]:
    for note in one.notes:
        yield Issue("header contradicts itself", "warning", one.name, f"{note}; check its picture on the page")
    if one.error is not None:
        yield Issue(one.error_kind, "error", one.name, one.error)
    elif not one.labels:
        message = f"{one.label}: empty, no voxel is labelled; contour the scan, or take it out of the cohort"
        yield Issue("empty label", "error", one.name, message)
    elif not one.components:
        message = (
            f"{one.label}: has no voxel of the target's labels {list(target_labels)}; training leaves the scan out"
        )
        yield Issue("no target", "warning", one.name, message)
    elif one.touched_faces:
        faces = ", ".join(one.touched_faces)
        message = f"{one.label}: the target touches the scan's border ({faces}) and may be cut by it"
        yield Issue("cut by the border", "warning", one.name, message)


def _copies(readable: Sequence[ScanStatistics], subsets: dict[str, Subset | None]) -> Iterator[Issue]:
    """Scans with the same voxels."""
    by_content: dict[str, list[ScanStatistics]] = defaultdict(list)
    for one in readable:
        by_content[one.sha256].append(one)
    for copies in by_content.values():
        if len(copies) < 2:
            continue
        files = " and ".join(copy.image for copy in copies)
        names = tuple(copy.name for copy in copies)
        if len({subsets[copy.name] for copy in copies} - {None}) > 1:
            message = f"{files}: the same voxels in several subsets of the split; keep one of them"
            yield Issue("copies in two subsets", "error", names[0], message, names)
        elif len({copy.patient for copy in copies}) > 1:
            message = f"{files}: the same voxels under several patients, so that a split may part them; keep one"
            yield Issue("copies of two patients", "error", names[0], message, names)
        else:
            yield Issue("copies", "warning", names[0], f"{files}: the same voxels; keep one of them", names)


def _of_subsets(
    statistics: Sequence[ScanStatistics], subsets: dict[str, Subset | None], split: Split | None
) -> Iterator[Issue]:
    """Patients in two subsets, and a split that names no scan of the cohort."""
    by_patient: dict[str, dict[Subset, ScanStatistics]] = defaultdict(dict)
    for one in statistics:
        subset = subsets[one.name]
        if subset is not None:
            by_patient[one.patient].setdefault(subset, one)
    for patient, found in by_patient.items():
        if len(found) > 1:
            where = ", ".join(f"{subset} ({one.image})" for subset, one in found.items())
            message = f"patient {patient} has scans in {where}; put all of a patient's scans in one subset"
            names = tuple(one.name for one in found.values())
            yield Issue("patient in two subsets", "error", patient, message, names)
    if split is not None and statistics and not by_patient:
        message = f"no scan of this cohort ({statistics[0].name}, ...) is in the split; is it another cohort's?"
        yield Issue("split of another cohort", "error", statistics[0].name, message)
    elif by_patient:
        for one in statistics:
            if one.error is None and subsets[one.name] is None:
                message = f"{one.image}: in no subset of the split, and so left out"
                yield Issue("in no subset", "warning", one.name, message)


def _unknown_patients(readable: Sequence[ScanStatistics]) -> Iterator[Issue]:
    """Names that look as if patients had several scans, where each scan counts as a patient of its own."""
    if len({one.patient for one in readable}) < len(readable):
        return
    # The shortest beginnings that tell scans apart at all: STS_001 rather than STS_001_MR of STS_001_MR_T1, for too
    # few patients cost a little data, and one person taken for two makes the figures wrong.
    longest = max((len(re.findall(r"[_-]", one.name)) for one in readable), default=0)
    for words in range(1, longest + 1):
        pattern = "^([^_-]+" + (f"(?:[_-][^_-]+){{{words - 1}}}" if words > 1 else "") + ")[_-]"
        found = (re.match(pattern, one.name) for one in readable)
        heads = Counter(match[1] for match in found if match)
        shared = [head for head, count in heads.items() if count > 1]
        # "hippocampus_001": one head for all of them is the cohort's name, not a patient's.
        if len(heads) < 2 or not shared:
            continue
        several = [one.name for one in readable if re.match(f"{re.escape(shared[0])}[_-]", one.name)]
        message = (
            f"{len(shared)} beginnings of names are shared by scans ({shared[0]}... by {', '.join(several[:3])}): "
            f"if these are patients, name them (--patient '{pattern.removesuffix('[_-]')}'), "
            "or one person may be in training and in test"
        )
        yield Issue("patients unknown", "warning", shared[0], message)
        return
