"""A process's share of training: what moves, what stays, gradients over processes, memory that runs out."""

import multiprocessing
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch

from palpate.bundle import with_tuning
from palpate.cohort.augmentation import Augmentation, PromptSampling
from palpate.cohort.sampling import CropSampler
from palpate.cohort.targets import TargetSampling
from palpate.errors import DeviceError, SettingsError
from palpate.model import TUNINGS, Features, Network
from palpate.phantom import make_phantom
from palpate.training.loop import Trainer
from palpate.training.recipe import Recipe
from processes import in_two_processes
from small import CONFIG, PREPROCESSING, prepared_scan, small_bundle, stacked

RECIPE = Recipe(steps=4, batch=2, precision="float32", learning_rate=2e-3)
PROMPTS = PromptSampling(target_clicks=(1, 3), random_clicks=0, as_inference=True)


def sampler() -> CropSampler:
    made = [make_phantom(shape=(48, 48, 32), spacing=(4, 4, 5), seed=seed) for seed in (0, 1)]
    scans = [prepared_scan(m.volume, m.lesion.full()) for m in made]
    return CropSampler([scans], None, PREPROCESSING, Augmentation(), PROMPTS, seed=3)


@pytest.fixture(scope="module")
def crops() -> CropSampler:
    return sampler()


def trainer(crops: CropSampler, recipe: Recipe = RECIPE, messages: list[str] | None = None) -> Trainer:
    return Trainer(small_bundle().network, crops, recipe, notify=(messages if messages is not None else []).append)


def run(crops: CropSampler, recipe: Recipe = RECIPE) -> Trainer:
    made = trainer(crops, recipe)
    losses = list(made.steps())
    assert len(losses) == recipe.steps
    assert np.isfinite(losses).all()
    return made


@pytest.mark.parametrize("tuning", list(TUNINGS))
def test_each_tuning_choice_trains_what_it_says(crops: CropSampler, tuning: str) -> None:
    bundle = with_tuning(small_bundle(), tuning)
    before = {name: value.clone() for name, value in bundle.network.state_dict().items()}
    made = Trainer(bundle.network, crops, RECIPE, notify=print)
    list(made.steps())
    after = bundle.network.state_dict()
    for name, value in before.items():
        assert torch.equal(value, after[name]) == (name not in made.tuned), name


def test_it_learns(crops: CropSampler) -> None:
    losses = list(trainer(crops, RECIPE.model_copy(update={"steps": 30, "warmup": 5})).steps())
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9}, {"checkpointing": True}, {"precision": "bfloat16"}])
def test_it_repeats(crops: CropSampler, changes: dict[str, object]) -> None:
    recipe = RECIPE.model_copy(update=changes)
    one, two = run(crops, recipe), run(crops, recipe)
    assert all(torch.equal(p, two.tuned[n]) for n, p in one.tuned.items())
    average = dict(two.ema.named_parameters())
    assert all(torch.equal(p, average[n]) for n, p in one.ema.named_parameters())


def test_averaged_weights_by_hand(crops: CropSampler) -> None:
    """After one step: 9/10 of the new weights, since the decay rises from (1 + 0) / (10 + 0)."""
    first = dict(small_bundle().network.named_parameters())
    made = run(crops, RECIPE.model_copy(update={"steps": 1, "ema_decay": 0.99}))
    for name, average in made.ema.named_parameters():
        assert torch.allclose(average, 0.1 * first[name] + 0.9 * dict(made.network.named_parameters())[name], atol=1e-7)


