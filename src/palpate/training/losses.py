"""The losses of training (docs/design/network.md, section 4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def dice_cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """0.5 · soft Dice loss (softmax, target only, mean over the batch) + 0.5 · cross-entropy.

    Args:
        logits: `[B, 2, D, H, W]`.
        truth: `[B, D, H, W]` int64, 0 or 1.
    """
    return dice_cross_entropy_of_crops(logits, truth).mean()


def dice_cross_entropy_of_crops(logits: Tensor, truth: Tensor) -> Tensor:
    """`dice_cross_entropy` of each crop by itself, `[B]`."""
    # Of two classes softmax is the sigmoid of the difference: one map instead of two, and each is read once.
    lead = foreground_lead(logits).flatten(1)
    target = truth.flatten(1).to(lead.dtype)
    probability = lead.sigmoid()
    overlap = 2 * (probability * target).sum(dim=1) + 1e-5
    soft_dice = overlap / (probability.sum(dim=1) + target.sum(dim=1) + 1e-5)
    cross_entropy = F.binary_cross_entropy_with_logits(lead, target, reduction="none").mean(dim=1)
    return 0.5 * (1 - soft_dice) + 0.5 * cross_entropy


def foreground_lead(logits: Tensor) -> Tensor:
    """By how much the foreground's logit exceeds the background's, float32 `[B, D, H, W]`, of `[B, 2, D, H, W]`."""
    return logits[:, 1].float() - logits[:, 0].float()


def prompt_consistency(logits: Tensor, truth: Tensor, prompted: Tensor) -> Tensor:
    """Prompt-consistency loss of one crop: mean cross-entropy at the voxels of the prompts (not in the paper).

    The target is the truth, so a prompt on the wrong side by mistake teaches no error.

    Args:
        logits: `[2, D, H, W]`.
        truth: `[D, H, W]` int64, 0 or 1.
        prompted: int64 `[N, 3]`, the prompts' voxels (d, h, w); the loss is 0 without any.
    """
    if not len(prompted):
        return logits.new_zeros((), dtype=torch.float32)
    d, h, w = prompted.unbind(dim=1)
    loss: Tensor = F.cross_entropy(logits[:, d, h, w].t().float(), truth[d, h, w])
    return loss


def quality_loss(quality: Tensor, logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy of the predicted intersection over union against the true one, `[B]` (not in the paper).

    Its minimum is the mean of the true ones.

    Args:
        quality: `[B]`, the predicted one's logit.
        logits: `[B, 2, D, H, W]`, of the mask; no gradient flows into them.
        truth: `[B, D, H, W]` int64, 0 or 1. Where neither truth nor mask has a voxel, the two agree: 1.
    """
    mask, target = (logits[:, 1] > logits[:, 0]).flatten(1), truth.flatten(1).bool()
    union = (mask | target).sum(dim=1)
    ratio = torch.where(union > 0, (mask & target).sum(dim=1) / union.clamp_min(1), 1.0)
    return F.binary_cross_entropy_with_logits(quality.float(), ratio.float(), reduction="none")
