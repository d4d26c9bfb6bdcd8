"""The released program's own numbers, at full size: vit_b, 128³, float32."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from golden import recipe
from palpate.bundle import load
from palpate.cli import app
from palpate.model import Network

pytestmark = pytest.mark.slow
GOLDEN = Path(__file__).parents[1] / "golden"
Arrays = dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]


def watch(network: Network, seen: Arrays) -> None:
    """Record, sliced as the golden file slices them, what the layers put out."""

    def keep(module: torch.nn.Module, name: str, places: tuple[slice, ...]) -> None:
        module.register_forward_hook(lambda m, i, out: seen.__setitem__(name, out[0][places].numpy().copy()))

    fours = (slice(None, None, 4),) * 3
    eight = slice(None, None, 8)
    keep(network.encoder.embedding, "embed", (*fours, eight))
    for index in (0, 1, 11):
        keep(network.encoder.blocks[index], f"block{index}", (*fours, eight))
    for index in range(4):
        keep(network.encoder.necks[index], f"neck{index}", (eight, *fours))
    assert network.prompt is not None
    keep(network.prompt, "prompted", (eight, *fours))


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    """All of the golden file's arrays, by one import from the command line and one forward pass."""
    folder = tmp_path_factory.mktemp("parity")
    checkpoint, model = folder / "last.pth.tar", folder / "release.safetensors"
    torch.save(recipe.reference_checkpoint(), checkpoint)
    result = CliRunner().invoke(app, ["import", str(checkpoint), "-o", str(model)])
    assert result.exit_code == 0, result.output
    checkpoint.unlink()
    network = load(model).network
    model.unlink()
    seen: Arrays = {}
    watch(network, seen)
    with torch.inference_mode():
        features = network.encode(torch.from_numpy(recipe.volume())[None, None])
        for count in (1, 3):
            logits = network.decode(features, torch.from_numpy(recipe.CLICKS_DHW[:count])[None])[0]
            seen[f"prompted_{count}"] = seen["prompted"]
            seen[f"logits_{count}"] = logits[:, ::4, ::4, ::4].numpy()
            seen[f"logits_row_{count}"] = logits[:, 64, 64, :].numpy()
            seen[f"foreground_voxels_{count}"] = (logits.softmax(0)[1] > 0.5).sum().numpy()
    return seen


LAYERS = ["embed", "block0", "block1", "block11", *(f"neck{i}" for i in range(4)), "prompted_1", "prompted_3"]


@pytest.mark.parametrize("name", LAYERS)
def test_layers(computed: Arrays, name: str) -> None:
    expected = np.load(GOLDEN / "golden.npz")[name]
    assert computed[name].shape == expected.shape
    assert np.abs(computed[name] - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["logits_1", "logits_3", "logits_row_1", "logits_row_3"])
def test_logits(computed: Arrays, name: str) -> None:
    expected = np.load(GOLDEN / "golden.npz")[name]
    assert computed[name].shape == expected.shape
    assert np.abs(computed[name] - expected).max() <= 1e-4


@pytest.mark.parametrize("count", [1, 3])
def test_foreground(computed: Arrays, count: int) -> None:
    expected = int(np.load(GOLDEN / "golden.npz")[f"foreground_voxels_{count}"])
    assert abs(int(computed[f"foreground_voxels_{count}"]) - expected) <= 20
