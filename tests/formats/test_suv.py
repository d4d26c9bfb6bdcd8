"""SUV by body weight, from headers worked by hand."""

import pytest
from pydicom.dataset import Dataset

from palpate.formats.suv import scale

HALF_LIFE = 6588  # s: 1 h 49 min 48 s


def header(**attributes: object) -> Dataset:
    """70 kg, 370 MBq at 10:00:00, scan one half life later; `attributes` by keyword, None for absent."""
    tracer = Dataset()
    values: dict[str, object] = {
        "Units": "BQML",
        "CorrectedImage": ["DECY", "ATTN"],
        "DecayCorrection": "START",
        "PatientWeight": 70,
        "SeriesDate": "20200101",
        "SeriesTime": "114948",
        "AcquisitionDate": "20200101",
        "AcquisitionTime": "115500",
        "RadionuclideTotalDose": 370e6,
        "RadionuclideHalfLife": HALF_LIFE,
        "RadiopharmaceuticalStartTime": "100000.00",
    }
    out = Dataset()
    for keyword, value in (values | attributes).items():
        if value is not None:
            setattr(tracer if keyword.startswith("Radi") else out, keyword, value)
    out.RadiopharmaceuticalInformationSequence = [tracer]
    return out


def private(group: int, maker: str, offset: int, vr: str, value: object) -> Dataset:
    out = header(Units="CNTS")
    out.private_block(group, maker, create=True).add_new(offset, vr, value)
    return out


def test_a_dose_decayed_to_the_start_of_the_scan() -> None:
    assert scale([header()]) == pytest.approx(70_000 / 185e6)


def test_values_corrected_to_the_injection() -> None:
    assert scale([header(DecayCorrection="ADMIN")]) == pytest.approx(70_000 / 370e6)


def test_values_that_are_suv_already() -> None:
    assert scale([header(Units="GML", PatientWeight=None)]) == 1
    assert scale([header(Units="GML", SUVType="BW")]) == 1


def test_an_injection_with_a_date() -> None:
    moment = {"RadiopharmaceuticalStartTime": None, "RadiopharmaceuticalStartDateTime": "20200101100000.00+0100"}
    assert scale([header(**moment)]) == pytest.approx(70_000 / 185e6)


def test_an_injection_before_midnight() -> None:
    late = header(RadiopharmaceuticalStartTime="230000", SeriesTime="004948", AcquisitionTime="005000")
    assert scale([late]) == pytest.approx(70_000 / 185e6)


def test_a_series_made_after_its_data_starts_with_the_first_of_them() -> None:
    slices = [header(SeriesTime="180000", AcquisitionTime=time) for time in ("120000", "114948")]
    assert scale(slices) == pytest.approx(70_000 / 185e6)


def test_ge_records_the_start_itself() -> None:
    late = header(SeriesTime="180000")
    late.private_block(0x0009, "GEMS_PETD_01", create=True).add_new(0x0D, "DT", "20200101114948.00")
    assert scale([late]) == pytest.approx(70_000 / 185e6)


def test_philips_gives_the_factor() -> None:
    assert scale([private(0x7053, "Philips PET Private Group", 0x00, "DS", "0.25")]) == 0.25


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"Units": None}, "the unit is missing"),
        ({"Units": "CNTS"}, "the unit is CNTS"),
        ({"Units": "GML", "SUVType": "LBM"}, "the unit is GML, of type LBM"),
        ({"PatientWeight": None}, "the body weight is missing"),
        ({"PatientWeight": 0}, r"the body weight is 0"),
        ({"CorrectedImage": "DECY"}, "not corrected for ATTN"),
        ({"CorrectedImage": None}, "not corrected for ATTN and DECY"),
        ({"DecayCorrection": "NONE"}, "decay correction is NONE, neither START nor ADMIN"),
        ({"DecayCorrection": None}, "decay correction is missing"),
        ({"RadionuclideTotalDose": None}, "the dose is missing"),
        ({"RadionuclideTotalDose": 370}, "the dose of 370 Bq is not one given to a patient"),
        ({"RadionuclideHalfLife": None}, "the half life is missing"),
        ({"RadiopharmaceuticalStartTime": None}, "the time of injection is missing"),
        ({"RadiopharmaceuticalStartDateTime": "20200102100000"}, "the scan starts -1330 minutes after the injection"),
        ({"SeriesDate": None}, "the series date or time is missing"),
        ({"SeriesDate": "2020-01-01"}, "is not a date and time"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_what_suv_lacks(attributes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scale([header(**attributes)])


def test_a_maker_s_element_under_another_name_does_not_count() -> None:
    with pytest.raises(ValueError, match="the unit is CNTS"):
        scale([private(0x7053, "Another maker", 0x00, "DS", "0.25")])


def test_no_tracer_at_all() -> None:
    bare = header()
    bare.RadiopharmaceuticalInformationSequence = []
    with pytest.raises(ValueError, match="the dose is missing"):
        scale([bare])
