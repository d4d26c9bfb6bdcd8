"""The map between a scan's grid and a model's crop, and its inverse.

A crop's tensor runs `[D, H, W]`: D towards the patient's head, H towards the back, W towards the left,
as slices are shown on a screen, whatever the order and direction of the scan's own axes. Only this
module converts between `[X, Y, Z]` arrays and `[B, C, D, H, W]` tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import PromptError
from ..masks import Probability
from ..prompts import Box, InitialMask, Prompt
from ..resampling import EDGE, Sliceable, places_of, resample
from ..volume import FloatArray, Grid, Index3, Source
from .padding import FilledVoxels, Padding, without_padding
from .preprocessing import Normalisation, Preprocessing

# D, H, W as (R, A or S; direction): up the body, towards the back, towards the left.
CROP_AXES = ((2, +1), (1, -1), (0, -1))
STROKE_TOKENS = 8  # places at which the network samples a stroke or a lasso


@dataclass(frozen=True, eq=False)
class Frame:
    """A crop's place in a scan.

    Attributes:
        grid: the scan's grid.
        size: the crop's D, H, W.
        to_scan: float64 `[4, 4]`, crop index (d, h, w) to scan index (x, y, z); any invertible affine.
    """

    grid: Grid
    size: Index3
    to_scan: FloatArray

    @classmethod
    def centred(cls, grid: Grid, centre: npt.ArrayLike, preprocessing: Preprocessing) -> Frame:
        """The crop whose middle voxel (index size // 2) lies on scan index `centre`, turned to the patient's axes.

        Each crop axis runs along the scan axis nearest to it, so that a straight crop never mixes an oblique
        scan's slices, and a scan at the model's spacing is copied, not interpolated.
        """
        matrix = np.eye(4)
        for column, (world, direction) in enumerate(CROP_AXES):
            axis, sign = grid.anatomical_axes[world]
            matrix[:3, column] = 0
            matrix[axis, column] = direction * sign * preprocessing.spacing[column] / grid.spacing[axis]
        middle = np.array([n // 2 for n in preprocessing.crop], dtype=np.float64)
        matrix[:3, 3] = np.asarray(centre, dtype=np.float64) - matrix[:3, :3] @ middle
        return cls(grid, preprocessing.crop, matrix)

    @classmethod
    def whole(cls, grid: Grid, preprocessing: Preprocessing) -> Frame:
        """The crop that holds all of a scan, at the model's spacing, of whatever size that takes.

        It overhangs the scan by less than a voxel, alike at both ends, so that a scan at the model's spacing is copied.
        """
        straight = cls.centred(grid, (0, 0, 0), preprocessing).to_scan
        edges = np.abs(np.linalg.inv(straight[:3, :3])) @ grid.shape
        d, h, w = (max(1, n) for n in np.ceil(edges - EDGE).astype(int).tolist())
        straight[:3, 3] = (np.array(grid.shape) - 1) / 2 - straight[:3, :3] @ (np.array([d, h, w]) - 1) / 2
        return cls(grid, (d, h, w), straight)

    @classmethod
    def around(cls, grid: Grid, prompts: Sequence[Prompt], preprocessing: Preprocessing) -> Frame:
        """The crop centred on the middle of the prompts' bounding box (paper, section 4.1), at a whole voxel.

        Raises:
            PromptError: prompts too far apart for one crop.
        """
        places = np.concatenate([prompt.places for prompt in prompts])
        low, high = places.min(axis=0), places.max(axis=0)
        frame = cls.centred(grid, round_half(grid, (low + high) / 2), preprocessing)
        if not all(frame.holds(prompt, 0.0) for prompt in prompts):
            reach = np.abs(frame.from_scan[:3, :3]) @ (high - low) * preprocessing.spacing
            span, held = (" x ".join(f"{e:.0f}" for e in edges) for edges in (reach, preprocessing.field_mm))
            raise PromptError(
                f"the prompts span {span} mm, more than this model's crop holds ({held} mm; both along S, A, R); "
                "click nearer together, or segment the lesions one at a time"
            )
        return frame

    @classmethod
    def following(cls, grid: Grid, prompts: Sequence[Prompt], preprocessing: Preprocessing) -> Frame:
        """The crop for an ordered list of prompts.

        It stays while prompts fall inside its margin, else it is planned anew around all so far: a fold
        over the list, so the crop depends on the list alone, not on how many calls it came in.
        """
        frame = cls.around(grid, prompts[:1], preprocessing)
        for count in range(2, len(prompts) + 1):
            if not frame.holds(prompts[count - 1], preprocessing.margin):
                frame = cls.around(grid, prompts[:count], preprocessing)
        return frame

    def moved(self, motion: FloatArray) -> Frame:
        """This frame turned, zoomed, flipped or shifted about its middle voxel.

        `motion` is an affine `[4, 4]` in crop voxels. Augmentation is part of the one resampling: the
        moved frame is read as any other.
        """
        to_middle, from_middle = np.eye(4), np.eye(4)
        middle = [n // 2 for n in self.size]
        to_middle[:3, 3], from_middle[:3, 3] = middle, np.negative(middle)
        return Frame(self.grid, self.size, self.to_scan @ to_middle @ motion @ from_middle)

    def mirrored(self) -> Frame:
        """The same crop, counted along W from its other end: its content is mirrored left to right."""
        mirror = np.diag([1.0, 1.0, -1.0, 1.0])
        mirror[2, 3] = self.size[2] - 1
        return Frame(self.grid, self.size, self.to_scan @ mirror)

    def part(self, first: Index3, size: Index3) -> Frame:
        """The box of this crop that begins at its voxel `first`."""
        shift = np.eye(4)
        shift[:3, 3] = first
        return Frame(self.grid, size, self.to_scan @ shift)

    @cached_property
    def from_scan(self) -> FloatArray:
        """Scan index (x, y, z) to crop index (d, h, w), float64 `[4, 4]`."""
        return np.asarray(np.linalg.inv(self.to_scan), dtype=np.float64)

    def crop_index(self, scan_index: npt.ArrayLike) -> FloatArray:
        """Scan indices `[..., 3]` (x, y, z) to crop positions `[..., 3]` (d, h, w)."""
        return np.asarray(scan_index, dtype=np.float64) @ self.from_scan[:3, :3].T + self.from_scan[:3, 3]

    def scan_index(self, crop_index: npt.ArrayLike) -> FloatArray:
        """Crop positions `[..., 3]` (d, h, w) to scan indices `[..., 3]` (x, y, z)."""
        return np.asarray(crop_index, dtype=np.float64) @ self.to_scan[:3, :3].T + self.to_scan[:3, 3]

    def holds(self, prompt: Prompt, margin: float) -> bool:
        """Whether all of a prompt lies in the crop, and nothing in its outer `margin` (a share of each edge)."""
        return bool(self._within(self.crop_index(prompt.places), margin).all())

    def _within(self, places: FloatArray, margin: float = 0.0) -> npt.NDArray[np.bool_]:
        """Which crop positions `[N, 3]` lie in the crop, and not in its outer `margin`: bool `[N]`."""
        size = np.array(self.size)
        return np.asarray(((places > size * margin - 0.5) & (places < size * (1 - margin) - 0.5)).all(axis=1))

    def tokens(self, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """Prompts as the network samples them: positions (d, h, w), float32 `[1, N, 3]`, and labels, int64 `[1, N]`.

        A click is one place, a box its lowest and its highest corner in the crop, a stroke or a lasso a few of its
        voxels, an initial mask none. What lies outside the crop is left out, and a box that reaches out of it is cut
        off there.
        """
        places: list[FloatArray] = [np.zeros((0, 3))]
        labels: list[int] = []
        for prompt in prompts:
            if isinstance(prompt, InitialMask):
                continue
            few = self.crop_index(prompt.places)
            if isinstance(prompt, Box):
                few = self._cut_box(few)
                labels += [2, 3][: len(few)]
            else:
                few = few[self._within(few)]
                # In the crop's order, not the scan's: how a scan is stored must not matter.
                few = few[np.lexsort(few.round(3).T[::-1])]
                if len(few) > STROKE_TOKENS:
                    few = few[np.linspace(0, len(few) - 1, STROKE_TOKENS).round().astype(int)]
                labels += [0 if prompt.positive else 1] * len(few)
            places.append(few)
        points = torch.from_numpy(np.concatenate(places)).float()
        return points[None], torch.tensor([labels], dtype=torch.int64)

    def _cut_box(self, corners: FloatArray) -> FloatArray:
        """Lowest and highest corner `[2, 3]` of the part of a box that lies in the crop; `[0, 3]` where none does."""
        ordered = np.stack([corners.min(axis=0), corners.max(axis=0)])
        last = np.array(self.size) - 0.5
        return ordered.clip(-0.5, last) if (ordered[1] > -0.5).all() and (ordered[0] < last).all() else corners[:0]

    def maps(
        self, prompts: Sequence[Prompt], initial: Sliceable | None = None, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Prompts as the network sees them: float32 `[1, 4, D, H, W]`, in the order of the model's `CHANNELS`.

        Args:
            prompts: clicks, strokes and lassos become spots, boxes are filled; an `InitialMask` is left to `initial`.
            initial: the mask so far or its probability, 0 to 1 on the scan's grid.
            device: where to draw.
        """
        sides = []
        for side in (True, False):
            places = [p.places for p in prompts if p.positive is side and not isinstance(p, (Box, InitialMask))]
            sides.append(self.crop_index(np.concatenate(places)) if places else np.zeros((0, 3)))
        boxes = [prompt for prompt in prompts if isinstance(prompt, Box)]
        filled = self._filled(boxes).to(device) if boxes else None
        values: Tensor | None = None
        if initial is not None:
            values, within = self.extract(initial, device)
            values = values * within  # a lesion at the scan's border does not go on outside
        spots = (torch.from_numpy(sides[0]), torch.from_numpy(sides[1]))
        return draw_prompts(self.size, spots, filled, values, device)[None]

    def _filled(self, boxes: Sequence[Box]) -> Tensor:
        """Where in the crop boxes are: bool `[D, H, W]`."""
        places = places_of(self.to_scan[:3], self.size)
        inside = torch.zeros(self.size, dtype=torch.bool)
        for box in boxes:
            low, high = (torch.tensor(corner, dtype=torch.float32) for corner in (box.first, box.last))
            inside |= ((places >= low - 0.5) & (places <= high + 0.5)).all(dim=-1)
        return inside

    def extract(self, voxels: Sliceable, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """The scan in this crop: values `[D, H, W]` float32, and bool `[D, H, W]`, whether a place lies in the scan.

        Reads only the voxels that the crop touches. Where a crop voxel is coarser than the scan's, the scan is
        averaged first. Places outside the scan repeat its border.
        """
        values, inside = self.extract_all((voxels,), device)
        return values[0], inside

    def extract_all(self, arrays: Sequence[Sliceable], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Several arrays of the scan (its voxels, its lesion) in one resampling: `[N, D, H, W]`, and as `extract`.

        They are read from the patient's left, back and feet on, so that what is averaged does not depend on how a scan
        is stored.
        """
        mirror, backwards = np.eye(4), [axis for axis, sign in enumerate(self.grid.directions) if sign < 0]
        for axis in backwards:
            mirror[axis, axis], mirror[axis, 3] = -1, self.grid.shape[axis] - 1
        return resample(arrays, self.grid.shape, mirror @ self.to_scan, self.size, device, backwards)

    def extract_scan(
        self,
        voxels: Sliceable,
        padding: Padding | None,
        device: torch.device | str = "cpu",
        beside: Sequence[Sliceable] = (),
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A scan in this crop, as `extract`, where padding lies outside; and other arrays, in the same resampling.

        Args:
            voxels: the scan's.
            padding: where it is padded (`find_padding`); None: nowhere.
            device: where to compute.
            beside: other arrays on its grid.

        Returns:
            Values `[D, H, W]`, whether a place lies in the scan, bool `[D, H, W]`, and the other arrays `[N, D, H, W]`.
        """
        if padding is None:
            values, inside = self.extract_all((voxels, *beside), device)
            return values[0], inside, values[1:]
        values, inside = self.extract_all((voxels, FilledVoxels(voxels, padding.value), *beside), device)
        reached = padding.reaches(self.to_scan, self.size).to(inside.device)
        return *without_padding(values[0], inside, values[1], reached, padding.value), values[2:]

    def image(
        self,
        voxels: Sliceable,
        normalisation: Normalisation,
        device: torch.device | str = "cpu",
        padding: Padding | None = None,
    ) -> Tensor:
        """The model's input: `[1, 1, D, H, W]` float32, normalised, zero outside the scan and where that is padding."""
        values, inside, _ = self.extract_scan(voxels, padding, device)
        return normalisation.apply(values, inside)[None, None]

    def covered(self) -> tuple[Index3, Index3]:
        """The box of scan voxels whose centres this crop can cover: its first voxel, and its size."""
        corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in self.size])).reshape(3, -1).T
        places = self.scan_index(corners)
        start = np.clip(np.ceil(places.min(axis=0) - EDGE), 0, self.grid.shape).astype(int)
        stop = np.clip(np.floor(places.max(axis=0) + EDGE) + 1, start, self.grid.shape).astype(int)
        x, y, z = start.tolist()
        nx, ny, nz = (stop - start).tolist()
        return (x, y, z), (nx, ny, nz)

    def resample_to_scan(self, probability: Tensor, source: Source | None) -> Probability:
        """A crop's probability `[D, H, W]` on the scan's own grid; zero outside the crop.

        The very resampling of `extract`, run the other way; threshold after it, not before.
        """
        start, shape = self.covered()
        offset = np.eye(4)
        offset[:3, 3] = start
        values, inside = resample((probability,), self.size, self.from_scan @ offset, shape, probability.device)
        return Probability(values[0].mul_(inside).cpu().numpy(), start, self.grid, source)


