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


def heeding(logits: Tensor, truth: Tensor, named: Tensor) -> Tensor:
    """Mean cross-entropy at the voxels that a user named, so that they come out as was said (not in the paper).

    A slip of the hand is judged by the truth, not by what was said.

    Args:
        logits: `[1, 2, D, H, W]`.
        truth: `[D, H, W]` int64, 0 or 1.
        named: int64 `[N, 3]`, (d, h, w); none: 0.
    """
    if not len(named):
        return logits.new_zeros(())
    d, h, w = named.unbind(dim=1)
    loss: Tensor = F.cross_entropy(logits[0, :, d, h, w].t().float(), truth[d, h, w])
    return loss


def quality_loss(quality: Tensor, logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy of the expected intersection over union against what it is (not in the paper).

    It is least where the expected one is the mean of what such masks reach.

    Args:
        quality: `[B]`, its logit.
        logits: `[B, 2, D, H, W]`, of the mask; nothing is learned through them.
        truth: `[B, D, H, W]` int64, 0 or 1. Where neither truth nor mask has a voxel, the two agree: 1.
    """
    mask, lesion = (logits[:, 1] > logits[:, 0]).flatten(1), truth.flatten(1).bool()
    union = (mask | lesion).sum(dim=1)
    ratio = torch.where(union > 0, (mask & lesion).sum(dim=1) / union.clamp_min(1), 1.0)
    loss: Tensor = F.binary_cross_entropy_with_logits(quality.float(), ratio.float())
    return loss
