"""Presets as files: written and read again, of this version and of version 0.1.0, and what is wrong with one."""

import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from palpate.cohort import Split
from palpate.errors import SettingsError
from palpate.simulation import FIRST_PROMPT_KINDS
from palpate.training.preset import PRESETS, Preset, adapting, starting_from_nothing
from palpate.training.preset_file import RENAMED, parse, to_yaml
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
        assert "# AdamW's learning rate at its peak" in path.read_text(), "each setting is explained"


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


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_that_ships_is_as_this_version_writes_it(name: str) -> None:
    text = (resources.files("palpate.training") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    assert text == to_yaml(Preset.load(name))


def sections(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """The fields of a preset and of its sections, whichever a preset has."""
    for name, field in model.model_fields.items():
        yield f"{model.__name__}.{name}", field
    for section in typed(model):
        yield from sections(section)


def typed(model: type[BaseModel]) -> set[type[BaseModel]]:
    """The models among the types of a model's fields."""
    waiting: list[object] = [field.annotation for field in model.model_fields.values()]
    found: set[type[BaseModel]] = set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, type) and issubclass(one, BaseModel):
            found.add(one)
        waiting += get_args(one)
    return found


def test_each_setting_has_its_meaning_and_its_choices() -> None:
    settings = dict(sections(Preset))
    assert {"ClipZScore.kind", "ClipZScore.mean", "CropPercentiles.kind", "Split.train"} <= set(settings), "all of them"
    for name, field in settings.items():
        assert field.description, name
        for choice in get_args(field.annotation):
            if isinstance(choice, str | int):
                assert str(choice) in field.description, f"{name}: {choice}"
        if name.endswith("_prob") and name != "PromptSampling.first_prompt_prob":
            assert "0 to 1" in field.description, name
    for kind in FIRST_PROMPT_KINDS:
        assert kind in str(settings["PromptSampling.first_prompt_prob"].description)


def test_a_preset_says_how_long_once() -> None:
    epochs, steps = adapting("mine", (), PREPROCESSING, None), starting_from_nothing("mine", (), PREPROCESSING, None)
    assert re.findall(r"^  (epochs|steps): .*$", to_yaml(epochs), re.MULTILINE) == ["epochs"]
    assert re.findall(r"^  (epochs|steps): .*$", to_yaml(steps), re.MULTILINE) == ["steps"]
    assert (epochs.recipe.epochs, epochs.recipe.steps) == (500, None)
    assert (steps.recipe.epochs, steps.recipe.steps) == (None, 3000)


@pytest.mark.parametrize(
    ("lengths", "total"),
    [
        ("epochs: 500\n  steps: null", 500 * 209),
        ("epochs: 500\n  steps: 7", 7),
        ("epochs: 2", 2 * 209),
        ("steps: 7", 7),
    ],
)
def test_lengths_as_earlier_versions_wrote_them(tmp_path: Path, lengths: str, total: int) -> None:
    text = to_yaml(Preset.load("kits21"))
    before, after = re.split(r"epochs: 500", text, maxsplit=1)
    signature = "# As Palpate wrote it; hash of the lines above: 0123456789abcdef\n"
    (tmp_path / "old.yaml").write_text(f"{before}{lengths}{after}{signature}")
    preset = Preset.load(tmp_path / "old.yaml")
    assert preset.recipe.total(209) == total
    assert len(re.findall(r"^  (epochs|steps): .*$", to_yaml(preset), re.MULTILINE)) == 1


def test_a_preset_of_ones_own_with_both_lengths_is_refused(tmp_path: Path) -> None:
    text = to_yaml(Preset.load("kits21"))
    (tmp_path / "mine.yaml").write_text(text.replace("epochs: 500", "epochs: 2\n  steps: 7"))
    with pytest.raises(SettingsError, match="epochs and steps both say how long; leave one of them"):
        Preset.load(tmp_path / "mine.yaml")


def test_the_kind_of_normalisation_comes_first() -> None:
    """What low and high mean depends on it."""
    settings = re.findall(r"^    (\w+):", to_yaml(Preset.load("kits21")), re.MULTILINE)
    assert settings[:5] == ["kind", "low", "high", "mean", "std"]
