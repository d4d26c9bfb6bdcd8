"""The values shown as black and as white, and the unit that is written beside them."""

from typing import Any

import numpy as np
import pytest

from palpate.errors import SettingsError
from palpate.masks import Mask
from palpate.phantom import make_phantom
from palpate.pictures import Plane, check_window, lay_out
from palpate.pictures.window import automatic_window, value_unit
from palpate.prompts import Box, Click, Prompt, Scribble
from palpate.volume import Volume
from scans import cube, empty, plain


def shown(volume: Volume, mask: Mask) -> tuple[Plane, ...]:
    return lay_out(volume, [mask]).planes


@pytest.mark.parametrize(("site", "low", "high"), [("lung", -1350, 150), ("liver", -160, 240)])
def test_ct_has_a_window_for_what_surrounds_the_lesion(site: Any, low: float, high: float) -> None:
    phantom = make_phantom(shape=(96, 96, 80), spacing=(2, 2, 3), site=site, lesion_diameter_mm=16)
    planes = lay_out(phantom.volume, [phantom.lesion], [phantom.click]).planes
    assert value_unit(phantom.volume, planes) == "HU"
    assert automatic_window(planes, "HU") == (low, high)


def test_other_scans_have_a_window_of_percentiles() -> None:
    array = np.arange(101.0)[:, None, None] * np.ones((1, 9, 9))
    volume = Volume(array, np.eye(4))
    planes = shown(volume, cube(volume.grid, (0, 4, 4), (100, 4, 4)))
    # Axial and coronal show 0 to 100 evenly; the sagittal slice lies at 50.
    assert automatic_window(planes[:2], None) == (1, 99)
    one = plain((9, 9, 9), value=7)
    assert automatic_window(shown(one, cube(one.grid, (4, 4, 4), (4, 4, 4))), None) == (6.5, 7.5)


def leg() -> Volume:
    """A thigh of 40 mm, with a cushion under it, in noisy air."""
    x, y, _ = np.indices((80, 80, 40)) - 40
    array = np.random.default_rng(0).normal(-985, 25, (80, 80, 40))
    array[(y > 18) & (y < 24)] += 100
    array[x**2 + y**2 <= 20**2] = 50
    return Volume(array.astype(np.int16), np.eye(4))


@pytest.mark.parametrize("radius", [5, 14, 19, 20])
def test_air_around_a_limb_is_no_lung(radius: int) -> None:
    volume = leg()
    x, y, _ = np.indices(volume.shape) - 40
    mask = Mask(x**2 + y**2 <= radius**2, (0, 0, 0), volume.grid)  # up to the skin, as where it leaked
    assert automatic_window(shown(volume, mask), "HU") == (-160, 240)


def test_a_lesion_at_the_chest_wall_has_the_window_of_most_around_it() -> None:
    array = np.full((90, 90, 40), -850, dtype=np.int16)
    array[:, 60:] = 50
    array[:, 75:] = -1000
    volume = Volume(array, np.eye(4))
    expected = {50: (-1350, 150), 58: (-1350, 150), 66: (-160, 240)}
    for y, window in expected.items():
        mask = cube(volume.grid, (40, y - 5, 15), (50, y, 25))
        assert automatic_window(shown(volume, mask), "HU") == window, y


@pytest.mark.parametrize("unit", ["HU", "SUV", None])
def test_the_window_does_not_depend_on_the_kind_of_prompt_or_on_further_ones(unit: str | None) -> None:
    noise = np.random.default_rng(0).normal(50, 20, (120, 120, 60))
    noise[:, :50] -= 900
    noise[0], noise[-1] = 5000, -5000  # far from the lesion
    volume = Volume(noise.astype(np.float32), np.eye(4))
    mask = cube(volume.grid, (55, 55, 25), (65, 65, 35))
    click, stroke = Click((60, 60, 30)), Scribble.along([(58, 60, 30), (62, 60, 30)])
    far, whole = Click((1, 1, 1), positive=False), Box((0, 0, 0), (119, 119, 59))
    given: list[list[Prompt]] = [[click], [Box((50, 50, 20), (70, 70, 40))], [stroke], [click, far], [click, whole]]
    for found in (mask, empty(volume.grid)):
        windows = {automatic_window(lay_out(volume, [found], prompts).planes, unit) for prompts in given}
        assert len(windows) == 1
        assert all(abs(end) < 2000 for end in windows.pop())


def test_a_window_is_two_finite_values_the_lower_one_first() -> None:
    assert check_window(-160, 240) == (-160, 240)
    for ends in (3, 3), (4, 1), (0, np.nan), (-np.inf, 0):
        with pytest.raises(SettingsError, match=f"a window of {ends[0]:g} to {ends[1]:g}: give two finite values"):
            check_window(*ends)


def test_a_window_in_suv_begins_at_zero_and_ends_at_five_or_above() -> None:
    faint = Volume(np.linspace(0, 1, 1000, dtype=np.float32).reshape(10, 10, 10), np.eye(4))
    hot = Volume(faint.array * 40, np.eye(4))
    assert automatic_window(shown(faint, empty(faint.grid)), "SUV") == (0, 5)
    low, high = automatic_window(shown(hot, empty(hot.grid)), "SUV")
    assert low == 0
    assert 5 < high < 40


def test_unit_is_the_readers_else_that_of_ct_where_values_are_as_low() -> None:
    low, high = plain((9, 9, 9), value=-700), plain((9, 9, 9), value=700)
    for volume, expected in (
        (low, "HU"),
        (high, None),
        (Volume(low.array, np.eye(4), unit="arbitrary units"), "arbitrary units"),
        (Volume(high.array, np.eye(4), unit="SUV"), "SUV"),
    ):
        assert value_unit(volume, shown(volume, empty(volume.grid))) == expected
    array = np.zeros((200, 200, 20), dtype=np.int16)
    array[101, 101, 10] = -900  # between the voxels of the coarse look, but shown
    hidden = Volume(array, np.eye(4))
    assert value_unit(hidden, shown(hidden, cube(hidden.grid, (100, 100, 9), (102, 102, 11)))) == "HU"
