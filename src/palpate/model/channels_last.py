"""Layers that leave a map's channels last in memory while they learn: the same numbers as PyTorch's, up to rounding.

Inference keeps PyTorch's own rounding, with which the masks of models that exist were measured.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW_CHANNELS = 4  # of which PyTorch's enlargement takes ten times as long as matrix products


def learns(layer: nn.Module) -> bool:
    """Whether a layer is at work in a training; not where a training's network is validated, as inference does."""
    return layer.training and not torch.is_inference_mode_enabled()


class Pointwise(nn.Conv3d):
    """A 1³ convolution; in training a matrix product of positions and channels.

    On one thread PyTorch leaves 1³ convolutions to a kernel that puts channels first, and every map after it too.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True):
        super().__init__(inputs, outputs, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, inputs, H, W, D]` to `[B, outputs, H, W, D]`."""
        if not learns(self):
            return super().forward(x)
        rows = F.linear(x.permute(0, 2, 3, 4, 1), self.weight.flatten(1), self.bias)
        return rows.permute(0, 4, 1, 2, 3)


def enlarged(x: Tensor, size: tuple[int, int, int], training: bool) -> Tensor:
    """A map `[B, C, h, w, d]` at another size, trilinear, corners aligned.

    In training by `matrix` where that is faster: few channels, or half precision.
    """
    if not training or (x.shape[1] > FEW_CHANNELS and x.dtype == torch.float32):
        return F.interpolate(x, size=size, mode="trilinear", align_corners=True)
    batch, channels, h, w, d = x.shape
    along_h, along_w, along_d = (
        matrix(a, b).to(device=x.device, dtype=x.dtype) for a, b in zip((h, w, d), size, strict=True)
    )
    # Along D the channels are taken in, so that each product is of wide matrices.
    along_d = torch.kron(along_d.t().contiguous(), torch.eye(channels, device=x.device, dtype=x.dtype))
    rows = x.permute(0, 2, 3, 4, 1).reshape(batch * h * w, d * channels) @ along_d
    rows = along_w @ rows.view(batch * h, w, -1)
    rows = along_h @ rows.view(batch, h, -1)
    return rows.view(batch, *size, channels).permute(0, 4, 1, 2, 3)


def matrix(before: int, after: int) -> Tensor:
    """Linear interpolation of `before` places at `after`, the outermost ones aligned: float64 `[after, before]`."""
    unit = torch.eye(before, dtype=torch.float64)[None]
    return F.interpolate(unit, size=after, mode="linear", align_corners=True)[0].t().contiguous()
