"""Several lesions on one scan, with a journal on disk (docs/how-to/sessions.md).

Names are resolved when first used, so that a session's store is read without PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .lesion import Lesion
    from .session import Session
    from .store import SessionStore

__all__ = ["Lesion", "Session", "SessionStore"]

_HOME = {"Lesion": "lesion", "Session": "session", "SessionStore": "store"}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
