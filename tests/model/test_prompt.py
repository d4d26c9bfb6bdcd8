"""The visual sampler, by hand."""

import torch

from palpate.model import NetworkConfig
from palpate.model.prompt import PromptEncoder


def test_sampling_by_hand() -> None:
    """Four voxels a token: voxels 1.5 and 5.5 are the first tokens' centres, 3.5 lies midway between them."""
    ramp = torch.arange(4.0).view(1, 1, 4, 1, 1) + 10 * torch.arange(4.0).view(1, 1, 1, 4, 1)
    ramp = ramp + 100 * torch.arange(4.0).view(1, 1, 1, 1, 4)
    voxels = torch.tensor([[[1.5, 1.5, 1.5], [5.5, 1.5, 1.5], [1.5, 5.5, 1.5], [1.5, 1.5, 5.5], [3.5, 1.5, 1.5]]])
    points = (voxels + 0.5) * 2 / 16 - 1
    got = PromptEncoder.sample(ramp, points)[0, :, 0]
    torch.testing.assert_close(got, torch.tensor([0.0, 1.0, 10.0, 100.0, 0.5]))


def test_zero_outside() -> None:
    assert PromptEncoder.sample(torch.ones(1, 3, 4, 4, 4), torch.full((1, 1, 3), 3.0)).abs().max() == 0


def test_order_of_clicks_does_not_matter_to_the_network() -> None:
    torch.manual_seed(0)
    encoder = PromptEncoder(NetworkConfig(neck_width=32, prompt_mlp=16)).double()
    deepest = torch.randn(1, 32, 4, 4, 4, dtype=torch.float64)
    points = torch.rand(1, 3, 3, dtype=torch.float64) * 1.6 - 0.8
    torch.testing.assert_close(encoder(deepest, points), encoder(deepest, points.flip(1)))


def test_points_that_are_none_change_nothing() -> None:
    """A crop filled up to the number of another's points is answered as alone."""
    torch.manual_seed(0)
    encoder = PromptEncoder(NetworkConfig(neck_width=32, prompt_mlp=16, dense_width=4)).double()
    assert encoder.labels is not None
    torch.nn.init.normal_(encoder.labels.weight)
    deepest = torch.randn(2, 32, 4, 4, 4, dtype=torch.float64)
    points = torch.rand(2, 3, 3, dtype=torch.float64) * 1.6 - 0.8
    together = encoder(deepest, points, torch.tensor([[0, 1, 2], [3, -1, -1]]))
    torch.testing.assert_close(together[:1], encoder(deepest[:1], points[:1], torch.tensor([[0, 1, 2]])))
    torch.testing.assert_close(together[1:], encoder(deepest[1:], points[1:, :1], torch.tensor([[3]])))
