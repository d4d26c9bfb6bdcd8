"""A simulated user at work on training crops: points, sees what the network makes of it, corrects."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..cohort.augmentation import PromptSampling
from ..frame import Frame, Preprocessing
from ..model import Network
from ..model.network import Features
from ..prompts import Click, Prompt
from ..randomness import counted_rng
from ..simulation import Bools, SimulatedUser, UserModel
from ..volume import Grid, Index3


class Answer(NamedTuple):
    """A crop's answer to prompts.

    Attributes:
        logits: `[1, 2, D, H, W]`.
        named: int64 `[N, 3]`, voxels (d, h, w) that were named: every click, up to eight of a stroke.
    """

    logits: Tensor
    named: Tensor

    @property
    def probability(self) -> Tensor:
        """The lesion's, `[D, H, W]`; nothing is learned through it."""
        return self.logits.detach().float().softmax(dim=1)[0, 1]


class Interaction:
    """Rounds of prompts on a crop, taken as a scan of its own: the very prompts, tokens and maps of inference.

    Args:
        prompts: how many rounds, and which kinds come first.
        preprocessing: the model's, for a crop's size and spacing.
        seed: of all draws.
    """

    def __init__(self, prompts: PromptSampling, preprocessing: Preprocessing, seed: int):
        self.prompts, self.seed = prompts, seed
        grid = Grid(preprocessing.crop, np.diag([*preprocessing.spacing, 1.0]))
        self.frame = Frame(grid, preprocessing.crop, np.eye(4))

    def answers(self, network: Network, features: Features, truth: Tensor, first: Tensor, number: int) -> list[Answer]:
        """What the network makes of the first prompt, and of all after the last round: these two are learned from.

        Args:
            network: with dense prompts.
            features: of one crop.
            truth: `[D, H, W]`, 1 on the lesion.
            first: `[3]`, where inference's first click would be, (d, h, w).
            number: the example's.
        """
        lesion = truth.bool().cpu().numpy()
        prompts = [self._first(lesion, first, number)]
        answers = [self._answer(network, features, prompts, None)]
        user = self._user(lesion, number) if lesion.any() else None
        turns = self.prompts.num_rounds(self.seed, number) if user else 1
        before, seen = None, answers[0].probability
        for turn in range(2, turns + 1):
            assert user is not None
            said = user.correction((seen > 0.5).cpu().numpy(), prompts)
            if said is None:
                break
            prompts.append(said)
            before = seen
            if turn < turns:
                with torch.no_grad():
                    new = self._answer(network, features, prompts, seen).probability
                # As the Predictor holds a correction to its side.
                seen = torch.maximum(seen, new) if said.positive else torch.minimum(seen, new)
        return answers if before is None else [*answers, self._answer(network, features, prompts, before)]

    def _first(self, lesion: Bools, first: Tensor, number: int) -> Prompt:
        kind = self.prompts.first_kind(self.seed, number)
        if not lesion.any():  # nothing to point at: the user says so
            rng = counted_rng(self.seed, "no lesion here", number)
            d, h, w = (int(rng.integers(n)) for n in lesion.shape)
            return Click((d, h, w), positive=False)
        place = np.clip(first.cpu().numpy().round(), 0, np.array(lesion.shape) - 1).astype(int).tolist()
        index: Index3 = (place[0], place[1], place[2])
        if kind == "click" and lesion[index]:
            return Click(index)
        return self._user(lesion, number).first(kind)

    def _user(self, lesion: Bools, number: int) -> SimulatedUser:
        """Who points at an example; the mask that they may start from is anything from right to far off."""
        rough = float(counted_rng(self.seed, "how rough a prior is", number).random())
        user_model = UserModel(stroke_prob=self.prompts.stroke_prob, mask_perturbation=rough)
        return SimulatedUser(lesion, self.frame.grid, self.seed, f"example {number}", user_model)

    def _answer(self, network: Network, features: Features, prompts: list[Prompt], prior: Tensor | None) -> Answer:
        device = features.deepest.device
        points, labels = self.frame.tokens(prompts)
        mask = getattr(prompts[0], "mask", None)  # a InitialMask is what the first round starts from
        maps = self.frame.maps(prompts, prior if prior is not None else mask, device)
        logits = network.decode(features, points.to(device), labels.to(device), maps)
        named = points[labels < 2].round().long().clamp(min=0).minimum(torch.tensor(logits.shape[2:]) - 1)
        return Answer(logits, named.to(device))
