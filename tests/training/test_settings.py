"""Splits, starts, and what a run writes down about itself."""

import json
from pathlib import Path

import pytest
import torch

from palpate.bundle import Bundle, frozen_sha256
from palpate.cohort import Split
from palpate.cohort.prepare import prepare
from palpate.cohort.prepared import CohortIndex, PreparedCohort, PreparedEntry
from palpate.cohort.sampling import DRAWING
from palpate.cohort.split import Subset
from palpate.cohort.targets import TargetSampling
from palpate.errors import CohortError, SettingsError
from palpate.model import SIZES
from palpate.training.preset import Preset, starting_from_nothing
from palpate.training.settings import Settings, begin, cohort_scans, resolve_split, starting_bundle
from small import CONFIG, PREPROCESSING, prompted_bundle, small_bundle, small_cohort

PRESET = starting_from_nothing("mine", (), PREPROCESSING, None)


def listed(*rows: tuple[str, str, Subset | None]) -> PreparedCohort:
    """A prepared cohort of names, patients and subsets; nothing lies on the disk."""
    scans = tuple(PreparedEntry(name=n, patient=p, subset=subset, key=n, sources=()) for n, p, subset in rows)
    return PreparedCohort(
        Path("none"), CohortIndex(format=1, origin="", layout="", labels={}, scans=scans, left_out=())
    )


def with_split(split: Split) -> Preset:
    return PRESET.model_copy(update={"split": split})


def test_the_presets_split_comes_first() -> None:
    split = Split(train=("a",), validation=("b",), test=("c",))
    cohort = listed(("a", "a", "test"), ("b", "b", None), ("c", "c", "train"))
    assert resolve_split([cohort], with_split(split)) == split


def test_then_the_layouts() -> None:
    cohort = listed(("a", "a", "test"), ("b", "b", "validation"), ("c", "c", "train"), ("d", "d", None))
    assert resolve_split([cohort], PRESET) == Split(train=("c",), validation=("b",), test=("a",))


def test_else_one_by_patient() -> None:
    cohort = listed(*((f"{patient}{scan}", patient, None) for patient in "abcdefgh" for scan in range(3)))
    split = resolve_split([cohort], PRESET)
    assert sorted(split.train + split.validation + split.test) == list("abcdefgh")


def test_a_patient_in_two_parts() -> None:
    split = Split(train=("a1",), validation=("a2",))
    cohort = listed(("a1", "a", None), ("a2", "a", None))
    with pytest.raises(CohortError, match="patient a has scans under train and under validation; put all scans"):
        resolve_split([cohort], with_split(split))


def test_a_split_of_another_cohort() -> None:
    cohort = listed(("a", "a", None), ("b", "b", None))
    with pytest.raises(CohortError, match=r"no scan of this cohort \(a, b, \.\.\.\) falls under train or validation"):
        resolve_split([cohort], with_split(Split(train=("x",), validation=("y",))))
    with pytest.raises(CohortError, match="the split has no scan under validation; name some patients there"):
        resolve_split([cohort], with_split(Split(train=("a",), test=("b",))))


def test_a_start_from_nothing_is_the_seeds() -> None:
    one, two = starting_bundle(PRESET), starting_bundle(PRESET)
    state = two.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in one.network.state_dict().items())
    other = starting_bundle(PRESET.with_recipe(seed=1)).network.state_dict()
    assert not torch.equal(other["encoder.pos_embed"], state["encoder.pos_embed"]) or not torch.equal(
        other["decoder.joint.weight"], state["decoder.joint.weight"]
    )
    assert not one.network.config.has_frozen
    assert one.preprocessing == PREPROCESSING
    with pytest.raises(SettingsError, match="without a base nothing may stay frozen"):
        starting_bundle(PRESET.model_copy(update={"tuning": "spatial"}))


def test_a_start_from_a_model_takes_the_presets_preprocessing(tmp_path: Path) -> None:
    small_bundle().save(tmp_path / "base.safetensors")
    preset = PRESET.model_copy(update={"init": str(tmp_path / "base.safetensors"), "tuning": "lora"})
    preset = preset.model_copy(update={"preprocessing": PREPROCESSING.model_copy(update={"spacing": (3.0, 3.0, 3.0)})})
    bundle = starting_bundle(preset)
    assert bundle.preprocessing.spacing == (3, 3, 3)
    assert bundle.network.config.adapter == "lora"


