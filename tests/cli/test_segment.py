"""The command line: the main job end to end, and every mistake a user can make."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

import palpate.pictures
from palpate.bundle import Bundle
from palpate.cli import app
from palpate.errors import OutputError
from palpate.extras import EXTRAS, how_to_install
from palpate.inference import Alternative
from palpate.lesions import connected_components
from palpate.phantom import make_phantom, write_phantom
from palpate.predictor import Prediction, Predictor
from small import empty_bundle, judging_bundle, prompted_bundle, small_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic scan, its truth, and two models: one of random weights, one that sees nothing."""
    folder = tmp_path_factory.mktemp("cli")
    write_phantom(make_phantom(shape=(48, 50, 36), spacing=(4, 4, 5)), folder)
    small_bundle().save(folder / "small.safetensors")
    empty_bundle().save(folder / "empty.safetensors")
    prompted_bundle().save(folder / "prompted.safetensors")
    return folder


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def segment(folder: Path, out: Path, *more: object, model: str = "small", click: str | None = "20,25,18") -> Any:
    clicks = () if click is None else ("--click", click)
    model_file = folder / f"{model}.safetensors"
    return run("segment", folder / "synthetic_scan.nii.gz", *clicks, "-o", out, "--model", model_file, *more)


def test_help_names_every_verb_with_examples() -> None:
    shown = run("--help").output
    verbs = "segment", "batch", "propose", "session", "info", "import", "export", "fetch", "phantom", "prepare", "train"
    for verb in (*verbs, "doctor"):
        assert verb in shown
        assert f"palpate {verb}" in run(verb, "--help").output.replace("\n", " ")
    assert "not a medical device" in shown
    assert run("--version").output.startswith("palpate 0.")


