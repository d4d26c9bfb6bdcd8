"""The network as a whole: what is trained, any batch, any grid, any precision, under the compiler."""

import re
import shutil

import pytest
import torch

from palpate.model import SIZES, TUNINGS, Network, NetworkConfig, is_frozen, is_unused

SMALL = NetworkConfig(
    width=48, depth=4, heads=3, global_blocks=(2,), position_grid=8, depth_grid=4, neck_width=32, prompt_mlp=32,
    decoder_width=8,
)  # fmt: skip
DETAILED = SMALL.model_copy(update={"token_voxels": 8, "detail_width": 4, "spare_attention": False})


def small(config: NetworkConfig = SMALL, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return Network(config).eval()


def test_vit_b_trains_what_the_paper_counts() -> None:
    with torch.device("meta"):
        network = Network(SIZES["vit_b"])
    tuned = {name: p.numel() for name, p in network.named_tuned()}
    parts = {room: sum(n for k, n in tuned.items() if k.startswith(room)) for room in ("encoder", "prompt", "decoder")}
    assert parts == {"encoder": 15_209_984, "prompt": 3_164_160, "decoder": 7_088_256}
    assert sum(tuned.values()) == 25_462_400
    unused = {name: n for name, n in tuned.items() if is_unused(name)}
    assert sum(unused.values()) == 263_424
    assert {name.split(".")[3] for name in unused} == {"cross_attn_token_to_image"}
    network.freeze()
    learning = {name for name, p in network.named_parameters() if p.requires_grad}
    assert learning == tuned.keys() - unused.keys()


def test_frozen_is_what_sam_brings() -> None:
    names = [name for name, _ in small().named_parameters() if is_frozen(name, SMALL)]
    frozen = {re.sub(r"^encoder\.blocks\.\d+\.", "", name) for name in names}
    assert frozen == {
        "encoder.pos_embed", "encoder.embedding.patch_weight", "encoder.embedding.patch_bias",
        "attn.qkv.weight", "attn.qkv.bias", "attn.proj.weight", "attn.proj.bias",
        "attn.rel_pos_h", "attn.rel_pos_w", "attn.rel_pos_scale",
        "mlp.lin1.weight", "mlp.lin1.bias", "mlp.lin2.weight", "mlp.lin2.bias",
    }  # fmt: skip


@pytest.mark.parametrize("config", [SMALL, DETAILED], ids=["paper", "detailed"])
def test_every_used_parameter_learns(config: NetworkConfig) -> None:
    network = small(config).train()
    network(torch.randn(1, 1, 32, 32, 32), torch.tensor([[[9, 20, 5]]]))[:, 1].square().mean().backward()
    still = [n for n, p in network.named_parameters() if p.grad is None and not is_unused(n)]
    assert still == []


@pytest.mark.parametrize("shape", [(32, 32, 32), (16, 48, 24), (64, 16, 32)])
def test_any_grid_and_batch(shape: tuple[int, int, int]) -> None:
    network = small()
    crops = torch.randn(2, 1, *shape)
    clicks = torch.tensor([[[3, 5, 7]], [[8, 2, 4]]])
    with torch.inference_mode():
        both = network(crops, clicks)
        assert both.shape == (2, 2, *shape)
        for index in range(2):
            alone = network(crops[index : index + 1], clicks[index : index + 1])
            torch.testing.assert_close(alone, both[index : index + 1], rtol=1e-4, atol=1e-4)


def test_clicks_follow_the_crop_axes() -> None:
    """With the click's own axis marked in the map, sampling must read the place that was clicked."""
    network = small()
    seen = []
    assert network.prompt is not None
    network.prompt.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    with torch.inference_mode():
        network(torch.randn(1, 1, 16, 32, 64), torch.tensor([[[0, 15.5, 63]]]))
    h, w, d = seen[0][0, 0].tolist()
    assert h == pytest.approx(0.0)
    assert w == pytest.approx(1 - 1 / 64)
    assert d == pytest.approx(-1 + 1 / 16)


def test_bad_crop_is_refused() -> None:
    with pytest.raises(ValueError, match=r"multiples of 4, not \(1, 1, 30, 32, 32\)"):
        small().encode(torch.zeros(1, 1, 30, 32, 32))


def test_checkpointing_changes_no_gradient() -> None:
    crop, clicks = torch.randn(1, 1, 32, 32, 32), torch.tensor([[[9, 20, 5]]])
    gradients = []
    for checkpointing in (False, True):
        network = small().train()
        network.encoder.checkpointing = checkpointing
        network(crop, clicks)[:, 1].square().mean().backward()
        gradients.append({n: p.grad for n, p in network.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name])


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tuning", ["spatial", "bottleneck", "st", "lora"])
def test_reduced_precision(kind: torch.dtype, tuning: str) -> None:
    network = small(DETAILED.model_copy(update=TUNINGS[tuning]))
    crop, clicks = torch.randn(1, 1, 32, 32, 32), torch.tensor([[[9, 20, 5]]])
    with torch.inference_mode():
        exact = network(crop, clicks)
        with torch.autocast("cpu", dtype=kind):
            mixed = network(crop, clicks)
        converted = network.to(kind)(crop.to(kind), clicks)
    assert converted.dtype == kind
    for got in (mixed, converted):
        assert (got.float() - exact).abs().mean() < 0.05 * exact.abs().mean() + 0.02


@pytest.mark.parametrize("config", [SMALL, DETAILED], ids=["paper", "detailed"])
def test_under_the_compiler(config: NetworkConfig) -> None:
    network = small(config)
    crop, clicks = torch.randn(1, 1, 32, 32, 32), torch.tensor([[[9, 20, 5]]])
    with torch.no_grad():
        expected = network(crop, clicks)
        torch.compiler.reset()
        compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(crop, clicks), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # inductor's own imports, torch 2.13
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_under_inductor() -> None:
    network = small(DETAILED)
    crop, clicks = torch.randn(1, 1, 32, 32, 32), torch.tensor([[[9, 20, 5]]])
    with torch.no_grad():
        expected = network(crop, clicks)
        torch.compiler.reset()
        compiled = torch.compile(network, backend="inductor")
        torch.testing.assert_close(compiled(crop, clicks), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 5}, "width 48 must be a multiple of heads 5"),
        ({"depth": 3}, "depth 3 must be at least 4"),
        ({"token_voxels": 5}, "token_voxels must divide 16"),
        ({"window": 7}, "window must be even"),
        ({"position_grid": 6}, "position_grid 6 must be a multiple of depth_grid 4"),
        ({"neck_width": 40}, "neck_width 40 must be a multiple of 2 x prompt_heads 8"),
        ({"global_blocks": (4,)}, "must name blocks 0 to 3"),
        ({"unheard_of": 1}, "Extra inputs are not permitted"),
    ],
)
def test_nonsense_sizes_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**{**SMALL.model_dump(), **change})


def test_progress_is_the_share_of_blocks_done() -> None:
    network, shares = small(), list[float]()
    crop = torch.randn(1, 1, 32, 32, 32)
    with torch.inference_mode():
        watched = network.encode(crop, shares.append)
        assert torch.equal(watched.deepest, network.encode(crop).deepest)
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_what_progress_raises_ends_the_pass() -> None:
    shares = list[float]()

    def stop(share: float) -> None:
        shares.append(share)
        raise InterruptedError

    with pytest.raises(InterruptedError), torch.inference_mode():
        small().encode(torch.randn(1, 1, 32, 32, 32), stop)
    assert shares == [0.25]


@pytest.mark.parametrize(
    ("depth", "blocks"), [(12, (2, 5, 8, 11)), (8, (1, 3, 5, 7)), (6, (1, 2, 4, 5)), (5, (1, 2, 3, 4))]
)
def test_which_blocks_the_necks_read(depth: int, blocks: tuple[int, ...]) -> None:
    config = SMALL.model_copy(update={"depth": depth, "global_blocks": ()})
    assert config.neck_blocks == blocks
    assert len(Network(config).encoder(torch.zeros(1, 1, 16, 16, 16))) == 4
