"""`--log` and `--quiet`: what is written where, before the verb and after it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from palpate.cli import app
from palpate.cli.console import Console, Verbs, begin
from palpate.cli.log_file import LOG, close_log, open_log
from palpate.cli.verbs import verb
from palpate.errors import SettingsError

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \d+ (INFO|WARNING|ERROR): (.*)")


@pytest.fixture
def small() -> typer.Typer:
    """An application whose one verb says something of each kind, and may fail."""
    small = typer.Typer(cls=Verbs)

    @small.callback(invoke_without_command=True)
    def common(context: typer.Context, quiet: bool = False, log: Path | None = None) -> None:
        begin(context, quiet, log)

    @verb(small, examples=("palpate work",))
    def work(console: Console, fail: str = "") -> None:
        """Work."""
        with console.step("read", "reading a scan"):
            console.info("begun")
        console.warn("an odd header")
        if fail == "user":
            raise SettingsError("a user's error")
        if fail == "fault":
            raise ValueError("a fault of ours")
        console.result({"done": True}, ["all is done"])

    return small


def run(app: typer.Typer, *words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words], prog_name="palpate")


def messages(log: Path) -> list[tuple[str, str]]:
    """Level and message of each line that begins with a time."""
    found = (LINE.fullmatch(line) for line in log.read_text().splitlines())
    return [(match[1], match[2]) for match in found if match]


@pytest.mark.parametrize("before", [True, False])
def test_the_log_has_all_messages_with_their_time(small: typer.Typer, tmp_path: Path, before: bool) -> None:
    log = tmp_path / "run.log"
    words = ("--log", log, "work") if before else ("work", "--log", log)
    assert run(small, *words).exit_code == 0
    found = messages(log)
    assert found[0][1].startswith("palpate 0.1.0: ")
    assert found[1] == ("INFO", "configuration: none")
    assert ("INFO", "begun") in found
    assert ("WARNING", "an odd header") in found
    assert found[-1] == ("INFO", "all is done")
    assert any(re.fullmatch(r"reading a scan: \d+\.\d{3} s", text) for _, text in found)
    run(small, *words)
    assert messages(log)[: len(found)] == found, "a log is added to, never emptied"
    assert len(messages(log)) == 2 * len(found)
    run(small, "work")
    assert len(messages(log)) == 2 * len(found), "a log is closed with its command"


def test_the_verbs_log_wins(small: typer.Typer, tmp_path: Path) -> None:
    run(small, "--log", tmp_path / "a.log", "work", "--log", tmp_path / "b.log")
    assert ("INFO", "begun") not in messages(tmp_path / "a.log")
    assert ("INFO", "begun") in messages(tmp_path / "b.log")


def test_errors_are_logged_and_those_nobody_foresaw_with_their_traceback(small: typer.Typer, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    assert run(small, "work", "--log", log, "--fail", "user").exit_code == 2
    assert messages(log)[-1] == ("ERROR", "SettingsError: a user's error")
    assert "Traceback" not in log.read_text()
    assert isinstance(run(small, "work", "--log", log, "--fail", "fault").exception, ValueError)
    assert "Traceback (most recent call last):" in log.read_text()
    assert log.read_text().endswith("ValueError: a fault of ours\n")


def test_what_is_wrong_with_the_words_is_logged(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    assert run(app, "--log", log, "session", "undo").exit_code == 2
    level, message = messages(log)[-1]
    assert level == "ERROR"
    assert re.fullmatch("Missing argument '(folder|FOLDER)'. See `palpate session undo --help`", message)


def test_an_old_spelling_is_found_after_the_log_and_is_in_it(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    done = run(app, "--log", log, "look", tmp_path / "nothing")
    assert done.stderr.startswith("renamed: `palpate look` is now `palpate audit`\n")
    assert ("WARNING", "renamed: `palpate look` is now `palpate audit`") in messages(log)


def test_a_log_that_cannot_be_written_is_an_error(small: typer.Typer, tmp_path: Path) -> None:
    for words in (("--log", tmp_path / "no" / "run.log", "work"), ("work", "--log", tmp_path / "no" / "run.log")):
        done = run(small, *words)
        assert done.exit_code == 2
        assert done.stderr == (
            f"error: {tmp_path}/no/run.log: the log cannot be written (No such file or directory); name another file "
            "with --log, or leave it out\n"
        )
        assert "begun" not in done.output


@pytest.mark.parametrize("content", [b"\x5c\x01\0\0", b"scan,prompts,output\n", b"2026-11-27 a diary\n"])
def test_a_log_is_not_added_to_what_is_no_log(small: typer.Typer, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "jobs.csv"
    path.write_bytes(content)
    done = run(small, "work", "--log", path)
    assert (done.exit_code, path.read_bytes()) == (2, content)
    assert "jobs.csv: exists and is no log of Palpate's" in done.stderr
    path.write_bytes(b"")
    assert run(small, "work", "--log", path).exit_code == 0
    assert ("INFO", "begun") in messages(path)


@pytest.mark.parametrize("name", ["new.nii.gz", "NEW.NRRD", "m.safetensors", "mine.yaml", "lesion.png"])
def test_a_log_has_no_name_of_an_image_a_model_or_a_preset(small: typer.Typer, tmp_path: Path, name: str) -> None:
    done = run(small, "work", "--log", tmp_path / name)
    assert done.exit_code == 2
    assert f"{name}: has the name of an image, a model or a preset; give --log a name as palpate.log" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_disk_that_fills_up_ends_the_log_and_not_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    open_log(Path("/dev/full"))
    try:
        for _ in range(3):
            LOG.info("a message")
    finally:
        close_log()
    shown = capsys.readouterr().err
    assert shown.count("warning:") == 1
    assert "the log can no longer be written (No space left on device)" in shown


@pytest.mark.parametrize("words", [("-q", "work"), ("--quiet", "work"), ("work", "-q"), ("work", "--quiet")])
def test_quiet_silences_chatter_and_neither_warnings_nor_json(words: tuple[str, ...]) -> None:
    small = typer.Typer(cls=Verbs)

    @small.callback(invoke_without_command=True)
    def common(
        context: typer.Context, quiet: bool = typer.Option(False, "--quiet", "-q"), log: Path | None = None
    ) -> None:
        begin(context, quiet, log)

    @verb(small, examples=("a",))
    def work(console: Console) -> None:
        """Work."""
        console.info("begun")
        console.warn("an odd header")
        console.result({"done": True}, ["all is done"])

    done = run(small, *words)
    assert (done.stdout, done.stderr) == ("", "warning: an odd header\n")
    answered = json.loads(run(small, *words, "--json").stdout)
    assert answered["done"] is True
    assert answered["warnings"] == ["an odd header"]


def test_quiet_still_prints_errors(tmp_path: Path) -> None:
    done = run(app, "-q", "info", tmp_path / "none.safetensors")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert list(tmp_path.iterdir()) == []
