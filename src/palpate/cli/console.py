"""What every verb shares: the application, its common options, and its output."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ..errors import PalpateError, out_of_memory
from ..files import error_text
from .config_file import Defaults, find_config, read_config
from .log_file import LOG, close_log, open_log
from .old_spellings import modern

if TYPE_CHECKING:
    from ..volume import Volume

HELP = {"-h", "--help"}
FAULTY = 1  # exit code of work that was done, but not on everything
STOPPED = 130  # exit code after Ctrl-C, as shells have it
FAILED = 2  # exit code of everything a user can mend
SECONDS_BETWEEN_LINES = 30.0  # of progress where nobody watches
OUT_OF_MEMORY = "not enough memory: close what else runs, use another device (--device cpu), or a smaller model"


@dataclass
class Invocation:
    """A command line, as it is done.

    Attributes:
        words: what follows `palpate`, in today's spelling.
        renamed: for each old spelling, a clause that names the new one.
        quiet: what `--quiet` or `--no-quiet` before the verb says, else the configuration.
        quiet_given: whether one of them was given.
        config: the file of the user's defaults; None: there is none.
    """

    words: list[str] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)
    quiet: bool = False
    quiet_given: bool = False
    config: Path | None = None

    def quiet_in(self, verb: typer.Context, quiet: bool) -> bool:
        """Whether a verb is quiet; the words after it say so first, then those before it, then the configuration.

        Args:
            verb: its context.
            quiet: the option's value there.
        """
        source = verb.get_parameter_source("quiet")
        if source is None or source.name == "DEFAULT" or (source.name != "COMMANDLINE" and self.quiet_given):
            return self.quiet
        return quiet


def _take_back(command: Any, parser: Any) -> Any:  # noqa: ANN401 - Typer's own, which it keeps to itself
    """Let a parser take `--no-NAME` for each flag of a command, which takes back what the user's defaults set.

    The help does not have it: without such defaults it does nothing.
    """
    for option in command.params:
        if getattr(option, "is_bool_flag", False) and not option.secondary_opts and not option.is_eager:
            names = [f"--no-{name[2:]}" for name in option.opts if name.startswith("--")]
            parser.add_option(obj=option, opts=names, dest=option.name, action="store_const", const=False)
    return parser


class VerbCommand(TyperCommand):
    """A verb, whose flags can be taken back."""

    def make_parser(self, ctx: Any) -> Any:  # noqa: ANN401 - the same
        """The parser of its words."""
        return _take_back(self, super().make_parser(ctx))


class Verbs(TyperGroup):
    """All verbs; a word that no verb knows is an error of one line, as any other error is."""

    def make_parser(self, ctx: Any) -> Any:  # noqa: ANN401 - Typer's own, which it keeps to itself
        """The parser of the words before the verb."""
        return _take_back(self, super().make_parser(ctx))

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **named: Any) -> Any:  # noqa: ANN401 - Typer's own, which it keeps to itself
        """Read the words before the verb; old spellings are translated, and one line names the new ones."""
        words, clauses = modern(args)
        if clauses and not named.get("resilient_parsing"):  # which is how a shell completes words
            typer.secho(f"renamed: {'; '.join(clauses)}", fg="yellow", err=True)
        with _usage():
            context = super().make_context(info_name, list(words), *rest, **named)
        context.obj = Invocation(words, clauses)
        return context

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - the same
        """Read the verb and the words after it, and do it."""
        with _usage(ctx):
            return super().invoke(ctx)


@contextmanager
def _usage(within: Any = None) -> Iterator[None]:  # noqa: ANN401 - the same
    """Turn a word that no verb knows into one line and exit code 2."""
    try:
        yield
    except Exception as error:
        # Where these errors are defined differs between Typer's versions; all can write a message, as no other can.
        if not hasattr(error, "format_message") or type(error).__name__ == "NoArgsIsHelpError":
            raise
        message = " ".join(error.format_message().split()).rstrip(".")
        context = getattr(error, "ctx", None)
        if context is not None:
            verb = context.command_path
        else:  # an option without its value does not know whose it is
            verb = "palpate" if within is None else f"{within.command_path} {within.invoked_subcommand or ''}".rstrip()
        end = "" if message.endswith("?") else "."
        if re.search(r"unexpected extra argument\S* \(-?[\d.,]", message):
            end += " The numbers of a place stand without spaces: --click 120,88,45."
        if "Missing option '--model'" in message and verb.endswith("propose"):
            end += " No model that proposes lesions ships: train one with palpate train --automatic."
        line = f"{message}{end} See `{verb} --help`"
        LOG.error(line)
        typer.secho(f"error: {line}", fg="red", err=True)
        raise typer.Exit(FAILED) from error


def given_options(context: typer.Context) -> dict[str, str]:
    """What was given on the command line: parameters' names, and what the user calls them."""
    return {
        name: option.opts[0] if option.opts[0].startswith("-") else name.upper()
        for option in context.command.params
        if (name := option.name or "") and (source := context.get_parameter_source(name))
        if source.name == "COMMANDLINE"
    }


