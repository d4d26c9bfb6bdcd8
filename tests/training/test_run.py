"""A run in its folder: what it keeps, when it ends, what its model says of itself."""

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from safetensors import safe_open

from palpate.bundle import Bundle, frozen_sha256, load, with_tuning
from palpate.cohort import Split, Subset
from palpate.cohort.prepare import prepare
from palpate.cohort.prepared import PreparedCohort
from palpate.cohort.targets import TargetSampling
from palpate.errors import CohortError, SettingsError
from palpate.evaluation import one_click
from palpate.predictor import Predictor
from palpate.training.cost import estimate_cost
from palpate.training.outcome import TrainingProgress
from palpate.training.preset import Preset, starting_from_nothing
from palpate.training.records import read_rows
from palpate.training.run import Run
from palpate.training.settings import Settings
from small import CPU, PREPROCESSING, prompted_bundle, small_bundle, small_cohort

SPLIT = Split(train=("scan_0", "scan_1"), validation=("scan_2",), test=("scan_3",))
PRESET = starting_from_nothing("mine", (), PREPROCESSING, SPLIT).with_recipe(
    steps=4, batch=1, num_validations=2, warmup=0, precision="float32", ema_decay=0.0
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> PreparedCohort:
    folder = tmp_path_factory.mktemp("run")
    return prepare(small_cohort(folder, 4), folder / "prepared", workers=1)


def run(
    cohort: PreparedCohort,
    folder: Path,
    preset: Preset = PRESET,
    bundle: Bundle | None = None,
    kind: type[Run] = Run,
    messages: list[str] | None = None,
) -> Run:
    bundle = bundle or with_tuning(small_bundle(), "full")
    settings = Settings(
        prepared=(str(cohort.folder),),
        preset=preset,
        split=SPLIT,
        cohorts_sha256=(cohort.sha256,),
        base_sha256=frozen_sha256(bundle.network.state_dict(), bundle.network.config),
    )
    folder.mkdir()
    return kind(settings, bundle, folder, notify=([] if messages is None else messages).append)


def values_on_test(folder: Path) -> list[float]:
    """Values of the test patients' figures in a run's best model."""
    figures = load(folder / "best.safetensors").provenance.figures
    assert isinstance(figures, tuple)
    return [figure.value for figure in figures if figure.subset == "test"]


def test_parts_are_the_splits(cohort: PreparedCohort, tmp_path: Path) -> None:
    made = run(cohort, tmp_path / "run")
    assert [[s.name for s in made.scans(part)] for part in ("train", "validation", "test")] == [
        ["scan_0", "scan_1"],
        ["scan_2"],
        ["scan_3"],
    ]
    assert made.trainer.sampler.epoch == 2
    assert made.validation_steps == {2, 4}


def test_to_the_end(cohort: PreparedCohort, tmp_path: Path) -> None:
    reports: list[TrainingProgress] = []
    made = run(cohort, tmp_path / "run")
    ledger = cohort.folder / "test_set_uses.jsonl"
    before = len(ledger.read_text().splitlines()) if ledger.exists() else 0
    outcome = made.train(reports.append)
    assert (outcome.why, outcome.step, outcome.test_uses) == ("finished", 4, before + 1)
    assert [report.step for report in reports] == [1, 2, 3, 4]
    assert [report.dice for report in reports] == [None, made.curve[0][1], None, made.curve[1][1]]
    assert outcome.best is not None
    assert outcome.best["dice"] == max(dice for _, dice in made.curve)
    assert outcome.test is not None
    assert (outcome.test["scans"], outcome.test["patients"]) == (1, 1)
    provenance = load(tmp_path / "run" / "best.safetensors").provenance
    assert provenance.data == (f"{cohort.folder.name}: content {cohort.sha256}; licence not stated",)
    figures = provenance.figures
    assert isinstance(figures, tuple)
    assert [figure.title for figure in figures] == [
        "validation patients, one random click a scan, native grid, seed 0 "
        f"(step {outcome.best['step']}; chose these weights)",
        "test patients, one random click a scan, native grid, seeds 0, 1, 2, 3, 4 "
        f"(use number {outcome.test_uses} of these test patients)",
    ]
    assert [figure.value for figure in figures] == [outcome.best["dice"], outcome.test["dice"]]
    assert all((figure.interval, figure.n, figure.patients) == (None, 1, 1) for figure in figures)
    assert json.loads(ledger.read_text().splitlines()[-1])["figure"] == outcome.test


def test_made_targets_train_and_their_data_are_said(tmp_path: Path) -> None:
    """A cohort with a licence, a training scan without lesion: validation and test have theirs alone."""
    found = small_cohort(tmp_path, 4)
    label = nib.load(found.scans[1].label)
    nib.save(nib.Nifti1Image(np.zeros(label.shape, np.uint8), label.affine), found.scans[1].label)
    licensed = prepare(dataclasses.replace(found, licence="CC BY 4.0"), tmp_path / "prepared", workers=1)
    targets = TargetSampling(contours=1, synthetic=1, transplants=1)
    made = run(licensed, tmp_path / "run", PRESET.model_copy(update={"targets": targets}))
    assert [len(made.scans(subset)) for subset in ("train", "validation", "test")] == [2, 1, 1]
    made.train(lambda _: None, test=False)
    said = load(tmp_path / "run" / "best.safetensors").provenance
    assert said.data == (
        f"prepared: content {licensed.sha256}; licence CC BY 4.0; contoured targets transplanted into other training "
        "scans",
    )
    assert said.recipe["preset"]["targets"]["synthetic"] == 1


def test_resuming_an_ended_run_is_no_further_use_of_the_test_set(cohort: PreparedCohort, tmp_path: Path) -> None:
    """The same model's figure is known; another's, or a damaged note of it, is measured."""
    folder, ledger = tmp_path / "run", cohort.folder / "test_set_uses.jsonl"
    first = run(cohort, folder)
    outcome = first.train()
    count = len(ledger.read_text().splitlines())
    again = Run(first.settings, with_tuning(small_bundle(), "full"), folder, notify=lambda _: None)
    assert again.restore()
    same = again.train()
    assert (same.test, same.test_uses) == (outcome.test, outcome.test_uses)
    assert len(ledger.read_text().splitlines()) == count
    assert again.restore()
    assert again.train(test=False).test == outcome.test, "what is known is not taken away"
    assert outcome.test is not None
    assert values_on_test(folder) == [outcome.test["dice"]]
    note = folder / "test.json"
    note.write_text(note.read_text().replace(again.model().sha256(), "0" * 64))
    assert again.restore()
    assert again.train().test_uses == count + 1
    note.write_text("{")
    assert again.restore()
    assert again.train().test_uses == count + 2


def test_several_cohorts_have_a_figure_each(cohort: PreparedCohort, tmp_path: Path) -> None:
    """The whole is the mean over all scans; each cohort's is over its own."""
    (tmp_path / "files").mkdir()
    other = small_cohort(tmp_path / "files", 4)
    scans = tuple(replace(scan, name=f"other_{scan.name}", patient=f"other_{scan.patient}") for scan in other.scans)
    second = prepare(replace(other, scans=scans), tmp_path / "second", workers=1)
    bundle = with_tuning(small_bundle(), "full")
    names = {"train": ("scan_0", "scan_1"), "validation": ("scan_2",), "test": ("scan_3",)}
    split = Split(**{part: (*some, *(f"other_{name}" for name in some)) for part, some in names.items()})
    settings = Settings(
        prepared=(str(cohort.folder), str(second.folder)),
        preset=PRESET.with_recipe(steps=1, num_validations=1),
        split=split,
        cohorts_sha256=(cohort.sha256, second.sha256),
        base_sha256=frozen_sha256(bundle.network.state_dict(), bundle.network.config),
    )
    (tmp_path / "run").mkdir()
    outcome = Run(settings, bundle, tmp_path / "run", notify=lambda _: None).train()
    for record in (outcome.best, outcome.test):
        assert record is not None
        assert list(record["cohorts"]) == ["prepared", "second"]
        both = [one["dice"] for one in record["cohorts"].values()]
        assert record["dice"] == pytest.approx(np.mean(both), abs=1e-4)
        assert record["scans"] == 2
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert rows[-1]["validation"]["cohorts"]["second"]["scans"] == 1


class Killed(Run):
    """A run that is killed when it comes to write its best model."""

    def _save_best(self, *_: object) -> None:
        raise KeyboardInterrupt


def test_a_kill_between_state_and_best_model_loses_neither(cohort: PreparedCohort, tmp_path: Path) -> None:
    """The state that knows of a better model comes first; its file is made good from it."""
    folder = tmp_path / "run"
    made = run(cohort, folder, kind=Killed)
    with pytest.raises(KeyboardInterrupt):
        made.train()
    assert not (folder / "best.safetensors").exists()
    again = Run(made.settings, with_tuning(small_bundle(), "full"), folder, notify=lambda _: None)
    assert again.restore()
    assert again.best is not None
    assert again.best["step"] == again.trainer.step == 2
    again.train(stop=lambda: True)
    stored = load(folder / "best.safetensors")
    assert isinstance(stored.provenance.figures, tuple)
    assert [figure.note for figure in stored.provenance.figures] == ["step 2; chose these weights"]
    whole = run(cohort, tmp_path / "whole")
    whole.train(test=False)
    finished = Run(made.settings, with_tuning(small_bundle(), "full"), folder, notify=lambda _: None)
    assert finished.restore()
    finished.train(test=False)
    assert load(folder / "best.safetensors").sha256() == load(tmp_path / "whole" / "best.safetensors").sha256()


class Declining(Run):
    """A run with a Dice of 0.5 / the number of the validation."""

    def evaluate(self, subset: Subset) -> dict[str, Any]:
        return super().evaluate(subset) | {"dice": 0.5 / (len(self.curve) + 1)}


def test_the_last_weights_carry_no_figure_of_the_best(cohort: PreparedCohort, tmp_path: Path) -> None:
    made = run(cohort, tmp_path / "run", kind=Declining)
    assert made.train(test=False).best == made.best
    again = run(cohort, tmp_path / "again", kind=Declining)
    again.train(stop=lambda: again.trainer.step == 4)
    resumed = Run(again.settings, with_tuning(small_bundle(), "full"), tmp_path / "again", notify=lambda _: None)
    assert resumed.restore()
    resumed.train(test=False)
    for folder in ("run", "again"):
        notes = []
        for name in ("best", "last"):
            figures = load(tmp_path / folder / f"{name}.safetensors").provenance.figures
            assert isinstance(figures, tuple)
            notes += [(figure.value, figure.note) for figure in figures]
        assert notes == [(0.5, "step 2; chose these weights"), (0.25, "step 4; not the best weights")], folder


def test_uses_of_other_test_patients_are_not_counted(cohort: PreparedCohort, tmp_path: Path) -> None:
    """Another fold's, say; a line without patients counts; version 0.1.0's lines and its file are read."""
    ledger = cohort.folder / "test_set_uses.jsonl"
    earlier = cohort.folder / "test_looks.jsonl"
    before = ledger.read_text() if ledger.exists() else ""
    try:
        ledger.unlink(missing_ok=True)
        earlier.write_text(
            '{"dice": 0.5}\n{"dice": 0.5, "of": ["patient_0"]}\n{"dice": 0.5, "of": ["patient_3", "b"]}\n'
        )
        outcome = run(cohort, tmp_path / "run", PRESET.with_recipe(steps=1, num_validations=1)).train()
        assert outcome.test_uses == 3
        assert json.loads(ledger.read_text().splitlines()[-1])["patients"] == ["patient_3"]
    finally:
        earlier.unlink()
        ledger.write_text(before)


def test_a_lesion_wider_than_any_crop_does_not_cost_the_model_its_figures(
    cohort: PreparedCohort, tmp_path: Path
) -> None:
    """A model with dense prompts and without zoom is calibrated with a box; no crop of 16 mm holds one around these."""
    narrow = PREPROCESSING.model_copy(update={"spacing": (0.5, 0.5, 0.5)})
    preset = PRESET.with_recipe(steps=1, num_validations=1).model_copy(update={"preprocessing": narrow})
    start = with_tuning(prompted_bundle(), "full")
    messages: list[str] = []
    made = run(cohort, tmp_path / "run", preset, Bundle(start.network, narrow, start.provenance), messages=messages)
    outcome = made.train()
    stored = load(tmp_path / "run" / "best.safetensors")
    assert outcome.test is not None
    assert values_on_test(tmp_path / "run") == [outcome.test["dice"]]
    assert any(
        sentence.startswith("no crop holds the prompts of 2 simulated users: scan_2, first a click")
        for sentence in messages
    )
    assert stored.calibration.measured["validation scans"] == {"prepared": 1}


def test_the_cost_of_a_run_that_goes_on_counts_what_is_left(cohort: PreparedCohort, tmp_path: Path) -> None:
    made = run(cohort, tmp_path / "run")
    made.train(stop=lambda: made.trainer.step == 3)
    again = Run(made.settings, with_tuning(small_bundle(), "full"), tmp_path / "run", notify=lambda _: None)
    assert again.restore()
    record = estimate_cost(again)
    assert (record["steps"], record["validations"]) == (1, 1)
    assert again.ended
    with pytest.raises(SettingsError, match="has ended at step 4; there is no cost to estimate"):
        estimate_cost(again)


def test_what_is_measured_is_what_segment_does(cohort: PreparedCohort, tmp_path: Path) -> None:
    """The validation of the best model, repeated with its file through the Predictor."""
    made = run(cohort, tmp_path / "run")
    outcome = made.train(test=False)
    assert outcome.best is not None
    predictor = Predictor(load(tmp_path / "run" / "best.safetensors"), CPU)
    (scan,) = made.scans("validation")
    (result,) = one_click(predictor, [scan.load()])
    assert round(result.dice, 4) == outcome.best["dice"]


def test_a_plateau_ends_it(cohort: PreparedCohort, tmp_path: Path) -> None:
    preset = PRESET.with_recipe(steps=20, num_validations=10, patience=2, learning_rate=1e-12)
    outcome = run(cohort, tmp_path / "run", preset).train(test=False)
    assert (outcome.why, outcome.step) == ("plateau", 6), "one best, then twice no better, every second step"
    again = run(cohort, tmp_path / "again", preset)
    (tmp_path / "again").rmdir()
    (tmp_path / "run").rename(tmp_path / "again")
    assert again.restore()
    assert again.train(test=False).step == 6, "a plateau that was reached is not trained over"


def test_an_adapter_holds_what_was_tuned(cohort: PreparedCohort, tmp_path: Path) -> None:
    base = small_bundle()
    preset = PRESET.model_copy(update={"init": "somewhere", "tuning": "bottleneck"})
    made = run(cohort, tmp_path / "run", preset, with_tuning(base, "bottleneck"))
    made.train(test=False)
    path = tmp_path / "run" / "best.safetensors"
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        header = json.loads(file.metadata()["palpate"])
    assert names == set(made.trainer.tuned)
    assert (header["kind"], header["base_name"]) == ("adapter", "somewhere")
    loaded = load(path, base=base).network.state_dict()
    assert {name for name, value in made.trainer.network.state_dict().items() if value.equal(loaded[name])} >= names


def test_stored_in_half_the_bytes(cohort: PreparedCohort, tmp_path: Path) -> None:
    sizes = []
    for stored in ("float32", "bfloat16"):
        outcome = run(
            cohort, tmp_path / stored, PRESET.with_recipe(weights_dtype=stored, steps=2, num_validations=1)
        ).train()
        assert outcome.model is not None
        sizes.append(outcome.model.stat().st_size)
        with safe_open(outcome.model, framework="pt") as file:
            assert {str(file.get_tensor(name).dtype) for name in file.keys()} == {f"torch.{stored}"}  # noqa: SIM118
        predictor = Predictor(load(outcome.model), CPU)
        scans = [scan.load() for scan in run(cohort, tmp_path / f"{stored}-scans").scans("test")]
        found = [one.dice for seed in range(5) for one in one_click(predictor, scans, seed)]
        assert outcome.test is not None
        assert outcome.test["dice"] == round(float(np.mean(found)), 4), (
            "the figure is of the weights as they are stored"
        )
    assert sizes[1] == pytest.approx(sizes[0] / 2, rel=0.1)


def test_a_cohort_that_changed(cohort: PreparedCohort, tmp_path: Path) -> None:
    made = run(cohort, tmp_path / "run")
    changed = made.settings.model_copy(update={"cohorts_sha256": ("0" * 64,)})
    with pytest.raises(CohortError, match="changed since the training in"):
        Run(changed, small_bundle(), tmp_path / "run")


def test_another_number_of_processes(cohort: PreparedCohort, tmp_path: Path) -> None:
    made = run(cohort, tmp_path / "run")
    changed = made.settings.model_copy(update={"processes": 4})
    with pytest.raises(SettingsError, match=r"was started with 4 processes.*resume it with as many, not with 1"):
        Run(changed, small_bundle(), tmp_path / "run")


def test_a_part_without_any_lesion(cohort: PreparedCohort, tmp_path: Path) -> None:
    settings = run(cohort, tmp_path / "run").settings
    nothing = settings.model_copy(update={"preset": PRESET.model_copy(update={"target_labels": (7,)})})
    with pytest.raises(CohortError, match=r"no scan under train of the split has any target \(labels \[7\]\)"):
        Run(nothing, small_bundle(), tmp_path / "run")
    unseen = settings.model_copy(update={"split": Split(train=("scan_0",), validation=("scan_9",))})
    with pytest.raises(CohortError, match="no scan under validation of the split has any target"):
        Run(unseen, small_bundle(), tmp_path / "run")


def test_a_use_that_cannot_be_recorded_loses_no_model(cohort: PreparedCohort, tmp_path: Path) -> None:
    messages: list[str] = []
    made = run(cohort, tmp_path / "run", PRESET.with_recipe(steps=1, num_validations=1), messages=messages)
    ledger = cohort.folder / "test_set_uses.jsonl"
    before = ledger.read_bytes() if ledger.exists() else None
    ledger.unlink(missing_ok=True)
    ledger.mkdir()
    try:
        outcome = made.train()
    finally:
        ledger.rmdir()
        if before is not None:
            ledger.write_bytes(before)
    assert any("the use of the test set is not in it" in sentence for sentence in messages)
    assert outcome.test is not None
    assert values_on_test(tmp_path / "run") == [outcome.test["dice"]]


def test_a_model_of_another_network_is_not_taken(cohort: PreparedCohort, tmp_path: Path) -> None:
    made = run(cohort, tmp_path / "run")
    state = dict(made.trainer.network.state_dict())
    made.trainer.load_weights(state)
    for wrong in ({"unknown": state["encoder.depth_embed"]}, {}):
        with pytest.raises(SettingsError, match="the stored model is of another network"):
            made.trainer.load_weights({**wrong})


def test_reports_are_plain(cohort: PreparedCohort, tmp_path: Path) -> None:
    reports: list[TrainingProgress] = []
    run(cohort, tmp_path / "run", PRESET.with_recipe(steps=1, num_validations=1)).train(reports.append, test=False)
    (only,) = reports
    assert dataclasses.asdict(only).keys() == {"step", "total", "loss", "rate", "seconds", "memory_gb", "dice"}
    assert only.rate == pytest.approx(1e-3)
    assert only.memory_gb > 0.1
