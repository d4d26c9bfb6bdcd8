"""The 3DSAM-adapter release's `.pth.tar`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..model import NetworkConfig
from .keys import State, check, renamed, shapes, size_by_width
from .sam import SIZE_NAMES

ENCODER = (
    (r"(pos_embed|depth_embed)", r"encoder.\1"),
    (r"patch_embed\.proj\.(weight|bias)", r"encoder.embedding.patch_\1"),
    (r"slice_embed\.(weight|bias)", r"encoder.embedding.slice_\1"),
    (r"(blocks\.\d+\.attn)\.lr", r"encoder.\1.rel_pos_scale"),
    (r"(blocks\.\d+\.(?:norm1|norm2|attn|mlp|adapter)\..+)", r"encoder.\1"),
    (r"neck_3d\.(\d+)\.(.+)", r"encoder.necks.\1.\2"),
)
DECODER = (
    (r"mlahead\.head2\.0\.weight", "decoder.heads.0.conv1.weight"),
    (r"mlahead\.head2\.3\.weight", "decoder.heads.0.conv2.weight"),
    (r"mlahead\.head3\.0\.weight", "decoder.heads.1.conv1.weight"),
    (r"mlahead\.head3\.3\.weight", "decoder.heads.1.conv2.weight"),
    (r"mlahead\.head4\.0\.weight", "decoder.heads.2.conv1.weight"),
    (r"mlahead\.head4\.3\.weight", "decoder.heads.2.conv2.weight"),
    (r"mlahead\.head5\.0\.weight", "decoder.heads.3.conv1.weight"),
    (r"mlahead\.head5\.3\.weight", "decoder.heads.3.conv2.weight"),
    (r"cls\.0\.weight", "decoder.joint.weight"),
    (r"cls\.3\.weight", "decoder.classify.weight"),
)
PROMPT = ((r"transformer\.(layers\..+)", r"prompt.\1"),)
# Stored by the release, computed with by nobody: shift masks follow from the grid, the Fourier buffer is never read.
UNUSED = (r"blocks\.\d+\.attn_mask", r"positional_encoding_gaussian_matrix")


def import_release(
    path: Path, loaded: dict[str, Any], config: NetworkConfig | None
) -> tuple[NetworkConfig, State, str]:
    """The release's checkpoint as a network's shape and state, and "release"."""
    features = loaded["feature_dict"]
    if not isinstance(features, list) or len(features) != 4:
        raise ModelError(f"{path}: feature_dict must list four prompt encoders (the last is used)")
    config = config or size_by_width(path, loaded["encoder_dict"].get("pos_embed"), "SAM", SIZE_NAMES)
    state: State = {}
    left: list[str] = []
    parts = (
        ("encoder_dict", loaded["encoder_dict"], ENCODER),
        ("decoder_dict", loaded["decoder_dict"], DECODER),
        ("feature_dict[3]", features[3], PROMPT),
    )
    for part, tensors, rules in parts:
        found, unknown = renamed(tensors, rules, UNUSED)
        state |= found
        left += [f"{part}.{key}" for key in unknown]
    for index, tensors in enumerate(features[:3]):  # stored, and never computed with
        left += [f"feature_dict[{index}].{key}" for key in renamed(tensors, PROMPT, UNUSED)[1]]
    check(path, state, shapes(config), left)
    return config, state, "release"
