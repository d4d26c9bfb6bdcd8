"""The image encoder: a picture transformer lifted to volumes, by spatial adapters as a rule (paper, section 3.1).

Facts and shapes: docs/design/network.md, section 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .adapters import on_a_branch, on_the_grid
from .attention import WindowAttention
from .channels_last import Pointwise
from .config import NetworkConfig
from .embedding import VolumeEmbedding


class Mlp(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., C]` to the same."""
        return self.lin2(F.gelu(self.lin1(x)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """SAM's block, and DINOv2's, with an adapter before it, on its two branches, within its attention, or nowhere."""

    def __init__(self, config: NetworkConfig, index: int):
        super().__init__()
        self.adapter = on_the_grid(config)
        self.norm1 = nn.LayerNorm(config.width, eps=1e-6)
        self.attn = WindowAttention(config, index)
        self.attn_adapter = on_a_branch(config)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-6)
        self.mlp = Mlp(config.width, config.mlp_ratio * config.width)
        self.mlp_adapter = on_a_branch(config)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens `[B, H, W, D, C]` to the same."""
        x: Tensor = self.adapter(tokens)
        return self.attn.plan(x.shape[1:4]).apply(x, self._within)

    def _within(self, windows: Tensor, query_labels: Tensor, key_labels: Tensor) -> Tensor:
        x = windows + self.attn_adapter(self.attn(self.norm1(windows), query_labels, key_labels))
        return x + self.mlp_adapter(self.mlp(self.norm2(x)))  # type: ignore[no-any-return]


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map `[B, C, H, W, D]`."""

    def forward(self, x: Tensor) -> Tensor:
        """The map, each position's channels normalised."""
        return super().forward(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)


def neck(config: NetworkConfig) -> nn.Sequential:
    """Tokens' channels to a feature map's: 1³ convolution, norm, 3³ convolution, norm."""
    width = config.neck_width
    return nn.Sequential(
        Pointwise(config.width, width, bias=False),
        ChannelNorm(width, eps=1e-6),
        nn.Conv3d(width, width, 3, padding=1, bias=False),
        ChannelNorm(width, eps=1e-6),
    )


class ImageEncoder(nn.Module):
    """A crop to four feature maps.

    Attributes:
        checkpointing: recompute each block in the backward pass instead of keeping its activations.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        self.checkpointing = False
        self.embedding = VolumeEmbedding(config)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.position_grid, config.position_grid, config.width))
        self.depth_embed = nn.Parameter(torch.ones(1, config.depth_grid, config.width))
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.depth))
        self.necks = nn.ModuleList(neck(config) for _ in range(4))

    def positions(self, grid: tuple[int, int, int]) -> Tensor:
        """What is added to the tokens of a grid (H, W, D): `[1, H, W, D, C]`; stored tables are interpolated to it.

        DINOv2's table bicubically, as DINOv2 does where a picture has another size than the table.
        """
        pool = self.config.position_grid // self.config.depth_grid
        plane = F.avg_pool2d(self.pos_embed.permute(0, 3, 1, 2), pool)
        depth = self.depth_embed.transpose(1, 2)
        if plane.shape[-2:] != grid[:2]:
            mode = "bicubic" if self.config.transformer == "dinov2" else "bilinear"
            plane = F.interpolate(plane, size=grid[:2], mode=mode)
        if depth.shape[-1] != grid[2]:
            depth = F.interpolate(depth, size=grid[2], mode="linear")
        return plane.permute(0, 2, 3, 1)[:, :, :, None] + depth.transpose(1, 2)[:, None, None]

    def forward(self, crop: Tensor, progress: Callable[[float], None] | None = None) -> tuple[Tensor, ...]:
        """Crop `[B, 1, H, W, D]` to four maps `[B, neck_width, H/s, W/s, D/s]`, the deepest last.

        Args:
            crop: the crop.
            progress: called after each block with the share of blocks done, above 0 to 1. What it raises ends the pass.
        """
        tokens = self.embedding(crop)
        tokens = tokens + self.positions(tokens.shape[1:4]).to(tokens.dtype)
        maps: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            if self.checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens = block(tokens)
            if progress is not None:
                progress((index + 1) / len(self.blocks))
            if index in self.config.neck_blocks:
                maps.append(self.necks[len(maps)](tokens.permute(0, 4, 1, 2, 3)))
        return tuple(maps)
