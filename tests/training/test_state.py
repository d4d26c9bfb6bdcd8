"""The state on disk: whole or not there, and no pickle in it."""

import resource
import signal
from pathlib import Path

import pytest
import torch

from palpate.errors import OutputError, SettingsError
from palpate.training.state import load_state, save_state, states

FILES = {"network": {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3.0)}, "optimiser": {}}


def test_it_comes_back(tmp_path: Path) -> None:
    assert load_state(tmp_path) is None
    path = save_state(tmp_path, 7, FILES, {"step": 7, "best": None})
    assert path == tmp_path / "state-00000007"
    found = load_state(tmp_path)
    assert found is not None
    files, numbers = found
    assert numbers == {"step": 7, "best": None}
    assert files.keys() == FILES.keys()
    assert all(torch.equal(files["network"][name], value) for name, value in FILES["network"].items())


def test_the_newest_is_kept_alone(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        save_state(tmp_path, step, FILES, {"step": step})
    assert [path.name for path in states(tmp_path)] == ["state-00000100"]
    save_state(tmp_path, 100, FILES, {"step": 100})
    assert [path.name for path in tmp_path.iterdir()] == ["state-00000100"]


def test_a_full_disk_keeps_the_state_before(tmp_path: Path) -> None:
    save_state(tmp_path, 1, FILES, {"step": 1})
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OutputError, match=r"the state before it is kept.*palpate train --resume"):
            save_state(tmp_path, 2, {"network": {"a": torch.zeros(1000)}}, {"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert [path.name for path in tmp_path.iterdir()] == ["state-00000001"]


def test_a_torn_write_is_not_seen(tmp_path: Path) -> None:
    save_state(tmp_path, 1, FILES, {"step": 1})
    (tmp_path / ".palpate-killed").mkdir()
    (tmp_path / ".palpate-killed" / "network.safetensors").write_bytes(b"half")
    found = load_state(tmp_path)
    assert found is not None
    assert found[1] == {"step": 1}


def test_a_damaged_state(tmp_path: Path) -> None:
    path = save_state(tmp_path, 1, FILES, {"step": 1})
    (path / "network.safetensors").write_bytes(b"half")
    with pytest.raises(SettingsError, match=r"state-00000001: damaged .*delete it to start from the beginning"):
        load_state(tmp_path)
    (path / "state.json").write_text('{"format": 99}')
    with pytest.raises(SettingsError, match="written by another version of palpate"):
        load_state(tmp_path)
