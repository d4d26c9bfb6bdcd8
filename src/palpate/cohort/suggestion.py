"""Settings of a training that fit a cohort: intensities, spacing and split, each with its reason."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import CohortError
from ..frame import ClipZScore, CropPercentiles, Preprocessing
from ..volume import Index3
from .issues import Issue
from .scan_statistics import ScanStatistics
from .split import SUBSETS, Split, Subset, propose_split

COMPARABLE = 2.0  # scans' medians in the target may differ by this many standard deviations of a target's own voxels
CLEARLY_COMPARABLE = 1.0  # and by this many where nothing says that the numbers have a unit
AIR, DENSEST = -500.0, 5000.0  # HU: scans of CT with air reach below the one, and none reaches the other
# Words for a modality. MR's intensities have no unit; of other kinds (PET, ultrasound) the numbers decide.
MR_WORDS = re.compile(r"(mp)?mri?|t[12]\w*|flair|adc|dwi|dce|swi|pd")
OTHER_WORDS = re.compile(r"pet|suv|us|ultrasound|spect|cbct|xa|cr|dx")
MR_ADVICE = "MR? give --modality MR"
MIN_PATIENTS, OF_PATIENTS = 4, 20  # in a subset, of a cohort of so many: a figure of fewer is falsely sure
FILLED = 0.75  # of a crop's edge, by a target larger than 95 % of all
NEEDED: tuple[tuple[Subset, str], ...] = (("train", "learn from"), ("validation", "choose the best weights by"))


@dataclass(frozen=True)
class SuggestedSettings:
    """Settings that fit a cohort, and why.

    Attributes:
        target_labels: label values of the target; none: all above 0.
        preprocessing: crop, spacing and normalisation.
        split: by patient.
        reasons: for "intensities", "spacing", "crop" and "split", a sentence each.
    """

    target_labels: tuple[int, ...]
    preprocessing: Preprocessing
    split: Split
    reasons: dict[str, str]


def suggest_settings(
    usable: Sequence[ScanStatistics],
    target_labels: tuple[int, ...],
    crop: Index3,
    given: Split | None,
    modality: str = "",
) -> tuple[SuggestedSettings | None, list[Issue]]:
    """Settings for a cohort's usable scans, and the issues that a split of them has.

    Args:
        usable: statistics of the scans that can be read and have some target.
        target_labels: label values of the target; none: all above 0.
        crop: voxels of the model's crop.
        given: a split to keep, if it is this cohort's.
        modality: what the user or the layout calls the kind of its scans; empty where neither says it.

    Returns:
        None and one issue where too few patients can be trained on.
    """
    try:
        split, why = _split(usable, given)
    except CohortError as error:
        return None, [Issue("too few patients", "error", "", str(error))]
    normalisation, intensities = _normalisation(usable, modality)
    spacing, reason = _spacing(usable, crop)
    preprocessing = Preprocessing(crop=crop, spacing=(spacing, spacing, spacing), normalisation=normalisation)
    field = " x ".join(f"{n * spacing:.0f}" for n in crop)
    reasons = {"intensities": intensities, "spacing": reason, "crop": f"{crop[0]}³ voxels, {field} mm", "split": why}
    return SuggestedSettings(target_labels, preprocessing, split, reasons), list(_small_subsets(usable, split))


def _small_subsets(usable: Sequence[ScanStatistics], split: Split) -> Iterator[Issue]:
    """Subsets without the scans that a training needs, or with so few patients that a figure of them says little."""
    patients: dict[Subset, set[str]] = {subset: set() for subset in SUBSETS}
    for one in usable:
        subset = split.subset_of(one.name, one.patient)
        if subset is not None:
            patients[subset].add(one.patient)
    total = len({one.patient for one in usable})
    evaluated: tuple[Subset, ...] = ("validation", "test")
    for subset in evaluated:
        count = len(patients[subset])
        if total >= OF_PATIENTS and 0 < count < MIN_PATIENTS:
            message = (
                f"{count} of {total} patients in {subset}, so few that its Dice and interval say little of others; "
                "move some there by hand: `split` in the preset, or a CSV's column `split`"
            )
            yield Issue("few patients in a subset", "warning", subset, message)
    for subset, use in NEEDED:
        if not patients[subset]:
            message = (
                f"the split has no usable scan under {subset}, and nothing to {use}; name some patients' scans there"
            )
            yield Issue("subset without scans", "error", subset, message)


def _split(usable: Sequence[ScanStatistics], given: Split | None) -> tuple[Split, str]:
    if given is not None and any(given.subset_of(one.name, one.patient) for one in usable):
        return given, "the one that was given"
    if any(one.subset for one in usable):
        subsets = {subset: tuple(one.name for one in usable if one.subset == subset) for subset in SUBSETS}
        return Split(**subsets), "as the layout says"
    patients = {one.patient for one in usable}
    split = propose_split(patients)
    counts = " / ".join(str(len(subset)) for subset in (split.train, split.validation, split.test))
    reason = f"{len(patients)} patients, {counts} in training / validation / test, each by a hash of the patient's name"
    return split, reason


def _kind(modality: str) -> Literal["CT", "MR"] | None:
    """CT or MR, where the layout's words name one of the two and nothing else."""
    words = re.findall(r"[a-z0-9]+", modality.lower())
    mr = any(MR_WORDS.fullmatch(word) for word in words)
    if mr == ("ct" in words) or any(OTHER_WORDS.fullmatch(word) for word in words):
        return None
    return "MR" if mr else "CT"


