"""A run in its folder: what it keeps, when it ends, what its model says of itself."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from palpate.bundle import Bundle, frozen_sha256, load, with_tuning
from palpate.cohort import Part, Split
from palpate.cohort.cache import PreparedCohort
from palpate.cohort.prepare import prepare
from palpate.errors import CohortError, SettingsError
from palpate.training.preset import Preset, starting_from_nothing
from palpate.training.records import read_rows
from palpate.training.rehearsal import rehearse
from palpate.training.run import Report, Run
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


def run(cohort: PreparedCohort, folder: Path, preset: Preset = PRESET, bundle: Bundle | None = None) -> Run:
    bundle = bundle or with_tuning(small_bundle(), "full")
    settings = Settings(
        prepared=(str(cohort.folder),),
        preset=preset,
        split=SPLIT,
        cohorts_sha256=(cohort.sha256,),
        base_sha256=frozen_sha256(bundle.network.state_dict(), bundle.network.config),
    )
    folder.mkdir()
    return Run(settings, bundle, folder, tell=lambda _: None)


def test_parts_are_the_splits(cohort: PreparedCohort, tmp_path: Path) -> None:
    made = run(cohort, tmp_path / "run")
    assert [[s.name for s in made.part(part)] for part in ("train", "validation", "test")] == [
        ["scan_0", "scan_1"],
        ["scan_2"],
        ["scan_3"],
    ]
    assert made.trainer.sampler.epoch == 2
    assert made.measured_at == {2, 4}


def test_to_the_end(cohort: PreparedCohort, tmp_path: Path) -> None:
    reports: list[Report] = []
    made = run(cohort, tmp_path / "run")
    looks = cohort.folder / "test_looks.jsonl"
    before = len(looks.read_text().splitlines()) if looks.exists() else 0
    outcome = made.train(reports.append)
    assert (outcome.why, outcome.step, outcome.looks) == ("finished", 4, before + 1)
    assert [report.step for report in reports] == [1, 2, 3, 4]
    assert [report.dice is None for report in reports] == [True, False, False, False]
    assert outcome.best is not None
    assert outcome.best["dice"] == max(dice for _, dice in made.curve)
    assert outcome.test is not None
    assert (outcome.test["scans"], outcome.test["patients"]) == (1, 1)
    figures = load(tmp_path / "run" / "best.safetensors").provenance.figures
    assert list(figures) == [
        "validation patients, one random click a scan, native grid, seed 0 (chose these weights)",
        "test patients, one random click a scan, native grid, seeds 0-4",
        "looks at these test patients, this one included",
    ]
    assert json.loads(looks.read_text().splitlines()[-1])["dice"] == outcome.test["dice"]


def test_going_on_with_an_ended_run_is_no_further_look(cohort: PreparedCohort, tmp_path: Path) -> None:
    """The same model's figure is known; another's, or a damaged note of it, is measured."""
    folder, looks = tmp_path / "run", cohort.folder / "test_looks.jsonl"
    first = run(cohort, folder)
    outcome = first.train()
    count = len(looks.read_text().splitlines())
    again = Run(first.settings, with_tuning(small_bundle(), "full"), folder, tell=lambda _: None)
    assert again.restore()
    same = again.train()
    assert (same.test, same.looks) == (outcome.test, outcome.looks)
    assert len(looks.read_text().splitlines()) == count
    assert again.restore()
    assert again.train(test=False).test == outcome.test, "what is known is not taken away"
    assert outcome.test in load(folder / "best.safetensors").provenance.figures.values()
    note = folder / "test.json"
    note.write_text(note.read_text().replace(again.model().sha256(), "0" * 64))
    assert again.restore()
    assert again.train().looks == count + 1
    note.write_text("{")
    assert again.restore()
    assert again.train().looks == count + 2


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
    outcome = Run(settings, bundle, tmp_path / "run", tell=lambda _: None).train()
    for record in (outcome.best, outcome.test):
        assert record is not None
        assert list(record["cohorts"]) == ["prepared", "second"]
        both = [one["dice"] for one in record["cohorts"].values()]
        assert record["dice"] == pytest.approx(np.mean(both), abs=1e-4)
        assert record["scans"] == 2
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert rows[-1]["validation"]["cohorts"]["second"]["scans"] == 1


def test_a_kill_between_state_and_best_model_loses_neither(
    cohort: PreparedCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state that knows of a better model comes first; its file is made good from it."""
    folder = tmp_path / "run"
    made = run(cohort, folder)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(made, "_save_best", killed)
        with pytest.raises(KeyboardInterrupt):
            made.train()
    assert not (folder / "best.safetensors").exists()
    again = Run(made.settings, with_tuning(small_bundle(), "full"), folder, tell=lambda _: None)
    assert again.restore()
    assert again.best is not None
    assert again.best["step"] == again.trainer.step == 2
    again.train(stop=lambda: True)
    stored = load(folder / "best.safetensors")
    assert stored.provenance.figures[again.measuring.words.validation]["step"] == again.best["step"]
    whole = run(cohort, tmp_path / "whole")
    whole.train(test=False)
    finished = Run(made.settings, with_tuning(small_bundle(), "full"), folder, tell=lambda _: None)
    assert finished.restore()
    finished.train(test=False)
    assert load(folder / "best.safetensors").sha256() == load(tmp_path / "whole" / "best.safetensors").sha256()


