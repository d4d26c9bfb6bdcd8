"""benchmarks/generality.py: its log goes on where it ended, and its tables say what the records say."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from palpate.cohort import subset_by_hash
from palpate.cohort.layouts import find_cohort
from palpate.evaluation import ScanResult

ROOT = Path(__file__).parents[1]
ABOUT = {"model": "m", "sha256": "a" * 64, "cpu": "c", "threads": 1}


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("generality", ROOT / "benchmarks" / "generality.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generality"] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(ROOT / "benchmarks"))


def record(part: str, name: str, *dice: float, **more: Any) -> ScanResult:
    known: dict[str, Any] = {"kind": "k", "patient": name, "seed": 0, "target_ml": 2.0}
    return ScanResult.model_validate({**known, "part": part, "name": name, "dice": dice or (0.5,) * 5, **more})


class Counted:
    """A measurement that counts how often it is made."""

    def __init__(self, script: Any, part: str, name: str, last: str = ""):
        self.times, self.part, self.name = 0, part, name
        self.task = script.Task(part, name, 0, self.run, last)

    def run(self) -> Iterator[ScanResult]:
        self.times += 1
        for name in [f"{self.name}, one", f"{self.name}, two"] if self.task.last else [self.name]:
            yield record(self.part, name, *(0.5,) * 5)


def test_a_second_call_measures_what_is_missing(script: Any, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "log.jsonl"
    one, two = Counted(script, "made", "one"), Counted(script, "axes", "two", "two, two")
    script.Log(path, ABOUT).measure(one.task)
    with path.open("a") as file:
        file.write('{"part": "made", "na')  # a kill tears a line
    log = script.Log(path, ABOUT)
    for measured in (one, two, two):
        log.measure(measured.task)
    assert (one.times, two.times) == (1, 1)
    again = script.Log(path, ABOUT)
    again.measure(two.task)
    assert two.times == 1
    assert list(again.rows) == ["made: one, seed 0", "axes: two, one, seed 0", "axes: two, two, seed 0"]
    assert len(path.read_text().splitlines()) == 4
    with pytest.raises(SystemExit, match=r"a log of m \(aaaaaaaa\); name another file"):
        script.Log(path, {**ABOUT, "sha256": "b" * 64})
    with pytest.raises(SystemExit, match="there is no such log"):
        script.read_log(tmp_path / "none.jsonl")


def test_a_sarcoma_is_measured_once_for_both_parts(script: Any, tmp_path: Path) -> None:
    log = script.Log(tmp_path / "log.jsonl", ABOUT)
    first, second = Counted(script, "sarcoma", "s"), Counted(script, "known", "s")
    log.measure(first.task)
    log.measure(second.task)
    assert (first.times, second.times) == (1, 0)
    assert list(log.rows) == ["sarcoma: s, seed 0", "known: s, seed 0"]


def test_tables_by_hand(script: Any) -> None:
    def made(name: str, difficulty: str, *dice: float) -> ScanResult:
        tags = {"difficulty": difficulty, "modality": "PET"}
        return record("made", name, *dice, kind="12 mm and more", baseline=(0.1,) * 5, tags=tags)

    rows = [
        made("a", "clear", 0.2, 0.3, 0.4, 0.5, 0.6),
        made("b", "faint", 0.4, 0.5, 0.6, 0.7, 0.8),
        record("sarcoma", "s", kind="sarcoma CT", tags={"cohort": "sarcoma"}),
        record("organs", "o", kind="larynx", iou=(0.1,), predicted_iou=(0.6,), volumes_ml=(11.0,)),
        record("known", "h", 0.1, 0.2, 0.3, 0.4, 0.5, kind="hippocampus", followed=(1.0, 0.5)),
        record("axes", "h, as it is", 0.5, tags={"scan": "h", "order": "as it is"}),
        record("axes", "h, all reversed", 0.4, tags={"scan": "h", "order": "all reversed"}),
    ]
    lines = script.tables(ABOUT, rows, ["sarcoma"])
    for line in (
        "Written by `python benchmarks/generality.py DATA --model m --log LOG --seen sarcoma`;",
        "measurements: made 2, organs 1, sarcoma 1, known 1, axes 1; seeds 0.",
        "| 12 mm and more | 0.300 [0.200, 0.400] | 0.700 [0.600, 0.800] | 0.100 [0.100, 0.100] | 0.100 [0.100, 0.100] | 2 | 2 |",  # noqa: E501
        "| 12 mm and more; hard | 0.400 | 0.800 | 0.100 | 0.100 | 1 | 1 |",
        "| faint | 0.400 | 0.800 | 0.100 | 0.100 | 1 | 1 |",
        "| sarcoma CT (seen in training) | 0.500 | 0.500 | 1 | 1 |",
        "| all organs | 0.500 | 0.500 | 1 | 1 |",
        "| hippocampus | 0.100 | 0.200 | 0.300 | 0.400 | 0.500 | yes | 0.750 of 2 | 1 | 1 |",
        "| all unseen kinds | 1 | 1 | 0.500 | nan | nan of 0 |",
        "| all reversed | 0.400 | -0.100 | 1 | 1 |",
    ):
        assert line in lines
    found = json.loads(json.dumps(script.summary(rows, ["sarcoma"]), allow_nan=False))
    by_part = {one["part"]: one for one in found}
    record_of_made = by_part["made"]
    assert by_part["organs"]["confidence"] | {"error": 0.5} == {
        "masks": 1, "runaway": 1, "error": 0.5, "good": 0, "good_share": None, "rank_correlation": None,
    }  # fmt: skip
    assert [by_part[part]["seen"] for part in ("sarcoma", "organs")] == [True, False]
    assert record_of_made["after 5"]["dice"] == 0.7
    assert record_of_made["region growing after 1"]["dice"] == 0.1


def test_two_logs_are_compared_in_pairs(script: Any, tmp_path: Path) -> None:
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path, gain in zip(paths, (0.0, 0.2), strict=True):
        rows = [record("made", "a", *(0.5 + gain,) * 5), record("made", f"only {gain}", *(0.1,) * 5)]
        path.write_text("\n".join([json.dumps(ABOUT), *(row.model_dump_json() for row in rows), ""]))
    assert "| made | k | +0.200 | +0.200 | 1 |" in script.comparison(*paths)


def test_listed_patients_are_those_of_the_rule(script: Any) -> None:
    listed = script.organ_patients()
    assert len(listed) == len(set(listed)) == 20
    assert all(subset_by_hash(patient, validation=0.24) == "validation" for patient in listed)
    assert not any(subset_by_hash(patient) == "test" for patient in listed)


def test_the_tasks_name_no_test_patient(script: Any, data: Path) -> None:
    found = find_cohort(data / "head_neck_organs").scans
    listed = sorted(scan.patient for scan in found if subset_by_hash(scan.patient, validation=0.24) == "validation")
    assert listed == sorted(script.organ_patients())
    hosts = [host for kind in script.hosts(data).values() for host in kind]
    assert not any(host.name[:7] in ("STS_018", "STS_019", "STS_020") for host in hosts)
    for part in script.PARTS:
        tasks = list(script.TASKS[part](None, data, [0]))
        assert len({task.key for task in tasks}) == len(tasks)
        assert not any(f"STS_0{number}" in task.name for task in tasks for number in (18, 19, 20))
    assert len(list(script.TASKS["made"](None, data, [0]))) == 200
    assert {task.name[:7] for task in script.TASKS["sarcoma"](None, data, [0])} == {f"STS_{n:03}" for n in range(1, 18)}
