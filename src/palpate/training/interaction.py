"""A simulated user on training crops: a first prompt, then corrections of the network's prediction."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..cohort.augmentation import PromptSampling
from ..frame import Frame, Preprocessing
from ..inference.blending import one_sided_update
from ..inference.crop_prompts import CropPrompts, decode_logits, foreground_probability
from ..inference.views import View
from ..model import Network
from ..model.network import Features
from ..prompts import Click, Prompt
from ..randomness import counted_rng
from ..simulation import Bools, SimulatedUser, UserModel
from ..volume import Grid, Index3


class Answer(NamedTuple):
    """The network's answer to prompts on a crop.

    Attributes:
        logits: `[1, 2, D, H, W]`.
        prompted: int64 `[N, 3]`, voxels (d, h, w) of the prompts: every click, up to eight of a stroke.
    """

    logits: Tensor
    prompted: Tensor

    @property
    def probability(self) -> Tensor:
        """The foreground's, `[D, H, W]`; no gradient goes through it."""
        return foreground_probability(self.logits.detach())[0]


class Interaction:
    """Rounds of prompts on a crop, treated as a scan of its own: the same prompts, tokens and maps as in inference.

    Args:
        sampling: how many rounds, and which kinds come first.
        preprocessing: the model's, for a crop's size and spacing.
        seed: of all draws.
    """

    def __init__(self, sampling: PromptSampling, preprocessing: Preprocessing, seed: int):
        self.sampling, self.seed = sampling, seed
        grid = Grid(preprocessing.crop, np.diag([*preprocessing.spacing, 1.0]))
        self.view = View(Frame(grid, preprocessing.crop, np.eye(4)), 1.0)

    def answers(self, network: Network, features: Features, truth: Tensor, first: Tensor, number: int) -> list[Answer]:
        """The answers to the first prompt, and to all prompts after the last round: training learns from these two.

        Args:
            network: with dense prompts.
            features: of one crop.
            truth: `[D, H, W]`, 1 on the target.
            first: `[3]`, the voxel of inference's first click, (d, h, w).
            number: the example's.
        """
        target = truth.bool().cpu().numpy()
        prompts = [self._first(target, first, number)]
        answers = [self._answer(network, features, prompts, None)]
        user = self._user(target, number) if target.any() else None
        rounds = self.sampling.num_rounds(self.seed, number) if user else 1
        before, probability = None, answers[0].probability
        for round_ in range(2, rounds + 1):
            assert user is not None
            correction = user.correction((probability > 0.5).cpu().numpy(), prompts)
            if correction is None:
                break
            prompts.append(correction)
            before = probability
            if round_ < rounds:
                with torch.no_grad():
                    new = self._answer(network, features, prompts, probability).probability
                probability = one_sided_update(correction.positive, new, probability)
        return answers if before is None else [*answers, self._answer(network, features, prompts, before)]

    def _first(self, target: Bools, first: Tensor, number: int) -> Prompt:
        kind = self.sampling.first_kind(self.seed, number)
        if not target.any():  # no target: a background click
            rng = counted_rng(self.seed, "no lesion here", number)
            d, h, w = (int(rng.integers(n)) for n in target.shape)
            return Click((d, h, w), positive=False)
        place = np.clip(first.cpu().numpy().round(), 0, np.array(target.shape) - 1).astype(int).tolist()
        index: Index3 = (place[0], place[1], place[2])
        if kind == "click" and target[index]:
            return Click(index)
        return self._user(target, number).first(kind)

    def _user(self, target: Bools, number: int) -> SimulatedUser:
        """The user of an example; an initial mask of theirs is anything from exact to far off."""
        perturbation = float(counted_rng(self.seed, "how rough a prior is", number).random())
        user_model = UserModel(stroke_prob=self.sampling.stroke_prob, mask_perturbation=perturbation)
        return SimulatedUser(target, self.view.frame.grid, self.seed, f"example {number}", user_model)

    def _answer(self, network: Network, features: Features, prompts: list[Prompt], before: Tensor | None) -> Answer:
        """The network's answer; the first round starts from an initial mask, if there is one, others from `before`."""
        device = features.deepest.device
        initial = before if before is not None else getattr(prompts[0], "mask", None)
        tensors = CropPrompts(self.view, prompts, initial).tensors(dense=True, device=device)
        logits = decode_logits(network, features, tensors)
        assert tensors.labels is not None
        last = torch.tensor(logits.shape[2:], device=device) - 1
        return Answer(logits, tensors.points[tensors.labels < 2].round().long().clamp(min=0).minimum(last))
