"""DINOv2's transformers: their makers' `.pth`, and the Hub's safetensors (docs/design/network.md, section 10)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..model import NetworkConfig
from .keys import Rules, State, check, fresh_state, renamed, shapes, size_by_width, size_name

SIZE_NAMES = ("dinov2_s", "dinov2_b", "dinov2_l")
OFFICIAL: Rules = (
    ("pos_embed", "encoder.pos_embed"),
    (r"patch_embed\.proj\.(weight|bias)", r"encoder.embedding.patch_\1"),
    (r"blocks\.(\d+)\.ls([12])\.gamma", r"encoder.blocks.\1.scale\2"),
    (r"blocks\.(\d+)\.mlp\.fc([12])\.(weight|bias)", r"encoder.blocks.\1.mlp.lin\2.\3"),
    (r"(blocks\.\d+\.(?:norm[12]|attn\.qkv|attn\.proj)\.(?:weight|bias))", r"encoder.\1"),
)
# The class token and the mask token have no place in the volumetric network; the last norm follows the last block.
OFFICIAL_UNUSED = ("cls_token", "mask_token", r"norm\.(?:weight|bias)")
HUB: Rules = (
    (r"embeddings\.position_embeddings", "encoder.pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.(weight|bias)", r"encoder.embedding.patch_\1"),
    (r"encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1", r"encoder.blocks.\1.scale\2"),
    (r"encoder\.layer\.(\d+)\.mlp\.fc([12])\.(weight|bias)", r"encoder.blocks.\1.mlp.lin\2.\3"),
    (r"encoder\.layer\.(\d+\.norm[12]\.(?:weight|bias))", r"encoder.blocks.\1"),
    (
        r"encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(weight|bias)",
        r"encoder.blocks.\1.attn.\2.\3",
    ),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.(weight|bias)", r"encoder.blocks.\1.attn.proj.\2"),
)
HUB_UNUSED = (r"embeddings\.(?:cls|mask)_token", r"layernorm\.(?:weight|bias)")
LAYOUTS = (("pos_embed", OFFICIAL, OFFICIAL_UNUSED), ("embeddings.position_embeddings", HUB, HUB_UNUSED))

# What DINOv2's pictures are normalised by, red, green and blue in 0 to 1 (ImageNet's mean and deviation).
IMAGE_MEAN, IMAGE_STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def import_dinov2(
    path: Path, loaded: dict[str, Any], config: NetworkConfig | None
) -> tuple[NetworkConfig, State, str] | None:
    """DINOv2's checkpoint as a network's shape and state, and "dinov2_s" or the like; None: it is none of DINOv2's."""
    layout = next((layout for layout in LAYOUTS if layout[0] in loaded), None)
    if layout is None:
        return None
    positions, rules, unused = layout
    config = config or size_by_width(path, loaded[positions], "DINOv2", SIZE_NAMES)
    found, left = renamed(loaded, rules, unused)
    _join_queries_keys_values(found, config.depth)
    check(path, found, _shapes(config), left)
    lifted = _lifted(found, config)
    # Positions along D are learned from nothing, so that a volume of equal slices begins as the picture that each is.
    lifted["encoder.depth_embed"] = torch.zeros(1, config.depth_grid, config.width)
    return config, fresh_state(config) | lifted, size_name(config, "dinov2")


def _join_queries_keys_values(state: State, depth: int) -> None:
    """The Hub's three layers of a block as DINOv2's one; where one is missing, the rest stays to be listed."""
    for attention in (f"encoder.blocks.{index}.attn" for index in range(depth)):
        for part in ("weight", "bias"):
            names = [f"{attention}.{which}.{part}" for which in ("query", "key", "value")]
            if all(name in state for name in names):
                state[f"{attention}.qkv.{part}"] = torch.cat([state.pop(name) for name in names])


def _shapes(config: NetworkConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of DINOv2's own tensors, by our names."""
    ours, width = shapes(config), config.width
    expected = {
        "encoder.pos_embed": (1, 1 + config.position_grid**2, width),
        "encoder.embedding.patch_weight": (width, 3, config.patch, config.patch),
        "encoder.embedding.patch_bias": (width,),
    }
    for block in (f"encoder.blocks.{index}." for index in range(config.depth)):
        layers = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.lin1", "mlp.lin2")
        names = [f"{block}{layer}.{part}" for layer in layers for part in ("weight", "bias")]
        expected |= {name: ours[name] for name in names}
        expected |= {f"{block}scale1": (width,), f"{block}scale2": (width,)}
    return expected


def _lifted(found: State, config: NetworkConfig) -> State:
    """DINOv2's tensors in the volumetric network's form."""
    state = dict(found)
    grid = config.position_grid
    state["encoder.pos_embed"] = found["encoder.pos_embed"][:, 1:].reshape(1, grid, grid, -1)  # the class token's first
    weight, bias = _grey(found["encoder.embedding.patch_weight"], found["encoder.embedding.patch_bias"])
    state["encoder.embedding.patch_weight"], state["encoder.embedding.patch_bias"] = weight, bias
    for block in (f"encoder.blocks.{index}." for index in range(config.depth)):
        for number, layer in ((1, "attn.proj"), (2, "mlp.lin2")):  # LayerScale multiplies what these put out
            scale = state.pop(f"{block}scale{number}")
            state[f"{block}{layer}.weight"] = scale[:, None] * found[f"{block}{layer}.weight"]
            state[f"{block}{layer}.bias"] = scale * found[f"{block}{layer}.bias"]
    return state


def _grey(weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The patch embedding `[C, 3, 14, 14]` of colours as that of a normalised crop's one channel, `[C, 1, 14, 14]`.

    A crop has mean 0 and deviation 1. It is taken for a grey picture of ImageNet's mean and deviation, over its three
    colours; DINOv2's normalisation of each colour is then folded into weight and bias.
    """
    mean, std = IMAGE_MEAN.mean(), IMAGE_STD.mean()
    offsets = weight.sum(dim=(2, 3)) @ ((mean - IMAGE_MEAN) / IMAGE_STD)
    return (weight * (std / IMAGE_STD)[:, None, None]).sum(dim=1, keepdim=True), bias + offsets
