"""`palpate session`: from the first click to an export, and what goes wrong on the way."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from palpate.automatic import Proposal, Proposer
from palpate.bundle import without_prompt_encoder
from palpate.cli import app
from palpate.cli.changes import change
from palpate.cli.console import Console
from palpate.cohort.layouts import find_cohort
from palpate.formats import read, write
from palpate.inference import LesionState
from palpate.masks import Mask
from palpate.predictor import Predictor
from palpate.prompts import Click, InitialMask, Prompt
from palpate.volume import Volume
from small import CPU, empty_bundle, noise_scan, quick_bundle, quick_predictor, small_bundle

VERBS = (
    "add", "undo", "redo", "replay", "rename", "reopen", "clear", "remove", "reject", "accept", "show", "remove-prompt",
    "replace-prompt", "replace-initial-mask", "propose", "picture",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan and two models."""
    folder = tmp_path_factory.mktemp("cli")
    write(noise_scan(), folder / "scan.nii.gz")
    for seed in (0, 1):
        quick_bundle(seed).save(folder / f"model{seed}.safetensors")
    small_bundle().save(folder / "clicks.safetensors")
    for name, bundle in (("finds", small_bundle()), ("blind", empty_bundle())):
        without_prompt_encoder(bundle).save(folder / f"{name}.safetensors")
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
    for verb in VERBS:
        assert verb in shown
        assert f"palpate session {verb} visit1/" in CliRunner().invoke(app, ["session", verb, "--help"]).output


def test_from_the_first_click_to_an_export(folder: Path, tmp_path: Path) -> None:
    session, out = tmp_path / "visit", tmp_path / "lesions.nii.gz"
    (first,) = told(run("add", session, folder, "--lesion", "liver1", "--click", "8,7,5", "--json"))["lesions"]
    assert (first["name"], first["status"], len(first["prompts"])) == ("liver1", "open", 1)
    result = run("add", session, folder, "--lesion", "liver1", "--background", "9,5,4", "--accept")
    assert result.exit_code == 0, result.output
    predictor, volume = quick_predictor(), read(folder / "scan.nii.gz")
    predictor.set_volume(volume)
    mask = predictor.predict([Click((8, 7, 5)), Click((9, 5, 4), positive=False)]).mask
    assert f"1 liver1 (accepted, prompts 1, 2): {mask.volume_ml:.2f} mL, " in result.output
    assert f"background click 9,5,4 {change(predictor.predict([Click((8, 7, 5))]).mask, mask)}" in result.output
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
    assert "2 node (open, prompts 3, 4): " in shown
    left = run("undo", session, folder, "--times", "2").output
    assert "liver1" in left
    assert "node" not in left


def test_a_session_needs_the_precision_that_it_began_with(folder: Path, tmp_path: Path) -> None:
    """Arithmetic is part of what a mask depends on: another is refused, and can be asked for."""
    session = tmp_path / "visit"
    made = ("--lesion", "a", "--click", "8,7,5", "--precision", "bfloat16", "--no-zoom", "--budget", 3)
    told(run("add", session, folder, *made, "--json"))
    refused = run("replay", session, folder)
    assert refused.exit_code == 2
    assert "no zoom, bfloat16), this is" in refused.output
    assert "load that one with its settings (--precision, --zoom, --budget)" in refused.output
    told(run("replay", session, folder, "--precision", "bfloat16", "--json"))
    told(run("undo", session, folder, "--precision", "bfloat16", "--json"))


def test_what_is_refused_is_not_recorded(folder: Path, tmp_path: Path) -> None:
    session = tmp_path / "visit"
    for more, message in (
        (("--lesion", "a", "--click", "99,0,0"), "lies outside the scan"),
        (("--lesion", "a", "--background", "1,1,1"), "nothing says where the lesion is"),
        (("--lesion", "a"), "nothing to do for lesion 'a'. Give --click or --background X,Y,Z"),
        (("--lesion", "a", "--accept"), "no lesion 'a' to accept; there are: none yet"),
        (("--lesion", " ", "--click", "1,1,1"), "a lesion's name is a line of 1 to 100 characters, not"),
        (("--lesion", "a", "--click", "1,1"), "three whole numbers"),
    ):
        result = run("add", session, folder, *more)
        assert result.exit_code == 2, result.output
        assert message in result.stderr
        assert not session.exists(), "no session is left bound to a scan or a model that was a mistake"
    assert "holds no session" in run("replay", session, folder).stderr
    session.mkdir()
    (session / "notes.txt").write_text("mine")
    assert run("add", session, folder, "--lesion", "a", "--click", "99,0,0").exit_code == 2
    assert {path.name for path in session.iterdir()} == {"notes.txt"}
    assert run("add", session, folder, "--lesion", "a", "--click", "8,7,5", model=1).exit_code == 0
    kept = (session / "journal.jsonl").read_bytes()
    assert run("add", session, folder, "--lesion", "b", "--click", "99,0,0", model=1).exit_code == 2
    assert (session / "journal.jsonl").read_bytes() == kept, "a session that was there before stays"
    assert len(told(run("replay", session, folder, "--json", model=1))["lesions"]) == 1


