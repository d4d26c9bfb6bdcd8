"""The network without its prompt encoder: the decoder sees the deepest map as it is."""

import pytest
import torch

from palpate.model import SIZES, Network, NetworkConfig, is_frozen
from palpate.model.embedding import VolumeEmbedding
from small import CONFIG

PROMPTLESS = CONFIG.model_copy(update={"promptless": True})


def pair() -> tuple[Network, Network]:
    """A network with prompts and the same without, weight for weight."""
    torch.manual_seed(0)
    whole, alone = Network(CONFIG).eval(), Network(PROMPTLESS).eval()
    state = whole.state_dict()
    alone.load_state_dict({name: state[name] for name in alone.state_dict()}, strict=True)
    return whole, alone


def test_what_is_gone_is_the_prompt_encoder() -> None:
    whole, alone = pair()
    gone = whole.state_dict().keys() - alone.state_dict().keys()
    assert gone
    assert all(name.startswith("prompt.") for name in gone)
    assert alone.state_dict().keys() < whole.state_dict().keys()


@pytest.mark.parametrize("shape", [(32, 32, 32), (16, 48, 24)])
def test_the_decoder_sees_the_deepest_map(shape: tuple[int, int, int]) -> None:
    """A forward composed by hand from the parts of the network with prompts."""
    whole, alone = pair()
    crop = torch.randn(2, 1, *shape)
    with torch.inference_mode():
        image = crop.permute(0, 1, 3, 4, 2)
        maps = whole.encoder(image)
        expected = whole.decoder(whole.decoder.prepare(maps, image), maps[3]).logits.permute(0, 1, 4, 2, 3)
        got = alone(crop)
        clicked = whole(crop, torch.full((2, 1, 3), 8.0))
    assert got.shape == (2, 2, *shape)
    assert torch.equal(got, expected)
    assert not torch.allclose(got, clicked, atol=1e-3), "clicks change what is drawn"


def test_every_parameter_learns() -> None:
    network = Network(PROMPTLESS).train()
    network(torch.randn(1, 1, 32, 32, 32))[:, 1].square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_prompts_are_refused_where_there_are_none_and_missed_where_there_are() -> None:
    whole, alone = pair()
    crop, clicks = torch.zeros(1, 1, 16, 16, 16), torch.zeros(1, 1, 3)
    for given in ((clicks, None, None), (None, torch.zeros(1, 1, dtype=torch.int64), None), (None, None, crop)):
        with pytest.raises(ValueError, match=r"a promptless network takes no prompts|dense_width is 0"):
            alone(crop, *given)
    with pytest.raises(ValueError, match="any other one needs clicks"):
        whole(crop)


@pytest.mark.parametrize(
    ("change", "named"), [({"dense_width": 4}, "dense_width 4"), ({"quality_width": 8}, "quality_width 8")]
)
def test_parts_of_prompts_make_no_sense(change: dict[str, int], named: str) -> None:
    with pytest.raises(ValueError, match=f"a promptless network has none of a prompt's parts: {named} must be off"):
        NetworkConfig(**{**PROMPTLESS.model_dump(), **change})
    with pytest.raises(ValueError, match="spare_attention True must be off"):
        NetworkConfig(promptless=True)


def test_the_papers_size() -> None:
    """256³ at 8 voxels a token: SAM's tensors as they are, 32³ tokens, tables that need no interpolation."""
    paper = SIZES["vit_b"].model_copy(update={"promptless": True, "spare_attention": False, "token_voxels": 8})
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in Network(SIZES["vit_b"]).state_dict().items()}
        network = Network(paper)
    ours = {name: value.shape for name, value in network.state_dict().items()}
    assert ours.items() < shapes.items()
    assert all(name.startswith("prompt.") for name in shapes.keys() - ours.keys())
    tuned = sum(p.numel() for _, p in network.named_tuned())
    assert tuned == 25_462_400 - 3_164_160, "docs/design/network.md, section 4, less the prompt encoder"
    grid = (256 // 8,) * 3
    assert grid == (paper.depth_grid,) * 3
    assert paper.position_grid // paper.depth_grid == 2, "SAM's table is averaged 2 x 2, to 32 x 32"
    with torch.device("meta"):
        embedding = VolumeEmbedding(paper)
        assert embedding(torch.zeros(1, 1, 256, 256, 256)).shape == (1, *grid, 768)
        assert network.encoder.positions(grid).shape == (1, *grid, 768)
    assert embedding.stride == 8


def test_the_folded_kernel_spans_a_token_and_its_neighbours() -> None:
    torch.manual_seed(0)
    weight, _ = VolumeEmbedding(NetworkConfig(width=12, heads=12, token_voxels=8)).kernel()
    assert weight.shape == (12, 1, 10, 10, 10)


def test_what_is_frozen_is_the_same() -> None:
    whole, alone = pair()
    frozen = [{n for n in network.state_dict() if is_frozen(n, network.config)} for network in (whole, alone)]
    assert frozen[0] == frozen[1] != set()
