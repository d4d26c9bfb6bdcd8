"""Who may import whom: docs/design/architecture.md's table, read off the code."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "palpate"
TABLE = (Path(__file__).parents[1] / "docs" / "design" / "architecture.md").read_text()
ROOMS = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or any(path.glob("*.py"))} - {"__init__"}
WORDS = {"nothing": set[str](), "everything": ROOMS - {"cli"}}


def table(text: str) -> dict[str, set[str]]:
    """What each room may import, of ours, by rows `| room | what it holds | may import; a remark |`."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    may = {row[0].strip("`/"): row[2].partition(";")[0] for row in rows if len(row) == 3}
    return {room: WORDS[others] if others in WORDS else set(others.split(", ")) for room, others in may.items()}


ALLOWED = table(TABLE) | {"__init__": WORDS["everything"]}
NO_TORCH = set(re.findall(r"`(\w+)`", re.findall(r"\n\n((?:(?!\n\n)[^.])*)\simport\sno\storch\.", TABLE)[0]))
MODEL_MAY = {"torch", "pydantic", "typing", "__future__", "collections", "math"}
MAX_LINES, MAX_COMPLEXITY = 40, 15


def imports(tree: ast.Module, module: str) -> Iterator[str]:
    """Every module that a module of ours imports, wherever in it; ours as `palpate.room...`."""
    package = module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"palpate.{name.name}" for name in node.names) if origin == "palpate" else (origin,)


def violations(source: str, module: str) -> list[str]:
    """What a module's source breaks; `module` is its full name, a package's own file being `palpate.room.__init__`."""
    room = module.split(".")[1]
    broken = []
    for target in imports(ast.parse(source), module):
        parts = target.split(".")
        if parts[0] == "palpate":
            other = parts[1] if len(parts) > 1 else "__init__"
            if other not in ALLOWED[room] | {room, "__version__"}:
                broken.append(f"{module} imports {target}")
        elif (room in NO_TORCH and parts[0] == "torch") or (room == "model" and parts[0] not in MODEL_MAY):
            broken.append(f"{module} imports {target}")
    return broken


def modules() -> list[tuple[str, Path]]:
    return [(".".join(("palpate", *p.relative_to(SOURCE).with_suffix("").parts)), p) for p in SOURCE.rglob("*.py")]


def statements(tree: ast.Module) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import of a module but those for type checkers."""
    checking = (n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    skipped = {node for block in checking for node in ast.walk(block)}
    yield from (n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom)) and n not in skipped)


def modules_imported(path: Path, module: str, known: set[str]) -> set[str]:
    """The modules of ours that one imports, wherever in it; a package stands for its own file."""
    package = module.split(".")[: None if path.name == "__init__.py" else -1]
    found: set[str] = set()
    for node in statements(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
            continue
        base = package[: len(package) - node.level + 1] if node.level else []
        origin = ".".join([*base, *([node.module] if node.module else [])])
        found |= {f"{origin}.{name.name}" if f"{origin}.{name.name}" in known else origin for name in node.names}
    return found & known - {"palpate", module}


def test_no_import_circle() -> None:
    """Between modules, imports inside functions among them."""
    files = {name.removesuffix(".__init__"): path for name, path in modules()}
    graph = {name: modules_imported(path, name, set(files)) for name, path in files.items() if name != "palpate"}
    assert len(graph) > 100
    assert sum(map(len, graph.values())) > 300
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    with pytest.raises(CycleError):
        list(TopologicalSorter({**graph, "palpate.errors": {"palpate.predictor"}}).static_order())


def test_rooms_import_only_rooms_above_them() -> None:
    """The table's rows are in the order of the arrows: none points back up."""
    rows = list(table(TABLE).items())
    for number, (room, may) in enumerate(rows):
        assert may <= {above for above, _ in rows[:number]}, room


def test_made_targets_and_training_know_nothing_of_each_other() -> None:
    """What measures a model must not be what trained it: neither generator of targets reaches the other by imports."""
    files = {name.removesuffix(".__init__"): path for name, path in modules()}
    graph = {name: modules_imported(path, name, set(files)) for name, path in files.items()}
    made = {"palpate.evaluation.made_targets", "palpate.evaluation.made_shapes"}
    reached, ahead = set[str](), set(made)
    while ahead:
        reached |= ahead
        ahead = set().union(*(graph[name] for name in ahead)) - reached
    trains = {name for name in files if name.split(".")[1:2] in (["cohort"], ["training"])}
    assert reached & trains == {"palpate.cohort.scans", "palpate.cohort.split"}, (
        "scans and their patients, no generator"
    )
    importers = {name for name, others in graph.items() if others & made}
    assert importers == {"palpate.evaluation.made_targets"}, "and benchmarks alone paint made targets"


def bodies(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Each function's name, and the lines of its body without signature and docstring."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            yield node.name, (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_no_function_is_long() -> None:
    long = {
        f"{name}.{function}": lines
        for name, path in modules()
        for function, lines in bodies(ast.parse(path.read_text()))
        if lines > MAX_LINES
    }
    assert long == {}
    (found,) = bodies(ast.parse('def f(\n    x: int,\n) -> int:\n    """What it does."""\n    y = x\n\n    return y'))
    assert found == ("f", 3)


def test_no_function_is_complex() -> None:
    """Ruff counts; the limit is in pyproject.toml."""
    settings = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "C90" in settings["select"]
    assert settings["mccabe"]["max-complexity"] == MAX_COMPLEXITY
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "C901", "src"]
    found = subprocess.run(command, cwd=SOURCE.parents[1], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, ""), found.stdout


def test_every_room_has_a_rule() -> None:
    assert {name.split(".")[1] for name, _ in modules()} == ALLOWED.keys()
    assert all(may <= ROOMS for may in ALLOWED.values())


def test_targets_that_train_and_targets_that_judge_share_no_code() -> None:
    """Else a model would be judged on what it was taught."""
    files = (SOURCE / "cohort" / "targets").glob("*.py")
    makers = {"palpate.cohort.targets", *(f"palpate.cohort.targets.{path.stem}" for path in files)}
    for name, path in modules():
        found = set(imports(ast.parse(path.read_text()), name))
        if name.startswith("palpate.evaluation"):
            assert not {other for other in found if other in makers or other.startswith("palpate.cohort.sampling")}, (
                name
            )
        if name.startswith("palpate.cohort"):
            assert not {other for other in found if other.startswith("palpate.evaluation")}, name
    assert "palpate.cohort.targets.painting" in makers


def test_the_table_is_read() -> None:
    text = (
        "| `atomic` | files | errors |\n| `model/` | torch | nothing |\n| `volume` | grids | errors, atomic; more |\n"
    )
    assert table(text) == {"atomic": {"errors"}, "model": set(), "volume": {"errors", "atomic"}}
    assert {"volume", "prompt_text", "formats"} <= NO_TORCH <= ROOMS


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name for name, _ in modules()])
def test_imports_keep_to_the_rules(module: str, path: Path) -> None:
    assert violations(path.read_text(), module) == []


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("import torch", "palpate.volume"),
        ("from .formats import read", "palpate.volume"),
        ("def f():\n    from ..prompts import Click", "palpate.formats.reading"),
        ("class Volume:\n    def save(self):\n        from .formats import write", "palpate.volume"),
        ("from ..frame import Frame", "palpate.model.network"),
        ("import numpy", "palpate.model.network"),
        ("from .cli import app", "palpate.predictor"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .bundle import Bundle", "palpate.frame"),
        ("from palpate import predictor", "palpate.bundle"),
        ("def f():\n    import torch.nn", "palpate.pictures.planes"),
    ],
)
def test_a_broken_rule_is_seen(source: str, module: str) -> None:
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize("entry", ["palpate", "palpate.cli", "palpate.formats", "palpate.volume"])
def test_heavy_libraries_are_imported_where_they_are_used(entry: str) -> None:
    heavy = ["torch", "nibabel", "SimpleITK", "pydicom", "matplotlib", "scipy", "safetensors"]
    code = f"import sys, {entry}; print([name for name in {heavy} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_no_room_for_odds_and_ends() -> None:
    assert not {path.stem for path in SOURCE.rglob("*.py")} & {"utils", "helpers", "common", "misc"}
