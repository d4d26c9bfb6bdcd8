"""Presets: the paper's four with its constants, forms of one, and changes on the command line."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from palpate.bundle import paper_preprocessing
from palpate.cohort import PaperSplit
from palpate.cohort.augmentation import PromptSampling
from palpate.cohort.targets import TargetSampling
from palpate.errors import SettingsError
from palpate.frame import CropPercentiles, Preprocessing
from palpate.simulation import FIRST_PROMPT_KINDS
from palpate.training.launch import Changes
from palpate.training.preset import PRESETS, Preset, starting_from_nothing
from palpate.training.recipe import Recipe
from small import PREPROCESSING


@pytest.mark.parametrize("name", PRESETS)
def test_the_papers_constants(name: str) -> None:
    """docs/design/network.md, sections 4 and 5."""
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


def test_changes_on_the_command_line() -> None:
    preset = Preset.load("kits21")
    changed = Changes(init="medsam", tuning="lora", fold=3, steps=10, batch=2, seed=5, checkpointing=False).applied(
        preset
    )
    assert (changed.init, changed.tuning) == ("medsam", "lora")
    assert changed.split == PaperSplit(paper="kits21", fold=3)
    assert changed.recipe == preset.recipe.model_copy(
        update={"epochs": None, "steps": 10, "batch": 2, "seed": 5, "checkpointing": False}
    )
    assert Changes().applied(preset) == preset
    longer = Changes(epochs=3).applied(changed).recipe
    assert (longer.steps, longer.total(10)) == (None, 15), "epochs take the place of steps"
    with pytest.raises(SettingsError, match=r"batch: Input should be greater than 0"):
        Changes(batch=0).applied(preset)
    with pytest.raises(SettingsError, match=r"tuning: Input should be 'spatial'"):
        Changes(tuning="all").applied(preset)
    with pytest.raises(
        SettingsError, match=r"--network tiny is for a start from nothing; the size here is sam_vit_b's"
    ):
        Changes(network="tiny").applied(preset)
    assert Changes(network="vit_l", init="none", tuning="full").applied(preset).network == "vit_l"
    small = Changes(init="dinov2_vits14", depth=8).applied(preset)
    assert (small.init, small.depth, preset.depth) == ("dinov2_vits14", 8, None)
    with pytest.raises(SettingsError, match=r"^depth: Input should be greater than or equal to 4 \(given: 3\)$"):
        Changes(depth=3).applied(preset)
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
    assert "automatic: true # true: a model without prompts" in (tmp_path / "mine.yaml").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dense": 16}, "an automatic model takes no prompts: leave out dense 16"),
        ({"quality": 8}, "leave out quality 8"),
        ({"targets": TargetSampling(synthetic=1)}, "leave out targets other than contours"),
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
    """What docs/how-to/propose.md prints is `starting_from_nothing` made automatic, for the hippocampus."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "propose.md").read_text()
    block = page.split("```yaml\n")[1].split("```")[0]
    (tmp_path / "page.yaml").write_text(block)
    preprocessing = Preprocessing(crop=(64, 64, 64), spacing=(1.0, 1.0, 1.0), normalisation=CropPercentiles())
    expected = starting_from_nothing("hippocampus-automatic", (), preprocessing, None).as_automatic()
    assert Preset.load(tmp_path / "page.yaml") == expected.with_recipe(steps=1500)


def test_targets_stay_in_a_preset_and_its_interactive_form(tmp_path: Path) -> None:
    targets = TargetSampling(contours=0.4, supervoxels=0.3, synthetic=0.3)
    preset = starting_from_nothing("mine", (), PREPROCESSING, None).model_copy(update={"targets": targets})
    preset.write(tmp_path / "mine.yaml")
    assert Preset.load(tmp_path / "mine.yaml").targets == targets
    assert preset.as_interactive().targets == targets
    assert preset.as_automatic().targets == TargetSampling()
    text = (tmp_path / "mine.yaml").read_text().replace("synthetic: 0.3", "blobs: 0.3")
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(SettingsError, match=r"targets\.blobs: Extra inputs are not permitted"):
        Preset.load(tmp_path / "wrong.yaml")


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


def test_only_a_model_trained_on_mirrored_crops_predicts_mirrored_ones() -> None:
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
