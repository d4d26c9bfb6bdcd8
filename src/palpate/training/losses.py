"""What training minimises (docs/network.md, section 4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def dice_cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """0.5 · soft Dice loss (softmax, lesion only, a mean over the batch) + 0.5 · cross-entropy.

    Args:
        logits: `[B, 2, D, H, W]`.
        truth: `[B, D, H, W]` int64, 0 or 1.
    """
    lesion = logits.float().softmax(dim=1)[:, 1].flatten(1)
    target = truth.flatten(1).to(lesion.dtype)
    overlap = 2 * (lesion * target).sum(dim=1) + 1e-5
    soft_dice = overlap / (lesion.sum(dim=1) + target.sum(dim=1) + 1e-5)
    cross_entropy: Tensor = F.cross_entropy(logits.float(), truth)
    return 0.5 * torch.mean(1 - soft_dice) + 0.5 * cross_entropy
