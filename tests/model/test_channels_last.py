"""Layers that learn with channels last: equal to PyTorch's own, forwards and backwards."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from palpate.model import Network
from palpate.model.channels_last import Pointwise, enlarged, matrix
from palpate.model.decoder import DetailPath
from small import prompted_bundle


def channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("bias", [True, False])
def test_a_pointwise_convolution_is_one(bias: bool) -> None:
    torch.manual_seed(0)
    layer = Pointwise(6, 5, bias=bias)
    x = torch.randn(2, 6, 3, 4, 5).contiguous(memory_format=torch.channels_last_3d)
    expected = F.conv3d(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer.eval()(x), expected)
    torch.testing.assert_close(layer.train()(x), expected, rtol=1e-5, atol=1e-5)
    assert channels_last(layer(x))


def test_enlargement_by_hand() -> None:
    """Two places at three: the ends stay, and the middle is their mean."""
    torch.testing.assert_close(matrix(2, 3), torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]).double())


@pytest.mark.parametrize(("channels", "size"), [(2, (8, 12, 7)), (1, (3, 4, 5)), (6, (6, 8, 10))])
def test_enlargement_and_its_gradient(channels: int, size: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    x, gradient = torch.randn(2, channels, 3, 4, 5), torch.randn(2, channels, *size)
    plain, ours = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected = F.interpolate(plain, size=size, mode="trilinear", align_corners=True)
    assert torch.equal(enlarged(x, size, training=False), expected)
    got = enlarged(ours, size, training=True)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    expected.backward(gradient)  # type: ignore[no-untyped-call]
    got.backward(gradient)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(ours.grad, plain.grad, rtol=1e-5, atol=1e-5)


def test_enlargement_in_half_precision() -> None:
    x = torch.randn(1, 8, 4, 4, 4)
    expected = F.interpolate(x, size=(8, 8, 8), mode="trilinear", align_corners=True)
    got = enlarged(x.bfloat16(), (8, 8, 8), training=True)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), expected, rtol=5e-2, atol=5e-2)


def test_a_detail_path_joins_in_two_parts_what_it_joins_in_one() -> None:
    torch.manual_seed(0)
    path, crop, x = DetailPath(4, 2, 8), torch.randn(2, 1, 16, 16, 16), torch.randn(2, 8, 4, 4, 4)
    fine = torch.randn(2, 4, 16, 16, 16)
    found = []
    for training in (True, False):
        path.train(training)
        levels = path.descend(crop)
        assert [level.shape for level in levels] == [(2, 4, 16, 16, 16), (2, 8, 8, 8, 8), (2, 16, 4, 4, 4)]
        found.append(path.ascend(x, levels, fine))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def gradients(network: Network, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Of a sum that weighs each logit differently."""
    network.zero_grad()
    logits = network(*inputs)
    (logits * torch.linspace(-1, 1, logits.numel()).view(logits.shape)).mean().backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def test_a_network_learns_what_inference_computes() -> None:
    """Logits and gradients of all parameters, with the layers of training and with those of inference."""
    network = prompted_bundle().network
    maps = torch.rand(2, 4, 32, 32, 32)
    inputs = (torch.randn(2, 1, 32, 32, 32), torch.full((2, 1, 3), 16.0), torch.zeros(2, 1, dtype=torch.int64), maps)
    with torch.no_grad():
        torch.testing.assert_close(network.train()(*inputs), network.eval()(*inputs), rtol=1e-3, atol=1e-3)
    learning, plain = gradients(network.train(), inputs), gradients(network.eval(), inputs)
    assert learning.keys() == plain.keys()
    scale = torch.cat([value.flatten() for value in plain.values()]).norm()
    for name, value in plain.items():
        assert (learning[name] - value).norm() < 1e-2 * value.norm() + 1e-4 * scale, name
