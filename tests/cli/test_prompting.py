"""The prompts of a command line: what each option gives, and their order."""

import numpy as np

from palpate.cli.prompting import GivenPrompts
from palpate.prompts import Box, Click
from palpate.volume import Grid, Volume

# 2 x 3 x 4 mm voxels, x to the left: voxel (1, 2, 3) lies at (10 - 2, 20 + 6, 30 + 12) mm.
GRID = Grid((5, 6, 7), np.array([[-2, 0, 0, 10], [0, 3, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1.0]]))
VOLUME = Volume(np.zeros(GRID.shape, np.float32), GRID.affine)


def refuse_notes(note: str) -> None:
    raise AssertionError(note)


def test_a_box_in_millimetres_is_the_box_of_its_voxels() -> None:
    given = GivenPrompts((), (("box", "1,1,1,3,3,4"), ("box-mm", "4,23,34,8,29,46")))
    box = Box((1, 1, 1), (3, 3, 4))
    assert given.read(VOLUME, refuse_notes) == [box, box]
    loose = GivenPrompts((), given.texts, loose_box=True)
    assert loose.read(VOLUME, refuse_notes) == [Box((1, 1, 1), (3, 3, 4), loose=True)] * 2


def test_background_prompts_come_last() -> None:
    away = (("background", "0,0,0"), ("background-mm", "6,26,42"))
    given = GivenPrompts((), (*away, ("click", "1,2,3"), ("mm", "8,26,42")))
    outside = [Click((0, 0, 0), positive=False), Click((2, 2, 3), positive=False)]
    assert given.read(VOLUME, refuse_notes) == [Click((1, 2, 3))] * 2 + outside
