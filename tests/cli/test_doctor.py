"""`palpate doctor`: what a bug report needs, whatever is missing."""

import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from palpate.cli import app, machine
from palpate.cli.doctor import _advice
from palpate.extras import how_to_install


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["doctor", *arguments], catch_exceptions=False)


@pytest.fixture
def no_click(monkeypatch: pytest.MonkeyPatch) -> None:
    """A click takes seconds; one test waits for it."""
    click = {
        "model": "palpate-tiny", "device": "cpu", "precision": "float32", "first_seconds": 1.0, "further_seconds": 0.5,
    }  # fmt: skip
    monkeypatch.setattr(machine, "timed_click", lambda settings: click)


def test_everything_on_one_json_object() -> None:
    done = run("--json", "--device", "cpu")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["errors"] == {}
    assert record["versions"]["palpate"] == importlib.metadata.version("palpate")
    assert None not in record["versions"].values()
    assert record["cpu"]["cores"] == os.cpu_count()
    assert record["devices"][0]["device"] == "cpu"
    assert record["threads"]["threads"] >= 1
    assert record["extras"].keys() == {"train", "auto", "pictures"}
    click = record["click"]
    assert click["first_seconds"] > 0
    assert click["further_seconds"] > 0
    assert 5 < click["volume_ml"] < 20, "a ball of 28 mm has 11.5 mL"


@pytest.mark.usefixtures("no_click")
def test_lines_for_people_name_no_private_folder() -> None:
    done = run()
    assert done.exit_code == 0, done.output
    for beginning in ("palpate ", "packages: torch ", "CPU: ", "memory: ", "device: cpu", "threads: ", "extra train: "):
        assert any(line.startswith(beginning) for line in done.output.splitlines()), beginning
    assert "click: 1.00 s, a further one 0.50 s" in done.output
    assert "configuration: none (palpate.toml; PALPATE_CONFIG names another)" in done.output
    assert str(Path.home()) not in done.output


@pytest.mark.usefixtures("no_click")
def test_a_missing_package_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(package: str) -> str:
        if package in ("monai", "torch"):
            raise importlib.metadata.PackageNotFoundError(package)
        return real(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    shown = run().output
    assert f"extra auto: monai missing; {how_to_install('auto')}" in shown
    assert "extra train: installed" in shown
    assert "packages: torch MISSING, " in shown


def test_a_part_that_fails_is_reported_and_the_rest_goes_on() -> None:
    done = run("--device", "abacus")
    assert done.exit_code == 1
    assert "click: DeviceError: device 'abacus' is not here" in done.output
    assert "extra train: " in done.output


def test_advice() -> None:
    healthy: dict[str, Any] = {
        "threads": {"spins": False, "waiting": {}}, "versions": {"torch": "2.13.0"}, "cpu": {"usable_cores": 2},
    }  # fmt: skip
    assert _advice(healthy) == []
    spinning = healthy | {"threads": {"spins": True, "waiting": {"GOMP_SPINCOUNT": "9"}}}
    assert (
        "set OMP_WAIT_POLICY=PASSIVE, and unset what says otherwise (set now: GOMP_SPINCOUNT)" in _advice(spinning)[0]
    )
    (old,) = _advice(healthy | {"versions": {"torch": "2.9.1+cu128"}})
    assert "torch 2.9 is 4 to 20 times slower" in old
    (single,) = _advice(healthy | {"cpu": {"usable_cores": 1}})
    assert "one core only" in single
    assert _advice({"threads": None, "versions": {"torch": None}, "cpu": None}) == []


@pytest.mark.usefixtures("no_click")
def test_the_users_defaults_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[doctor]\ndevice = "cpu"\n')
    monkeypatch.setenv("PALPATE_CONFIG", str(path))
    assert f"configuration: {path} (palpate.toml" in run().output
