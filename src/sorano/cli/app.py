"""The `sorano` command: every command of the modules beside it, in the groups of its help.

stdout is data: the path of the video, or one JSON document with `--json`. stderr is conversation: the plan, notes,
progress, errors. Exit codes are those of `sorano.errors`. Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer

from sorano import _start
from sorano.cli import desk, export, generate, models, plan, serve, train, trust
from sorano.cli.console import Commands, close_streams, open_streams
from sorano.errors import EXIT_INTERRUPTED, EXIT_UNEXPECTED

app = typer.Typer(
    name="sorano",
    cls=Commands,
    help="Text and images in, video out.",
    epilog='Start with:  sorano generate "a red ball bounces on the grass at sunset"',
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PANELS = {  # of the help, in order
    "Make": ("generate", "image", "film", "batch", "remix", "resume"),
    "Change a video": ("extend", "loop", "blend", "edit"),
    "Who made it": ("verify", "mark", "label", "keys", "trust"),
    "Serve": ("serve", "worker", "ps", "cancel"),
    "Models and this machine": ("list", "pull", "show", "rm", "doctor"),
    "Plan, train, score": ("plan", "train", "score"),
    "Elsewhere": ("export",),
    "Confirm": ("desk",),  # groups alone: they are shown after commands
}


def main() -> None:
    """Runs the command line; the way out for every exit code."""
    _start.listen()
    open_streams()
    code = EXIT_INTERRUPTED
    try:
        app()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else EXIT_UNEXPECTED if end.code else 0
    except KeyboardInterrupt:
        pass
    # What was asked for is done, or given up: a key pressed now must not make Python, which is ending, end otherwise.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = close_streams(code)
    if code == EXIT_INTERRUPTED:
        # Not sys.exit: Python itself ends with SIGINT's own code where the key was pressed during certain imports.
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(EXIT_INTERRUPTED)
    sys.exit(code)


def _print_version(wanted: bool) -> None:
    if wanted:
        from sorano import __version__

        print(__version__)
        raise typer.Exit()


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Text and images in, video out."""


def _add_commands() -> None:
    """Add the commands of all modules, grouped and ordered as PANELS has them."""
    for module in (desk, export, generate, models, serve, train, trust):
        app.registered_commands += module.commands.registered_commands
        app.registered_groups += module.commands.registered_groups
    app.add_typer(plan.app, name="plan")
    panel_of = {name: panel for panel, names in PANELS.items() for name in names}
    order = list(panel_of)
    for found in (app.registered_commands, app.registered_groups):
        for info in found:
            info.rich_help_panel = panel_of[_name_of(info)]
        found.sort(key=lambda info: order.index(_name_of(info)))


def _name_of(info: Any) -> str:
    return str(info.name or info.callback.__name__)


_add_commands()
