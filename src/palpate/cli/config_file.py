"""`palpate.toml`: a user's defaults of options.

::

    log = "palpate.log"

    [segment]
    model = "models/liver.safetensors"
    device = "cpu"

    [session]
    model = "models/liver.safetensors"

    [session.add]
    box = ["100,70,40,140,110,52"]

A table holds the options of a verb by their long names; one of `session` those of each of its verbs that has them. The
file is read strictly: what no verb knows, and a value of another type than the option's, are errors. A relative path
counts from the file's folder. What the command line says wins.
"""

from __future__ import annotations

import difflib
import inspect
import os
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from ..errors import SettingsError
from ..files import error_text

NAME = "palpate.toml"
VARIABLE = "PALPATE_CONFIG"
OF_ALL = ("quiet", "log")  # options before the verb that may be set
NOT_SET = ("version",)
FILES_OR_NAMES = ("model", "proposer", "init", "preset", "initial-mask")  # options of text that may name a file
_KINDS: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((float, int), "a number"),
}
_TEXT = ((str,), "a text in quotes")


@dataclass(frozen=True)
class Defaults:
    """What a file sets.

    Attributes:
        path: the file; None: there is none.
        quiet: see `--quiet`.
        log: see `--log`.
        verbs: values by verb and parameter; those of a verb below another, by both.
    """

    path: Path | None = None
    quiet: bool = False
    log: Path | None = None
    verbs: dict[str, Any] = field(default_factory=dict)


def find_config() -> Path | None:
    """The file to read: the one that PALPATE_CONFIG names, that of the current folder, or that of the user's folder.

    Returns:
        None: there is none, or PALPATE_CONFIG is empty.

    Raises:
        SettingsError: PALPATE_CONFIG names a file that is not there, or the home folder of no user.
    """
    named = os.environ.get(VARIABLE)
    if named is not None and not named.strip():
        return None
    if named is not None:
        path = _expanded(named, VARIABLE)
        if not path.is_file():
            raise SettingsError(
                f"{VARIABLE} names {named}, and there is no such file; correct it, or set it to nothing"
            )
        return path
    return next((path for path in places() if path.is_file()), None)


def places() -> tuple[Path, Path]:
    """Where the file may lie: in the current folder, and in the user's folder of configuration."""
    from platformdirs import user_config_path

    return Path(NAME), user_config_path("palpate", appauthor=False) / NAME


