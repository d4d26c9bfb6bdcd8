"""vit_b from a checkpoint laid out as SAM's: what stays, stays bit for bit; what is tuned and used, moves."""

from pathlib import Path

import pytest
import torch

from golden.recipe import sam_checkpoint
from palpate.bundle import import_foreign, load, with_tuning
from palpate.cohort.sampling import CropSampler
from palpate.model import is_frozen, is_unused
from palpate.phantom import make_phantom
from palpate.training.loop import Trainer
from palpate.training.preset import Preset
from small import prepared_scan


@pytest.mark.slow
def test_ten_steps_of_vit_b(tmp_path: Path) -> None:
    torch.save(sam_checkpoint("vit_b"), tmp_path / "sam.pth")
    preset = Preset.load("kits21").with_recipe(steps=10)
    imported = import_foreign(tmp_path / "sam.pth", preset.preprocessing)
    before = {name: value.clone() for name, value in imported.network.state_dict().items()}
    bundle = with_tuning(imported, preset.tuning, preset.recipe.seed)
    assert all(torch.equal(value, before[name]) for name, value in bundle.network.state_dict().items())
    made = make_phantom(shape=(96, 96, 64), spacing=(2, 2, 2.5), site="kidney")
    preprocessing = preset.preprocessing.model_copy(update={"crop": (64, 64, 64)})
    sampler = CropSampler(
        [[prepared_scan(made.volume, made.lesion.full())]],
        None,
        preprocessing,
        preset.augmentation,
        preset.prompt_sampling,
    )
    trainer = Trainer(bundle.network, sampler, preset.recipe, notify=print)
    assert sum(p.numel() for p in trainer.tuned.values()) == 25_462_400 - 263_424
    losses = list(trainer.steps())
    assert all(0 < loss < 5 for loss in losses)
    config = bundle.network.config
    for name, value in bundle.network.state_dict().items():
        stays = is_frozen(name, config) or is_unused(name)
        assert torch.equal(value, before[name]) == stays, name
    bundle.save(tmp_path / "adapter.safetensors", adapter_only=True, base_name="sam_vit_b")
    assert (tmp_path / "adapter.safetensors").stat().st_size < 103e6
    loaded = load(tmp_path / "adapter.safetensors", base=imported)
    state = loaded.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in bundle.network.state_dict().items())
