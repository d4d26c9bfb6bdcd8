"""Foreign checkpoints: every key accounted for, nothing unpickled that could run."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from golden import recipe
from palpate.bundle import load
from palpate.checkpoints import import_checkpoint
from palpate.errors import ModelError
from palpate.model import SIZES, Network, NetworkConfig
from palpate.model.encoder import Block, ImageEncoder
from small import small_bundle


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vit_b", "vit_l", "vit_h"])
def test_sams_layouts_import_whole(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "sam.pth"
    checkpoint = recipe.sam_checkpoint(kind)
    torch.save(checkpoint, path)
    config, state, what = import_checkpoint(path)
    path.unlink()
    assert (config, what) == (SIZES[kind], f"sam_{kind}")
    with torch.device("meta"):
        assert state.keys() == Network(config).state_dict().keys()
    last = config.depth - 1
    for ours, theirs in (
        ("pos_embed", "pos_embed"), ("embedding.patch_weight", "patch_embed.proj.weight"),
        (f"blocks.{last}.attn.qkv.weight", f"blocks.{last}.attn.qkv.weight"),
        (f"blocks.{last}.mlp.lin2.bias", f"blocks.{last}.mlp.lin2.bias"),
        (f"blocks.{last}.attn.rel_pos_w", f"blocks.{last}.attn.rel_pos_w"),
    ):  # fmt: skip
        assert torch.equal(state[f"encoder.{ours}"], checkpoint[f"image_encoder.{theirs}"])
    tables = [state[f"encoder.blocks.0.attn.rel_pos_{axis}"] for axis in "hwd"]
    torch.testing.assert_close(tables[2], (tables[0] + tables[1]) / 2)
    assert state["encoder.depth_embed"].eq(1).all()
    assert state["encoder.blocks.0.attn.rel_pos_scale"] == 1


@pytest.fixture(scope="module")
def sam() -> dict[str, Any]:
    checkpoint: dict[str, Any] = recipe.sam_checkpoint("vit_b")
    return checkpoint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_encoder.blocks.3.norm1.bias": None}, "1 missing: encoder.blocks.3.norm1.bias"),
        ({"image_encoder.extra": torch.zeros(1)}, "1 left over: image_encoder.extra"),
        (
            {"image_encoder.blocks.0.norm1.bias": torch.zeros(5)},
            r"1 of another shape: encoder.blocks.0.norm1.bias \(5,\)",
        ),
        ({"image_encoder.pos_embed": torch.zeros(1, 64, 64, 384)}, "position table is 384 wide; SAM's are 768"),
        ({"image_encoder.pos_embed": None}, "position table is None wide"),
    ],
)
def test_misfits_are_listed(tmp_path: Path, sam: dict[str, Any], change: dict[str, Any], message: str) -> None:
    changed = {k: v for k, v in (sam | change).items() if v is not None}
    torch.save(changed, tmp_path / "sam.pth")
    with pytest.raises(ModelError, match=message):
        import_checkpoint(tmp_path / "sam.pth")


class Attack:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (str(self.mark),))


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    torch.save({"encoder_dict": Attack(tmp_path / "mark")}, tmp_path / "bad.pth")
    with pytest.raises(ModelError, match="refused, because reading it would run code"):
        import_checkpoint(tmp_path / "bad.pth")
    assert not (tmp_path / "mark").exists()


def test_numpy_scalars_beside_the_tensors_are_allowed(tmp_path: Path) -> None:
    numbers = {"best_val_loss": np.float64(0.5), "loss": np.float32(0.25), "epoch": np.int64(3)}
    torch.save(numbers, tmp_path / "numbers.pth")
    with pytest.raises(ModelError, match=r"of no known layout \(keys such as best_val_loss, epoch, loss\)"):
        import_checkpoint(tmp_path / "numbers.pth")


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "checkpoint"), (b"PK\x03\x04cut", "checkpoint"), (b"text", "checkpoint")]
)
def test_damaged_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        import_checkpoint(tmp_path / "bad.pth")


def test_missing_and_other_things(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        import_checkpoint(tmp_path / "none.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="holds a list, not a dictionary"):
        import_checkpoint(tmp_path / "list.pth")
    torch.save({"encoder_dict": {}, "decoder_dict": {}, "feature_dict": []}, tmp_path / "release.pth")
    with pytest.raises(ModelError, match="must list four prompt encoders"):
        import_checkpoint(tmp_path / "release.pth")


# SAM at a size that is quick: 8 x 8 tokens, so that every window is the whole grid, in its program as in ours.
HUB_SIZE = NetworkConfig(
    width=48, depth=4, heads=3, adapter="none", position_grid=8, depth_grid=8, window_rows=15, global_rows=15,
    global_blocks=(1, 3), neck_width=32, prompt_mlp=64, decoder_width=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def hub_model() -> Any:
    """The `transformers` package's own SamModel, small, every weight drawn at random."""
    from transformers import SamConfig, SamModel, SamVisionConfig

    vision = SamVisionConfig(
        hidden_size=48, num_hidden_layers=4, num_attention_heads=3, mlp_dim=192, image_size=128, patch_size=16,
        window_size=8, global_attn_indexes=[1, 3], output_channels=16,
    )  # fmt: skip
    prompt = {"hidden_size": 16, "image_size": 128, "image_embedding_size": 8}
    decoder = {"hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    config = SamConfig(vision_config=vision.to_dict(), prompt_encoder_config=prompt, mask_decoder_config=decoder)
    model = SamModel(config).eval()
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture(scope="module")
def hub_file(hub_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    hub_model.save_pretrained(folder)
    return folder / "model.safetensors"


def imported_encoder(path: Path) -> ImageEncoder:
    config, state, what = import_checkpoint(path, HUB_SIZE)
    assert (config, what) == (HUB_SIZE, "sam")
    network = Network(config).eval()
    network.load_state_dict(state, strict=True)
    return network.encoder


def test_the_hubs_layout_computes_what_its_own_program_does(hub_model: Any, hub_file: Path) -> None:
    """A volume that is one slice repeated, with nothing that belongs to depth, is SAM's image: every block agrees."""
    encoder = imported_encoder(hub_file)
    crop = torch.randn(1, 1, 32, 32)
    image = F.interpolate(crop, scale_factor=4, mode="bilinear").expand(-1, 3, -1, -1)
    theirs: list[torch.Tensor] = []
    vision = hub_model.vision_encoder
    hooks = [vision.patch_embed.register_forward_hook(lambda module, args, out: theirs.append(out))]
    hooks += [layer.register_forward_hook(lambda module, args, out: theirs.append(out)) for layer in vision.layers]
    with torch.no_grad():
        vision(image)
        for hook in hooks:
            hook.remove()
        encoder.depth_embed.zero_()
        blocks = [block for block in encoder.blocks if isinstance(block, Block)]
        for block in blocks:
            block.attn.rel_pos_d.zero_()
        tokens = encoder.embedding(crop[..., None].expand(-1, -1, -1, -1, 32))
        ours = [tokens]
        tokens = tokens + encoder.positions((8, 8, 8))
        for block in blocks:
            tokens = block(tokens)
            ours.append(tokens)
    assert len(theirs) == len(ours) == 5
    for their, our in zip(theirs, ours, strict=True):
        scale = their.abs().max()
        torch.testing.assert_close(our / scale, (their / scale)[:, :, :, None].expand_as(our), rtol=0, atol=1e-5)


def as_official(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """SamModel's encoder in the official file's names."""
    names = (("vision_encoder.", "image_encoder."), (".layers.", ".blocks."), (".projection.", ".proj."))
    official = {}
    for key, value in tensors.items():
        if key.startswith("vision_encoder.") and ".neck." not in key:
            for theirs, ours in (*names, ("layer_norm", "norm")):
                key = key.replace(theirs, ours)  # noqa: PLW2901 - renamed step by step
            official[key] = value
    return official


def test_the_hubs_file_and_the_official_one_give_the_same_state(hub_model: Any, hub_file: Path, tmp_path: Path) -> None:
    saved, everything = load_file(hub_file), hub_model.state_dict()
    shared = "prompt_encoder.shared_embedding.positional_embedding"
    assert set(everything) - set(saved) == {shared}  # saved once, under its other name
    official = as_official(saved)
    torch.save(official | {"image_encoder.neck.0.weight": torch.zeros(1)}, tmp_path / "sam.pth")
    save_file({k: v.clone() for k, v in everything.items()}, tmp_path / "older.safetensors")
    states = [
        import_checkpoint(p, HUB_SIZE)[1] for p in (hub_file, tmp_path / "sam.pth", tmp_path / "older.safetensors")
    ]
    for state in states[1:]:
        assert state.keys() == states[0].keys()
        assert all(torch.equal(state[key], states[0][key]) for key in state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vision_encoder.layers.2.layer_norm1.bias": None}, "1 missing: encoder.blocks.2.norm1.bias"),
        ({"vision_encoder.layers.4.attn.qkv.bias": torch.zeros(1)}, "1 left over: encoder.blocks.4.attn.qkv.bias"),
        ({"vision_encoder.extra": torch.zeros(1)}, "1 left over: vision_encoder.extra"),
        ({"text_encoder.weight": torch.zeros(1)}, "1 left over: text_encoder.weight"),
    ],
)
def test_misfits_of_the_hubs_layout_are_listed(
    hub_file: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    save_file({k: v for k, v in (load_file(hub_file) | change).items() if v is not None}, tmp_path / "changed")
    with pytest.raises(ModelError, match=message):
        import_checkpoint(tmp_path / "changed", HUB_SIZE)


def test_other_safetensors_files(hub_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="position table is 48 wide; SAM's are 768"):
        import_checkpoint(hub_file)
    (tmp_path / "cut").write_bytes(hub_file.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"not a readable safetensors file .* may be cut short"):
        import_checkpoint(tmp_path / "cut")
    small_bundle().save(tmp_path / "ours.safetensors")
    with pytest.raises(ModelError, match="is a Palpate model already"):
        import_checkpoint(tmp_path / "ours.safetensors")
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"of no known layout \(keys such as weight\)"):
        import_checkpoint(tmp_path / "other.safetensors")


def as_hub(checkpoint: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """An official file's encoder in SamModel's names."""
    names = (("image_encoder.", "vision_encoder."), (".blocks.", ".layers."), (".norm", ".layer_norm"))
    hub = {}
    for key, value in checkpoint.items():
        if key.startswith("image_encoder.") and ".neck." not in key:
            for ours, theirs in (*names, ("patch_embed.proj.", "patch_embed.projection.")):
                key = key.replace(ours, theirs)  # noqa: PLW2901 - renamed step by step
            hub[key] = value
    return hub


def test_a_fetched_model_loads_by_name(tmp_path: Path, sam: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALPATE_HOME", str(tmp_path))
    with pytest.raises(
        ModelError, match=r"medsam is not here yet: run `palpate fetch medsam` first\. Without a network"
    ):
        load("medsam")
    (tmp_path / "weights" / "medsam").mkdir(parents=True)
    save_file(as_hub(sam), tmp_path / "weights" / "medsam" / "model.safetensors")
    bundle = load("medsam")
    assert bundle.network.config == SIZES["vit_b"]
    assert bundle.provenance.name == "medsam"
    assert bundle.provenance.origin == "imported from a sam_vit_b checkpoint (MedSAM)"
    assert bundle.provenance.imported_from == "sam"
    assert bundle.provenance.licence == "Apache-2.0 (MedSAM's weights)"
    assert "its masks mean nothing until it is trained" in bundle.provenance.notice
    state = bundle.network.state_dict()
    assert torch.equal(state["encoder.blocks.11.norm2.weight"], sam["image_encoder.blocks.11.norm2.weight"])
    assert torch.equal(state["encoder.embedding.patch_bias"], sam["image_encoder.patch_embed.proj.bias"])
    with pytest.raises(ModelError, match="is a full model and takes no base"):
        load("medsam", base="sam_vit_b")


def test_names_that_are_no_models() -> None:
    with pytest.raises(ModelError, match="hippocampus: is a cohort, not a model"):
        load("hippocampus")
    with pytest.raises(ModelError, match=r"nor one for `palpate fetch` \(sam_vit_b, .*, dinov2_vitl14\)"):
        load("sam")
