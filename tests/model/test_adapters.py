"""Tuning choices: what each adds, computes, tunes and leaves alone."""

import re
from typing import TypeVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from palpate.model import SIZES, TUNINGS, Network, NetworkConfig, is_adapter, is_frozen, is_unused, tuning_of
from palpate.model.adapters import Bottleneck, LowRank, SliceAdapter, SpatialAdapter
from palpate.model.attention import WindowAttention
from palpate.model.encoder import Block

SMALL = NetworkConfig(
    width=48, depth=4, heads=3, global_blocks=(2,), position_grid=8, depth_grid=4, neck_width=32, prompt_mlp=32,
    decoder_width=8, bottleneck_width=16,
)  # fmt: skip
Module = TypeVar("Module", bound=nn.Module)
C, INNER = SMALL.width, SMALL.width // 2
CROP, CLICK = torch.randn(1, 1, 32, 32, 32), torch.tensor([[[9, 20, 5]]])


def tuned_as(tuning: str, config: NetworkConfig = SMALL) -> NetworkConfig:
    return config.model_copy(update=TUNINGS[tuning])


def stirred(module: Module) -> Module:
    """The module, with nothing left at zero."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def network(tuning: str) -> Network:
    return stirred(Network(tuned_as(tuning)))


# vit_b, by hand: C = 768, 12 blocks, head size 64, inner width 384.
SLICE_AND_DEPTH = (768 * 16 + 768) + 32 * 768
NECKS = 4 * (768 * 256 + 2 * 256 + 256 * 256 * 27 + 2 * 256)
PROMPT, UNUSED, DECODER = 3_164_160, 263_424, 7_088_256
VOLUMETRIC = SLICE_AND_DEPTH + NECKS + PROMPT + DECODER
NORMS = 12 * 2 * (768 + 768)
DEPTH_TABLES = 8 * 27 * 64 + 4 * 127 * 64
DOWN, UP = 768 * 384 + 384, 384 * 768 + 768
PATCH_AND_POSITIONS = (768 * 3 * 16 * 16 + 768) + 64 * 64 * 768
ATTENTION = (768 * 2304 + 2304) + (768 * 768 + 768) + 1  # qkv, projection, scale
MLP = (768 * 3072 + 3072) + (3072 * 768 + 768)
COUNTS = {
    "spatial": (25_462_400, VOLUMETRIC + NORMS + DEPTH_TABLES + 12 * (DOWN + 384 * 27 + 384 + UP)),
    "frozen": (18_158_464, VOLUMETRIC),
    "full": (107_088_268, VOLUMETRIC + NORMS + 3 * DEPTH_TABLES + PATCH_AND_POSITIONS + 12 * (ATTENTION + MLP)),
    "bottleneck": (20_620_928, VOLUMETRIC + NORMS + DEPTH_TABLES + 12 * 2 * (768 * 64 + 64 + 64 * 768 + 768)),
    "st": (25_314_944, VOLUMETRIC + DEPTH_TABLES + 12 * (DOWN + 384 * 3 + 384 + UP)),
    "lora": (18_352_256, VOLUMETRIC + DEPTH_TABLES + 12 * 2 * (768 * 4 + 4 * 768)),
}


@pytest.mark.parametrize("tuning", TUNINGS)
def test_how_many_parameters_of_vit_b_are_tuned(tuning: str) -> None:
    with torch.device("meta"):
        whole = Network(tuned_as(tuning, SIZES["vit_b"]))
    tuned = {name: p.numel() for name, p in whole.named_tuned()}
    documented, by_hand = COUNTS[tuning]
    assert sum(tuned.values()) == documented == by_hand
    assert sum(n for name, n in tuned.items() if is_unused(name)) == UNUSED


TUNED_IN_A_BLOCK = {
    "spatial": {"adapter.linear1", "adapter.conv", "adapter.linear2", "norm1", "norm2", "attn.rel_pos_d"},
    "frozen": set(),
    "full": {
        "norm1", "norm2", "attn.qkv", "attn.proj", "attn.rel_pos_h", "attn.rel_pos_w", "attn.rel_pos_d",
        "attn.rel_pos_scale", "mlp.lin1", "mlp.lin2",
    },
    "bottleneck": {
        "attn_adapter.down", "attn_adapter.up", "mlp_adapter.down", "mlp_adapter.up", "norm1", "norm2",
        "attn.rel_pos_d",
    },
    "st": {"adapter.down", "adapter.conv", "adapter.up", "attn.rel_pos_d"},
    "lora": {"attn.lora.q_down", "attn.lora.q_up", "attn.lora.v_down", "attn.lora.v_up", "attn.rel_pos_d"},
}  # fmt: skip


@pytest.mark.parametrize("tuning", TUNINGS)
def test_what_is_tuned(tuning: str) -> None:
    tuned = {name for name, _ in network(tuning).named_tuned()}
    block = re.compile(r"encoder\.blocks\.\d+\.(.+?)(?:\.weight|\.bias)?$")
    assert {found[1] for found in map(block.match, tuned) if found} == TUNED_IN_A_BLOCK[tuning]
    outside = {name for name in tuned if not block.match(name)}
    sams = {"encoder.pos_embed", "encoder.embedding.patch_weight", "encoder.embedding.patch_bias"}
    rest = {name for name, _ in network(tuning).named_parameters() if not block.match(name)}
    assert outside == (rest if tuning == "full" else rest - sams)


@pytest.mark.parametrize("tuning", TUNINGS)
def test_only_what_is_tuned_and_used_learns(tuning: str) -> None:
    learner = network(tuning)
    learner.freeze()
    learner(CROP, CLICK)[:, 1].square().mean().backward()
    moved = {name for name, p in learner.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {name for name, _ in learner.named_tuned() if not is_unused(name)}
    assert all(p.grad is None for name, p in learner.named_parameters() if name not in moved)


@pytest.mark.parametrize("tuning", ["bottleneck", "st", "lora"])
def test_training_starts_at_the_network_without_adapters(tuning: str) -> None:
    bare, fitted = network("frozen").eval(), Network(tuned_as(tuning)).eval()
    loaded = fitted.load_state_dict(bare.state_dict(), strict=False)
    assert loaded.missing_keys
    assert all(map(is_adapter, loaded.missing_keys))
    assert not loaded.unexpected_keys
    with torch.inference_mode():
        assert torch.equal(fitted(CROP, CLICK), bare(CROP, CLICK))
        assert not torch.equal(stirred(fitted)(CROP, CLICK), bare(CROP, CLICK))


def test_the_same_names_are_frozen_in_any_base() -> None:
    """Adapters of one kind must not count as frozen where another kind is asked about."""
    for tuning in TUNINGS:
        config = tuned_as(tuning)
        for other in TUNINGS:
            names = {name for name, _ in network(other).named_parameters() if is_frozen(name, config)}
            assert names == {name for name, _ in network(tuning).named_parameters() if is_frozen(name, config)}


def test_choices_have_names() -> None:
    assert [tuning_of(tuned_as(tuning)) for tuning in TUNINGS] == list(TUNINGS)
    assert tuning_of(NetworkConfig(adapter="spatial", tuned="all")) == "full"
    assert tuning_of(NetworkConfig()) == "spatial"
    assert [tuned_as(tuning).has_frozen for tuning in TUNINGS] == [tuning != "full" for tuning in TUNINGS]


@pytest.mark.parametrize("size", ["bottleneck_width", "lora_rank"])
def test_an_adapter_has_some_width(size: str) -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        NetworkConfig.model_validate({size: 0})


def grid(*shape: int) -> Tensor:
    return torch.randn(1, *shape, C, dtype=torch.float64)


def test_the_spatial_adapter_written_out() -> None:
    adapter, x = stirred(SpatialAdapter(SMALL)).double(), grid(3, 4, 5)
    inner = F.relu(x @ adapter.linear1.weight.T + adapter.linear1.bias)
    padded = F.pad(inner, (0, 0, 1, 1, 1, 1, 1, 1))
    assert adapter.conv.bias is not None
    mixed = adapter.conv.bias.expand(1, 3, 4, 5, INNER).clone()
    for h in range(3):
        for w in range(3):
            for d in range(3):
                mixed += padded[:, h : h + 3, w : w + 4, d : d + 5] * adapter.conv.weight[:, 0, h, w, d]
    out = F.relu(F.relu(mixed) @ adapter.linear2.weight.T + adapter.linear2.bias)
    torch.testing.assert_close(adapter(x), x + out)


def test_the_slice_adapter_written_out() -> None:
    adapter, x = stirred(SliceAdapter(SMALL)).double(), grid(3, 4, 5)
    inner = x @ adapter.down.weight.T + adapter.down.bias
    mixed = torch.zeros_like(inner)
    for d in range(5):
        for tap, neighbour in enumerate((d - 1, d, d + 1)):
            if 0 <= neighbour < 5:
                mixed[:, :, :, d] += inner[:, :, :, neighbour] * adapter.conv.weight[:, 0, 0, 0, tap]
    assert adapter.conv.bias is not None
    mixed = mixed + adapter.conv.bias
    torch.testing.assert_close(adapter(x), x + mixed @ adapter.up.weight.T + adapter.up.bias)


def test_a_bottleneck_written_out() -> None:
    adapter, x = stirred(Bottleneck(SMALL)).double(), grid(3, 4, 5)
    inner = x @ adapter.down.weight.T + adapter.down.bias
    assert inner.shape[-1] == 16
    active = inner * (1 + torch.erf(inner / 2**0.5)) / 2
    torch.testing.assert_close(adapter(x), x + active @ adapter.up.weight.T + adapter.up.bias)


def test_bottlenecks_sit_inside_both_residual_branches() -> None:
    block = stirred(Block(tuned_as("bottleneck"), 1)).double()
    x = grid(8, 8, 8)
    plain = stirred(Block(tuned_as("frozen"), 1)).double()
    plain.load_state_dict({k: v for k, v in block.state_dict().items() if "_adapter." not in k})
    labels = x.new_zeros(1, 512, 0)
    tokens = x.flatten(1, 3)
    tokens = tokens + block.attn_adapter(plain.attn(plain.norm1(tokens), labels, labels))
    tokens = tokens + block.mlp_adapter(plain.mlp(plain.norm2(tokens)))
    torch.testing.assert_close(block(x).flatten(1, 3), tokens)


def test_lora_is_a_change_of_two_weights() -> None:
    layer = stirred(WindowAttention(tuned_as("lora"), 1)).double()
    merged = WindowAttention(tuned_as("frozen"), 1).double()
    state = layer.state_dict()
    low = {name: state.pop(f"lora.{name}.weight") for name in ("q_down", "q_up", "v_down", "v_up")}
    assert low["q_down"].shape == (SMALL.lora_rank, C)
    state["qkv.weight"] = state["qkv.weight"].clone()
    state["qkv.weight"][:C] += low["q_up"] @ low["q_down"]
    state["qkv.weight"][2 * C :] += low["v_up"] @ low["v_down"]
    merged.load_state_dict(state, strict=True)
    x = grid(8, 8, 8)
    torch.testing.assert_close(layer.plan((8, 8, 8)).apply(x, layer), merged.plan((8, 8, 8)).apply(x, merged))


def test_lora_leaves_keys_alone() -> None:
    added = stirred(LowRank(SMALL)).double()(grid(2, 2, 2))
    query, key, value = added.split(C, dim=-1)
    assert not key.any()
    assert query.any()
    assert value.any()


def reached(adapter: nn.Module) -> Tensor:
    """The offsets (h, w, d) at which a changed token shows."""
    x = grid(5, 5, 5)
    changed = x.clone()
    changed[:, 2, 2, 2] += 1
    difference: Tensor = adapter(changed) - adapter(x)
    return difference[0].any(-1).nonzero() - 2


def test_what_each_adapter_sees() -> None:
    nearby = torch.cartesian_prod(*[torch.arange(-1, 2)] * 3)
    assert torch.equal(reached(stirred(SpatialAdapter(SMALL)).double()), nearby)
    along = torch.tensor([[0, 0, -1], [0, 0, 0], [0, 0, 1]])  # D is the last axis of a token grid
    assert torch.equal(reached(stirred(SliceAdapter(SMALL)).double()), along)
    assert torch.equal(reached(stirred(Bottleneck(SMALL)).double()), torch.zeros(1, 3, dtype=torch.int64))


@pytest.mark.parametrize("tuning", TUNINGS)
@pytest.mark.parametrize("index", [0, 1])
def test_windows_a_few_at_a_time_change_nothing(tuning: str, index: int) -> None:
    block = stirred(Block(tuned_as(tuning), index)).double()
    x = grid(16, 12, 20)  # 12 windows, the last ones of two axes padded
    with torch.no_grad():
        without = block(x)
    torch.testing.assert_close(block(x), without)


@pytest.mark.parametrize("tuning", ["bottleneck", "st", "lora"])
def test_under_the_compiler(tuning: str) -> None:
    whole = network(tuning).eval()
    with torch.no_grad():
        expected = whole(CROP, CLICK)
        torch.compiler.reset()
        compiled = torch.compile(whole, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(CROP, CLICK), expected, rtol=1e-4, atol=1e-4)
