"""A place outside the scan: the error says what usually causes it, and what was probably meant."""

import numpy as np
import pytest

from palpate.errors import PromptError
from palpate.prompts import Box, Click, Prompt, Scribble, check_inside
from palpate.volume import Grid

# 40 x 30 x 20 voxels of 2 x 2 x 3 mm; RAS x 100 to 178, y -260 to -202, z 400 to 457 at the voxels' centres.
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
AFFINE[:3, 3] = (100, -260, 400)
GRID = Grid((40, 30, 20), AFFINE)


def refused(*prompts: Prompt) -> str:
    with pytest.raises(PromptError) as raised:
        check_inside(prompts, GRID)
    return str(raised.value)


@pytest.mark.parametrize(
    ("index", "correction"),
    [
        ((40, 5, 5), "As an index counted from 1 it lies inside: --click 39,4,4"),
        ((19, 29, 39), "As an index in the order z, y, x it lies inside: --click 39,29,19"),
        ((20, 30, 40), "As an index in the order z, y, x from 1 it lies inside: --click 39,29,19"),
        ((120, -230, 430), "As RAS millimetres it lies inside: --click-mm=120,-230,430"),
        ((-120, 230, 430), "As LPS millimetres it lies inside: --click-mm=120,-230,430"),
    ],
)
def test_an_index_that_was_meant_otherwise(index: tuple[int, int, int], correction: str) -> None:
    message = refused(Click(index))
    assert message.startswith(f"click {index} lies outside the scan; valid voxel indices: x 0 to 39, y 0 to 29, z 0 to")
    assert "ITK-SNAP shows them from 1" in message
    assert message.endswith(correction)


def test_what_no_correction_explains_has_no_proposal() -> None:
    message = refused(Click((500, 500, 500)))
    assert "voxel indices count from 0" in message
    assert "--click" not in message


def test_each_option_is_named_and_places_of_none_get_no_proposal() -> None:
    inside = Click((1, 1, 1))
    assert refused(inside, Click((40, 5, 5), positive=False)).endswith("--background 39,4,4")
    assert refused(Box((1, 1, 1), (40, 30, 20))).endswith("--box 0,0,0,39,29,19")
    assert refused(inside, Click((120, -230, 430), positive=False)).endswith("inside: --background-mm=120,-230,430")
    box = "As RAS millimetres it lies inside: --box-mm=110,-240,410,120,-230,430"
    assert refused(Box((110, -240, 410), (120, -230, 430))).endswith(box)
    assert "inside: --" not in refused(Box((110, -240, 410), (220, -230, 430))), "one corner of it"
    assert "inside: --" not in refused(Scribble.along([(39, 5, 5), (40, 5, 5)]))


@pytest.mark.parametrize(
    ("mm", "correction"),
    [
        ((-120.5, 230.25, 430), "As LPS millimetres it lies inside: --click-mm=120.5,-230.25,430"),
        ((430, -230, 120), "As millimetres in the order z, y, x it lies inside: --click-mm=120,-230,430"),
        ((12, 8, 5), "As a voxel index it lies inside: --click 12,8,5"),
    ],
)
def test_millimetres_that_were_meant_otherwise(mm: tuple[float, ...], correction: str) -> None:
    with pytest.raises(PromptError) as raised:
        Click.at_mm(GRID, mm)
    message = str(raised.value)
    assert "outside the scan, which spans R 99.0 to 179.0, A -261.0 to -201.0, S 398.5 to 458.5 mm (RAS)" in message
    assert "DICOM and most archives show LPS: negate x and y" in message
    assert message.endswith(correction)


def test_background_places_name_their_own_option() -> None:
    with pytest.raises(PromptError, match=r"inside: --background-mm=120\.5,-230\.25,430$"):
        Click.at_mm(GRID, (-120.5, 230.25, 430), positive=False)
    with pytest.raises(PromptError, match=r"inside: --background 12,8,5$"):
        Click.at_mm(GRID, (12, 8, 5), positive=False)


def test_the_correction_is_where_it_says() -> None:
    assert Click.at_mm(GRID, (120.5, -230.25, 430)) == Click((10, 15, 10))
