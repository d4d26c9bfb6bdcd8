"""How a verb is registered: its options are read off a signature, and those that verbs share come as one value."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import typer

from .console import Console, Invocation, JsonOption, LogOption, QuietOption, VerbCommand, log_beginning
from .log_file import close_log, open_log

Verb = TypeVar("Verb", bound=Callable[..., None])


@dataclass(frozen=True)
class OptionGroup:
    """Options that several verbs share.

    A verb takes them as one parameter, annotated `Annotated[Value, OptionGroup(build)]`.

    Attributes:
        build: a function whose parameters are the options, and which returns the value; a parameter may be another
            group, or the `Console`.
    """

    build: Callable[..., Any]


def _keyword(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:  # noqa: ANN401
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


COMMON = (
    _keyword("machine", JsonOption, False),
    _keyword("quiet", QuietOption, False),
    _keyword("log", LogOption, None),
)


def verb(within: typer.Typer, name: str | None = None, *, examples: tuple[str, ...]) -> Callable[[Verb], Verb]:
    """Register a function as a verb; its docstring is the verb's help.

    Its parameters are Typer's, with two additions: one of the type `Console` is made for it, with the options `--json`,
    `--quiet` and `--log`, and an `OptionGroup` stands for its options. A user's error becomes one line and exit code 2.

    Args:
        within: the application that it belongs to.
        name: its name; the function's by default.
        examples: command lines for its help.
    """

    def register(function: Verb) -> Verb:

        def command(context: typer.Context, machine: bool, quiet: bool, log: Path | None, **given: Any) -> None:
            invocation: Invocation = context.find_root().obj or Invocation()  # of an app of one verb
            console = Console(machine, invocation.quiet_in(context, quiet), config=invocation.config)
            with console.reporting():
                if log is not None:
                    open_log(log)
                    context.call_on_close(close_log)
                    log_beginning(invocation)
                _call(function, given, console, context)

        options = [_keyword("context", typer.Context), *_options(function), *COMMON]
        command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined] # functions may have one
        lines = "\n\n".join(f"`{example}`" for example in examples)
        epilog = f"Example{'s' * (len(examples) > 1)}:\n\n{lines}"
        called = name or function.__name__.replace("_", "-")
        within.command(called, cls=VerbCommand, help=inspect.getdoc(function), epilog=epilog)(command)
        return function

    return register


def _options(function: Callable[..., Any]) -> Iterator[inspect.Parameter]:
    """The options of a function and of its groups, in their order."""
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        group = _group(parameter)
        if group is not None:
            yield from _options(group.build)
        elif parameter.annotation not in (Console, typer.Context):
            yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)


def _call(function: Callable[..., Any], given: dict[str, Any], console: Console, context: typer.Context) -> Any:  # noqa: ANN401 - a group's value
    """Call a function with the options that were given, its groups built first."""
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        group = _group(parameter)
        if group is not None:
            arguments[name] = _call(group.build, given, console, context)
        elif parameter.annotation is Console:
            arguments[name] = console
        elif parameter.annotation is typer.Context:
            arguments[name] = context
        else:
            arguments[name] = given[name]
    return function(**arguments)


def _group(parameter: inspect.Parameter) -> OptionGroup | None:
    metadata = getattr(parameter.annotation, "__metadata__", ())
    return next((each for each in metadata if isinstance(each, OptionGroup)), None)
