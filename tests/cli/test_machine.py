"""What `palpate doctor` reads of a machine."""

import os
from pathlib import Path

import pytest

from palpate.cli import machine
from palpate.extras import EXTRAS


def test_a_system_without_files_in_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_text", lambda path: "")
    cpu = machine.processor()
    assert cpu["cores"] == os.cpu_count()
    assert cpu["features"] == []
    assert cpu["model"]
    memory = machine.memory()
    assert memory["available_gb"] is None
    assert memory["limit_gb"] is None
    assert memory["total_gb"] is None or memory["total_gb"] > 0.1


def test_cpu_and_memory_of_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/cpuinfo": "model name\t: A CPU\nflags\t\t: fpu avx2 avx512f amx_bf16 sse\n\nmodel name\t: A CPU\n",
        "/proc/meminfo": "MemTotal:       16000000 kB\nMemAvailable:    8000000 kB\n",
        "/sys/fs/cgroup/memory.max": "4000000000\n",
    }
    monkeypatch.setattr(machine, "_text", lambda path: files[path])
    cpu = machine.processor()
    assert (cpu["model"], cpu["features"]) == ("A CPU", ["avx2", "avx512f", "amx_bf16"])
    assert machine.memory() == {"total_gb": 16.4, "available_gb": 8.2, "limit_gb": 4.0}
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    assert machine.memory()["limit_gb"] is None


def test_a_folder_is_named_without_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PALPATE_HOME", str(tmp_path / "weights"))
    assert machine.weights_folder() == {"folder": "~/weights", "files": 0, "bytes": 0}
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "a.pth").write_bytes(b"1234")
    assert machine.weights_folder() == {"folder": "~/weights", "files": 1, "bytes": 4}
    monkeypatch.setenv("PALPATE_HOME", "/nowhere/else")
    assert machine.weights_folder()["folder"] == "/nowhere/else"


def test_extras_are_those_of_the_table() -> None:
    found = machine.extras()
    assert found.keys() == EXTRAS.keys()
    assert all((state["install"] is None) == (not state["missing"]) for state in found.values())


def test_threads_that_wait_use_little() -> None:
    """Under the tests' own environment, whatever it is, the measure is a fraction of the cores."""
    assert 0 <= machine.busy_while_waiting() <= (os.cpu_count() or 1) + 0.5
