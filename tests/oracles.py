"""The released program's steps written out plainly: slow, large, and easy to believe. Tests and benchmarks use them."""

import torch
import torch.nn.functional as F
from torch import Tensor

from palpate.model.attention import WindowAttention, Windows
from palpate.model.embedding import VolumeEmbedding


def unfolded_embedding(embedding: VolumeEmbedding, crop: Tensor, factor: int) -> Tensor:
    """Enlarge `[B, 1, H, W, D]`, repeat to three channels, embed every slice, then embed along depth."""
    large = F.interpolate(crop, scale_factor=factor, mode="trilinear", align_corners=False).expand(-1, 3, -1, -1, -1)
    planes = F.conv3d(large, embedding.patch_weight[..., None], embedding.patch_bias, stride=(16, 16, 1))
    tokens = F.conv3d(
        planes, embedding.slice_weight, embedding.slice_bias, stride=(1, 1, 16), groups=embedding.patch_bias.numel()
    )
    return tokens.permute(0, 2, 3, 4, 1)


def region_mask(plan: Windows) -> Tensor:
    """What the release adds to the scores of shifted windows: 0 or -100, `[windows, window³, window³]`."""
    region = torch.zeros(plan.padded, dtype=torch.int64)
    for axis, (size, shift) in enumerate(zip(plan.padded, plan.shift, strict=True)):
        edge = torch.zeros(size, dtype=torch.int64)
        if shift:
            edge[size - plan.window : size - shift] = 1
            edge[size - shift :] = 2
        shape = [1, 1, 1]
        shape[axis] = size
        region = region * 3 + edge.view(shape)
    windows = plan._replace(shift=(0, 0, 0)).cut(region)
    return torch.where(windows[:, :, None] == windows[:, None, :], 0.0, -100.0)


def explicit_attention(layer: WindowAttention, x: Tensor, plan: Windows) -> Tensor:
    """All windows `[n, window³, C]` of an unpadded grid, with their `[n, heads, window³, window³]` scores in memory."""
    n, length, width = x.shape
    size, edge = width // layer.heads, plan.window
    q, k, v = layer.qkv(x).view(n, length, 3, layer.heads, size).permute(2, 0, 3, 1, 4)
    score = (q * size**-0.5) @ k.transpose(-2, -1)
    offsets = torch.arange(edge)[:, None] - torch.arange(edge) + edge - 1
    grid = q.reshape(n, layer.heads, edge, edge, edge, size)
    tables = [
        F.interpolate(stored.t()[None], size=2 * edge - 1, mode="linear")[0].t()[offsets]
        for stored in (layer.rel_pos_h, layer.rel_pos_w, layer.rel_pos_d)
    ]
    bias = torch.einsum("nahwdc,hkc->nahwdk", grid, tables[0])[..., :, None, None]
    bias = bias + torch.einsum("nahwdc,wkc->nahwdk", grid, tables[1])[..., None, :, None]
    bias = bias + torch.einsum("nahwdc,dkc->nahwdk", grid, tables[2])[..., None, None, :]
    score = score + layer.rel_pos_scale * bias.reshape(n, layer.heads, length, length)
    score = score + region_mask(plan)[:, None].to(score.dtype)
    out = (score.softmax(dim=-1) @ v).transpose(1, 2).reshape(n, length, width)
    return layer.proj(out)  # type: ignore[no-any-return]
