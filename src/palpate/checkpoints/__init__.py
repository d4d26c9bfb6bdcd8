"""Weights that exist in the world, as a `Network`'s state.

SAM's and MedSAM's `.pth`, the same weights as the Hugging Face Hub has them (safetensors, in the layout of the
`transformers` package's `SamModel`), the release's `.pth.tar`, and DINOv2's `.pth` and safetensors (the Hub's
`Dinov2Model`, or DINOv2's own names).

Every key of a file is accounted for: used, or named here as unused, or the file is refused with the
lists of what is missing and what is left over.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import ModelError
from ..model import NetworkConfig
from .dinov2 import import_dinov2
from .keys import State
from .reading import read_checkpoint
from .release import import_release
from .sam import import_sam

__all__ = ["import_checkpoint"]


def import_checkpoint(path: str | Path, config: NetworkConfig | None = None) -> tuple[NetworkConfig, State, str]:
    """A foreign checkpoint as a network's shape and full state, and what it was ("sam_vit_b", "release", "dinov2_s").

    From SAM and DINOv2 come the encoder's own weights; adapters, necks, prompt encoder and decoder start fresh (seed
    0).

    Args:
        path: SAM's or MedSAM's `.pth` or `SamModel` safetensors file, the release's `.pth.tar`, or DINOv2's `.pth` or
            safetensors file.
        config: the network's shape, for a checkpoint of none of the sizes of `model.SIZES`; found by the width
            otherwise.

    Raises:
        ModelError: unreadable or unsafe, of unknown layout, or with keys missing, left over or of another shape.
    """
    path = Path(path)
    loaded = read_checkpoint(path)
    if {"encoder_dict", "decoder_dict", "feature_dict"} <= loaded.keys():
        return import_release(path, loaded, config)
    found = import_sam(path, loaded, config) or import_dinov2(path, loaded, config)
    if found is not None:
        return found
    some = ", ".join(sorted(map(str, loaded))[:5])
    raise ModelError(
        f"{path}: of no known layout (keys such as {some or 'none'}). Known: SAM's and MedSAM's .pth "
        "(image_encoder.*) and SamModel safetensors (vision_encoder.*), the 3DSAM-adapter release's .pth.tar "
        "(encoder_dict, decoder_dict, feature_dict), and DINOv2's .pth (pos_embed, blocks.*) and Dinov2Model "
        "safetensors (embeddings.*, encoder.layer.*)"
    )
