"""The ledger of test-set uses: every measurement of test patients is a line, so that uses can be counted."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from ..files import writing

NAME = "test_set_uses.jsonl"
EARLIER = "test_looks.jsonl"  # what version 0.1.0 called it
PATIENTS = ("patients", "of")  # the key of a use's patients, and what version 0.1.0 called it


class HeldOutLedger:
    """Uses of test patients, one JSON object a line, in their order.

    Args:
        path: the file; made by the first use.
        earlier: a file whose lines come before, written by an earlier version; None: none.
    """

    def __init__(self, path: Path, earlier: Path | None = None):
        self.path, self.earlier = path, earlier

    @classmethod
    def of_cohort(cls, prepared: Path) -> Self:
        """The ledger of a prepared cohort's folder."""
        return cls(prepared / NAME, prepared / EARLIER)

    def append(self, use: Mapping[str, Any]) -> None:
        """Write a use down, with the time.

        Args:
            use: plain data; `patients` lists whom it concerns.

        Raises:
            OutputError: it cannot be written.
        """
        when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        with writing(self.path, "the use of the test set is not in it"), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"when": when, **use}) + "\n")

    def lines(self) -> list[str]:
        """All lines, the earlier file's first; none where there is no file.

        Raises:
            OutputError: a file cannot be read.
        """
        found: list[str] = []
        for path in (self.earlier, self.path):
            if path is not None and path.exists():
                with writing(path, "give yourself the right to read it", action="read"):
                    found += path.read_text(encoding="utf-8").splitlines()
        return found

    def uses(self) -> list[dict[str, Any]]:
        """All uses that can be read; a line that a kill tore is left out."""
        parsed = (_parsed(line) for line in self.lines())
        return [use for use in parsed if use is not None]

    def count(self, patients: Iterable[str]) -> int:
        """How many lines use any of these patients; a line that names no patients counts."""
        wanted = set(patients)
        return sum(_concerns(_parsed(line), wanted) for line in self.lines())


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        use = json.loads(line)
    except ValueError:
        return None
    return use if isinstance(use, dict) else None


def _concerns(use: dict[str, Any] | None, patients: set[str]) -> bool:
    listed = next((use[key] for key in PATIENTS if isinstance(use.get(key), list)), None) if use is not None else None
    return listed is None or bool(patients & set(listed))
