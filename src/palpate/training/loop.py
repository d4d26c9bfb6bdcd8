"""The training loop of one process: crops, gradients averaged over all processes, optimiser steps.

Results do not depend on the number of processes or loader workers, or on when the training was
stopped and resumed: example number i is a function of the seed and i (`CropSampler`), and the rest is
in `state`.
"""

from __future__ import annotations

import copy
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..cohort.sampling import CropSampler, Example
from ..errors import DeviceError, SettingsError, out_of_memory
from ..model import Features, Network
from .freed_memory import keep_freed_memory
from .interaction import Interaction
from .losses import dice_cross_entropy_of_crops, foreground_lead, prompt_consistency, quality_loss
from .recipe import Recipe

State = dict[str, Tensor]
MOMENTS = ("exp_avg", "exp_avg_sq")  # what AdamW keeps of each parameter, beside its count of steps


class Crops(Dataset[Example]):
    """The examples of a whole training, by their number."""

    def __init__(self, sampler: CropSampler, global_batch: int, seed: int):
        self.sampler, self.global_batch, self.seed = sampler, global_batch, seed

    def __getitem__(self, index: int) -> Example:
        return self.sampler.example(
            index, self.sampler.prompt_sampling.num_clicks(self.seed, index // self.global_batch)
        )


class Trainer:
    """A network, its optimiser and the moving average of its weights, trained step by step.

    Args:
        network: trained in place; which parameters is `Network.freeze`'s choice.
        sampler: where crops come from.
        recipe: how to train.
        accelerator: processes and devices; None: one process, on the CPU.
        workers: loader processes; 0: crops are cut in this process, on its device.
        notify: called with a sentence when a setting had to be changed on the way.

    Attributes:
        step: optimiser steps done.
        micro_batch: crops of one forward pass; halved when memory runs out.

    Raises:
        SettingsError: float16 on a CPU, or prompts that the network does not know.
    """

    def __init__(
        self,
        network: Network,
        sampler: CropSampler,
        recipe: Recipe,
        accelerator: Any = None,  # noqa: ANN401 - accelerate has no types
        workers: int = 0,
        notify: Callable[[str], None] = print,
    ):
        if accelerator is None:
            from accelerate import Accelerator

            accelerator = Accelerator(cpu=True)
        self.accelerator = accelerator
        self.device: torch.device = accelerator.device
        if recipe.precision == "float16" and self.device.type == "cpu":
            raise SettingsError("float16 cannot train on a CPU; use precision bfloat16 or float32")
        if network.dense is None and (
            sampler.prompt_sampling.rounds > 1 or set(sampler.prompt_sampling.first_prompt_prob) != {"click"}
        ):
            raise SettingsError(
                "a simulated user's corrections and boxes need a network with dense prompts: set dense to 16, say, in "
                "the preset, or leave rounds at 1 and first_prompt_prob at click"
            )
        if network.dense is None and sampler.prompt_sampling.consistency_weight:
            raise SettingsError(
                "consistency_weight: the prompt-consistency loss needs a network with dense prompts; set dense to 16, "
                "say, in the preset, or leave consistency_weight at 0"
            )
        self.sampler, self.recipe, self.workers, self.notify = sampler, recipe, workers, notify
        self.network = network.to(self.device).train()
        self.network.freeze()
        self.network.encoder.checkpointing = recipe.checkpointing
        # Channels last: the narrow 3-D convolutions and their gradients are faster so, on CPUs and GPUs.
        for module in self.network.modules():
            if isinstance(module, nn.Conv3d):
                module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        keep_freed_memory()
        self.tuned: dict[str, nn.Parameter] = {n: p for n, p in network.named_parameters() if p.requires_grad}
        self.optimiser = torch.optim.AdamW(
            self.tuned.values(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.average = copy.deepcopy(network).eval() if recipe.ema_decay else None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "float16")
        self.total = recipe.total(sampler.epoch, accelerator.num_processes)
        self.interaction = Interaction(sampler.prompt_sampling, sampler.preprocessing, recipe.seed)
        self.step = 0
        self.micro_batch = recipe.batch

    @property
    def ema(self) -> Network:
        """The network that is validated and saved: the moving average, or the network itself without one."""
        return self.average if self.average is not None else self.network

    def steps(self) -> Iterator[float]:
        """Train from the current step to the last; yields each step's loss, averaged over all processes."""
        for example in self._loader():
            loss = self.gradients(example)
            self._descend()
            yield loss

    def gradients(self, example: Example) -> float:
        """Compute the gradients of a batch, averaged over all processes, on the tuned parameters; the mean loss.

        Where memory runs out in any process, all of them continue with smaller pieces.

        Raises:
            DeviceError: not enough memory for a single crop.
        """
        while True:
            failure: RuntimeError | None = None
            loss = torch.zeros((), device=self.device)
            try:
                loss = self._accumulate(example)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                # Its traceback would keep the tensors of the failed pass alive.
                failure = error.with_traceback(None)
            if not self.in_any_process(failure is not None):
                return self._averaged(loss)
            self._reduce_memory(failure)

    def _accumulate(self, example: Example) -> Tensor:
        self.optimiser.zero_grad()
        total = torch.zeros((), device=self.device)
        size = len(example.image)
        for start in range(0, size, self.micro_batch):
            piece = Example(*(part[start : start + self.micro_batch].to(self.device) for part in example))
            precision = torch.bfloat16 if self.recipe.precision == "bfloat16" else torch.float16
            with torch.autocast(self.device.type, dtype=precision, enabled=self.recipe.precision != "float32"):
                loss = self._loss(piece) * (len(piece.image) / size)
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _loss(self, piece: Example) -> Tensor:
        features = self.network.encode(piece.image)
        if self.network.dense is None:
            logits = self.network.decode(features, None if self.network.prompt is None else piece.clicks)
            return self._loss_of_crops(features, logits, piece.truth).mean()
        numbers: list[int] = piece.number.tolist()
        answers = self.interaction.answers(self.network, features, piece.truth, piece.clicks[:, 0], numbers)
        count = Counter(crop for answer in answers for crop in answer.crops)
        loss = torch.zeros((), device=self.device)
        for answer in answers:
            truth = piece.truth[answer.crops]
            losses = self._loss_of_crops(features.of(answer.crops), answer.logits, truth)
            consistency = [prompt_consistency(*one) for one in zip(answer.logits, truth, answer.prompted, strict=True)]
            losses = losses + self.sampler.prompt_sampling.consistency_weight * torch.stack(consistency)
            # Of a crop all answers count as much together as the only one of another.
            weight = [1 / (count[crop] * len(numbers)) for crop in answer.crops]
            loss = loss + (losses * torch.tensor(weight, device=self.device)).sum()
        return loss

    def _loss_of_crops(self, features: Features, logits: Tensor, truth: Tensor) -> Tensor:
        """The loss of masks and, of a network that predicts their IoU, of that, `[B]`.

        No gradient flows from the predicted IoU into the mask.
        """
        losses = dice_cross_entropy_of_crops(logits, truth)
        if self.network.quality is None:
            return losses
        quality = self.network.predict_iou(features, foreground_lead(logits.detach()).sigmoid())
        return losses + quality_loss(quality, logits, truth)

    def _averaged(self, loss: Tensor) -> float:
        """Average gradients and loss over all processes, in one exchange."""
        if self.accelerator.num_processes > 1:
            found = [p.grad for p in self.tuned.values() if p.grad is not None]
            flat = torch.cat([loss[None], *(gradient.flatten() for gradient in found)])
            flat = self.accelerator.reduce(flat, reduction="mean")
            loss, rest = flat[0], flat[1:]
            for gradient, part in zip(found, rest.split([g.numel() for g in found]), strict=True):
                gradient.copy_(part.view_as(gradient))
        return float(loss)

    def _descend(self) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.rate(self.step, self.total)
        self.scaler.unscale_(self.optimiser)
        torch.nn.utils.clip_grad_norm_(self.tuned.values(), self.recipe.gradient_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.average is not None:
            decay = min(self.recipe.ema_decay, (1 + self.step) / (10 + self.step))
            with torch.no_grad():
                for mean, new in zip(self.average.parameters(), self.network.parameters(), strict=True):
                    mean.lerp_(new, 1 - decay)
        self.step += 1

    def _loader(self) -> DataLoader[Example]:
        """This process's examples, from the next step on: step s, process r takes batch s · processes + r."""
        batch, processes = self.recipe.batch, self.accelerator.num_processes
        start = [(s * processes + self.accelerator.process_index) * batch for s in range(self.step, self.total)]
        return DataLoader(
            Crops(self.sampler, batch * processes, self.recipe.seed),
            batch_sampler=[list(range(first, first + batch)) for first in start],
            num_workers=self.workers,
            # Forking a process whose threads are at work can hang it; spawned ones start clean.
            multiprocessing_context="spawn" if self.workers else None,
            worker_init_fn=_leave_terminal_group,
        )

    def in_any_process(self, flag: bool) -> bool:
        """Whether a flag is set in any process; all of them must call it."""
        if self.accelerator.num_processes == 1:
            return flag
        return bool(self.accelerator.reduce(torch.tensor(float(flag), device=self.device), reduction="sum") > 0)

    def _reduce_memory(self, failure: RuntimeError | None) -> None:
        """Use less memory: smaller pieces, then recomputed blocks.

        Raises:
            DeviceError: both are used already.
        """
        self.optimiser.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.micro_batch > 1:
            self.micro_batch = -(-self.micro_batch // 2)
            self.notify(
                f"memory ran out: continuing with {self.micro_batch} crops at a time, their gradients summed; "
                "the result is the same, but for rounding"
            )
        elif not self.network.encoder.checkpointing:
            self.network.encoder.checkpointing = True
            self.notify("memory ran out: blocks are now recomputed in the backward pass; the result is the same")
        else:
            raise DeviceError(
                "not enough memory for a single crop, even with blocks recomputed; use precision bfloat16, "
                "a smaller crop, or a smaller network"
            ) from failure

    def tensors(self) -> dict[str, State]:
        """All tensors that a resumed training needs: by file, names to tensors."""
        moments: State = {}
        for name, parameter in self.tuned.items():
            for what, value in self.optimiser.state[parameter].items():
                moments[f"{name}:{what}"] = value
        files = {"network": {n: p.detach() for n, p in self.tuned.items()}, "optimiser": moments}
        if self.average is not None:
            averaged = dict(self.average.named_parameters())
            files["averaged"] = {name: averaged[name].detach() for name in self.tuned}
        return files

    def numbers(self) -> dict[str, Any]:
        """The numbers that a resumed training needs; JSON."""
        return {
            "step": self.step,
            "micro_batch": self.micro_batch,
            "checkpointing": self.network.encoder.checkpointing,
            "scaler": self.scaler.state_dict(),
        }

    def load_weights(self, tensors: State) -> None:
        """Load a model's stored tensors into `ema`: all that was tuned, and nothing unknown.

        Raises:
            SettingsError: tensors of another network.
        """
        found = self.ema.load_state_dict(tensors, strict=False)  # an adapter leaves out what is frozen
        if found.unexpected_keys or set(found.missing_keys) & self.tuned.keys():
            raise SettingsError("the stored model is of another network; is it this training's?")

    def restore(self, files: dict[str, State], numbers: dict[str, Any]) -> None:
        """Resume from what `tensors` and `numbers` gave.

        Raises:
            SettingsError: tensors of another network.
        """
        averaged = dict(self.average.named_parameters()) if self.average is not None else {}
        try:
            with torch.no_grad():
                for name, parameter in self.tuned.items():
                    parameter.copy_(files["network"][name])
                    if averaged:
                        averaged[name].copy_(files["averaged"][name])
            # There are no moments before the first step that was taken.
            for name, parameter in self.tuned.items() if files["optimiser"] else ():
                self.optimiser.state[parameter] = {
                    "step": files["optimiser"][f"{name}:step"].clone(),  # counted on the CPU
                    **{what: _like(parameter, files["optimiser"][f"{name}:{what}"]) for what in MOMENTS},
                }
        except (KeyError, RuntimeError) as error:
            raise SettingsError(f"the saved state is of another network: {error}") from error
        self.step = numbers["step"]
        self.micro_batch = numbers["micro_batch"]
        self.network.encoder.checkpointing = numbers["checkpointing"]
        if numbers["scaler"]:
            self.scaler.load_state_dict(numbers["scaler"])


def _leave_terminal_group(_: int) -> None:
    """Take a loader worker out of the terminal's process group: after Ctrl-C the training still needs its crops."""
    if hasattr(os, "setsid"):
        os.setsid()
    else:  # Windows
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """A moment as the optimiser made it: on its parameter's device, in its memory order."""
    return torch.empty_like(parameter).copy_(value)
