"""What a further prompt changed, in words."""

from __future__ import annotations

import numpy as np

from palpate.cli.changes import change, prompt_changes
from palpate.lesions import Postprocessing
from palpate.masks import Mask
from palpate.predictor import Predictor
from palpate.prompts import Click, InitialMask, Prompt
from palpate.volume import Grid
from small import CPU, noise_scan, quick_predictor, small_bundle

GRID = Grid((20, 20, 20), np.diag([5.0, 5.0, 8.0, 1.0]))  # 0.2 mL a voxel
CLICK, AWAY = Click((8, 7, 5)), Click((9, 5, 4), positive=False)


def block(start: int, stop: int) -> Mask:
    """A rod along x, of one voxel's thickness."""
    return Mask(np.ones((stop - start, 1, 1), bool), (start, 3, 3), GRID)


def test_what_was_added_and_what_was_taken() -> None:
    assert change(block(2, 5), block(2, 9)) == "added 0.80 mL"
    assert change(block(2, 9), block(4, 9)) == "took 0.40 mL"
    assert change(block(2, 5), block(4, 9)) == "added 0.80 mL and took 0.40 mL"
    assert change(block(2, 5), block(2, 5)) == "changed nothing"
    fine = Grid(GRID.shape, np.diag([1.0, 1.0, 4.0, 1.0]))
    one, two = (Mask(np.ones((n, 1, 1), bool), (2, 3, 3), fine) for n in (1, 2))
    assert change(one, two) == "added 0.004 mL"


def test_each_of_the_last_prompts_is_told_of() -> None:
    predictor, plain = quick_predictor(), Postprocessing()
    predictor.set_volume(noise_scan())
    prompts: list[Prompt] = [CLICK, AWAY, *(Click((8, 7, z)) for z in (6, 7, 8))]
    masks = [predictor.predict(prompts[: count + 1]).mask for count in range(len(prompts))]
    assert prompt_changes(predictor, prompts[:1], plain) == []
    assert prompt_changes(predictor, prompts[:2], plain) == [
        f"changes: background click 9,5,4 {change(masks[0], masks[1])}"
    ]
    (line,) = prompt_changes(predictor, prompts, plain)
    told = line.removeprefix("changes: ").split("; ")
    assert [one.partition(" ")[0] for one in told] == ["background", "click", "click", "click"]
    assert told[-1] == f"click 8,7,8 {change(masks[-2], masks[-1])}"
    background_first = [AWAY, CLICK]
    predictor.predict(background_first)
    assert prompt_changes(predictor, background_first, plain) == [], "no mask before the click is known"


def test_an_initial_mask_is_compared_with_what_the_model_made_of_it() -> None:
    predictor = quick_predictor()
    volume = noise_scan()
    predictor.set_volume(volume)
    start = Mask(np.ones((4, 4, 3), bool), (6, 5, 4), volume.grid)
    made = predictor.predict([InitialMask(start)]).mask
    told = prompt_changes(predictor, [InitialMask(start)], Postprocessing())
    assert told == [f"changes: initial mask, redrawn by the model, {change(start, made)}"]


def test_a_model_that_takes_all_prompts_at_once_has_no_mask_in_between() -> None:
    predictor = Predictor(small_bundle(), CPU)
    predictor.set_volume(noise_scan())
    prompts = [CLICK, Click((8, 7, 6))]
    predictor.predict(prompts)
    assert prompt_changes(predictor, prompts, Postprocessing()) == []
