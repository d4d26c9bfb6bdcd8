"""`palpate session picture`: one lesion or all, from the cache, with the scan from where it was."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import palpate.pictures
from palpate.cli import app
from palpate.formats import read, write
from palpate.pictures import is_own_picture
from palpate.predictor import Predictor
from palpate.prompts import Box, Click
from palpate.session import SessionStore
from small import noise_scan, quick_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A scan, a model, and a session with two lesions."""
    write(noise_scan(), tmp_path / "scan.nii.gz")
    quick_bundle().save(tmp_path / "model.safetensors")
    model = "--model", tmp_path / "model.safetensors", "--device", "cpu", "--scan", tmp_path / "scan.nii.gz"
    for lesion, prompts in (("liver1", ("--click", "8,7,5")), ("node", ("--box", "2,2,2,5,5,4", "--click", "3,3,3"))):
        made = run("add", tmp_path / "visit", "--lesion", lesion, *prompts, *model)
        assert made.exit_code == 0, made.output
    return tmp_path


def run(verb: str, *arguments: object) -> Any:
    return CliRunner().invoke(app, ["session", verb, *map(str, arguments)], catch_exceptions=False)


def refuse(result: Any, message: str) -> None:
    assert result.exit_code == 2, result.output
    assert message in result.output


def test_all_lesions_or_one_without_model_and_without_naming_the_scan(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Predictor, "__init__", None)
    before = sorted(path.name for path in (folder / "visit").rglob("*"))
    seen: list[tuple[str, Any]] = []
    several, one = palpate.pictures.lesions_picture, palpate.pictures.lesion_picture

    def lesions(volume: Any, given: Any, **more: Any) -> Any:
        seen.append(("all", [(number, name, mask.voxels) for number, name, mask in given]))
        return several(volume, given, **more)

    def lesion(volume: Any, mask: Any, prompts: Any, **more: Any) -> Any:
        seen.append((more["title"], list(prompts)))
        return one(volume, mask, prompts, **more)

    monkeypatch.setattr(palpate.pictures, "lesions_picture", lesions)
    monkeypatch.setattr(palpate.pictures, "lesion_picture", lesion)
    done = run("picture", folder / "visit", "-o", folder / "all.png")
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith(f"{folder / 'all.png'}: 1 liver1, 2 node\n")
    assert run("picture", folder / "visit", "node", "-o", folder / "node.png").exit_code == 0
    assert run("picture", folder / "visit", "1", "-o", folder / "first.svg").exit_code == 0
    for name in ("all.png", "node.png", "first.svg"):
        assert is_own_picture(folder / name)
    store = SessionStore.open(folder / "visit", read_only=True)
    voxels = [mask.voxels for each in store.lesions if (mask := store.mask(each)) is not None]
    assert seen == [
        ("all", [(1, "liver1", voxels[0]), (2, "node", voxels[1])]),
        ("lesion 2 node (open)", [Box((2, 2, 2), (5, 5, 4)), Click((3, 3, 3))]),
        ("lesion 1 liver1 (open)", [Click((8, 7, 5))]),
    ]
    assert sorted(path.name for path in (folder / "visit").rglob("*")) == before


def test_json_names_what_was_drawn(folder: Path) -> None:
    said = json.loads(run("picture", folder / "visit", "2", "-o", folder / "n.png", "--json").stdout)
    assert (said["picture"], said["lesions"]) == (str(folder / "n.png"), ["2 node"])


def test_an_initial_mask_is_the_first_prompt_drawn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = np.zeros((16, 14, 10), dtype=np.uint8)
    start[5:9, 5:9, 4:7] = 1
    scan = read(folder / "scan.nii.gz")
    write(type(scan)(start, scan.affine), folder / "start.nii.gz")
    model = "--model", folder / "model.safetensors", "--device", "cpu", "--scan", folder / "scan.nii.gz"
    changed = run(
        "replace-initial-mask", folder / "visit", "--lesion", "liver1", "--mask", folder / "start.nii.gz", *model
    )
    assert changed.exit_code == 0, changed.output
    kinds: list[str] = []
    one = palpate.pictures.lesion_picture

    def lesion(volume: Any, mask: Any, prompts: Any, **more: Any) -> Any:
        kinds.extend(prompt.kind for prompt in prompts)
        return one(volume, mask, prompts, **more)

    monkeypatch.setattr(palpate.pictures, "lesion_picture", lesion)
    done = run("picture", folder / "visit", "liver1", "-o", folder / "a.png")
    assert done.exit_code == 0, done.output
    assert kinds == ["initial_mask", "click"]


