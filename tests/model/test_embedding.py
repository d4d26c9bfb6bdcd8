"""The folded embedding against the released program's own steps, written out."""

import pytest
import torch

from oracles import unfolded_embedding
from palpate.model import NetworkConfig
from palpate.model.embedding import VolumeEmbedding, enlargement_matrix


@pytest.mark.parametrize("token_voxels", [4, 8])
def test_folded_equals_unfolded(token_voxels: int) -> None:
    torch.manual_seed(0)
    embedding = VolumeEmbedding(NetworkConfig(width=24, heads=12, token_voxels=token_voxels)).double()
    for parameter in embedding.parameters():
        torch.nn.init.normal_(parameter)
    crop = torch.randn(2, 1, 16, 24, 32, dtype=torch.float64)
    torch.testing.assert_close(embedding(crop), unfolded_embedding(embedding, crop, 16 // token_voxels))


def test_enlargement_by_hand() -> None:
    """Enlarged voxel 0 of a token lies 3/8 of a voxel before its first voxel's centre; voxel 2 lies 1/8 behind it."""
    matrix = enlargement_matrix(16, 4)
    assert matrix.shape == (16, 6)
    assert matrix[0].tolist() == [0.375, 0.625, 0, 0, 0, 0]
    assert matrix[2].tolist() == [0, 0.875, 0.125, 0, 0, 0]
    assert matrix[15].tolist() == [0, 0, 0, 0, 0.625, 0.375]
    torch.testing.assert_close(matrix.sum(1), torch.ones(16))


def test_both_factors_learn() -> None:
    embedding = VolumeEmbedding(NetworkConfig(width=12, heads=12))
    embedding(torch.randn(1, 1, 8, 8, 8)).square().sum().backward()
    for name, parameter in embedding.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
