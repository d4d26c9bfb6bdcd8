"""Presets: the paper's four with its constants, and one's own, as readable YAML."""

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from palpate.bundle import paper_preprocessing
from palpate.cohort import PaperSplit, Split
from palpate.cohort.augmentation import PromptSampling
from palpate.errors import SettingsError
from palpate.frame import CropPercentiles, Preprocessing
from palpate.simulation import FIRST_PROMPT_KINDS
from palpate.training.launch import Changes
from palpate.training.preset import PRESETS, Preset, adapting, starting_from_nothing
from palpate.training.preset_file import RENAMED, is_own, parse, to_yaml
from palpate.training.recipe import Recipe
from small import PREPROCESSING

OF_0_1_0 = Path(__file__).parent / "preset-0.1.0.yaml"


@pytest.mark.parametrize("name", PRESETS)
def test_the_papers_constants(name: str) -> None:
    """docs/network.md, sections 4 and 5."""
    preset = Preset.load(name)
    assert preset.preprocessing == paper_preprocessing(name)
    assert preset.target_labels == ((1,) if name == "msd-colon" else (2,))
    assert (preset.init, preset.tuning, preset.network) == ("sam_vit_b", "spatial", "vit_b")
    recipe = preset.recipe
    assert (recipe.epochs, recipe.batch, recipe.learning_rate, recipe.schedule) == (500, 1, 4e-4, "linear")
    assert (recipe.final_lr_fraction, recipe.weight_decay, recipe.gradient_norm, recipe.ema_decay) == (0.01, 0, 1, 0)
    assert (preset.prompt_sampling.target_clicks, preset.prompt_sampling.random_clicks) == ((10, 10), 20)
    moved = preset.augmentation
    assert moved.target_prob == pytest.approx(2 / 3)
    assert (moved.intensity_shift, moved.intensity_shift_prob) == (20, 0.5)
    assert (moved.flip_prob, moved.rotate90_prob, moved.translation) == ((0.5, 0.5, 0.5), 0.5, 0.1)
    if name in ("kits21", "lits17"):
        assert (moved.zoom, moved.zoom_prob, moved.rotation_prob) == ((0.85, 1.25), 0.8, 0)
    else:
        assert (moved.zoom_in_plane, moved.zoom_in_plane_prob) == ((0.9, 1.1), 0.3)
        assert (moved.rotation_degrees, moved.rotation_prob, moved.zoom_prob) == ((30, 0, 0), 0.3, 0)


@pytest.mark.parametrize(
    ("name", "counts"),
    [("kits21", (209, 30, 61)), ("msd-pancreas", (196, 28, 57)), ("lits17", (83, 11, 24)), ("msd-colon", (89, 11, 26))],
)
def test_the_papers_splits(name: str, counts: tuple[int, int, int]) -> None:
    preset = Preset.load(name)
    assert isinstance(preset.split, PaperSplit)
    split = preset.split.resolve()
    assert (len(split.train), len(split.validation), len(split.test)) == counts
    others = [PaperSplit(paper=preset.split.paper, fold=fold).resolve() for fold in range(1, 5)]
    assert len({split.sha256, *(other.sha256 for other in others)}) == 5


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


def test_changes_on_the_command_line() -> None:
    preset = Preset.load("kits21")
    changed = Changes(init="medsam", tuning="lora", fold=3, steps=10, batch=2, seed=5, checkpointing=False).applied(
        preset
    )
    assert (changed.init, changed.tuning) == ("medsam", "lora")
    assert changed.split == PaperSplit(paper="kits21", fold=3)
    assert changed.recipe == preset.recipe.model_copy(
        update={"steps": 10, "batch": 2, "seed": 5, "checkpointing": False}
    )
    assert Changes().applied(preset) == preset
    assert Changes(epochs=3).applied(changed).recipe.total(10) == 15, "epochs take the place of steps"
    with pytest.raises(SettingsError, match=r"batch: Input should be greater than 0"):
        Changes(batch=0).applied(preset)
    with pytest.raises(SettingsError, match=r"tuning: Input should be 'spatial'"):
        Changes(tuning="all").applied(preset)
    with pytest.raises(
        SettingsError, match=r"--network tiny is for a start from nothing; the size here is sam_vit_b's"
    ):
        Changes(network="tiny").applied(preset)
    assert Changes(network="vit_l", init="none", tuning="full").applied(preset).network == "vit_l"
    own = starting_from_nothing("mine", (), PREPROCESSING, None)
    with pytest.raises(SettingsError, match=r"preset mine has no folds"):
        Changes(fold=1).applied(own)
    assert own.preprocessing.normalisation == CropPercentiles()
    assert own.recipe != Recipe()


def test_the_automatic_form_of_the_papers() -> None:
    """Table 2: crops of 256³, no prompts; what is left is the cohort's."""
    preset = Preset.load("kits21")
    made = preset.as_automatic()
    assert (made.automatic, made.token_voxels) == (True, 8)
    assert made.preprocessing == preset.preprocessing.model_copy(update={"crop": (256, 256, 256)})
    assert made.augmentation == preset.augmentation
    assert (made.recipe, made.split, made.init, made.tuning) == (
        preset.recipe, preset.split, preset.init, preset.tuning,
    )  # fmt: skip
    assert made.as_automatic() == made
    assert Preset.model_validate(made.model_dump()) == made


