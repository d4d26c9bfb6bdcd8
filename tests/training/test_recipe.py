"""Schedules and lengths, by hand."""

import pytest
from pydantic import ValidationError

from palpate.training.recipe import Recipe, from_nothing


def test_the_papers_schedule() -> None:
    """Linear from 4e-4 to one per cent of it."""
    recipe = Recipe()
    assert recipe.rate(0, 1000) == pytest.approx(4e-4)
    assert recipe.rate(500, 1000) == pytest.approx(4e-4 * (0.01 + 0.99 / 2))
    assert recipe.rate(1000, 1000) == pytest.approx(4e-6)


def test_warm_up_and_cosine() -> None:
    recipe = Recipe(warmup=10, learning_rate=1.0, final_lr_fraction=0.01, schedule="cosine")
    assert recipe.rate(0, 110) == pytest.approx(0.1)
    assert recipe.rate(9, 110) == pytest.approx(1.0)
    assert recipe.rate(60, 110) == pytest.approx(0.505), "half way down the cosine"
    assert recipe.rate(110, 110) == pytest.approx(0.01)


def test_steps_of_epochs() -> None:
    assert Recipe(epochs=500).total(209) == 104_500, "KiTS 2021, batch 1"
    assert Recipe(epochs=2, batch=4).total(10) == 5
    assert Recipe(epochs=2, batch=4).total(10, processes=2) == 3, "20 crops in steps of 8"
    assert Recipe(steps=7).total(209) == 7
    assert Recipe().total(209) == 104_500, "the paper's length where none is given"
    assert from_nothing(12).total(209) == 12
    with pytest.raises(ValidationError, match="epochs and steps both say how long; leave one of them"):
        Recipe(steps=7, epochs=500)


def test_numbers_that_make_no_sense() -> None:
    for wrong in ({"batch": 0}, {"learning_rate": -1.0}, {"precision": "int8"}, {"momentum": 0.9}):
        with pytest.raises(ValidationError):
            Recipe.model_validate(wrong)
