"""The `sorano` command; `main` runs it, `app` is the typer application that tests and documentation read."""

from typing import Any

from sorano.cli.commands import main, program_of


def __getattr__(name: str) -> Any:
    """`app` imports every module of the command line: it is made when it is asked for."""
    if name == "app":
        return program_of()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["app", "main"]