def draw_prompts(
    size: Index3,
    spots: tuple[Tensor, Tensor],
    box: Tensor | None = None,
    initial: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Prompts drawn in a crop: float32 `[4, D, H, W]`: foreground spots, background spots, box, initial mask.

    Args:
        size: the crop's D, H, W.
        spots: positions `[N, 3]` (d, h, w) of foreground and of background prompts; each is drawn three voxels wide.
        box: bool `[D, H, W]`, inside a box.
        initial: `[D, H, W]`, the initial mask or its probability, 0 to 1; drawn as -1 to 1.
        device: where to draw.
    """
    maps = torch.zeros(4, *size, device=device)
    for channel, places in enumerate(spots):
        index = places.round().long()
        index = index[((index >= 0) & (index < torch.tensor(size))).all(dim=1)].to(device)
        maps[channel].index_put_(tuple(index.t()), torch.ones((), device=device))
    maps[:2] = _three_wide(maps[:2])
    if box is not None:
        maps[2] = box
    if initial is not None:
        maps[3] = 2 * initial - 1
    return maps


def _three_wide(maps: Tensor) -> Tensor:
    """The largest of each place's 3³ neighbours, `[N, D, H, W]`: axis by axis, a tenth of 3-D max pooling's time."""
    for axis in (1, 2, 3):
        inner = maps.shape[axis] - 1
        wide = maps.clone()
        for start in (0, 1):
            part = wide.narrow(axis, start, inner)
            torch.maximum(part, maps.narrow(axis, 1 - start, inner), out=part)
        maps = wide
    return maps


def round_half(grid: Grid, place: npt.ArrayLike) -> FloatArray:
    """The voxel nearest to a scan index `[3]`; midway, the one more left, back and down, however a scan is stored."""
    sign = np.array(grid.directions, dtype=np.float64)
    # Lifted a little, so that what is midway but for rounding falls as what is midway.
    return np.asarray(sign * np.ceil(sign * np.asarray(place, dtype=np.float64) - 0.5 - EDGE), dtype=np.float64)
