"""The `sorano` command: every command of the modules beside it, in the groups of its help.

stdout is data: the path of the video, or one JSON document with `--json`. stderr is conversation: the plan, notes,
progress, errors. Exit codes are those of `sorano.errors`. Nothing heavy is imported before it is needed, and of the
modules only the one that holds the command that is asked for.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from typing import Annotated, Any

import typer

from sorano import _start, settings
from sorano.cli.console import Commands, close_streams, open_streams
from sorano.errors import EXIT_INTERRUPTED, EXIT_UNEXPECTED, RequestError

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
MODULES = {  # where the commands are
    "desk": ("desk",),
    "export": ("export",),
    "generate": ("generate", "image", "film", "batch", "remix", "resume", "extend", "loop", "blend", "edit"),
    "models": ("list", "pull", "show", "rm", "doctor"),
    "plan": ("plan",),
    "serve": ("serve", "worker", "ps", "cancel"),
    "train": ("train", "score"),
    "trust": ("verify", "mark", "label", "keys", "trust"),
}


def main() -> None:
    """Runs the command line; the way out for every exit code."""
    program = program_for(sys.argv[1:])
    _start.listen()
    open_streams()
    code = EXIT_INTERRUPTED
    try:
        program()
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


def about(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Text and images in, video out."""


@lru_cache
def program_of(modules: tuple[str, ...] = tuple(MODULES)) -> typer.Typer:
    """The command line with the commands of some modules, grouped and ordered as PANELS has them."""
    app = typer.Typer(
        name="sorano",
        cls=Commands,
        help="Text and images in, video out.",
        epilog='Start with:  sorano generate "a red ball bounces on the grass at sunset"',
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(about)
    for name in modules:
        module = import_module(f"sorano.cli.{name}")
        app.registered_commands += module.commands.registered_commands
        app.registered_groups += module.commands.registered_groups
    panel_of = {name: panel for panel, names in PANELS.items() for name in names}
    order = list(panel_of)
    for found in (app.registered_commands, app.registered_groups):
        for info in found:
            info.rich_help_panel = panel_of[_name_of(info)]
        found.sort(key=lambda info: order.index(_name_of(info)))
    return app


def program_for(words: Sequence[str]) -> typer.Typer:
    """What a command line needs: the module of its command, or all of them.

    All where no command comes first (help, misspelt ones), where a shell asks for completions, and where the user has
    settings, which are held against the options of every command.
    """
    module = next((name for name, commands in MODULES.items() if words and words[0] in commands), None)
    if module is None or "_SORANO_COMPLETE" in os.environ or _has_settings():
        return program_of()
    return program_of((module,))


def _has_settings() -> bool:
    """Whether the user has settings, damaged ones included."""
    try:
        return bool(settings.read())
    except RequestError:
        return True


def _name_of(info: Any) -> str:
    return str(info.name or info.callback.__name__)
