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
    probability = logits.float().softmax(dim=1)[:, 1].flatten(1)
    target = truth.flatten(1).to(probability.dtype)
    overlap = 2 * (probability * target).sum(dim=1) + 1e-5
    soft_dice = overlap / (probability.sum(dim=1) + target.sum(dim=1) + 1e-5)
    cross_entropy: Tensor = F.cross_entropy(logits.float(), truth)
    return 0.5 * torch.mean(1 - soft_dice) + 0.5 * cross_entropy


def prompt_consistency(logits: Tensor, truth: Tensor, prompted: Tensor) -> Tensor:
    """Prompt-consistency loss: mean cross-entropy at the voxels of the prompts (not in the paper).

    The target is the truth, so a prompt on the wrong side by mistake teaches no error.

    Args:
        logits: `[1, 2, D, H, W]`.
        truth: `[D, H, W]` int64, 0 or 1.
        prompted: int64 `[N, 3]`, the prompts' voxels (d, h, w); the loss is 0 without any.
    """
    if not len(prompted):
        return logits.new_zeros(())
    d, h, w = prompted.unbind(dim=1)
    loss: Tensor = F.cross_entropy(logits[0, :, d, h, w].t().float(), truth[d, h, w])
    return loss


def quality_loss(quality: Tensor, logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy of the predicted intersection over union against the true one (not in the paper).

    Its minimum is the mean of the true ones.

    Args:
        quality: `[B]`, the predicted one's logit.
        logits: `[B, 2, D, H, W]`, of the mask; no gradient flows into them.
        truth: `[B, D, H, W]` int64, 0 or 1. Where neither truth nor mask has a voxel, the two agree: 1.
    """
    mask, target = (logits[:, 1] > logits[:, 0]).flatten(1), truth.flatten(1).bool()
    union = (mask | target).sum(dim=1)
    ratio = torch.where(union > 0, (mask & target).sum(dim=1) / union.clamp_min(1), 1.0)
    loss: Tensor = F.binary_cross_entropy_with_logits(quality.float(), ratio.float())
    return loss
