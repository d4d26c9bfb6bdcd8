"""The command line: thin verbs over the library. Heavy imports are made inside them."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, Any

import typer

from ..errors import PalpateWarning
from ..openmp import wait_passively
from . import (  # noqa: F401 - each registers its verbs
    audit,
    batch,
    doctor,
    fetch,
    models,
    phantom,
    propose,
    resample,
    segment,
    session,
    session_picture,
    training,
)
from .console import STOPPED, LogOption, QuietOption, app, begin
from .log_file import LOG

__all__ = ["app", "main"]

PANELS = {  # of the help, and the verbs in each
    "Segment": ("segment", "batch", "propose", "session", "resample"),
    "Train": ("audit", "prepare", "train"),
    "Models": ("info", "fetch", "import", "export"),
    "Try and check": ("phantom", "doctor"),
}


def _arrange(panels: dict[str, tuple[str, ...]]) -> None:
    """Show the verbs in panels, in their order."""
    panel_of = {verb: panel for panel, verbs in panels.items() for verb in verbs}
    order = list(panel_of)
    for group in app.registered_groups:
        group.rich_help_panel = panel_of[str(group.name)]
    for command in app.registered_commands:
        name = command.name or getattr(command.callback, "__name__", "")
        command.name, command.rich_help_panel = name, panel_of[str(name)]
    app.registered_commands.sort(key=lambda command: order.index(str(command.name)))


_arrange(PANELS)


@app.callback(invoke_without_command=True)
def _common(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    quiet: QuietOption = False,
    log: LogOption = None,
) -> None:
    if version:
        from .. import __version__

        typer.echo(f"palpate {__version__}")
        raise typer.Exit
    begin(context, quiet, log)


def _show_warning(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    """Print a warning of ours as one line, as a `Console` does; others as Python does."""
    LOG.warning("%s: %s", category.__name__, message)
    if issubclass(category, PalpateWarning):
        typer.secho(f"warning: {message}", fg="yellow", err=True)
    else:
        _PYTHONS(message, category, *place, **more)


_PYTHONS = warnings.showwarning


def main() -> None:
    """The `palpate` command."""
    wait_passively()  # before a verb imports torch
    warnings.showwarning = _show_warning
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(STOPPED)
