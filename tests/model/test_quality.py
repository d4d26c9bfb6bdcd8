"""The head that expects a mask's quality: it changes no mask, learns what there is to learn, and teaches nobody."""

import pytest
import torch

from palpate.bundle import with_extra_heads
from palpate.model.network import Features
from palpate.model.quality import QualityHead, evidence_of, shape_of
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
    losses = quality_loss(network.predict_iou(features, probability), logits, torch.ones(2, 32, 32, 32).long())
    losses.sum().backward()  # type: ignore[no-untyped-call]
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


def test_evidence_by_hand() -> None:
    """A bright cube in a crop of 0: no deviation in it nor around it, and all of the gradient on its boundary."""
    image = torch.zeros(1, 1, 24, 24, 24)
    image[:, :, 8:16, 8:16, 8:16] = 2
    cube = (image > 1).float()
    lesion, deviation, around, around_deviation, contrast, clear, boundary, inside, crop, sharp = evidence_of(
        image, cube
    )[0]
    torch.testing.assert_close(
        torch.stack([lesion, around, contrast]), torch.tensor([2.0, 0.0, 2.0]), atol=1e-4, rtol=0
    )
    assert float(deviation) < 0.05
    assert float(around_deviation) < 1e-6
    assert float(clear) > 20
    assert float(inside) < 1e-6
    assert float(crop) == pytest.approx(6 * 64 * 2 / 3 / 24**3, rel=1e-4), "six faces of 64 steps of 2, a third each"
    assert float(boundary) > 10 * float(crop)
    assert float(sharp) > 5
    half = evidence_of(image, torch.nn.functional.max_pool3d(cube, 9, stride=1, padding=4))[0]
    assert half[1] > 0.5, "a mask far too large holds what is not alike"
    assert half[5] < clear / 10
    assert (evidence_of(image, torch.zeros_like(cube))[0, :7] == 0).all()


def test_a_network_that_gains_a_refiner_expects_what_it_did() -> None:
    judging = judging_bundle()
    gained = with_extra_heads(judging, refiner=4)
    probability = torch.rand(2, 32, 32, 32)
    with torch.no_grad():
        before, after = (
            bundle.network.predict_iou(encoded(bundle.network), probability) for bundle in (judging, gained)
        )
        assert torch.equal(before, after)
        quality = gained.network.quality
        assert quality is not None
        assert quality.evidence is not None
        torch.nn.init.normal_(quality.evidence.weight)
        assert not torch.equal(before, gained.network.predict_iou(encoded(gained.network), probability))


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
        quality_loss(network.predict_iou(features, probability), logits, truth).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert torch.allclose(
        network.predict_iou(features, probability).sigmoid(), torch.tensor([3 / 16, 13 / 16]), atol=0.05
    )


def test_the_papers_network_has_none() -> None:
    with pytest.raises(ValueError, match="this network predicts no IoU"):
        small_bundle().network.predict_iou(encoded(small_bundle().network), torch.zeros(2, 32, 32, 32))
    assert CONFIG.quality_width == 0
