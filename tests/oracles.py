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


def plain_dinov2(tensors: dict[str, Tensor], picture: Tensor, heads: int) -> list[Tensor]:
    """DINOv2 without its class token, by its own names: patches, then with positions, then after each block.

    Args:
        tensors: of its file.
        picture: `[B, 3, H, W]` in 0 to 1, edges multiples of 14.
        heads: attention heads.

    Returns:
        Each `[B, tokens, C]`.
    """
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normal = (picture - mean[:, None, None]) / std[:, None, None]
    patches = F.conv2d(normal, tensors["patch_embed.proj.weight"], tensors["patch_embed.proj.bias"], stride=14)
    table = tensors["pos_embed"][:, 1:]
    edge = round(table.shape[1] ** 0.5)
    places = table.view(1, edge, edge, -1).permute(0, 3, 1, 2)
    if places.shape[2:] != patches.shape[2:]:
        places = F.interpolate(places, size=patches.shape[2:], mode="bicubic", align_corners=False)
    x = patches.flatten(2).mT
    seen = [x, x := x + places.flatten(2).mT]
    for index in range(sum(key.endswith("ls1.gamma") for key in tensors)):
        own = {key.removeprefix(f"blocks.{index}."): value for key, value in tensors.items()}

        def linear(x: Tensor, name: str, own: dict[str, Tensor] = own) -> Tensor:
            return F.linear(x, own[f"{name}.weight"], own[f"{name}.bias"])

        def norm(x: Tensor, name: str, own: dict[str, Tensor] = own) -> Tensor:
            return F.layer_norm(x, x.shape[-1:], own[f"{name}.weight"], own[f"{name}.bias"], eps=1e-6)

        B, N, C = x.shape
        q, k, v = linear(norm(x, "norm1"), "attn.qkv").view(B, N, 3, heads, C // heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT * (C // heads) ** -0.5).softmax(-1)
        x = x + own["ls1.gamma"] * linear((weights @ v).transpose(1, 2).reshape(B, N, C), "attn.proj")
        x = x + own["ls2.gamma"] * linear(F.gelu(linear(norm(x, "norm2"), "mlp.fc1")), "mlp.fc2")
        seen.append(x)
    return seen
