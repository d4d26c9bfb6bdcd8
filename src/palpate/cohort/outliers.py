"""Outlying scans: intensities on another scale, shifted, inverted, or in another data type than the others'."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from .issues import Issue, Severity
from .scan_statistics import IntensityStatistics, ScanStatistics

KINDS = ("another scale", "shifted intensities", "inverted intensities", "another data type")  # of the issues
MIN_SCANS = 5  # of fewer it cannot be said what they have in common
MAX_SHARE = 0.2  # of the scans: more of them are no outliers but a kind of their own, as PET beside CT
SCALE = 20.0  # how many times as wide, or as narrow, a range of intensities is on another scale
SHIFT = 0.5  # of the median range of intensities, by which a target lies elsewhere
DEVIATIONS = 6.0  # robust standard deviations from the median over scans, by which such a target lies elsewhere
UNLIKE = 3.0  # and beyond which a scan's levels are unlike the others' (root mean square over levels)
FLOOR = 0.03  # of a scan's range: a deviation below this is no deviation


def find_outlying(usable: Sequence[ScanStatistics], comparable: bool, advice: str = "") -> Iterator[Issue]:
    """Scans whose intensities differ from what the cohort's have in common, each with what to do.

    Medians over scans, and median deviations from them, say what is common, so that a few outlying scans count little.

    Args:
        usable: statistics of the scans that can be read and have some target.
        comparable: whether equal intensities are to mean the same in every scan: then a scan on another scale, shifted,
            or rescaled into 8 bits is an error. An inverted one is always a warning, to be looked at.
        advice: what to try first about an error; empty: nothing.
    """
    for issue in _outlying(usable, comparable) if len(usable) >= MIN_SCANS else ():
        said = f"{issue.message}; {advice}" if advice and issue.severity == "error" else issue.message
        yield replace(issue, message=said)


def _outlying(usable: Sequence[ScanStatistics], comparable: bool) -> Iterator[Issue]:
    severity: Severity = "error" if comparable else "warning"
    yield from _on_another_scale(usable, severity)
    inverted = {one.name: one for one in _inverted(usable)}
    if comparable:
        yield from _shifted([one for one in usable if one.name not in inverted])
    if inverted:
        common = float(np.median([_contrast(one) for one in usable if one.name not in inverted]))
        yield from (_inversion(one, common) for one in inverted.values())
    yield from _in_another_type(usable, severity)


def _common(one: ScanStatistics) -> IntensityStatistics:
    """The intensities of most of a scan: outside the target, or in it where it fills the scan."""
    found = one.background_intensities or one.target_intensities
    assert found is not None, "a usable scan has a target"
    return found


def _ends(one: ScanStatistics) -> tuple[float, float]:
    """The 0.5 and 99.5 percentiles of most of a scan."""
    levels = _common(one).percentiles
    return levels[0], levels[-1]


def _few(outlying: Sequence[ScanStatistics], usable: Sequence[ScanStatistics]) -> Sequence[ScanStatistics]:
    """Outlying scans; none if they are so many that they are a kind of their own (`MAX_SHARE`)."""
    return outlying if len(outlying) <= MAX_SHARE * len(usable) else ()


def _on_another_scale(usable: Sequence[ScanStatistics], severity: Severity) -> Iterator[Issue]:
    """Scans whose range of intensities is `SCALE` times as wide as any of a larger group's, or as narrow."""
    ranges = np.array([high - low for low, high in map(_ends, usable)])
    varied = np.flatnonzero(ranges > 0)
    logs = np.log(ranges[varied])
    order = np.argsort(logs, kind="stable")
    groups = np.split(varied[order], np.flatnonzero(np.diff(logs[order]) > math.log(SCALE)) + 1)
    largest = max(groups, key=len)
    if not len(largest):
        return
    middle = float(np.median(ranges[largest]))
    outlying = [group for group in groups if group is not largest and len(group) <= MAX_SHARE * len(usable)]
    for index in (int(number) for group in outlying for number in group):
        one, factor = usable[index], ranges[index] / middle
        times = f"{factor:,.0f} times as wide a range as" if factor > 1 else f"1/{1 / factor:,.0f} of the range of"
        low, high = _ends(one)
        advice = (
            "export it again on the others' scale, or take it out"
            if severity == "error"
            else "harmless where each crop is clipped at its own percentiles, as is suggested"
        )
        message = (
            f"{one.image}: intensities from {_short(low)} to {_short(high)}, {times} the cohort's median scan "
            f"({_short(middle)}); {advice}"
        )
        yield Issue("another scale", severity, one.name, message)


def _deviations(values: npt.NDArray[np.float64], floor: float) -> tuple[npt.NDArray[np.float64], ...]:
    """Medians over scans, and robust standard deviations (1.4826 median absolute deviations) of at least `floor`."""
    medians = np.median(values, axis=0)
    spread = 1.4826 * np.median(np.abs(values - medians), axis=0)
    return medians, np.maximum(spread, floor)


