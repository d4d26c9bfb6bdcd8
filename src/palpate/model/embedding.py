"""From voxels to tokens as one convolution (docs/design/network.md, section 1, steps 1-3).

The released program enlarges the crop, repeats it to three channels, runs SAM's patch embedding on
every slice and a depth-wise convolution over slices. All of it is linear in the crop, so it is one
3-D convolution whose kernel this module composes from the stored factors, in every forward pass: the
composition costs less than a thousandth of the convolution, so the factors can be trained and nothing
has to be folded ahead of time. DINOv2's patch has 14 voxels instead of 16; nothing else differs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import NetworkConfig


def enlargement_matrix(patch: int, own: int) -> Tensor:
    """How a patch of enlarged voxels reads the `own` crop voxels of a token: float32 `[patch, own + 2]`.

    Linear interpolation with half-pixel centres; the first and last columns are the neighbours on
    either side of the token's own voxels.
    """
    place = (torch.arange(patch, dtype=torch.float64) + 0.5) * own / patch + 0.5  # column 0 is voxel -1
    left = place.floor().long()
    share = place - left
    matrix = torch.zeros(patch, own + 2, dtype=torch.float64)
    rows = torch.arange(patch)
    matrix[rows, left] += 1 - share
    matrix[rows, (left + 1).clamp(max=own + 1)] += share
    return matrix.float()


class VolumeEmbedding(nn.Module):
    """The crop as tokens, before positions. Symbols: patch embedding E_p, depth embedding E_d (paper, section 3.1)."""

    enlarge: Tensor

    def __init__(self, config: NetworkConfig):
        super().__init__()
        patch, channels = config.patch, config.patch_channels
        self.stride = config.token_voxels
        self.patch_weight = nn.Parameter(torch.empty(config.width, channels, patch, patch))
        self.patch_bias = nn.Parameter(torch.zeros(config.width))
        self.slice_weight = nn.Parameter(torch.empty(config.width, 1, 1, 1, patch))
        self.slice_bias = nn.Parameter(torch.zeros(config.width))
        self.register_buffer("enlarge", enlargement_matrix(patch, self.stride), persistent=False)
        nn.init.trunc_normal_(self.patch_weight, std=(channels * patch * patch) ** -0.5)
        nn.init.constant_(self.slice_weight, 1 / patch)

    def kernel(self) -> tuple[Tensor, Tensor]:
        """The composed convolution: weight `[C, 1, h, w, d]` (6 voxels an axis where a token has 4) and bias `[C]`."""
        enlarge = self.enlarge
        plane = torch.einsum("cij,ih,jw->chw", self.patch_weight.sum(1), enlarge, enlarge)
        depth = self.slice_weight[:, 0, 0, 0] @ enlarge
        weight = plane[:, None, :, :, None] * depth[:, None, None, None, :]
        bias = self.slice_bias + self.patch_bias * self.slice_weight.sum(dim=(1, 2, 3, 4))
        return weight, bias

    def forward(self, crop: Tensor) -> Tensor:
        """Crop `[B, 1, H, W, D]` to tokens `[B, H/s, W/s, D/s, C]`, s voxels a token."""
        weight, bias = self.kernel()
        tokens = F.conv3d(_with_borders_repeated(crop), weight.to(crop.dtype), bias.to(crop.dtype), stride=self.stride)
        return tokens.permute(0, 2, 3, 4, 1)


def _with_borders_repeated(crop: Tensor) -> Tensor:
    """Replicate padding by one voxel; PyTorch's own has no half precision on CPUs."""
    for axis in (2, 3, 4):
        crop = torch.cat([crop.narrow(axis, 0, 1), crop, crop.narrow(axis, -1, 1)], dim=axis)
    return crop
