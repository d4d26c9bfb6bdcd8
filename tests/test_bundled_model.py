"""palpate-tiny on real scans that it never trained on, and on DICOM as on NIfTI."""

import importlib.util
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import palpate
from palpate.evaluation import corrected, dice, one_click
from palpate.inference import InferenceSettings
from palpate.phantom import make_phantom
from small import CPU

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def predictor() -> palpate.Predictor:
    return palpate.Predictor("palpate-tiny", CPU)


def tiny_figures() -> Any:
    """The script's module of figures."""
    return sys.modules["tiny_figures"]


@pytest.fixture(scope="module", autouse=True)
def script() -> Any:
    """The training script, for its split."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("train_tiny", ROOT / "benchmarks" / "train_tiny.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(str(ROOT / "benchmarks"))
    return module


def test_it_says_what_it_is() -> None:
    bundle = palpate.load("palpate-tiny")
    provenance = bundle.provenance
    assert provenance.licence == "CC BY-SA 4.0"
    assert "not a medical device" in provenance.notice
    assert len(provenance.data) == 3
    assert bundle.network.config.dense_width == 16
    assert bundle.preprocessing.zoom == (0.5, 8.0)
    assert bundle.calibration.measured["predictions"] > 100


def test_its_figures_are_all_that_hold(script: Any) -> None:
    """Each has its line in the ledger, and what holds by the ledger is in the file, as version 0.1.0 wrote it."""
    bundle = palpate.load("palpate-tiny")
    assert isinstance(bundle.provenance.figures, dict)
    written = tiny_figures().records_of_mapping(bundle.provenance.figures)
    assert len(written) > 100
    holding = tiny_figures().holding(script.uses_of(bundle.sha256(), script.LEDGER))
    assert set(written) == set(holding)
    assert len(written) == len(holding)


def test_which_figures_hold() -> None:
    """Those of the last answers, and of earlier ones that are equal, but for what changed; and no fewer seeds."""

    def use(code: str, kind: str, cohort: str, dice: float, *seeds: int) -> dict[str, Any]:
        row = {"after 1": [dice, 0.0, 1.0]}
        return {"code": code, "part": "test", "seeds": list(seeds), "corrections": {kind: {cohort: row}}}

    figures = tiny_figures()
    now = figures.FigureRecord(
        subset="test",
        protocol="native grid: a simulated user, first a lasso, then correcting clicks",
        seeds=(0,),
        cohort="one",
        metric="Dice after 1 prompt",
        value=0.7,
    )
    uses: list[dict[str, Any]] = [
        use("a", "click", "one", 0.1, 0),
        use("b", "click", "one", 0.2, 0),
        use("b", "box", "one", 0.3, 0),
        use("b", "prior", "two", 0.4, 0, 1),
        {"code": "c", "same as": "b", "but": ["box"]},
        use("c", "box", "one", 0.5, 1, 2),
        use("b", "click", "one", 0.6, 0, 1),
    ]

    def values(lines: list[dict[str, Any]]) -> set[tuple[str, str, tuple[int, ...], float]]:
        found = figures.holding(lines)
        firsts = [record.protocol.partition("first a")[2].partition(",")[0] for record in found]
        return {(first, r.cohort, r.seeds, r.value) for first, r in zip(firsts, found, strict=True)}

    both = {(" click", "one", (0, 1), 0.6), ("n initial mask", "two", (0, 1), 0.4)}
    assert values(uses) == both | {(" box", "one", (1, 2), 0.5)}
    before = values(uses[:4])
    assert {(" box", "one", (0,), 0.3), (" click", "one", (0,), 0.2)} <= before
    assert values([]) == set()
    later: list[dict[str, Any]] = [
        {"answers": "d", "same as": "c", "but": []},
        {"answers": "d", "first_prompt": "lasso", "figures": [now.model_dump(mode="json")]},
    ]
    assert values(uses + later) == values(uses) | {(" lasso", "one", (0,), 0.7)}
    other = {**later[1], "answers": "e"}
    assert values([*uses, *later, other]) == {(" lasso", "one", (0,), 0.7)}, "other answers, other figures"


def test_answers_of_the_version_before_are_known_by_their_code() -> None:
    """Its kinds of prompt are translated; the digest is of the keys and the masks' hashes."""
    figures = tiny_figures()
    old = {"code": "c0de", "answers": {"prior, a, zoom": ["x"], "click, a, zoom": ["y"]}}
    new = {"answers": {"click, a, zoom": ["y"], "initial mask, a, zoom": ["x"]}}
    assert figures.answers_of(old) == figures.answers_of(new)
    assert figures.origin_of(old) == "c0de"
    assert figures.origin_of(new) == figures.digest(figures.answers_of(old))
    assert figures.origin_of({"answers": {"click, a, zoom": ["z"]}}) != figures.origin_of(new)


