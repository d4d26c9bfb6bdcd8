"""The decoder's norm: equal to PyTorch's InstanceNorm, forwards and backwards."""

import pytest
import torch
import torch.nn.functional as F

from palpate.model.norm import NormReLU


@pytest.mark.parametrize("shape", [(2, 8, 16, 16, 16), (1, 3, 5, 6, 7), (3, 300, 2, 2, 2)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_training_computes_what_inference_does(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    x = (1.5 + torch.randn(shape)).contiguous(memory_format=layout)
    gradient = torch.randn(shape)
    plain, ours = x.double().requires_grad_(), x.clone().requires_grad_()
    normal = F.instance_norm(plain)
    expected = F.relu(normal)
    expected.backward(gradient.double())  # type: ignore[no-untyped-call]
    got = NormReLU().train()(ours)
    got.backward(gradient)
    torch.testing.assert_close(got, expected.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(NormReLU().eval()(x), expected.float(), rtol=1e-5, atol=1e-5)
    assert ours.grad is not None
    assert plain.grad is not None
    near_zero = normal.detach().abs() < 1e-5  # where ReLU's own gradient may fall either way
    assert ((ours.grad - plain.grad.float()).abs()[~near_zero] < 1e-4).all()
    assert got.is_contiguous(memory_format=torch.channels_last_3d)


def test_a_large_map_far_from_zero_keeps_its_digits() -> None:
    """Where a channel's mean is ten deviations, numbers added up one by one lose three digits."""
    torch.manual_seed(0)
    x = (10 + torch.randn(1, 8, 64, 64, 64)).contiguous(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        off = NormReLU().train()(x) - F.relu(F.instance_norm(x.double()))
    assert off.abs().max() < 1e-5


def test_half_precision_keeps_its_type() -> None:
    x = torch.randn(1, 4, 8, 8, 8).bfloat16().requires_grad_()
    got = NormReLU().train()(x)
    got.sum().backward()
    assert got.dtype == torch.bfloat16
    assert x.grad is not None
    assert x.grad.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), F.relu(F.instance_norm(x.float())), rtol=1e-2, atol=1e-2)
