"""Weights that exist in the world, as a `Network`'s state.

SAM's and MedSAM's `.pth`, the same weights as the Hugging Face Hub has them (safetensors, in the layout of the
`transformers` package's `SamModel`), and the release's `.pth.tar`.

Every key of a file is accounted for: used, or named here as unused, or the file is refused with the
lists of what is missing and what is left over.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import ModelError
from .model import SIZES, Network, NetworkConfig, is_adapter

State = dict[str, Tensor]
MAX_LISTED = 8  # keys that an error lists

RELEASE_ENCODER = (
    (r"(pos_embed|depth_embed)", r"encoder.\1"),
    (r"patch_embed\.proj\.(weight|bias)", r"encoder.embedding.patch_\1"),
    (r"slice_embed\.(weight|bias)", r"encoder.embedding.slice_\1"),
    (r"(blocks\.\d+\.attn)\.lr", r"encoder.\1.rel_pos_scale"),
    (r"(blocks\.\d+\.(?:norm1|norm2|attn|mlp|adapter)\..+)", r"encoder.\1"),
    (r"neck_3d\.(\d+)\.(.+)", r"encoder.necks.\1.\2"),
)
RELEASE_DECODER = (
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
RELEASE_PROMPT = ((r"transformer\.(layers\..+)", r"prompt.\1"),)
# Stored by the release, computed with by nobody: shift masks follow from the grid, the Fourier buffer is never read.
RELEASE_UNUSED = (r"blocks\.\d+\.attn_mask", r"positional_encoding_gaussian_matrix")

SAM_ENCODER = (
    (r"image_encoder\.pos_embed", "encoder.pos_embed"),
    (r"image_encoder\.patch_embed\.proj\.(weight|bias)", r"encoder.embedding.patch_\1"),
    (r"image_encoder\.(blocks\..+)", r"encoder.\1"),
)
# SAM's own neck, prompt encoder and mask decoder have no place in the volumetric network
# (docs/design/network.md, section 7).
SAM_UNUSED = (r"image_encoder\.neck\..+", r"prompt_encoder\..+", r"mask_decoder\..+")
# `SamModel` saves the random Fourier buffer under one of the two names that share it; older files hold both.
HUB_ENCODER = (
    (r"vision_encoder\.pos_embed", "encoder.pos_embed"),
    (r"vision_encoder\.patch_embed\.projection\.(weight|bias)", r"encoder.embedding.patch_\1"),
    (r"vision_encoder\.layers\.(\d+)\.layer_norm([12])\.(weight|bias)", r"encoder.blocks.\1.norm\2.\3"),
    (r"vision_encoder\.layers\.(\d+\.(?:attn|mlp)\..+)", r"encoder.blocks.\1"),
)
HUB_UNUSED = (
    r"vision_encoder\.neck\..+", r"shared_image_embedding\..+", r"prompt_encoder\..+", r"mask_decoder\..+",
)  # fmt: skip


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The dictionary in a `.pth` or a safetensors file, unpickling tensors and numbers only.

    Raises:
        ModelError: no such file, not a checkpoint, or one that asks to run code.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    if _is_safetensors(path):
        return _read_safetensors(path)
    # Real releases hold numpy scalars (a best loss) beside their tensors; these types build numbers and nothing else.
    scalar = np.float64(0).__reduce__()[0]  # numpy's own builder of scalars, wherever its version keeps it
    numbers: list[Any] = [scalar, (scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar")]
    numbers += [np.dtype, *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64"))]
    try:
        with torch.serialization.safe_globals(numbers):
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=False)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: refused, because reading it would run code from the file, or it is no checkpoint at all "
            f"({str(error).splitlines()[0][:200]}). Ask its author for a safetensors file"
        ) from error
    except (RuntimeError, EOFError, OSError, LookupError, ValueError) as error:
        raise ModelError(f"{path}: not a readable PyTorch checkpoint ({error}); it may be cut short") from error
    if not isinstance(loaded, dict):
        raise ModelError(f"{path}: holds a {type(loaded).__name__}, not a dictionary of weights")
    return loaded


def _is_safetensors(path: Path) -> bool:
    """Whether the file begins as such files do: the length of a JSON header, and the header's brace."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            if "palpate" in (file.metadata() or {}):
                raise ModelError(f"{path}: is a Palpate model already; use it as it is")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a readable safetensors file ({error}); it may be cut short") from error


