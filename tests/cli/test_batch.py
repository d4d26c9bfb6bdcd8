"""`palpate batch` as a user runs it: to the end, stopped, killed, and gone on with."""

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from palpate.cli import app
from palpate.errors import OutputError
from small import small_bundle, small_cohort

HEADER = "scan,prompts,output"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three scans, a model, and a list of four jobs."""
    small_cohort(tmp_path, 3)
    small_bundle().save(tmp_path / "small.safetensors")
    listing(tmp_path, *(job(n) for n in range(4)))
    return tmp_path


def job(number: int, scan: str | None = None) -> str:
    return f'{scan or f"scan_{number % 2}.nii.gz"},"click=2{number},24,16",mask_{number}.nii.gz'


def listing(folder: Path, *rows: str) -> None:
    (folder / "jobs.csv").write_text("\n".join([HEADER, *rows]) + "\n")


def arguments(folder: Path, *more: object) -> list[str]:
    told = (
        "batch",
        folder / "jobs.csv",
        "--model",
        folder / "small.safetensors",
        "--device",
        "cpu",
        *more,
    )
    return [str(one) for one in told]


def run(folder: Path, *more: object) -> Any:
    return CliRunner().invoke(app, arguments(folder, *more), catch_exceptions=False)


def results(folder: Path, name: str = "jobs.results.csv") -> list[dict[str, str]]:
    if not (folder / name).exists():
        return []
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("mask_*")}


def test_to_the_end_and_again(folder: Path) -> None:
    done = run(folder)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{folder}/jobs.csv: 4 of 4 done, 0 failed; results: {folder}/jobs.results.csv\n"
    assert [row["status"] for row in results(folder)] == ["done"] * 4
    before = stamps(folder)
    assert len(before) == 4
    again = run(folder)
    assert again.exit_code == 0
    assert "4 of 4 done (4 of them before), 0 failed" in again.stdout
    assert stamps(folder) == before


def test_failures_are_listed_and_not_fatal(folder: Path) -> None:
    listing(folder, job(0, "gone.nii.gz"), job(1), job(2))
    done = run(folder, "--results", folder / "mine.csv")
    assert done.exit_code == 1
    (told,), (failed,) = done.stdout.splitlines(), done.stderr.splitlines()
    assert failed.startswith("failed: row 2, ScanError: ")
    assert "gone.nii.gz: no such file or folder" in failed
    assert "2 of 3 done, 1 failed" in told
    assert len(results(folder, "mine.csv")) == 3
    assert not (folder / "jobs.results.csv").exists()
    quiet = run(folder, "--results", folder / "mine.csv", "-q")
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (1, "", done.stderr)


def test_json_for_machines(folder: Path) -> None:
    listing(folder, job(0, "gone.nii.gz"), job(1))
    done = run(folder, "--json")
    assert done.exit_code == 1
    record = json.loads(done.stdout)
    assert (record["jobs"], record["done"], record["done_before"], record["odd"]) == (2, 1, 0, [])
    (failed,) = record["failed"]
    assert (failed["row"], failed["error"], failed["output"]) == (2, "ScanError", "mask_0.nii.gz")
    assert record["results"] == str(folder / "jobs.results.csv")
    (folder / "jobs.csv").write_text("a,b\n")
    refused = run(folder, "--json")
    assert refused.exit_code == 2
    assert json.loads(refused.stdout)["error"] == "BatchError"


def test_a_list_that_cannot_be_used(folder: Path) -> None:
    listing(folder, job(0), job(1), job(0))
    done = run(folder)
    assert done.exit_code == 2
    assert "row 4: " in done.stderr
    assert "is a result of row 2 already" in done.stderr
    assert stamps(folder) == {}


def test_a_file_of_others_is_replaced_only_when_asked(folder: Path) -> None:
    (folder / "mask_1.nii.gz").write_bytes(b"of another program")
    refused = run(folder)
    assert refused.exit_code == 2
    assert f"error: nothing was done: row 3: {folder}/mask_1.nii.gz exists, and Palpate did not write" in refused.stderr
    assert "give --overwrite to replace it, or name another" in refused.stderr
    assert stamps(folder).keys() == {"mask_1.nii.gz"}
    assert run(folder, "--overwrite").exit_code == 0
    assert run(folder).exit_code == 0


def test_pictures_and_those_that_could_not_be_drawn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(figure: Any, path: Path, *, mark: str) -> None:
        raise OutputError(f"cannot write {path}: no space left")

    with monkeypatch.context() as broken:
        broken.setattr("palpate.batch.pictures.save_picture", full)
        done = run(folder, "--pictures", folder / "shown", "--unit", "SUV")
    assert done.exit_code == 1
    assert f"no picture: row 2: cannot write {folder}/shown/mask_0.png: no space left" in done.stderr
    assert f"4 of 4 done, 0 failed; results: {folder}/jobs.results.csv; pictures: {folder}/shown" in done.stdout
    again = json.loads(run(folder, "--pictures", folder / "shown", "--json").stdout)
    assert (again["done_before"], again["undrawn"], again["pictures"]) == (4, [], str(folder / "shown"))
    assert sorted(path.name for path in (folder / "shown").iterdir()) == [f"mask_{n}.png" for n in range(4)]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--click", "1,2,3"), "error: No such option: --click"),
        (("scan.nii.gz", "-o", "m.nii.gz"), "error: No such option: -o"),
        (("scan.nii.gz",), "error: Got unexpected extra argument"),
        (("--picture", "p.png"), "error: No such option: --picture"),
        (("--prompts", "p.json"), "error: No such option: --prompts"),
        (("--unit", "SUV"), "error: --unit SUV: for a picture; give --pictures too, or leave it out"),
        (("--window=0,9",), "error: --window 0,9: for a picture; give --pictures too, or leave it out"),
        (("--pictures", "no/such"), "error: cannot make the folder no/such"),
        (("--workers", "0"), "error: 0 workers: at least one is needed"),
        (("--timeout", "0"), "error: a timeout of 0 seconds: give more than 0, or leave it out"),
        (("--device", "abacus"), "error: device 'abacus' is not here"),
        (("--model", "none"), "error: no model 'none'"),
        (("--results", "none/r.csv"), "error: cannot write none/r.csv: the folder none does not exist"),
    ],
)
def test_options_that_make_no_sense_with_a_list(folder: Path, more: tuple[str, ...], message: str) -> None:
    done = run(folder, *more)
    assert done.exit_code == 2
    assert message in done.stderr
    assert stamps(folder) == {}


def test_a_unit_of_the_defaults_is_not_used_without_pictures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "palpate.toml").write_text('[batch]\nunit = "SUV"\n')
    monkeypatch.setenv("PALPATE_CONFIG", str(folder / "palpate.toml"))
    assert run(folder).exit_code == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_job_that_takes_too_long(folder: Path) -> None:
    """A named pipe for a scan holds its reader; the jobs behind it are done."""
    os.mkfifo(folder / "held.nii.gz")
    listing(folder, job(0, "held.nii.gz"), job(1))
    done = run(folder, "--timeout", "6")
    assert done.exit_code == 1
    (count,), (failed,) = done.stdout.splitlines(), done.stderr.splitlines()
    assert failed == (
        "failed: row 2, JobTimeout: took longer than 6 seconds and was stopped; allow more (--timeout) and run the "
        "same command again"
    )
    assert "1 of 2 done, 1 failed" in count
    assert [row["error"] for row in results(folder)] == ["JobTimeout", ""]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("segment", "scan.nii", "-o", "m.nii", "--click", "1,1,1", "--workers", "2"), "No such option: --workers"),
        (("segment", "--results", "r.csv"), "No such option: --results"),
        (("segment", "scan.nii"), "Missing option '--output' / '-o'. See `palpate segment --help`"),
        (("batch",), "Missing argument '(jobs|JOBS)'. See `palpate batch --help`"),
    ],
)
def test_options_that_make_no_sense_without_one(given: tuple[str, ...], message: str) -> None:
    done = CliRunner().invoke(app, given, prog_name="palpate")
    assert done.exit_code == 2
    assert re.search(message, done.stderr)


def until(true: Callable[[], object]) -> None:
    """Wait, ten minutes at most: a busy machine starts processes slowly."""
    for _ in range(12000):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to pass")


def opened(pipe: Path) -> int:
    """A named pipe's writing end, once somebody reads from it."""
    ends: list[int] = []

    def attempt() -> bool:
        with contextlib.suppress(OSError):
            ends.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        return bool(ends)

    until(attempt)
    return ends[0]


