"""Cues: distances and intensities worked by hand, and what each kind of prompt is a seed of."""

import math

import pytest
import torch

from palpate.model.cues import (
    ACROSS,
    CHANNELS,
    FAR,
    LARGEST,
    background_seeds,
    core_of,
    cues_of,
    foreground_seeds,
    geodesic_distance,
    relative_intensity,
)


def spot(shape: tuple[int, int, int], *places: tuple[int, int, int]) -> torch.Tensor:
    seeds = torch.zeros(1, 1, *shape, dtype=torch.bool)
    for place in places:
        seeds[(0, 0, *place)] = True
    return seeds


def test_on_a_plain_crop_a_distance_is_the_steps_along_the_axes() -> None:
    found = geodesic_distance(torch.zeros(1, 1, 9, 8, 7), spot((9, 8, 7), (4, 2, 3)))[0, 0]
    index = torch.stack(torch.meshgrid(*(torch.arange(n) for n in (9, 8, 7)), indexing="ij"))
    steps = (index - torch.tensor([4, 2, 3])[:, None, None, None]).abs().sum(dim=0)
    torch.testing.assert_close(found, steps * ACROSS / 9)


def test_a_path_goes_around_a_wall_where_that_is_cheaper() -> None:
    """A wall of height 1 costs 2 to climb over; the way around its end costs two steps more."""
    image = torch.zeros(1, 1, 5, 5, 1)
    image[0, 0, 2, :4] = 1.0
    found = geodesic_distance(image, spot((5, 5, 1), (1, 3, 0)))[0, 0, :, :, 0]
    assert float(found[3, 3]) == pytest.approx(4 * ACROSS / 5)  # (1, 4), (2, 4), (3, 4), (3, 3)
    closed = image.clone()
    closed[0, 0, 2] = 1.0
    found = geodesic_distance(closed, spot((5, 5, 1), (1, 3, 0)))[0, 0, :, :, 0]
    assert float(found[3, 3]) == pytest.approx(2 + 2 * ACROSS / 5)


def test_the_nearest_of_several_seeds_counts() -> None:
    one, other = spot((6, 6, 6), (0, 0, 0)), spot((6, 6, 6), (5, 5, 4))
    image = torch.rand(1, 1, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    both = geodesic_distance(image, one | other)
    assert (both <= torch.minimum(geodesic_distance(image, one), geodesic_distance(image, other)) + 1e-6).all()
    assert (geodesic_distance(image, torch.zeros_like(one)) == FAR).all()


def test_relative_intensities_worked_by_hand() -> None:
    """Seeds of 1 and 3: mean 2, deviation 1."""
    image = torch.tensor([1.0, 3.0, 2.5, 9.0]).reshape(1, 1, 4, 1, 1)
    seeds = spot((4, 1, 1), (0, 0, 0), (1, 0, 0))
    relative, deviations = relative_intensity(image, seeds)
    assert relative.flatten().tolist() == [-1.0, 1.0, 0.5, LARGEST]
    torch.testing.assert_close(deviations.flatten(), torch.tensor([-1 / 1.05, 1 / 1.05, 0.5 / 1.05, LARGEST]))
    for nothing in relative_intensity(image, torch.zeros_like(seeds)):
        assert (nothing == 0).all()


def test_the_core_of_a_region_lies_deepest() -> None:
    region = torch.zeros(11, 11, 11, dtype=torch.bool)
    region[1:10, 1:10, 1:10] = True  # nine voxels wide: the middle lies five steps deep
    core = core_of(region)
    assert core[5, 5, 5]
    assert not core[1, 5, 5]
    assert (core & ~region).sum() == 0
    assert core.nonzero().float().mean(dim=0).tolist() == [5.0, 5.0, 5.0]
    assert core_of(torch.ones(5, 5, 5, dtype=torch.bool))[2, 2, 2], "a region that fills the crop has a core too"


def test_what_each_prompt_is_a_seed_of() -> None:
    maps = torch.zeros(5, 4, 9, 9, 9)
    maps[0, 0, 4, 4, 4] = 1  # a foreground spot, and a box, which then is no foreground seed
    maps[0, 2, 2:7, 2:7, 2:7] = 1
    maps[1, 2, 2:7, 2:7, 2:7] = 1  # a box alone
    maps[2, 3] = -1  # an initial mask alone
    maps[2, 3, 2:7, 2:7, 2:7] = 1
    maps[3, 1, 1, 1, 1] = 1  # a background spot alone
    foreground, background = foreground_seeds(maps), background_seeds(maps)
    assert foreground[0].nonzero().tolist() == [[0, 4, 4, 4]]
    for number in (1, 2):
        assert foreground[number, 0, 4, 4, 4]
        assert not foreground[number, 0, 2, 2, 2]
    assert not foreground[3:].any()
    assert background.flatten(1).sum(dim=1).tolist() == [9**3 - 125, 9**3 - 125, 0, 1, 0]


def test_cues_say_what_is_near_and_what_is_alike() -> None:
    """A bright ball in a plain crop: a click in it is near to all of the ball, and to nothing else."""
    index = torch.stack(torch.meshgrid(*(torch.arange(16.0),) * 3, indexing="ij"))
    ball = ((index - 7.5) ** 2).sum(dim=0) < 16
    maps = torch.zeros(1, 4, 16, 16, 16)
    maps[0, 0, 7:9, 7:9, 7:9] = 1
    image = 2.0 * ball[None, None].float()
    near, very, against, relative, deviations = cues_of(image, maps, ("geodesic", "intensity"))[0]
    inside = ((index - 7.5) ** 2).sum(dim=0) < 6
    assert float(near[inside].min()) > 0.85
    assert float(near[~ball].max()) < 0.6
    torch.testing.assert_close(very, near**4)
    assert float(against.max()) == pytest.approx(math.exp(-FAR))
    assert (relative[ball] == 0).all()
    assert (relative[~ball] == -2).all()
    assert (deviations[~ball] == -LARGEST).all()


def test_each_kind_has_its_channels_and_none_is_none() -> None:
    image, maps = torch.randn(2, 1, 8, 8, 8), torch.zeros(2, 4, 8, 8, 8)
    for kinds in ((), ("geodesic",), ("intensity",), ("geodesic", "intensity")):
        assert cues_of(image, maps, kinds).shape == (2, sum(CHANNELS[kind] for kind in kinds), 8, 8, 8)


def test_a_crop_of_a_batch_has_the_cues_that_it_has_alone() -> None:
    generator = torch.Generator().manual_seed(1)
    image, maps = torch.randn(3, 1, 8, 8, 8, generator=generator), torch.zeros(3, 4, 8, 8, 8)
    for number in range(3):
        maps[number, number % 3, 2:5, 2 + number : 5 + number, 3:6] = 1
    together = cues_of(image, maps, ("geodesic", "intensity"))
    alone = [cues_of(image[n : n + 1], maps[n : n + 1], ("geodesic", "intensity")) for n in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))
