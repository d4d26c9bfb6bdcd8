"""Commands and programs in README.md and docs/: those that take seconds are run as written, all others are parsed.

Blocks of a page are run in its order in one fresh folder, ```sh by bash and ```python by Python. CONTRIBUTING.md tells
authors how a block says that it is not run, or that it fails.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from documents import DOCS, NOT_RUN, PAGES, Block, blocks, fenced, named, prose

LANGUAGES = {"sh", "python", "text", "yaml", "json", "csv", "toml", "ini"}
SLOW = {"docs/how-to/train.md"}  # it trains, if only a few steps
SECONDS = 300.0
SPAN = re.compile(r"(?<!`)`(palpate [^`]+)`(?!`)")
SEPARATORS = {"|", "||", "&&", ";", ";;", "&", "(", ")", "\n"}
RECIPE_LINES = 5
BEFORE_A_COMMAND = {"do", "then", "else", "time", "!", "{"}

RUN = [page for page in PAGES if any(block.runs for block in blocks(page))]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A user's environment: this Python's commands first, a home of its own, no GPU and no network."""
    home = tmp_path_factory.mktemp("home")
    binaries = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return {
        **os.environ,
        "PATH": os.pathsep.join(binaries),
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "PALPATE_HOME": str(home / "palpate"),
        "PALPATE_CONFIG": "",
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
    }


def run(block: Block, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A block, run in a folder."""
    if block.language == "sh":
        command = ["bash", "-eu", "-o", "pipefail", "-c", block.text]
    else:
        program = folder / f"line_{block.line}.py"
        program.write_text(block.text, encoding="utf-8")
        command = [sys.executable, program.name]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash, which runs the pages' commands, is not installed")
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=named(page), marks=[pytest.mark.slow] * (named(page) in SLOW)) for page in RUN],
)
def test_what_a_page_says_works(page: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    for block in blocks(page):
        if block.runs:
            done = run(block, tmp_path, environment)
            assert done.returncode == block.exit_code, f"{block}\n{done.stdout}\n{done.stderr}"
            assert "renamed:" not in done.stderr, f"an old spelling: {block}\n{done.stderr}"


def commands(script: str) -> Iterator[list[str]]:
    """The words after `palpate` of each such command in a shell's script, those under `python -m` and torchrun too."""
    lexer = shlex.shlex(script.replace("\\\n", " "), posix=True, punctuation_chars="();|&\n")
    lexer.whitespace, lexer.whitespace_split = " \t", True
    words: list[str] = []
    for token in [*lexer, "\n"]:
        if token.strip() and token not in SEPARATORS:
            words.append(token)
            continue
        while words and (words[0] in BEFORE_A_COMMAND or re.match(r"[A-Za-z_]\w*=", words[0])):
            del words[0]
        if "palpate.cli" in words:
            yield without_redirections(words[words.index("palpate.cli") + 1 :])
        elif words and words[0] == "palpate":
            yield without_redirections(words[1:])
        words = []


def without_redirections(words: list[str]) -> list[str]:
    """A command's words without `> file`, `2>> file` and `< file`."""
    kept = list(words)
    while (place := next((i for i, word in enumerate(kept) if re.fullmatch(r"\d?>{1,2}|<", word)), None)) is not None:
        del kept[place : place + 2]
    return kept


@pytest.fixture(scope="module")
def parsed() -> Iterator[typer.core.TyperGroup]:
    """The application, all of whose verbs do nothing but read their options; nobody's defaults are read."""
    from palpate.cli import app

    def disarm(command: Any) -> None:
        command.callback = lambda **_: None
        for option in command.params:
            option.callback = None  # that of --install-completion would change the shell's configuration
        for below in getattr(command, "commands", {}).values():
            disarm(below)

    group = typer.main.get_command(app)
    disarm(group)
    assert isinstance(group, typer.core.TyperGroup)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALPATE_CONFIG", "")
        yield group


def faults(group: typer.core.TyperGroup, words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What is wrong with a command line; empty where nothing is."""
    capsys.readouterr()
    try:
        code = group.main(args=words, prog_name="palpate", standalone_mode=False)
    except Exception as error:
        if type(error).__name__ != "NoArgsIsHelpError":  # where it is defined differs between Typer's versions
            raise
        return "a verb is missing"
    said = capsys.readouterr().err
    return said if code or "renamed:" in said else ""


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_that_are_not_run_can_be_parsed(
    page: Path, parsed: typer.core.TyperGroup, capsys: pytest.CaptureFixture[str]
) -> None:
    for block in blocks(page):
        if block.language == "sh" and not block.runs:
            for words in commands(block.text):
                assert faults(parsed, words, capsys) == "", block


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_verbs_and_options_in_sentences_exist(
    page: Path, parsed: typer.core.TyperGroup, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sentence names a verb without all that it needs, which is no fault there."""
    for span in SPAN.findall(prose(page.read_text(encoding="utf-8"))):
        for words in commands(span.replace("\n", " ")):
            fault = "" if words[:1] == ["VERB"] else faults(parsed, words, capsys)
            assert not re.search(r"No such|renamed|unexpected", fault), f"{span}: {fault}"


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["segment", "scan.nii.gz", "--click", "1,2,3", "-o", "mask.nii.gz"], ""),
        (["segment", "scan.nii.gz", "--klick", "1,2,3", "-o", "mask.nii.gz"], "--klick"),
        (["segmant", "scan.nii.gz"], "segmant"),
        (["segment", "scan.nii.gz"], "--output"),
        (["session", "undo", "visit1/", "--times", "many"], "valid integer"),
        (["look", "cohort/"], "renamed"),
    ],
)
def test_a_wrong_command_is_seen(
    words: list[str], fault: str, parsed: typer.core.TyperGroup, capsys: pytest.CaptureFixture[str]
) -> None:
    found = faults(parsed, words, capsys)
    assert fault in found
    assert bool(found) == bool(fault)


