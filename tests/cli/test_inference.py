"""The options of how to infer."""

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from palpate.cli.console import Console, Verbs
from palpate.cli.inference import Inference, InferenceOptions
from palpate.cli.verbs import verb
from palpate.errors import DeviceError
from palpate.inference import InferenceSettings


def parsed(*words: str) -> InferenceOptions:
    """What a verb gets for some words."""
    app = typer.Typer(cls=Verbs)
    got: list[InferenceOptions] = []

    @verb(app, examples=("a",))
    def infer(console: Console, inference: Inference) -> None:
        """Infer."""
        got.append(inference)

    done: Any = CliRunner().invoke(app, [*words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return got[0]


def test_none_given_are_the_librarys_defaults() -> None:
    assert parsed().settings() == InferenceSettings()


def test_each_arrives() -> None:
    words = (
        "-m", "a.safetensors", "--base", "b.safetensors", "--device", "cpu", "--precision", "bfloat16",
        "--threads", "3", "--no-zoom", "--budget", "5",
    )  # fmt: skip
    assert parsed(*words).settings() == InferenceSettings(
        model="a.safetensors", base=str(Path("b.safetensors")), device="cpu", precision="bfloat16", threads=3,
        zoom=False, budget=5,
    )  # fmt: skip


def test_a_precision_that_there_is_not() -> None:
    with pytest.raises(DeviceError, match="float8"):
        parsed("--precision", "float8").settings()
