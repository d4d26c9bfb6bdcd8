"""A model without prompts, trained from a preset and a model with them, to a file that proposes."""

import json
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from palpate.automatic import Proposer
from palpate.bundle import load
from palpate.cohort import Split
from palpate.cohort.prepare import prepare
from palpate.cohort.prepared import PreparedCohort
from palpate.cohort.sampling import DRAWING
from palpate.errors import SettingsError
from palpate.evaluation import automatic
from palpate.frame import CropPercentiles, Preprocessing
from palpate.training.cost import estimate_cost
from palpate.training.launch import Changes, new, resumed
from palpate.training.preset import starting_from_nothing
from palpate.training.run import Run
from small import CPU, prompted_bundle, small_cohort

SPLIT = Split(train=("scan_0", "scan_1"), validation=("scan_2",), test=("scan_3",))
COARSE = Preprocessing(crop=(32, 32, 32), spacing=(5.0, 5.0, 5.0), normalisation=CropPercentiles())


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> PreparedCohort:
    folder = tmp_path_factory.mktemp("automatic")
    return prepare(small_cohort(folder, 4), folder / "prepared", workers=1)


def started(cohort: PreparedCohort, place: Path, messages: list[str]) -> Run:
    """As `palpate train --automatic --init base.safetensors` begins it."""
    prompted_bundle().save(place / "base.safetensors")
    preset = starting_from_nothing("finder", (), COARSE, SPLIT).with_recipe(
        batch=1, warmup=0, precision="float32", ema_decay=0.0
    )
    preset.write(place / "preset.yaml")
    changes = Changes(automatic=True, init=str(place / "base.safetensors"), steps=4, num_validations=2)
    accelerator = Accelerator(cpu=True)
    return new(
        [cohort.folder], str(place / "preset.yaml"), changes, place / "run", None, accelerator, 0, messages.append
    )


def test_from_a_preset_to_proposals(cohort: PreparedCohort, tmp_path: Path) -> None:
    messages: list[str] = []
    run = started(cohort, tmp_path, messages)
    assert messages[0].startswith(f"{tmp_path / 'base.safetensors'}: Made automatic: ")
    assert messages[0].endswith("tensors of its prompts were dropped.")
    before = {name: p.detach().clone() for name, p in run.trainer.tuned.items()}
    outcome = run.train()
    assert (outcome.why, outcome.step) == ("finished", 4)
    assert all(not torch.equal(before[name], p) for name, p in run.trainer.tuned.items() if name.endswith("weight"))
    assert outcome.best is not None
    assert outcome.test is not None
    bundle = load(tmp_path / "run" / "best.safetensors")
    assert isinstance(bundle.provenance.figures, tuple)
    assert [figure.title for figure in bundle.provenance.figures] == [
        "validation patients, no prompt, all above 0.5 in the whole scan, native grid "
        f"(step {outcome.best['step']}; chose these weights)",
        "test patients, no prompt, all above 0.5 in the whole scan, native grid (use number 1 of these test patients)",
    ]
    assert (outcome.test["scans"], outcome.test["patients"]) == (1, 1)
    assert ": base.safetensors, automatic, tuning full, 2 scans of 2 patients" in bundle.provenance.origin
    assert bundle.provenance.recipe["started from"] == "a test"
    assert bundle.provenance.notice.startswith("Proposes lesions by itself: it misses some")
    assert (tmp_path / "run" / "curves.png").is_file()
    proposer = Proposer(bundle, CPU)
    (scan,) = run.scans("validation")
    (result,) = automatic(proposer, [scan.load()])
    assert round(result.dice, 4) == outcome.best["dice"], "what was validated is what the file proposes"
    volume = scan.load().volume
    for one in proposer.propose(volume, min_volume_ml=0):
        assert one.mask.grid.same_as(volume.grid, 1e-3)


def test_it_is_gone_on_with(cohort: PreparedCohort, tmp_path: Path) -> None:
    run = started(cohort, tmp_path, [])
    stops = iter([False, True])
    assert run.train(stop=lambda: next(stops)).why == "stopped"
    again = resumed(tmp_path / "run", Accelerator(cpu=True), 0, lambda _: None)
    assert again.trainer.step == 2
    assert again.trainer.network.prompt is None
    assert again.settings.preset.automatic


def test_the_choice_of_test_patients_is_kept(cohort: PreparedCohort, tmp_path: Path) -> None:
    """A run that leaves the test patients alone does so when it is resumed, until it is told otherwise."""
    preset = starting_from_nothing("mine", (), COARSE, SPLIT).with_recipe(steps=1, num_validations=1, batch=1)
    preset.write(tmp_path / "preset.yaml")
    folder, accelerator = tmp_path / "run", Accelerator(cpu=True)

    def again(test: bool | None = None) -> Run:
        return resumed(folder, accelerator, 0, lambda _: None, test)

    new([cohort.folder], str(tmp_path / "preset.yaml"), Changes(), folder, None, accelerator, 0, lambda _: None, False)
    assert again().train().test is None
    assert again().train().test is None
    assert again(True).train().test is not None
    assert again().settings.test


def test_a_resumed_run_of_an_earlier_drawing_says_so(cohort: PreparedCohort, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    said: list[str] = []
    started(cohort, tmp_path, [])
    resumed(folder, Accelerator(cpu=True), 0, said.append)
    assert not any("were drawn by version" in one for one in said)
    content = json.loads((folder / "settings.json").read_text())
    assert content.pop("drawing") == DRAWING
    (folder / "settings.json").write_text(json.dumps(content))
    resumed(folder, Accelerator(cpu=True), 0, said.append)
    (note,) = (one for one in said if "were drawn by version" in one)
    assert f"{folder}: was begun when crops were drawn by version 1; they are drawn by version {DRAWING}" in note


def test_a_dry_run_validates_a_whole_scan(cohort: PreparedCohort, tmp_path: Path) -> None:
    record = estimate_cost(started(cohort, tmp_path, []))
    assert record["steps"] == 4
    assert record["validation_scan_seconds"] >= 0
    assert record["scans"] == {"train": 2, "validation": 1, "test": 1}


def test_a_missing_library_is_named_before_the_training(
    cohort: PreparedCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "monai.inferers", None)
    with pytest.raises(
        SettingsError, match=r"need the package monai, which is not installed; .*run pip install .*\[auto\]'"
    ):
        started(cohort, tmp_path, [])
    assert not (tmp_path / "run").exists()
