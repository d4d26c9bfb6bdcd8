"""How a verb's options are read off its signature."""

import json
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from palpate.cli.console import Console, Verbs
from palpate.cli.verbs import OptionGroup, verb
from palpate.errors import SettingsError


def _inner(depth: Annotated[int, typer.Option(help="How deep.")] = 1) -> int:
    if depth < 0:
        raise SettingsError(f"--depth {depth}: give 0 or more")
    return depth


Depth = Annotated[int, OptionGroup(_inner)]


def _outer(console: Console, depth: Depth, name: Annotated[str, typer.Option()] = "a") -> tuple[Console, int, str]:
    return console, depth, name


Outer = Annotated[tuple[Console, int, str], OptionGroup(_outer)]


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer(cls=Verbs)

    @verb(app, examples=("palpate dig here",))
    def dig(console: Console, place: Annotated[str, typer.Argument()], outer: Outer, twice: bool = False) -> None:
        """Dig somewhere."""
        inner_console, depth, name = outer
        assert inner_console is console
        console.result({"place": place, "depth": depth, "name": name, "twice": twice}, [f"dug {depth} at {place}"])

    @verb(app, "fill-in", examples=("a", "b"))
    def fill(console: Console) -> None:
        """Fill."""

    return app


def run(app: typer.Typer, *words: str) -> Any:
    return CliRunner().invoke(app, words, prog_name="palpate", catch_exceptions=False)


def test_groups_and_own_options_arrive(app: typer.Typer) -> None:
    assert run(app, "dig", "here", "--depth", "3").output == "dug 3 at here\n"
    record = json.loads(run(app, "dig", "here", "--name", "b", "--twice", "--json").stdout)
    assert {key: record[key] for key in ("place", "depth", "name", "twice")} == {
        "place": "here", "depth": 1, "name": "b", "twice": True,
    }  # fmt: skip


def test_an_error_of_a_group_is_one_line(app: typer.Typer) -> None:
    done = run(app, "dig", "here", "--depth", "-1")
    assert (done.exit_code, done.stderr) == (2, "error: --depth -1: give 0 or more\n")


def test_help_has_docstring_options_and_examples(app: typer.Typer) -> None:
    shown = run(app, "dig", "--help").output
    assert "Dig somewhere." in shown
    assert "--depth" in shown
    assert "Example:" in shown
    assert "palpate dig here" in shown
    assert "Examples:" in run(app, "fill-in", "--help").output
