"""The refiner: nothing before training, and a mask that follows crop and prompts after it."""

import pytest
import torch
from pydantic import ValidationError

from palpate.bundle import with_extra_heads
from palpate.model import Network, NetworkConfig
from palpate.model.refiner import Refiner
from small import CONFIG, prompted_bundle

REFINED = CONFIG.model_copy(update={"dense_width": 4, "refiner_width": 4})


def prompts(edge: int = 32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    maps = torch.zeros(2, 4, edge, edge, edge)
    maps[:, 0, 11:14, 11:14, 11:14] = 1
    return torch.full((2, 1, 3), 12.0), torch.zeros(2, 1, dtype=torch.int64), maps


def test_a_network_that_gains_it_computes_what_it_did() -> None:
    plain = prompted_bundle()
    gained = with_extra_heads(plain, refiner=4)
    assert gained.network.config.refiner_width == 4
    crop = torch.randn(2, 1, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(plain.network(crop, *prompts()), gained.network(crop, *prompts()))
    kept = with_extra_heads(gained, refiner=8, cues=())
    assert (kept.network.config.refiner_width, kept.network.config.cues) == (4, ("geodesic", "intensity"))


@pytest.mark.parametrize("token", [4, 8])
def test_shapes(token: int) -> None:
    for cues in ((), ("geodesic",), ("geodesic", "intensity")):
        config = REFINED.model_copy(update={"token_voxels": token, "cues": cues})
        refiner = Refiner(config)
        image, maps, logits = (
            torch.randn(1, 1, 32, 32, 32),
            torch.zeros(1, 4, 32, 32, 32),
            torch.randn(1, 2, 32, 32, 32),
        )
        joined = torch.randn(1, config.decoder_width, *[64 // token] * 3)
        added = refiner(image, maps, logits, joined)
        assert added.shape == (1, 2, 32, 32, 32)
        assert (added == 0).all()


def test_it_learns_to_follow_a_click() -> None:
    """Two boxes of one brightness: the mask is the one that is clicked, whichever it is."""
    torch.manual_seed(0)
    network = Network(REFINED).train()
    assert network.refiner is not None
    image = 0.1 * torch.randn(2, 1, 32, 32, 32)
    boxes = (slice(6, 14), slice(18, 26))
    truth = torch.zeros(2, 32, 32, 32, dtype=torch.int64)
    for box in boxes:
        image[:, :, box, 8:24, 8:24] += 2
    for number, box in enumerate(boxes):
        truth[number, box, 8:24, 8:24] = 1
    clicks = torch.tensor([[[10.0, 16, 16]], [[22.0, 16, 16]]])
    maps = torch.zeros(2, 4, 32, 32, 32)
    maps[0, 0, 9:12, 15:18, 15:18] = maps[1, 0, 21:24, 15:18, 15:18] = 1
    labels = torch.zeros(2, 1, dtype=torch.int64)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    for parameter in network.refiner.parameters():
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW(network.refiner.parameters(), lr=1e-2)
    with torch.no_grad():
        features = network.encode(image)
    for _ in range(50):
        loss = torch.nn.functional.cross_entropy(network.decode(features, clicks, labels, maps), truth)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.no_grad():
        mask = network.decode(features, clicks, labels, maps).argmax(dim=1)
    for found, wanted, other in zip(mask, truth, truth.flip(0), strict=True):
        own, wrong = (2 * (found * box).sum() / (found.sum() + box.sum()) for box in (wanted, other))
        assert float(own) > 0.5
        assert float(wrong) < 0.2


def test_training_and_inference_see_the_same() -> None:
    refiner = Refiner(REFINED).train()
    torch.nn.init.normal_(refiner.classify.weight)
    image, logits = torch.randn(1, 1, 32, 32, 32), torch.randn(1, 2, 32, 32, 32)
    joined, maps = torch.randn(1, REFINED.decoder_width, 8, 8, 8), prompts()[2][:1]
    learning = refiner(image, maps, logits, joined)
    with torch.no_grad():
        torch.testing.assert_close(refiner(image, maps, logits, joined), learning, rtol=1e-4, atol=1e-4)


def test_the_features_of_some_crops_hold_their_images() -> None:
    network, crop = Network(REFINED), torch.randn(2, 1, 32, 32, 32)
    with torch.no_grad():
        features = network.encode(crop)
        assert features.of([0, 1]) is features
        second = features.of([1])
        assert second.image is not None
        assert torch.equal(second.image, crop[1:].permute(0, 1, 3, 4, 2))
        clicks, labels, maps = (part[1:] for part in prompts())
        torch.testing.assert_close(
            network.decode(second, clicks, labels, maps), network(crop, *prompts())[1:], rtol=1e-4, atol=1e-4
        )


def test_it_needs_prompts_as_maps() -> None:
    with pytest.raises(ValidationError, match="refiner_width needs a dense_width above 0"):
        NetworkConfig(refiner_width=8)
    with pytest.raises(ValidationError, match="refiner_width 8 must be off"):
        NetworkConfig(promptless=True, dense_width=4, refiner_width=8, spare_attention=False)
