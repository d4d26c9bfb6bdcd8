"""InstanceNorm and ReLU of the decoder."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .channels_last import learns

EPS = 1e-5  # added to the variance (docs/design/network.md, section 3)
HALF = (torch.bfloat16, torch.float16)
LANES = 256  # numbers summed side by side, a whole number of positions


class NormReLU(nn.Module):
    """InstanceNorm without parameters, then ReLU.

    In training by `ChannelsLastNormReLU`, the same numbers up to rounding, which leaves a map's channels last:
    PyTorch's InstanceNorm copies the map there and back, forwards and backwards. Inference keeps PyTorch's own
    rounding, with which the masks of models that exist were measured.
    """

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W, D]` to the same."""
        if learns(self):
            done: Tensor = ChannelsLastNormReLU.apply(x)  # type: ignore[no-untyped-call]
            return done
        return F.relu(F.instance_norm(x, eps=EPS))


class ChannelsLastNormReLU(torch.autograd.Function):
    """InstanceNorm and ReLU of a map whose channels lie last in memory.

    PyTorch's GroupNorm and BatchNorm know that layout too, but add up a channel's 64³ numbers one by one: their results
    are off by 1e-4 of a standard deviation. That is nothing beside half precision's own rounding, so there BatchNorm of
    one crop at a time does it. Elsewhere sums are nested here, and the variance is of centred numbers.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - autograd's own
        """`[B, C, H, W, D]` to the same, channels last."""
        if x.dtype in HALF:
            return _half_forward(ctx, x)
        rows = _rows(x)
        normal = rows - _mean(rows)
        scale = (_mean(normal * normal) + EPS).rsqrt_()
        normal.mul_(scale)
        ctx.save_for_backward(normal, scale)
        return _map(normal.clamp_min(0), x.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401 - autograd's own
        """The gradient of the map, channels last."""
        if gradient.dtype in HALF:
            return _half_backward(ctx, gradient)
        normal, scale = ctx.saved_tensors
        rows = torch.ops.aten.threshold_backward(_rows(gradient), normal, 0)
        mean, slope = _mean(rows), _mean(rows * normal)
        rows.sub_(mean).addcmul_(normal, slope, value=-1).mul_(scale)
        return _map(rows, gradient.shape)


def _half_forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - autograd's own
    """`ChannelsLastNormReLU.forward` in half precision, its statistics in float32."""
    x = x.contiguous(memory_format=torch.channels_last_3d)
    done = torch.empty_like(x)
    statistics = []
    for crop, place in zip(torch.split(x, 1), torch.split(done, 1), strict=True):
        normal, *of_crop = torch.native_batch_norm(crop, None, None, None, None, True, 0.0, EPS)
        torch.clamp_min(normal, 0, out=place)
        statistics += of_crop
    ctx.save_for_backward(x, done, *statistics)
    return done


def _half_backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401 - autograd's own
    """`ChannelsLastNormReLU.backward` in half precision."""
    x, done, *statistics = ctx.saved_tensors
    found = torch.empty_like(x)
    for number, (crop, kept) in enumerate(zip(torch.split(x, 1), torch.split(done, 1), strict=True)):
        passed = torch.ops.aten.threshold_backward(gradient[number : number + 1], kept, 0)
        mean, scale = statistics[2 * number : 2 * number + 2]
        of_crop, *_ = torch.ops.aten.native_batch_norm_backward(
            passed, crop, None, None, None, mean, scale, True, EPS, [True, False, False]
        )
        found[number] = of_crop[0]
    return found


def _rows(x: Tensor) -> Tensor:
    """A map `[B, C, H, W, D]` as `[B, positions, C]`; no copy where its channels lie last."""
    return x.permute(0, 2, 3, 4, 1).contiguous().view(len(x), -1, x.shape[1])


def _map(rows: Tensor, shape: torch.Size) -> Tensor:
    """The opposite of `_rows`."""
    return rows.view(shape[0], *shape[2:], shape[1]).permute(0, 4, 1, 2, 3)


def _mean(rows: Tensor) -> Tensor:
    """Means over the positions of `[B, positions, C]`, `[B, 1, C]`."""
    count, channels = rows.shape[1:]
    beside = max(1, LANES // channels)
    while count % beside:
        beside -= 1
    sums = rows.view(len(rows), count // beside, beside * channels).sum(dim=1)
    return sums.view(len(rows), beside, channels).sum(dim=1, keepdim=True) / count
