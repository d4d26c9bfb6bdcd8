"""`palpate propose`: a label map and its JSON, and every mistake a user can make with it."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from palpate.bundle import without_prompt_encoder
from palpate.cli import app
from palpate.errors import OutputError
from palpate.phantom import make_phantom, write_phantom
from small import empty_bundle, small_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic scan, its truth, automatic models (of random weights, and one that sees nothing), one of prompts."""
    folder = tmp_path_factory.mktemp("auto")
    write_phantom(make_phantom(shape=(24, 25, 20), spacing=(4, 4, 5)), folder)
    without_prompt_encoder(small_bundle()).save(folder / "automatic.safetensors")
    without_prompt_encoder(empty_bundle()).save(folder / "empty.safetensors")
    small_bundle().save(folder / "prompts.safetensors")
    return folder


def propose(folder: Path, out: Path, *more: object, model: str = "automatic") -> Any:
    scan, file = folder / "synthetic_scan.nii.gz", folder / f"{model}.safetensors"
    arguments = [str(a) for a in ("propose", scan, "-o", out, "-m", file, *more)]
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_proposals_as_labels_and_as_json(folder: Path, tmp_path: Path) -> None:
    out, picture, probability = tmp_path / "found.nii.gz", tmp_path / "found.png", tmp_path / "p.nii.gz"
    done = propose(
        folder, out, "--min-ml", "0.3", "--picture", picture, "--probability", probability,
        "--truth", folder / "synthetic_lesion.nii.gz", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    record, beside = json.loads(done.stdout), json.loads((tmp_path / "found.json").read_text())
    assert beside == {name: record[name] for name in beside}
    assert record["json"] == str(tmp_path / "found.json")
    assert (record["version"], record["model"], record["least_ml"]) == (1, "small", 0.3)
    assert set(record["seconds"]) == {"read", "load", "propose", "save"}
    image = nib.load(out)
    labels, seen = np.asarray(image.dataobj), np.asarray(nib.load(probability).dataobj)
    assert labels.dtype.kind == "u"
    assert np.array_equal(image.affine, nib.load(folder / "synthetic_scan.nii.gz").affine)
    found = record["proposals"]
    assert [one["label"] for one in found] == list(range(1, len(found) + 1)) == sorted(set(np.unique(labels)) - {0})
    assert [one["score"] for one in found] == sorted((one["score"] for one in found), reverse=True)
    assert (seen[labels > 0] > 0.5).all()
    for one in found:
        piece = labels == one["label"]
        assert piece.sum() == one["voxels"]
        assert one["volume_ml"] == pytest.approx(one["voxels"] * 0.08)
        assert one["volume_ml"] >= 0.3
        assert labels[tuple(one["click"])] == one["label"], "a click to go on with lies inside"
        assert np.argwhere(piece).min(axis=0).tolist() == one["bounds"][0]
        assert np.argwhere(piece).max(axis=0).tolist() == one["bounds"][1]
        assert seen[piece].mean() == pytest.approx(one["score"], abs=1e-3)
        assert (image.affine @ [*one["click"], 1])[:3] == pytest.approx(one["click_mm"], abs=1e-3)
    truth = np.asarray(nib.load(folder / "synthetic_lesion.nii.gz").dataobj) > 0
    both = ((seen > 0.5) & truth).sum()
    assert record["dice"] == pytest.approx(2 * both / ((seen > 0.5).sum() + truth.sum()), abs=1e-3)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_what_is_printed_on_a_terminal(folder: Path, tmp_path: Path) -> None:
    done = propose(folder, tmp_path / "found.nrrd", "--min-ml", "0")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "found.json").read_text())["proposals"]
    lines = done.output.splitlines()
    assert f"found.json: {len(found)} proposal" in lines[0]
    first = found[0]
    click = ",".join(map(str, first["click"]))
    assert lines[1] == f"1: score {first['score']:.2f}, {first['volume_ml']:.2f} mL; --click {click}"
    assert len(lines) == 1 + min(len(found), 10) + (len(found) > 10)


