"""The mask decoder: multi-layer aggregation (spec: section 3; paper, section 3.3).

Convolution is linear in its input channels: what the first three maps and the crop add to the first
joint convolution does not depend on the clicks. `prepare` computes that once a crop, `forward` the rest.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import NetworkConfig


class Prepared(NamedTuple):
    """What of the decoder does not depend on the clicks.

    Attributes:
        partial: the first three maps' and the crop's share of the joint convolution, `[B, decoder_width, 2h, 2w, 2d]`.
        detail: the crop at its own resolution `[B, detail_width, H, W, D]`, or None without a detail path.
        size: the crop's H, W, D.
    """

    partial: Tensor
    detail: Tensor | None
    size: tuple[int, int, int]


def conv3(inputs: int, outputs: int) -> nn.Conv3d:
    """A 3³ convolution that keeps the grid, without bias."""
    return nn.Conv3d(inputs, outputs, 3, padding=1, bias=False)


class Head(nn.Module):
    """A map to twice its resolution: two 3³ convolutions, each with InstanceNorm and ReLU, then ×2."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv1 = conv3(inputs, outputs)
        self.conv2 = conv3(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, inputs, h, w, d]` to `[B, outputs, 2h, 2w, 2d]`."""
        x = F.relu(F.instance_norm(self.conv1(x)))
        x = F.relu(F.instance_norm(self.conv2(x)))
        return F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=True)


class MaskDecoder(nn.Module):
    """Four maps and the crop to logits of background and lesion."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        width = config.decoder_width
        self.width = width
        self.heads = nn.ModuleList(Head(config.neck_width, width) for _ in range(4))
        self.joint = conv3(4 * width + 1, width)
        self.classify = conv3(width, 2)
        self.detail_width = config.detail_width
        if config.detail_width:
            self.detail_in = conv3(1, config.detail_width)
            self.detail_up = nn.Conv3d(width, config.detail_width, 1, bias=False)
            self.detail_join = conv3(2 * config.detail_width, config.detail_width)
            self.detail_out = conv3(config.detail_width, 2)

    def prepare(self, maps: tuple[Tensor, ...], crop: Tensor) -> Prepared:
        """What the first three maps `[B, C, h, w, d]` and the crop `[B, 1, H, W, D]` add, whatever the clicks."""
        weight = self.joint.weight
        grid = [2 * n for n in maps[0].shape[2:]]
        reduced = F.interpolate(crop, size=grid, mode="trilinear", align_corners=False)
        partial = F.conv3d(reduced, weight[:, 4 * self.width :], padding=1)
        for index, (head, feature) in enumerate(zip(list(self.heads)[:3], maps[:3], strict=True)):
            share = weight[:, index * self.width : (index + 1) * self.width]
            partial = partial + F.conv3d(head(feature), share, padding=1)
        detail = F.relu(F.instance_norm(self.detail_in(crop))) if self.detail_width else None
        H, W, D = crop.shape[2:]
        return Prepared(partial, detail, (H, W, D))

    def forward(self, prepared: Prepared, conditioned: Tensor) -> Tensor:
        """The prepared share and the conditioned deepest map `[B, C, h, w, d]` to logits `[B, 2, H, W, D]`."""
        share = self.joint.weight[:, 3 * self.width : 4 * self.width]
        x = prepared.partial + F.conv3d(self.heads[3](conditioned), share, padding=1)
        x = F.relu(F.instance_norm(x))
        logits = F.interpolate(self.classify(x), size=prepared.size, mode="trilinear", align_corners=True)
        if prepared.detail is None:
            return logits
        fine = F.interpolate(self.detail_up(x), size=prepared.size, mode="trilinear", align_corners=True)
        fine = F.relu(F.instance_norm(self.detail_join(torch.cat([fine, prepared.detail], dim=1))))
        return logits + self.detail_out(fine)
