"""What a block can have beside SAM's own layers (docs/design/network.md, section 8).

All but the spatial adapter start as if they were not there: their last layer is zero, so training begins at
the network without them, exactly. A spatial adapter ends in a ReLU, which would learn nothing from zero: on SAM it
starts at random, as in the paper; on DINOv2, whose tokens are small, random ones would drown them, so it starts damped.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import NetworkConfig

DAMPING = 0.01  # of a fresh spatial adapter's last layer on DINOv2's tokens


class SpatialAdapter(nn.Module):
    """`x + relu(W2 · relu(dwconv(relu(W1 · x))))`, depth-wise 3×3×3 over the token grid (arXiv 2306.13465, 3.1)."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        inner = int(config.width * config.adapter_ratio)
        self.linear1 = nn.Linear(config.width, inner)
        self.conv = nn.Conv3d(inner, inner, 3, padding=1, groups=inner)
        self.linear2 = nn.Linear(inner, config.width)
        if config.transformer == "dinov2":
            with torch.no_grad():
                self.linear2.weight.mul_(DAMPING)
                self.linear2.bias.mul_(DAMPING)

    def mix(self, tokens: Tensor) -> Tensor:
        """The part that mixes neighbours: tokens `[B, H, W, D, C]` to `[B, H, W, D, inner]`."""
        inner = F.relu(self.linear1(tokens))
        return F.relu(self.conv(inner.permute(0, 4, 1, 2, 3))).permute(0, 2, 3, 4, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens `[B, H, W, D, C]` to the same."""
        return tokens + F.relu(self.linear2(self.mix(tokens)))


class SliceAdapter(nn.Module):
    """`x + W_up · dwconv(W_down · x)`: ST-Adapter (Pan et al. 2022, arXiv 2206.13559), with slices for its frames.

    Its depth-wise convolution is 3×1×1 (time first), here along D. No activation lies between, as in its program.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        inner = int(config.width * config.adapter_ratio)
        self.down = nn.Linear(config.width, inner)
        self.conv = nn.Conv3d(inner, inner, (1, 1, 3), padding=(0, 0, 1), groups=inner)
        self.up = silent(nn.Linear(inner, config.width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens `[B, H, W, D, C]` to the same; each sees its neighbours along D."""
        inner = self.conv(self.down(tokens).permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
        return tokens + self.up(inner)  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """`h + W_up · gelu(W_down · h)`, on what a sub-layer is about to add (Houlsby et al. 2019, arXiv 1902.00751)."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.down = nn.Linear(config.width, config.bottleneck_width)
        self.up = silent(nn.Linear(config.bottleneck_width, config.width))

    def forward(self, x: Tensor) -> Tensor:
        """`[..., C]` to the same, each token by itself."""
        return x + self.up(F.gelu(self.down(x)))  # type: ignore[no-any-return]


class LowRank(nn.Module):
    """What LoRA adds to queries and values: `B · A · x` for each (Hu et al. 2021, arXiv 2106.09685).

    The paper scales it by α/r and sets α to the first r it tries (section 4.1): with one r, that is 1.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        width, rank = config.width, config.lora_rank
        self.q_down = nn.Linear(width, rank, bias=False)
        self.q_up = silent(nn.Linear(rank, width, bias=False))
        self.v_down = nn.Linear(width, rank, bias=False)
        self.v_up = silent(nn.Linear(rank, width, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """`[..., C]` to what joins the stacked queries, keys and values `[..., 3C]`; keys gain nothing."""
        query, value = self.q_up(self.q_down(x)), self.v_up(self.v_down(x))
        return torch.cat([query, torch.zeros_like(query), value], dim=-1)


def silent(layer: nn.Linear) -> nn.Linear:
    """The layer, made to put out zero until it has learned something."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def on_the_grid(config: NetworkConfig) -> nn.Module:
    """What changes a block's tokens `[B, H, W, D, C]` before they are cut into windows."""
    if config.adapter == "spatial":
        return SpatialAdapter(config)
    return SliceAdapter(config) if config.adapter == "st" else nn.Identity()


def on_a_branch(config: NetworkConfig) -> nn.Module:
    """What changes the output `[..., C]` of a block's attention, or of its MLP, before it is added to the tokens."""
    return Bottleneck(config) if config.adapter == "bottleneck" else nn.Identity()
