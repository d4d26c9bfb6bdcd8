"""Figures as records: their words, and their tables beside those of version 0.1.0."""

import pytest
from pydantic import ValidationError

import palpate
from palpate.bundle import Provenance, describe
from palpate.figures import FigureRecord, tabulated


def record(**changes: object) -> FigureRecord:
    known = {"subset": "test", "protocol": "one click", "seeds": (0, 1), "value": 0.8953, "n": 22, "patients": 22}
    return FigureRecord.model_validate(known | changes)


def test_words_of_a_figure() -> None:
    assert record().title == "test patients, one click, seeds 0, 1"
    assert record(seeds=(3,), note="not the best weights").title == (
        "test patients, one click, seed 3 (not the best weights)"
    )
    assert record(seeds=(), subset="validation and test").title == "validation and test patients, one click"
    assert record(interval=(0.883, 0.907)).text == "0.895 [0.883, 0.907], n = 22, 22 patients"
    assert record(patients=1, n=2).text == "0.895, n = 2, 1 patient"
    assert record(patients=None, n=None).text == "0.895"


def test_a_table_has_a_row_a_cohort_and_a_cell_a_metric() -> None:
    figures = [
        record(),
        record(cohort="a", n=7),
        record(cohort="a", metric="followed", n=9),
        record(subset="validation"),
    ]
    table = tabulated(figures)
    assert list(table) == ["test patients, one click, seeds 0, 1", "validation patients, one click, seeds 0, 1"]
    assert table["test patients, one click, seeds 0, 1"] == {
        "all": {"Dice": "0.895, n = 22, 22 patients"},
        "a": {"Dice": "0.895, n = 7, 22 patients", "followed": "0.895, n = 9, 22 patients"},
    }


def test_figures_of_version_0_1_0_stay_as_they_were_written() -> None:
    written = {"test patients, one click": {"dice": 0.5}, "looks at these test patients, this one included": 2}
    old = Provenance.model_validate({"name": "x", "origin": "y", "figures": written})
    assert old.figures == written
    assert tabulated(old.figures) == written
    assert Provenance.model_validate_json(old.model_dump_json()) == old
    new = old.model_copy(update={"figures": (record(),)})
    assert Provenance.model_validate_json(new.model_dump_json()) == new
    described = describe(palpate.load("palpate-tiny"))["provenance"]["figures"]
    assert len(described) == 12
    assert all(isinstance(title, str) for title in described)


def test_a_count_is_no_negative_number() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        record(n=-1)