def import_checkpoint(path: str | Path, config: NetworkConfig | None = None) -> tuple[NetworkConfig, State, str]:
    """A foreign checkpoint as a network's shape and full state, and what it was ("sam_vit_b", "release", ...).

    From SAM come the encoder's own weights; adapters, necks, prompt encoder and decoder start fresh (seed 0).

    Args:
        path: SAM's or MedSAM's `.pth` or `SamModel` safetensors file, or the release's `.pth.tar`.
        config: the network's shape, for a checkpoint of none of SAM's three sizes; found by the width otherwise.

    Raises:
        ModelError: unreadable or unsafe, of unknown layout, or with keys missing, left over or of another shape.
    """
    path = Path(path)
    loaded = read_checkpoint(path)
    if {"encoder_dict", "decoder_dict", "feature_dict"} <= loaded.keys():
        return _import_release(path, loaded, config)
    for start, rules, unused in (
        ("image_encoder.", SAM_ENCODER, SAM_UNUSED),
        ("vision_encoder.", HUB_ENCODER, HUB_UNUSED),
    ):
        if any(str(key).startswith(start) for key in loaded):
            config = config or _config_by_width(path, loaded.get(f"{start}pos_embed"))
            return _import_sam(path, config, *_rename(loaded, rules, unused))
    some = ", ".join(sorted(map(str, loaded))[:5])
    raise ModelError(
        f"{path}: of no known layout (keys such as {some or 'none'}). Known: SAM's and MedSAM's .pth "
        "(image_encoder.*) and SamModel safetensors (vision_encoder.*), and the 3DSAM-adapter release's .pth.tar "
        "(encoder_dict, decoder_dict, feature_dict)"
    )


def _import_release(
    path: Path, loaded: dict[str, Any], config: NetworkConfig | None
) -> tuple[NetworkConfig, State, str]:
    features = loaded["feature_dict"]
    if not isinstance(features, list) or len(features) != 4:
        raise ModelError(f"{path}: feature_dict must list four prompt encoders (the last is used)")
    config = config or _config_by_width(path, loaded["encoder_dict"].get("pos_embed"))
    state: State = {}
    left: list[str] = []
    parts = (
        ("encoder_dict", loaded["encoder_dict"], RELEASE_ENCODER),
        ("decoder_dict", loaded["decoder_dict"], RELEASE_DECODER),
        ("feature_dict[3]", features[3], RELEASE_PROMPT),
    )
    for part, tensors, rules in parts:
        found, unknown = _rename(tensors, rules, RELEASE_UNUSED)
        state |= found
        left += [f"{part}.{key}" for key in unknown]
    for index, tensors in enumerate(features[:3]):  # stored, and never computed with
        left += [f"feature_dict[{index}].{key}" for key in _rename(tensors, RELEASE_PROMPT, RELEASE_UNUSED)[1]]
    _check(path, state, _blank(config), left)
    return config, state, "release"


def _import_sam(path: Path, config: NetworkConfig, found: State, left: list[str]) -> tuple[NetworkConfig, State, str]:
    blank = _blank(config)
    expected = {k: v for k, v in blank.items() if _is_sams(k)}
    _check(path, found, expected, left)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = dict(Network(config).state_dict())
    state |= found
    # The depth table starts as the mean of SAM's two (docs/design/network.md, section 1).
    for index in range(config.depth):
        table = f"encoder.blocks.{index}.attn.rel_pos_"
        state[table + "d"] = (state[table + "h"] + state[table + "w"]) / 2
    return config, state, _sams_name(config)


def _rename(
    tensors: dict[str, Any], rules: tuple[tuple[str, str], ...], unused: tuple[str, ...]
) -> tuple[State, list[str]]:
    """Our names for a file's tensors, and the keys that no rule knows."""
    state: State = {}
    unknown: list[str] = []
    for key, value in tensors.items():
        if any(re.fullmatch(rule, key) for rule in unused):
            continue
        ours = next((re.sub(rule, new, key) for rule, new in rules if re.fullmatch(rule, key)), None)
        if ours is None or not isinstance(value, Tensor):
            unknown.append(key)
        else:
            state[ours] = value.detach().float().contiguous()
    return state, unknown


def _check(path: Path, state: State, expected: State, left: list[str]) -> None:
    """Refuse a file that does not fill `expected` exactly."""
    missing = sorted(expected.keys() - state.keys())
    left = sorted(left + [key for key in state if key not in expected])
    wrong = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in sorted(state.keys() & expected.keys())
        if state[key].shape != expected[key].shape
    ]
    problems = (("missing", missing), ("left over", left), ("of another shape", wrong))
    found = [f"{len(keys)} {what}: {_list(keys)}" for what, keys in problems if keys]
    if found:
        raise ModelError(f"{path}: does not fit the network. " + "; ".join(found))


def _list(keys: list[str]) -> str:
    more = len(keys) - MAX_LISTED
    return ", ".join(keys[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def _blank(config: NetworkConfig) -> State:
    with torch.device("meta"):
        return dict(Network(config).state_dict())


def _is_sams(name: str) -> bool:
    """Whether SAM's image encoder holds this tensor."""
    fresh = (".rel_pos_d", ".rel_pos_scale", ".slice_", ".necks.", "depth_embed")
    return name.startswith("encoder.") and not is_adapter(name) and not any(part in name for part in fresh)


def _config_by_width(path: Path, positions: object) -> NetworkConfig:
    width = positions.shape[-1] if isinstance(positions, Tensor) and positions.ndim == 4 else None
    for name in ("vit_b", "vit_l", "vit_h"):
        if SIZES[name].width == width:
            return SIZES[name]
    raise ModelError(f"{path}: its position table is {width} wide; SAM's are 768 (vit_b), 1024 (vit_l), 1280 (vit_h)")


def _sams_name(config: NetworkConfig) -> str:
    return next((f"sam_{name}" for name, size in SIZES.items() if size == config), "sam")
