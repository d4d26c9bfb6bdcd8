"""The loss, by hand."""

import numpy as np
import pytest
import torch

from palpate.training.losses import dice_cross_entropy


def test_loss_by_hand() -> None:
    """Two voxels, lesion and background, each seen as lesion with probability 3/4."""
    logit = float(np.log(3))
    logits = torch.tensor([[0.0, 0.0], [logit, logit]]).view(1, 2, 1, 1, 2)
    truth = torch.tensor([1, 0]).view(1, 1, 1, 2)
    dice = 1 - 2 * 0.75 / (1.5 + 1)
    entropy = -(np.log(0.75) + np.log(0.25)) / 2
    assert dice_cross_entropy(logits, truth).item() == pytest.approx(0.5 * dice + 0.5 * entropy, abs=1e-5)
