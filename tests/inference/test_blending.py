"""Crops put together on the scan's grid, by hand."""

import numpy as np
import pytest
import torch

from fakes import RANGE, SHAPE, blank_scan
from palpate.frame import Frame
from palpate.inference import View
from palpate.inference.blending import (
    PatchBlender,
    one_sided_patch,
    one_sided_update,
    resample_to_scan,
    weight_inside,
    weight_near_click,
    without,
)
from palpate.masks import Mask, Probability
from palpate.volume import Grid


def at(x: int, grid: Grid, size: int = 4) -> Frame:
    """A crop whose voxels are the grid's, from (x, 0, 0) on."""
    to_scan = np.eye(4)
    to_scan[0, 3] = x
    return Frame(grid, (size, size, size), to_scan)


def test_blended_by_hand() -> None:
    """A base of 0.2, and a crop of 0.8 that weighs 0.25 and 1; outside both, nothing."""
    grid = Grid((10, 4, 4), np.eye(4))
    blender = PatchBlender(Probability(np.full((4, 4, 4), 0.2, np.float32), (0, 0, 0), grid))
    weights = torch.full((4, 4, 4), 0.25)
    weights[2:] = 1
    blender.add(at(2, grid), torch.full((4, 4, 4), 0.8), weights)
    assert np.allclose(blender.blended().full()[:, 0, 0], [0.2, 0.2, 0.35, 0.35, 0.8, 0.8, 0, 0, 0, 0])
    blender.add(at(2, grid), torch.zeros(4, 4, 4), weights)
    blended = blender.blended()
    assert np.allclose(blended.full()[4, 0, 0], 0.4), "two crops that weigh as much: their mean"
    assert (blended.start, blended.array.shape) == ((0, 0, 0), (6, 4, 4))


def test_only_what_counts_is_stored() -> None:
    """A wide crop that changed a corner takes a corner's memory; a base of nothing widens no box."""
    grid = Grid((40, 40, 40), np.eye(4))
    nothing = Probability(np.zeros((1, 1, 1), np.float32), (39, 39, 39), grid)
    blender = PatchBlender(nothing)
    weights = torch.zeros(32, 32, 32)
    blender.add(at(2, grid, 32), torch.ones(32, 32, 32), weights)
    assert not blender.crops
    assert blender.blended() is nothing
    weights[4:6, 10:12, 10:12] = 1
    blender.add(at(2, grid, 32), torch.ones(32, 32, 32), weights)
    assert blender.crops[0][1].shape == (4, 4, 4), "what counts, and a voxel around it"
    blended = blender.blended()
    assert (blended.start, blended.array.shape) == ((5, 9, 9), (4, 4, 4))
    assert np.allclose(blended.full()[6:8, 10:12, 10:12], 1)
    assert blended.array.sum() == pytest.approx(8)


@pytest.mark.parametrize("scale", [1.0, 2.0, 4.0])
def test_a_part_reads_as_the_whole_crop_would(scale: float) -> None:
    """On slices of 4 and of 9 mm, where a crop's voxels are averaged in blocks."""
    weights = torch.zeros(32, 32, 32)
    weights[9:14, 3:8, 20:31] = torch.rand(5, 5, 11, generator=torch.Generator().manual_seed(0))
    for thickness in (4.0, 9.0):
        grid = Grid(SHAPE, np.diag([2.0, 2.0, thickness, 1.0]))
        frame = Frame.centred(grid, (60, 50, 30), RANGE.zoomed(scale))
        blender = PatchBlender(Probability(np.zeros((1, 1, 1), np.float32), (0, 0, 0), grid))
        blender.add(frame, torch.ones(32, 32, 32), weights)
        whole = frame.resample_to_scan(weights, None).full()
        assert np.allclose(blender.blended().full(), whole, atol=1e-4)
        assert whole.max() > 0.1


def test_a_wide_views_patch_leaves_out_what_is_nothing() -> None:
    view = View(Frame.centred(blank_scan().grid, (60, 50, 30), RANGE.zoomed(4)), 4)
    probability = torch.zeros(32, 32, 32)
    probability[14:18, 15:17, 15:18] = 0.9
    patch = resample_to_scan(view, probability, None)
    whole = view.frame.resample_to_scan(probability, None)
    assert patch.array.size < whole.array.size / 100
    assert np.allclose(patch.full(), whole.full(), atol=1e-6)
    assert not resample_to_scan(view, probability * 0, None).array.any()


def test_a_correction_is_one_sided() -> None:
    """The same rule for crops and for patches of the scan; outside the crop the old probability stays."""
    new, old = torch.tensor([0.1, 0.6, 0.9]), torch.tensor([0.3, 0.6, 0.2])
    assert one_sided_update(True, new, old).tolist() == torch.tensor([0.3, 0.6, 0.9]).tolist()
    assert one_sided_update(False, new, old).tolist() == torch.tensor([0.1, 0.6, 0.2]).tolist()
    grid = Grid((6, 1, 1), np.eye(4))

    def line(values: list[float], start: int) -> Probability:
        return Probability(np.array(values, np.float32).reshape(-1, 1, 1), (start, 0, 0), grid)

    frame = Frame(grid, (2, 1, 1), at(1, grid).to_scan)  # voxels 1 and 2
    before, after = line([0.8, 0.8, 0.3, 0.8], 0), line([0.2, 0.9, 0.7], 1)
    added = one_sided_patch(True, after, before, frame)
    assert added.full()[:, 0, 0].tolist() == line([0.8, 0.8, 0.9, 0.8, 0, 0], 0).array[:, 0, 0].tolist()
    taken = one_sided_patch(False, after, before, frame)
    assert taken.full()[:, 0, 0].tolist() == line([0.8, 0.2, 0.3, 0.8, 0, 0], 0).array[:, 0, 0].tolist()
    assert before.array[1, 0, 0] == np.float32(0.8), "the old one is not changed"


def test_a_forbidden_region_is_emptied() -> None:
    grid = Grid((4, 1, 1), np.eye(4))
    probability = Probability(np.full((3, 1, 1), 0.8, np.float32), (1, 0, 0), grid)
    forbidden = Mask(np.ones((2, 1, 1), bool), (0, 0, 0), grid)
    assert without(probability, forbidden).full()[:, 0, 0].tolist() == [0, 0, np.float32(0.8), np.float32(0.8)]
    assert probability.array[0, 0, 0] == np.float32(0.8)


def test_weights_fall_towards_the_faces_and_away_from_a_click() -> None:
    inside, near = weight_inside((16, 16, 16)), weight_near_click((16, 16, 16))
    assert inside[8, 8, 8] == near[8, 8, 8] == 1
    assert inside[0, 8, 8] < 0.2
    assert near[8, 8, 8 + 3] == 0, "an eighth of 16 voxels away"
