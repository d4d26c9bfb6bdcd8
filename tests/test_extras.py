"""Packages that only a part of Palpate needs."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from palpate.errors import SettingsError
from palpate.extras import EXTRAS, extra_of, needed

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]


def test_the_table_is_the_projects() -> None:
    declared = {
        extra: tuple(re.split(r"[<>=!~ ]", requirement)[0] for requirement in requirements)
        for extra, requirements in PROJECT["optional-dependencies"].items()
        if extra not in ("all", "dev")
    }
    assert declared == EXTRAS
    assert PROJECT["optional-dependencies"]["all"] == [f"palpate[{','.join(EXTRAS)}]"]


def test_a_missing_package_is_named_with_the_smallest_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = (
        r"pictures need the package matplotlib, which is not installed; "
        r"in a clone of Palpate, run pip install '\.\[pictures\]'"
    )
    with pytest.raises(SettingsError, match=message), needed("matplotlib", "pictures need"):
        import matplotlib.figure  # noqa: F401
    assert extra_of("monai") == "auto"
    with pytest.raises(KeyError):
        extra_of("no such package")


def test_a_damaged_package_is_not_called_missing() -> None:
    with (
        pytest.raises(SettingsError, match=r"cannot be imported \(no symbol\); .*'\.\[train\]'"),
        needed("blosc2", "x"),
    ):
        raise ImportError("no symbol")
