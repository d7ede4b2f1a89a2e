"""The commands that take a model out of PyTorch: `sorano export onnx`, `executorch` and `web`."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sorano.cli.console import absolute, report_errors, say
from sorano.presets import DEFAULT_PRESET

commands = typer.Typer()
export_app = typer.Typer(help="A model for other runtimes: ONNX, ExecuTorch, a browser tab.", no_args_is_help=True)
commands.add_typer(export_app, name="export")


class GraphPrecision(StrEnum):
    """What the numbers of a graph are."""

    float32 = "float32"
    int8 = "int8"


PRESET = Annotated[str, typer.Option("--preset", help="The model: a preset, or a diffusers folder of the same kind.")]
JSON = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the path.")]
QUIET = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors on stderr.")]


@export_app.command()
def onnx(
    folder: Annotated[Path, typer.Argument(help="Where the graphs go.")],
    preset: PRESET = DEFAULT_PRESET,
    precision: Annotated[
        GraphPrecision, typer.Option(help="float32: the engine's numbers; int8: a third of the bytes.")
    ] = (GraphPrecision.float32),
    as_json: JSON = False,
    quiet: QUIET = False,
) -> None:
    """Write the networks of a model as ONNX graphs, which `sorano.export.run` and other runtimes take.

    stdout gets the path of the folder's card, model.json.
    """
    with report_errors():
        from sorano.export.graphs import export_onnx
        from sorano.pipeline import located
        from sorano.presets import find_preset

        found = located(find_preset(preset))
        _print_card(export_onnx(found, folder, precision=precision.value, say=_said(quiet)), as_json)


@export_app.command()
def executorch(
    folder: Annotated[Path, typer.Argument(help="Where the programs go.")],
    preset: PRESET = DEFAULT_PRESET,
    as_json: JSON = False,
    quiet: QUIET = False,
) -> None:
    """Write the networks of a model as ExecuTorch programs for XNNPACK, which `sorano.export.run` and phones run.

    stdout gets the path of the folder's card, model.json.
    """
    with report_errors():
        from sorano.export.executorch import export_executorch
        from sorano.pipeline import located
        from sorano.presets import find_preset

        _print_card(export_executorch(located(find_preset(preset)), folder, say=_said(quiet)), as_json)


@export_app.command()
def web(
    folder: Annotated[Path, typer.Argument(help="Where the page goes: a new folder, or one that this wrote before.")],
    preset: PRESET = DEFAULT_PRESET,
    precision: Annotated[
        GraphPrecision, typer.Option(help="int8: a small download; float32: the engine's numbers.")
    ] = (GraphPrecision.int8),
    graphs: Annotated[
        Path | None, typer.Option(help="A folder that sorano export onnx wrote, instead of making its graphs again.")
    ] = None,
    runtime: Annotated[
        Path | None, typer.Option(help="A folder with the archives of the runtimes; without it, npm fetches them once.")
    ] = None,
    as_json: JSON = False,
    quiet: QUIET = False,
) -> None:
    """Write a static folder that makes videos in a browser tab, without a network after the first visit.

    stdout gets the path of its page. Any server of static files will do: python -m http.server --directory FOLDER
    """
    with report_errors():
        from sorano.export.site import LISTED, export_web
        from sorano.pipeline import located
        from sorano.presets import find_preset

        found = located(find_preset(preset))
        page = export_web(found, folder, precision=precision.value, graphs=graphs, runtime=runtime, say=_said(quiet))
        files = json.loads((folder / LISTED).read_text(encoding="utf-8"))
        total = sum(one["bytes"] for one in files.values())
        if as_json:
            print(json.dumps({"page": absolute(page), "bytes": total, "files": files}))
            return
        if not quiet:
            say(f"{len(files)} files, {total / 1e6:.1f} MB; serve it: python -m http.server --directory {folder}")
        print(absolute(page))


def _print_card(card: Path, as_json: bool) -> None:
    print(json.dumps(json.loads(card.read_text()), ensure_ascii=False) if as_json else absolute(card))


def _said(quiet: bool) -> Callable[[str], None]:
    return (lambda text: None) if quiet else say
