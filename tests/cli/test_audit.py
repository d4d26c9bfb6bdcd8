"""`palpate audit` as a user runs it."""

import json
import re
import shlex
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from palpate.cli import app
from palpate.frame import CropPercentiles
from palpate.training.preset import Preset
from small import small_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    made = small_cohort(folder, 5)
    rows = [f"{s.image.name},{s.label.name},{s.patient}" for s in made.scans]
    (folder / "cohort.csv").write_text("\n".join(["image,label,patient", *rows]))
    return folder


def written(folder: Path, count: int) -> Path:
    """A cohort that a CSV lists, without patients."""
    folder.mkdir()
    rows = [f"{s.image.name},{s.label.name}" for s in small_cohort(folder, count).scans]
    (folder / "cohort.csv").write_text("\n".join(["image,label", *rows]))
    return folder


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["audit", *map(str, arguments), "--workers", "1"])


def test_report_page_and_preset(cohort: Path, tmp_path: Path) -> None:
    page, preset = tmp_path / "audit.html", tmp_path / "mine.yaml"
    done = run(cohort, "--page", page, "--preset", preset, "--network", "tiny")
    assert done.exit_code == 0, done.output
    for part in (
        "CSV; 5 scans of 5 patients, 5 to train on",
        "voxels 48 x 48 x 32",
        "nothing wrong was found",
        "suggested settings:",
    ):
        assert part in done.stdout
    assert f"`palpate prepare {cohort} -o prepared/mine`" in done.stdout
    assert f"`palpate train prepared/mine --preset {preset} --interactive --out runs/mine`" in done.stdout
    assert page.read_text().startswith("<!doctype html>")
    made = Preset.load(preset)
    assert (made.name, made.network, made.init, made.preprocessing.crop) == (cohort.name, "tiny", "none", (64, 64, 64))
    again = run(cohort, "--split-from", preset)
    assert again.exit_code == 0, again.output
    assert Preset.load(preset).recipe.batch == 4
    preset.write_text(preset.read_text().replace("batch: 4", "batch: 2"))
    refused = run(cohort, "--preset", preset, "--network", "tiny")
    assert refused.exit_code == 2
    assert "mine.yaml exists; give --overwrite to replace it, name another, or leave --preset out" in refused.output
    assert Preset.load(preset).recipe.batch == 2
    page.write_text("<!doctype html>my own page")
    refused = run(cohort, "--page", page)
    assert refused.exit_code == 2
    assert f"{page.name} exists, and Palpate did not write it, or an earlier version did; give --over" in refused.output
    assert page.read_text() == "<!doctype html>my own page"
    for more in ("--overwrite",), ():
        assert run(cohort, "--page", page, *more).exit_code == 0
    assert run(cohort, "--preset", preset, "--network", "tiny", "--overwrite").exit_code == 0
    assert Preset.load(preset).recipe.batch == 4
    assert run(cohort, "--preset", preset, "--network", "tiny").exit_code == 2, "one that nobody edited stays too"


def test_a_preset_that_adapts(cohort: Path, tmp_path: Path) -> None:
    assert run(cohort / "cohort.csv", "--preset", tmp_path / "a.yaml").exit_code == 0
    made = Preset.load(tmp_path / "a.yaml")
    assert (made.name, made.network, made.init, made.tuning) == ("cohort", "vit_b", "sam_vit_b", "spatial")
    assert made.preprocessing.crop == (128, 128, 128)
    assert made.recipe.epochs == 500


def test_for_machines(cohort: Path) -> None:
    record = json.loads(run(cohort, "--json").stdout)
    assert (record["scans"], record["issues"]) == (5, [])
    assert set(record["suggestion"]["split"]) == {"train", "validation", "test"}
    assert record["target_ml"]["median"] > 0


def test_errors_give_an_exit_code_and_a_report(tmp_path: Path) -> None:
    made = small_cohort(tmp_path, 4)
    made.scans[1].image.write_bytes(b"nothing")
    rows = [f"{s.image.name},{s.label.name}" for s in made.scans]
    (tmp_path / "cohort.csv").write_text("\n".join(["image,label", *rows]))
    done = run(tmp_path)
    assert done.exit_code == 1
    assert "errors: 1; warnings: 0" in done.stdout
    assert "error: unreadable" in done.stderr
    assert "scan_1.nii.gz" in done.stderr
    assert done.stdout.splitlines()[-1] == "next: mend the errors, then audit again"
    quiet = run(tmp_path, "--quiet")
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (1, "", done.stderr)
    assert json.loads(run(tmp_path, "--json").stdout)["issues"][0]["kind"] == "unreadable"


def test_a_preset_of_a_cohort_with_errors_is_written_and_not_trained_by(tmp_path: Path) -> None:
    folder = written(tmp_path / "faulty", 4)
    (folder / "scan_1.nii.gz").write_bytes(b"nothing")
    done = run(folder, "--preset", tmp_path / "p.yaml")
    assert done.exit_code == 1
    assert (tmp_path / "p.yaml").exists()
    end = f"with --overwrite, which replaces {tmp_path / 'p.yaml'}: it was made of the cohort as it is"
    assert done.stdout.splitlines()[-1] == f"next: mend the errors, then audit again, {end}"
    assert "palpate train" not in done.stdout


