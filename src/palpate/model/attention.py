"""Windowed attention with decomposed relative positions (docs/design/network.md, section 1, step 4) as one fused call.

The released program adds three position terms and a region mask to an explicit `[windows, heads, 512,
512]` score. Both are dot products of a few numbers that belong to the query with a few that belong to
the key, so they are appended to query and key, and the biased score is the fused kernel's own product:

- positions: the query carries `s · q · R` for each of the 8 key coordinates of an axis; the key carries
  a one-hot of its coordinate.
- regions of a shifted window: the key carries -1 or +1 for its side of the cut, the query -50 or +50; sides that
  differ lose 100 against sides that agree, and what all keys share does not change a softmax.
- padding: the query carries 1, the key 0 or a large negative number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .adapters import LowRank
from .config import NetworkConfig

Size3 = tuple[int, int, int]
Within = Callable[[Tensor, Tensor, Tensor], Tensor]  # windows, query labels, key labels to windows
REGION = 50.0  # twice this is taken from the score of a pair in different regions, as the release does
TOKENS_AT_ONCE = 2048  # tokens in work at a time when no gradient is wanted
MAX_SCORES = 2**26  # of a layer, 128 MB in half precision
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
        """Cut `grid`; an axis with a single window is never shifted.

        A grid that is smaller than a window on every axis is one window of its own size: padding would be masked.
        """
        window = min(window, max(grid))
        h, w, d = (-(-n // window) * window for n in grid)
        rolls = tuple(window // 2 if shifted and n > window else 0 for n in (h, w, d))
        return cls((grid[0], grid[1], grid[2]), (h, w, d), window, (rolls[0], rolls[1], rolls[2]))

    def cut(self, grid: Tensor) -> Tensor:
        """Values on the padded, unrolled grid `[H, W, D]` as `[windows, window³]`."""
        k = self.window
        h, w, d = (n // k for n in self.padded)
        rolled = grid.roll([-s for s in self.shift], dims=(0, 1, 2)) if any(self.shift) else grid
        return rolled.reshape(h, k, w, k, d, k).permute(0, 2, 4, 1, 3, 5).reshape(h * w * d, k**3)

    def tokens(self, device: torch.device) -> Tensor:
        """The token, counted flat, at each place of each window: int64 `[windows, window³]`; padding: -1."""
        h, w, d = self.grid
        tokens = torch.arange(h * w * d, device=device).view(h, w, d)
        gaps = [p - n for p, n in zip(self.padded, self.grid, strict=True)]
        return self.cut(F.pad(tokens, (0, gaps[2], 0, gaps[1], 0, gaps[0]), value=-1))

    def labels(self, index: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """What queries and keys carry for regions and padding: two `[windows, window³, n]`, n from 0 to 4."""
        queries: list[Tensor] = []
        keys: list[Tensor] = []
        unrolled = self._replace(shift=(0, 0, 0))
        for axis, (size, shift) in enumerate(zip(self.padded, self.shift, strict=True)):
            if not shift:
                continue
            # After the roll, an axis is cut where its far end meets its start, in the middle of its last window.
            side = torch.ones(size, device=like.device, dtype=like.dtype)
            side[size - self.window : size - shift] = -1
            shape = [1, 1, 1]
            shape[axis] = size
            keys.append(unrolled.cut(side.view(shape).expand(self.padded)))
            queries.append(REGION * keys[-1])
        if self.padded != self.grid:
            keys.append((index < 0).to(like.dtype) * PADDING)
            queries.append(torch.ones_like(keys[-1]))
        if not keys:
            empty = like.new_zeros(*index.shape, 0)
            return empty, empty
        return torch.stack(queries, -1), torch.stack(keys, -1)

    def apply(self, tokens: Tensor, within: Within) -> Tensor:
        """Run `within` on all windows of tokens `[B, H, W, D, C]`, and put the results back in place.

        Without gradients a few windows go at a time, so that what lies between is small and stays in cache.
        """
        B, C = tokens.shape[0], tokens.shape[-1]
        flat = tokens.reshape(B, -1, C)
        index = self.tokens(tokens.device)
        labels = self.labels(index, tokens)
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            done = within(flat[:, index.clamp_min(0)].flatten(0, 1), *(part.repeat(B, 1, 1) for part in labels))
            place = torch.argsort(index.flatten())[-flat.shape[1] :]  # padding sorts first
            return done.view(B, -1, C)[:, place].view(tokens.shape)
        out: Tensor | None = None
        count = max(1, TOKENS_AT_ONCE // self.window**3)
        for number, sample in enumerate(flat):
            for part, *signs in zip(*(torch.split(t, count) for t in (index, *labels)), strict=True):
                rows = part.flatten()
                done = within(sample[rows.clamp_min(0)].view(*part.shape, C), *signs).reshape(-1, C)
                if out is None:  # autocast decides the type of the results
                    out = done.new_empty(flat.shape)
                real = slice(None) if self.padded == self.grid else rows >= 0
                out[number].index_copy_(0, rows[real], done[real])
        return flat if out is None else out.view(tokens.shape)


def attended(query: Tensor, key: Tensor, value: Tensor, plain: bool) -> Tensor:
    """`softmax(query · key) · value`: `[n, heads, N, C]` twice and `[n, heads, N, size]` to `[n, heads, N, size]`.

    Learning in bfloat16 on a CPU, matrix products take less than half the time of the fused call. Then the scores are
    bfloat16, and kept for the backward pass: so there must be no regions or padding in them, whose large constants
    would take their digits, and few enough of them.

    Args:
        query: scaled.
        key: of the same width.
        value: of the head's own width.
        plain: whether the scores hold no regions and no padding.
    """
    scores = query.shape[:-1].numel() * key.shape[-2]
    half = query.dtype == torch.bfloat16 and query.device.type == "cpu"
    if plain and half and torch.is_grad_enabled() and scores <= MAX_SCORES:
        return (query @ key.transpose(-1, -2)).softmax(dim=-1) @ value
    size = value.shape[-1]
    padded = F.pad(value, (0, query.shape[-1] - size))  # equal widths keep the fused kernel
    return F.scaled_dot_product_attention(query, key, padded, scale=1.0)[..., :size]


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
        self.lora = LowRank(config) if config.adapter == "lora" else None
        self.proj = nn.Linear(config.width, config.width)
        self.rel_pos_h = nn.Parameter(torch.zeros(rows, size))
        self.rel_pos_w = nn.Parameter(torch.zeros(rows, size))
        self.rel_pos_d = nn.Parameter(torch.zeros(rows, size))
        self.rel_pos_scale = nn.Parameter(torch.ones(()))

    def plan(self, grid: Sequence[int]) -> Windows:
        """How this layer cuts a token grid."""
        return Windows.plan(grid, self.window, self.shifted)

    def forward(self, x: Tensor, query_labels: Tensor, key_labels: Tensor) -> Tensor:
        """Attention within windows `[n, window³, C]`; labels `[n, window³, few]` as `Windows.labels` gives them."""
        n, length, width = x.shape
        size = width // self.heads
        qkv = self.qkv(x) if self.lora is None else self.qkv(x) + self.lora(x)
        q, k, v = qkv.view(n, length, 3, self.heads, size).permute(2, 0, 3, 1, 4).unbind(0)
        query = torch.cat([q * size**-0.5, self._positions(q), self._by_head(query_labels)], dim=-1)
        key = torch.cat([k, self._coordinates(k), self._by_head(key_labels)], dim=-1)
        out = attended(query, key, v, plain=not query_labels.shape[-1])
        return self.proj(out.transpose(1, 2).reshape(n, length, width))  # type: ignore[no-any-return]

    def _by_head(self, labels: Tensor) -> Tensor:
        return labels[:, None].expand(-1, self.heads, -1, -1)

    def _positions(self, q: Tensor) -> Tensor:
        """`s · q · R` for every key coordinate of the three axes: `[n, heads, window³, 3 · window]`.

        All offsets are multiplied at once, then each query takes those between its own place and the keys'.
        """
        edge, rows = edge_of(q), 2 * self.window - 1
        tables = torch.cat([self._offsets(t) for t in (self.rel_pos_h, self.rel_pos_w, self.rel_pos_d)])
        offsets = q @ (tables * self.rel_pos_scale).to(q.dtype).t()
        middle = self.window - 1  # where a table has the offset 0
        place = torch.arange(edge, device=q.device)
        own = torch.cartesian_prod(place, place, place)[:, :, None]
        axis = rows * torch.arange(3, device=q.device)[:, None]
        taken = (axis + own - place + middle).flatten(1)
        return offsets.gather(-1, taken.expand(*q.shape[:2], -1, -1))

    def _coordinates(self, k: Tensor) -> Tensor:
        """The one-hot coordinates of each key: `[n, heads, window³, 3 · window]`."""
        edge = edge_of(k)
        hot = torch.eye(edge, device=k.device, dtype=k.dtype)
        where = torch.cartesian_prod(*[torch.arange(edge, device=k.device)] * 3)
        return hot[where].flatten(1).expand(*k.shape[:2], -1, -1)

    def _offsets(self, stored: Tensor) -> Tensor:
        """A stored table `[rows, size]` as one row for each offset within a window: `[2 · window - 1, size]`."""
        rows = 2 * self.window - 1
        if stored.shape[0] == rows:
            return stored
        return F.interpolate(stored.t()[None].float(), size=rows, mode="linear")[0].t()


def edge_of(x: Tensor) -> int:
    """The edge of a window, of its tokens `[..., window³, C]`."""
    edge: int = round(float(x.shape[-2]) ** (1 / 3))
    return edge