def test_recomputed_blocks_change_nothing(crops: CropSampler) -> None:
    one, two = run(crops), run(crops, RECIPE.model_copy(update={"checkpointing": True}))
    assert all(torch.equal(p, two.tuned[n]) for n, p in one.tuned.items())


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "getsid"), reason="no sessions of processes on this system")
def test_ctrl_c_is_not_for_loader_workers(crops: CropSampler) -> None:
    """A terminal sends it to its whole group; a training that is to end well still needs its crops."""
    steps = Trainer(small_bundle().network, crops, RECIPE, workers=1, notify=print).steps()
    next(steps)
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    assert os.getsid(worker.pid) != os.getsid(0)
    assert os.getpgid(worker.pid) != os.getpgid(0)
    assert len(list(steps)) == RECIPE.steps - 1  # type: ignore[operator]


def test_loader_workers_change_nothing(crops: CropSampler) -> None:
    one = run(crops)
    two = Trainer(small_bundle().network, crops, RECIPE, workers=2, notify=print)
    list(two.steps())
    assert all(torch.equal(p, two.tuned[n]) for n, p in one.tuned.items())


def test_loader_workers_make_the_same_targets(crops: CropSampler) -> None:
    weights = TargetSampling(supervoxels=1, thresholds=1, synthetic=1, transplants=1)
    made = CropSampler(crops.cohorts, None, PREPROCESSING, Augmentation(), PROMPTS, seed=3, targets=weights)
    here, there = (Trainer(small_bundle().network, made, RECIPE, workers=n, notify=print) for n in (0, 2))
    for one, other in zip(here._loader(), there._loader(), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_gone_on_with_it_is_the_same(crops: CropSampler) -> None:
    recipe = RECIPE.model_copy(update={"ema_decay": 0.9})
    whole = run(crops, recipe)
    first = trainer(crops, recipe)
    steps = first.steps()
    next(steps)
    next(steps)
    files = {f: {n: t.clone() for n, t in tensors.items()} for f, tensors in first.tensors().items()}
    second = trainer(crops, recipe)
    second.restore(files, first.numbers())
    assert second.step == 2
    assert len(list(second.steps())) == 2
    assert all(torch.equal(p, second.tuned[n]) for n, p in whole.tuned.items())
    average = dict(second.ema.named_parameters())
    assert all(torch.equal(p, average[n]) for n, p in whole.ema.named_parameters())


def test_a_state_of_another_network(crops: CropSampler) -> None:
    first = run(crops)
    other = Trainer(Network(CONFIG.model_copy(update={"depth": 8})), crops, RECIPE, notify=print)
    with pytest.raises(SettingsError, match="the saved state is of another network"):
        other.restore(first.tensors(), first.numbers())


def gradients(made: Trainer) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in made.tuned.items() if p.grad is not None}


