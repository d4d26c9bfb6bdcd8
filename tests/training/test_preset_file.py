"""Presets as files: written and read again, of this version and of version 0.1.0, and what is wrong with one."""

import json
import re
from pathlib import Path

import pytest

from palpate.cohort import Split
from palpate.errors import SettingsError
from palpate.training.preset import Preset, adapting, starting_from_nothing
from palpate.training.preset_file import RENAMED, is_own, parse, to_yaml
from small import PREPROCESSING

OF_0_1_0 = Path(__file__).parent / "preset-0.1.0.yaml"


def test_a_preset_of_ones_own_comes_back(tmp_path: Path) -> None:
    split = Split(train=tuple(f"patient {i}" for i in range(9)), validation=("ö: 'quoted'",), test=("007",))
    for made in (
        adapting("mine", (2, 3), PREPROCESSING, split),
        starting_from_nothing("mine", (), PREPROCESSING, None),
        adapting("mine", (), PREPROCESSING, None).with_recipe(learning_rate=1e-5, patience=None, steps=10),
    ):
        path = tmp_path / "mine.yaml"
        made.write(path)
        assert Preset.load(path) == made
        assert "learning_rate: " in path.read_text()
        assert "# AdamW's, at its peak" in path.read_text(), "each setting is explained"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("batch: 1", "batch: 0"), r"recipe\.batch: Input should be greater than 0 \(given: 0\)"),
        (("batch: 1", "batsch: 1"), r"recipe\.batsch: Extra inputs are not permitted"),
        (("tuning: spatial", "tuning: everything"), r"tuning: Input should be 'spatial', 'frozen'"),
        (("low: ", "low: 1000  # "), r"low 1000\.0 must lie below high"),
        (("crop: [", "crop: ["), None),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: tuple[str, str], message: str | None) -> None:
    text = to_yaml(Preset.load("kits21"))
    path = tmp_path / "wrong.yaml"
    path.write_text(text.replace(*change))
    if message is None:
        assert Preset.load(path) == Preset.load("kits21")
        return
    with pytest.raises(SettingsError, match=message):
        Preset.load(path)


def test_what_is_no_preset(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no preset 'kits': neither a file nor one of kits21, msd-pancreas"):
        Preset.load("kits")
    path = tmp_path / "no.yaml"
    path.write_text("[1, 2")
    with pytest.raises(SettingsError, match=r"no\.yaml: not YAML"):
        Preset.load(path)
    path.write_text("- 1")
    with pytest.raises(SettingsError, match=r"a preset is a mapping of settings, not list"):
        Preset.load(path)
    path.write_text(json.dumps({"name": "x"}))
    with pytest.raises(SettingsError, match=r"preprocessing: Field required"):
        Preset.load(path)


def test_a_preset_of_version_0_1_0_is_read() -> None:
    """Written by that version's own `Preset.write`: every key that was renamed since stands in it."""
    text = OF_0_1_0.read_text()
    for section in RENAMED.values():
        assert all(re.search(rf"^ *{old}:", text, re.MULTILINE) for old in section)
    preset = Preset.load(OF_0_1_0)
    moved, prompts = preset.augmentation, preset.prompt_sampling
    assert preset.target_labels == (2, 3)
    assert (moved.target_prob, moved.zoom_prob, moved.zoom_in_plane_prob) == (0.8, 0.6, 0.5)
    assert (moved.rotation_degrees, moved.rotation_prob, moved.rotate90_prob) == ((20, 20, 20), 0.7, 0.4)
    assert (moved.flip_prob, moved.translation, moved.intensity_shift_prob) == ((0, 0, 0.5), 0.12, 0.45)
    assert (moved.contrast, moved.brightness, moved.resize_prob) == (0.21, 0.22, 0.3)
    assert (moved.mask_out_prob, moved.background_paste_prob) == (0.55, 0.65)
    assert (prompts.target_clicks, prompts.random_clicks, prompts.stroke_prob) == ((1, 1), 0, 0.5)
    assert (prompts.first_prompt_prob["initial mask"], prompts.consistency_weight) == (0.15, 0.3)
    recipe = preset.recipe
    assert (recipe.final_lr_fraction, recipe.ema_decay, recipe.weights_dtype) == (0.02, 0.9, "bfloat16")
    assert recipe.num_validations == 4
    assert preset.split == Split(train=("007", "b", "c", "d", "e", "f", "g"), validation=("h",), test=("i",))
    assert Preset.model_validate(parse(to_yaml(preset), "again")) == preset


def test_a_setting_under_both_its_names(tmp_path: Path) -> None:
    path = tmp_path / "both.yaml"
    path.write_text(to_yaml(Preset.load("kits21")).replace("  ema_decay: 0.0", "  ema_decay: 0.0\n  averaging: 0.5"))
    with pytest.raises(SettingsError, match=r"both\.yaml: averaging is the earlier name of ema_decay; leave one"):
        Preset.load(path)


def test_a_preset_is_known_again_until_it_is_edited(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert not is_own(path)
    Preset.load("kits21").write(path)
    assert is_own(path)
    assert Preset.load(path) == Preset.load("kits21")
    written = path.read_text()
    path.write_text(written.replace("steps", "steps ", 1))
    assert not is_own(path)
    path.write_text("name: another\n")
    assert not is_own(path)
    path.write_bytes(b"\xff\xfe")
    assert not is_own(path)
