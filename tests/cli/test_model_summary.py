"""A model on a screen."""

from typing import Any

import pytest

from palpate.bundle import describe, without_prompt_encoder
from palpate.cli.model_summary import described, summary
from small import prompted_bundle, small_bundle


def record(**provenance: Any) -> dict[str, Any]:
    made = describe(small_bundle())
    return made | {"provenance": made["provenance"] | provenance}


def test_the_prompts_that_a_model_takes() -> None:
    assert "prompts: foreground clicks" in summary(record())
    assert "prompts: clicks, boxes, strokes, lassos and initial masks" in summary(describe(prompted_bundle()))
    automatic = summary(describe(without_prompt_encoder(small_bundle())))
    assert "prompts: none: an automatic model, for `palpate propose`" in automatic


def test_long_texts_are_cut_to_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = summary(record(origin="made of " + "words " * 100, data=["a cohort " * 30, "another"]))
    assert max(map(len, lines)) <= 80
    assert sum("words" in line for line in lines) == 2
    assert lines[-1] == "  another"
    assert lines[-2].endswith("...")


def test_few_figures_are_shown_and_many_counted() -> None:
    few = summary(record(figures={"test": {"dice": 0.9, "interval": [0.8, 0.95]}}))
    assert few[-4:] == ["figures", "  test", "    dice: 0.9", "    interval: [0.8, 0.95]"]
    many = summary(record(figures={f"cohort {n}": {"dice": 0.9} for n in range(9)}))
    assert many[-1] == "figures: 9 tables of held-out patients, in --all"


def test_nothing_empty_is_described() -> None:
    shown = described({"a": 1234567, "b": None, "c": {"d": [], "e": "x"}, "f": ["one", "two"], "g": True})
    assert shown == ["a: 1,234,567", "c", "  e: x", "f", "  one", "  two", "g: True"]
