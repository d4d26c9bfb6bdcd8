"""Shell completion: its scripts are printed without PyTorch, and it knows verbs, options, names and files."""

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from palpate.bundle.loading import BUNDLED
from palpate.cli import completion
from palpate.devices import Precision
from palpate.training.preset import PRESETS
from palpate.weights import ASSETS


def palpate(*words: str, folder: Path | None = None, **environment: str) -> str:
    """What the command prints; PyTorch cannot be imported in it."""
    code = "import sys; sys.modules['torch'] = None; from palpate.cli import app; app(prog_name='palpate')"
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=os.environ | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def completed(line: str, folder: Path | None = None) -> list[str]:
    """What bash is offered at the end of a line."""
    words = line.split(" ")
    return palpate(
        folder=folder, _PALPATE_COMPLETE="complete_bash", COMP_WORDS="\n".join(words), COMP_CWORD=str(len(words) - 1)
    ).split()


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("bash", "complete -o default -F _palpate_completion palpate"),
        ("zsh", "compdef _palpate_completion palpate"),
        ("fish", "complete --command palpate --no-files"),
    ],
)
def test_the_script_of_each_shell_is_printed(shell: str, line: str) -> None:
    assert line in palpate("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")


def test_verbs_and_options_are_completed() -> None:
    assert completed("palpate seg") == ["segment"]
    assert set(completed("palpate session re")) >= {"redo", "reject", "rename", "replay"}
    assert completed("palpate segment --init") == ["--initial-mask"]


def test_names_and_files_are_completed(tmp_path: Path) -> None:
    (tmp_path / "liver.safetensors").touch()
    (tmp_path / "list.csv").touch()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "lung.safetensors").touch()
    assert completed("palpate segment scan.nii --model p", tmp_path) == ["palpate-tiny"]
    assert completed("palpate segment scan.nii --model li", tmp_path) == ["liver.safetensors"]
    assert completed("palpate info models/", tmp_path) == ["models/lung.safetensors"]
    assert completed("palpate segment scan.nii --keep l") == ["largest"]
    assert completed("palpate fetch sam_vit_") == ["sam_vit_b", "sam_vit_l", "sam_vit_h"]
    assert completed("palpate segment scan.nii --model nothing/of/the/kind/") == []


def test_names_are_those_of_the_library() -> None:
    assert completion.BUNDLED == BUNDLED
    assert get_args(Precision) == completion.PRECISIONS
    assert set(completion.PRESETS) == set(PRESETS)
    assert set(completion.PRETRAINED) == set(ASSETS) - {"hippocampus"}
