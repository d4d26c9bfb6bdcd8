"""The network: encode a crop once, decode for any clicks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .config import NetworkConfig
from .decoder import MaskDecoder, Prepared
from .encoder import ImageEncoder
from .prompt import PromptEncoder
from .tuning import is_frozen, is_unused


class Features(NamedTuple):
    """What is kept of a crop between clicks.

    Attributes:
        deepest: the deepest map, before any click, `[B, neck_width, h, w, d]`.
        prepared: the decoder's share that no click changes.
    """

    deepest: Tensor
    prepared: Prepared


class Network(nn.Module):
    """3DSAM-adapter's network (arXiv 2306.13465).

    Inside, maps run `[B, C, H, W, D]`, the order in which the release stores its weights; crops come
    in and logits go out as `[B, C, D, H, W]`.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        self.encoder = ImageEncoder(config)
        self.prompt = PromptEncoder(config)
        self.decoder = MaskDecoder(config)

    def encode(self, crop: Tensor) -> Features:
        """All that can be computed of a normalised crop `[B, 1, D, H, W]` before any click.

        Raises:
            ValueError: an edge that is not a multiple of a token.
        """
        if crop.ndim != 5 or crop.shape[1] != 1 or any(n % self.config.token_voxels for n in crop.shape[2:]):
            raise ValueError(
                f"a crop is [B, 1, D, H, W] with edges that are multiples of {self.config.token_voxels}, "
                f"not {tuple(crop.shape)}"
            )
        image = crop.permute(0, 1, 3, 4, 2)
        maps = self.encoder(image)
        return Features(maps[3], self.decoder.prepare(maps, image))

    def decode(self, features: Features, clicks: Tensor) -> Tensor:
        """Logits `[B, 2, D, H, W]` (background, lesion) for clicks `[B, N, 3]`, positions (d, h, w) in the crop."""
        H, W, D = features.prepared.size
        size = torch.tensor([H, W, D], device=clicks.device, dtype=torch.float32)
        points = (clicks.float()[..., [1, 2, 0]] + 0.5) * 2 / size - 1
        logits: Tensor = self.decoder(features.prepared, self.prompt(features.deepest, points))
        return logits.permute(0, 1, 4, 2, 3)

    def forward(self, crop: Tensor, clicks: Tensor) -> Tensor:
        """`encode`, then `decode`."""
        return self.decode(self.encode(crop), clicks)

    def named_tuned(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters that a cohort tunes (docs/network.md, section 8), the unused ones among them included."""
        return ((name, p) for name, p in self.named_parameters() if not is_frozen(name, self.config))

    def freeze(self) -> None:
        """Leave gradients on for what is tuned and used; off for all else."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(not is_frozen(name, self.config) and not is_unused(name))
