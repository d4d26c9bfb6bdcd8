"""SAM's and MedSAM's image encoders: their makers' `.pth`, and the Hub's safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..model import NetworkConfig, is_adapter
from .keys import State, check, fresh_state, renamed, shapes, size_by_width, size_name

SIZE_NAMES = ("vit_b", "vit_l", "vit_h")
OFFICIAL = (
    (r"image_encoder\.pos_embed", "encoder.pos_embed"),
    (r"image_encoder\.patch_embed\.proj\.(weight|bias)", r"encoder.embedding.patch_\1"),
    (r"image_encoder\.(blocks\..+)", r"encoder.\1"),
)
# SAM's own neck, prompt encoder and mask decoder have no place in the volumetric network
# (docs/design/network.md, section 7).
OFFICIAL_UNUSED = (r"image_encoder\.neck\..+", r"prompt_encoder\..+", r"mask_decoder\..+")
# `SamModel` saves the random Fourier buffer under one of the two names that share it; older files hold both.
HUB = (
    (r"vision_encoder\.pos_embed", "encoder.pos_embed"),
    (r"vision_encoder\.patch_embed\.projection\.(weight|bias)", r"encoder.embedding.patch_\1"),
    (r"vision_encoder\.layers\.(\d+)\.layer_norm([12])\.(weight|bias)", r"encoder.blocks.\1.norm\2.\3"),
    (r"vision_encoder\.layers\.(\d+\.(?:attn|mlp)\..+)", r"encoder.blocks.\1"),
)
HUB_UNUSED = (
    r"vision_encoder\.neck\..+", r"shared_image_embedding\..+", r"prompt_encoder\..+", r"mask_decoder\..+",
)  # fmt: skip
LAYOUTS = (("image_encoder.", OFFICIAL, OFFICIAL_UNUSED), ("vision_encoder.", HUB, HUB_UNUSED))


def import_sam(
    path: Path, loaded: dict[str, Any], config: NetworkConfig | None
) -> tuple[NetworkConfig, State, str] | None:
    """SAM's checkpoint as a network's shape and state, and "sam_vit_b" or the like; None: it is none of SAM's."""
    layout = next((layout for layout in LAYOUTS if any(str(key).startswith(layout[0]) for key in loaded)), None)
    if layout is None:
        return None
    start, rules, unused = layout
    config = config or size_by_width(path, loaded.get(f"{start}pos_embed"), "SAM", SIZE_NAMES)
    found, left = renamed(loaded, rules, unused)
    check(path, found, {name: shape for name, shape in shapes(config).items() if _is_sams(name)}, left)
    state = fresh_state(config) | found
    # The depth table starts as the mean of SAM's two (docs/design/network.md, section 1).
    for index in range(config.depth):
        table = f"encoder.blocks.{index}.attn.rel_pos_"
        state[table + "d"] = (state[table + "h"] + state[table + "w"]) / 2
    name = size_name(config, "")
    return config, state, f"sam_{name}" if name else "sam"


def _is_sams(name: str) -> bool:
    """Whether SAM's image encoder holds this tensor."""
    fresh = (".rel_pos_d", ".rel_pos_scale", ".slice_", ".necks.", "depth_embed")
    return name.startswith("encoder.") and not is_adapter(name) and not any(part in name for part in fresh)
