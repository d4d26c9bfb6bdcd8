"""Prompts as a network takes them in one crop: the one way from prompts to tensors to a probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model import Features, Network
from ..prompts import Prompt
from ..resampling import Sliceable
from .views import View


class PromptTensors(NamedTuple):
    """What `Network.decode` takes beside the features.

    Attributes:
        points: float32 `[1, N, 3]`, positions (d, h, w) in the crop.
        labels: int64 `[1, N]`, the kind of each (`model.prompt.LABELS`); None: all are foreground clicks.
        maps: float32 `[1, 4, D, H, W]` (`model.dense.CHANNELS`); None: the network takes none.
    """

    points: Tensor
    labels: Tensor | None
    maps: Tensor | None

    @classmethod
    def stacked(cls, crops: Sequence[PromptTensors]) -> PromptTensors:
        """Those of several crops as one batch, for a network that takes more than foreground clicks.

        Crops with fewer points than others are filled up with points of label -1: none.
        """
        most = max(one.points.shape[1] for one in crops)
        points, labels, maps = [], [], []
        for one in crops:
            assert one.labels is not None
            assert one.maps is not None
            missing = most - one.points.shape[1]
            points.append(F.pad(one.points, (0, 0, 0, missing)))
            labels.append(F.pad(one.labels, (0, missing), value=-1))
            maps.append(one.maps)
        return cls(torch.cat(points), torch.cat(labels), torch.cat(maps))

    @property
    def clicked(self) -> Tensor:
        """The places of one crop's prompts, but for boxes, `[N, 3]`."""
        return self.points[0] if self.labels is None else self.points[self.labels < 2]


@dataclass(frozen=True, eq=False)
class CropPrompts:
    """Prompts in one crop.

    Attributes:
        view: the crop.
        prompts: all of the lesion's; those that lie elsewhere are left out, those that overlap it are cut off.
        initial: the mask so far, or its probability, on the scan's grid; None: there is none.
    """

    view: View
    prompts: Sequence[Prompt]
    initial: Sliceable | None = None

    def tensors(self, dense: bool, device: torch.device | str) -> PromptTensors:
        """The prompts as tensors.

        Args:
            dense: whether the network takes more than foreground clicks (`Network.dense`).
            device: where it computes.
        """
        frame = self.view.frame
        points, labels = (part.to(device) for part in frame.tokens(self.prompts))
        maps = frame.maps(self.prompts, self.initial, device) if dense else None
        return PromptTensors(points, labels if dense else None, maps)


def decode_logits(network: Network, features: Features, tensors: PromptTensors | None) -> Tensor:
    """Logits `[B, 2, D, H, W]` (background, foreground) of a crop.

    Args:
        network: the network.
        features: of the crop.
        tensors: the prompts; None: of a network that takes none.
    """
    if tensors is None:
        return network.decode(features)
    return network.decode(features, *tensors)


def foreground_probability(logits: Tensor) -> Tensor:
    """The foreground's probability, float32 `[B, D, H, W]`, of logits `[B, 2, D, H, W]`."""
    return logits.float().softmax(dim=1)[:, 1]