def _shifted(usable: Sequence[ScanStatistics]) -> Iterator[Issue]:
    """Scans whose target and whose darkest voxels both lie far from the others', by about the same difference."""
    lows = np.array([_ends(one)[0] for one in usable])
    targets = np.array([one.target_intensities.percentiles[2] for one in usable if one.target_intensities])
    ranges = np.array([high - low for low, high in map(_ends, usable)])
    values = np.stack([lows, targets], axis=1)
    width = float(np.median(ranges))
    medians, deviations = _deviations(values, 1e-9 * width)
    gaps = values - medians
    far = (np.abs(gaps) > np.maximum(DEVIATIONS * deviations, SHIFT * width)).all(axis=1)
    alike = (np.abs(gaps[:, 0] - gaps[:, 1]) < SHIFT * width) & (ranges < SCALE * width) & (ranges > width / SCALE)
    for one in _few([usable[int(i)] for i in np.flatnonzero(far & alike)], usable):
        low, high = _ends(one)
        gap = low - float(medians[0])
        message = (
            f"{one.image}: intensities from {_short(low)} to {_short(high)}, about {_short(abs(gap))} "
            f"{'above' if gap > 0 else 'below'} the others; export it with its rescale intercept (CT: in HU), or "
            "take it out"
        )
        yield Issue("shifted intensities", "error", one.name, message)


def _levels(one: ScanStatistics) -> list[float]:
    """Where a scan's levels lie between its darkest, 0, and brightest, 1; the last is its target's contrast + 0.5."""
    low, high = _ends(one)
    width = high - low
    assert one.target_intensities is not None, "a usable scan has a target"
    target = one.target_intensities.percentiles[2]
    levels = [(level - low) / width for level in (*_common(one).percentiles[1:4], target)]
    return [*levels, 0.5 + _contrast(one)]


def _contrast(one: ScanStatistics) -> float:
    """How much brighter the target is than its surroundings, over the scan's range; 0 where it has none."""
    low, high = _ends(one)
    if high == low or one.surroundings is None or one.target_intensities is None:
        return 0.0
    return (one.target_intensities.percentiles[2] - one.surroundings) / (high - low)


def _inverted(usable: Sequence[ScanStatistics]) -> Sequence[ScanStatistics]:
    """Scans that are unlike the others as they are, and like them with dark and bright exchanged."""
    varied = [one for one in usable if _ends(one)[1] > _ends(one)[0]]
    if len(varied) < MIN_SCANS:
        return ()
    levels = np.array([_levels(one) for one in varied])
    medians, deviations = _deviations(levels, FLOOR)
    exchanged = 1 - levels[:, (2, 1, 0, 3, 4)]
    distance, other = (np.sqrt((((values - medians) / deviations) ** 2).mean(axis=1)) for values in (levels, exchanged))
    # A target that stands out as the others' do is not inverted, whatever surrounds it.
    same_side = (levels[:, 4] - 0.5) * (medians[4] - 0.5) > 0
    found = (distance > UNLIKE) & (other < UNLIKE) & (distance > 2 * other) & ~same_side
    return _few([varied[int(i)] for i in np.flatnonzero(found)], usable)


def _inversion(one: ScanStatistics, common: float) -> Issue:
    """An inverted scan's issue; `common`: the contrast of the cohort's median target."""
    message = (
        f"{one.image}: looks inverted: its target is {_brighter(_contrast(one))} than its surroundings, the cohort's "
        f"median target {_brighter(common)}, and with dark and bright exchanged it would be like the others; look at "
        "its picture, and export it again or take it out"
    )
    return Issue("inverted intensities", "warning", one.name, message)


def _brighter(contrast: float) -> str:
    return f"{abs(contrast):.0%} of the scan's range {'brighter' if contrast > 0 else 'darker'}"


def _in_another_type(usable: Sequence[ScanStatistics], severity: Severity) -> Iterator[Issue]:
    """Scans in 8 bits among others that are not, or the other way round: one of the two was rescaled."""
    narrow = [one for one in usable if np.dtype(one.dtype).itemsize == 1]
    wide = [one for one in usable if np.dtype(one.dtype).itemsize > 1]
    few, many = (narrow, wide) if len(narrow) < len(wide) else (wide, narrow)
    for one in _few(few, usable):
        low, high = _ends(one)
        others = ", ".join(f"{name} ({count})" for name, count in Counter(other.dtype for other in many).most_common(3))
        message = (
            f"{one.image}: stored as {one.dtype}, from {_short(low)} to {_short(high)}, the others as {others}: 8 bits "
            "hold 256 values, so intensities were probably rescaled; export it again as the others are, or take it out"
        )
        yield Issue("another data type", severity, one.name, message)


def _short(level: float) -> str:
    return f"{level:,.0f}" if abs(level) >= 100 else f"{level:.3g}"