def test_a_refused_call_leaves_what_can_be_done_again(folder: Path, tmp_path: Path) -> None:
    session = tmp_path / "visit"
    told(run("add", session, folder, "--lesion", "a", "--click", "8,7,5", "--json"))
    told(run("add", session, folder, "--lesion", "a", "--click", "9,7,5", "--accept", "--json"))
    told(run("undo", session, folder, "--times", "2", "--json"))
    kept = (session / "journal.jsonl").read_bytes()
    assert run("add", session, folder, "--lesion", "b", "--click", "99,0,0").exit_code == 2
    assert run("add", session, folder, "--lesion", "a", "--click", "99,0,0").exit_code == 2
    other = ("add", session, folder, "--lesion", "a", "--click", "99,0,0", "--other-model")
    assert run(*other, model=1).exit_code == 2
    assert (session / "journal.jsonl").read_bytes() == kept
    (lesion,) = told(run("redo", session, folder, "--times", "2", "--json"))["lesions"]
    assert (lesion["prompt_numbers"], lesion["status"]) == ([1, 2], "accepted")


def test_an_unforeseen_error_leaves_no_lesion_behind(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tmp_path / "visit"
    told(run("add", session, folder, "--lesion", "a", "--click", "8,7,5", "--json"))
    kept = (session / "journal.jsonl").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Predictor, "predict_on", full)
    with pytest.raises(ZeroDivisionError):
        run("add", session, folder, "--lesion", "b", "--click", "9,7,5")
    assert (session / "journal.jsonl").read_bytes() == kept


def test_what_goes_wrong_is_one_line(folder: Path, tmp_path: Path) -> None:
    session = tmp_path / "visit"
    missing = run("replay", session, folder, "--json")
    assert missing.exit_code == 2
    assert json.loads(missing.stdout)["error"] == "SessionError"
    assert "holds no session" in missing.stderr
    run("add", session, folder, "--lesion", "a", "--click", "8,7,5")
    write(Volume(read(folder / "scan.nii.gz").array[:, :-1], np.eye(4)), tmp_path / "scan.nii.gz")
    wrong = run("add", session, tmp_path, "--lesion", "a", "--click", "8,7,5")
    assert wrong.exit_code == 2
    assert "was made on another scan" in wrong.stderr, "there is no model in that folder either: it was not looked for"
    other = run("replay", session, folder, model=1)
    assert other.exit_code == 2
    assert "was made with the model small" in other.stderr
    assert run("replay", session, folder, "--other-model", model=1).exit_code == 0
    assert run("replay", session, folder).exit_code == 0, "a replay changes nothing"
    for more, message in (
        (("--overlap", "best", "-o", tmp_path / "x.nii"), "no overlap rule 'best'"),
        (("--patient", "P1"), "give --cohort too"),
        (("--patient", "=1", "--cohort", tmp_path / "c"), "for a formula"),
        (("--separate",), "--separate: for what -o writes; give -o FILE or FOLDER, or leave it out"),
        (("--overlap", "later"), "--overlap: for what -o writes"),
        (("--accepted", "--separate", "--cohort", tmp_path / "c"), "--separate, --accepted: for what -o writes"),
        (("-o", folder / "scan.nii.gz"), "scan.nii.gz: the scan itself was read from it, and would be lost"),
        (("--cohort", tmp_path / "c"), "no lesion is accepted"),
    ):
        result = run("replay", session, folder, *more)
        assert result.exit_code == 2
        assert message in result.stderr


def names(result: Any) -> list[str]:
    return [each["name"] for each in told(result)["lesions"]]


