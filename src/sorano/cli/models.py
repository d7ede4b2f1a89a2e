"""The commands about models and this machine: list, pull, show, rm, doctor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from sorano.cli.console import absolute, report_errors, say
from sorano.cli.progress import ProgressBars, download_bars
from sorano.errors import EXIT_UNEXPECTED, RequestError, VideoError
from sorano.trust.printable import printable_line, to_json
from sorano.video import VIDEO_SUFFIXES

VERIFY_HINT = "sorano verify FILE looks for the mark and the signature of any file"

commands = typer.Typer()


@commands.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of lines.")] = False,
) -> None:
    """Look at this machine: device, memory, coders, keys, disk; what is missing, and the command that mends it."""
    with report_errors():
        from sorano import doctor as doctors

        checks = doctors.examine()
        if as_json:
            print(to_json({"checks": [check.to_dict() for check in checks]}))
        else:
            print("\n".join(printable_line(check.line()) for check in checks))
        if any(check.state == doctors.BAD for check in checks):
            raise typer.Exit(EXIT_UNEXPECTED)


@commands.command()
def pull(
    name: Annotated[str, typer.Argument(help="A preset, or a diffusers folder on the hub as OWNER/NAME.")],
    check: Annotated[bool, typer.Option("--check", help="Read every byte again, not only files that changed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the path.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors on stderr.")] = False,
) -> None:
    """Fetch open weights, check their digests, and keep them for use offline.

    stdout gets the path of the folder. What was interrupted goes on where it was.
    """
    with report_errors(f"what came is kept; sorano pull {name} goes on where it was"):
        from sorano import hub

        with ProgressBars(download_bars, quiet=quiet) as bars:
            folder = hub.pull(name, check=check, progress=bars.show, say=(lambda text: None) if quiet else say)
        print(json.dumps(hub.show(name), ensure_ascii=False) if as_json else absolute(folder))


@commands.command("list")
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the table.")] = False,
) -> None:
    """List the models: what is on this machine, what can be pulled, and their sizes."""
    with report_errors():
        from sorano import hub
        from sorano.plan.generate import format_bytes

        models = hub.list_models()
        if as_json:
            print(json.dumps({"models": [model.to_dict() for model in models]}, ensure_ascii=False))
            return
        width = max(len(model.name) for model in models)
        for model in models:
            size = model.disk_bytes or model.download_bytes
            size_said = format_bytes(size) if size is not None else "size not known"
            print(f"{model.name:<{width}}  {model.state:<10}  {size_said:>14}  {model.repo or 'comes with Sorano'}")


@commands.command()
def show(
    name: Annotated[str, typer.Argument(help="A preset, a pulled OWNER/NAME, or a video that Sorano made.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of lines.")] = False,
) -> None:
    """Show what a model is and needs, or how a video was made."""
    with report_errors():
        if Path(name).is_file() or Path(name).suffix.lower() in VIDEO_SUFFIXES:
            from sorano.video import read_metadata

            try:
                shown = read_metadata(name)
            except VideoError as error:
                raise RequestError(error.message, error.hint or VERIFY_HINT) from error
            if not shown:
                raise RequestError(f"{name} does not say how it was made", VERIFY_HINT)
        else:
            from sorano import hub

            shown = hub.show(name)
        print(to_json(shown) if as_json else "\n".join(map(printable_line, _format_lines(shown))))


@commands.command("rm")
def remove(
    name: Annotated[str, typer.Argument(help="A preset, or a pulled OWNER/NAME.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Remove a pulled model from this machine."""
    with report_errors():
        from sorano import hub
        from sorano.plan.generate import format_bytes

        freed = hub.remove(name)
        say(f"{name}: removed, {format_bytes(freed)} of disk are free again")
        if as_json:
            print(json.dumps({"name": name, "freed_bytes": freed}))


def _format_lines(document: dict[str, Any], indent: str = "", in_bytes: bool = False) -> Iterator[str]:
    """A JSON document for people: a name and its value a line, bytes as people read them."""
    from sorano.plan.generate import format_bytes

    for name, value in document.items():
        of_bytes = in_bytes or name.endswith("_bytes")
        if isinstance(value, dict):
            yield f"{indent}{name}"
            yield from _format_lines(value, indent + "  ", of_bytes)
        elif value is not None:
            words = ", ".join(map(str, value)) if isinstance(value, tuple) else value
            yield f"{indent}{name:<22} {format_bytes(value) if of_bytes else words}"
