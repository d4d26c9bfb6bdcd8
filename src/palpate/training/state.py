"""The state of a training on disk: safetensors and JSON in a folder that is renamed into place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..errors import OutputError, SettingsError
from ..files import hidden_folder, settle
from .loop import State

FORMAT = 1
PREFIX = "state-"


def save_state(run: Path, step: int, files: dict[str, State], numbers: dict[str, Any]) -> Path:
    """Write `run/state-STEP/`, then take older ones away; a kill leaves the new one or the old one, whole.

    Raises:
        OutputError: it cannot be written; the old one is kept.
    """
    target = run / f"{PREFIX}{step:08d}"
    if target.exists():  # the same step, saved again: the same state
        return target
    try:
        with hidden_folder(run) as folder:
            staged = Path(folder)
            for name, tensors in files.items():
                whole = {key: value.cpu().contiguous() for key, value in tensors.items()}
                save_file(whole, staged / f"{name}.safetensors")
            (staged / "state.json").write_text(json.dumps({"format": FORMAT, **numbers}))
            settle(staged, target)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"cannot save the training's state in {run}: {error}; the state before it is kept. Free some space, "
            f"then resume it with `palpate train --resume {run}`"
        ) from error
    for old in states(run):
        if old != target:
            shutil.rmtree(old, ignore_errors=True)
    return target


def load_state(run: Path) -> tuple[dict[str, State], dict[str, Any]] | None:
    """The newest state of a run, or None if it has none yet.

    Raises:
        SettingsError: one that is damaged or of another version.
    """
    found = states(run)
    if not found:
        return None
    folder = found[-1]
    try:
        numbers = json.loads((folder / "state.json").read_text())
        if numbers.pop("format") != FORMAT:
            raise SettingsError(f"{folder}: written by another version of palpate; finish it with that one")
        files = {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise SettingsError(f"{folder}: damaged ({error}); delete it to start from the beginning") from error
    return files, numbers


def states(run: Path) -> list[Path]:
    """The states in a run's folder, oldest first."""
    return sorted(path for path in run.glob(f"{PREFIX}*") if path.is_dir())