def test_the_last_weights_carry_no_figure_of_the_best(cohort: PreparedCohort, tmp_path: Path) -> None:
    made = run(cohort, tmp_path / "run")
    figures = iter((0.5, 0.25))
    measured = made.measure

    def declining(part: Part, seeds: Sequence[int]) -> dict[str, Any]:
        figure = measured(part, seeds)
        return figure | {"dice": next(figures)} if part == "validation" else figure

    made.measure = declining  # type: ignore[method-assign]
    assert made.train(test=False).best == made.best
    best, last = (load(tmp_path / "run" / f"{name}.safetensors").provenance.figures for name in ("best", "last"))
    assert best[made.measuring.words.validation]["step"] == 2
    assert last == {made.measuring.words.unchosen: {"step": 4, "dice": 0.25}}


def test_looks_at_other_test_patients_are_not_counted(cohort: PreparedCohort, tmp_path: Path) -> None:
    """Another fold's, say; a line that does not tell whose it was, counts."""
    looks = cohort.folder / "test_looks.jsonl"
    before = looks.read_text() if looks.exists() else ""
    try:
        looks.write_text('{"dice": 0.5}\n{"dice": 0.5, "of": ["patient_0"]}\n{"dice": 0.5, "of": ["patient_3", "b"]}\n')
        outcome = run(cohort, tmp_path / "run", PRESET.with_recipe(steps=1, num_validations=1)).train()
        assert outcome.looks == 3
        assert json.loads(looks.read_text().splitlines()[-1])["of"] == ["patient_3"]
    finally:
        looks.write_text(before)


def test_a_lesion_wider_than_any_crop_does_not_cost_the_model_its_figures(
    cohort: PreparedCohort, tmp_path: Path
) -> None:
    """A model with dense prompts and without zoom is calibrated with a box; no crop of 16 mm holds one around these."""
    narrow = PREPROCESSING.model_copy(update={"spacing": (0.5, 0.5, 0.5)})
    preset = PRESET.with_recipe(steps=1, num_validations=1).model_copy(update={"preprocessing": narrow})
    start = with_tuning(prompted_bundle(), "full")
    told: list[str] = []
    made = run(cohort, tmp_path / "run", preset, Bundle(start.network, narrow, start.provenance))
    made.measuring.tell = told.append
    outcome = made.train()
    stored = load(tmp_path / "run" / "best.safetensors")
    assert outcome.test in stored.provenance.figures.values()
    assert any(
        sentence.startswith("simulated users who broke off: 2, such as scan_2, first a click") for sentence in told
    )
    assert stored.calibration.measured["validation scans"] == {"prepared": 1}


def test_a_rehearsal_of_a_run_that_goes_on_counts_what_is_left(cohort: PreparedCohort, tmp_path: Path) -> None:
    made = run(cohort, tmp_path / "run")
    made.train(stop=lambda: made.trainer.step == 3)
    again = Run(made.settings, with_tuning(small_bundle(), "full"), tmp_path / "run", tell=lambda _: None)
    assert again.restore()
    record = rehearse(again)
    assert (record["steps"], record["validations"]) == (1, 1)
    assert again.ended
    with pytest.raises(SettingsError, match="has ended at step 4; nothing is left to rehearse"):
        rehearse(again)


