"""A simulated user at work on training crops: points, sees what the network makes of it, corrects."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..cohort.augmentation import Prompts
from ..frame import Frame, Preprocessing
from ..model import Network
from ..model.network import Features
from ..prompts import Click, Prompt
from ..simulation import SimulatedUser, counted_rng
from ..volume import Grid, Index3


class Answer(NamedTuple):
    """A crop's answer to the prompts of its last round.

    Attributes:
        logits: `[1, 2, D, H, W]`.
        named: int64 `[N, 3]`, the voxels (d, h, w) that clicks, strokes and lassos named.
    """

    logits: Tensor
    named: Tensor


class Interaction:
    """Rounds of prompts on a crop, taken as a scan of its own: the very prompts, tokens and maps of inference.

    Args:
        prompts: how many rounds, and which kinds come first.
        preprocessing: the model's, for a crop's size and spacing.
        seed: of all draws.
    """

    def __init__(self, prompts: Prompts, preprocessing: Preprocessing, seed: int):
        self.prompts, self.seed = prompts, seed
        grid = Grid(preprocessing.crop, np.diag([*preprocessing.spacing, 1.0]))
        self.frame = Frame(grid, preprocessing.crop, np.eye(4))

    def answer(self, network: Network, features: Features, truth: Tensor, first: Tensor, number: int) -> Answer:
        """What the network makes of the last round's prompts; only that one is learned from.

        Args:
            network: with dense prompts.
            features: of one crop.
            truth: `[D, H, W]`, 1 on the lesion.
            first: `[3]`, where inference's first click would be, (d, h, w).
            number: the example's.
        """
        lesion = truth.bool().cpu().numpy()
        prompts = [self._first(lesion, first, number)]
        prior: Tensor | None = None
        user = SimulatedUser(lesion, self.frame.grid, self.seed, f"example {number}") if lesion.any() else None
        for _ in range(self.prompts.turns(self.seed, number) - 1 if user else 0):
            with torch.no_grad():
                seen = self._decoded(network, features, prompts, prior).float().softmax(dim=1)[0, 1]
            assert user is not None
            click = user.correction((seen > 0.5).cpu().numpy(), prompts)
            if click is None:
                break
            prompts.append(click)
            prior = seen
        logits = self._decoded(network, features, prompts, prior)
        points, labels = self.frame.tokens(prompts)
        named = points[labels < 2].round().long().clamp(min=0).minimum(torch.tensor(lesion.shape) - 1)
        return Answer(logits, named.to(logits.device))

    def _first(self, lesion: np.ndarray, first: Tensor, number: int) -> Prompt:
        kind = self.prompts.kind(self.seed, number)
        if not lesion.any():  # nothing to point at: the user says so
            rng = counted_rng(self.seed, "no lesion here", number)
            d, h, w = (int(rng.integers(n)) for n in lesion.shape)
            return Click((d, h, w), positive=False)
        place = np.clip(first.cpu().numpy().round(), 0, np.array(lesion.shape) - 1).astype(int).tolist()
        index: Index3 = (place[0], place[1], place[2])
        if kind == "click" and lesion[index]:
            return Click(index)
        return SimulatedUser(lesion, self.frame.grid, self.seed, f"example {number}").first(kind)

    def _decoded(self, network: Network, features: Features, prompts: list[Prompt], prior: Tensor | None) -> Tensor:
        device = features.deepest.device
        points, labels = (part.to(device) for part in self.frame.tokens(prompts))
        given = prompts[0]
        mask = getattr(given, "mask", None)  # a Prior is what the first round starts from
        before = prior if prior is not None else mask
        return network.decode(features, points, labels, self.frame.maps(prompts, before, device))
