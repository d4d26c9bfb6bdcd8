"""`palpate prepare` and `palpate train` as a user runs them: to the end, stopped, killed, and gone on with."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from palpate.bundle import load
from palpate.cli import app
from palpate.cohort.augmentation import PromptSampling
from palpate.cohort.prepared import PreparedCohort
from palpate.frame import CropPercentiles, Preprocessing
from palpate.pictures import is_own_picture
from palpate.training.preset import starting_from_nothing
from processes import in_two_processes
from small import small_bundle, small_cohort

pytestmark = pytest.mark.slow
SMALL = Preprocessing(crop=(32, 32, 32), spacing=(4.0, 4.0, 4.0), normalisation=CropPercentiles())
STEPS = 8


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cohort of six phantoms, prepared, and a preset of eight steps."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "cohort").mkdir()
    cohort = small_cohort(folder / "cohort", 6)
    rows = [f"{s.image.name},{s.label.name},{s.patient}" for s in cohort.scans]
    (folder / "cohort" / "cohort.csv").write_text("\n".join(["image,label,patient", *rows]) + "\n")
    preset = starting_from_nothing("small", (), SMALL, None)
    preset = preset.model_copy(
        update={"prompt_sampling": PromptSampling(target_clicks=(1, 2), random_clicks=1, as_inference=True)}
    )
    preset.with_recipe(steps=STEPS, batch=2, num_validations=4, warmup=2, precision="float32", ema_decay=0.9).write(
        folder / "preset.yaml"
    )
    done = CliRunner().invoke(
        app, ["prepare", str(folder / "cohort"), "-o", str(folder / "prepared"), "--workers", "1", "--json"]
    )
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert (record["scans"], record["patients"], record["left_out"]) == (6, 6, [])
    assert record["licence"] is None
    assert record["content"] == PreparedCohort.open(folder / "prepared").sha256
    return folder


def command(place: Path, run: Path, *more: str) -> list[str]:
    """To begin a run without the test patients, or to resume it, which is no longer to be told so."""
    base = [sys.executable, "-m", "palpate.cli", "train", "--device", "cpu"]
    if (run / "settings.json").exists():
        return [*base, "--resume", str(run), *more]
    beginning = ("--preset", str(place / "preset.yaml"), "--out", str(run), "--no-test")
    return [*base, str(place / "prepared"), *beginning, *more]


def trained(place: Path, run: Path, *more: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    whole = command(place, run, *more)
    return subprocess.run(whole, capture_output=True, text=True, check=False, timeout=300, cwd=folder)


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """A run that nobody disturbed."""
    run = place / "whole"
    done = trained(place, run)
    assert done.returncode == 0, done.stderr
    assert f"finished after {STEPS} steps" in done.stdout
    for said in (f"step 1 of {STEPS}: loss", "evaluating 1 validation scan, one click", "calibrating on validation"):
        assert said in done.stderr, "a log is not silent for minutes"
    model = run / "best.safetensors"
    assert f"next: `palpate segment SCAN --click X,Y,Z -o lesion.nii.gz --model {model}`" in done.stdout
    return run


def assert_same(run: Path, whole: Path) -> None:
    """Weights, averaged weights and moments bit for bit, the best model, and the metrics but for seconds and memory."""
    for path in sorted((whole / f"state-{STEPS:08d}").glob("*.safetensors")):
        ours, theirs = load_file(run / path.parent.name / path.name), load_file(path)
        assert ours.keys() == theirs.keys()
        assert all(value.equal(ours[name]) for name, value in theirs.items()), path.name
    assert all(
        value.equal(load_file(run / "best.safetensors")[name])
        for name, value in load_file(whole / "best.safetensors").items()
    )
    assert rows(run) == rows(whole)


def rows(run: Path) -> list[dict[str, object]]:
    parsed = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in ("seconds", "memory_gb")} for row in parsed]


def test_a_run_leaves_what_it_promises(place: Path, whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {
        "settings.json", "metrics.jsonl", "curves.png", "tensorboard", f"state-{STEPS:08d}",
        "best.safetensors", "last.safetensors",
    }  # fmt: skip
    found = rows(whole)
    assert [row["step"] for row in found if "loss" in row] == list(range(1, STEPS + 1))
    assert [row["step"] for row in found if "validation" in row] == [2, 4, 6, 8]
    bundle = load(whole / "best.safetensors")
    assert bundle.provenance.name == "small"
    assert bundle.provenance.recipe["preset"]["recipe"]["steps"] == STEPS
    assert len(bundle.provenance.recipe["split (SHA-256)"]) == 64
    assert bundle.preprocessing == SMALL
    shown = CliRunner().invoke(app, ["info", str(whole / "best.safetensors"), "--all"]).stdout
    assert "validation patients, one random click a scan" in shown
    assert "learning_rate: 0.001" in shown


def test_loader_workers_and_a_resume_at_the_end_change_nothing(place: Path, whole: Path) -> None:
    run = place / "workers"
    assert trained(place, run, "--workers", "2").returncode == 0
    assert_same(run, whole)
    again = trained(place, run)
    assert again.returncode == 0
    assert f"finished after {STEPS} steps" in again.stdout
    assert "test, one click" not in again.stdout
    assert "no use of test patients" in again.stderr
    assert_same(run, whole)


def wait_for(path: Path, lines: int, process: subprocess.Popen[str]) -> None:
    for _ in range(3000):
        if process.poll() is not None or (path.is_file() and len(path.read_text().splitlines()) >= lines):
            return
        time.sleep(0.02)


def test_kill_9_while_it_trains(place: Path, whole: Path) -> None:
    run = place / "killed"
    for lines in (2, 6, 9):
        process = subprocess.Popen(command(place, run), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, text=True)
        wait_for(run / "metrics.jsonl", lines, process)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert trained(place, run).returncode == 0
    assert_same(run, whole)


def test_kill_9_while_a_state_is_written(place: Path, whole: Path) -> None:
    """The second state's first file is on the disk when the process dies: the first state is gone on with."""
    run = place / "torn"
    code = (
        "import os, signal, sys\n"
        "import palpate.training.state as state\n"
        "written = []\n"
        "whole = state.save_file\n"
        "def save_file(tensors, path):\n"
        "    whole(tensors, path)\n"
        "    written.append(path)\n"
        "    if len(written) == 5:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "state.save_file = save_file\n"
        "from palpate.cli import main\n"
        "main()\n"
    )
    arguments = command(place, run)[3:]
    died = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL
    assert [path.name for path in run.glob("state-*")] == ["state-00000002"]
    assert list(run.glob(".palpate-*"))
    assert trained(place, run).returncode == 0
    assert_same(run, whole)
    assert not list(run.glob(".palpate-*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_says_how_to_go_on(place: Path, whole: Path, number: signal.Signals) -> None:
    run = place / f"signal{int(number)}"
    process = subprocess.Popen(command(place, run), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(run / "metrics.jsonl", 3, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == (130 if number == signal.SIGINT else 0), err
    assert "stopping after this step" in err
    found = re.search(rf"stopped at step (\d+) of {STEPS}; resume it with `palpate train --resume (.+)`", out)
    assert found is not None, out
    assert (run / f"state-{int(found[1]):08d}").is_dir()
    assert trained(place, Path(found[2])).returncode == 0
    assert_same(run, whole)


def test_hours_end_it_and_keep_what_was_trained(place: Path, whole: Path) -> None:
    run = place / "hours"
    done = trained(place, run, "--hours", "0.00001")
    assert done.returncode == 0
    assert f"time is up at step 1 of {STEPS}" in done.stdout
    assert trained(place, run).returncode == 0
    assert_same(run, whole)


def test_two_processes_as_torchrun_starts_them(place: Path) -> None:
    """Half the batch in each of two processes: the losses of one process, but for rounding."""
    one, two = place / "batch2", place / "torchrun"
    assert trained(place, one, "--steps", "3", "--num-validations", "1").returncode == 0
    arguments = [
        "-m",
        "palpate.cli",
        *command(place, two)[3:],
        "--steps",
        "3",
        "--batch",
        "1",
        "--num-validations",
        "1",
    ]
    done = in_two_processes(arguments, two)
    assert done.stdout.count("finished after 3 steps") == 1, "one process speaks"
    losses = [[row["loss"] for row in rows(run) if "loss" in row] for run in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
    measured = [[row["validation"] for row in rows(run) if "validation" in row] for run in (one, two)]
    assert measured[0][0]["scans"] == measured[1][0]["scans"]  # type: ignore[index]


def test_a_dry_run_estimates_the_cost_and_leaves_nothing(place: Path, tmp_path: Path) -> None:
    run = place / "dry-run"
    done = trained(place, run, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert not run.exists()
    for part in (
        "tuned parameters: 5,173,360",
        "a step:",
        "peak memory:",
        "expected: 1 minute for",
        "nothing was written",
    ):
        assert part in done.stdout
    (tmp_path / "dry-run").mkdir()
    (tmp_path / "dry-run" / "notes.txt").write_text("a dry run needs no folder, so none is in its way")
    record = json.loads(trained(place, run, "--dry-run", "--json", folder=tmp_path).stdout)
    assert record["steps"] == STEPS
    assert record["peak_memory_gb"] > 0.1


def test_examples_are_drawn_and_nothing_else_is_left(place: Path, tmp_path: Path) -> None:
    run = place / "looked-at"
    done = trained(place, run, "--examples", str(tmp_path / "crops.png"), "--json")
    assert done.returncode == 0, done.stderr
    assert not run.exists()
    record = json.loads(done.stdout)
    assert (record["examples"], record["kinds"]) == (str(tmp_path / "crops.png"), {"contours": 48})
    assert is_own_picture(tmp_path / "crops.png")


def test_a_picture_of_examples_is_checked_before_anything_is_read(place: Path, tmp_path: Path) -> None:
    """A cohort that is not there would be the next error."""
    asked = (str(place / "gone"), "--preset", str(place / "preset.yaml"))
    assert "a picture's name ends in one of" in error_of(*asked, "--examples", str(tmp_path / "crops.txt"))
    assert "crops.png" in error_of(*asked, "--examples", str(tmp_path / "gone" / "crops.png"))
    (tmp_path / "other.png").write_bytes(b"of another program")
    other = (*asked, "--examples", str(tmp_path / "other.png"))
    assert "Palpate did not write it" in error_of(*other)
    assert "no prepared cohort here" in error_of(*other, "--overwrite")
    assert (tmp_path / "other.png").read_bytes() == b"of another program"
    assert "--overwrite is for the picture of --examples" in error_of(*asked, "--overwrite")


def test_test_patients_are_measured_at_the_end_and_each_use_is_counted(place: Path) -> None:
    base = [
        sys.executable,
        "-m",
        "palpate.cli",
        "train",
        str(place / "prepared"),
        "--preset",
        str(place / "preset.yaml"),
    ]
    for use in (1, 2):
        run = place / f"use{use}"
        arguments = [*base, "--out", str(run), "--steps", "1", "--num-validations", "1", "--device", "cpu", "--json"]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        record = json.loads(done.stdout)
        assert record["test_set_uses"] == use
        assert record["test"]["scans"] >= 1
        figures = load(run / "best.safetensors").provenance.figures
        assert isinstance(figures, tuple)
        (figure,) = (figure for figure in figures if figure.subset == "test")
        assert (figure.value, figure.n, figure.seeds) == (
            record["test"]["dice"],
            record["test"]["scans"],
            (0, 1, 2, 3, 4),
        )
    assert len((place / "prepared" / "test_set_uses.jsonl").read_text().splitlines()) == 2


def test_threads_are_those_that_are_asked_for(place: Path) -> None:
    before = torch.get_num_threads()
    asked = [str(place / "prepared"), "--preset", str(place / "preset.yaml"), "--dry-run", "--device", "cpu"]
    try:
        for number in (2, 1):
            done = CliRunner().invoke(app, ["train", *asked, "--threads", str(number)])
            assert done.exit_code == 0, done.output
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(before)
    assert "keeps its settings" not in error_of("--resume", str(place / "gone"), "--threads", str(before))


def test_prepare_says_what_is_next_and_replaces_no_other_cohort(place: Path, tmp_path: Path) -> None:
    rows = [f"{scan.image},{scan.label}" for scan in small_cohort(tmp_path, 1).scans]
    listing, folder = tmp_path / "other.csv", tmp_path / "mine"
    listing.write_text("\n".join(["image,label", *rows]))
    for cohort, more, code in ((place / "cohort", [], 0), (listing, [], 2), (listing, ["--overwrite"], 0)):
        asked = ["prepare", str(cohort), "-o", str(folder), "--workers", "1", *more]
        done = CliRunner().invoke(app, asked)
        assert done.exit_code == code, done.output
        if code:
            assert "scans of another cohort" in done.stderr
        else:
            assert f"next: `palpate train {folder} --preset FILE --interactive --out runs/mine`" in done.stdout


def error_of(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["train", *arguments, "--device", "cpu"])
    assert done.exit_code == 2, done.output
    return done.stderr


def test_what_cannot_be_trained(place: Path, whole: Path) -> None:
    prepared, preset, out = str(place / "prepared"), str(place / "preset.yaml"), str(place / "never")
    assert "nothing to train is named, or no preset" in error_of()
    assert "nothing to train is named" in error_of(prepared, "--preset", preset)
    assert "no training was started here" in error_of("--resume", str(place / "nowhere"))
    longer = error_of(prepared, "--resume", str(whole), "--steps", "5000", "--hours", "1")
    assert "PREPARED, --steps: a resumed run keeps its settings; leave it out, or start" in longer
    both = error_of(prepared, "--preset", preset, "--out", out, "--steps", "5", "--epochs", "1")
    assert "--steps and --epochs both say how long; give one of the two" in both
    assert "--fold 9: the paper has the folds 0 to 4; name one" in error_of(
        "x", "--preset", "kits21", "--fold", "9", "--out", out
    )
    assert "no preset 'mine'" in error_of(prepared, "--preset", "mine", "--out", out)
    assert "no prepared cohort here" in error_of(str(place), "--preset", preset, "--out", out)
    assert "a training was started here" in error_of(prepared, "--preset", preset, "--out", str(whole))
    lora = error_of(prepared, "--preset", preset, "--out", out, "--tune", "lora")
    assert "use tuning full (--tune full), not lora" in lora
    fresh = ("--init", "none", "--tune", "full", "--network", "tiny")
    assert "of the split; is it the right preset?" in error_of(prepared, "--preset", "kits21", "--out", out, *fresh)
    assert "no model 'gone'" in error_of(prepared, "--preset", preset, "--out", out, "--init", "gone")
    assert "--device 'cuda:1'" in CliRunner().invoke(app, ["train", "--device", "cuda:1"]).stderr
    assert not Path(out).exists()


def test_a_cohort_that_changed_is_not_gone_on_with(place: Path, whole: Path, tmp_path: Path) -> None:
    settings = json.loads((whole / "settings.json").read_text())
    settings["cohorts_sha256"] = ["0" * 64]
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    assert "changed since the training" in error_of("--resume", str(tmp_path))
    os.truncate(tmp_path / "settings.json", 40)
    assert "settings.json: damaged" in error_of("--resume", str(tmp_path))


def test_an_adapter_from_base_to_mask(place: Path) -> None:
    """Train an adapter on a base, print its summary, segment with both files, and export them as one."""
    base, run = place / "base.safetensors", place / "adapter"
    small_bundle().save(base)
    options = (
        "--init",
        str(base),
        "--tune",
        "spatial",
        "--steps",
        "2",
        "--num-validations",
        "1",
        "--precision",
        "bfloat16",
    )
    done = trained(place, run, *options)
    assert done.returncode == 0, done.stderr
    adapter = run / "best.safetensors"
    assert adapter.stat().st_size < base.stat().st_size
    scan = next((place / "cohort").glob("scan_*.nii.gz"))
    one, two = place / "one.nii.gz", place / "two.nii.gz"
    click = ("--click", "24,24,16", "--device", "cpu")

    def run_verb(*arguments: str) -> str:
        done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "tuning spatial" in run_verb("info", str(adapter), "--base", str(base))
    run_verb("segment", str(scan), *click, "-o", str(one), "--model", str(adapter), "--base", str(base))
    run_verb("export", str(adapter), "--base", str(base), "-o", str(place / "whole.safetensors"))
    run_verb("segment", str(scan), *click, "-o", str(two), "--model", str(place / "whole.safetensors"))
    assert one.read_bytes() == two.read_bytes()
    missing = CliRunner().invoke(app, ["info", str(adapter)])
    assert missing.exit_code == 2
    assert "--base" in missing.stderr


def test_what_prepare_left_out_is_reported_and_marked(place: Path, tmp_path: Path) -> None:
    cohort = small_cohort(tmp_path, 2)
    cohort.scans[0].image.write_bytes(b"no scan")
    rows = [f"{s.image.name},{s.label.name}" for s in cohort.scans]
    (tmp_path / "cohort.csv").write_text("\n".join(["image,label", *rows]))
    arguments = ["prepare", str(tmp_path / "cohort.csv"), "-o", str(tmp_path / "prepared"), "--workers", "1"]
    done = CliRunner().invoke(app, [*arguments, "--licence", "CC BY 4.0"])
    assert done.exit_code == 1
    assert "licence: CC BY 4.0" in done.stdout
    assert PreparedCohort.open(tmp_path / "prepared").index.licence == "CC BY 4.0"
    done = CliRunner().invoke(app, arguments)
    assert "licence: not stated; --licence TEXT says it" in done.stdout
    assert "1 scans of 1 patients" in done.stdout
    assert "left out: " in done.stdout
    assert "scan_0.nii.gz" in done.stdout
    nothing = CliRunner().invoke(app, ["prepare", str(tmp_path / "gone"), "-o", str(tmp_path / "x")])
    assert nothing.exit_code == 2
    assert "no such folder or file" in nothing.stderr
