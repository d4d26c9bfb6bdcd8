"""Python in README.md and docs/ uses names, attributes and arguments that Palpate has."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest

import palpate
from documents import PAGES, prose
from documents import blocks as fenced_blocks

SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
ROOMS = ("palpate", "palpate.batch", "palpate.export", "palpate.session", "palpate.evaluation", "palpate.training")


@dataclass(frozen=True)
class Instance:
    """A value of which only the type is known: a class, or a generic such as `list[Proposal]`."""

    type: Any


UNKNOWN = object()  # nothing of it is checked


def public(name: str) -> Any:
    """What a name means in a sentence: a public one, or an instance of the class that a variable is called after."""
    for module in map(importlib.import_module, ROOMS):
        if name in getattr(module, "__all__", ()):
            return getattr(module, name)
    if name.capitalize() in palpate.__all__:
        return Instance(getattr(palpate, name.capitalize()))
    return UNKNOWN


@dataclass
class Snippet:
    """What is known of the names in a piece of Python, and what is wrong with it.

    Attributes:
        known: values of names.
        sentence: whether it is a part of a sentence, with names that nothing before it defines.
        faults: what does not exist, a line each.
    """

    sentence: bool = False
    known: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def check(self, code: str) -> list[str]:
        """The faults of code; SyntaxError where it is no Python."""
        for node in ast.parse(code).body:
            self.statement(node)
        return self.faults

    def statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "palpate":
                    self.imported(alias.name)
                    self.known[alias.asname or "palpate"] = (
                        importlib.import_module(alias.name) if alias.asname else palpate
                    )
        elif isinstance(node, ast.ImportFrom):
            self.import_from(node)
        elif isinstance(node, ast.For):
            self.bind(node.target, element(self.value(node.iter)))
            for inner in (*node.body, *node.orelse):
                self.statement(inner)
        elif isinstance(node, ast.Assign):
            value = self.value(node.value)
            for target in node.targets:
                self.bind(target, value)
        else:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.stmt):
                    self.statement(child)
                elif isinstance(child, ast.expr):
                    self.value(child)

    def imported(self, name: str) -> Any:
        try:
            return importlib.import_module(name)
        except ImportError:
            self.faults.append(f"no module {name}")
            return UNKNOWN

    def import_from(self, node: ast.ImportFrom) -> None:
        if (node.module or "").split(".")[0] != "palpate":
            return
        module = self.imported(node.module or "")
        for alias in node.names:
            self.known[alias.asname or alias.name] = self.attribute(module, alias.name)

    def bind(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            self.known[target.id] = value
        elif isinstance(target, ast.Tuple):
            kinds = typing.get_args(value.type) if isinstance(value, Instance) else ()
            known = len(kinds) == len(target.elts) and ... not in kinds
            for place, part in enumerate(target.elts):
                self.bind(part, Instance(kinds[place]) if known else UNKNOWN)

    def value(self, node: ast.expr) -> Any:
        """An expression's value or type; all that is in it is checked."""
        if isinstance(node, ast.Name):
            return self.known.get(node.id, public(node.id) if self.sentence else UNKNOWN)
        if isinstance(node, ast.Attribute):
            return self.attribute(self.value(node.value), node.attr)
        if isinstance(node, ast.Call):
            return self.called(node)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.value(child)
        return UNKNOWN

    def attribute(self, owner: Any, name: str) -> Any:
        if isinstance(owner, Instance):
            return self.of_instance(owner.type, name)
        if isinstance(owner, ModuleType | type):
            if not hasattr(owner, name):
                self.faults.append(f"{owner.__name__} has no {name}")
                return UNKNOWN
            return getattr(owner, name)
        return UNKNOWN

    def of_instance(self, kind: Any, name: str) -> Any:
        if not isinstance(kind, type) or not kind.__module__.startswith("palpate"):
            return UNKNOWN
        if name in fields(kind):
            return Instance(fields(kind)[name])
        if not hasattr(kind, name):
            if name not in kind.__init__.__code__.co_names:  # type: ignore[misc]
                self.faults.append(f"{kind.__name__} has no {name}")
            return UNKNOWN
        found = inspect.getattr_static(kind, name)
        if isinstance(found, property) or not callable(getattr(kind, name)):
            return returned(getattr(found, "fget", None) or getattr(found, "func", None))
        return Method(kind, name)

    def called(self, node: ast.Call) -> Any:
        function = self.value(node.func)
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            self.value(argument)
        if function is UNKNOWN:
            if self.sentence and isinstance(node.func, ast.Name):
                self.method_of_any(node, node.func.id)
            return UNKNOWN
        problem = mismatch(function, node)
        if problem:
            self.faults.append(f"{ast.unparse(node)}: {problem}")
        if isinstance(function, type):
            return Instance(function)
        return returned(function.function if isinstance(function, Method) else function)

    def method_of_any(self, node: ast.Call, name: str) -> None:
        """A call of a bare name in a sentence: a method of a public class, of which one takes these arguments."""
        classes = [kind for kind in map(public, palpate.__all__) if isinstance(kind, type)]
        methods = [Method(kind, name) for kind in classes if callable(getattr(kind, name, None))]
        problems = [mismatch(method, node) for method in methods]
        if not problems:
            self.faults.append(f"{name}: no public name, and no method of a public class")
        elif all(problems):
            self.faults.append(f"{ast.unparse(node)}: {problems[0]}")