@pytest.mark.slow
def test_corrections_on_validation_patients(data: Path, predictor: palpate.Predictor, script: Any) -> None:
    """The first twelve hippocampi: each further prompt helps on average, and clicks come out as they were said."""
    scans = islice(script.scans_of(data, "hippocampus", "validation"), 12)
    results = list(corrected(predictor, scans, 5))
    means = np.mean([result.dice for result in results], axis=0)
    assert means[0] > 0.86
    assert means[4] > 0.87
    assert np.mean([step.followed for result in results for step in result.effects]) > 0.9


@pytest.mark.slow
def test_zoom_on_a_validation_patients_large_tumour(data: Path, script: Any) -> None:
    """STS_016, T1, 609 mL: one click with and without zoom."""
    scans = [scan for scan in script.scans_of(data, "sarcoma", "validation") if scan.name.startswith("STS_016_MR")]
    with_zoom, without = (
        next(one_click(palpate.Predictor("palpate-tiny", InferenceSettings(device="cpu", zoom=zoom)), scans)).dice
        for zoom in (True, False)
    )
    assert with_zoom > without + 0.15


def test_it_finds_a_synthetic_lesion(predictor: palpate.Predictor) -> None:
    """A whole trunk around a nodule, where the first training drew a mass: it took a full crop for a large lesion."""
    made = make_phantom(site="lung")
    predictor.set_volume(made.volume)
    assert dice(predictor.predict([made.click]).mask.full(), made.lesion.full()) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("cohort", "scans", "least"), [("hippocampus", 12, 0.84), ("lung_nodules", 40, 0.70)])
def test_validation_patients(
    data: Path, predictor: palpate.Predictor, script: Any, cohort: str, scans: int, least: float
) -> None:
    """The test split is for figures, each use of it recorded; tests use validation."""
    results = list(one_click(predictor, islice(script.scans_of(data, cohort, "validation"), scans)))
    assert len(results) == scans
    assert np.mean([result.dice for result in results]) > least


@pytest.mark.slow
@pytest.mark.parametrize("patient", ["STS_002", "STS_008", "STS_019"])
@pytest.mark.parametrize("modality", ["CT", "MR_T1", "PET"])
def test_dicom_and_nifti_give_one_mask(data: Path, predictor: palpate.Predictor, patient: str, modality: str) -> None:
    slices = palpate.read(data / "dicom" / patient / modality / "image")
    twin = palpate.read(data / "sarcoma" / "imagesTr" / f"{patient}_{modality}.nii.gz")
    lesion = palpate.read(data / "sarcoma" / "labelsTr" / f"{patient}_{modality}.nii.gz").array > 0
    assert slices.grid.same_as(twin.grid, tolerance=1e-2)
    places = np.argwhere(lesion)
    mm = twin.grid.to_mm(places[len(places) // 2]).tolist()
    masks = []
    for volume in (slices, twin):
        predictor.set_volume(volume)
        masks.append(predictor.predict([palpate.Click.at_mm(volume.grid, mm)]).mask.full())
    assert masks[0].any()
    # Affines differ by float32's rounding, so a voxel whose probability is 0.5 to five digits may fall either way.
    assert np.count_nonzero(masks[0] != masks[1]) <= 1e-4 * np.count_nonzero(masks[1]) + 1


@pytest.mark.slow
def test_the_demo_runs_from_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "demo.py"), "--folder", str(tmp_path / "demo")]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "synthetic scan" in said.stdout
    assert "Dice against the known mask" in said.stdout
    assert (tmp_path / "demo" / "lesion.nii.gz").exists()
    assert (tmp_path / "demo" / "lesion.png").exists()
    own = str(tmp_path / "demo" / "synthetic_scan.nii.gz")
    subprocess.run([*command, "--scan", own, "--click", "40,60,40"], capture_output=True, check=True)
    alone = subprocess.run([*command, "--scan", own], capture_output=True, text=True, check=False)
    assert alone.returncode == 2
    assert "needs a click" in alone.stderr