def _like_hounsfield(usable: Sequence[ScanStatistics]) -> bool:
    """Whether the median scan reaches from air to bone or metal, as CT in HU does."""
    found = [one.background_intensities or one.target_intensities for one in usable]
    levels = [statistics.percentiles for statistics in found if statistics is not None]
    low, high = (float(np.median([one[end] for one in levels])) for end in (0, -1))
    return low < AIR and high < DENSEST


def may_be_mr(usable: Sequence[ScanStatistics], modality: str) -> bool:
    """Whether nothing says what the scans are, and their numbers do not look like HU."""
    return bool(usable) and not modality and not _like_hounsfield(usable)


def _why_percentiles(usable: Sequence[ScanStatistics], modality: str, ratio: float) -> str | None:
    """Why each crop's own percentiles suit the scans; None where fixed intensities do.

    Args:
        usable: statistics of the scans.
        modality: as the user or the layout calls it.
        ratio: how far the targets' medians differ, in standard deviations of a target's own voxels.
    """
    kind, hounsfield = _kind(modality), _like_hounsfield(usable)
    if kind == "MR":
        return f"the scans are {modality}, and MR's intensities have no unit"
    if kind == "CT" and hounsfield:
        return None
    if ratio > COMPARABLE:
        return "so numbers mean another thing in each scan"
    if ratio > CLEARLY_COMPARABLE and not kind and not hounsfield:
        return "and they do not look like HU, so numbers may mean another thing in each scan"
    return None


def _normalisation(usable: Sequence[ScanStatistics], modality: str) -> tuple[ClipZScore | CropPercentiles, str]:
    """Fixed intensities if they mean the same in every scan, else each crop's own percentiles; and why."""
    targets = [one.target_intensities for one in usable if one.target_intensities is not None]
    medians = np.array([statistics.percentiles[2] for statistics in targets])
    low, high = np.percentile(medians, (25, 75))
    between = float(high - low) / 1.349  # a normal distribution's deviation from its quartiles: outliers count little
    within = float(np.median([statistics.std for statistics in targets]))
    compared = f"targets' medians differ by {_short(between)} (by quartiles), voxels in a target by {_short(within)}"
    # Medians over scans: what is pooled of all voxels, a few scans on another scale decide.
    clip_low, clip_high = (float(np.median([one.percentiles[end] for one in targets])) for end in (0, -1))
    samples = [np.array(one.target_sample).clip(clip_low, clip_high) for one in usable]
    mean = float(np.median([sample.mean() for sample in samples]))
    std = math.sqrt(np.median([np.square(sample - mean).mean() for sample in samples]))
    ratio = between / within if within else (math.inf if between else 0.0)
    why = _why_percentiles(usable, modality, ratio)
    if why is None and (clip_low >= clip_high or std == 0):
        why = "so numbers mean another thing in each scan"
    if why is not None:
        return CropPercentiles(), f"clip at each crop's own 0.5 and 99.5 percentiles: {compared}, {why}"
    rounded = [float(f"{value:.6g}") for value in (clip_low, clip_high, mean, std)]
    fixed = ClipZScore(low=rounded[0], high=rounded[1], mean=rounded[2], std=rounded[3])
    rule = "clip at {} and {} (0.5 and 99.5 percentiles of a target), mean {}, deviation {}, each a median over scans"
    said = f"; the scans are {modality}" if _kind(modality) else ""
    if may_be_mr(usable, modality):
        said = f"; {MR_ADVICE}"
    return fixed, f"{rule.format(*map(_short, rounded))}: {compared}{said}"


def _spacing(usable: Sequence[ScanStatistics], crop: Index3) -> tuple[float, str]:
    """One spacing for all axes: as fine as the scans, but so that large targets leave room in the crop."""
    finest = float(np.median([min(one.spacing) for one in usable]))
    extents = [max(component.extent_mm) for one in usable for component in one.components[:1]]
    large = float(np.percentile(extents, 95))
    needed = large / (FILLED * min(crop))
    spacing = _readable(max(finest, needed))
    what = "the scans' own" if finest >= needed else f"coarser than the scans' {finest:.2f} mm"
    return spacing, (
        f"{spacing:g} mm, {what}: 95 % of the targets are up to {large:.0f} mm long and fill at most "
        f"{large / (spacing * min(crop)):.0%} of the crop"
    )


def _readable(spacing: float) -> float:
    """Rounded up to two digits, so that it is never finer than needed."""
    digits = 1 - math.floor(math.log10(spacing))
    return float(math.ceil(round(spacing * 10.0**digits, 6)) / 10.0**digits)


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1e3 else f"{value:.0f}"