def test_nothing_found_is_reported_and_saved(folder: Path, tmp_path: Path) -> None:
    done = propose(folder, tmp_path / "m.mha", "--picture", tmp_path / "p.png", model="empty")
    assert done.exit_code == 0, done.output
    assert "m.mha: no proposal of 0.1 mL or more (--min-ml)" in done.output
    assert json.loads((tmp_path / "m.json").read_text())["proposals"] == []
    assert (tmp_path / "m.mha").exists()
    assert (tmp_path / "p.png").exists()


@pytest.mark.parametrize(
    ("more", "model", "message"),
    [
        (("--click", "1,1,1"), "automatic", "No such option: --click"),
        (("--prompts", "p.json"), "automatic", "No such option: --prompts"),
        (("--initial-mask", "p.nii.gz"), "automatic", "No such option: --initial-mask"),
        (("--uncertainty", "u.nii.gz"), "automatic", "No such option: --uncertainty"),
        (("--no-zoom",), "automatic", "No such option: --no-zoom"),
        (("--budget", "3"), "automatic", "No such option: --budget"),
        (("--min-ml", "-1"), "automatic", "a smallest volume of -1.0 mL; give 0 or more"),
        ((), "prompts", "small: takes prompts and proposes nothing by itself; train an automatic model"),
        (("--device", "abacus"), "automatic", "try --device cpu"),
    ],
)
def test_bad_requests(folder: Path, tmp_path: Path, more: tuple[str, ...], model: str, message: str) -> None:
    done = propose(folder, tmp_path / "m.nii.gz", *more, model=model)
    assert done.exit_code == 2
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_automatic_model_and_a_click(folder: Path, tmp_path: Path) -> None:
    scan, model = str(folder / "synthetic_scan.nii.gz"), str(folder / "automatic.safetensors")
    base = ["segment", scan, "-o", str(tmp_path / "m.nii.gz"), "-m", model]
    done = CliRunner().invoke(app, [*base, "--click", "1,1,1"])
    assert done.exit_code == 2
    assert "small: an automatic model takes no prompts: use `palpate propose`" in done.stderr
    stray = CliRunner().invoke(app, [*base, "--click", "1,1,1", "--min-ml", "1"])
    assert (stray.exit_code, "No such option: --min-ml" in stray.stderr) == (2, True)
    nothing = CliRunner().invoke(app, base)
    assert "or run `palpate propose`, with an automatic model" in nothing.stderr


def test_a_place_where_no_json_can_go(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "m.json").mkdir()
    done = propose(folder, tmp_path / "m.nii.gz")
    assert done.exit_code == 2
    assert "m.json: it is a folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]


def test_a_sidecar_of_that_name_stays(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"Modality": "MR"}')
    done = propose(folder, tmp_path / "m.nii.gz", model="empty")
    assert done.exit_code == 2
    assert "m.json: the proposals would be listed there, and it holds something else" in done.stderr
    assert (tmp_path / "m.json").read_text() == '{"Modality": "MR"}'
    for _ in range(2):
        assert propose(folder, tmp_path / "ours.nii.gz", model="empty").exit_code == 0, "its own it writes again"


def test_a_late_failure_leaves_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OutputError("cannot write: no space left")

    monkeypatch.setattr("palpate.pictures.save_picture", full)
    done = propose(folder, tmp_path / "m.nii.gz", "--picture", tmp_path / "p.png")
    assert done.exit_code == 2
    assert "no space left" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_another_threshold(folder: Path, tmp_path: Path) -> None:
    out, soft = tmp_path / "found.nii.gz", tmp_path / "p.nii.gz"
    assert propose(folder, out, "--probability", soft).exit_code == 0
    probability = np.asarray(nib.load(soft).dataobj)
    threshold = float(np.quantile(probability[probability > 0.5], 0.5))
    done = propose(folder, out, "--threshold", str(threshold), "--min-ml", "0", "--json")
    assert json.loads(done.stdout)["threshold"] == threshold
    assert np.array_equal(np.asarray(nib.load(out).dataobj) > 0, probability > threshold)
    refused = propose(folder, out, "--threshold", "0")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "a threshold of 0; give a probability between 0 and 1" in refused.stderr
