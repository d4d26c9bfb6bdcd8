"""Prediction of a mask's intersection over union with the truth (not in the paper).

SAM predicts it from a token of its decoder (Kirillov et al., arXiv 2304.02643, section 3). This network has no such
token, so the head reads the crop's features, pooled over the lesion, its edge and the whole crop, and how far the
probability is from 0 and 1. Its gradient does not reach the rest of the network. It chooses among views (`zoom`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import NetworkConfig


class QualityHead(nn.Module):
    """A crop's features and a lesion's probability to the logit of the expected intersection over union."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        width = config.quality_width
        self.hidden1 = nn.Linear(3 * (config.decoder_width + config.neck_width) + 4, width)
        self.hidden2 = nn.Linear(width, width)
        self.out = nn.Linear(width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, partial: Tensor, deepest: Tensor, probability: Tensor) -> Tensor:
        """The decoder's prepared part `[B, C, 2h, 2w, 2d]`, deepest map and probability `[B, H, W, D]`: `[B]`."""
        probability = probability[:, None].float()
        edge = 4 * probability * (1 - probability)
        pooled = [pooled_over(F.instance_norm(x.float()), probability, edge) for x in (partial, deepest)]
        x = torch.cat([*pooled, shape_of(probability, edge)], dim=1)
        logits: Tensor = self.out(F.relu(self.hidden2(F.relu(self.hidden1(x)))))
        return logits[:, 0].float()


def pooled_over(x: Tensor, probability: Tensor, edge: Tensor) -> Tensor:
    """A map's means over the lesion, over where the probability is uncertain, and over the whole crop, `[B, 3 C]`."""
    means = []
    for weight in (probability, edge):
        share = F.interpolate(weight, size=x.shape[2:], mode="area")
        means.append((x * share).sum(dim=(2, 3, 4)) / (share.sum(dim=(2, 3, 4)) + 1e-3))
    return torch.cat([*means, x.mean(dim=(2, 3, 4))], dim=1)


def shape_of(probability: Tensor, edge: Tensor) -> Tensor:
    """The lesion's share of the crop (logarithm), uncertainty in it and in the crop, its share of the faces."""
    voxels = float(probability[0].numel())
    lesion, doubt = probability.sum(dim=(1, 2, 3, 4)), edge.sum(dim=(1, 2, 3, 4))
    faces = [probability.select(axis, place).flatten(1).mean(dim=1) for axis in (2, 3, 4) for place in (0, -1)]
    return torch.stack(
        [
            torch.log((lesion + 1) / voxels) / 5,
            doubt / (lesion + 1),
            torch.log((doubt + 1) / voxels) / 5,
            torch.stack(faces).amax(dim=0),
        ],
        dim=1,
    )