def test_commands_are_found_in_scripts() -> None:
    script = (
        "# palpate is run here\nOMP_WAIT_POLICY=PASSIVE palpate doctor --json > a.json && palpate info 'a b'\n"
        "for seed in 1 2; do palpate phantom p/$seed; done\necho palpate\n"
        "palpate segment a.nii.gz \\\n    -o b.nii.gz | cat\ntorchrun -n 2 -m palpate.cli train a --out b\n"
    )
    assert list(commands(script)) == [
        ["doctor", "--json"],
        ["info", "a b"],
        ["phantom", "p/$seed"],
        ["segment", "a.nii.gz", "-o", "b.nii.gz"],
        ["train", "a", "--out", "b"],
    ]


def test_blocks_are_found_with_what_is_said_of_them() -> None:
    text = (
        "a\n\n<!-- not run: takes hours -->\n```sh\nx\n```\n\n```python\ny\n```\n\n"
        "<!-- exits with 2: none -->\n```sh\nz\n```\n"
    )
    first, second, third = fenced(text)
    assert (first.runs, first.line, first.text) == (False, 4, "x\n")
    assert (second.runs, second.language, second.exit_code) == (True, "python", 0)
    assert (third.runs, third.exit_code) == (True, 2)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_blocks_have_a_language_and_a_reason(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, block
        if block.remark.startswith("not run"):
            assert block.remark.startswith(NOT_RUN), block
            assert len(block.remark) > len(NOT_RUN), block


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_command_stands_outside_a_fence(page: Path) -> None:
    """An indented block is run by no test."""
    text = prose(page.read_text(encoding="utf-8"))
    assert re.findall(r"^(?: {4}|\t)(?:palpate|pip|make|python|import|from) .*$", text, re.MULTILINE) == []


@pytest.mark.parametrize("page", sorted((DOCS / "how-to").glob("*.md")), ids=named)
def test_a_how_to_page_begins_with_a_recipe(page: Path) -> None:
    """The title, at most one sentence, and a block of at most five lines."""
    text = page.read_text(encoding="utf-8")
    first, *_ = blocks(page)
    before = text.splitlines()[: first.line - 1]
    shown = [line for line in before if line.strip() and not line.startswith("<!--")]
    assert shown[0].startswith("# ")
    assert len(shown) <= 3, "at most one sentence, of two lines, between title and recipe"
    assert first.language in ("sh", "python")
    assert first.text.count("\n") <= RECIPE_LINES
