"""The prompt encoder: a visual sampler that conditions the deepest map on clicks (paper, section 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import NetworkConfig

LABELS = ("positive", "negative", "box's first corner", "box's last corner")


class Attention(nn.Module):
    """Multi-head attention between token lists, `inner` channels wide inside."""

    def __init__(self, width: int, inner: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(width, inner)
        self.v_proj = nn.Linear(width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, query: Tensor, key: Tensor, present: Tensor | None = None) -> Tensor:
        """Query `[B, N, C]` attends to key `[B, M, C]` (values too): `[B, N, C]`.

        `present`, bool `[B, M]`, says which keys there are; None: all.
        """
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.q_proj(query), self.k_proj(key), self.v_proj(key))
        )
        mask = None if present is None else present[:, None, None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out_proj(out.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class PromptMlp(nn.Module):
    """Two linear layers with a ReLU between."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., C]` to the same."""
        return self.lin2(F.relu(self.lin1(x)))  # type: ignore[no-any-return]


class PromptLayer(nn.Module):
    """Global queries gather what the clicks show; the image attends to the queries."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        width = config.neck_width
        self.global_query = nn.Parameter(0.02 * torch.randn(1, config.queries, width))
        self.self_attn = Attention(width, width, config.prompt_heads)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = PromptMlp(width, config.prompt_mlp)
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = Attention(width, width // 2, config.prompt_heads)
        if config.spare_attention:
            self.cross_attn_token_to_image = Attention(width, width // 2, config.prompt_heads)

    def forward(self, clicks: Tensor, image: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Click tokens `[B, N, C]` and image `[B, voxels, C]` to the same.

        `present`, bool `[B, queries + N]`, says which queries and clicks there are; None: all.
        """
        queries = torch.cat([self.global_query.expand(clicks.shape[0], -1, -1).to(clicks.dtype), clicks], dim=1)
        queries = self.norm2(queries + self.norm1(self.self_attn(queries, queries, present)))
        count = self.global_query.shape[1]
        context, clicks = queries[:, :count], queries[:, count:]
        context = self.norm3(context + self.mlp(context))
        return clicks, self.norm4(image + self.cross_attn_image_to_token(image, context))


class PromptEncoder(nn.Module):
    """Clicks and the deepest map to the conditioned map."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.queries = config.queries
        self.layers = nn.ModuleList(PromptLayer(config) for _ in range(config.prompt_layers))
        self.labels = nn.Embedding(len(LABELS), config.neck_width) if config.dense_width else None
        if self.labels is not None:
            nn.init.zeros_(self.labels.weight)  # so that a network that gains labels computes what it did

    @staticmethod
    def sample(deepest: Tensor, points: Tensor) -> Tensor:
        """The map `[B, C, H, W, D]` at normalised points `[B, N, 3]` (h, w, d; -1 to 1): `[B, N, C]`."""
        # grid_sample wants the last axis first.
        where = points.flip(-1)[:, :, None, None].to(deepest.dtype)
        return F.grid_sample(deepest, where, align_corners=False)[..., 0, 0].transpose(1, 2)

    def forward(self, deepest: Tensor, points: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map `[B, C, H, W, D]` and normalised points `[B, N, 3]` (h, w, d) to the conditioned map.

        `labels`, int64 `[B, N]`, say what each point is, by its place in `LABELS`; None: all are positive clicks. Where
        a crop has fewer points than others of the batch, -1 stands for none: nothing attends to such a point.
        """
        clicks, present = self.sample(deepest, points), None
        if self.labels is not None:
            kinds = points.new_zeros(points.shape[:2], dtype=torch.int64) if labels is None else labels
            clicks = clicks + self.labels(kinds.clamp_min(0)).to(clicks.dtype)
            if bool((kinds < 0).any()):
                present = F.pad(kinds >= 0, (self.queries, 0), value=True)
        image = deepest.flatten(2).transpose(1, 2)
        for layer in self.layers:
            clicks, image = layer(clicks, image, present)
        return image.transpose(1, 2).reshape(deepest.shape)
