"""Puts the command line's reference in the place of its marker: what the application says of itself, as Markdown."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

MARKER = "<!-- every verb: docs/hooks/command_line.py -->"
PAGE = "reference/command-line.md"


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:  # noqa: ANN401 - MkDocs's own
    """The page's text, with the reference in it; other pages as they are (called by MkDocs for each page)."""
    if page.file.src_uri != PAGE:
        return markdown
    before, marker, after = markdown.partition(MARKER)
    if not marker:
        raise ValueError(f"{PAGE}: the line {MARKER!r} is missing")
    return f"{before}{reference()}{after}"


def reference() -> str:
    """A list of the verbs, and a section for each: usage, arguments, options, examples (`typer ... utils docs`)."""
    command = [sys.executable, "-m", "typer", "palpate.cli", "utils", "docs", "--name", "palpate"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    _, _, sections = text.partition("\n")  # the page has a title of its own
    sections = re.sub(r"\*\*Commands\*\*:\n\n(?:\* .*\n)+", "", sections)  # Typer's list cuts each sentence off
    verbs = re.findall(r"^#+ `(palpate [^`]+)`\n\n(.+)$", sections, re.MULTILINE)
    listed = "\n".join(f"- [`{verb}`](#{verb.replace(' ', '-')}): {summary}" for verb, summary in verbs)
    return f"{listed}\n{sections}"
