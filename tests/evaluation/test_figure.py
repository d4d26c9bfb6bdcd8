"""Means and their intervals, by hand."""

import pytest

from palpate.evaluation import Figure, bootstrap_interval


def test_interval_by_hand() -> None:
    assert bootstrap_interval([[0.5], [0.5], [0.5]]) == (0.5, 0.5)
    found = bootstrap_interval([[0.0], [1.0]] * 50)
    assert found is not None
    low, high = found
    assert low == pytest.approx(0.4, abs=0.02)
    assert high == pytest.approx(0.6, abs=0.02)
    assert bootstrap_interval([[0.0], [1.0], [0.3]]) == bootstrap_interval([[0.0], [1.0], [0.3]])


def test_an_interval_is_of_the_mean_beside_it() -> None:
    """One patient with many good scans, eight with one poor one each: the mean of all lies within."""
    rows = [(f"a{n}", "a", 0.9) for n in range(20)] + [(p, p, 0.5 + 0.01 * n) for n, p in enumerate("bcdefghi")]
    figure = Figure.of(rows)
    assert figure.interval is not None
    low, high = figure.interval
    assert low < figure.dice < high
    assert low == pytest.approx(0.535, abs=0.02), "without the first patient, who is drawn not at all one time in three"


def test_a_figure_by_hand() -> None:
    """Two patients, one with two scans, two seeds each: the mean is over all, the interval by patients."""
    rows = [("a1", "a", 0.2), ("a1", "a", 0.4), ("a2", "a", 0.6), ("a2", "a", 0.8), ("b", "b", 1.0), ("b", "b", 0.9)]
    figure = Figure.of(rows)
    assert figure.dice == pytest.approx(0.65)
    assert figure.interval == bootstrap_interval([[0.2, 0.4, 0.6, 0.8], [1.0, 0.9]])
    assert (figure.scans, figure.patients) == (3, 2)
    assert figure.plain() == {"dice": 0.65, "interval": [0.5, 0.95], "scans": 3, "patients": 2}


def test_one_patient_has_no_interval() -> None:
    """Every resample of one patient is that patient: a width of zero would be a lie."""
    assert bootstrap_interval([[0.2, 0.8]]) is None
    figure = Figure.of([("a1", "a", 0.2), ("a2", "a", 0.8)])
    assert figure.interval is None
    assert figure.plain() == {"dice": 0.5, "interval": None, "scans": 2, "patients": 1}
    record = figure.record("test", "one click", seeds=(0, 1), cohort="mine")
    assert (record.title, record.text) == ("test patients, one click, seeds 0, 1", "0.500, n = 2, 1 patient")
