"""From a PET series' stored unit to SUV: standardised uptake value by body weight, g/mL.

SUVbw = activity concentration / (injected activity / body weight), both activities at one time.
Sources: DICOM PS3.3, C.8.9.1 PET Series Module (Units, SUV Type, Decay Correction) and C.8.9.2 PET
Isotope Module (dose, half life, injection time); for which time stands for the scan's start, QIBA's
"SUV vendor neutral pseudo-code" (https://qibawiki.rsna.org/index.php/Standardized_Uptake_Value_(SUV)).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset

# Attributes of a slice's header that this file asks for; private ones with their creators.
_GE_SCAN_START = (0x00090010, "GEMS_PETD_01", 0x0009100D)
_PHILIPS_FACTOR = (0x70530010, "Philips PET Private Group", 0x70531000)
KEYWORDS = (
    *("Units", "SUVType", "CorrectedImage", "DecayCorrection", "PatientWeight", "SeriesDate", "SeriesTime"),
    *("AcquisitionDate", "AcquisitionTime", "RadiopharmaceuticalInformationSequence"),
    *(_GE_SCAN_START[0], _GE_SCAN_START[2], _PHILIPS_FACTOR[0], _PHILIPS_FACTOR[2]),
)
_DOSES = (1e6, 1e11)  # Bq; a dose outside was typed in another unit
_HALF_LIVES = 10.0  # after as many nothing is left to measure: the times are wrong


def scale(slices: Sequence[Dataset]) -> float:
    """What a PET series' rescaled values are multiplied by to become SUVbw, g/mL.

    Args:
        slices: headers of all the series' slices (pydicom datasets).

    Raises:
        ValueError: the header lacks what SUV needs, or contradicts itself; the message says what.
    """
    header = slices[0]
    unit = str(header.get("Units", "")) or "missing"
    if unit == "GML" and (header.get("SUVType") or "BW") == "BW":  # BW where absent: C.8.9.1.1.3
        return 1.0
    if unit == "BQML":
        return _number(header, "PatientWeight", "body weight") * 1000 / _activity(slices)
    factor = _private(header, _PHILIPS_FACTOR) if unit == "CNTS" else None
    if factor is not None:
        return _positive(factor, "Philips SUV factor (7053,1000)")
    raise ValueError(f"the unit is {unit}" + (f", of type {header.SUVType}" if unit == "GML" else ""))


def _activity(slices: Sequence[Dataset]) -> float:
    """Injected activity, Bq, at the time to which the voxels are decay-corrected."""
    header = slices[0]
    corrected = header.get("CorrectedImage") or ()
    missing = {"ATTN", "DECY"} - ({corrected} if isinstance(corrected, str) else set(corrected))
    if missing:
        raise ValueError(f"the values are not corrected for {' and '.join(sorted(missing))}")
    tracer = (header.get("RadiopharmaceuticalInformationSequence") or [{}])[0]
    dose = _number(tracer, "RadionuclideTotalDose", "dose")
    if not _DOSES[0] <= dose <= _DOSES[1]:
        raise ValueError(f"the dose of {dose:g} Bq is not one given to a patient")
    if header.get("DecayCorrection") == "ADMIN":
        return dose
    if header.get("DecayCorrection") == "START":
        return float(dose * 0.5 ** _elapsed_half_lives(tracer, slices))
    raise ValueError(f"the decay correction is {header.get('DecayCorrection') or 'missing'}, neither START nor ADMIN")


def _elapsed_half_lives(tracer: Dataset, slices: Sequence[Dataset]) -> float:
    start = _scan_start(slices)
    elapsed = (start - _injection(tracer, start)).total_seconds()
    half_lives = elapsed / _number(tracer, "RadionuclideHalfLife", "half life")
    if not 0 <= half_lives <= _HALF_LIVES:
        raise ValueError(f"the scan starts {elapsed / 60:.0f} minutes after the injection")
    return half_lives


def _scan_start(slices: Sequence[Dataset]) -> datetime:
    """Series time, unless the series was made later than its data; then GE's own record or the first acquisition."""
    series = _moment(slices[0], "Series")
    first = min(_moment(header, "Acquisition") for header in slices)
    if series <= first:
        return series
    recorded = _private(slices[0], _GE_SCAN_START)
    return first if recorded is None else _parsed(recorded)


def _injection(tracer: Dataset, start: datetime) -> datetime:
    if tracer.get("RadiopharmaceuticalStartDateTime"):
        return _parsed(_text(tracer.RadiopharmaceuticalStartDateTime))
    if not tracer.get("RadiopharmaceuticalStartTime"):
        raise ValueError("the time of injection is missing")
    injected = _parsed(f"{start:%Y%m%d}" + _text(tracer.RadiopharmaceuticalStartTime))
    # A time without a date: a later hour than the scan's was the day before.
    return injected if injected <= start else injected - timedelta(days=1)


def _moment(header: Dataset, event: str) -> datetime:
    date, time = header.get(f"{event}Date"), header.get(f"{event}Time")
    if not date or not time:
        raise ValueError(f"the {event.lower()} date or time is missing")
    return _parsed(_text(date) + _text(time))


def _parsed(text: str) -> datetime:
    """A DICOM date and time, `YYYYMMDDHHMMSS.FFFFFF`; zones are dropped, all being the scanner's own."""
    digits = text.strip().partition("+")[0].partition("-")[0].partition(".")
    try:
        return datetime.strptime(digits[0].ljust(14, "0"), "%Y%m%d%H%M%S")
    except ValueError as error:
        raise ValueError(f"{text!r} is not a date and time") from error


def _private(header: Dataset, element: tuple[int, str, int]) -> str | None:
    """A maker's own element, if that maker's name stands over it."""
    owner, maker, tag = element
    if owner not in header or tag not in header or str(header[owner].value).strip() != maker:
        return None
    return _text(header[tag].value)


def _text(value: object) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def _number(header: Dataset, keyword: str, name: str) -> float:
    return _positive(header.get(keyword), name)


def _positive(value: object, name: str) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = 0.0
    if not number > 0:
        raise ValueError(f"the {name} is {value if value not in (None, '') else 'missing'}")
    return number
