"""Windowed attention with decomposed relative positions (spec: section 1, step 4) as one fused call.

The released program adds three position terms and a region mask to an explicit `[windows, heads, 512,
512]` score. Both are dot products of a few numbers that belong to the query with a few that belong to
the key, so they are appended to query and key, and the biased score is the fused kernel's own product:

- positions: the query carries `s · q · R` for each of the 8 key coordinates of an axis; the key carries
  a one-hot of its coordinate.
- regions of a shifted window: the key says -1 or +1 for its side of the cut, the query -50 or +50; sides that
  differ lose 100 against sides that agree, and what all keys share does not change a softmax.
- padding: the query carries 1, the key 0 or a large negative number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import NetworkConfig

Size3 = tuple[int, int, int]
REGION = 50.0  # twice this is taken from the score of a pair in different regions, as the release does
PADDING = -1.0e4  # within float16's range, and far below any score


class Windows(NamedTuple):
    """How a token grid is cut into windows.

    Attributes:
        grid: tokens along H, W, D.
        padded: the same, filled up to whole windows.
        window: edge of a window.
        shift: by how much each axis is rolled.
    """

    grid: Size3
    padded: Size3
    window: int
    shift: Size3

    @classmethod
    def plan(cls, grid: Sequence[int], window: int, shifted: bool) -> Windows:
        """Cut `grid`; an axis with a single window is never shifted."""
        h, w, d = (-(-n // window) * window for n in grid)
        rolls = tuple(window // 2 if shifted and n > window else 0 for n in (h, w, d))
        return cls((grid[0], grid[1], grid[2]), (h, w, d), window, (rolls[0], rolls[1], rolls[2]))

    def cut(self, tokens: Tensor) -> Tensor:
        """`[B, H, W, D, C]` to `[B · windows, window³, C]`."""
        B, C, k = tokens.shape[0], tokens.shape[-1], self.window
        if self.padded != self.grid:
            gaps = [p - n for p, n in zip(self.padded, self.grid, strict=True)]
            tokens = F.pad(tokens, (0, 0, 0, gaps[2], 0, gaps[1], 0, gaps[0]))
        if any(self.shift):
            tokens = tokens.roll([-s for s in self.shift], dims=(1, 2, 3))
        h, w, d = (n // k for n in self.padded)
        return tokens.view(B, h, k, w, k, d, k, C).permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(B * h * w * d, k**3, C)

    def join(self, windows: Tensor, batch: int) -> Tensor:
        """The inverse of `cut`."""
        C, k = windows.shape[-1], self.window
        h, w, d = (n // k for n in self.padded)
        tokens = windows.view(batch, h, w, d, k, k, k, C).permute(0, 1, 4, 2, 5, 3, 6, 7)
        tokens = tokens.reshape(batch, *self.padded, C)
        if any(self.shift):
            tokens = tokens.roll(self.shift, dims=(1, 2, 3))
        if self.padded != self.grid:
            tokens = tokens[:, : self.grid[0], : self.grid[1], : self.grid[2]]
        return tokens

    def labels(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """What queries and keys carry for regions and padding: two `[windows, window³, n]`, n from 0 to 4."""
        h, w, d = self.padded
        queries: list[Tensor] = []
        keys: list[Tensor] = []
        for axis, (size, shift) in enumerate(zip(self.padded, self.shift, strict=True)):
            if not shift:
                continue
            side = torch.ones(size, device=like.device, dtype=like.dtype)
            side[size - self.window : size - shift] = -1
            shape = [1, 1, 1]
            shape[axis] = size
            keys.append(side.view(shape).expand(h, w, d))
            queries.append(REGION * keys[-1])
        if self.padded != self.grid:
            inside = torch.zeros(self.padded, device=like.device, dtype=like.dtype)
            inside[: self.grid[0], : self.grid[1], : self.grid[2]] = 1
            inside = inside.roll([-s for s in self.shift], dims=(0, 1, 2))
            keys.append((1 - inside) * PADDING)
            queries.append(torch.ones_like(inside))
        plain = self._replace(grid=self.padded, shift=(0, 0, 0))
        if not keys:
            empty = like.new_zeros(h * w * d // self.window**3, self.window**3, 0)
            return empty, empty
        return plain.cut(torch.stack(queries, -1)[None]), plain.cut(torch.stack(keys, -1)[None])


class WindowAttention(nn.Module):
    """Multi-head attention within cubic windows."""

    def __init__(self, config: NetworkConfig, index: int):
        super().__init__()
        self.heads = config.heads
        self.window = config.window
        self.shifted = index % 2 == 0
        size = config.width // config.heads
        rows = config.global_rows if index in config.global_blocks else config.window_rows
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)
        self.rel_pos_h = nn.Parameter(torch.zeros(rows, size))
        self.rel_pos_w = nn.Parameter(torch.zeros(rows, size))
        self.rel_pos_d = nn.Parameter(torch.zeros(rows, size))
        self.rel_pos_scale = nn.Parameter(torch.ones(()))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens `[B, H, W, D, C]` to the same."""
        plan = Windows.plan(tokens.shape[1:4], self.window, self.shifted)
        return plan.join(self.attend(plan.cut(tokens), plan), tokens.shape[0])

    def attend(self, x: Tensor, plan: Windows) -> Tensor:
        """Attention within windows `[B · windows, window³, C]`."""
        n, length, width = x.shape
        size = width // self.heads
        q, k, v = self.qkv(x).view(n, length, 3, self.heads, size).permute(2, 0, 3, 1, 4).unbind(0)
        query, key = self._with_positions(q, k, plan)
        value = F.pad(v, (0, query.shape[-1] - size))  # equal widths keep the fused kernel
        out = F.scaled_dot_product_attention(query, key, value, scale=1.0)[..., :size]
        return self.proj(out.transpose(1, 2).reshape(n, length, width))  # type: ignore[no-any-return]

    def _with_positions(self, q: Tensor, k: Tensor, plan: Windows) -> tuple[Tensor, Tensor]:
        """Queries and keys `[windows, heads, window³, size]` with their positions, regions and padding appended."""
        n, heads, length, size = q.shape
        edge = self.window
        grid = q.view(n, heads, edge, edge, edge, size)
        scale = self.rel_pos_scale.to(q.dtype)
        parts = [
            torch.einsum(rule, grid, self._table(table).to(q.dtype) * scale).reshape(n, heads, length, edge)
            for rule, table in (
                ("nahwdc,hkc->nahwdk", self.rel_pos_h),
                ("nahwdc,wkc->nahwdk", self.rel_pos_w),
                ("nahwdc,dkc->nahwdk", self.rel_pos_d),
            )
        ]
        hot = torch.eye(edge, device=q.device, dtype=q.dtype)
        where = torch.cartesian_prod(*[torch.arange(edge, device=q.device)] * 3)
        one_hot = hot[where].view(1, 1, length, 3 * edge).expand(n, heads, -1, -1)
        more_q, more_k = (
            m[:, None].repeat(n // m.shape[0], heads, 1, 1) if m.shape[-1] else q[..., :0] for m in plan.labels(q)
        )
        query = torch.cat([q * size**-0.5, *parts, more_q], dim=-1)
        key = torch.cat([k, one_hot, more_k], dim=-1)
        return query, key

    def _table(self, stored: Tensor) -> Tensor:
        """A stored table `[rows, size]` as R[Δ] for every pair of coordinates of a window: `[window, window, size]`."""
        rows = 2 * self.window - 1
        if stored.shape[0] != rows:
            stored = F.interpolate(stored.t()[None].float(), size=rows, mode="linear")[0].t()
        edge = torch.arange(self.window, device=stored.device)
        return stored[edge[:, None] - edge[None, :] + self.window - 1]