app = typer.Typer(
    cls=Verbs,
    help="Palpate: one click on a tumour in a 3-D scan, its mask back. Research software, not a medical device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": sorted(HELP)},
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print nothing but warnings, errors, and what --json asks for.")
]
LogOption = Annotated[
    Path | None, typer.Option("--log", metavar="FILE", help="Add all messages, with their time, to this file.")
]


def begin(context: typer.Context, quiet: bool, log: Path | None) -> None:
    """Read the user's defaults, for the verb that follows, and open the log.

    Args:
        context: of all verbs.
        quiet: whether `--quiet` was given before the verb.
        log: the file that was given before it.
    """
    invocation: Invocation = context.obj
    context.call_on_close(close_log)
    with Console(quiet=quiet).reporting():
        if log is not None:  # first, so that what is wrong with the defaults is logged
            open_log(log)
        try:
            path = find_config()
            defaults = Defaults() if path is None else read_config(path, context.command)
            if log is None and defaults.log is not None:
                open_log(defaults.log)
        except PalpateError as error:
            if not HELP.intersection(invocation.words):
                raise
            typer.secho(f"warning: {error}; the defaults below are Palpate's own", fg="yellow", err=True)
            path, defaults = None, Defaults()
    context.default_map = defaults.verbs
    invocation.quiet_given = "quiet" in given_options(context)
    invocation.quiet = quiet if invocation.quiet_given else defaults.quiet
    invocation.config = path
    log_beginning(invocation)


def log_beginning(invocation: Invocation) -> None:
    """Begin a command's part of the log: version, words, and the file of defaults."""
    from .. import __version__

    LOG.info("palpate %s: %s", __version__, shlex.join(invocation.words))
    LOG.info("configuration: %s", invocation.config or "none")
    if invocation.renamed:
        LOG.warning("renamed: %s", "; ".join(invocation.renamed))


