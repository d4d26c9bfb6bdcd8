"""Training crops: the crop that inference would plan around a voxel, augmented, and clicks in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ..frame import Frame, Preprocessing
from ..randomness import counted_rng
from ..resampling import Sliceable
from ..volume import FloatArray, Index3
from .augmentation import FINEST, Augmentation, PromptSampling
from .prepared import PreparedScan
from .targets import MADE, Canvas, Donor, TargetKind, TargetSampling, made_target

CONTOURS = TargetSampling()
DRAWING = 2  # version of how crops are drawn; up to 1, padding lay inside the scan, and constant air was pasted
UNION_PROB = 0.2  # that a label is joined by another that it touches
SOMEWHERE, TRIES = 48, 3  # voxels drawn at a time to find one that is no air, and how often where all are alike
DONOR_PLACES = 48  # voxels of a donor's target that tell where it lies and how far it reaches
DONOR_SHARE = (0.1, 0.9)  # smallest and largest of a transplant over the crop's edge
FLAT = 1e-3  # of a crop's deviation: what varies less is constant air
ROUNDING = 1e-5  # of a value, that resampling may lose
TURNED = Augmentation(axis_order_prob=1.0)


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


def _joined(share: Tensor, other: Tensor) -> Tensor:
    """How much of each voxel two targets fill together, where they touch; else how much the first does."""
    grown = F.max_pool3d(share[None, None], 3, stride=1, padding=1)[0, 0]
    return share + other if bool(((grown > 0.5) & (other > 0.5)).any()) else share


class CropSampler:
    """Draws example number `index` as a function of `(seed, index)` alone.

    An epoch runs once through a list of all scans in a new order; where cohorts have shares, a cohort takes its
    share of the list, its scans repeated or left for a later epoch as need be.

    Args:
        cohorts: scans of each cohort, each with a target, or such that `targets` has a possible kind for it.
        shares: how often each cohort is drawn; None: in proportion to its scans.
        preprocessing: the model's.
        augmentation: how crops differ from inference's.
        prompt_sampling: how the clicks of a crop are drawn.
        seed: of all draws.
        device: where crops are cut.
        targets: how often a target is of each kind.
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
        targets: TargetSampling = CONTOURS,
    ):
        self.cohorts = cohorts
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.prompt_sampling = prompt_sampling
        self.seed = seed
        self.device = device
        self.targets = targets
        self.donors = [with_target for scans in cohorts if (with_target := [s for s in scans if s.target_voxels])]
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

    def kind(self, index: int) -> TargetKind:
        """The kind of example `index`'s target."""
        scan = self.scan(index)
        return self.targets.kind(self.seed, index, scan.target_voxels > 0, bool(scan.record.labels))

    def example(self, index: int, clicks: int) -> Example:
        """Example `index` with `clicks` clicks on its target (and `prompt_sampling.random_clicks` more)."""
        rng = counted_rng(self.seed, "training crop", index)
        scan, settings, kind = self.scan(index), self.augmentation, self.kind(index)
        if kind == "labels":
            scan = self._one_label(scan, index)
        made = kind in MADE
        planned = self._frame_anywhere(scan, rng) if made else self._frame(scan, rng)
        frame = planned.moved(self._motion(scan, index, made, rng))
        parts = self._parts(scan, kind, index)
        values, inside, shares = frame.extract_scan(scan.image, self.scan(index).padding, self.device, parts)
        share = shares[0] if len(shares) == 1 else _joined(shares[0], shares[1])
        middle = frame.crop_index(planned.scan_index([n // 2 for n in planned.size]))
        click = self._click_inside(middle, inside) if made else None
        if rng.random() < settings.mask_out_prob:
            box = self._box(rng).to(inside.device)
            inside = inside & box if click is None or box[click] else inside
        truth = (share > 0.5) & inside
        if rng.random() < settings.background_paste_prob:
            values, inside = self._pasted(values, inside, rng)
        if click is not None:
            values, truth, click = self._made(kind, frame, (values, inside, truth), click, index)
            middle = np.array(click, dtype=np.float64)
        if rng.random() < settings.intensity_shift_prob:
            values = values + float(rng.uniform(-1, 1)) * settings.intensity_shift
        values = settings.intensity_maps.apply(values, inside, truth, counted_rng(self.seed, "intensity map", index))
        image = self.preprocessing.normalisation.apply(values, inside)
        image = settings.perturb(image, rng) * inside
        points = self._clicks(truth, middle, clicks, rng)
        return Example(image[None], truth.long(), points, torch.tensor(index))

    def _motion(self, scan: PreparedScan, index: int, made: bool, rng: np.random.Generator) -> FloatArray:
        """How a crop differs in place from the one that inference would plan, affine `[4, 4]` in crop voxels."""
        settings, preprocessing = self.augmentation, self.preprocessing
        motion = settings.motion(preprocessing.crop, rng)
        if made:
            field = settings.field_of_made(self._relative_voxel(scan), self._relative_extent(scan), rng)
        else:
            field = settings.field(self._diameter(scan), rng)
        motion[:3] *= field  # the shift too: it is a share of the crop's edge
        return motion @ settings.axis_order(preprocessing.spacing, counted_rng(self.seed, "axis order", index))

    def _one_label(self, scan: PreparedScan, index: int) -> PreparedScan:
        """A scan whose target is one of its labels, whatever the cohort's target is."""
        labels = sorted(scan.record.labels)
        rng = counted_rng(self.seed, "label of an example", index)
        return dataclasses.replace(scan, values=(labels[int(rng.integers(len(labels)))],))

    def _parts(self, scan: PreparedScan, kind: TargetKind, index: int) -> list[Sliceable]:
        """The target, and for one label, at times, another label, which joins it where the two touch."""
        rng = counted_rng(self.seed, "second label of an example", index)
        others = sorted(set(scan.record.labels) - set(scan.values))
        if kind != "labels" or not others or rng.random() >= UNION_PROB:
            return [scan.target]
        return [scan.target, dataclasses.replace(scan, values=(others[int(rng.integers(len(others)))],)).target]

    def _frame(self, scan: PreparedScan, rng: np.random.Generator) -> Frame:
        """The crop that inference would plan around a target voxel, or, at times, around any voxel."""
        if rng.random() < self.augmentation.target_prob:
            centre = scan.target_voxel(int(rng.integers(scan.target_voxels)))
        else:
            x, y, z = (int(rng.integers(n)) for n in scan.grid.shape)
            centre = (x, y, z)
        return Frame.centred(scan.grid, centre, self.preprocessing)

    def _frame_anywhere(self, scan: PreparedScan, rng: np.random.Generator) -> Frame:
        """The crop around any voxel that is not of the darkest few drawn, which are the air around a patient."""
        for _ in range(TRIES):
            drawn = rng.integers(np.array(scan.grid.shape), size=(SOMEWHERE, 3))
            boxes = [tuple(slice(max(0, place - 1), place + 2) for place in voxel) for voxel in drawn.tolist()]
            # The lower quartile of the neighbourhood: neither a voxel's noise nor the skin beside the air counts.
            levels = np.array([float(np.percentile(scan.image[x, y, z], 25)) for x, y, z in boxes])
            if np.ptp(levels):
                break
        bright = np.flatnonzero(levels >= levels.min() + 0.05 * np.ptp(levels))
        return Frame.centred(scan.grid, drawn[bright[int(rng.integers(len(bright)))]], self.preprocessing)

    def _click_inside(self, middle: FloatArray, inside: Tensor) -> Index3 | None:
        """The voxel inside the scan that is nearest to a crop position; None where there is none."""
        places = torch.nonzero(inside).cpu().numpy()
        if not len(places):
            return None
        d, h, w = places[np.square(places - middle).sum(axis=1).argmin()].tolist()
        return d, h, w

    def _made(
        self, kind: TargetKind, frame: Frame, crop: tuple[Tensor, Tensor, Tensor], click: Index3, index: int
    ) -> tuple[Tensor, Tensor, Index3]:
        """A crop's values, painted over where the target is painted; its target, empty where none is fit; a click.

        Args:
            kind: one of `MADE`.
            frame: the crop's.
            crop: its values, what is inside the scan, and the cohort's target.
            click: a voxel inside the scan.
            index: the example's number.
        """
        values, inside, contour = (part.cpu().numpy() for part in crop)
        d, h, w = np.abs(frame.from_scan[:3, :3]).max(axis=1).tolist()
        canvas = Canvas(values, inside, contour, click, (d, h, w))
        made = made_target(kind, canvas, self._donor, counted_rng(self.seed, "made target", index))
        if made is None:
            return crop[0], torch.zeros_like(crop[1]), click
        device = crop[0].device
        return torch.from_numpy(made.values).to(device), torch.from_numpy(made.target).to(device), made.click

    def _donor(self, rng: np.random.Generator) -> Donor | None:
        """A crop around a contoured target of any cohort, turned, at a size that is drawn as a share of the crop."""
        if not self.donors:
            return None
        scans = self.donors[int(rng.integers(len(self.donors)))]
        scan = scans[int(rng.integers(len(scans)))]
        some = np.array([scan.target_voxel(int(n)) for n in rng.integers(scan.target_voxels, size=DONOR_PLACES)])
        away = (some - some.mean(axis=0)) * scan.grid.spacing
        reach = 2 * float(np.linalg.norm(away, axis=1).max()) / float(np.mean(self.preprocessing.field_mm))
        share = float(np.exp(rng.uniform(np.log(DONOR_SHARE[0]), np.log(DONOR_SHARE[1]))))
        near = self.preprocessing.zoomed(max(reach / share, self._relative_voxel(scan) / FINEST))
        turn = TURNED.axis_order(near.spacing, rng)
        frame = Frame.centred(scan.grid, some.mean(axis=0), near).moved(turn)
        values, inside, (target,) = frame.extract_scan(scan.image, scan.padding, "cpu", (scan.target,))
        return Donor(values.numpy(), inside.numpy(), ((target > 0.5) & inside).numpy())

    def _relative_voxel(self, scan: PreparedScan) -> float:
        """Edge of a cube of a scan's voxel's volume over the edge of the model's own voxel."""
        return float(np.cbrt(np.prod(scan.grid.spacing)) / np.mean(self.preprocessing.spacing))

    def _relative_extent(self, scan: PreparedScan) -> float:
        """Longest edge of a scan over the edge of the model's own crop."""
        return float(np.max(np.array(scan.grid.shape) * scan.grid.spacing) / np.mean(self.preprocessing.field_mm))

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
        deviation, largest = other_values[new].std(), other_values[new].abs().max()
        # Constant air: scaled to the deviation here, its rounding would be noise.
        if deviation <= max(FLAT * other_values[other_inside].std(), ROUNDING * largest):
            return values, inside
        ratio = values[inside].std() / deviation
        matched = (other_values - other_values[new].mean()) * ratio + values[inside].mean()
        return torch.where(new, matched, values), inside | new
