"""Prediction of a mask's intersection over union with the truth (not in the paper).

SAM predicts it from a token of its decoder (Kirillov et al., arXiv 2304.02643, section 3). This network has no such
token, so the head reads the crop's features, pooled over the lesion, its edge and the whole crop, and how far the
probability is from 0 and 1. In a network with a refiner it sees the crop itself too: how alike the lesion is, how it
differs from what lies around it, and how sharp its boundary is. Such evidence holds for lesions of kinds that no
training had. Its gradient does not reach the rest of the network. It chooses among views (`zoom`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import NetworkConfig

EVIDENCE = 10  # numbers that `evidence_of` gives


class QualityHead(nn.Module):
    """A crop's features and a lesion's probability to the logit of the expected intersection over union."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        width = config.quality_width
        self.hidden1 = nn.Linear(3 * (config.decoder_width + config.neck_width) + 4, width)
        # Zero before training: a network that gains a refiner expects what it did.
        self.evidence = nn.Linear(EVIDENCE, width, bias=False) if config.refiner_width else None
        if self.evidence is not None:
            nn.init.zeros_(self.evidence.weight)
        self.hidden2 = nn.Linear(width, width)
        self.out = nn.Linear(width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, partial: Tensor, deepest: Tensor, probability: Tensor, image: Tensor | None = None) -> Tensor:
        """The decoder's prepared part `[B, C, 2h, 2w, 2d]`, deepest map and probability `[B, H, W, D]`: `[B]`.

        `image` is the crop `[B, 1, H, W, D]`, for a network with a refiner.
        """
        probability = probability[:, None].float()
        edge = 4 * probability * (1 - probability)
        pooled = [pooled_over(F.instance_norm(x.float()), probability, edge) for x in (partial, deepest)]
        x = torch.cat([*pooled, shape_of(probability, edge)], dim=1)
        hidden = self.hidden1(x)
        if self.evidence is not None:
            assert image is not None, "encode keeps it where there is a refiner"
            hidden = hidden + self.evidence(evidence_of(image.float(), probability))
        logits: Tensor = self.out(F.relu(self.hidden2(F.relu(hidden))))
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


@torch.no_grad()
def evidence_of(image: Tensor, probability: Tensor) -> Tensor:
    """What the crop says for a mask, `[B, EVIDENCE]`.

    In order: mean and deviation in the lesion, and in a shell two voxels wide around it; their difference, as it is and
    over the deviations; the mean gradient on the boundary, in the lesion and in the crop; the first over the second.

    Args:
        image: the normalised crop, `[B, 1, H, W, D]`.
        probability: of the lesion, `[B, 1, H, W, D]`.
    """
    gradient = torch.zeros_like(image)
    for axis in (2, 3, 4):
        step = image.diff(dim=axis).abs()
        gradient.narrow(axis, 0, step.shape[axis]).add_(step / 3)
    grown, shrunk = (sign * F.max_pool3d(sign * probability, 3, stride=1, padding=1) for sign in (1, -1))
    shell = F.max_pool3d(grown, 3, stride=1, padding=1) - probability
    lesion, lesion_deviation = moments(image, probability)
    around, around_deviation = moments(image, shell)
    boundary, _ = moments(gradient, grown - shrunk)
    inside, _ = moments(gradient, shrunk)
    contrast = lesion - around
    return torch.stack(
        [
            lesion,
            lesion_deviation,
            around,
            around_deviation,
            contrast,
            contrast.abs() / (lesion_deviation + around_deviation + 0.05),
            boundary,
            inside,
            gradient.mean(dim=(1, 2, 3, 4)),
            boundary / (inside + 0.02),
        ],
        dim=1,
    )


def moments(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The weighted mean and deviation of maps `[B, 1, H, W, D]`, each `[B]`; 0 where there is no weight."""
    total = weight.sum(dim=(1, 2, 3, 4)) + 1e-3
    mean = (x * weight).sum(dim=(1, 2, 3, 4)) / total
    square = (x * x * weight).sum(dim=(1, 2, 3, 4)) / total
    return mean, (square - mean * mean).clamp_min(0).sqrt()
