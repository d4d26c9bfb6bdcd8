"""The simulated user on training crops: the prompts of inference, repeated by their numbers."""

import pytest
import torch
from torch import Tensor

from palpate.cohort.augmentation import Augmentation, PromptSampling
from palpate.cohort.sampling import CropSampler, Example
from palpate.errors import SettingsError
from palpate.model import Features, Network
from palpate.phantom import make_phantom
from palpate.training.interaction import Answer, Interaction
from palpate.training.loop import Trainer
from palpate.training.preset import starting_from_nothing
from palpate.training.recipe import Recipe
from palpate.training.settings import starting_bundle
from small import PREPROCESSING, prepared_scan, prompted_bundle, small_bundle, stacked

KINDS = {"click": 0.5, "box": 0.2, "scribble": 0.1, "lasso": 0.1, "initial mask": 0.1}
PROMPTS = PromptSampling(
    target_clicks=(1, 1), random_clicks=0, as_inference=True, rounds=4, first_prompt_prob=KINDS, stroke_prob=0.5
)


def sampler(prompts: PromptSampling = PROMPTS) -> CropSampler:
    made = [make_phantom(shape=(48, 48, 32), spacing=(4, 4, 5), seed=seed) for seed in (0, 1)]
    scans = [prepared_scan(m.volume, m.lesion.full()) for m in made]
    return CropSampler([scans], None, PREPROCESSING, Augmentation(), prompts, seed=3)


def test_rounds_and_kinds_are_counted() -> None:
    turns = [PROMPTS.num_rounds(0, number) for number in range(400)]
    assert set(turns) == {1, 2, 3, 4}
    assert 0.33 < turns.count(1) / 400 < 0.47
    kinds = [PROMPTS.first_kind(0, number) for number in range(400)]
    assert set(kinds) == set(KINDS)
    assert 0.4 < kinds.count("click") / 400 < 0.6
    assert {PromptSampling().num_rounds(0, n) for n in range(20)} == {1}


def test_answers_repeat_and_are_learned_from() -> None:
    network = prompted_bundle().network.train()
    example = stacked(sampler(), 0, 6, 1)
    interaction = Interaction(PROMPTS, PREPROCESSING, 0)
    features = network.encode(example.image)
    one, two = (interaction.answers(network, features, example.truth, example.clicks[:, 0], range(6)) for _ in range(2))
    first, last = one
    assert first.crops == [0, 1, 2, 3, 4, 5]
    assert last.crops == [number for number in range(6) if PROMPTS.num_rounds(0, number) > 1]
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a.logits, b.logits)
        assert a.logits.requires_grad
        assert a.logits.shape == (len(a.crops), 2, 32, 32, 32)
        for crop, prompted, again in zip(a.crops, a.prompted, b.prompted, strict=True):
            assert torch.equal(prompted, again)
            assert example.truth[crop][tuple(prompted.t())].shape == (len(prompted),)


def test_crops_answered_together_are_answered_as_alone() -> None:
    """Crops of other numbers of prompts and rounds beside it change nothing but rounding."""
    network = prompted_bundle().network.train()
    example = stacked(sampler(), 0, 6, 1)
    interaction = Interaction(PROMPTS, PREPROCESSING, 0)

    def answers(crops: list[int]) -> list[Answer]:
        features = network.encode(example.image[crops])
        return interaction.answers(network, features, example.truth[crops], example.clicks[crops, 0], crops)

    together = answers([0, 1, 2, 3, 4, 5])
    for crop in range(6):
        alone = answers([crop])
        of_crop = [
            (a.logits[a.crops.index(crop)], a.prompted[a.crops.index(crop)]) for a in together if crop in a.crops
        ]
        assert len(alone) == len(of_crop)
        for answer, (logits, prompted) in zip(alone, of_crop, strict=True):
            torch.testing.assert_close(answer.logits[0], logits, rtol=1e-4, atol=1e-4)
            assert torch.equal(answer.prompted[0], prompted)


class Blank(Network):
    """A network that finds no target anywhere, whatever the prompts."""

    def decode(self, features: Features, *_: object) -> Tensor:
        empty = torch.ones(len(features.deepest), 32, 32, 32)
        return torch.stack([empty, torch.zeros_like(empty)], 1).requires_grad_()


