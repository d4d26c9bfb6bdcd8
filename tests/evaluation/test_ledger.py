"""The ledger of test-set uses: lines of this version and of version 0.1.0, counted by patients."""

import json
from datetime import datetime
from pathlib import Path

import pytest

from palpate.errors import OutputError
from palpate.evaluation import HeldOutLedger


def test_a_use_is_a_line_with_its_time(tmp_path: Path) -> None:
    ledger = HeldOutLedger(tmp_path / "uses.jsonl")
    assert ledger.uses() == []
    ledger.append({"patients": ["anna"], "figure": {"dice": 0.5}})
    ledger.append({"patients": ["ben", "carl"]})
    first, second = (json.loads(line) for line in (tmp_path / "uses.jsonl").read_text().splitlines())
    assert datetime.fromisoformat(first.pop("when")).tzinfo is not None
    assert first == {"patients": ["anna"], "figure": {"dice": 0.5}}
    assert [use["patients"] for use in ledger.uses()] == [["anna"], second["patients"]]


def test_uses_are_counted_by_patients(tmp_path: Path) -> None:
    """Any patient in common counts; so does a line that names none, or that cannot be read."""
    ledger = HeldOutLedger(tmp_path / "uses.jsonl")
    for patients in (["anna", "ben"], ["ben"], ["carl"]):
        ledger.append({"patients": patients})
    assert [ledger.count([patient]) for patient in ("anna", "ben", "carl", "dora")] == [1, 2, 1, 0]
    assert ledger.count(["anna", "carl"]) == 2
    with (tmp_path / "uses.jsonl").open("a") as file:
        file.write('{"dice": 0.5}\n{"dice": 0.')
    assert ledger.count(["dora"]) == 2
    assert len(ledger.uses()) == 4


def test_a_cohorts_ledger_of_version_0_1_0_comes_first(tmp_path: Path) -> None:
    """It wrote `of` for the patients' names, beside a number of `patients`, into a file of another name."""
    (tmp_path / "test_looks.jsonl").write_text('{"patients": 2, "of": ["anna", "ben"], "dice": 0.5}\n')
    ledger = HeldOutLedger.of_cohort(tmp_path)
    assert [ledger.count([patient]) for patient in ("anna", "carl")] == [1, 0]
    ledger.append({"patients": ["anna"]})
    assert ledger.count(["anna"]) == 2
    assert [use.get("dice") for use in ledger.uses()] == [0.5, None]
    assert len((tmp_path / "test_looks.jsonl").read_text().splitlines()) == 1, "an earlier file is left as it was"


def test_a_ledger_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "uses.jsonl").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*uses\.jsonl.*the use of the test set is not in it"):
        HeldOutLedger(tmp_path / "uses.jsonl").append({"patients": []})
