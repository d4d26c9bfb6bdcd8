"""`palpate session`: from the first click to an export, and what goes wrong on the way."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from palpate.cli import app
from palpate.cohort.layouts import find_cohort
from palpate.formats import read, write
from palpate.prompts import Click
from small import noise_scan, quick_predictor


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan and two models."""
    folder = tmp_path_factory.mktemp("cli")
    write(noise_scan(), folder / "scan.nii.gz")
    for seed in (0, 1):
        quick_predictor(seed).bundle.save(folder / f"model{seed}.safetensors")
    return folder


def run(verb: str, session: Path, folder: Path, *more: object, model: int = 0) -> Any:
    options = ["--scan", folder / "scan.nii.gz", "--model", folder / f"model{model}.safetensors", "--device", "cpu"]
    arguments = ["session", verb, session, *options, *more]
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def told(result: Any) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    said: dict[str, Any] = json.loads(result.stdout)
    return said


def test_help_has_examples() -> None:
    shown = CliRunner().invoke(app, ["session", "--help"]).output
    for verb in ("add", "undo", "replay"):
        assert verb in shown
        assert f"palpate session {verb} visit1/" in CliRunner().invoke(app, ["session", verb, "--help"]).output


def test_from_the_first_click_to_an_export(folder: Path, tmp_path: Path) -> None:
    session, out = tmp_path / "visit", tmp_path / "lesions.nii.gz"
    (first,) = told(run("add", session, folder, "--lesion", "liver1", "--click", "8,7,5", "--json"))["lesions"]
    assert (first["name"], first["status"], len(first["prompts"])) == ("liver1", "open", 1)
    result = run("add", session, folder, "--lesion", "liver1", "--not", "9,5,4", "--accept")
    assert result.exit_code == 0, result.output
    predictor, volume = quick_predictor(), read(folder / "scan.nii.gz")
    predictor.set_volume(volume)
    mask = predictor.predict([Click((8, 7, 5)), Click((9, 5, 4), positive=False)]).mask
    assert f"1 liver1 (accepted, 2 prompts): {mask.volume_ml:.2f} mL, " in result.output
    told(run("add", session, folder, "--lesion", "node", "--box", "2,2,2,5,5,4", "--click", "3,3,3", "--json"))
    said = told(
        run("replay", session, folder, "-o", out, "--accepted", "--cohort", tmp_path / "c", "--patient", "P1", "--json")
    )
    assert [each["name"] for each in said["lesions"]] == ["liver1", "node"]
    assert said["files"] == [str(out), str(tmp_path / "lesions.lesions.json")]
    assert np.array_equal(read(out).array, mask.full())
    (scan,) = find_cohort(tmp_path / "c").scans
    assert (scan.name, scan.patient) == (said["cohort"], "P1")
    shown = run("replay", session, folder, "-o", tmp_path / "masks", "--separate").output
    assert f"wrote {tmp_path / 'masks' / '02-node.nii.gz'}" in shown
    assert "2 node (open, 2 prompts): " in shown
    left = run("undo", session, folder, "--times", "2").output
    assert "liver1" in left
    assert "node" not in left


def test_it_goes_on_as_it_looked_before(folder: Path, tmp_path: Path) -> None:
    """Arithmetic is part of what a mask depends on: another is refused, and can be asked for."""
    session = tmp_path / "visit"
    made = ("--lesion", "a", "--click", "8,7,5", "--precision", "bfloat16", "--no-zoom", "--budget", 3)
    told(run("add", session, folder, *made, "--json"))
    refused = run("replay", session, folder)
    assert refused.exit_code == 2
    assert "no zoom, bfloat16), this is" in refused.output
    told(run("replay", session, folder, "--precision", "bfloat16", "--json"))
    told(run("undo", session, folder, "--precision", "bfloat16", "--json"))


def test_what_is_refused_is_not_kept(folder: Path, tmp_path: Path) -> None:
    session = tmp_path / "visit"
    for more, message in (
        (("--lesion", "a", "--click", "99,0,0"), "lies outside the scan"),
        (("--lesion", "a", "--not", "1,1,1"), "nothing says where the lesion is"),
        (("--lesion", "a"), "nothing to do for lesion 'a'. Give --click X,Y,Z"),
        (("--lesion", "a", "--accept"), "no lesion 'a' to accept; there are: none yet"),
        (("--lesion", " ", "--click", "1,1,1"), "name: String should have at least 1 character"),
        (("--lesion", "a", "--click", "1,1"), "three whole numbers"),
    ):
        result = run("add", session, folder, *more)
        assert result.exit_code == 2, result.output
        assert message in result.stderr
    assert run("replay", session, folder).output.strip().endswith("no lesion")


def test_what_goes_wrong_is_one_line(folder: Path, tmp_path: Path) -> None:
    session = tmp_path / "visit"
    missing = run("replay", session, folder, "--json")
    assert missing.exit_code == 2
    assert json.loads(missing.stdout)["error"] == "SessionError"
    assert "holds no session" in missing.stderr
    run("add", session, folder, "--lesion", "a", "--click", "8,7,5")
    other = run("replay", session, folder, model=1)
    assert other.exit_code == 2
    assert "was made with the model small" in other.stderr
    assert run("replay", session, folder, "--other-model", model=1).exit_code == 0
    assert run("replay", session, folder).exit_code == 0, "a replay changes nothing"
    for more, message in (
        (("--overlap", "best", "-o", tmp_path / "x.nii"), "no overlap rule 'best'"),
        (("--patient", "P1"), "give --cohort too"),
        (("--cohort", tmp_path / "c"), "no lesion is accepted"),
    ):
        result = run("replay", session, folder, *more)
        assert result.exit_code == 2
        assert message in result.stderr
    assert "nothing to undo" in run("undo", session, folder, "--times", "9").stderr
