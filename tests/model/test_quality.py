"""The head that expects a mask's quality: it changes no mask, learns what there is to learn, and teaches nobody."""

import pytest
import torch

from palpate.bundle import with_extra_heads
from palpate.model.network import Features
from palpate.model.quality import QualityHead, shape_of
from palpate.training.losses import quality_loss
from small import CONFIG, judging_bundle, prompted_bundle, small_bundle


def encoded(network: torch.nn.Module, seed: int = 0) -> Features:
    torch.manual_seed(seed)
    features: Features = network.encode(torch.randn(2, 1, 32, 32, 32))  # type: ignore[operator]
    return features


def test_a_network_that_gains_it_draws_what_it_did() -> None:
    plain = prompted_bundle()
    gained = with_extra_heads(plain, quality=8)
    crop, clicks = torch.randn(1, 1, 32, 32, 32), torch.full((1, 1, 3), 12.0)
    with torch.no_grad():
        assert torch.equal(plain.network(crop, clicks), gained.network(crop, clicks))
        expected = gained.network.predict_iou(gained.network.encode(crop), torch.rand(1, 32, 32, 32))
    assert expected.tolist() == [0.0], "before it is trained it expects one half of anything"


def test_it_reads_the_crop_and_the_mask() -> None:
    network = judging_bundle().network
    probability = torch.rand(2, 32, 32, 32)
    with torch.no_grad():
        one, other = (
            network.predict_iou(encoded(network), probability),
            network.predict_iou(encoded(network, 1), probability),
        )
        sure = network.predict_iou(encoded(network), (probability > 0.5).float())
    assert one.shape == (2,)
    assert not torch.equal(one, other)
    assert not torch.equal(one, sure)


def test_no_gradient_leaves_it() -> None:
    network = judging_bundle().network.train()
    logits = network.decode(features := encoded(network), torch.full((2, 1, 3), 12.0))
    probability = logits.softmax(dim=1)[:, 1]
    quality_loss(network.predict_iou(features, probability), logits, torch.ones(2, 32, 32, 32).long()).backward()  # type: ignore[no-untyped-call]
    moved = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved
    assert all(name.startswith("quality.") for name in moved)


def test_shape_by_hand() -> None:
    """A cube of 8 in 16³, sure of itself: an eighth of the crop, no doubt; on one face a quarter of it."""
    probability = torch.zeros(1, 1, 16, 16, 16)
    probability[:, :, :8, :8, :8] = 1
    share, inside, doubt, face = shape_of(probability, 4 * probability * (1 - probability))[0]
    assert torch.isclose(share, torch.log(torch.tensor(513 / 4096)) / 5)
    assert inside == 0
    assert torch.isclose(doubt, torch.log(torch.tensor(1 / 4096)) / 5)
    assert face == 0.25


def test_it_learns_the_ratio() -> None:
    """Masks of two crops that reach 0.2 and 0.8 of their truth are told apart after a few steps."""
    network = with_extra_heads(small_bundle(), quality=16).network
    features = encoded(network)
    probability = torch.zeros(2, 32, 32, 32)
    probability[:, 8:24, 8:24, 8:24] = 0.9
    logits = torch.stack([1 - probability, probability], dim=1)
    truth = torch.zeros(2, 32, 32, 32, dtype=torch.long)
    truth[0, 8:24, 8:24, 8:11] = 1  # 3 of 16 planes
    truth[1, 8:24, 8:24, 8:21] = 1  # 13 of 16
    assert isinstance(network.quality, QualityHead)
    optimiser = torch.optim.Adam(network.quality.parameters(), lr=0.01)
    for _ in range(80):
        optimiser.zero_grad()
        quality_loss(network.predict_iou(features, probability), logits, truth).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert torch.allclose(
        network.predict_iou(features, probability).sigmoid(), torch.tensor([3 / 16, 13 / 16]), atol=0.05
    )


def test_the_papers_network_has_none() -> None:
    with pytest.raises(ValueError, match="this network predicts no IoU"):
        small_bundle().network.predict_iou(encoded(small_bundle().network), torch.zeros(2, 32, 32, 32))
    assert CONFIG.quality_width == 0
