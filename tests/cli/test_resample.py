"""`palpate resample`: a mask on a scan's grid."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from palpate.cli import app
from palpate.formats import read, write
from palpate.volume import Volume


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A scan of 2 mm, and a label map of 1 mm."""
    affine = np.diag([2.0, 2, 2, 1])
    write(Volume(np.zeros((10, 10, 10), np.int16), affine), tmp_path / "scan.nii.gz")
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[4:10, 4:10, 4:10] = 1
    labels[12, 12, 12] = 2
    fine = np.eye(4)
    fine[:3, 3] = -0.5
    write(Volume(labels, fine), tmp_path / "labels.nrrd")
    return tmp_path


def run(folder: Path, *words: str) -> Any:
    words = ("resample", "labels.nrrd", *words)
    return CliRunner().invoke(
        app, [str(folder / word) if "." in word and not word.startswith("-") else word for word in words]
    )


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_labels_on_the_scans_grid(folder: Path, ending: str) -> None:
    done = run(folder, "--like", "scan.nii.gz", "-o", f"out{ending}", "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["labels"] == [
        {"label": 1, "voxels_before": 216, "voxels": 27, "volume_ml_before": 0.216, "volume_ml": 0.216},
        {"label": 2, "voxels_before": 1, "voxels": 0, "volume_ml_before": 0.001, "volume_ml": 0.0},
    ]
    assert (record["type"], record["outside_voxels"]) == ("uint8", 0)
    assert record["warnings"] == [
        "nothing is left of label 2, which fills no voxel of the scan by more than half, or lies outside it"
    ]
    made = read(folder / f"out{ending}")
    assert made.grid.same_as(read(folder / "scan.nii.gz").grid)
    expected = np.zeros((10, 10, 10), np.uint8)
    expected[2:5, 2:5, 2:5] = 1
    assert np.array_equal(made.array, expected)


def test_sentences_and_a_mask_that_is_cut(folder: Path) -> None:
    write(Volume(np.zeros((4, 10, 10), np.int16), np.diag([2.0, 2, 2, 1])), folder / "part.nii.gz")
    done = run(folder, "--like", "part.nii.gz", "-o", "out.nii.gz")
    assert done.exit_code == 0, done.output
    assert "warning: the mask reaches outside the scan: 73 of its voxels (33.6%) are cut off" in done.stderr
    assert "label 1: 0.14 mL in 18 voxels; before 0.22 mL in 216" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--like", "scan.nii.gz", "-o", "labels.nrrd"), "labels.nrrd: the mask itself was read from it"),
        (("--like", "scan.nii.gz", "-o", "scan.nii.gz"), "scan.nii.gz: the scan itself was read from it"),
        (("--like", "scan.nii.gz", "-o", "out.png"), "unknown ending"),
        (("--like", "far.nii.gz", "-o", "out.nii.gz"), "labels.nrrd: the mask and the scan do not overlap"),
        (("--like", "scan.nii.gz", "-o", "out.nii.gz", "--interpolation", "cubic"), "one of linear, nearest"),
    ],
)
def test_what_cannot_be_is_one_line(folder: Path, words: tuple[str, ...], message: str) -> None:
    far = np.diag([2.0, 2, 2, 1])
    far[:3, 3] = 900
    write(Volume(np.zeros((4, 4, 4), np.int16), far), folder / "far.nii.gz")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = run(folder, *words)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
