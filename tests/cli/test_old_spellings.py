"""Command lines as they were before verbs and options were renamed."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from palpate.bundle import without_prompt_encoder
from palpate.cli import app
from palpate.cli.old_spellings import OPTIONS, OPTIONS_TO_VERBS, VERBS, modern
from small import prompted_bundle, small_bundle, small_cohort


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan, a model of each kind, and a list of one job."""
    folder = tmp_path_factory.mktemp("old")
    small_cohort(folder, 1)
    prompted_bundle().save(folder / "prompted.safetensors")
    without_prompt_encoder(small_bundle()).save(folder / "automatic.safetensors")
    (folder / "jobs.csv").write_text('scan,prompts,output\nscan_0.nii.gz,"click=20,24,16",listed.nii.gz\n')
    return folder


@pytest.mark.parametrize(
    ("old", "new", "clauses"),
    [
        ("segment s --click 1,2,3 -o m", "segment s --click 1,2,3 -o m", []),
        ("segment s --not 1,2,3 --not=4,5,6", "segment s --background 1,2,3 --background=4,5,6", ["--not is now --ba"]),
        ("session add d --prior m", "session add d --initial-mask m", ["--prior is now --initial-mask"]),
        ("segment --batch j --workers 4", "batch j --workers 4", ["`palpate segment --batch` is now `palpate batch`"]),
        ("segment --batch=j", "batch j", ["`palpate segment --batch` is now `palpate batch`"]),
        (
            "segment s --auto --least-ml 1 -o m",
            "propose s --min-ml 1 -o m",
            ["`palpate segment --auto` is now `palpate propose`", "--least-ml is now --min-ml"],
        ),
        ("segment -- --not", "segment -- --not", []),
        ("--log look -q look c", "--log look -q audit c", ["`palpate look` is now `palpate audit`"]),
        ("--log=a.log look c", "--log=a.log audit c", ["`palpate look` is now `palpate audit`"]),
        ("info --not", "info --not", []),
        ("--version", "--version", []),
        ("", "", []),
    ],
)
def test_words_are_translated(old: str, new: str, clauses: list[str]) -> None:
    words, said = modern(old.split())
    assert words == new.split()
    assert len(said) == len(clauses)
    assert all(clause.startswith(beginning) for clause, beginning in zip(said, clauses, strict=True))


def test_a_prompts_old_names_give_the_same_mask(folder: Path, tmp_path: Path) -> None:
    scan, model = folder / "scan_0.nii.gz", ("-m", folder / "prompted.safetensors")
    first = run("segment", scan, "--click", "20,24,16", "-o", tmp_path / "first.nii.gz", *model)
    assert first.exit_code == 0, first.output
    start = tmp_path / "first.nii.gz"
    old = run("segment", scan, "--prior", start, "--not", "24,24,16", "-o", tmp_path / "old.nii.gz", *model, "--json")
    new = run(
        "segment", scan, "--initial-mask", start, "--background", "24,24,16", "-o", tmp_path / "new.nii.gz", *model
    )  # fmt: skip
    assert old.exit_code == new.exit_code == 0, old.output + new.output
    assert old.stderr == "renamed: --prior is now --initial-mask; --not is now --background\n"
    assert new.stderr == ""
    assert [prompt["kind"] for prompt in json.loads(old.stdout)["prompts"]] == ["prior", "click"]
    assert (tmp_path / "old.nii.gz").read_bytes() == (tmp_path / "new.nii.gz").read_bytes()


def test_options_that_became_verbs(folder: Path, tmp_path: Path) -> None:
    listed = run("segment", "--batch", folder / "jobs.csv", "-m", folder / "prompted.safetensors")
    assert listed.exit_code == 0, listed.output
    assert listed.stderr == "renamed: `palpate segment --batch` is now `palpate batch`\n"
    assert (folder / "listed.nii.gz").exists()
    proposed = run(
        "segment", folder / "scan_0.nii.gz", "--auto", "--least-ml", "0", "-o", tmp_path / "p.nii.gz",
        "-m", folder / "automatic.safetensors",
    )  # fmt: skip
    assert proposed.exit_code == 0, proposed.output
    assert json.loads((tmp_path / "p.json").read_text())["least_ml"] == 0


def test_help_shows_none_of_them() -> None:
    assert not set(run("--help").output.split()) & VERBS.keys()
    for verb in {*OPTIONS, *OPTIONS_TO_VERBS}:
        below = [("add",), ("propose",)] if verb == "session" else [()]
        shown = " ".join(run(verb, *words, "--help").output for words in below).split()
        assert "--help" in shown
        assert not set(shown) & {*OPTIONS.get(verb, ()), *OPTIONS_TO_VERBS.get(verb, ())}