def test_undo_and_redo_take_all_their_steps_or_none(folder: Path, tmp_path: Path) -> None:
    session = tmp_path / "visit"
    for name in ("a", "b"):
        assert run("add", session, folder, "--lesion", name, "--click", "8,7,5").exit_code == 0
    journal = (session / "journal.jsonl").read_bytes()
    refused = run("undo", session, folder, "--times", "9")
    assert refused.exit_code == 2
    assert "--times 9: no more than 4 can be undone; nothing was changed" in refused.stderr
    assert "nothing to redo: no operation was undone" in run("redo", session, folder).stderr
    assert (session / "journal.jsonl").read_bytes() == journal
    assert names(run("undo", session, folder, "--times", "3", "--json")) == ["a"]
    refused = run("redo", session, folder, "--times", "4")
    assert refused.exit_code == 2
    assert "--times 4: no more than 3 can be redone; nothing was changed" in refused.stderr
    assert names(run("redo", session, folder, "--times", "2", "--json")) == ["a", "b"]
    assert names(run("undo", session, folder, "--times", "3", "--json")) == []
    assert "nothing to undo: no operation is left" in run("undo", session, folder).stderr


def test_what_is_changed_on_lesions_and_prompts(folder: Path, tmp_path: Path) -> None:
    """Each verb does what the method of its name does, on a lesion by its name or its number."""
    session = tmp_path / "visit"

    def did(verb: str, *more: object) -> dict[str, Any]:
        (lesion,) = told(run(verb, session, folder, *more, "--json"))["lesions"]
        return dict(lesion)

    did("add", "--lesion", "a", "--click", "8,7,5", "--background", "9,5,4", "--accept")
    assert did("rename", "--lesion", "a", "--to", "b")["name"] == "b"
    assert did("reopen", "--lesion", "1")["status"] == "open"
    assert did("replace-prompt", "--lesion", "b", "--number", 1, "--click", "6,8,6")["prompts"][0]["index"] == [6, 8, 6]
    left = did("remove-prompt", "--lesion", "b", "--number", 2)
    assert left["prompt_numbers"] == [1]
    predictor, volume = quick_predictor(), read(folder / "scan.nii.gz")
    predictor.set_volume(volume)
    assert left["voxels"] == predictor.predict([Click((6, 8, 6))]).mask.voxels
    first = ("--lesion", "b", "--number", 1)
    for verb, more, message in (
        ("replace-prompt", ("--lesion", "b", "--number", 1), "one prompt takes the place of one, not 0. Give --click"),
        (
            "replace-prompt",
            (*first, "--click", "1,1,1", "--background", "2,2,2"),
            "of one, not 2",
        ),
        (
            "replace-prompt",
            (*first, "--background", "1,1,1"),
            "nothing says where the lesion is",
        ),
        ("remove-prompt", ("--lesion", "b", "--number", 2), "lesion 1 has no prompt 2; its prompts: 1"),
        ("reject", ("--lesion", "b"), "lesion 1 is open, not a proposal to reject; remove it instead"),
        ("clear", ("--lesion", "c"), "no lesion 'c' in this session; there are: 1 b"),
        ("rename", ("--lesion", "b", "--to", " "), "a lesion's name is a line of 1 to 100 characters, not"),
    ):
        refused = run(verb, session, folder, *more)
        assert refused.exit_code == 2
        assert message in refused.stderr
    cleared = did("clear", "--lesion", "b")
    assert (cleared["prompts"], cleared["voxels"]) == ([], 0)
    assert "1 b (open, no prompt): empty" in run("replay", session, folder).output
    did("add", "--lesion", "c", "--click", "8,7,5")
    refused = run("rename", session, folder, "--lesion", "2", "--to", "b")
    assert refused.exit_code == 2
    assert "lesion 1 is called 'b' already; choose another name" in refused.stderr
    did("rename", "--lesion", "2", "--to", "1")
    assert did("remove", "--lesion", "1")["name"] == "b", "a name comes before a number"
    assert names(run("undo", session, folder, "--json")) == ["b", "1"]
    assert did("add", "--lesion", "2", "--click", "8,7,5")["name"] == "1", (
        "no lesion is called so, but one has that number"
    )


