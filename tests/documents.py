"""README and the pages in docs/, as the tests read them: their fenced blocks, and which of these are run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
FENCED = re.compile(
    r"(?:^<!-- (?P<remark>[^\n]*) -->\n+)?^(?P<fence>```+)(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
NOT_RUN, EXITS = "not run: ", re.compile(r"exits with (\d+): \S")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: its page, as seen from the root.
        line: the line of its fence, from 1.
        language: what follows the fence.
        text: its lines.
        remark: the comment directly before it; empty where there is none.
    """

    page: str
    line: int
    language: str
    text: str
    remark: str

    @property
    def runs(self) -> bool:
        """Whether it is a command or a program that a test runs."""
        return self.language in ("sh", "python") and not self.remark.startswith(NOT_RUN)

    @property
    def exit_code(self) -> int:
        """The exit code that the page says it has: 0, or that of `<!-- exits with 2: why -->`."""
        found = EXITS.match(self.remark)
        return int(found[1]) if found else 0


def named(page: Path) -> str:
    """A page, as seen from the root."""
    return page.relative_to(ROOT).as_posix()


def fenced(text: str, page: str = "page.md") -> Iterator[Block]:
    """The fenced blocks of a page's text."""
    for found in FENCED.finditer(text):
        line = text.count("\n", 0, found.start("fence")) + 1
        yield Block(page, line, found["language"].strip(), found["text"], (found["remark"] or "").strip())


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    return list(fenced(page.read_text(encoding="utf-8"), named(page)))


def prose(text: str) -> str:
    """A page's text without its fenced blocks."""
    return FENCED.sub("", text)
