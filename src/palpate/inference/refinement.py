"""The boundary of a lesion that was predicted in a wide view, predicted again in overlapping crops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from torch import Tensor

from ..frame import Frame, Preprocessing, round_half
from ..masks import Probability
from ..prompts import Box, InitialMask, Prompt
from ..resampling import EDGE
from ..volume import Grid
from .blending import PatchBlender, resample_to_scan, weight_inside
from .encoded_scan import EncodedScan
from .progress import Progress
from .views import STEP, View

STRIDE = 0.625  # distance of two neighbouring crops, as a share of their edge: they overlap by 3/8
CHANGE = 0.25  # change of a probability that is worth predicting its place again


def refine(
    scan: EncodedScan,
    view: View,
    probability: Tensor,
    prompts: Sequence[Prompt],
    budget: int,
    before: Probability | None,
    reference: Tensor | None,
    progress: Progress,
) -> tuple[Probability, int]:
    """A wide view's probability on the scan's grid, refined along the boundary; and by how many crops.

    Where the last prompt changed nothing of the wide view, the probability before it stays, to the bit.

    Args:
        scan: the scan.
        view: the wide view.
        probability: the prediction in it, `[D, H, W]`.
        prompts: all so far.
        budget: most crops.
        before: the probability before the last prompt, on the scan's grid; None: there was none.
        reference: the wide view's prediction before the last prompt, `[D, H, W]`; None: there was none.
        progress: of the call.
    """
    if before is None or reference is None:
        base = resample_to_scan(view, probability, scan.volume.source)
    else:
        blender = PatchBlender(before)
        blender.add(view.frame, probability, changed_region(probability, reference))
        base = blender.blended()
    region = uncertain_region(probability, reference)
    crops = boundary_crops(view, region, prompts[-1], prompts[0], scan.preprocessing, budget)
    blender = PatchBlender(base)
    for crop, predicted in predict_crops(scan, crops, prompts, base, progress):
        blender.add(crop.frame, predicted, weight_inside(crop.frame.size).to(predicted.device))
    return blender.blended(), len(crops)


def predict_crops(
    scan: EncodedScan, crops: Sequence[View], prompts: Sequence[Prompt], base: Probability, progress: Progress
) -> Iterator[tuple[View, Tensor]]:
    """Each crop and the foreground's probability in it, `[D, H, W]`; it is predicted when it is asked for.

    Args:
        scan: the scan.
        crops: where to predict.
        prompts: all so far.
        base: the mask so far, on the scan's grid, which each crop starts from.
        progress: of the call.
    """
    for number, crop in enumerate(crops):
        with progress.part(1 / (len(crops) - number + 1)) as report:  # and as much again for what comes after them
            predicted = scan.predict_crop(crop, prompts, base, report)
        yield crop, predicted


def finest(grid: Grid, preprocessing: Preprocessing) -> float:
    """The scale of a refinement: the model's own, or the scan's voxels where these are coarser."""
    return max(1.0, float(np.median(grid.spacing) / np.mean(preprocessing.spacing)))


def boundary_crops(
    view: View,
    region: npt.NDArray[np.bool_],
    prompt: Prompt,
    first: Prompt,
    preprocessing: Preprocessing,
    budget: int,
) -> list[View]:
    """Overlapping crops, narrower than `view`, over a region and around a prompt; as fine as a budget allows.

    They lie on a lattice through the first prompt, so that the next prompt finds the same crops encoded. Where no
    spacing brings all within the budget, the coarsest serves as far as it goes.

    Args:
        view: the wide view.
        region: where to predict again, `[D, H, W]` of the view's crop.
        prompt: the last one.
        first: the first one.
        preprocessing: the model's.
        budget: most crops.
    """
    grid = view.frame.grid
    places = view.frame.scan_index(np.argwhere(region))
    places = places[((places > -0.5) & (places < np.array(grid.shape) - 0.5)).all(axis=-1)]
    anchor = round_half(grid, (first.places.min(axis=0) + first.places.max(axis=0)) / 2)
    found: list[View] = []
    scale = finest(grid, preprocessing)
    while scale < view.scale / 1.2:
        zoomed = preprocessing.zoomed(scale)
        unit = Frame.centred(grid, anchor, zoomed)
        middle, stride = np.array(unit.size) // 2, STRIDE * np.array(unit.size)
        cells = Counter(_cells(unit.crop_index(places), middle, stride))
        # A speck is not worth a crop; a prompt always is.
        least = 0.002 * np.prod(unit.size) * (scale / view.scale) ** 3 * STRIDE**3
        named: set[tuple[int, ...]] = set()
        if not isinstance(prompt, (Box, InitialMask)):
            named = set(_cells(unit.crop_index(prompt.places), middle, stride))
        wanted = named | {cell for cell, count in cells.items() if count > least}
        # Where the budget does not do, the prompt's own crops come first, then those with most of the region.
        chosen = sorted(wanted, key=lambda cell: (cell not in named, -cells[cell], cell))[:budget]
        centres = [round_half(grid, unit.scan_index(middle + np.array(cell) * stride)) for cell in sorted(chosen)]
        found = [View(Frame.centred(grid, centre, zoomed), scale) for centre in centres]
        if len(wanted) <= budget:
            break
        scale *= STEP
    return found


def _cells(
    places: npt.NDArray[np.float64], middle: npt.NDArray[np.int64], stride: npt.NDArray[np.float64]
) -> list[tuple[int, ...]]:
    """Which crop of a lattice each place `[N, 3]` (d, h, w) of its middle one is nearest to."""
    nearest = np.floor((places - middle) / stride + 0.5 + EDGE)  # what is midway but for rounding is midway
    return [tuple(cell) for cell in nearest.astype(int).tolist()]


def uncertain_region(probability: Tensor, reference: Tensor | None) -> npt.NDArray[np.bool_]:
    """Where a wide view is worth predicting again: along the mask's boundary and where it is unsure, if it changed.

    Args:
        probability: the wide view's prediction, `[D, H, W]`.
        reference: the prediction before, in the same crop; None: there was none, and all of the boundary is new.
    """
    mask = (probability > 0.5).float()[None, None]
    edge = F.max_pool3d(mask, 3, 1, 1) + F.max_pool3d(1 - mask, 3, 1, 1) > 1.5
    unsure = (probability > 0.1) & (probability < 0.9)
    region = edge[0, 0] | unsure
    if reference is not None:
        region &= changed_region(probability, reference) > 0
    return region.cpu().numpy()


def changed_region(probability: Tensor, reference: Tensor) -> Tensor:
    """Where a prediction differs from the reference, 0 to 1 with soft edges; all `[D, H, W]`."""
    differs = ((probability - reference).abs() > CHANGE).float()[None, None]
    near = F.max_pool3d(differs, 3, 1, 1)
    return F.avg_pool3d(near, 3, 1, 1, count_include_pad=False)[0, 0]
