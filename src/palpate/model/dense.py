"""Prompts and the mask so far as maps on the crop's own grid (not in the paper).

In the paper the image attends to ten global queries without a position, so a click gives the lesion's appearance but
not its extent. Here every prompt is also drawn on the crop's grid. A small convolutional encoder adds its output to
the deepest map, to the decoder's grid and, where there is a detail path, at the crop's resolution. All three start at
zero: a network that gains this encoder computes the same as before, until it is trained.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .channels_last import Pointwise, learns
from .config import NetworkConfig

CHANNELS = ("foreground", "background", "box", "initial mask")


class DenseFeatures(NamedTuple):
    """The encoder's output, each part added to a map of the network.

    Attributes:
        deep: to the deepest map, `[B, neck_width, h, w, d]`.
        middle: to the decoder's grid, `[B, decoder_width, 2h, 2w, 2d]`.
        fine: to the detail path at the crop's resolution, `[B, detail_width, H, W, D]`; None without one.
    """

    deep: Tensor
    middle: Tensor
    fine: Tensor | None


class DensePrompts(nn.Module):
    """Maps of prompts to additions to the network's maps."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        width, detail = config.dense_width, config.detail_width
        self.cell = config.token_voxels // 2  # the decoder's grid has two positions a token
        self.conv1 = nn.Conv3d(2 * len(CHANNELS), width, 3, padding=1)
        self.conv2 = nn.Conv3d(width, width, 3, padding=1)
        self.middle = zeroed(Pointwise(width, config.decoder_width))
        self.conv3 = nn.Conv3d(width, width, 3, stride=2, padding=1)
        self.deep = zeroed(Pointwise(width, config.neck_width))
        self.fine1 = nn.Conv3d(len(CHANNELS), detail, 3, padding=1) if detail else None
        self.fine2 = zeroed(nn.Conv3d(detail, detail, 3, padding=1)) if detail else None

    def forward(self, maps: Tensor) -> DenseFeatures:
        """Maps `[B, 4, H, W, D]`, by `CHANNELS`: spots and box 0 to 1, the initial mask -1 to 1 (0: none given)."""
        if learns(self):  # a copy once, not in every layer below
            maps = maps.contiguous(memory_format=torch.channels_last_3d)
        # The largest value, so that a spot of one voxel counts in its cell; the mean, so that a mask's edge stays.
        mean, largest = F.avg_pool3d(maps, self.cell), F.max_pool3d(maps, self.cell)
        x = F.relu(self.conv2(F.relu(self.conv1(torch.cat([mean, largest], dim=1)))))
        deep = self.deep(F.relu(self.conv3(x)))
        if self.fine1 is None or self.fine2 is None:
            return DenseFeatures(deep, self.middle(x), None)
        several = torch.is_grad_enabled() and len(maps) > 1
        fine = self.fine1(maps) if several else in_eights(self.fine1, maps)
        return DenseFeatures(deep, self.middle(x), self.fine2(F.relu(fine)))


def in_eights(layer: nn.Conv3d, x: Tensor) -> Tensor:
    """A 3³ convolution, its input's channels filled up with zeros to a multiple of eight.

    Of a single crop PyTorch computes four channels a ninth as fast as eight (4 to 8 channels on 64³, one thread: 75 ms
    against 9): its own kernel does it, and oneDNN's where there is more.
    """
    missing = (0,) * 7 + (-x.shape[1] % 8,)
    return F.conv3d(F.pad(x, missing), F.pad(layer.weight, missing), layer.bias, padding=1)


def zeroed(layer: nn.Conv3d) -> nn.Conv3d:
    """A convolution that adds nothing before it is trained."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