def test_what_is_measured_is_what_segment_does(cohort: PreparedCohort, tmp_path: Path) -> None:
    """The validation of the best model, repeated with its file through the Predictor."""
    from palpate.evaluation import one_click
    from palpate.predictor import Predictor

    made = run(cohort, tmp_path / "run")
    outcome = made.train(test=False)
    assert outcome.best is not None
    predictor = Predictor(load(tmp_path / "run" / "best.safetensors"), CPU)
    (scan,) = made.part("validation")
    (result,) = one_click(predictor, [(scan.name, *scan.load())])
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
    kept = load(path, base=base).network.state_dict()
    assert {name for name, value in made.trainer.network.state_dict().items() if value.equal(kept[name])} >= names


def test_stored_in_half_the_bytes(cohort: PreparedCohort, tmp_path: Path) -> None:
    sizes, figures = [], []
    for stored in ("float32", "bfloat16"):
        outcome = run(
            cohort, tmp_path / stored, PRESET.with_recipe(weights_dtype=stored, steps=2, num_validations=1)
        ).train()
        assert outcome.model is not None
        sizes.append(outcome.model.stat().st_size)
        figures.append(outcome.test)
    assert sizes[1] == pytest.approx(sizes[0] / 2, rel=0.1)
    assert figures[0] is not None
    assert figures[1] is not None


def test_a_cohort_that_changed(cohort: PreparedCohort, tmp_path: Path) -> None:
    made = run(cohort, tmp_path / "run")
    changed = made.settings.model_copy(update={"cohorts_sha256": ("0" * 64,)})
    with pytest.raises(CohortError, match="changed since the training in"):
        Run(changed, small_bundle(), tmp_path / "run")


def test_another_number_of_processes(cohort: PreparedCohort, tmp_path: Path) -> None:
    made = run(cohort, tmp_path / "run")
    changed = made.settings.model_copy(update={"processes": 4})
    with pytest.raises(SettingsError, match=r"was begun with 4 processes.*go on with as many, not with 1"):
        Run(changed, small_bundle(), tmp_path / "run")


def test_a_part_without_any_lesion(cohort: PreparedCohort, tmp_path: Path) -> None:
    settings = run(cohort, tmp_path / "run").settings
    nothing = settings.model_copy(update={"preset": PRESET.model_copy(update={"target_labels": (7,)})})
    with pytest.raises(CohortError, match=r"no scan under train of the split has any lesion \(labels \[7\]\)"):
        Run(nothing, small_bundle(), tmp_path / "run")
    unseen = settings.model_copy(update={"split": Split(train=("scan_0",), validation=("scan_9",))})
    with pytest.raises(CohortError, match="no scan under validation of the split has any lesion"):
        Run(unseen, small_bundle(), tmp_path / "run")


def test_a_look_that_cannot_be_logged_loses_no_model(cohort: PreparedCohort, tmp_path: Path) -> None:
    made, told = run(cohort, tmp_path / "run", PRESET.with_recipe(steps=1, num_validations=1)), list[str]()
    made.measuring.tell = told.append
    looks = cohort.folder / "test_looks.jsonl"
    before = looks.read_bytes() if looks.exists() else None
    looks.unlink(missing_ok=True)
    looks.mkdir()
    try:
        outcome = made.train()
    finally:
        looks.rmdir()
        if before is not None:
            looks.write_bytes(before)
    assert any("could not be written" in sentence for sentence in told)
    assert outcome.test in load(tmp_path / "run" / "best.safetensors").provenance.figures.values()


def test_a_model_of_another_network_is_not_taken(cohort: PreparedCohort, tmp_path: Path) -> None:
    made = run(cohort, tmp_path / "run")
    state = dict(made.trainer.network.state_dict())
    made.trainer.take(state)
    for wrong in ({"unknown": state["encoder.depth_embed"]}, {}):
        with pytest.raises(SettingsError, match="the stored model is of another network"):
            made.trainer.take({**wrong})


def test_reports_are_plain(cohort: PreparedCohort, tmp_path: Path) -> None:
    reports: list[Report] = []
    run(cohort, tmp_path / "run", PRESET.with_recipe(steps=1, num_validations=1)).train(reports.append, test=False)
    (only,) = reports
    assert dataclasses.asdict(only).keys() == {"step", "total", "loss", "rate", "seconds", "memory_gb", "dice"}
    assert only.rate == pytest.approx(1e-3)
    assert only.memory_gb > 0.1
