"""What is read off records of scans, worked by hand."""

import math
from typing import Any

import pytest
from pydantic import ValidationError

from palpate.evaluation import Corrected, CorrectionEffect, ScanResult
from palpate.evaluation.generality import (
    baseline_after,
    confidence,
    dice_after,
    difference,
    followed_share,
    grouped,
    rises,
)
from palpate.prompts import Click


def record(name: str, *dice: float, patient: str = "", **more: Any) -> ScanResult:
    known: dict[str, Any] = {"part": "made", "kind": "k", "patient": patient or name, "seed": 0, "target_ml": 2.0}
    return ScanResult.model_validate({**known, "name": name, "dice": dice, **more})


def test_a_record_holds_a_simulated_users_results() -> None:
    effects = (CorrectionEffect(True, 1.0, 0.1, 0.2), CorrectionEffect(False, 0.5, 0.1, 0.2))
    result = Corrected("a", (Click((0, 0, 0)),), (0.5, 0.6), effects, (0.7, 0.8), (0.3, 0.4), (1.0, 2.0), 1.5)
    found = ScanResult.of(result, "made", "k", "p", 3, seconds=1.234, baseline=result, tags={"shape": "cells"})
    assert found.key == "made: a, seed 3"
    assert (found.dice, found.followed, found.baseline) == ((0.5, 0.6), (1.0, 0.5), (0.5, 0.6))
    assert (found.volumes_ml, found.target_ml, found.seconds) == ((1.0, 2.0), 1.5, 1.23)
    assert ScanResult.model_validate_json(found.model_dump_json(exclude_defaults=True)) == found
    with pytest.raises(ValidationError, match="at least 1"):
        record("a")


def test_means_by_patient() -> None:
    rows = [record("a", 0.2, 0.6, patient="p"), record("b", 0.4, 0.8, patient="p"), record("c", 0.9, 1.0)]
    assert dice_after(rows, 1).dice == pytest.approx(0.5)
    assert dice_after(rows, 2).plain() == {"dice": 0.8, "interval": [0.7, 1.0], "scans": 3, "patients": 2}
    assert baseline_after([*rows, record("d", 0.9, baseline=(0.3,))], 1).dice == pytest.approx(0.3)
    assert {kind: len(found) for kind, found in grouped(rows, lambda row: row.patient).items()} == {"c": 1, "p": 2}
    assert list(grouped(reversed(rows), lambda row: row.name)) == ["a", "b", "c"]


def test_followed_and_rising() -> None:
    rows = [record("a", 0.5, 0.6, followed=(1.0, 0.5)), record("b", 0.5, 0.4), record("c", 0.5, 0.5, followed=(0.9,))]
    share, corrections = followed_share(rows)
    assert share == pytest.approx(0.8)
    assert corrections == 3
    assert math.isnan(followed_share([rows[1]])[0])
    assert rises(rows), "one scan falls, the mean does not"
    assert not rises(rows[1:])


def test_a_difference_is_paired() -> None:
    """Only what both have counts; the interval is of patients' means."""
    first = [record("a", 0.5, patient="p"), record("b", 0.5, patient="p"), record("c", 0.2), record("d", 0.9)]
    second = [record("a", 0.6, patient="p"), record("b", 0.8, patient="p"), record("c", 0.6), record("e", 0.0)]
    found = difference(first, second, 1)
    assert found is not None
    assert found.interval is not None
    assert (found.mean, *found.interval, found.pairs) == pytest.approx((0.8 / 3, 0.2, 0.4, 3))
    assert difference(first, [record("e", 0.0)], 1) is None
    assert difference(first, [record("a", 0.9, seed=1)], 1) is None, "another seed is another click"


def test_confidence_by_hand() -> None:
    """Five masks: a sure one six times too large, an unsure one six times too large, two good ones, a poor one."""
    rows = [
        record("a", 0.3, iou=(0.2,), predicted_iou=(0.8,), volumes_ml=(12.1,)),
        record("b", 0.3, iou=(0.2,), predicted_iou=(0.4,), volumes_ml=(12.1,)),
        record("c", 0.9, iou=(0.8,), predicted_iou=(0.9,), volumes_ml=(2.0,)),
        record("d", 0.8, iou=(0.7,), predicted_iou=(0.5,), volumes_ml=(2.0,)),
        record("e", 0.4, iou=(0.3,), predicted_iou=(0.3,), volumes_ml=(9.9,)),
        record("f", 0.4),
    ]
    found = confidence(rows)
    assert found is not None
    assert (found.masks, found.runaway, found.good, found.good_share) == (5, 1, 2, 0.5)
    assert found.error == pytest.approx((0.6 + 0.2 + 0.1 + 0.2 + 0) / 5)
    # Ranks of 0.8 0.4 0.9 0.5 0.3: 4 2 5 3 1; of Dice 0.3 0.3 0.9 0.8 0.4: 1.5 1.5 5 4 3. Pearson's of these ranks:
    assert found.rank_correlation == pytest.approx(4 / math.sqrt(10 * 9.5))
    assert confidence(rows[5:]) is None
    assert confidence(rows, 2) is None, "nobody gave a second prompt"
    only = confidence(rows[:1])
    assert only is not None
    assert math.isnan(only.rank_correlation)
    assert math.isnan(only.good_share)
