"""Looking at a cohort: what it holds, what is wrong with it, and what a training on it should be told."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from ..errors import CohortError
from ..frame import ClipZScore, CropPercentiles, Preprocessing
from ..volume import Index3
from .examination import Examination, examine
from .parallel import mapped
from .scans import Cohort
from .split import Part, Split, propose_split

Severity = Literal["spoils", "warns"]
SAMPLES = 2_000_000  # intensities that are kept of a whole cohort, of lesions and as many of all else
COMPARABLE = 2.0  # lesions' medians may differ by this many times what a lesion's own voxels do
FILLED = 0.75  # of a crop's edge, by a lesion larger than 95 % of all


@dataclass(frozen=True)
class Fault:
    """Something wrong with a cohort.

    Attributes:
        kind: what, in a few words.
        severity: whether it spoils training, or is to be known.
        name: the scan's, or the patient's.
        message: what was found, in which file, and what to do.
        scans: names of the scans to look at; empty: `name` alone.
    """

    kind: str
    severity: Severity
    name: str
    message: str
    scans: tuple[str, ...] = ()


@dataclass(frozen=True)
class Proposal:
    """Settings that fit the data, and why.

    Attributes:
        lesion: label values that are lesion; none: all above 0.
        preprocessing: crop, spacing and normalisation.
        split: by patient.
        reasons: for "intensities", "spacing", "crop" and "split", a sentence each.
    """

    lesion: tuple[int, ...]
    preprocessing: Preprocessing
    split: Split
    reasons: dict[str, str]


@dataclass(frozen=True)
class Look:
    """A cohort that was looked at.

    Attributes:
        cohort: what was looked at.
        examinations: of every scan, by name.
        faults: worst first.
        proposal: None where too few scans can be trained on.
        lesion: label values that were taken for lesion; none: all above 0.
    """

    cohort: Cohort
    examinations: tuple[Examination, ...]
    faults: tuple[Fault, ...]
    proposal: Proposal | None
    lesion: tuple[int, ...] = ()

    @property
    def usable(self) -> list[Examination]:
        """The scans that can be read and have some lesion."""
        return [one for one in self.examinations if one.fault is None and one.lesions]

    @property
    def spoilt(self) -> bool:
        """Whether training on the cohort as it is would be spoilt."""
        return any(fault.severity == "spoils" for fault in self.faults)


def look(
    cohort: Cohort,
    *,
    lesion: tuple[int, ...] = (),
    split: Split | None = None,
    crop: Index3 = (128, 128, 128),
    workers: int | None = None,
    progress: Callable[[int, str], None] | None = None,
) -> Look:
    """Read every scan once, and say what there is.

    Args:
        cohort: what `find_cohort` found.
        lesion: label values that are lesion; none: all above 0.
        split: one to be checked against the cohort, and to be proposed if it is this cohort's.
        crop: voxels of the model's crop, for which a spacing is proposed.
        workers: processes.
        progress: called with scans done and the last one's name.
    """
    samples = max(50, min(2000, SAMPLES // max(1, len(cohort.scans))))
    examinations = []
    for one in mapped(partial(examine, lesion=lesion, samples=samples), cohort.scans, workers):
        examinations.append(one)
        if progress is not None:
            progress(len(examinations), one.name)
    ordered = tuple(sorted(examinations, key=lambda one: one.name))
    proposal, impossible = _propose(ordered, lesion, crop, split)
    faults = [*_faults(cohort, ordered, lesion, split), *impossible]
    ranks = {kind: rank for rank, kind in enumerate(RANKS)}
    # The sort is stable: within a kind, by name.
    faults.sort(key=lambda fault: (fault.severity != "spoils", ranks[fault.kind], fault.name))
    return Look(cohort, ordered, tuple(faults), proposal, lesion)


RANKS = (
    "unreadable",
    "incomplete",
    "grids differ",
    "label with fractions",
    "patient in two parts",
    "copies in two parts",
    "copies of two patients",
    "split of another cohort",
    "empty label",
    "too few patients",
    "part without scans",
    "no lesion",
    "cut by the border",
    "header contradicts itself",
    "copies",
    "in no part",
    "patients untold",
)


def _faults(
    cohort: Cohort, examinations: Sequence[Examination], lesion: tuple[int, ...], split: Split | None
) -> Iterator[Fault]:
    for sentence in cohort.incomplete:
        yield Fault("incomplete", "spoils", sentence.partition(":")[0], f"{sentence}; add it, or take its half away")
    for one in examinations:
        for doubt in one.doubts:
            yield Fault("header contradicts itself", "warns", one.name, f"{doubt}; check its picture on the page")
        if one.fault is not None:
            yield Fault(one.kind, "spoils", one.name, one.fault)
        elif not one.labels:
            message = f"{one.label}: empty, no voxel is labelled; contour the scan, or take it out of the cohort"
            yield Fault("empty label", "spoils", one.name, message)
        elif not one.lesions:
            message = f"{one.label}: has no voxel of the lesion's labels {list(lesion)}; training leaves the scan out"
            yield Fault("no lesion", "warns", one.name, message)
        elif one.faces:
            message = f"{one.label}: the lesion touches the scan's border ({', '.join(one.faces)}) and may be cut by it"
            yield Fault("cut by the border", "warns", one.name, message)
    readable = [one for one in examinations if one.fault is None]
    # Whose a scan is, and in which part, is known of the unreadable too: mending one must not reveal a parted patient.
    parts = {one.name: split.part_of(one.name, one.patient) if split else one.part for one in examinations}
    yield from _copies(readable, parts)
    yield from _parts(examinations, parts, split)
    yield from _untold(readable)


def _copies(readable: Sequence[Examination], parts: dict[str, Part | None]) -> Iterator[Fault]:
    """Scans with the same voxels."""
    by_content: dict[str, list[Examination]] = defaultdict(list)
    for one in readable:
        by_content[one.sha256].append(one)
    for copies in by_content.values():
        if len(copies) < 2:
            continue
        files = " and ".join(copy.image for copy in copies)
        names = tuple(copy.name for copy in copies)
        if len({parts[copy.name] for copy in copies} - {None}) > 1:
            message = f"{files}: the same voxels in several parts of the split; keep one of them"
            yield Fault("copies in two parts", "spoils", names[0], message, names)
        elif len({copy.patient for copy in copies}) > 1:
            message = f"{files}: the same voxels under several patients, so that a split may part them; keep one"
            yield Fault("copies of two patients", "spoils", names[0], message, names)
        else:
            yield Fault("copies", "warns", names[0], f"{files}: the same voxels; keep one of them", names)


def _parts(examinations: Sequence[Examination], parts: dict[str, Part | None], split: Split | None) -> Iterator[Fault]:
    """Patients on both sides of a split, and a split that knows nobody here."""
    by_patient: dict[str, dict[Part, Examination]] = defaultdict(dict)
    for one in examinations:
        part = parts[one.name]
        if part is not None:
            by_patient[one.patient].setdefault(part, one)
    for patient, found in by_patient.items():
        if len(found) > 1:
            where = ", ".join(f"{part} ({one.image})" for part, one in found.items())
            message = f"patient {patient} has scans in {where}; put all of a patient's scans in one part"
            yield Fault("patient in two parts", "spoils", patient, message, tuple(one.name for one in found.values()))
    if split is not None and examinations and not by_patient:
        message = f"no scan of this cohort ({examinations[0].name}, ...) is in the split; is it another cohort's?"
        yield Fault("split of another cohort", "spoils", examinations[0].name, message)
    elif by_patient:
        for one in examinations:
            if one.fault is None and parts[one.name] is None:
                message = f"{one.image}: in no part of the split, and so left out"
                yield Fault("in no part", "warns", one.name, message)


def _untold(readable: Sequence[Examination]) -> Iterator[Fault]:
    """Names that look as if patients had several scans, where each scan counts as a patient of its own."""
    if len({one.patient for one in readable}) < len(readable):
        return
    # The shortest beginnings that tell scans apart at all: STS_001 rather than STS_001_MR of STS_001_MR_T1, for too
    # few patients cost a little data, and one person taken for two spoils the figures.
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
            f"if these are patients, say so (--patient '{pattern.removesuffix('[_-]')}'), "
            "or one person may both train and test"
        )
        yield Fault("patients untold", "warns", shared[0], message)
        return


def _propose(
    examinations: Sequence[Examination], lesion: tuple[int, ...], crop: Index3, given: Split | None
) -> tuple[Proposal | None, list[Fault]]:
    usable = [one for one in examinations if one.fault is None and one.lesions]
    try:
        split, why = _split(usable, given)
    except CohortError as error:
        return None, [Fault("too few patients", "spoils", "", str(error))]
    normalisation, intensities = _normalisation(usable)
    spacing, reason = _spacing(usable, crop)
    preprocessing = Preprocessing(crop=crop, spacing=(spacing, spacing, spacing), normalisation=normalisation)
    field = " x ".join(f"{n * spacing:.0f}" for n in crop)
    reasons = {"intensities": intensities, "spacing": reason, "crop": f"{crop[0]}³ voxels, {field} mm", "split": why}
    return Proposal(lesion, preprocessing, split, reasons), list(_parts_empty(usable, split))


def _parts_empty(usable: Sequence[Examination], split: Split) -> Iterator[Fault]:
    parts = {split.part_of(one.name, one.patient) for one in usable}
    for part, use in (("train", "learn from"), ("validation", "choose the best weights by")):
        if part not in parts:
            message = (
                f"the split has no usable scan under {part}, and nothing to {use}; name some patients' scans there"
            )
            yield Fault("part without scans", "spoils", part, message)


def _split(usable: Sequence[Examination], given: Split | None) -> tuple[Split, str]:
    if given is not None and any(given.part_of(one.name, one.patient) for one in usable):
        return given, "the one that was given"
    if any(one.part for one in usable):
        parts = {p: tuple(one.name for one in usable if one.part == p) for p in ("train", "validation", "test")}
        return Split(**parts), "as the layout says"
    patients = {one.patient for one in usable}
    split = propose_split(patients)
    counts = " / ".join(str(len(part)) for part in (split.train, split.validation, split.test))
    return split, f"{len(patients)} patients, {counts} to train / validate / test, each by a hash of the patient's name"


def _normalisation(usable: Sequence[Examination]) -> tuple[ClipZScore | CropPercentiles, str]:
    """Fixed intensities if they mean the same in every scan, else each crop's own percentiles."""
    inside = [one.inside for one in usable if one.inside is not None]
    medians = np.array([statistics.percentiles[2] for statistics in inside])
    low, high = np.percentile(medians, (25, 75))
    between = float(high - low) / 1.349  # a normal distribution's deviation from its quartiles: outliers count little
    within = float(np.median([statistics.std for statistics in inside]))
    compared = f"lesions' medians differ by {_short(between)} (by quartiles), voxels in a lesion by {_short(within)}"
    pooled = np.concatenate([np.array(one.sample) for one in usable])
    clip_low, clip_high = (float(value) for value in np.percentile(pooled, (0.5, 99.5)))
    clipped = pooled.clip(clip_low, clip_high)
    if between > COMPARABLE * within or clip_low >= clip_high or clipped.std() == 0:
        return (
            CropPercentiles(),
            f"clip at each crop's own 0.5 and 99.5 percentiles: {compared}, so numbers mean another thing in each scan",
        )
    rounded = [float(f"{v:.6g}") for v in (clip_low, clip_high, float(clipped.mean()), float(clipped.std()))]
    fixed = ClipZScore(low=rounded[0], high=rounded[1], mean=rounded[2], std=rounded[3])
    told = "clip at {} and {} (the lesions' 0.5 and 99.5 percentiles), mean {}, deviation {}".format(
        *map(_short, rounded)
    )
    return fixed, f"{told}: {compared}"


def _spacing(usable: Sequence[Examination], crop: Index3) -> tuple[float, str]:
    """One spacing for all axes: as fine as the scans, but so that large lesions leave room in the crop."""
    finest = float(np.median([min(one.spacing) for one in usable]))
    extents = [max(lesion.extent_mm) for one in usable for lesion in one.lesions[:1]]
    large = float(np.percentile(extents, 95))
    needed = large / (FILLED * min(crop))
    spacing = _readable(max(finest, needed))
    what = "the scans' own" if finest >= needed else f"coarser than the scans' {finest:.2f} mm"
    return spacing, (
        f"{spacing:g} mm, {what}: 95 % of the lesions are up to {large:.0f} mm long and fill at most "
        f"{large / (spacing * min(crop)):.0%} of the crop"
    )


def _readable(spacing: float) -> float:
    """Rounded up to two digits, so that it is never finer than asked."""
    digits = 1 - math.floor(math.log10(spacing))
    return float(math.ceil(round(spacing * 10.0**digits, 6)) / 10.0**digits)


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1e3 else f"{value:.0f}"
