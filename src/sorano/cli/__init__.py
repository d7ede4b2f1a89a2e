"""The `sorano` command; `main` runs it, `app` is the typer application that tests and documentation read."""

from sorano.cli.app import app, main

__all__ = ["app", "main"]