@dataclass(frozen=True)
class Method:
    """A method of an instance of a class."""

    kind: type
    name: str

    @property
    def function(self) -> Callable[..., Any]:
        return typing.cast(Callable[..., Any], getattr(self.kind, self.name))

    @property
    def has_self(self) -> bool:
        return not isinstance(inspect.getattr_static(self.kind, self.name), staticmethod | classmethod)


def mismatch(function: Any, node: ast.Call) -> str:
    """Why a function does not take a call's arguments; empty where it does, or where `*` or `**` hide them."""
    hidden = any(isinstance(argument, ast.Starred) for argument in node.args)
    if hidden or any(keyword.arg is None for keyword in node.keywords):
        return ""
    bound = isinstance(function, Method) and function.has_self
    signature = inspect.signature(function.function if isinstance(function, Method) else function)
    arguments = [None] * (len(node.args) + bound)
    left_out = any(isinstance(argument, ast.Constant) and argument.value is ... for argument in node.args)
    bind = signature.bind_partial if left_out else signature.bind
    try:
        bind(*arguments, **{str(keyword.arg): None for keyword in node.keywords})
    except TypeError as error:
        return str(error)
    return ""


def fields(kind: type) -> dict[str, Any]:
    """A class's annotated attributes and their types; nothing where a type is imported for type checks alone."""
    try:
        return typing.get_type_hints(kind)
    except NameError:
        return {}


def returned(function: Any) -> Any:
    try:
        kind = typing.get_type_hints(function).get("return", UNKNOWN)
    except (NameError, TypeError):
        return UNKNOWN
    return UNKNOWN if kind is UNKNOWN else Instance(kind)


def element(value: Any) -> Any:
    """What a loop over a value gives."""
    kinds = typing.get_args(value.type) if isinstance(value, Instance) else ()
    return Instance(kinds[0]) if kinds else UNKNOWN


def blocks() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        yield from ((page.name, block.text) for block in fenced_blocks(page) if block.language == "python")


def calls() -> Iterator[tuple[str, str]]:
    """Code in sentences that is Python and calls something; sums are formulas."""
    for page in PAGES:
        for code in SPAN.findall(prose(page.read_text(encoding="utf-8"))):
            try:
                tree = ast.parse(code, mode="eval")
            except SyntaxError:
                continue
            if not isinstance(tree.body, ast.BinOp) and any(isinstance(node, ast.Call) for node in ast.walk(tree)):
                yield page.name, code


def test_there_is_something_to_check() -> None:
    assert {"README.md", "propose.md", "batch.md"} <= {page for page, _ in blocks()}
    assert {"propose.md", "prompts.md", "sessions.md"} <= {page for page, _ in calls()}


@pytest.mark.parametrize(("page", "code"), list(blocks()))
def test_blocks_use_what_exists(page: str, code: str) -> None:
    assert Snippet().check(code) == [], page


@pytest.mark.parametrize(("page", "code"), list(calls()))
def test_calls_in_sentences_use_what_exists(page: str, code: str) -> None:
    assert Snippet(sentence=True).check(code) == [], page


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("import palpate\npalpate.Prior", "palpate has no Prior"),
        ("from palpate.batch import Row", "palpate.batch has no Row"),
        ("import palpate.looks", "no module palpate.looks"),
        ("import palpate\npalpate.Predictor(modle='a')", "unexpected keyword argument 'modle'"),
        ("import palpate\npalpate.read('a').spacings", "Volume has no spacings"),
        ("import palpate\np = palpate.Predictor('a')\nm = p.predict([]).msk", "Prediction has no msk"),
        ("import palpate\nfor p in palpate.Proposer('a').propose(1):\n    p.scores", "Proposal has no scores"),
        ("from palpate import Click\nprint(Click((1, 2, 3), side=True))", "unexpected keyword argument 'side'"),
    ],
)
def test_a_stale_block_fails(code: str, fault: str) -> None:
    (found,) = Snippet().check(code)
    assert fault in found


@pytest.mark.parametrize(
    "code", ["session.add(start=m)", "add(start=m)", "[Prior(m)]", "Click.at(1)", "session.export()", "heed(1)"]
)
def test_a_stale_sentence_fails(code: str) -> None:
    assert Snippet(sentence=True).check(code)