def test_the_automatic_form_of_ones_own(tmp_path: Path) -> None:
    wide = PREPROCESSING.model_copy(update={"zoom": (0.5, 4.0)})
    prompts = PromptSampling(
        target_clicks=(1, 3), rounds=4, first_prompt_prob={"click": 1.0, "box": 1.0}, consistency_weight=0.5
    )
    preset = starting_from_nothing("mine", (2,), wide, None).model_copy(
        update={"dense": 16, "quality": 32, "prompts": prompts}
    )
    made = Changes(automatic=True, steps=7, seed=3).applied(preset)
    assert made.preprocessing == PREPROCESSING, "its own crop stays, and is looked at with its own spacing"
    assert (made.token_voxels, made.dense, made.quality, made.recipe.steps, made.recipe.seed) == (None, 0, 0, 7, 3)
    assert made.augmentation.target_prob == pytest.approx(2 / 3)
    assert (made.prompt_sampling.rounds, made.prompt_sampling.first_prompt_prob) == (1, {"click": 1.0})
    tiny = Changes(automatic=True, init="none", tuning="full", network="tiny").applied(Preset.load("kits21"))
    assert (tiny.preprocessing.crop, tiny.token_voxels) == ((128, 128, 128), None)
    made.write(tmp_path / "mine.yaml")
    assert Preset.load(tmp_path / "mine.yaml") == made
    assert "automatic: true # a model without prompts" in (tmp_path / "mine.yaml").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dense": 16}, "an automatic model takes no prompts: leave out dense 16"),
        ({"quality": 8}, "leave out quality 8"),
        (
            {"prompt_sampling": PromptSampling(rounds=3)},
            "leave out prompts with corrections or of other kinds than clicks",
        ),
        ({"prompt_sampling": PromptSampling(first_prompt_prob={"box": 1.0})}, "or of other kinds than clicks"),
        ({"token_voxels": 5}, r"token_voxels: Input should be 4, 8 or 16"),
    ],
)
def test_an_automatic_preset_has_nothing_of_prompts(tmp_path: Path, change: dict[str, object], message: str) -> None:
    preset = starting_from_nothing("mine", (), PREPROCESSING, None).as_automatic()
    preset.model_copy(update=change).write(tmp_path / "mine.yaml")
    with pytest.raises(SettingsError, match=message):
        Preset.load(tmp_path / "mine.yaml")


def test_the_preset_of_the_page_on_automatic_models(tmp_path: Path) -> None:
    """What docs/automatic.md prints is `starting_from_nothing` made automatic, for the hippocampus."""
    page = (Path(__file__).parents[2] / "docs" / "automatic.md").read_text()
    block = page.split("```yaml\n")[1].split("```")[0]
    (tmp_path / "page.yaml").write_text(block)
    preprocessing = Preprocessing(crop=(64, 64, 64), spacing=(1.0, 1.0, 1.0), normalisation=CropPercentiles())
    expected = starting_from_nothing("hippocampus-automatic", (), preprocessing, None).as_automatic()
    assert Preset.load(tmp_path / "page.yaml") == expected.with_recipe(steps=1500)


def test_an_interactive_preset_takes_every_prompt_and_zooms(tmp_path: Path) -> None:
    paper = Preset.load("kits21")
    made = paper.as_interactive()
    assert (made.dense, made.quality, made.preprocessing.zoom) == (16, 64, (0.5, 8.0))
    assert made.prompt_sampling.rounds == 6
    assert set(made.prompt_sampling.first_prompt_prob) == set(FIRST_PROMPT_KINDS)
    assert made.augmentation.resize_prob == 0.3
    assert made.recipe == paper.recipe
    assert made.as_interactive() == made, "what is set stays"
    made.write(tmp_path / "made.yaml")
    assert Preset.load(tmp_path / "made.yaml") == made
    with pytest.raises(SettingsError, match="preset kits21 is automatic, it takes no prompts; choose one of the two"):
        paper.as_automatic().as_interactive()
    with pytest.raises(SettingsError, match="--interactive takes every prompt and --automatic takes none"):
        Changes(interactive=True, automatic=True).applied(paper)
    assert Changes(interactive=True, seed=4).applied(paper) == made.with_recipe(seed=4)


def test_a_zoom_takes_in_the_crops_own_size() -> None:
    """Crops that training only ever widens: inference looks at its own spacing first."""
    preset = starting_from_nothing("x", (), PREPROCESSING, None)
    wider = preset.model_copy(update={"augmentation": preset.augmentation.model_copy(update={"resize": (1.5, 4.0)})})
    assert wider.as_interactive().preprocessing.zoom == (1.0, 4.0)


def test_only_a_model_trained_on_mirrored_crops_looks_at_them() -> None:
    preset = starting_from_nothing("x", (), PREPROCESSING, None)
    assert preset.augmentation.flip_prob[2] > 0
    assert not preset.preprocessing.mirror
    assert preset.as_interactive().preprocessing.mirror
    never = preset.model_copy(update={"augmentation": preset.augmentation.model_copy(update={"flip_prob": (0, 0, 0)})})
    assert not never.as_interactive().preprocessing.mirror
    mirrored = {"preprocessing": PREPROCESSING.model_copy(update={"mirror": True}).model_dump()}
    with pytest.raises(ValidationError, match="must be trained on some; set flip_prob of W above 0"):
        Preset.model_validate(never.model_dump() | mirrored)
    with pytest.raises(ValidationError, match="takes no prompts: leave out mirror"):
        Preset.model_validate(preset.as_automatic().model_dump() | mirrored)
    assert not preset.as_interactive().model_copy(update={"automatic": False}).as_automatic().preprocessing.mirror


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
