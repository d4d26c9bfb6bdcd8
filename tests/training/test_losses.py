"""The loss, by hand."""

import math

import numpy as np
import pytest
import torch

from palpate.training.losses import dice_cross_entropy, dice_cross_entropy_of_crops, prompt_consistency, quality_loss


def test_loss_by_hand() -> None:
    """Two voxels, lesion and background, each seen as lesion with probability 3/4."""
    logit = float(np.log(3))
    logits = torch.tensor([[0.0, 0.0], [logit, logit]]).view(1, 2, 1, 1, 2)
    truth = torch.tensor([1, 0]).view(1, 1, 1, 2)
    dice = 1 - 2 * 0.75 / (1.5 + 1)
    entropy = -(np.log(0.75) + np.log(0.25)) / 2
    losses = dice_cross_entropy_of_crops(torch.cat([logits, -logits]), truth.expand(2, -1, -1, -1))
    assert losses[0].item() == pytest.approx(0.5 * dice + 0.5 * entropy, abs=1e-5)
    assert losses[1].item() == pytest.approx(0.5 * (1 - 2 * 0.25 / (0.5 + 1)) + 0.5 * entropy, abs=1e-5)


def test_loss_as_by_softmax() -> None:
    """The two classes' softmax and cross-entropy, as PyTorch computes them."""
    torch.manual_seed(0)
    logits, truth = 3 * torch.randn(2, 2, 4, 5, 6), torch.randint(2, (2, 4, 5, 6))
    probability = logits.softmax(dim=1)[:, 1]
    overlap, size = (probability * truth).sum(dim=(1, 2, 3)), (probability + truth).sum(dim=(1, 2, 3))
    entropy = torch.nn.functional.cross_entropy(logits, truth, reduction="none").mean(dim=(1, 2, 3))
    expected = 0.5 * (1 - (2 * overlap + 1e-5) / (size + 1e-5)) + 0.5 * entropy
    torch.testing.assert_close(dice_cross_entropy(logits, truth), expected.mean())
    torch.testing.assert_close(dice_cross_entropy_of_crops(logits, truth), expected)


def test_named_voxels_by_hand() -> None:
    """Of two named voxels one has a logit of 2 for what it is, the other of 0."""
    logits = torch.zeros(2, 4, 4, 4)
    logits[1, 1, 2, 3] = 2
    truth = torch.zeros(4, 4, 4, dtype=torch.long)
    truth[1, 2, 3] = 1
    named = torch.tensor([[1, 2, 3], [0, 0, 0]])
    assert prompt_consistency(logits, truth, named).item() == pytest.approx(
        (math.log1p(math.exp(-2)) + math.log(2)) / 2
    )
    assert prompt_consistency(logits, truth, named[:0]).item() == 0


def test_quality_by_hand() -> None:
    """Masks that share 1 of 3 voxels with their truth; that miss all; and nothing where nothing is."""
    logits = torch.zeros(3, 2, 1, 1, 4)
    logits[:, 0] = 1
    logits[0, 1, 0, 0, :2] = 2
    truth = torch.zeros(3, 1, 1, 4, dtype=torch.long)
    truth[0, 0, 0, 1:3] = 1
    truth[1, 0, 0, 0] = 1
    quality = torch.zeros(3)
    assert quality_loss(quality, logits, truth).tolist() == pytest.approx(3 * [math.log(2)])
    best = torch.tensor([math.log((1 / 3) / (2 / 3)), -20.0, 20.0])
    entropy = -(math.log(1 / 3) / 3 + 2 * math.log(2 / 3) / 3)
    assert quality_loss(best, logits, truth).tolist() == pytest.approx([entropy, 0, 0], abs=1e-4)
