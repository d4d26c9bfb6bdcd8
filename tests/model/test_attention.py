"""Fused window attention against the explicit score matrix."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from oracles import explicit_attention
from palpate.model import NetworkConfig
from palpate.model.attention import WindowAttention, Windows

WIDTH, HEADS = 24, 3


def attention(index: int = 0, rows: int = 27) -> WindowAttention:
    torch.manual_seed(index)
    layer = WindowAttention(
        NetworkConfig(width=WIDTH, heads=HEADS, window_rows=rows, global_blocks=(2,)), index
    ).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return layer


def explicit(layer: WindowAttention, x: Tensor) -> Tensor:
    """Every pair of tokens of a grid `[H, W, D, C]`: in one window and region or not, and how far apart."""
    size, shifted = WIDTH // HEADS, layer.shifted
    grid = x.shape[:3]
    places = torch.tensor(list(itertools.product(*map(range, grid))))
    padded = [-(-n // 8) * 8 for n in grid]
    shift = [4 if shifted and n > 8 else 0 for n in padded]
    rolled = torch.stack([(places[:, a] - shift[a]) % padded[a] for a in range(3)], 1)
    window, within = rolled // 8, rolled % 8
    region = torch.stack(
        [(rolled[:, a] >= padded[a] - shift[a]) & (shift[a] > 0) for a in range(3)], 1
    )  # beyond the cut, where the roll brought the grid's start
    same = (window[:, None] == window[None]).all(-1)
    q, k, v = layer.qkv(x.reshape(-1, WIDTH)).view(-1, 3, HEADS, size).permute(1, 2, 0, 3)
    score = q @ k.transpose(1, 2) * size**-0.5
    offsets = within[:, None] - within[None] + 7
    tables = (layer.rel_pos_h, layer.rel_pos_w, layer.rel_pos_d)
    for axis, stored in enumerate(tables):
        table = F.interpolate(stored.t()[None], size=15, mode="linear")[0].t()
        bias = torch.einsum("hqc,qkc->hqk", q, table[offsets[..., axis].clamp(0, 14)])
        score = score + layer.rel_pos_scale * bias
    score = score - 100.0 * (region[:, None] != region[None]).any(-1)
    score = score.masked_fill(~same, float("-inf"))
    out = (score.softmax(-1) @ v).transpose(0, 1).reshape(-1, WIDTH)
    return layer.proj(out).view(x.shape)  # type: ignore[no-any-return]


@pytest.mark.parametrize("grid", [(8, 8, 8), (16, 8, 16), (12, 16, 8), (5, 9, 16), (3, 2, 6)])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_fused_equals_explicit(grid: tuple[int, int, int], index: int) -> None:
    layer = attention(index)
    x = torch.randn(2, *grid, WIDTH, dtype=torch.float64)
    expected = torch.stack([explicit(layer, sample) for sample in x])
    with_gradients = layer.plan(grid).apply(x, layer)
    # Tables are interpolated in float32.
    torch.testing.assert_close(with_gradients, expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():  # the same, a few windows at a time
        torch.testing.assert_close(layer.plan(grid).apply(x, layer), with_gradients, rtol=1e-10, atol=1e-10)


def test_both_explicit_forms_agree() -> None:
    """The windowed form, which benchmarks time, is held to the pairwise one."""
    layer = attention(0)
    x = torch.randn(1, 16, 8, 16, WIDTH, dtype=torch.float64)
    plan = layer.plan((16, 8, 16))
    windowed = plan.apply(x, lambda windows, _queries, _keys: explicit_attention(layer, windows, plan))
    torch.testing.assert_close(windowed[0], explicit(layer, x[0]), rtol=1e-5, atol=1e-5)


def test_tables_of_fifteen_rows_are_used_as_they_are() -> None:
    layer = attention(1, rows=15)
    assert layer._offsets(layer.rel_pos_h) is layer.rel_pos_h


def test_plan_by_hand() -> None:
    plan = Windows.plan((10, 8, 24), 8, shifted=True)
    assert plan.padded == (16, 8, 24)
    assert plan.shift == (4, 0, 4), "an axis with a single window is not shifted"
    tokens = plan.tokens(torch.device("cpu"))
    assert tokens.shape == (2 * 1 * 3, 512)
    assert sorted(tokens[tokens >= 0].tolist()) == list(range(10 * 8 * 24)), "each token sits in one window, once"
    assert tokens[0, 0] == 4 * 8 * 24 + 4, "the first window begins at (4, 0, 4)"


def test_a_small_grid_is_one_window_of_its_own_size() -> None:
    plan = Windows.plan((4, 2, 3), 8, shifted=True)
    assert (plan.window, plan.padded, plan.shift) == (4, (4, 4, 4), (0, 0, 0))
    assert Windows.plan((4, 9, 3), 8, shifted=False).padded == (8, 16, 8)


def test_half_precision_stays_close() -> None:
    layer = attention(0)
    x = torch.randn(1, 16, 16, 16, WIDTH, dtype=torch.float64)
    expected = layer.plan((16, 16, 16)).apply(x, layer)
    for kind, bound in ((torch.float32, 1e-4), (torch.bfloat16, 0.2), (torch.float16, 0.03)):
        low = layer.to(kind)
        got = low.plan((16, 16, 16)).apply(x.to(kind), low)
        assert got.dtype == kind
        assert (got.double() - expected).abs().max() < bound * expected.abs().max()
        layer = attention(0)


@pytest.mark.parametrize("grid", [(16, 8, 16), (5, 9, 16)])
def test_under_autocast_results_have_its_type_with_gradients_and_without(grid: tuple[int, int, int]) -> None:
    layer, tokens = attention(0).float(), torch.randn(2, *grid, WIDTH)
    with torch.autocast("cpu", torch.bfloat16):
        with_gradients = layer.plan(grid).apply(tokens, layer)
        with torch.no_grad():
            without = layer.plan(grid).apply(tokens, layer)
    assert with_gradients.dtype == without.dtype == torch.bfloat16
    torch.testing.assert_close(without, with_gradients, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(("grid", "fused"), [((8, 8, 8), False), ((8, 8, 6), True), ((16, 8, 8), True)])
def test_learning_in_bfloat16_takes_plain_products_where_scores_hold_no_large_constants(
    monkeypatch: pytest.MonkeyPatch, grid: tuple[int, int, int], fused: bool
) -> None:
    """Padding and regions are large numbers beside the scores, and bfloat16 would keep two digits of their sum."""
    calls: list[torch.dtype] = []
    kernel = F.scaled_dot_product_attention

    def counted(query: Tensor, *arguments: Tensor, **options: float) -> Tensor:
        calls.append(query.dtype)
        return kernel(query, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    layer = attention().float()
    x = torch.randn(1, *grid, WIDTH)
    exact = layer.plan(grid).apply(x, layer)
    calls.clear()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        learning = layer.plan(grid).apply(x.bfloat16(), layer)
        assert bool(calls) == fused
        with torch.no_grad():
            layer.plan(grid).apply(x.bfloat16(), layer)
    assert calls, "without gradients the call is fused"
    assert (learning - exact).norm() < 0.03 * exact.norm()
