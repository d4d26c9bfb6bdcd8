"""A simulated user at work on training crops: points, sees what the network makes of it, corrects."""

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
    """A crop's answer to prompts.

    Attributes:
        logits: `[1, 2, D, H, W]`.
        named: int64 `[N, 3]`, voxels (d, h, w) that were named: every click, up to eight of a stroke.
    """

    logits: Tensor
    named: Tensor

    @property
    def probability(self) -> Tensor:
        """The foreground's, `[D, H, W]`; no gradient goes through it."""
        return foreground_probability(self.logits.detach())[0]


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
        self.view = View(Frame(grid, preprocessing.crop, np.eye(4)), 1.0)

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
        before, probability = None, answers[0].probability
        for turn in range(2, turns + 1):
            assert user is not None
            correction = user.correction((probability > 0.5).cpu().numpy(), prompts)
            if correction is None:
                break
            prompts.append(correction)
            before = probability
            if turn < turns:
                with torch.no_grad():
                    new = self._answer(network, features, prompts, probability).probability
                probability = one_sided_update(correction.positive, new, probability)
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
        return SimulatedUser(lesion, self.view.frame.grid, self.seed, f"example {number}", user_model)

    def _answer(self, network: Network, features: Features, prompts: list[Prompt], before: Tensor | None) -> Answer:
        """The network's answer; the first round starts from an initial mask, if there is one, others from `before`."""
        device = features.deepest.device
        initial = before if before is not None else getattr(prompts[0], "mask", None)
        tensors = CropPrompts(self.view, prompts, initial).tensors(dense=True, device=device)
        logits = decode_logits(network, features, tensors)
        assert tensors.labels is not None
        last = torch.tensor(logits.shape[2:], device=device) - 1
        return Answer(logits, tensors.points[tensors.labels < 2].round().long().clamp(min=0).minimum(last))
