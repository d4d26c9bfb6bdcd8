"""Packages that only a part of Palpate needs."""

import importlib.metadata
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from palpate.errors import SettingsError
from palpate.extras import EXTRAS, clone_folder, extra_of, how_to_install, needed

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]


def test_the_table_is_the_projects() -> None:
    declared = {
        extra: tuple(re.split(r"[<>=!~ ]", requirement)[0] for requirement in requirements)
        for extra, requirements in PROJECT["optional-dependencies"].items()
        if extra not in ("all", "dev", "docs")
    }
    assert declared == EXTRAS
    assert PROJECT["optional-dependencies"]["all"] == [f"palpate[{','.join(EXTRAS)}]"]


@pytest.fixture
def installed_from(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str | None], None]]:
    """Sets what the installer noted of where Palpate came from (PEP 610); None: nothing."""

    class Distribution:
        record: str | None = None

        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return self.record

    def note(record: str | None) -> None:
        Distribution.record = record
        clone_folder.cache_clear()

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Distribution())
    yield note
    clone_folder.cache_clear()


def test_how_to_install_names_the_clone_that_it_came_from(
    installed_from: Callable[[str | None], None], tmp_path: Path
) -> None:
    unknown = "in a clone of Palpate, run pip install '.[auto]'"
    folder = tmp_path / "my clone"
    note = json.dumps({"url": folder.as_uri(), "dir_info": {"editable": True}})
    installed_from(note)
    assert how_to_install("auto") == unknown, "the clone is gone"
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    installed_from(note)
    assert how_to_install("auto") == f"run pip install -e '{folder}[auto]'"
    installed_from(json.dumps({"url": folder.as_uri(), "dir_info": {}}))
    assert how_to_install("auto") == f"run pip install '{folder}[auto]'"
    for other in (None, "{", json.dumps({"url": "https://example.org/palpate.whl", "archive_info": {}})):
        installed_from(other)
        assert how_to_install("auto") == unknown


def test_a_missing_package_is_named_with_the_smallest_extra(
    monkeypatch: pytest.MonkeyPatch, installed_from: Callable[[str | None], None]
) -> None:
    installed_from(None)
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
        pytest.raises(SettingsError, match=r"cannot be imported \(no symbol\); .*\[train\]'"),
        needed("blosc2", "x"),
    ):
        raise ImportError("no symbol")