@dataclass
class Console:
    """A verb's output: progress and warnings on the error stream, results on the output stream (JSON for machines).

    Attributes:
        machine: print one JSON object instead of sentences.
        quiet: print nothing but warnings, errors and the JSON object.
        silent: print and log nothing but errors; for all processes of a training but the first.
        config: the file of the user's defaults; None: there is none.
        seconds: how long each named step took.
        warned: warnings so far.
    """

    machine: bool = False
    quiet: bool = False
    silent: bool = False
    config: Path | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    warned: list[str] = field(default_factory=list)

    @contextmanager
    def step(self, name: str, doing: str) -> Iterator[Callable[[float], None]]:
        """Time a step and show that it runs; yields a function that takes the fraction done, 0 to 1."""
        from rich.console import Console as Terminal

        began = time.perf_counter()
        if self.live:
            with Terminal(stderr=True).status(doing) as status:
                yield lambda fraction: status.update(f"{doing} {fraction:.0%}")
        else:
            yield lambda fraction: None
        seconds = time.perf_counter() - began
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        if not self.silent:
            LOG.info("%s: %.3f s", doing, seconds)

    def read(self, scan: Path, series: str | None = None) -> Volume:
        """A scan; what its reader doubts is printed as warnings.

        Args:
            scan: its file, or a folder of DICOM slices.
            series: which DICOM series.

        Raises:
            ScanError: see `formats.read`.
        """
        with self.step("read", f"reading {scan}"):
            from ..formats import read

            volume = read(scan, series=series, warn=False)
        for note in volume.notes:
            self.warn(note)
        return volume

    def warn(self, sentence: str) -> None:
        """Print a warning on the error stream, for people; machines find it in the result."""
        self.warned.append(sentence)
        if not self.silent:
            LOG.warning(sentence)
        if not self.machine and not self.silent:
            typer.secho(f"warning: {sentence}", fg="yellow", err=True)

    @property
    def live(self) -> bool:
        """Whether a person watches: a terminal, and no request for JSON or for quiet."""
        from rich.console import Console as Terminal

        return not self.machine and not self.quiet and not self.silent and Terminal(stderr=True).is_terminal

    def info(self, sentence: str) -> None:
        """Print a sentence on the error stream, for people alone."""
        if self.silent:
            return
        LOG.info(sentence)
        if not self.machine and not self.quiet:
            typer.echo(sentence, err=True)

    @contextmanager
    def bar(self, doing: str, total: int, done: int = 0) -> Iterator[Callable[[int, str], None]]:
        """A progress bar with time left; yields a function that takes how many are done, and a few words.

        Where nobody watches, as in a log, a line now and then says how many are done.
        """
        if not self.live:
            yield self._lines(doing, total)
            return
        from rich.console import Console as Terminal
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn(doing),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[words]}"),
        )
        with Progress(*columns, console=Terminal(stderr=True), redirect_stdout=False) as progress:
            task = progress.add_task(doing, total=total, completed=done, words="")
            yield lambda count, words: progress.update(task, completed=count, words=words)

    def _lines(self, doing: str, total: int) -> Callable[[int, str], None]:
        """What prints a line of progress now and then."""
        printed = time.monotonic()

        def advance(count: int, words: str) -> None:
            nonlocal printed
            if time.monotonic() - printed >= SECONDS_BETWEEN_LINES and count < total:
                printed = time.monotonic()
                self.info(f"{doing}: {count} of {total}, last {words}")

        return advance

    def result(self, record: dict[str, Any], sentences: list[str], problems: Sequence[str] = ()) -> None:
        """Print the result, as one JSON object or as sentences.

        Args:
            record: for machines; it has the problems too.
            sentences: for people, on the output stream; not printed if quiet.
            problems: for people, what failed or is doubtful, on the error stream; printed if quiet too.
        """
        if self.silent:
            return
        for problem in problems:
            LOG.warning(problem)
            if not self.machine:
                typer.secho(problem, fg="yellow", err=True)
        for sentence in sentences:
            LOG.info(sentence)
        if self.machine:
            rounded = {step: round(value, 3) for step, value in self.seconds.items()}
            typer.echo(json.dumps({**record, "seconds": rounded, "warnings": self.warned}))
        elif not self.quiet:
            for sentence in sentences:
                typer.echo(sentence)

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Turn a user's error into one line and exit code 2; one that nobody foresaw is logged with its traceback."""
        try:
            yield
        except (typer.Exit, typer.Abort):
            raise
        except PalpateError as error:
            self._fail(type(error).__name__, str(error))
            raise typer.Exit(FAILED) from error
        except BrokenPipeError:  # whoever read what is printed has gone
            raise
        except OSError as error:  # of the disk, where nothing below said it better
            place = "" if error.filename is None else f"{error.filename}: "
            self._fail("OSError", f"{place}{error_text(error)}; check it, or name another place")
            raise typer.Exit(FAILED) from error
        except BaseException as error:
            if not out_of_memory(error):
                LOG.error("%s, with which the command ended", type(error).__name__, exc_info=error)
                raise
            self._fail("OutOfMemory", OUT_OF_MEMORY)
            raise typer.Exit(FAILED) from error

    def _fail(self, kind: str, message: str) -> None:
        LOG.error("%s: %s", kind, message)
        if self.machine:
            typer.echo(json.dumps({"error": kind, "message": message}))
        typer.secho(f"error: {message}", fg="red", err=True)