def test_the_main_job(folder: Path, tmp_path: Path) -> None:
    out, picture, probability = tmp_path / "lesion.nii.gz", tmp_path / "lesion.png", tmp_path / "p.nii.gz"
    result = segment(
        folder, out, "--picture", picture, "--probability", probability,
        "--truth", folder / "synthetic_lesion.nii.gz",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "mL" in result.output
    assert "Dice against the known mask: 0." in result.output
    scan, mask, soft = (nib.load(p) for p in (folder / "synthetic_scan.nii.gz", out, probability))
    assert mask.shape == scan.shape
    assert np.array_equal(mask.affine, scan.affine)
    assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 1}
    assert np.array_equal(np.asarray(mask.dataobj) > 0, np.asarray(soft.dataobj) > 0.5)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_json_for_machines(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "lesion.nrrd"
    result = segment(folder, out, "--click", "22,25,18", "--json")
    record = json.loads(result.stdout)
    assert [prompt["index"] for prompt in record["prompts"]] == [[20, 25, 18], [22, 25, 18]]
    assert record["mask"] == str(out)
    assert record["volume_ml"] == pytest.approx(record["voxels"] * 0.08, rel=1e-3)
    assert set(record["seconds"]) == {"read", "load", "segment", "save"}
    failed = segment(folder, out, "--json", click="99,0,0")
    assert failed.exit_code == 2
    assert json.loads(failed.stdout)["error"] == "PromptError"


def test_millimetres_and_indices_are_one_place(folder: Path, tmp_path: Path) -> None:
    affine = nib.load(folder / "synthetic_scan.nii.gz").affine
    mm = ",".join(f"{v:.3f}" for v in (affine @ [20, 25, 18, 1])[:3])
    by_index = json.loads(segment(folder, tmp_path / "a.nii.gz", "--json").stdout)
    by_mm = json.loads(segment(folder, tmp_path / "b.nii.gz", f"--click-mm={mm}", "--json", click=None).stdout)
    assert by_mm["prompts"] == by_index["prompts"]
    masks = [np.asarray(nib.load(tmp_path / f"{n}.nii.gz").dataobj) for n in "ab"]
    assert np.array_equal(masks[0], masks[1])


def test_another_mask_is_offered_and_taken_by_its_number(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model sees a long lesion in its own view, and all of the body in a wider one."""
    predict = Predictor.predict

    def offering(predictor: Predictor, *arguments: Any, **more: Any) -> Prediction:
        found = predict(predictor, *arguments, **more)
        everything = torch.ones(found.frame.size)
        return replace(found, alternatives=(Alternative(found.view, everything, 0.4, tuple(arguments[0])),))

    monkeypatch.setattr("palpate.predictor.Predictor.predict", offering)
    offered = segment(folder, tmp_path / "m.nii.gz")
    assert "another view marks" in offered.output
    assert "expected Dice 0.57: --alternative 1" in offered.output
    record = json.loads(segment(folder, tmp_path / "m.nii.gz", "--json").stdout)
    assert record["alternative"] is None
    ((volume, quality),) = [(each["volume_ml"], each["quality"]) for each in record["alternatives"]]
    assert quality == 0.4
    assert volume > record["volume_ml"]
    taken = json.loads(segment(folder, tmp_path / "a.nii.gz", "--alternative", 1, "--json").stdout)
    assert (taken["alternative"], taken["quality"]) == (1, 0.4)
    saved = np.asarray(nib.load(tmp_path / "a.nii.gz").dataobj)
    assert saved.sum() == taken["voxels"] > record["voxels"]
    two = "--click", "21,25,18"
    assert "changes:" in segment(folder, tmp_path / "c.nii.gz", *two, model="prompted").output
    told = segment(folder, tmp_path / "d.nii.gz", *two, "--alternative", 1, model="prompted")
    assert told.exit_code == 0
    assert "changes:" not in told.output, "what the click changed is not what was saved"
    refused = segment(folder, tmp_path / "b.nii.gz", "--alternative", 2)
    assert refused.exit_code == 2
    assert "no alternative 2: there are 1" in refused.output
    assert not (tmp_path / "b.nii.gz").exists()


def test_padding_is_said(folder: Path, tmp_path: Path) -> None:
    image = nib.load(folder / "synthetic_scan.nii.gz")
    values = np.asarray(image.dataobj).astype(np.int16)
    for axis in range(3):
        for face in (slice(0, 3), slice(-3, None)):
            values[(slice(None),) * axis + (face,)] = -3024
    nib.save(nib.Nifti1Image(values, image.affine), folder / "padded_scan.nii.gz")
    command = ["segment", folder / "padded_scan.nii.gz", "--click", "20,25,18", "-o", tmp_path / "a.nii.gz"]
    command += ["--model", folder / "small.safetensors", "--overwrite"]
    said = (
        "padded_scan.nii.gz: the value -3024, which fills its border, is taken for padding: it lies outside the scan; "
    )
    assert said + "--rules 1 takes it as any other value" in run(*command).stderr.replace("\n", " ")
    assert "padding" not in run(*command, "--rules", "1").stderr
    assert "padding" not in segment(folder, tmp_path / "b.nii.gz").stderr


def test_an_empty_mask_is_reported_and_saved(folder: Path, tmp_path: Path) -> None:
    result = segment(folder, tmp_path / "m.mha", "--picture", tmp_path / "p.png", model="empty", click="0,0,0")
    assert result.exit_code == 0, result.output
    assert "the mask is empty; " in result.stdout
    assert result.stderr.startswith("warning: the mask is empty: the model sees no lesion here; click nearer")
    assert (tmp_path / "m.mha").exists()
    assert (tmp_path / "p.png").exists()


def test_a_box_bounds_the_mask_or_is_a_hint(folder: Path, tmp_path: Path) -> None:
    """What lies outside is cut off, and a line and the JSON say so."""
    box = ("--box", "16,22,14,24,28,22")
    done = [
        segment(folder, tmp_path / f"{n}.nii.gz", *box, *more, "--json", model="prompted", click=None)
        for n, more in enumerate([(), ("--loose-box",)])
    ]
    tight, loose = (np.asarray(nib.load(tmp_path / f"{n}.nii.gz").dataobj) > 0 for n in range(2))
    inside = np.zeros(tight.shape, bool)
    inside[15:26, 21:30, 13:24] = True
    assert (loose & ~inside).sum() > 0.5 * loose.sum()
    assert np.array_equal(tight, loose & inside)
    for result, is_loose, words in zip(
        done, (False, True), ("lay outside the box and was cut off", "of the mask lies outside the box"), strict=True
    ):
        record = json.loads(result.stdout)
        assert record["prompts"] == [
            {"kind": "box", "first": [16, 22, 14], "last": [24, 28, 22], "loose": is_loose},
        ]
        (warning,) = [each for each in record["mask_warnings"] if each["kind"] == "beyond_box"]
        assert warning["value"] > warning["limit"]
        assert words in warning["message"]
        assert warning["message"] in record["warnings"]


def test_geometry_warnings_are_printed(folder: Path, tmp_path: Path) -> None:
    for name in ("scan", "lesion"):
        image = nib.load(folder / f"synthetic_{name}.nii.gz")
        shifted = np.array(image.affine)
        shifted[0, 3] += 30
        image.set_qform(shifted, code=1)
        nib.save(image, tmp_path / f"{name}.nii.gz")
    asked = (
        "segment", tmp_path / "scan.nii.gz", "--click", "20,25,18", "-o", tmp_path / "m.nii.gz",
        "--model", folder / "small.safetensors", "--truth", tmp_path / "lesion.nii.gz",
    )  # fmt: skip
    of_scan, of_truth = json.loads(run(*asked, "--json").stdout)["warnings"]
    assert "scan.nii.gz: the header's sform and qform differ" in of_scan
    assert "lesion.nii.gz: the header's sform and qform differ" in of_truth
    assert run(*asked).stderr.splitlines() == [f"warning: {of_scan}", f"warning: {of_truth}"]


def refuse(result: Any, message: str, *outputs: Path) -> None:
    """Exit code 2, the message, and nothing left behind."""
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split()), result.output
    for output in outputs:
        assert not output.exists()
        assert [p for p in output.parent.iterdir() if p.name.startswith(".palpate")] == []


def save_scan(path: Path, array: Any, affine: Any = None) -> Path:
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


BAD_SCANS: dict[str, tuple[Any, str]] = {
    "2-D": (np.zeros((8, 8), np.float32), "2 axes"),
    "empty": (np.zeros((0, 8, 8), np.float32), "empty"),
    "4-D": (np.zeros((8, 8, 8, 2), np.float32), "4 axes"),
    "NaN": (np.full((8, 8, 8), np.nan, np.float32), "NaN"),
    "infinity": (np.full((8, 8, 8), np.inf, np.float32), "NaN or infinite"),
}


@pytest.mark.parametrize("kind", BAD_SCANS)
def test_bad_scans(folder: Path, tmp_path: Path, kind: str) -> None:
    array, message = BAD_SCANS[kind]
    scan, out = save_scan(tmp_path / "scan.nii.gz", array), tmp_path / "m.nii.gz"
    refuse(run("segment", scan, "--click", "1,1,1", "-o", out, "-m", folder / "small.safetensors"), message, out)


@pytest.mark.parametrize("scale", [0.0, np.nan])
def test_bad_affines(folder: Path, tmp_path: Path, scale: float) -> None:
    scan, out = save_scan(tmp_path / "scan.nii", np.zeros((8, 8, 8), np.int16)), tmp_path / "m.nii.gz"
    raw = bytearray(scan.read_bytes())
    raw[280:328] = np.full(12, scale, "<f4").tobytes()  # srow_x, srow_y, srow_z
    scan.write_bytes(raw)
    refuse(run("segment", scan, "--click", "1,1,1", "-o", out, "-m", folder / "small.safetensors"), "affine", out)


def test_truncated_unknown_and_missing_files(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.nii.gz"
    whole = (folder / "synthetic_scan.nii.gz").read_bytes()
    for name, content, message in (
        ("cut.nii.gz", whole[: len(whole) // 2], "cut.nii.gz"),
        ("not.nii.gz", b"hello", "not.nii.gz"),
        ("scan.jpg", b"hello", ".nii.gz"),
    ):
        (tmp_path / name).write_bytes(content)
        refuse(run("segment", tmp_path / name, "--click", "1,1,1", "-o", out), message, out)
    refuse(run("segment", tmp_path / "none.nii.gz", "--click", "1,1,1", "-o", out), "none.nii.gz", out)


@pytest.mark.parametrize(
    ("more", "click", "message"),
    [
        ((), "48,0,0", "valid voxel indices: x 0 to 47, y 0 to 49, z 0 to 35"),
        ((), "-1,0,0", "valid voxel indices"),
        ((), "1,2", "three whole numbers, such as 120,88,45"),
        ((), "a,b,c", "three whole numbers"),
        ((), None, "Give --click X,Y,Z"),
        (("--click-mm", "1e6,0,0"), None, "lies outside the scan, which spans"),
        (("--click-mm", "nan,0,0"), None, "three numbers, such as -31.5,12,80.2"),
        (("--box-mm", "0,0,0,1e6,0,0"), None, "lies outside the scan, which spans"),
        (("--box-mm", "0,0,0"), None, "--box-mm '0,0,0': six numbers, such as"),
        (("--device", "abacus"), "1,1,1", "try --device cpu"),
        (("--precision", "float8"), "1,1,1", "not one of float32"),
        (("--base", "x.safetensors"), "1,1,1", "takes no base"),
    ],
)
def test_bad_requests(folder: Path, tmp_path: Path, more: tuple[str, ...], click: str | None, message: str) -> None:
    out = tmp_path / "m.nii.gz"
    clicks = () if click is None else (f"--click={click}",)
    refuse(segment(folder, out, *clicks, *more, click=None), message, out)


def test_bad_outputs(folder: Path, tmp_path: Path) -> None:
    refuse(segment(folder, tmp_path / "m.jpg"), ".nii.gz", tmp_path / "m.jpg")
    refuse(segment(folder, tmp_path / "none" / "m.nii.gz"), "does not exist", tmp_path / "m.nii.gz")
    out = tmp_path / "m.nii.gz"
    (tmp_path / "folder.nii").mkdir()
    refuse(segment(folder, tmp_path / "folder.nii"), "it is a folder")
    refuse(segment(folder, out, "--picture", tmp_path / "p.xyz"), ".png", out, tmp_path / "p.xyz")
    refuse(segment(folder, out, "--probability", out), "two results would go to one file", out)


@pytest.mark.parametrize("option", ["-o", "--probability", "--uncertainty"])
def test_the_scan_is_not_written_over(folder: Path, tmp_path: Path, option: str) -> None:
    scan, out = tmp_path / "scan.nii.gz", tmp_path / "m.nii.gz"
    scan.write_bytes((folder / "synthetic_scan.nii.gz").read_bytes())
    (tmp_path / "link.nii.gz").symlink_to(scan)
    before = scan.read_bytes()
    for name in ("scan.nii.gz", "link.nii.gz"):
        outputs = (option, tmp_path / name) if option == "-o" else ("-o", out, option, tmp_path / name)
        asked = ("segment", scan, "--click", "20,25,18", *outputs, "-m", folder / "small.safetensors")
        refuse(run(*asked), f"{name}: the scan itself was read from it, and would be lost; name another", out)
    assert scan.read_bytes() == before


@pytest.mark.usefixtures("as_ordinary_user")
def test_a_folder_without_permission(public_folder: Path) -> None:
    """It is asked before the scan is read: this scan does not even exist."""
    public_folder.chmod(0o555)
    out = public_folder / "m.nii.gz"
    refuse(run("segment", "none.nii.gz", "--click", "1,1,1", "-o", out), "no permission in", out)


def test_the_truth_is_not_written_over(folder: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.nii.gz"
    before = truth.write_bytes((folder / "synthetic_lesion.nii.gz").read_bytes())
    done = segment(folder, truth, "--truth", truth)
    assert done.exit_code == 2
    assert "it is the --truth to compare with, and would be lost; name another" in " ".join(done.stderr.split())
    assert truth.stat().st_size == before


def test_what_prompts_are_read_from_is_not_written_over(folder: Path, tmp_path: Path) -> None:
    mask, listed = tmp_path / "mask.nii.gz", tmp_path / "prompts.json"
    before = (folder / "synthetic_lesion.nii.gz").read_bytes()
    mask.write_bytes(before)
    listed.write_text('{"version": 1, "prompts": [{"kind": "prior", "mask": "mask.nii.gz"}]}')
    for more in (("--initial-mask", mask), ("--scribble", mask), ("--prompts", listed)):
        done = segment(folder, mask, *more)
        assert done.exit_code == 2
        assert "prompts are read from it, and it would be lost; name another" in " ".join(done.stderr.split())
    assert mask.read_bytes() == before


def test_a_truth_whose_header_is_rounded_is_drawn_too(folder: Path, tmp_path: Path) -> None:
    """What is near enough to be compared with is near enough for the picture, which is saved last."""
    known = nib.load(folder / "synthetic_lesion.nii.gz")
    affine = known.affine.copy()
    affine[:3, 3] += 0.005 * 4
    nib.save(nib.Nifti1Image(np.asarray(known.dataobj), affine), tmp_path / "truth.nii.gz")
    out, picture = tmp_path / "m.nii.gz", tmp_path / "p.png"
    result = segment(folder, out, "--truth", tmp_path / "truth.nii.gz", "--picture", picture)
    assert result.exit_code == 0, result.output
    assert out.exists()
    assert picture.exists()


def test_a_truth_on_another_grid(folder: Path, tmp_path: Path) -> None:
    truth, out = save_scan(tmp_path / "truth.nii.gz", np.ones((8, 8, 8), np.uint8)), tmp_path / "m.nii.gz"
    done = segment(folder, out, "--truth", truth)
    refuse(done, "not on the scan's grid", out)
    scan = folder / "synthetic_scan.nii.gz"
    assert f"first run palpate resample {truth} --like {scan} -o truth_on_scan.nii.gz" in done.stderr


def test_a_truth_that_is_no_mask(folder: Path, tmp_path: Path) -> None:
    scan, truth, out = folder / "synthetic_scan.nii.gz", tmp_path / "truth.nii.gz", tmp_path / "m.nii.gz"
    values = np.unique(np.asarray(nib.load(scan).dataobj)).size
    refuse(segment(folder, out, "--truth", scan), f"holds {values:,} different values, so it is no mask", out)
    known = nib.load(folder / "synthetic_lesion.nii.gz")
    lesion = np.asarray(known.dataobj)
    nib.save(nib.Nifti1Image(lesion.astype(np.float32) * 0.9, known.affine), truth)
    refuse(segment(folder, out, "--truth", truth), "2 different values, fractions among them, so it is no mask", out)
    for lesion_value in (1.0, 1000.0):  # masks as floats, and with large values
        nib.save(nib.Nifti1Image((lesion > 0).astype(np.float32) * lesion_value, known.affine), truth)
        assert segment(folder, out, "--truth", truth, "--overwrite").exit_code == 0


@pytest.mark.parametrize("name", ["m.nii.gz", "m.nrrd", "m.mhd"])
def test_a_file_of_others_is_replaced_only_when_asked(folder: Path, tmp_path: Path, name: str) -> None:
    """Its own results Palpate writes again; a mask that was mended by hand is no longer its own."""
    out = tmp_path / name
    assert segment(folder, out).exit_code == 0
    assert segment(folder, out).exit_code == 0
    image = SimpleITK.ReadImage(str(out))  # and its header's texts, which it writes again
    image[0, 0, 0] = 1 - image[0, 0, 0]
    SimpleITK.WriteImage(image, str(out), useCompression=True)
    mended = out.read_bytes()
    for option in ("--probability", "--uncertainty"):
        refuse(segment(folder, tmp_path / f"x{name}", option, out), f"{name} exists, and Palpate did not write it, or")
    refuse(segment(folder, out), f"{name} exists, and Palpate did not write it, or an earlier version did, or")
    assert out.read_bytes() == mended
    assert segment(folder, out, "--overwrite").exit_code == 0
    assert segment(folder, out).exit_code == 0


@pytest.mark.parametrize("ending", [".png", ".jpg", ".pdf", ".svg"])
def test_a_picture_of_others_is_replaced_only_when_asked(folder: Path, tmp_path: Path, ending: str) -> None:
    out, picture = tmp_path / "m.nii.gz", tmp_path / f"p{ending}"
    picture.write_bytes(b"of another program")
    refused = segment(folder, out, "--picture", picture)
    refuse(refused, f"p{ending} exists, and Palpate did not write it, or an earlier version did; give --overwrite", out)
    assert picture.read_bytes() == b"of another program"
    for more in ("--overwrite",), ():
        assert segment(folder, out, "--picture", picture, *more).exit_code == 0


def test_a_picture_is_given_every_prompt_the_unit_and_the_window(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[str], str | None, Any]] = []
    real = palpate.pictures.lesion_picture

    def picture(volume: Any, mask: Any, prompts: Any, **more: Any) -> Any:
        seen.append(([f"{prompt.kind} {prompt.positive}" for prompt in prompts], more["unit"], more["window"]))
        return real(volume, mask, prompts, **more)

    monkeypatch.setattr(palpate.pictures, "lesion_picture", picture)
    more = "--background", "30,25,18", "--box", "15,20,14,26,30,22", "--picture", tmp_path / "p.png"
    look = "--unit", "SUV", "--window", "-1,7.5"
    done = segment(folder, tmp_path / "m.nii.gz", *more, *look, model="prompted")
    assert done.exit_code == 0, done.output
    ((kinds, unit, window),) = seen
    assert sorted(kinds) == ["box True", "click False", "click True"]
    assert (unit, window) == ("SUV", (-1, 7.5))
    alone = segment(folder, tmp_path / "n.nii.gz", "--unit", "SUV")
    refuse(alone, "--unit SUV: for a picture; give --picture too, or leave it out", tmp_path / "n.nii.gz")
    alone = segment(folder, tmp_path / "n.nii.gz", *look)
    refuse(alone, "--unit SUV, --window -1,7.5: for a picture; give --picture too", tmp_path / "n.nii.gz")


@pytest.mark.parametrize("typed", ["240", "a,b", "1,2,3", "", "240,-160", "5,5", "nan,3", "0,inf"])
def test_a_window_that_is_none(folder: Path, tmp_path: Path, typed: str) -> None:
    picture = tmp_path / "p.png"
    refused = segment(folder, tmp_path / "m.nii.gz", "--picture", picture, f"--window={typed}")
    refuse(refused, f"--window {typed}: ", tmp_path / "m.nii.gz")
    assert "give two" in refused.stderr
    assert not picture.exists()


def test_defaults_of_pictures_wait_for_one(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("palpate.toml").write_text('[segment]\nunit = "SUV"\nwindow = "0,7"\n')
    assert segment(folder, tmp_path / "m.nii.gz").exit_code == 0


def test_a_phantom_replaces_no_scan_of_others(tmp_path: Path) -> None:
    for name in "synthetic_scan.nii.gz", "synthetic_lesion.nii.gz":
        assert run("phantom", tmp_path, "--overwrite").exit_code == 0
        assert run("phantom", tmp_path, "--seed", "1").exit_code == 0, "its own"
        (tmp_path / name).write_bytes(b"of another program")
        refuse(run("phantom", tmp_path), f"{name} exists, and Palpate did not write it, or an earlier version did")
        assert (tmp_path / name).read_bytes() == b"of another program"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits the size of files, as POSIX knows it")
def test_a_full_disk_leaves_the_old_file(folder: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: the write fails where it would on a full one."""
    out = tmp_path / "m.nii.gz"
    out.write_bytes(b"old")
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64)); from palpate.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "segment", str(folder / "synthetic_scan.nii.gz"), "--click", "20,25,18"]
    command += ["-o", str(out), "--overwrite", "--model", str(folder / "small.safetensors")]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 2, said.stderr
    assert "cannot write" in said.stderr
    assert out.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["m.nii.gz"]