def assert_same_gradients(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    """Every tensor's difference is rounding: a thousandth of it, or a hundred thousandth of all of them together."""
    assert a.keys() == b.keys()
    scale = torch.cat([value.flatten() for value in b.values()]).norm()
    for name, value in b.items():
        assert (a[name] - value).norm() < 1e-3 * value.norm() + 1e-5 * scale, name


class Starved(Network):
    """The small network; forward passes of more than some crops fail as if memory had run out."""

    max_crops = 0
    checkpointed = False  # whether those without recomputed blocks fail too

    def encode(self, crop: torch.Tensor, progress: Callable[[float], None] | None = None) -> Features:
        if len(crop) > self.max_crops or (self.checkpointed and not self.encoder.checkpointing):
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate ...")
        return super().encode(crop, progress)


class Failing(Network):
    """The small network; its first forward pass fails with a message, and with a tensor in its frame."""

    message = ""
    tensor: weakref.ref[torch.Tensor] | None = None

    def encode(self, crop: torch.Tensor, progress: Callable[[float], None] | None = None) -> Features:
        if self.tensor is None:
            large = torch.zeros(1000)
            self.tensor = weakref.ref(large)
            raise RuntimeError(self.message)
        assert self.tensor() is None
        return super().encode(crop, progress)


Kind = TypeVar("Kind", bound=Network)


def small_network(kind: type[Kind]) -> Kind:
    """A network of another class with the small one's weights."""
    network = kind(CONFIG)
    network.load_state_dict(small_bundle().network.state_dict())
    return network


def test_memory_that_runs_out_is_answered_and_reported(crops: CropSampler) -> None:
    recipe = RECIPE.model_copy(update={"batch": 4, "steps": 1, "checkpointing": False})
    example = stacked(crops, 0, 4, 2)
    plain, messages = trainer(crops, recipe), list[str]()
    loss = plain.gradients(example)
    starved = small_network(Starved)
    starved.max_crops, starved.checkpointed = 1, True
    made = Trainer(starved, crops, recipe, notify=messages.append)
    assert made.gradients(example) == pytest.approx(loss, rel=1e-5)
    assert made.micro_batch == 1
    assert [line.split(":")[0] for line in messages] == ["memory ran out"] * 3
    assert "2 crops at a time" in messages[0]
    assert "1 crops at a time" in messages[1]
    assert "recomputed" in messages[2]
    assert_same_gradients(gradients(made), gradients(plain))


def test_what_there_was_no_room_for_is_let_go(crops: CropSampler) -> None:
    """The error that says so would keep the tensors of its frames, and the next try would fail too."""
    network = small_network(Failing)
    network.message = "can't allocate memory"
    made = Trainer(network, crops, RECIPE, notify=lambda _: None)
    made.gradients(stacked(crops, 0, 2, 1))
    assert made.micro_batch == 1


def test_not_enough_memory_for_one_crop(crops: CropSampler) -> None:
    made = Trainer(small_network(Starved), crops, RECIPE, notify=lambda _: None)
    with pytest.raises(DeviceError, match="not enough memory for a single crop, even with blocks recomputed"):
        list(made.steps())


def test_other_failures_are_not_hidden(crops: CropSampler) -> None:
    network = small_network(Failing)
    network.message = "something else"
    made = Trainer(network, crops, RECIPE, notify=lambda _: None)
    with pytest.raises(RuntimeError, match="something else"):
        list(made.steps())


def test_half_precision_needs_a_gpu(crops: CropSampler) -> None:
    with pytest.raises(SettingsError, match="float16 cannot train on a CPU"):
        trainer(crops, RECIPE.model_copy(update={"precision": "float16"}))


TWO = """
import sys
import torch
from accelerate import Accelerator
sys.path.insert(0, {tests!r})
from small import small_bundle
sys.path.insert(0, {here!r})
from test_loop import RECIPE, sampler
from palpate.training.loop import Trainer

accelerator = Accelerator(cpu=True)
assert accelerator.num_processes == 2
made = Trainer(small_bundle().network, sampler(), RECIPE.model_copy(update={{"batch": 1}}), accelerator, notify=print)
loss = made.gradients(next(iter(made._loader())))
if accelerator.is_main_process:
    torch.save({{"loss": loss, **{{n: p.grad for n, p in made.tuned.items()}}}}, {out!r})
accelerator.wait_for_everyone()
accelerator.end_training()
"""


@pytest.fixture
def gradients_of_two(tmp_path: Path) -> dict[str, torch.Tensor]:
    script, out = tmp_path / "two.py", tmp_path / "gradients.pt"
    here = Path(__file__).parent
    script.write_text(TWO.format(tests=str(here.parent), here=str(here), out=str(out)))
    in_two_processes([str(script)], out)
    gradients: dict[str, torch.Tensor] = torch.load(out, weights_only=True)
    return gradients


@pytest.mark.slow
def test_two_processes_give_the_gradients_of_one_with_twice_the_batch(
    crops: CropSampler, gradients_of_two: dict[str, torch.Tensor]
) -> None:
    one = trainer(crops)
    loss = one.gradients(next(iter(one._loader())))
    assert gradients_of_two.pop("loss") == pytest.approx(loss, rel=1e-5)
    assert gradients_of_two.keys() == one.tuned.keys()
    assert_same_gradients(gradients_of_two, gradients(one))