def test_a_start_is_found_again_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = prepare(small_cohort(tmp_path, 3), tmp_path / "prepared", workers=1)
    small_bundle().save(tmp_path / "base.safetensors")
    monkeypatch.chdir(tmp_path)
    preset = PRESET.model_copy(update={"init": "base.safetensors"})
    settings, _ = begin([Path("prepared")], preset, Path("run"))
    assert settings.preset.init == str((tmp_path / "base.safetensors").resolve())
    assert settings.prepared == (str(cohort.folder.resolve()),)


def test_settings_come_back(tmp_path: Path) -> None:
    cohort = prepare(small_cohort(tmp_path, 3), tmp_path / "prepared", workers=1)
    split = Split(train=("scan_0",), validation=("scan_1",), test=("scan_2",))
    settings, _ = begin([cohort.folder], with_split(split), tmp_path / "run", shares=[2.0])
    assert not (tmp_path / "run").exists(), "nothing is written before all is known to be well"
    (tmp_path / "run").mkdir()
    settings.write(tmp_path / "run")
    assert Settings.read(tmp_path / "run") == settings
    assert settings.cohorts_sha256 == (cohort.sha256,)
    assert settings.shares == (2.0,)
    assert settings.test
    assert settings.drawing == DRAWING
    earlier = settings.model_dump(mode="json", exclude={"test", "drawing"})
    preset = earlier["preset"]
    preset["lesion"], preset["prompts"] = preset.pop("target_labels"), preset.pop("prompt_sampling")
    preset["recipe"]["averaging"] = preset["recipe"].pop("ema_decay")
    (tmp_path / "run" / "settings.json").write_text(json.dumps(earlier))
    of_before = settings.model_copy(update={"drawing": 1})
    assert Settings.read(tmp_path / "run") == of_before, "a run from before crops had a version"
    with pytest.raises(SettingsError, match=r"a training was started here; resume it with `palpate train --resume"):
        begin([cohort.folder], PRESET, tmp_path / "run")
    for shares in ([1.0, 1.0], [0.0]):
        with pytest.raises(SettingsError, match="shares: one above 0 for each of the 1 cohorts"):
            begin([cohort.folder], PRESET, tmp_path / "new", shares=shares)


def test_a_folder_of_other_things_is_no_run(tmp_path: Path) -> None:
    cohort = prepare(small_cohort(tmp_path, 3), tmp_path / "prepared", workers=1)
    (tmp_path / "mine" / "state-old").mkdir(parents=True)
    with pytest.raises(SettingsError, match="mine: holds other files; name a new folder for the run"):
        begin([cohort.folder], PRESET, tmp_path / "mine")
    assert (tmp_path / "mine" / "state-old").is_dir()


def test_names_of_several_cohorts_must_differ() -> None:
    with pytest.raises(CohortError, match="scan a is in several cohorts; names must differ"):
        resolve_split([listed(("a", "a", None)), listed(("a", "b", None))], PRESET)


def test_dense_prompts_of_another_width(tmp_path: Path) -> None:
    prompted_bundle().save(tmp_path / "base.safetensors")
    preset = PRESET.model_copy(update={"init": str(tmp_path / "base.safetensors")})
    for dense in (0, 4):
        network = starting_bundle(preset.model_copy(update={"dense": dense})).network
        assert network.config.dense_width == 4
    with pytest.raises(SettingsError, match=r"has dense of width 4; set dense to that, or to 0, not 16"):
        starting_bundle(preset.model_copy(update={"dense": 16}))


def test_scans_without_the_lesion_are_left_out(tmp_path: Path) -> None:
    cohort = prepare(small_cohort(tmp_path, 2, labels=(1, 2)), tmp_path / "prepared", workers=1)
    counts = [len(cohort_scans([cohort], PRESET.model_copy(update={"target_labels": v}))[0]) for v in ((), (1,), (7,))]
    assert counts[0] == 2
    assert counts[2] == 0


