"""How the command line says what is wrong with a command's words."""

import errno
import json
import os
import re
import subprocess
import sys
import time

import pytest
import typer
from typer.testing import CliRunner

from palpate.cli import app
from palpate.cli.console import Console, Verbs


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["segment", "a", "-o", "b", "--budget", "-1"],
            "Invalid value for '--budget': .*0. See `palpate segment --help`",
        ),
        (["segmnt"], "No such command 'segmnt'. Did you mean 'segment'\\? See `palpate --help`"),
        (["cut"], "No such command 'cut'. See `palpate --help`"),
        (["--zzzzzz"], "No such option: --zzzzzz. See `palpate --help`"),
        (["segment", "--cli", "1,2,3"], "No such option: --cli.* See `palpate segment --help`"),
        (["session", "undo"], "Missing argument '(folder|FOLDER)'. See `palpate session undo --help`"),
        (["session", "und"], "No such command 'und'. Did you mean 'undo'\\? See `palpate session --help`"),
        (["segment", "a", "b", "-o", "m"], "Got unexpected extra argument.* See `palpate segment --help`"),
        (
            ["segment", "a", "--click", "27,", "21", "-o", "m"],
            ".*without spaces: --click 120,88,45. See `palpate segment --help`",
        ),
        (
            ["propose", "a", "-o", "m"],
            "Missing option '--model'.* No model .* ships: train one .* See `palpate propose --help`",
        ),
        (["segment", "--click"], "Option '--click' requires an argument. See `palpate segment --help`"),
    ],
)
def test_what_is_wrong_with_the_words_is_one_line(words: list[str], line: str) -> None:
    done = CliRunner().invoke(app, words, prog_name="palpate")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert re.fullmatch(f"error: {line}\n", done.stderr)


@pytest.mark.parametrize("verb", [["info"], ["audit"], ["prepare", "-o", "out"]])
def test_a_name_too_long_for_the_disk_is_one_line(verb: list[str]) -> None:
    name = "x" * 300
    done = CliRunner().invoke(app, [verb[0], name, *verb[1:]], catch_exceptions=False)
    assert done.exit_code == 2
    assert re.match(f"error: (no model '|){name}", done.stderr)
    assert done.stderr.count("\n") == 1


def test_an_error_of_the_disk_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), Console(False).reporting():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "scan.nii")
    assert capsys.readouterr().err == "error: scan.nii: No space left on device; check it, or name another place\n"
    with pytest.raises(BrokenPipeError), Console(False).reporting():
        raise BrokenPipeError


def test_no_words_at_all_are_answered_by_the_help() -> None:
    for words, verb in ([], "segment"), (["session"], "undo"):
        shown = CliRunner().invoke(app, words, prog_name="palpate").output
        assert "Usage: palpate" in shown
        assert verb in shown
        assert "error:" not in shown


class OutOfMemoryError(RuntimeError):
    """As torch calls its own."""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError("Unable to allocate 8 GiB"), True),
        (OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 80 bytes"), True),
        (RuntimeError("shapes do not match"), False),
    ],
)
def test_memory_that_runs_out_is_one_line(error: Exception, told: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit if told else RuntimeError) as raised, Console(machine=True).reporting():
        raise error
    assert isinstance(raised.value, typer.Exit) is told
    if told:
        shown = capsys.readouterr()
        assert json.loads(shown.out)["error"] == "OutOfMemory"
        assert shown.err.startswith("error: not enough memory: close what else runs")


def test_other_errors_are_not_swallowed() -> None:
    broken = typer.Typer(cls=Verbs)

    @broken.command()
    def one() -> None:
        raise ValueError("a fault of ours")

    @broken.command()
    def two() -> None:
        raise typer.Exit(1)

    assert isinstance(CliRunner().invoke(broken, ["one"]).exception, ValueError)
    assert CliRunner().invoke(broken, ["two"]).exit_code == 1


def test_a_warning_of_ours_is_one_line() -> None:
    code = (
        "import sys, warnings\nfrom palpate import cli\nfrom palpate.errors import GeometryWarning\n"
        "cli.app = lambda: (warnings.warn('odd header', GeometryWarning), warnings.warn('other', UserWarning))\n"
        "cli.main()"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    first, second = said.splitlines()[:2]
    assert first == "warning: odd header"
    assert "UserWarning: other" in second


def test_where_nobody_watches_a_line_says_now_and_then_how_many_are_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with Console().bar("segmenting", 7) as advance:
        for count in range(1, 8):
            now += 20
            advance(count, f"mask{count}.nii.gz")
    lines = ["segmenting: 2 of 7, last mask2.nii.gz", "segmenting: 4 of 7, last mask4.nii.gz"]
    assert capsys.readouterr().err.splitlines() == [*lines, "segmenting: 6 of 7, last mask6.nii.gz"]
    with Console(quiet=True).bar("segmenting", 7) as advance:
        now += 1000
        advance(3, "mask3.nii.gz")
    assert capsys.readouterr() == ("", "")
