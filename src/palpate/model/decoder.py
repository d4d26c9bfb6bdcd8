"""The mask decoder: multi-layer aggregation (docs/design/network.md, section 3; paper, section 3.3).

Convolution is linear in its input channels: what the first three maps and the crop add to the first
joint convolution does not depend on the clicks. `prepare` computes that once a crop, `forward` the rest.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .channels_last import Pointwise, enlarged, learns
from .config import NetworkConfig
from .dense import DenseFeatures
from .norm import NormReLU


class Prepared(NamedTuple):
    """The part of the decoder that does not depend on the clicks.

    Attributes:
        partial: the first three maps' and the crop's share of the joint convolution, `[B, decoder_width, 2h, 2w, 2d]`.
        levels: what the detail path made of the crop, finest first (`DetailPath.descend`); empty without one.
        size: the crop's H, W, D.
    """

    partial: Tensor
    levels: tuple[Tensor, ...]
    size: tuple[int, int, int]


class Decoded(NamedTuple):
    """What the decoder makes of a crop and its prompts.

    Attributes:
        logits: of background and lesion, `[B, 2, H, W, D]`.
        joined: its channels before they are classified, `[B, decoder_width, 2h, 2w, 2d]`.
    """

    logits: Tensor
    joined: Tensor


def conv3(inputs: int, outputs: int) -> nn.Conv3d:
    """A 3³ convolution that keeps the grid, without bias."""
    return nn.Conv3d(inputs, outputs, 3, padding=1, bias=False)


class Head(nn.Module):
    """A map to twice its resolution: two 3³ convolutions, each with InstanceNorm and ReLU, then ×2."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv1 = conv3(inputs, outputs)
        self.conv2 = conv3(outputs, outputs)
        self.norm = NormReLU()

    def forward(self, x: Tensor) -> Tensor:
        """`[B, inputs, h, w, d]` to `[B, outputs, 2h, 2w, 2d]`."""
        x = self.norm(self.conv2(self.norm(self.conv1(x))))
        return F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=True)


class DetailPath(nn.Module):
    """A slim convolutional pyramid from the crop's own resolution to the decoder's grid and back (not in the paper).

    On the way down it depends on the crop alone; the decoder's channels join on the way up.

    Args:
        width: channels at the crop's resolution; they double at every halving.
        levels: halvings from the crop to the decoder's grid.
        decoder: the decoder's channels.
    """

    def __init__(self, width: int, levels: int, decoder: int):
        super().__init__()
        widths = [width << level for level in range(levels + 1)]
        self.down = nn.ModuleList(conv3(a, b) for a, b in zip([1, *widths], widths, strict=False))
        self.narrow = nn.ModuleList(
            Pointwise(a, b, bias=False) for a, b in zip([*widths[1:-1], decoder], widths[:-1], strict=True)
        )
        self.join = nn.ModuleList(conv3(2 * w, w) for w in widths[:-1])
        self.classify = conv3(width, 2)
        self.norm = NormReLU()

    def descend(self, crop: Tensor) -> tuple[Tensor, ...]:
        """The crop `[B, 1, H, W, D]` at each level, finest first; the last lies on the decoder's grid.

        In training, of every level but the last: what it adds to the convolution that joins it, which is linear. A
        crop's several answers share that.
        """
        levels: list[Tensor] = []
        for level, convolution in enumerate(self.down):
            # Halving between pixel centres is the mean of 2³ voxels, and known in half precision on CPUs.
            source = F.interpolate(levels[-1], scale_factor=0.5, mode="trilinear") if level else crop
            levels.append(self.norm(convolution(source)))
        if learns(self):
            joins = zip(levels[:-1], self.join, strict=True)
            levels[:-1] = [F.conv3d(x, halves(join)[1], padding=1) for x, join in joins]
        return tuple(levels)

    def ascend(self, x: Tensor, levels: tuple[Tensor, ...], fine: Tensor | None = None) -> Tensor:
        """The decoder's channels, joined with every level but the last, to logits at the crop's resolution.

        `fine` is what prompts add to the finest level before its last convolution.
        """
        stages = zip(levels[:-1], self.narrow, self.join, strict=True)
        for level, narrow, join in reversed(list(stages)):
            h, w, d = level.shape[2:]
            wide = enlarged(narrow(x), (h, w, d), learns(self))
            if learns(self):
                x = self.norm(F.conv3d(wide, halves(join)[0], padding=1) + level)
            else:
                x = self.norm(join(torch.cat([wide, level], dim=1)))
        logits: Tensor = self.classify(x if fine is None else x + fine)
        return logits


def halves(join: nn.Module) -> tuple[Tensor, Tensor]:
    """The weights of a joining convolution for what comes from below and for its own level."""
    below, own = join.get_parameter("weight").chunk(2, dim=1)
    return below, own


class MaskDecoder(nn.Module):
    """Four maps and the crop to logits of background and lesion."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        width = config.decoder_width
        levels = (config.token_voxels // 2).bit_length() - 1  # the decoder's grid has two positions a token
        self.width = width
        self.heads = nn.ModuleList(Head(config.neck_width, width) for _ in range(4))
        self.joint = conv3(4 * width + 1 + (config.detail_width << levels), width)
        self.classify = conv3(width, 2)
        self.norm = NormReLU()
        self.detail = DetailPath(config.detail_width, levels, width) if config.detail_width else None

    def prepare(self, maps: tuple[Tensor, ...], crop: Tensor) -> Prepared:
        """What the first three maps `[B, C, h, w, d]` and the crop `[B, 1, H, W, D]` add, whatever the clicks."""
        weight = self.joint.weight
        grid = [2 * n for n in maps[0].shape[2:]]
        crop_share = F.interpolate(crop, size=grid, mode="trilinear", align_corners=False)
        levels = self.detail.descend(crop) if self.detail is not None else ()
        if levels:
            crop_share = torch.cat([crop_share, levels[-1]], dim=1)
        partial = F.conv3d(crop_share, weight[:, 4 * self.width :], padding=1)
        for index, (head, feature) in enumerate(zip(list(self.heads)[:3], maps[:3], strict=True)):
            share = weight[:, index * self.width : (index + 1) * self.width]
            partial = partial + F.conv3d(head(feature), share, padding=1)
        H, W, D = crop.shape[2:]
        return Prepared(partial, levels, (H, W, D))

    def forward(self, prepared: Prepared, conditioned: Tensor, dense: DenseFeatures | None = None) -> Decoded:
        """The prepared share and the conditioned deepest map `[B, C, h, w, d]` to logits.

        `dense` is the output of the encoder of prompts as maps.
        """
        share = self.joint.weight[:, 3 * self.width : 4 * self.width]
        x = prepared.partial + F.conv3d(self.heads[3](conditioned), share, padding=1)
        if dense is not None:
            x = x + dense.middle
        x = self.norm(x)
        logits = enlarged(self.classify(x), prepared.size, learns(self))
        if self.detail is None:
            return Decoded(logits, x)
        return Decoded(logits + self.detail.ascend(x, prepared.levels, None if dense is None else dense.fine), x)