def test_a_late_failure_leaves_nothing_new(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up between the mask and the picture: the caller sees exit code 2, and no half of a result."""

    def full(*_: object) -> None:
        raise OutputError("cannot write: no space left")

    monkeypatch.setattr("palpate.pictures.save_picture", full)
    out, old = tmp_path / "m.nii.gz", tmp_path / "p.nii.gz"
    old.write_bytes(b"old")
    result = segment(folder, out, "--probability", old, "--picture", tmp_path / "p.png", "--overwrite")
    refuse(result, "no space left", out, tmp_path / "p.png")
    assert old.exists(), "what was there before is not taken away"
    refuse(segment(folder, tmp_path / "m.mhd", "--picture", tmp_path / "p.png"), "no space left", tmp_path / "m.mhd")
    assert not (tmp_path / "m.zraw").exists(), "nor are a header's voxels left without it"


class Attack:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (str(self.mark),))


def test_bad_models(folder: Path, tmp_path: Path) -> None:
    out, mark = tmp_path / "m.nii.gz", tmp_path / "mark"
    (tmp_path / "evil.safetensors").write_bytes(pickle.dumps(Attack(mark)))
    torch.save({"state": Attack(mark)}, tmp_path / "evil.pth")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    scan = folder / "synthetic_scan.nii.gz"
    for name, message in (
        ("none", "neither a file nor a bundled name"),
        (tmp_path / "evil.safetensors", "not a Palpate model"),
        (tmp_path / "foreign.safetensors", "palpate import"),
    ):
        refuse(run("segment", scan, "--click", "20,25,18", "-o", out, "--model", name), message, out)
        refuse(run("info", name), message)
    imported = tmp_path / "evil.out.safetensors"
    refuse(run("import", tmp_path / "evil.pth", "-o", imported), "would run code", imported)
    refuse(run("import", tmp_path / "evil.pth", "-o", tmp_path / "x.pth"), "ends in .safetensors")
    assert not mark.exists()


def test_info(folder: Path) -> None:
    shown = run("info", folder / "small.safetensors", "--all").output
    for part in ("parameters", "crop", "normalisation", "origin: a test", "width: 48"):
        assert part in shown
    brief = run("info", folder / "small.safetensors").output
    for part in (
        "small, ",
        "parameters",
        "prompts: foreground clicks",
        "crop: 32 x 32 x 32",
        "origin: a test",
        "--all",
    ):
        assert part in brief
    screen = run("info", "palpate-tiny").output
    assert len(screen.splitlines()) <= 24
    assert max(map(len, screen.splitlines())) <= 100
    assert "prompts: clicks, boxes, strokes, lassos and initial masks" in screen
    assert json.loads(run("info", folder / "small.safetensors", "--json").output)["name"] == "small"


def test_phantom(tmp_path: Path) -> None:
    result = run("phantom", tmp_path / "demo", "--seed", "1", "--site", "lung", "--diameter", "20", "--json")
    record = json.loads(result.output)
    lesion = np.asarray(nib.load(record["lesion"]).dataobj)
    assert lesion[tuple(record["click"])] == 1
    assert record["synthetic"]
    refuse(run("phantom", tmp_path / "demo", "--site", "brain"), "brain")


def test_everything_a_user_can_point_with(folder: Path, tmp_path: Path) -> None:
    """From options and from a file: the same prompts in the same order, the same mask."""
    scan, lesion = nib.load(folder / "synthetic_scan.nii.gz"), tmp_path / "before.nii.gz"
    before = np.zeros(scan.shape, np.uint8)
    before[19:22, 24:27, 17:20] = 1
    nib.save(nib.Nifti1Image(before, scan.affine), lesion)
    one, two = tmp_path / "one.nii.gz", tmp_path / "two.nii.gz"
    options = (
        "--initial-mask", lesion, "--box", "18,23,16,22,27,20", "--scribble", "19,25,18:21,25,18",
        "--scribble", "not:18,22,18:18,23,18", "--lasso", "z=18:18.5,23.5:21.5,23.5:20,27.5",
        "--background", "19,21,18",
    )  # fmt: skip
    first = segment(folder, one, *options, "--json", model="prompted")
    assert first.exit_code == 0, first.output
    told = json.loads(first.stdout)["prompts"]
    assert [prompt["kind"] for prompt in told] == ["prior", "box", "scribble", "lasso", "click", "scribble", "click"]
    assert [prompt.get("positive", True) for prompt in told] == [True, True, True, True, True, False, False]
    entries = [
        {"kind": "prior", "mask": str(lesion)},
        {"kind": "box", "first": [18, 23, 16], "last": [22, 27, 20]},
        {"kind": "scribble", "along": [[19, 25, 18], [21, 25, 18]]},
        {"kind": "lasso", "axis": 2, "slice": 18, "outline": [[18.5, 23.5], [21.5, 23.5], [20, 27.5]]},
        {"kind": "click", "index": [20, 25, 18]},
        {"kind": "scribble", "along": [[18, 22, 18], [18, 23, 18]], "positive": False},
        {"kind": "click", "index": [19, 21, 18], "positive": False},
    ]
    (tmp_path / "prompts.json").write_text(json.dumps({"version": 1, "prompts": entries}))
    second = segment(folder, two, "--prompts", tmp_path / "prompts.json", model="prompted", click=None)
    assert second.exit_code == 0, second.output
    assert one.read_bytes() == two.read_bytes()


def test_several_masks_and_files_are_all_taken(folder: Path, tmp_path: Path) -> None:
    scan = nib.load(folder / "synthetic_scan.nii.gz")
    files: list[object] = []
    priors: list[object] = []
    for number in (1, 2):
        mask, listed = tmp_path / f"{number}.nii.gz", tmp_path / f"{number}.json"
        array = np.zeros(scan.shape, np.uint8)
        array[19:22, 24:27, 17 : 18 + number] = 1
        nib.save(nib.Nifti1Image(array, scan.affine), mask)
        listed.write_text(f'{{"version": 1, "prompts": [{{"kind": "click", "index": [20, 25, {17 + number}]}}]}}')
        priors += ["--initial-mask", mask]
        files += ["--prompts", listed]
    done = segment(folder, tmp_path / "m.nii.gz", *priors, *files, "--json", model="prompted", click=None)
    told = json.loads(done.stdout)["prompts"]
    assert [prompt["kind"] for prompt in told] == ["click", "click", "prior", "prior"]
    assert [prompt["index"][2] for prompt in told[:2]] == [18, 19]
    kept = segment(folder, tmp_path / "2.nii.gz", *priors, model="prompted", click=None)
    assert kept.exit_code == 2
    assert "2.nii.gz" in kept.stderr


def test_a_painted_mask_is_a_stroke(folder: Path, tmp_path: Path) -> None:
    lesion = folder / "synthetic_lesion.nii.gz"
    done = segment(folder, tmp_path / "m.nii.gz", "--scribble", lesion, "--json", model="prompted", click=None)
    (prompt,) = json.loads(done.stdout)["prompts"]
    assert prompt["voxels"] == np.count_nonzero(np.asarray(nib.load(lesion).dataobj))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--background", "15,20,18"), "the model 'small' takes foreground clicks only"),
        (("--box", "1,2,3"), "--box '1,2,3': six whole numbers"),
        (("--box", "0,0,0,99,9,9"), "box (99, 9, 9) lies outside the scan"),
        (("--scribble", "1,2"), "--scribble '1,2': three whole numbers"),
        (("--lasso", "q=1:1,1:2,2:3,1"), "a slice and at least three corners"),
        (("--lasso", "z=18:1,1:2,x:3,1"), "--lasso '2,x': two numbers"),
        (("--initial-mask", "gone.nii.gz"), "gone.nii.gz: no such file"),
        (("--initial-mask", ""), "--initial-mask names no mask; give its path"),
        (("--scribble", "painted.npy"), "a stroke's .npy is named in a file of prompts"),
        (("--prompts", "gone.json"), "gone.json: cannot be read"),
        (("--background", "20,25,18"), "voxel (20, 25, 18) has a foreground and a background prompt"),
    ],
)
def test_prompts_that_cannot_be_followed(folder: Path, tmp_path: Path, options: tuple[str, str], message: str) -> None:
    done = segment(folder, tmp_path / "m.nii.gz", *options)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "m.nii.gz").exists()


def test_zoom_confidence_and_what_it_took(folder: Path, tmp_path: Path) -> None:
    """By the earlier rules, in which a model of random weights widens its field; with --no-zoom it does not."""
    bundle = judging_bundle()
    zooming = bundle.preprocessing.model_copy(update={"zoom": (0.5, 4.0), "crop": (16, 16, 16)})
    Bundle(bundle.network, zooming, bundle.provenance).save(folder / "judging.safetensors")
    records: dict[tuple[object, ...], dict[str, Any]] = {}
    for options in (("--budget", 500), ("--no-zoom",), ("--budget", 0)):
        doubt = tmp_path / f"doubt{len(records)}.nii.gz"
        out = tmp_path / f"out{len(records)}.nii.gz"
        result = segment(folder, out, "--uncertainty", doubt, "--json", "--rules", 1, *options, model="judging")
        records[options] = json.loads(result.stdout)
        bits = np.asarray(nib.load(doubt).dataobj)
        assert 0 <= bits.min() < bits.max() <= 1
    assert all(0 < record["quality"] < 1 for record in records.values())
    assert (records["--no-zoom",]["scale"], records["--no-zoom",]["crops"]) == (1, 1)
    assert records["--budget", 500]["scale"] > 1
    assert records["--budget", 500]["crops"] > records["--budget", 0]["crops"] > 1
    told = segment(folder, tmp_path / "out.nii.gz", "--rules", 1, "--budget", 0, model="judging").output
    expected = records["--budget", 0]["quality"]
    assert f"expected Dice {2 * expected / (1 + expected):.2f}" in told
    same = segment(folder, tmp_path / "a.nii.gz", "--uncertainty", tmp_path / "a.nii.gz", model="judging")
    assert same.exit_code == 2
    assert "two results would go to one file" in same.output


def test_the_base_install_segments_and_a_picture_names_what_is_missing(folder: Path, tmp_path: Path) -> None:
    missing = [package.partition(".")[0] for packages in EXTRAS.values() for package in packages]
    code = f"import sys; sys.modules.update(dict.fromkeys({missing})); from palpate.cli import main; main()"
    base = [sys.executable, "-c", code, "segment", str(folder / "synthetic_scan.nii.gz"), "--click", "20,25,18"]
    base += ["--model", str(folder / "small.safetensors"), "-o", str(tmp_path / "m.nii.gz")]
    done = subprocess.run(base, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    drawn = subprocess.run([*base, "--picture", str(tmp_path / "p.png")], capture_output=True, text=True, check=False)
    assert drawn.returncode == 2
    assert "pictures need the package matplotlib, which is not installed" in drawn.stderr
    assert how_to_install("pictures") in drawn.stderr


def test_a_threshold_and_the_parts_that_stay(folder: Path, tmp_path: Path) -> None:
    soft, out = tmp_path / "p.nii.gz", tmp_path / "m.nii.gz"
    plain = json.loads(segment(folder, out, "--probability", soft, "--json").stdout)
    assert (plain["threshold"], plain["keep"]) == (0.5, "all")
    probability = np.asarray(nib.load(soft).dataobj)
    threshold = float(np.quantile(probability[probability > 0.5], 0.6))
    raised = json.loads(segment(folder, out, "--threshold", threshold, "--json").stdout)
    assert raised["threshold"] == threshold
    assert 0 < raised["voxels"] == int((probability > threshold).sum()) < plain["voxels"]
    assert np.array_equal(np.asarray(nib.load(out).dataobj) > 0, probability > threshold)
    largest = json.loads(segment(folder, out, "--threshold", threshold, "--keep", "largest", "--json").stdout)
    sizes = [int(part.inside.sum()) for part in connected_components(probability > threshold)]
    assert len(sizes) > 1
    assert (largest["voxels"], largest["keep"]) == (max(sizes), "largest")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--threshold", "1.5"), "a threshold of 1.5; give a probability between 0 and 1"),
        (("--keep", "biggest"), "keep 'biggest': one of all, largest, clicked"),
    ],
)
def test_postprocessing_that_there_is_not(folder: Path, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    done = segment(folder, tmp_path / "m.nii.gz", *words)
    assert (done.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert message in done.stderr


def test_nothing_left_of_a_mask_is_warned_of(folder: Path, tmp_path: Path) -> None:
    done = segment(folder, tmp_path / "m.nii.gz", "--threshold", "0.9999999", "--json")
    assert done.exit_code == 0
    expected = "no probability exceeds the threshold of 1: the mask is empty"
    record = json.loads(done.stdout)
    assert expected in record["warnings"]
    assert [(each["kind"], each["message"]) for each in record["mask_warnings"]] == [("empty", expected)]


def test_warnings_are_those_of_the_mask_that_is_saved(folder: Path, tmp_path: Path) -> None:
    """The share of a mask that lies outside a loose box is that of the mask with its threshold."""
    soft, out = tmp_path / "p.nii.gz", tmp_path / "m.nii.gz"
    box = ("--box", "16,22,14,24,28,22", "--loose-box", "--probability", soft, "--json")
    segment(folder, out, *box, model="prompted", click=None)
    probability = np.asarray(nib.load(soft).dataobj)
    for share in (0.2, 0.4):
        threshold = float(np.quantile(probability[probability > 0.5], share))
        done = segment(folder, out, *box, "--threshold", threshold, "--overwrite", model="prompted", click=None)
        mask = np.asarray(nib.load(out).dataobj) > 0
        outside = 1 - np.count_nonzero(mask[16:25, 22:29, 14:23]) / np.count_nonzero(mask)
        (warning,) = [each for each in json.loads(done.stdout)["mask_warnings"] if each["kind"] == "beyond_box"]
        assert warning["value"] == pytest.approx(outside)
