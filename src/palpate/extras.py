"""Packages that only a part of Palpate needs: the extra that installs each, and the error where one is missing."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from .errors import SettingsError

# As in pyproject.toml: a test compares them.
EXTRAS = {
    "train": ("accelerate", "blosc2", "jinja2", "matplotlib", "psutil", "ruamel.yaml", "scikit-image", "tensorboard"),
    "auto": ("monai",),
    "pictures": ("matplotlib",),
}


def how_to_install(extra: str) -> str:
    """What to do to install an extra: a command, and where to type it, since Palpate is on no package index.

    Where Palpate was installed from a clone that is still there, the command names the clone.
    """
    clone, editable = clone_folder()
    if clone is None:
        return f"in a clone of Palpate, run pip install '.[{extra}]'"
    return f"run pip install {'-e ' * editable}'{clone}[{extra}]'"


@cache
def clone_folder() -> tuple[Path | None, bool]:
    """The folder that Palpate was installed from, and whether it runs from there (an editable install).

    Returns:
        None and False: it was installed in another way, or the folder is gone.
    """
    try:
        text = importlib.metadata.distribution("palpate").read_text("direct_url.json")  # of PEP 610
        record = json.loads(text or "{}")
        place = urlsplit(record.get("url", ""))
        folder = Path(url2pathname(place.path))
        if place.scheme == "file" and (folder / "pyproject.toml").is_file():
            return folder, bool(record.get("dir_info", {}).get("editable", False))
    except (importlib.metadata.PackageNotFoundError, OSError, ValueError):
        pass
    return None, False


def extra_of(package: str) -> str:
    """The smallest extra that installs a package.

    Raises:
        KeyError: none does.
    """
    fitting = [extra for extra, packages in EXTRAS.items() if package in packages]
    if not fitting:
        raise KeyError(package)
    return min(fitting, key=lambda extra: len(EXTRAS[extra]))


@contextmanager
def needed(package: str, purpose: str) -> Iterator[None]:
    """Turn an ImportError in the block into an error that names the package and how to install it.

    Args:
        package: its name on the package index.
        purpose: what needs it, as the beginning of a sentence: "presets need".

    Raises:
        SettingsError: the package is missing, or is damaged.
    """
    try:
        yield
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError)
        state = "is not installed" if missing else f"cannot be imported ({error})"
        how = how_to_install(extra_of(package))
        raise SettingsError(f"{purpose} the package {package}, which {state}; {how}") from error
