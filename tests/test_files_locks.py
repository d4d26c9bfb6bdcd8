"""One process at a time: who holds a place is told, and what a holder leaves is in nobody's way."""

import fcntl
import os
from pathlib import Path

import pytest

from palpate.errors import BatchError, OutputError, SessionError
from palpate.files import locked, running


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    with (
        locked(tmp_path, "lock"),
        pytest.raises(SessionError, match=f"is in use by process {os.getpid()} on .*; close"),
        locked(tmp_path, "lock"),
    ):
        pass
    with locked(tmp_path, "lock"):
        assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()} on ")


def test_results_are_written_by_one_and_its_lock_is_gone(tmp_path: Path) -> None:
    results = tmp_path / "{}.csv"
    other = r"\{\}\.csv: another run writes it, process \d+ on"
    with running(results), pytest.raises(BatchError, match=other), running(results):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_whose_file_was_taken_away_meanwhile_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening the file and locking it, its holder ended: locked is then what nobody else will find."""
    results, flock = tmp_path / "r.csv", fcntl.flock

    def late(held: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        (tmp_path / ".r.csv.lock").unlink()
        flock(held, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with running(results):
        assert (tmp_path / ".r.csv.lock").exists()
        with pytest.raises(BatchError), running(results):
            pass


def test_without_file_locks_results_are_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palpate.files.HAS_LOCKS", False)
    with running(tmp_path / "r.csv"):
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(SessionError, match=r"needs file locks \(flock\)"), locked(tmp_path, "lock"):
        pass


def test_a_lock_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*No such file"), running(tmp_path / "nowhere" / "r.csv"):
        pass
