"""Rows, curves, and what a resumed training takes back."""

import json
from pathlib import Path

from palpate.training.records import Records, draw_curves, read_rows


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


def test_curves_are_drawn_of_whatever_there_is(tmp_path: Path) -> None:
    validation = {"dice": 0.5, "interval": [0.4, 0.6]}
    for name, rows in (("none", []), ("loss", [row(1)]), ("both", [row(1), {"step": 1, "validation": validation}])):
        draw_curves(rows, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
