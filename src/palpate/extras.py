"""Packages that only a part of Palpate needs: the extra that installs each, and the error where one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import SettingsError

# As in pyproject.toml: a test compares them.
EXTRAS = {
    "train": ("accelerate", "blosc2", "jinja2", "matplotlib", "psutil", "ruamel.yaml", "tensorboard"),
    "auto": ("monai",),
    "pictures": ("matplotlib",),
}


def install_command(extra: str) -> str:
    """The command that installs an extra, typed in a clone of Palpate: it is on no package index."""
    return f"pip install '.[{extra}]'"


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
        how = f"in a clone of Palpate, run {install_command(extra_of(package))}"
        raise SettingsError(f"{purpose} the package {package}, which {state}; {how}") from error