@contextlib.contextmanager
def held(folder: Path, workers: int) -> Iterator[subprocess.Popen[str]]:
    """A batch, the leader of a group of processes: two jobs are done, each worker is held by a pipe, one job waits."""
    pipes = [folder / f"held_{number}.nii.gz" for number in range(workers)]
    for pipe in pipes:
        os.mkfifo(pipe)
    listing(folder, job(0), job(1), *(job(2 + n, pipe.name) for n, pipe in enumerate(pipes)), job(5, "scan_2.nii.gz"))
    process = subprocess.Popen(
        [sys.executable, "-m", "palpate.cli", *arguments(folder, "--workers", workers)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    ends = []
    try:
        ends += [opened(pipe) for pipe in pipes]
        yield process
    finally:
        for end in ends:
            os.close(end)
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def wait_for_workers(process: subprocess.Popen[str], folder: Path) -> None:
    """Until nobody has the leader's streams open any more; a reader that opens its pipe only now is let go as well."""

    def gone() -> bool:
        for pipe in folder.glob("held_*"):
            with contextlib.suppress(OSError):
                os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=0.2)
            return True
        return False

    until(gone)


def check_the_rest_is_done(folder: Path, workers: int) -> None:
    """The pipes become scans, the same command is run again, and what was finished is not done again."""
    rows = sorted((Path(row["output"]).name, row["status"]) for row in results(folder))  # as they were finished
    assert rows == [("mask_0.nii.gz", "done"), ("mask_1.nii.gz", "done")]
    before = stamps(folder)
    assert before.keys() == {"mask_0.nii.gz", "mask_1.nii.gz"}
    for pipe in folder.glob("held_*"):
        pipe.unlink()
        shutil.copy(folder / "scan_0.nii.gz", pipe)
    again = run(folder)
    assert again.exit_code == 0, again.output
    assert f"{3 + workers} of {3 + workers} done (2 of them before)" in again.stdout
    names = [f"mask_{number}.nii.gz" for number in (0, 1, *range(2, 2 + workers), 5)]
    assert [Path(row["output"]).name for row in results(folder)] == names
    assert stamps(folder).keys() == set(names)
    assert before.items() <= stamps(folder).items()
    assert not list(folder.glob(".palpate*"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 2), (signal.SIGTERM, 1)])
def test_stopped_it_says_how_to_go_on(folder: Path, number: signal.Signals, workers: int) -> None:
    """Ctrl-C reaches every process of a terminal; nobody prints a trace, and nobody stays."""
    with held(folder, workers) as process:
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        out, err = process.communicate(timeout=600)  # returns when the last of the group is gone
    assert process.returncode == 130
    assert out == ""
    kept = "what was finished is kept. Run the same command again to do the rest"
    assert re.fullmatch(rf"stopped after \d+ of \d+; {kept}\n", err), err
    check_the_rest_is_done(folder, workers)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_kill_9_and_again(folder: Path) -> None:
    """Workers whose leader is gone end with the job they are at."""
    with held(folder, 2) as process:
        process.kill()
        assert process.wait() == -signal.SIGKILL
    wait_for_workers(process, folder)
    check_the_rest_is_done(folder, 2)
