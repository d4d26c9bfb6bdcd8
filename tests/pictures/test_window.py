"""The values shown as black and as white, and the unit that is written beside them."""

from typing import Any

import numpy as np
import pytest

from palpate.masks import Mask
from palpate.phantom import make_phantom
from palpate.pictures import Plane, lay_out
from palpate.pictures.window import automatic_window, value_unit
from palpate.volume import Volume
from scans import cube, empty, plain


def shown(volume: Volume, mask: Mask) -> tuple[Plane, ...]:
    return lay_out(volume, [mask]).planes


@pytest.mark.parametrize(("site", "low", "high"), [("lung", -1350, 150), ("liver", -120, 215)])
def test_ct_has_a_window_for_what_surrounds_the_lesion(site: Any, low: float, high: float) -> None:
    phantom = make_phantom(shape=(96, 96, 80), spacing=(2, 2, 3), site=site, lesion_diameter_mm=16)
    planes = lay_out(phantom.volume, [phantom.lesion], [phantom.click]).planes
    assert value_unit(phantom.volume, planes) == "HU"
    assert automatic_window(planes, "HU") == pytest.approx((low, high), abs=35)


def test_other_scans_have_a_window_of_percentiles() -> None:
    array = np.arange(101.0)[:, None, None] * np.ones((1, 9, 9))
    volume = Volume(array, np.eye(4))
    planes = shown(volume, cube(volume.grid, (0, 4, 4), (100, 4, 4)))
    # Axial and coronal show 0 to 100 evenly; the sagittal slice lies at 50.
    assert automatic_window(planes[:2], None) == (1, 99)
    one = plain((9, 9, 9), value=7)
    assert automatic_window(shown(one, cube(one.grid, (4, 4, 4), (4, 4, 4))), None) == (6.5, 7.5)


def test_soft_tissue_without_contrast_keeps_a_wide_window() -> None:
    array = np.full((40, 40, 40), 50, dtype=np.int16)
    array[0] = -1000
    volume = Volume(array, np.eye(4))
    planes = shown(volume, cube(volume.grid, (20, 20, 20), (24, 24, 24)))
    assert automatic_window(planes, value_unit(volume, planes)) == (-100, 200)


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
