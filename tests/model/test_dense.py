"""Prompts as maps: nothing before training, and at their own places after it."""

import pytest
import torch

from palpate.bundle import with_extra_heads
from palpate.model import SIZES, Network
from palpate.model.dense import DensePrompts, in_eights
from small import CONFIG, prompted_bundle, small_bundle


def test_a_network_that_gains_it_computes_what_it_did() -> None:
    plain = small_bundle()
    gained = with_extra_heads(plain, dense=8)
    crop, clicks = torch.randn(2, 1, 32, 32, 32), torch.full((2, 3, 3), 12.0)
    maps, labels = torch.rand(2, 4, 32, 32, 32), torch.tensor([[0, 1, 2]] * 2)
    with torch.no_grad():
        before = plain.network(crop, clicks)
        assert torch.equal(before, gained.network(crop, clicks))
        assert torch.equal(before, gained.network(crop, clicks, labels, maps))


@pytest.mark.parametrize("token", [4, 8])
def test_shapes(token: int) -> None:
    for detail in (0, 4):
        config = CONFIG.model_copy(update={"dense_width": 6, "token_voxels": token, "detail_width": detail})
        seen = DensePrompts(config)(torch.zeros(1, 4, 32, 32, 32))
        assert seen.deep.shape == (1, config.neck_width, *[32 // token] * 3)
        assert seen.middle.shape == (1, config.decoder_width, *[64 // token] * 3)
        assert (seen.fine is None) == (detail == 0)


@pytest.mark.parametrize("channels", [1, 4, 8, 11])
def test_channels_of_zeros_change_nothing(channels: int) -> None:
    layer, x = torch.nn.Conv3d(channels, 5, 3, padding=1), torch.randn(2, channels, 9, 8, 7)
    with torch.no_grad():
        torch.testing.assert_close(in_eights(layer, x), layer(x), rtol=1e-5, atol=1e-5)


def test_training_and_inference_see_the_same() -> None:
    dense, maps = prompted_bundle().network.dense, torch.rand(1, 4, 32, 32, 32)
    assert dense is not None
    learning = dense(maps)
    with torch.no_grad():
        for one, other in zip(learning, dense(maps), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_a_spot_changes_the_mask_where_it_lies() -> None:
    network = prompted_bundle().network
    crop, clicks = torch.randn(1, 1, 32, 32, 32), torch.full((1, 1, 3), 16.0)
    maps = torch.zeros(1, 4, 32, 32, 32)
    maps[0, 1, 4:7, 24:27, 10:13] = 1
    assert network.dense is not None
    with torch.no_grad():
        seen, nothing = (network.dense(m.permute(0, 1, 3, 4, 2)) for m in (maps, torch.zeros_like(maps)))
        assert seen.fine is not None
        assert nothing.fine is not None
        changed = (seen.fine - nothing.fine).abs().amax(dim=1)[0].permute(2, 0, 1)  # [H, W, D] to [D, H, W]
        d, h, w = (int(v) for v in torch.nonzero(changed == changed.max())[0])
        assert 2 <= d <= 8
        assert 22 <= h <= 28
        assert 8 <= w <= 14
        assert not torch.equal(network(crop, clicks, None, maps), network(crop, clicks, None, torch.zeros_like(maps)))


def test_labels_tell_prompts_apart() -> None:
    network = prompted_bundle().network
    crop, clicks = torch.randn(1, 1, 32, 32, 32), torch.full((1, 1, 3), 16.0)
    with torch.no_grad():
        logits = [network(crop, clicks, torch.tensor([[label]])) for label in range(4)]
        assert torch.equal(network(crop, clicks), logits[0]), "unlabelled clicks are positive"
        assert all(not torch.equal(logits[0], other) for other in logits[1:])


def test_the_papers_network_has_none() -> None:
    assert all(config.dense_width == 0 for config in SIZES.values())
    network = Network(CONFIG)
    assert not any(name.startswith(("dense.", "prompt.labels")) for name in network.state_dict())
    with pytest.raises(ValueError, match="takes foreground clicks only"):
        network(torch.zeros(1, 1, 32, 32, 32), torch.zeros(1, 1, 3), torch.zeros(1, 1, dtype=torch.int64))