def test_the_next_step_repeats_the_patient_rule(cohort: Path, tmp_path: Path) -> None:
    done = run(cohort, "--patient", r"^scan_(\d)", "--preset", tmp_path / "p.yaml")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("next: ")]
    prepare, _train = (shlex.split(one) for one in re.findall(r"`([^`]*)`", line))
    assert prepare[-1] == r"--patient=^scan_(\d)"


def test_the_next_step_is_one_that_a_shell_takes(tmp_path: Path) -> None:
    folder = written(tmp_path / "my scans", 3)
    done = run(folder, "--preset", tmp_path / "my preset.yaml")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("next: ")]
    prepare, train = (shlex.split(one) for one in re.findall(r"`([^`]*)`", line))
    assert prepare == ["palpate", "prepare", str(folder), "-o", "prepared/my preset"]
    assert train[2] == "prepared/my preset"


def test_a_preset_that_cannot_be_suggested_costs_no_report(tmp_path: Path) -> None:
    made = written(tmp_path / "few", 2)
    done = run(made, "--preset", tmp_path / "p.yaml")
    assert done.exit_code == 1
    assert "error: too few patients: 2 patients cannot be split" in done.stderr
    assert done.stdout.splitlines()[-2].startswith(f"{tmp_path / 'p.yaml'}: not written")
    assert not (tmp_path / "p.yaml").exists()
    assert json.loads(run(made, "--preset", tmp_path / "p.yaml", "--json").stdout)["preset"] is None


def test_a_common_issue_does_not_flood_the_terminal(tmp_path: Path) -> None:
    folder = written(tmp_path / "gone", 16)
    for number in range(13):
        (folder / f"scan_{number}.nii.gz").write_bytes(b"nothing")
    done = run(folder)
    assert done.stderr.count("error: unreadable: ") == 13
    assert "error: unreadable: 13 in all" in done.stderr
    assert len(json.loads(run(folder, "--json").stdout)["issues"]) == 13


def test_suggested_numbers_are_shown(cohort: Path) -> None:
    record = json.loads(run(cohort, "--json").stdout)["suggestion"]
    rule = record["preprocessing"]["normalisation"]
    assert f"clip at {rule['low']:.3g} and {rule['high']:.3g}" in record["reasons"]["intensities"]
    assert f"mean {rule['mean']:.3g}, deviation {rule['std']:.3g}" in run(cohort).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--network", "huge"], "--network 'huge': one of vit_b, tiny"),
        (["--split-from", "kits"], "no preset 'kits'"),
        (["--modality", "US"], "--modality 'US': one of CT, MR, PET"),
        (["--page", "gone/audit.html"], "does not exist"),
        (["--patient", "("], "is no regular expression"),
    ],
)
def test_what_cannot_be_done(cohort: Path, arguments: list[str], message: str) -> None:
    done = run(cohort, *arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_scans_in_8_bits_are_an_error_until_they_are_said_to_be_mr(tmp_path: Path) -> None:
    folder = written(tmp_path / "mr", 6)
    for number in range(6):
        path = folder / f"scan_{number}.nii.gz"
        image = nib.load(path)
        voxels = (np.asarray(image.dataobj) + 1100).clip(0, 1500) / 10  # nothing like HU
        kind = np.uint8 if number == 5 else np.float32
        nib.save(nib.Nifti1Image(voxels.astype(kind), image.affine), path)
    unknown = run(folder)
    assert unknown.exit_code == 1
    assert "or take it out; MR? give --modality MR" in unknown.stderr
    assert "MR? give --modality MR" in unknown.stdout
    known = run(folder, "--modality", "mr", "--preset", tmp_path / "mr.yaml")
    assert known.exit_code == 0, known.output
    assert "the scans are MR, and MR's intensities have no unit" in known.stdout
    assert "give --modality" not in known.output
    assert Preset.load(tmp_path / "mr.yaml").preprocessing.normalisation == CropPercentiles()
    ct = run(folder, "--modality", "CT")
    assert ct.exit_code == 1
    assert "give --modality" not in ct.output


def test_a_split_that_is_another_cohorts(cohort: Path) -> None:
    done = run(cohort, "--split-from", "kits21")
    assert done.exit_code == 1
    assert "is in the split; is it another cohort's?" in done.stderr


def test_help_has_examples() -> None:
    shown = CliRunner().invoke(app, ["audit", "--help"]).output
    assert "palpate audit cohort.csv --target 2" in " ".join(shown.replace("│", " ").split())


def test_the_earlier_spelling_is_read_and_names_this_one(cohort: Path) -> None:
    words = ["look", str(cohort), "--lesion", "1", "--workers", "1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "`palpate look` is now `palpate audit`" in done.stderr
    assert "--lesion is now --target" in done.stderr