@pytest.mark.parametrize("verb", ["rename", "undo", "redo", "add"])
def test_another_model_that_refuses_a_lesions_prompts_is_not_gone_on_with(
    folder: Path, tmp_path: Path, verb: str
) -> None:
    session, clicks_only = tmp_path / "visit", folder / "clicks.safetensors"
    told(run("add", session, folder, "--lesion", "a", "--click", "8,7,5", "--background", "9,5,4", "--json"))
    told(run("add", session, folder, "--lesion", "b", "--click", "3,3,3", "--json"))
    told(run("add", session, folder, "--lesion", "c", "--click", "3,3,3", "--json"))
    told(run("undo", session, folder, "--json"))
    before = (session / "journal.jsonl").read_bytes()
    options = ["--scan", folder / "scan.nii.gz", "--model", clicks_only, "--device", "cpu", "--other-model"]
    more = {"rename": ("--lesion", "b", "--to", "d"), "add": ("--lesion", "e", "--click", "3,3,3")}.get(verb, ())
    refused = CliRunner().invoke(app, ["session", verb, *map(str, [session, *options, *more])])
    assert refused.exit_code == 2
    assert "takes foreground clicks only" in refused.stderr
    assert (session / "journal.jsonl").read_bytes() == before
    cleared = CliRunner().invoke(app, ["session", "clear", *map(str, [session, *options, "--lesion", "a"])])
    assert cleared.exit_code == 0, "without these prompts it can"
    assert b'"other_model"' in (session / "journal.jsonl").read_bytes()


def test_a_scan_whose_name_is_not_utf8(folder: Path, tmp_path: Path) -> None:
    """As on old shares: such a name is told as well as it can be."""
    named = Path(os.fsdecode(os.fsencode(tmp_path / "M") + b"\xfcller.nii.gz"))
    shutil.copy(folder / "scan.nii.gz", named)
    options = ["--scan", named, "--model", folder / "model0.safetensors", "--device", "cpu"]
    for verb, more in (("add", ("--lesion", "a", "--click", "8,7,5")), ("replay", ("-o", tmp_path / "out"))):
        result = CliRunner().invoke(app, [str(a) for a in ("session", verb, tmp_path / "visit", *options, *more)])
        assert result.exit_code == 0, result.output
    assert "M\\udcfcller" in json.loads((tmp_path / "out" / "lesions.json").read_text())["scan"]["path"]


@pytest.mark.usefixtures("as_ordinary_user")
def test_a_session_in_an_unreadable_folder(public_folder: Path) -> None:
    (locked := public_folder / "locked").mkdir(mode=0)
    arguments = [
        "session",
        "add",
        locked / "visit",
        "--scan",
        public_folder / "s.nii",
        "--lesion",
        "a",
        "--click",
        "1,1,1",
    ]
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    locked.chmod(0o755)
    assert result.exit_code == 2
    assert "visit: cannot be read (Permission denied); name another" in result.stderr


