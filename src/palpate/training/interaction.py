"""A simulated user on training crops: a first prompt, then corrections of the network's prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..cohort.augmentation import PromptSampling
from ..frame import Frame, Preprocessing
from ..inference.blending import one_sided_update
from ..inference.crop_prompts import CropPrompts, PromptTensors, decode_logits, foreground_probability
from ..inference.views import View
from ..model import Network
from ..model.network import Features
from ..prompts import Click, Prompt
from ..randomness import counted_rng
from ..simulation import Bools, SimulatedUser, UserModel
from ..volume import Grid, Index3


class Answer(NamedTuple):
    """The network's answer to prompts on some crops of a batch.

    Attributes:
        crops: their numbers in the batch.
        logits: `[len(crops), 2, D, H, W]`.
        prompted: of each crop int64 `[N, 3]`, voxels (d, h, w) of the prompts: every click, up to eight of a stroke.
    """

    crops: list[int]
    logits: Tensor
    prompted: list[Tensor]

    @property
    def probability(self) -> Tensor:
        """The foreground's, `[len(crops), D, H, W]`; no gradient goes through it."""
        return foreground_probability(self.logits.detach())


class PromptedCrop:
    """A crop of a batch, its user, and what has been prompted in it.

    Attributes:
        target: bool `[D, H, W]`.
        user: None where there is no target to correct.
        prompts: so far.
        rounds: how many prompts it gets at most.
        before: the probability before the last prompt, `[D, H, W]`; None before a correction.
    """

    def __init__(self, target: Bools, user: SimulatedUser | None, first: Prompt, rounds: int):
        self.target, self.user, self.rounds = target, user, rounds
        self.prompts = [first]
        self.before: Tensor | None = None

    def correct(self, probability: Tensor) -> bool:
        """Add the user's correction of a probability `[D, H, W]`; False: all rounds are over, or no error is left."""
        if self.user is None or len(self.prompts) >= self.rounds:
            return False
        correction = self.user.correction((probability > 0.5).cpu().numpy(), self.prompts)
        if correction is None:
            self.rounds = len(self.prompts)
            return False
        self.prompts.append(correction)
        self.before = probability
        return True


class Interaction:
    """Rounds of prompts on crops, each treated as a scan of its own: the same prompts, tokens and maps as in inference.

    Args:
        sampling: how many rounds, and which kinds come first.
        preprocessing: the model's, for a crop's size and spacing.
        seed: of all draws.
    """

    def __init__(self, sampling: PromptSampling, preprocessing: Preprocessing, seed: int):
        self.sampling, self.seed = sampling, seed
        grid = Grid(preprocessing.crop, np.diag([*preprocessing.spacing, 1.0]))
        self.view = View(Frame(grid, preprocessing.crop, np.eye(4)), 1.0)

    def answers(
        self, network: Network, features: Features, truth: Tensor, first: Tensor, numbers: Sequence[int]
    ) -> list[Answer]:
        """The answers to the first prompts, and to all prompts after the last round: training learns from these.

        Crops are answered together, round by round; of those with a single prompt there is no second answer.

        Args:
            network: with dense prompts.
            features: of the batch.
            truth: `[B, D, H, W]`, 1 on the target.
            first: `[B, 3]`, the voxel of inference's first click in each crop, (d, h, w).
            numbers: the examples'.
        """
        crops = [self._crop(*one) for one in zip(truth.bool().cpu().numpy(), first, numbers, strict=True)]
        answers = [self._answer(network, features, crops, range(len(crops)))]
        probability = answers[0].probability
        going = list(range(len(crops)))
        while going := [crop for crop in going if crops[crop].correct(probability[crop])]:
            # The last round's answer is computed below, with gradients.
            asked = [crop for crop in going if len(crops[crop].prompts) < crops[crop].rounds]
            if asked:
                with torch.no_grad():
                    new = self._answer(network, features, crops, asked).probability
                probability = probability.clone()
                for crop, one in zip(asked, new, strict=True):
                    probability[crop] = one_sided_update(crops[crop].prompts[-1].positive, one, probability[crop])
        corrected = [crop for crop, made in enumerate(crops) if made.before is not None]
        return [*answers, self._answer(network, features, crops, corrected)] if corrected else answers

    def _crop(self, target: Bools, first: Tensor, number: int) -> PromptedCrop:
        user = self._user(target, number) if target.any() else None
        return PromptedCrop(
            target, user, self._first(target, first, number), self.sampling.num_rounds(self.seed, number)
        )

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

    def _answer(
        self, network: Network, features: Features, crops: Sequence[PromptedCrop], numbers: Sequence[int]
    ) -> Answer:
        """The network's answer in the crops of some numbers.

        The first round starts from an initial mask, if there is one, others from the probability before.
        """
        device = features.deepest.device
        tensors = []
        for crop in (crops[number] for number in numbers):
            initial = crop.before if crop.before is not None else getattr(crop.prompts[0], "mask", None)
            tensors.append(CropPrompts(self.view, crop.prompts, initial).tensors(dense=True, device=device))
        logits = decode_logits(network, features.of(numbers), PromptTensors.stacked(tensors))
        last = torch.tensor(logits.shape[2:], device=device) - 1
        prompted = [one.clicked.round().long().clamp(min=0).minimum(last) for one in tensors]
        return Answer(list(numbers), logits, prompted)
