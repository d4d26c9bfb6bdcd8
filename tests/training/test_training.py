"""The loop, its schedule and its loss."""

import numpy as np
import pytest
import torch

from palpate.cohort.sampling import Augmentation, CropSampler, Labelled
from palpate.frame import Frame
from palpate.model import Network
from palpate.phantom import make_phantom
from palpate.training import Recipe, dice_cross_entropy, train
from palpate.training.loop import clicks_of_step, learning_rate
from small import CONFIG, PREPROCESSING


@pytest.fixture(scope="module")
def cohort() -> list[Labelled]:
    made = [make_phantom(shape=(48, 48, 32), spacing=(4, 4, 5), seed=seed) for seed in (0, 1)]
    return [Labelled(m.volume, m.lesion.full()) for m in made]


def sampler(cohort: list[Labelled], **changes: object) -> CropSampler:
    return CropSampler([cohort], [1.0], PREPROCESSING, Augmentation(**changes), seed=3)  # type: ignore[arg-type]


def test_loss_by_hand() -> None:
    """Two voxels, lesion and background, each seen as lesion with probability 3/4."""
    logit = float(np.log(3))
    logits = torch.tensor([[0.0, 0.0], [logit, logit]]).view(1, 2, 1, 1, 2)
    truth = torch.tensor([1, 0]).view(1, 1, 1, 2)
    dice = 1 - 2 * 0.75 / (1.5 + 1)
    entropy = -(np.log(0.75) + np.log(0.25)) / 2
    assert dice_cross_entropy(logits, truth).item() == pytest.approx(0.5 * dice + 0.5 * entropy, abs=1e-5)


def test_schedule_by_hand() -> None:
    recipe = Recipe(steps=110, warmup=10, learning_rate=1.0, final_share=0.01)
    assert learning_rate(recipe, 0) == pytest.approx(0.1)
    assert learning_rate(recipe, 9) == pytest.approx(1.0)
    assert learning_rate(recipe, 60) == pytest.approx(0.505), "half way down the cosine"
    assert learning_rate(recipe, 110) == pytest.approx(0.01)


def test_clicks_of_a_step() -> None:
    counts = [clicks_of_step(Recipe(steps=1, most_clicks=3), step) for step in range(400)]
    assert set(counts) == {1, 2, 3}
    assert 0.4 < counts.count(1) / 400 < 0.6
    assert {clicks_of_step(Recipe(steps=1, most_clicks=1), step) for step in range(20)} == {1}


def test_an_example_is_a_function_of_its_number(cohort: list[Labelled]) -> None:
    one, two = sampler(cohort).example(7, 2), sampler(cohort).example(7, 2)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one.image, sampler(cohort).example(8, 2).image)
    batch = sampler(cohort).batch(6, 2, 2)
    assert torch.equal(batch.image[1], one.image)
    assert batch.image.shape == (2, 1, 32, 32, 32)
    assert batch.truth.shape == (2, 32, 32, 32)
    assert batch.clicks.shape == (2, 2, 3)


def test_unmoved_and_undisturbed_it_is_what_inference_sees(cohort: list[Labelled]) -> None:
    still = sampler(cohort, zoom=1, stretch=1, turn_degrees=0, shift=0, flips=(False,) * 3, gain=0, offset=0, noise=0)
    example = still.example(0, 1)
    assert example.clicks.tolist() == [[16.0, 16.0, 16.0]]
    matches = []
    for scan in cohort:
        for index in np.argwhere(scan.lesion):
            frame = Frame.centred(scan.volume.grid, index, PREPROCESSING)
            image = frame.image(scan.volume.array, PREPROCESSING.normalisation)[0]
            if torch.equal(image, example.image):
                matches.append(index)
                share, inside = frame.extract(scan.lesion)
                assert torch.equal((share > 0.5) & inside, example.truth.bool())
    assert len(matches) == 1


def test_clicks_stay_on_the_lesion_when_the_crop_moves(cohort: list[Labelled]) -> None:
    drawn = sampler(cohort)
    on = []
    for index in range(12):
        example = drawn.example(index, 3)
        for d, h, w in example.clicks.round().long().tolist():
            if all(0 <= i < 32 for i in (d, h, w)):
                on.append(int(example.truth[d, h, w]))
    assert len(on) > 30
    assert np.mean(on) > 0.75, "but for voxels at its rim, which a coarser crop may lose"


@pytest.mark.slow
def test_it_learns_and_repeats(cohort: list[Labelled]) -> None:
    losses: list[list[float]] = [[], []]
    states = []
    for kept in losses:
        torch.manual_seed(0)
        recipe = Recipe(steps=30, batch=2, warmup=5, learning_rate=2e-3)
        averaged = train(Network(CONFIG), sampler(cohort), recipe, lambda step, loss, net, s, k=kept: k.append(loss))  # type: ignore[misc]
        states.append(averaged.state_dict())
    assert np.mean(losses[0][-5:]) < 0.75 * np.mean(losses[0][:5])
    assert losses[0] == losses[1]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_counted_rng_is_the_samplers_only_source(cohort: list[Labelled]) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    sampler(cohort).example(0, 1)
    assert torch.equal(torch.random.get_rng_state(), before)