def test_scans_without_the_lesion_train_where_targets_are_made(tmp_path: Path) -> None:
    cohort = prepare(small_cohort(tmp_path, 2, labels=(1, 2)), tmp_path / "prepared", workers=1)
    preset = PRESET.model_copy(update={"target_labels": (7,), "targets": TargetSampling(synthetic=1)})
    assert len(cohort_scans([cohort], preset)[0]) == 2, "there is no label 7"
    labels = preset.model_copy(update={"targets": TargetSampling(labels=1)})
    assert len(cohort_scans([cohort], labels)[0]) == 2, "but others"
    assert cohort_scans([cohort], preset.model_copy(update={"targets": TargetSampling()})) == [[]]


def test_an_automatic_start_drops_the_prompts(tmp_path: Path) -> None:
    prompted_bundle().save(tmp_path / "base.safetensors")
    before = prompted_bundle().network.state_dict()
    preset = PRESET.model_copy(update={"init": str(tmp_path / "base.safetensors")}).as_automatic()
    bundle = starting_bundle(preset)
    state = bundle.network.state_dict()
    assert bundle.network.prompt is None
    assert all(torch.equal(value, before[name]) for name, value in state.items())
    dropped = f"Made automatic: {len(before) - len(state)} tensors of its prompts were dropped."
    assert dropped in bundle.provenance.changes
    bundle.save(tmp_path / "automatic.safetensors")
    onwards = preset.model_copy(update={"init": str(tmp_path / "automatic.safetensors")})
    assert starting_bundle(onwards).network.prompt is None
    with pytest.raises(SettingsError, match=r"has no prompt encoder to train; set automatic \(--automatic\)"):
        starting_bundle(onwards.model_copy(update={"automatic": False}))


def test_an_automatic_start_from_nothing() -> None:
    network = starting_bundle(PRESET.as_automatic()).network
    assert network.prompt is None
    assert (network.config.token_voxels, network.config.spare_attention) == (8, False)


def test_the_depth_is_the_presets(tmp_path: Path) -> None:
    """Of an import the first blocks, of a fresh network so many; and the import's adapters stay when all is tuned."""
    deep = small_bundle(config=CONFIG.model_copy(update={"depth": 8, "transformer": "dinov2"}))
    imported = deep.provenance.model_copy(update={"imported_from": "dinov2"})
    Bundle(deep.network, deep.preprocessing, imported).save(tmp_path / "dinov2.safetensors")
    preset = PRESET.model_copy(update={"init": str(tmp_path / "dinov2.safetensors"), "tuning": "full", "depth": 4})
    bundle = starting_bundle(preset.model_copy(update={"token_voxels": 4}))
    config = bundle.network.config
    assert (config.depth, config.token_voxels, config.adapter, config.tuned) == (4, 4, "spatial", "all")
    name = "encoder.blocks.3.attn.qkv.weight"
    assert torch.equal(bundle.network.state_dict()[name], deep.network.state_dict()[name])
    fresh = PRESET.model_copy(update={"network": "tiny", "depth": 4})
    assert starting_bundle(fresh).network.config == SIZES["tiny"].model_copy(update={"depth": 4, "tuned": "all"})
    for wrong, message in (
        (fresh, "^tiny: depth 12: choose 4 to 8; the network has 8 blocks$"),
        (preset, "^small: depth 12: choose 4 to 8; the network has 8 blocks$"),
    ):
        with pytest.raises(SettingsError, match=message):
            starting_bundle(wrong.model_copy(update={"depth": 12}))


def test_tokens_are_the_presets(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"token_voxels": 4, "detail_width": 0, "spare_attention": True})
    small_bundle(config=config).save(tmp_path / "sam.safetensors")
    small_bundle().save(tmp_path / "detailed.safetensors")
    preset = PRESET.model_copy(update={"init": str(tmp_path / "sam.safetensors"), "tuning": "spatial"})
    assert starting_bundle(preset).network.config.token_voxels == 4
    bundle = starting_bundle(preset.model_copy(update={"token_voxels": 8}).as_automatic())
    assert (bundle.network.config.token_voxels, bundle.network.config.promptless) == (8, True)
    assert frozen_sha256(bundle.network.state_dict(), config) == frozen_sha256(
        starting_bundle(preset).network.state_dict(), config
    ), "an adapter finds its base again"
    wrong = preset.model_copy(update={"init": str(tmp_path / "detailed.safetensors"), "token_voxels": 4})
    with pytest.raises(SettingsError, match="its detail path is made for tokens of 8 voxels"):
        starting_bundle(wrong)