def test_prompts_have_the_numbers_of_the_session(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = "--model", folder / "model.safetensors", "--device", "cpu", "--scan", folder / "scan.nii.gz"
    for verb, *more in (
        ("add", "--lesion", "liver1", "--click", "9,7,5", *model),  # prompt 4, after 1 of liver1, and 2 and 3 of node
        ("undo",),
        ("add", "--lesion", "liver1", "--box", "2,2,2,8,9,7", *model),
    ):
        done = run(verb, folder / "visit", *more)
        assert done.exit_code == 0, done.output
    figures: list[Any] = []
    one = palpate.pictures.lesion_picture

    def lesion(*given: Any, **more: Any) -> Any:
        figures.append(one(*given, **more))
        return figures[-1]

    monkeypatch.setattr(palpate.pictures, "lesion_picture", lesion)
    drawn = run("picture", folder / "visit", "liver1", "-o", folder / "a.png", "--window", "-1,9")
    assert drawn.exit_code == 0, drawn.output
    written = {text.get_text() for axes in figures[0].axes for text in axes.texts}
    (shown, _) = json.loads(run("show", folder / "visit", "--json").stdout)["lesions"]
    numbers = [prompt["number"] for prompt in shown["prompts"]]
    assert numbers != [1, 2]
    assert {word for word in written if word.isdigit()} == set(map(str, numbers))
    assert figures[0].axes[0].images[0].get_clim() == (-1, 9)
    removed = run("remove-prompt", folder / "visit", "--lesion", "liver1", "--number", numbers[-1], *model)
    assert removed.exit_code == 0, removed.output


def test_a_mask_that_is_not_cached_is_computed(folder: Path) -> None:
    shutil.rmtree(folder / "visit" / "cache")
    told = "--model", folder / "model.safetensors", "--device", "cpu"
    done = run("picture", folder / "visit", "-o", folder / "all.png", *told)
    assert done.exit_code == 0, done.output
    assert is_own_picture(folder / "all.png")


def test_the_scan_is_the_sessions(folder: Path) -> None:
    (folder / "scan.nii.gz").rename(folder / "moved.nii.gz")
    refused = run("picture", folder / "visit", "-o", folder / "a.png")
    refuse(refused, f"its scan is no longer at {folder / 'scan.nii.gz'}; give it with --scan")
    write(noise_scan(1), folder / "other.nii.gz")
    refused = run("picture", folder / "visit", "-o", folder / "a.png", "--scan", folder / "other.nii.gz")
    refuse(refused, "was made on another scan")
    assert not (folder / "a.png").exists()
    moved = run("picture", folder / "visit", "-o", folder / "a.png", "--scan", folder / "moved.nii.gz")
    assert moved.exit_code == 0, moved.output


def test_a_relative_scan_is_found_from_another_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder)
    told = "--model", "model.safetensors", "--device", "cpu", "--scan", "scan.nii.gz"
    assert run("add", "second", "--lesion", "a", "--click", "8,7,5", *told).exit_code == 0
    assert SessionStore.open(Path("second"), read_only=True).header.scan.path == "scan.nii.gz"
    monkeypatch.chdir(folder / "elsewhere")
    done = run("picture", "../second", "-o", "a.png")
    assert done.exit_code == 0, done.output
    (folder / "scan.nii.gz").rename(folder / "moved.nii.gz")
    refused = run("picture", "../second", "-o", "a.png")
    assert refused.exit_code == 2
    assert f"no longer at {folder / 'elsewhere' / 'scan.nii.gz'} or {folder / 'scan.nii.gz'}; give it" in refused.stderr


def test_what_cannot_be_drawn_or_written(folder: Path) -> None:
    refuse(run("picture", folder / "visit", "lung", "-o", folder / "a.png"), "no lesion 'lung' in this session")
    refuse(run("picture", folder / "visit", "-o", folder / "a.gif"), "a picture's name ends in one of .png")
    refuse(run("picture", folder / "none", "-o", folder / "a.png"), "holds no session")
    (folder / "a.png").write_bytes(b"of another program")
    refuse(run("picture", folder / "visit", "-o", folder / "a.png"), "give --overwrite to replace it")
    assert (folder / "a.png").read_bytes() == b"of another program"
    assert run("picture", folder / "visit", "-o", folder / "a.png", "--overwrite").exit_code == 0
    assert run("picture", folder / "visit", "-o", folder / "a.png").exit_code == 0
    for lesion in ("liver1", "node"):
        assert run("remove", folder / "visit", "--lesion", lesion).exit_code == 0
    refuse(run("picture", folder / "visit", "-o", folder / "a.png"), "has no lesion to draw; add one first")
