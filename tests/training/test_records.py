"""Rows, curves, and what a resumed training takes back."""

import json
from pathlib import Path

from palpate.training.records import Records, curves, draw_curves, read_rows


def row(step: int, **more: object) -> dict[str, object]:
    return {"step": step, "loss": 1 / step, **more}


def test_rows_come_back_and_the_future_is_taken_away(tmp_path: Path) -> None:
    records = Records(tmp_path, 0)
    validation = {"dice": 0.5, "interval": [0.4, 0.6], "scans": 3, "patients": 3}
    for step in (1, 2, 3, 4):
        records.add(row(step))
    records.add({"step": 4, "validation": validation})
    records.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    assert [r["step"] for r in read_rows(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4, 4]
    again = Records(tmp_path, 3)
    again.add(row(4))
    again.close()
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [
        row(step) for step in (1, 2, 3, 4)
    ]


def test_tensorboard_can_read_them(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    records = Records(tmp_path, 0)
    records.add(row(1, memory_gb=2.5))
    records.add({"step": 1, "validation": {"dice": 0.5, "interval": [0.4, 0.6], "cohorts": {"a": {"dice": 0.4}}}})
    records.close()
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert set(found.Tags()["scalars"]) == {
        "training/loss",
        "training/memory_gb",
        "validation/dice",
        "validation/dice of a",
    }
    assert found.Scalars("validation/dice")[0].value == 0.5


def test_curves_are_drawn_of_whatever_there_is() -> None:
    """Losses on the left, Dice with its interval on the right, by their numbers; one patient's without an interval."""
    figures = [(1, 0.5, [0.4, 0.6]), (2, 0.7, [0.65, 0.8]), (3, 0.6, None)]
    validations = [{"step": s, "validation": {"dice": dice, "interval": interval}} for s, dice, interval in figures]
    for rows, losses, dice in (
        ([], [], []),
        ([row(1), row(2)], [(1, 1.0), (2, 0.5)], []),
        ([row(1), *validations], [(1, 1.0)], [(1, 0.5), (2, 0.7), (3, 0.6)]),
    ):
        left, right = curves(rows, "no prompt").axes
        assert [tuple(point) for line in left.lines for point in line.get_xydata()] == losses
        assert [tuple(point) for line in right.lines for point in line.get_xydata()] == dice
        assert right.get_title() == "no prompt, validation"
    (band,) = right.collections
    corners = {tuple(point) for path in band.get_paths() for point in path.vertices.tolist()}
    assert {(1, 0.4), (1, 0.6), (2, 0.65), (2, 0.8), (3, 0.6)} == corners
    assert [text.get_text() for text in right.texts] == ["best 0.700"]


def test_curves_are_written_as_a_picture(tmp_path: Path) -> None:
    draw_curves([row(1)], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