def test_the_last_answer_is_learned_from_where_no_error_is_left() -> None:
    """A user who runs out of errors before the last round: the last answer counts, as a last round's."""
    network = Blank(prompted_bundle().network.config).train()
    interaction = Interaction(PROMPTS.model_copy(update={"rounds": 50, "stroke_prob": 0.0}), PREPROCESSING, 0)
    truth = torch.zeros(1, 32, 32, 32, dtype=torch.int64)
    truth[0, 16, 16, 16:18] = 1
    number = next(n for n in range(200) if interaction.sampling.num_rounds(0, n) > 4)
    features = network.encode(torch.randn(1, 1, 32, 32, 32))
    found = interaction.answers(network, features, truth, torch.full((1, 3), 16.0), [number])
    assert len(found) == 2
    assert len(found[1].prompted[0]) < interaction.sampling.num_rounds(0, number), (
        "there are no more than two voxels to prompt"
    )
    assert all(answer.logits.requires_grad for answer in found)


def test_a_crop_without_target_gets_a_background_click() -> None:
    network = prompted_bundle().network
    interaction = Interaction(PROMPTS, PREPROCESSING, 0)
    nothing = torch.zeros(1, 32, 32, 32, dtype=torch.int64)
    prompt = interaction._first(nothing[0].bool().numpy(), torch.zeros(3), 5)
    assert not prompt.positive
    features = network.encode(torch.randn(1, 1, 32, 32, 32))
    (answer,) = interaction.answers(network, features, nothing, torch.zeros(1, 3), [5])
    assert answer.logits.isfinite().all()


def test_crops_count_alike_however_many_answers_they_have() -> None:
    """The loss of a batch is the mean of its crops' losses, each of them the mean over the crop's answers."""
    recipe = Recipe(steps=1, batch=4, precision="float32")
    example = stacked(sampler(), 0, 4, 1)
    together, alone = (Trainer(prompted_bundle().network, sampler(), recipe, notify=print) for _ in range(2))
    losses = [alone.gradients(Example(*(part[crop : crop + 1] for part in example))) for crop in range(4)]
    assert together.gradients(example) == pytest.approx(sum(losses) / 4, rel=1e-4)


def test_training_moves_all_that_prompts_go_through() -> None:
    bundle = prompted_bundle()
    before = {name: value.clone() for name, value in bundle.network.state_dict().items()}
    recipe = Recipe(steps=6, batch=2, precision="float32", learning_rate=1e-3)
    trainer = Trainer(bundle.network, sampler(), recipe, notify=print)
    list(trainer.steps())
    moved = {name for name, value in bundle.network.state_dict().items() if not torch.equal(value, before[name])}
    through = {name for name in before if name.startswith(("dense.", "prompt.labels"))}
    assert {name.split(".")[0] for name in through} == {"dense", "prompt"}
    assert through <= moved


def test_corrections_need_a_network_that_knows_them() -> None:
    for prompts in (PROMPTS, PromptSampling(rounds=2), PromptSampling(first_prompt_prob={"box": 1.0})):
        with pytest.raises(SettingsError, match="need a network with dense prompts: set dense to 16"):
            Trainer(small_bundle().network, sampler(prompts), Recipe(steps=1), notify=print)


def test_the_prompt_consistency_loss_needs_dense_prompts() -> None:
    with pytest.raises(
        SettingsError,
        match="consistency_weight: the prompt-consistency loss needs a network with dense prompts; set dense to 16",
    ):
        Trainer(small_bundle().network, sampler(PromptSampling(consistency_weight=0.5)), Recipe(steps=1), notify=print)


def test_a_preset_asks_for_them() -> None:
    preset = starting_from_nothing("x", (), PREPROCESSING, None).model_copy(update={"dense": 8})
    dense = starting_bundle(preset).network.dense
    assert dense is not None
    assert dense.conv1.out_channels == 8


def test_kinds_that_are_none() -> None:
    with pytest.raises(ValueError, match="first_prompt_prob: of click, box, slice box"):
        PromptSampling(first_prompt_prob={"point": 1.0})


def test_strokes_are_corrections() -> None:
    with pytest.raises(ValueError, match="stroke_prob: without corrections there are no strokes; set rounds above 1"):
        PromptSampling(stroke_prob=0.3)