def test_no_verb_lets_the_network_work_unseen(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tells its progress, and its time."""
    session, predict_on = tmp_path / "visit", Predictor.predict_on
    seen: list[bool] = []

    def watched(predictor: Predictor, *given: Any, **named: Any) -> LesionState:
        if predictor.cached_state(*given) is None:
            seen.append(named.get("progress") is not None)
        return predict_on(predictor, *given, **named)

    monkeypatch.setattr(Predictor, "predict_on", watched)
    told(run("add", session, folder, "--lesion", "a", "--click", "8,7,5", "--json"))
    calls = (("rename", ("--lesion", "a", "--to", "b")), ("replay", ()), ("undo", ()), ("redo", ()))
    for verb, more in calls:
        seen.clear()
        assert "segment" in told(run(verb, session, folder, *more, "--json"))["seconds"]
        assert seen == [], "what is cached is not computed"
    shutil.rmtree(session / "cache")
    assert "segment" in told(run("replay", session, folder, "--json"))["seconds"]
    assert seen == [True]
    told(run("rename", session, folder, "--lesion", "1", "--to", "c", "--json"))
    assert seen == [True, True]


def without_scan(verb: str, session: Path, *more: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in ("session", verb, session, *more)], catch_exceptions=False)


def test_what_computes_nothing_needs_neither_scan_nor_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tmp_path / "visit"
    for name, place in (("a", "8,7,5"), ("b", "9,9,5")):
        told(run("add", session, folder, "--lesion", name, "--click", place, "--json"))
    (before,) = told(run("add", session, folder, "--lesion", "a", "--background", "3,3,3", "--json"))["lesions"]
    monkeypatch.setattr("palpate.predictor.Predictor.__init__", None)  # whoever makes one fails
    monkeypatch.setattr("palpate.formats.read", None)

    def did(verb: str, *more: object) -> Any:
        return told(without_scan(verb, session, *more, "--json"))["lesions"]

    (renamed,) = did("rename", "--lesion", "a", "--to", "c")
    assert renamed == before | {"name": "c"}, "its sizes are those of the cached mask"
    assert did("accept", "--lesion", "c")[0]["status"] == "accepted"
    assert did("add", "--lesion", "b", "--accept")[0]["status"] == "accepted"
    assert did("reopen", "--lesion", "c")[0]["status"] == "open"
    assert did("undo", "--times", 5)[0]["prompt_numbers"] == [1]
    assert did("redo", "--times", 5)[0]["prompt_numbers"] == [1, 3]
    assert did("clear", "--lesion", "c")[0]["voxels"] == 0
    assert [each["name"] for each in did("undo")] == ["c", "b"]
    assert [each["name"] for each in did("remove", "--lesion", "b")] == ["c"]
    refused = without_scan("reject", session, "--lesion", "c")
    assert "lesion 1 is open, not a proposal to reject" in refused.stderr
    refused = without_scan("rename", session, "--lesion", "c", "--to", "d", "--other-model")
    assert refused.exit_code == 2
    assert "--other-model needs --scan" in refused.stderr
    for verb, more in (
        ("add", ("--lesion", "c", "--click", "1,1,1")),
        ("replace-prompt", ("--lesion", "c", "--number", 1, "--click", "1,1,1")),
        ("remove-prompt", ("--lesion", "c", "--number", 1)),
        ("replace-initial-mask", ("--lesion", "c", "--mask", folder / "scan.nii.gz")),
        ("propose", ("--proposer", folder / "finds.safetensors")),
        ("replay", ()),
    ):
        refused = without_scan(verb, session, *more)
        assert refused.exit_code == 2
        assert "--scan is missing: masks are computed on the scan; give its file or folder" in refused.stderr
    shutil.rmtree(session / "cache")
    assert (
        "1 c (open, prompts 1, 3): mask not computed yet (give --scan)"
        in without_scan("reopen", session, "--lesion", "c").output
    )
    (unknown,) = did("reopen", "--lesion", "c")
    assert unknown.keys() == before.keys()
    assert (unknown["voxels"], unknown["longest"], unknown["prompts"]) == (None, None, before["prompts"])


def test_why_a_mask_may_be_wrong_is_said_with_and_without_the_scan(folder: Path, tmp_path: Path) -> None:
    """A small box around what the model draws large: a line, and data, from the cache too. As a hint it is another."""
    session = tmp_path / "visit"
    box = ("--box", "7,6,4,9,8,6")
    done = run("add", session, folder, "--lesion", "a", *box)
    assert done.exit_code == 0, done.output
    (line,) = [line for line in done.stderr.splitlines() if "outside the box" in line]
    assert line.startswith("warning: lesion 'a': ")
    (first,) = told(without_scan("rename", session, "--lesion", "a", "--to", "b", "--json"))["lesions"]
    (warning,) = [each for each in first["mask_warnings"] if each["kind"] == "beyond_box"]
    assert line.endswith(warning["message"])
    assert "was cut off" in line
    (loose,) = told(run("add", session, folder, "--lesion", "c", *box, "--loose-box", "--json"))["lesions"]
    (warning,) = [each for each in loose["mask_warnings"] if each["kind"] == "beyond_box"]
    assert "of the mask lies outside the box" in warning["message"]
    shown = without_scan("show", session).output
    assert "prompt 1: box 7,6,4 to 9,8,6" in shown
    assert "prompt 2: loose box 7,6,4 to 9,8,6" in shown
    shutil.rmtree(session / "cache")
    (unknown,) = told(without_scan("rename", session, "--lesion", "b", "--to", "a", "--json"))["lesions"]
    assert unknown["mask_warnings"] is None


def test_a_session_is_shown_without_its_scan(folder: Path, tmp_path: Path) -> None:
    session = tmp_path / "visit"
    painted = tmp_path / "mask.nii.gz"
    write(Mask(np.ones((3, 3, 3), bool), (5, 5, 4), read(folder / "scan.nii.gz").grid), painted)
    told(run("add", session, folder, "--lesion", "a", "--click", "8,7,5", "--background", "3,3,3", "--json"))
    told(run("add", session, folder, "--lesion", "b", "--box", "2,2,2,5,5,4", "--accept", "--json"))
    told(run("add", session, folder, "--lesion", "b", "--initial-mask", painted, "--json"))
    said = told(without_scan("show", session, "--json"))
    assert (said["scan"]["path"], said["scan"]["shape"]) == (str(folder / "scan.nii.gz"), [16, 14, 10])
    assert (said["model"]["name"], said["undoable"], said["redoable"]) == ("small", 6, 0)
    first, second = said["lesions"]
    assert (first["name"], first["status"], second["status"]) == ("a", "open", "open")
    assert [each["number"] for each in first["prompts"]] == [1, 2]
    assert second["prompts"][1]["kind"] == "prior"
    replayed = told(run("replay", session, folder, "--json"))["lesions"]
    assert [each["volume_ml"] for each in replayed] == [first["volume_ml"], second["volume_ml"]]
    shown = without_scan("show", session).output.splitlines()
    assert shown[0].startswith(f"{session}: scan {folder / 'scan.nii.gz'} (16 x 14 x 10), model small (")
    assert shown[1].endswith("; 6 operations to undo, 0 to redo")
    assert shown[2] == f"1 a (open): {first['volume_ml']:.2f} mL; changed {first['changed']}"
    assert shown[3] == f"  prompt 1: click 8,7,5; {first['prompts'][0]['at']}"
    assert shown[4] == f"  prompt 2: background click 3,3,3; {first['prompts'][1]['at']}"
    assert shown[6].startswith("  prompt 3: box 2,2,2 to 5,5,4; ")
    assert shown[7].startswith("  prompt 4: initial mask; ")
    shutil.rmtree(session / "cache")
    assert "1 a (open): mask not computed yet; changed " in without_scan("show", session).output
    assert "holds no session" in without_scan("show", tmp_path).stderr


def test_showing_a_large_session_imports_neither_torch_nor_a_file_library(folder: Path, tmp_path: Path) -> None:
    """A session on a scan of 512 x 512 x 400 voxels would need a second for its scan or its model alone."""
    session = tmp_path / "visit"
    told(run("add", session, folder, "--lesion", "a", "--click", "8,7,5", "--json"))
    heavy = ["torch", "nibabel", "SimpleITK", "scipy", "safetensors", "matplotlib"]
    code = (
        "import sys; from typer.testing import CliRunner; from palpate.cli import app\n"
        "result = CliRunner().invoke(app, ['session', 'show', sys.argv[1]])\n"
        f"print(result.exit_code, [name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(session)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0 []"


def test_the_old_name_of_reject_is_read(folder: Path, tmp_path: Path) -> None:
    session = tmp_path / "visit"
    told(run("propose", session, folder, "--proposer", folder / "finds.safetensors", "--min-ml", 0, "--json"))
    before = len(told(without_scan("show", session, "--json"))["lesions"])
    result = without_scan("drop", session, "--lesion", "1")
    assert result.exit_code == 0, result.output
    assert "`palpate session drop` is now `palpate session reject`" in result.stderr
    assert len(told(without_scan("show", session, "--json"))["lesions"]) == before - 1


def test_an_initial_mask_is_replaced(folder: Path, tmp_path: Path) -> None:
    session, painted = tmp_path / "visit", tmp_path / "mask.nii.gz"
    mask = Mask(np.ones((3, 3, 3), bool), (5, 5, 4), read(folder / "scan.nii.gz").grid)
    write(mask, painted)
    told(run("add", session, folder, "--lesion", "a", "--background", "3,3,3", "--click", "8,7,5", "--json"))
    (lesion,) = told(run("replace-initial-mask", session, folder, "--lesion", "a", "--mask", painted, "--json"))[
        "lesions"
    ]
    assert lesion["start"] is True
    predictor = quick_predictor()
    predictor.set_volume(read(folder / "scan.nii.gz"))
    prompts: list[Prompt] = [InitialMask(mask), Click((8, 7, 5)), Click((3, 3, 3), positive=False)]
    assert lesion["voxels"] == predictor.predict(prompts).mask.voxels


def test_two_lesions_of_one_name_in_an_older_session(tmp_path: Path) -> None:
    session = tmp_path / "old"
    shutil.copytree(Path(__file__).parents[1] / "session" / "data" / "journal-7501bab", session)
    refused = without_scan("accept", session, "--lesion", "liver")
    assert refused.exit_code == 2
    assert "several lesions are called 'liver', numbers 1, 4; rename one first: palpate session" in refused.stderr
    told(without_scan("rename", session, "--lesion", "4", "--to", "stroke", "--json"))
    told(without_scan("accept", session, "--lesion", "liver", "--json"))
    shown = without_scan("show", session)
    assert shown.exit_code == 0
    assert "lasso on slice y=3, " in shown.output
    assert "scribble of 1188 voxels" in shown.output


def test_what_the_overlap_rule_takes_is_printed(folder: Path, tmp_path: Path) -> None:
    session = tmp_path / "visit"
    for name in ("under", "over"):
        told(run("add", session, folder, "--lesion", name, "--click", "8,7,5", "--json"))
    result = run("replay", session, folder, "-o", tmp_path / "labels.nii.gz")
    voxels = np.count_nonzero(read(tmp_path / "labels.nii.gz").array)
    expected = f"lesion 'under' is not in the label map: other lesions cover all of its {voxels} voxels"
    assert f"warning: {expected}" in result.stderr
    said = told(run("replay", session, folder, "-o", tmp_path / "labels.nii.gz", "--overlap", "earlier", "--json"))
    assert said["overlap"] == [{"value": 2, "lost": voxels, "voxels": voxels}]
    assert said["warnings"] == [expected.replace("under", "over")]
    (tmp_path / "labels.nii.gz").write_bytes(b"of another program")
    refused = run("replay", session, folder, "-o", tmp_path / "labels.nii.gz")
    assert refused.exit_code == 2
    assert "labels.nii.gz exists, and Palpate did not write it, or an earlier version did, or" in refused.stderr
    assert run("replay", session, folder, "-o", tmp_path / "labels.nii.gz", "--overwrite").exit_code == 0


def test_another_sessions_label_map_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    first, second, out = tmp_path / "first", tmp_path / "second", tmp_path / "labels.nii.gz"
    for session, click in ((first, "8,7,5"), (second, "9,7,5")):
        told(run("add", session, folder, "--lesion", "a", "--click", click, "--json"))
    for _ in range(2):  # its own is written again
        assert run("replay", first, folder, "-o", out).exit_code == 0
    before = out.read_bytes()
    refused = run("replay", second, folder, "-o", out)
    assert refused.exit_code == 2
    assert f"{out} is another session's label map; give --overwrite to replace it, or name another" in refused.stderr
    assert out.read_bytes() == before
    assert run("replay", second, folder, "-o", out, "--overwrite").exit_code == 0


def test_proposals_come_into_a_session(folder: Path, tmp_path: Path) -> None:
    session, finds = tmp_path / "visit", folder / "finds.safetensors"
    volume = read(folder / "scan.nii.gz")
    every = Proposer(finds, CPU).propose(volume, 0.0)
    least = max(one.mask.volume_ml for one in every)  # a noisy scan has many pieces; the largest will do
    found = [one for one in every if one.mask.volume_ml >= least]
    said = told(run("propose", session, folder, "--proposer", finds, "--min-ml", least, "--json"))["lesions"]
    assert [each["score"] for each in said] == [one.score for one in found]
    assert [each["voxels"] for each in said] == [one.mask.voxels for one in found]
    assert {each["status"] for each in said} == {"proposed"}
    shown = run("replay", session, folder).output
    assert f"1 lesion 1 (proposed, no prompt, score {found[0].score:.2f}): " in shown
    out = tmp_path / "labels.nii.gz"
    assert run("replay", session, folder, "-o", out, "--overlap", "earlier").exit_code == 0
    assert np.array_equal(read(out).array == 1, found[0].mask.full())
    (one,) = told(run("add", session, folder, "--lesion", "lesion 1", "--accept", "--json"))["lesions"]
    assert one["status"] == "accepted"
    again = run("propose", session, folder, "--proposer", finds, "--min-ml", least)
    assert f"no new proposal: all {len(found)} are lesions of this session already" in again.output
    assert len(told(run("undo", session, folder, "--times", len(found) + 1, "--json"))["lesions"]) == 0
    told(run("redo", session, folder, "--json"))
    left = run("reject", session, folder, "--lesion", "1")
    assert left.output.strip().endswith("no lesion")


def test_proposals_that_are_none_or_cannot_be_made(folder: Path, tmp_path: Path) -> None:
    session = tmp_path / "visit"
    for more, message in (
        (("--proposer", folder / "model0.safetensors"), "takes prompts and proposes nothing by itself"),
        (("--proposer", folder / "none.safetensors"), "none.safetensors"),
        (
            ("--proposer", folder / "finds.safetensors", "--min-ml", "-1"),
            "a smallest volume of -1.0 mL; give 0 or more",
        ),
    ):
        refused = run("propose", session, folder, *more)
        assert refused.exit_code == 2
        assert message in refused.stderr
        assert not session.exists()
    none = run("propose", session, folder, "--proposer", folder / "blind.safetensors")
    assert none.exit_code == 0
    assert none.output.strip() == f"{session}: no proposal of 0.1 mL or more (--min-ml)"


def test_what_is_exported_is_postprocessed(folder: Path, tmp_path: Path) -> None:
    session, labels = tmp_path / "visit", tmp_path / "labels.nii.gz"
    before = told(run("add", session, folder, "--lesion", "a", "--click", "8,7,5", "--json"))["lesions"][0]["voxels"]
    done = told(run("replay", session, folder, "-o", labels, "--threshold", "0.3", "--keep", "largest", "--json"))
    assert (done["threshold"], done["keep"]) == (0.3, "largest")
    exported = np.count_nonzero(read(labels).array)
    assert done["lesions"][0]["voxels"] == exported != before
    assert told(run("replay", session, folder, "--json"))["lesions"][0]["voxels"] == before
    nothing = run("replay", session, folder, "-o", labels, "--threshold", "0.9999999", "--json")
    expected = "no probability exceeds the threshold of 1: the mask is empty"
    assert f"lesion 'a': {expected}" in told(nothing)["warnings"]
    assert [each["message"] for each in told(nothing)["lesions"][0]["mask_warnings"]] == [expected]
    alone = run("replay", session, folder, "--keep", "largest")
    assert alone.exit_code == 2
    assert "--keep: for what -o or --cohort writes" in alone.stderr


def test_defaults_of_an_export_are_not_used_where_nothing_is_exported(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tmp_path / "visit"
    before = told(run("add", session, folder, "--lesion", "a", "--click", "8,7,5", "--json"))["lesions"]
    (tmp_path / "palpate.toml").write_text(
        '[session]\nkeep = "largest"\nthreshold = 0.3\n[session.replay]\nseparate = true\npatient = "P1"\n'
    )
    monkeypatch.setenv("PALPATE_CONFIG", str(tmp_path / "palpate.toml"))
    done = told(run("replay", session, folder, "--json"))
    assert [each["voxels"] for each in done["lesions"]] == [each["voxels"] for each in before]
    assert (done["threshold"], done["keep"]) == (0.5, "all")
    assert run("replay", session, folder, "--accepted").exit_code == 2


def test_a_proposal_at_another_threshold_is_not_added_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, grid = tmp_path / "visit", read(folder / "scan.nii.gz").grid

    def propose(first: int, start: tuple[int, int, int] = (0, 0, 0)) -> Any:
        """Propose a block whose first slices are missing."""
        array = np.zeros((16, 14, 10), dtype=bool)
        array[first:10, 2:10, 2:8] = True
        mask = Mask(array, (0, 0, 0), grid).cropped()
        found = Proposal(Mask(mask.array, tuple(np.add(mask.start, start)), grid), 0.8)
        monkeypatch.setattr(Proposer, "propose", lambda *_, **__: [found])
        return run("propose", session, folder, "--proposer", folder / "finds.safetensors", "--json")

    assert len(told(propose(2))["lesions"]) == 1
    assert told(propose(2))["lesions"] == []
    assert told(propose(5))["lesions"] == [], "five eighths of it"
    assert len(told(propose(6))["lesions"]) == 1, "half of it is another"
    assert told(propose(7))["lesions"] == [], "three quarters of the second"
    assert len(told(propose(9, (3, 0, 0)))["lesions"]) == 1, "apart from both"


def test_another_model_computes_all_masks_in_a_step_that_is_shown(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tmp_path / "visit"
    for name, click in (("a", "8,7,5"), ("b", "6,8,6")):
        told(run("add", session, folder, "--lesion", name, "--click", click, "--json"))
    within: list[str] = []
    unseen: list[int] = []
    real_step, real_predict = Console.step, Predictor.predict_on

    @contextmanager
    def step(console: Console, name: str, doing: str) -> Iterator[Callable[[float], None]]:
        within.append(name)
        with real_step(console, name, doing) as progress:
            yield progress
        within.pop()

    def predict_on(predictor: Predictor, *given: Any, **more: Any) -> Any:
        unseen.extend([1] * (within != ["segment"] or more["progress"] is None))
        return real_predict(predictor, *given, **more)

    monkeypatch.setattr(Console, "step", step)
    monkeypatch.setattr(Predictor, "predict_on", predict_on)
    renamed = run("rename", session, folder, "--lesion", "a", "--to", "c", "--other-model", "--json", model=1)
    assert names(renamed) == ["c"]
    assert unseen == []
