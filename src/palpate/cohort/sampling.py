"""Training crops: the crop that inference would plan around a voxel, augmented, and clicks in it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..frame import Frame, Preprocessing
from ..randomness import counted_rng
from ..volume import FloatArray
from .augmentation import Augmentation, PromptSampling
from .prepared import PreparedScan


class Example(NamedTuple):
    """One training crop, or several along a new first axis.

    Attributes:
        image: `[1, D, H, W]` float32, normalised.
        truth: `[D, H, W]` int64, 1 on the target.
        clicks: `[N, 3]` float32, (d, h, w).
        number: int64, the example's own.
    """

    image: Tensor
    truth: Tensor
    clicks: Tensor
    number: Tensor


class CropSampler:
    """Draws example number `index` as a function of `(seed, index)` alone.

    An epoch runs once through a list of all scans in a new order; where cohorts have shares, a cohort takes its
    share of the list, its scans repeated or left for a later epoch as need be.

    Args:
        cohorts: scans of each cohort, each with some target.
        shares: how often each cohort is drawn; None: in proportion to its scans.
        preprocessing: the model's.
        augmentation: how crops differ from inference's.
        prompt_sampling: how the clicks of a crop are drawn.
        seed: of all draws.
        device: where crops are cut.
    """

    def __init__(
        self,
        cohorts: Sequence[Sequence[PreparedScan]],
        shares: Sequence[float] | None,
        preprocessing: Preprocessing,
        augmentation: Augmentation,
        prompt_sampling: PromptSampling,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ):
        self.cohorts = cohorts
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.prompt_sampling = prompt_sampling
        self.seed = seed
        self.device = device
        wanted = np.array([len(c) for c in cohorts] if shares is None else shares, dtype=np.float64)
        self.counts = np.maximum(1, np.rint(wanted / wanted.sum() * sum(len(c) for c in cohorts))).astype(int)

    @property
    def epoch(self) -> int:
        """Examples in an epoch."""
        return int(self.counts.sum())

    def scan(self, index: int) -> PreparedScan:
        """The scan that example `index` is cut from."""
        epoch, place = divmod(index, self.epoch)
        cohort, number = self._epoch_order(epoch)[place]
        return self.cohorts[cohort][number]

    @lru_cache(maxsize=2)  # noqa: B019 - a sampler lives as long as its training
    def _epoch_order(self, epoch: int) -> list[tuple[int, int]]:
        order: list[tuple[int, int]] = []
        for cohort, count in enumerate(self.counts.tolist()):
            size = len(self.cohorts[cohort])
            for draw in range(epoch * count, (epoch + 1) * count):
                order.append((cohort, int(self._permutation(cohort, draw // size, size)[draw % size])))
        shuffled = counted_rng(self.seed, "order of an epoch", epoch).permutation(len(order))
        return [order[i] for i in shuffled]

    @lru_cache(maxsize=8)  # noqa: B019 - a sampler lives as long as its training
    def _permutation(self, cohort: int, turn: int, size: int) -> npt.NDArray[np.int64]:
        return counted_rng(self.seed, "order of a cohort", cohort, turn).permutation(size)

    def example(self, index: int, clicks: int) -> Example:
        """Example `index` with `clicks` clicks on its target (and `prompt_sampling.random_clicks` more)."""
        rng = counted_rng(self.seed, "training crop", index)
        scan, settings = self.scan(index), self.augmentation
        planned = self._frame(scan, rng)
        motion = settings.motion(self.preprocessing.crop, rng)
        motion[:3] *= settings.field(self._diameter(scan), rng)  # the shift too: it is a share of the crop's edge
        frame = planned.moved(motion)
        values, inside, (share,) = frame.extract_scan(scan.image, scan.padding, self.device, (scan.target,))
        if rng.random() < settings.mask_out_prob:
            inside = inside & self._box(rng).to(inside.device)
        truth = (share > 0.5) & inside
        if rng.random() < settings.background_paste_prob:
            values, inside = self._pasted(values, inside, rng)
        if rng.random() < settings.intensity_shift_prob:
            values = values + float(rng.uniform(-1, 1)) * settings.intensity_shift
        image = self.preprocessing.normalisation.apply(values, inside)
        image = settings.perturb(image, rng) * inside
        middle = frame.crop_index(planned.scan_index([n // 2 for n in planned.size]))
        points = self._clicks(truth, middle, clicks, rng)
        return Example(image[None], truth.long(), points, torch.tensor(index))

    def _frame(self, scan: PreparedScan, rng: np.random.Generator) -> Frame:
        """The crop that inference would plan around a target voxel, or, at times, around any voxel."""
        if rng.random() < self.augmentation.target_prob:
            centre = scan.target_voxel(int(rng.integers(scan.target_voxels)))
        else:
            x, y, z = (int(rng.integers(n)) for n in scan.grid.shape)
            centre = (x, y, z)
        return Frame.centred(scan.grid, centre, self.preprocessing)

    def _diameter(self, scan: PreparedScan) -> float:
        """Diameter of a ball of the target's volume, over the crop's edge."""
        volume = 1000 * scan.target_voxels * scan.grid.voxel_ml
        return float(np.cbrt(6 * volume / np.pi) / np.mean(self.preprocessing.field_mm))

    def _clicks(self, truth: Tensor, middle: FloatArray, count: int, rng: np.random.Generator) -> Tensor:
        """`[count + random_clicks, 3]` float32; on a crop without target all are drawn anywhere."""
        size = np.array(self.preprocessing.crop)
        margin = self.preprocessing.margin if self.prompt_sampling.as_inference else 0.0
        low = np.ceil(size * margin - 0.5).astype(int)
        d, h, w = (slice(a, n - a) for a, n in zip(low.tolist(), size.tolist(), strict=True))
        places = torch.nonzero(truth[d, h, w]).cpu().numpy() + low
        first = [middle] if self.prompt_sampling.as_inference else []
        wanted = count - len(first)
        drawn = places[rng.integers(len(places), size=wanted)] if len(places) else rng.integers(size, size=(wanted, 3))
        anywhere = rng.integers(size, size=(self.prompt_sampling.random_clicks, 3))
        return torch.from_numpy(np.concatenate([*(p[None] for p in first), drawn, anywhere])).float().to(truth.device)

    def _box(self, rng: np.random.Generator) -> Tensor:
        """A box around the crop's centre, bool `[D, H, W]`: a scan cropped as tightly as some cohorts are.

        Without it, the fraction of a crop inside its scan reveals the cohort, and so the target's size.
        """
        box = torch.zeros(self.preprocessing.crop, dtype=torch.bool)
        low, high = (rng.uniform(0.05, 0.5, 3) for _ in range(2))
        d, h, w = (
            slice(round(n * (0.5 - a)), round(n * (0.5 + b)) + 1)
            for n, a, b in zip(self.preprocessing.crop, low, high, strict=True)
        )
        box[d, h, w] = True
        return box

    def _pasted(self, values: Tensor, inside: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Voxels outside the scan pasted from anywhere in another scan, scaled to the same mean and deviation."""
        cohort = self.cohorts[int(rng.integers(len(self.cohorts)))]
        other = cohort[int(rng.integers(len(cohort)))]
        centre = [int(rng.integers(n)) for n in other.grid.shape]
        other_frame = Frame.centred(other.grid, centre, self.preprocessing)
        other_values, other_inside, _ = other_frame.extract_scan(other.image, other.padding, self.device)
        new = other_inside & ~inside
        if int(inside.sum()) < 2 or int(new.sum()) < 2:
            return values, inside
        ratio = values[inside].std() / other_values[new].std().clamp_min(1e-6)
        matched = (other_values - other_values[new].mean()) * ratio + values[inside].mean()
        return torch.where(new, matched, values), inside | new