def read_config(path: Path, verbs: Any) -> Defaults:  # noqa: ANN401 - Typer's group, which it keeps to itself
    """The defaults that a file sets.

    Args:
        path: the file.
        verbs: the group of all verbs, which has their options.

    Raises:
        SettingsError: it cannot be read, is no TOML, or sets what no verb knows; the message names file, table and key.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error_text(error)})") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: not a TOML file ({error}); correct it, or set {VARIABLE} to nothing") from error
    reader = _Reader(path)
    tables = {key: value for key, value in content.items() if isinstance(value, dict)}
    own = {option: param for option, param in _options(verbs).items() if option in OF_ALL}
    plain = reader.values({key: value for key, value in content.items() if key not in tables}, own, "before the tables")
    log = plain.get("log")
    found = reader.tables(tables, verbs, "")
    return Defaults(path, bool(plain.get("quiet", False)), None if log is None else Path(log), found)


@dataclass(frozen=True)
class _Reader:
    """Reads the tables of one file."""

    path: Path

    def tables(self, tables: dict[str, Any], group: Any, above: str) -> dict[str, Any]:  # noqa: ANN401 - the same
        """Values by verb and parameter of the tables of a group's verbs.

        Args:
            tables: by verb.
            group: the group of these verbs.
            above: what stands before a verb's name, as "session.".
        """
        found = {}
        for name, table in tables.items():
            if name not in group.commands:
                raise SettingsError(f"{self.path}: [{above}{name}]: no such verb{_instead(name, group.commands)}")
            command = group.commands[name]
            if hasattr(command, "commands"):
                found[name] = self._group(table, command, f"{above}{name}")
            else:
                found[name] = self.values(table, _options(command), f"[{above}{name}]")
        return found

    def _group(self, table: dict[str, Any], group: Any, name: str) -> dict[str, Any]:  # noqa: ANN401 - the same
        """Values of a group: its plain keys are those of each of its verbs that has such an option."""
        below = {key: value for key, value in table.items() if isinstance(value, dict)}
        common = {key: value for key, value in table.items() if key not in below}
        found = self.tables(below, group, f"{name}.")
        every = {verb: _options(command) for verb, command in group.commands.items()}
        self.values(common, {key: param for options in every.values() for key, param in options.items()}, f"[{name}]")
        for verb, options in every.items():
            some = {key: value for key, value in common.items() if key in options}
            found[verb] = self.values(some, options, f"[{name}]") | found.get(verb, {})
        return found

    def values(self, table: dict[str, Any], options: dict[str, _Option], where: str) -> dict[str, Any]:
        """Checked values by parameter.

        Args:
            table: by option.
            options: the parameters that may be set, by option.
            where: the table, as an error calls it.
        """
        found = {}
        for key, value in table.items():
            if key not in options:
                raise SettingsError(f"{self.path}: {where} {key}: no such option{_instead(key, options)}")
            found[options[key].name] = self._checked(value, options[key], f"{self.path}: {where} {key}", key)
        return found

    def _checked(self, value: Any, param: _Option, what: str, key: str) -> Any:  # noqa: ANN401 - of TOML's types
        if not param.repeats:
            return self._one(value, param, what, key)
        if not isinstance(value, list):
            raise SettingsError(f"{what} = {value!r}: the option may be repeated; give a list, as [{value!r}]")
        return [self._one(each, param, what, key) for each in value]

    def _one(self, value: Any, param: _Option, what: str, key: str) -> Any:  # noqa: ANN401 - of TOML's types
        types, words = _KINDS.get(param.kind, _TEXT)
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise SettingsError(f"{what} = {value!r}: give {words}")
        if not isinstance(value, str) or not (param.kind is Path or key in FILES_OR_NAMES):
            return value
        place = self.path.parent / _expanded(value, what)
        return str(place) if param.kind is Path or place.is_file() else value


def _expanded(path: str, what: str) -> Path:
    """A path whose `~` is the home folder; `what` sets it, for the error.

    Raises:
        SettingsError: `~name` of no user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise SettingsError(f"{what} = {path!r}: there is no such user's home folder; write the folder out") from error


@dataclass(frozen=True)
class _Option:
    """An option that may be set.

    Attributes:
        name: the parameter's.
        kind: of its values: bool, int, float, Path, or a kind of text.
        repeats: whether it may be given several times.
    """

    name: str
    kind: Any
    repeats: bool


def _options(command: Any) -> dict[str, _Option]:  # noqa: ANN401 - Typer's
    """A verb's options that may be set, by their long names without dashes."""
    parameters = inspect.signature(command.callback, eval_str=True).parameters
    found = {}
    for param in command.params:
        for name in param.opts:
            if name.startswith("--") and param.name in parameters and name[2:] not in NOT_SET:
                found[name[2:]] = _option(param.name, parameters[param.name].annotation)
    return found


def _option(name: str, annotation: Any) -> _Option:  # noqa: ANN401 - a type's expression
    """An option by its annotation, as `Annotated[list[str] | None, ...]`."""
    kind = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    if get_origin(kind) in (Union, UnionType):
        kind = next(each for each in get_args(kind) if each is not type(None))
    repeats = get_origin(kind) is list
    return _Option(name, get_args(kind)[0] if repeats else kind, repeats)


def _instead(name: str, known: Iterable[str]) -> str:
    """The names that there are; the nearest first, if one is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    question = f". Did you mean {near[0]!r}?" if near else "."
    return f"{question} There are {', '.join(names)}"
