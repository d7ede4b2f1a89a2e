"""The options that every verb has, made from the fields of `Request`, and the decorator that adds them to a command.

What an option means is said once, by its field; here stands only what a command line adds: short names, groups of the
help, and how a value is written.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Annotated, Any

import typer

from sorano.cli.console import report_errors, source_of
from sorano.conditions import Keyframe
from sorano.errors import RequestError
from sorano.request import Request
from sorano.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES

REQUEST_FIELDS = tuple(one.name for one in fields_of(Request))
SUFFIXES = (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES)  # of files: no word of a prompt ends so
EXCLUSIVE = (("seconds", "num_frames"), ("quiet", "verbose"))  # options that exclude each other
WHAT, HOW, FILE, TERMINAL = "What to make", "How to sample", "The file", "In the terminal"  # groups of the help

PANELS = {
    WHAT: ("seconds", "num_frames", "fps", "size", "negative_prompt", "force"),
    HOW: (
        *("preset", "draft", "variations", "seed", "num_steps", "guidance", "guidance_2", "shift", "settings", "lora"),
        *("device", "dtype", "memory"),
    ),
    FILE: ("output", "sheet", "upscale", "overwrite", "private", "audience", "visible_label", "producer"),
}
"""The fields of `Request` that are options of every verb, by group and in the order of the help."""

TYPES: dict[str, Any] = {
    "seconds": str | None, "num_frames": str | None, "fps": float | None, "guidance": float | None,
    "guidance_2": float | None, "shift": float | None, "seed": int | None, "num_steps": int | None,
    "variations": int, "lora": list[str] | None, "output": Path | None, "sheet": Path | None, "upscale": str,
    "visible_label": bool | None, "force": bool, "draft": bool, "overwrite": bool, "private": bool,
    "preset": str, "device": str, "dtype": str, "audience": str, "producer": str,
}  # fmt: skip
"""How a command line takes a field; text or nothing where a field is not listed."""

FLAGS = {
    "output": ("--output", "-o"),
    "variations": ("--variations", "-n"),
    "visible_label": ("--visible-label/--no-visible-label",),
}
METAVARS = {"seconds": "SECONDS", "num_frames": "NUMBER", "size": "WxH", "lora": "FILE[:SCALE][@EXPERT]"}


def _request_options() -> list[inspect.Parameter]:
    """The options that are fields of `Request`, with its defaults and help texts."""
    defaults = {one.name: one.default for one in fields_of(Request)}
    found = []
    for panel, names in PANELS.items():
        for name in names:
            kind = TYPES.get(name, str | None)
            flags = FLAGS.get(name, (f"--{name}",) if kind is bool else ())
            option = typer.Option(*flags, help=help_of(name), metavar=METAVARS.get(name), rich_help_panel=panel)
            default = None if name == "lora" else defaults[name]
            found.append(_keyword(name, default, Annotated[kind, option]))
    return found


def help_of(name: str) -> str:
    """The help text of a field of `Request`."""
    return next(str(one.metadata["help"]) for one in fields_of(Request) if one.name == name)


def _keyword(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _flag(name: str, help_text: str, *flags: str) -> inspect.Parameter:
    option = typer.Option(*(flags or (f"--{name.replace('_', '-')}",)), help=help_text, rich_help_panel=TERMINAL)
    return _keyword(name, False, Annotated[bool, option])


SHARED = (
    *_request_options(),
    _flag("preview", "Show in the terminal what is being made."),
    _flag("open_", "Show what was made with this system's player.", "--open"),
    _flag("yes", "Start what takes long without asking.", "--yes", "-y"),
    _flag("dry_run", "Check and plan everything, and make nothing."),
    _flag("as_json", "Print one JSON document instead of the path.", "--json"),
    _flag("quiet", "Say nothing but errors on stderr.", "--quiet", "-q"),
    _flag("verbose", "Also say what was chosen and why.", "--verbose", "-v"),
)
NOT_IN_REQUEST = ("preview", "open_", "yes", "dry_run", "as_json", "quiet", "verbose")


def verb(
    app: typer.Typer, name: str | None = None, *, without: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add a command with its own options and most of SHARED; the function gets the latter as `options`.

    `options["usual"]` are those that come from the user's own defaults.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = [one for key, one in inspect.signature(function, eval_str=True).parameters.items() if key != "options"]
        shared = [
            one for one in SHARED
            if one.name not in {*without, *(mine.name for mine in own)}
        ]  # fmt: skip
        names = {one.name for one in shared}

        def command(context: typer.Context, **given: Any) -> None:
            for one, other in EXCLUSIVE:  # what is said now puts a default of the user's aside
                for name, rival in ((one, other), (other, one)):
                    if source_of(context, rival) == "COMMANDLINE" and source_of(context, name) == "DEFAULT_MAP":
                        given[name] = False if isinstance(given[name], bool) else None
            options = {key: value for key, value in given.items() if key in names}
            own_defaults = (name for name in names if source_of(context, name) == "DEFAULT_MAP")
            options["usual"] = {name: given[name] for name in own_defaults}
            with report_errors():
                function(**{key: value for key, value in given.items() if key not in names}, options=options)

        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own, *shared)]
        parameters.insert(0, inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context))
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        command.__doc__, command.__name__ = function.__doc__, function.__name__
        app.command(name)(command)
        return function

    return register


def join_prompt(words: Sequence[str] | None) -> str:
    """The prompt of a command line, whether or not it was in quotes. Raises RequestError for a file among its words."""
    words = words or ()
    files = [word for word in words if len(words) > 1 and Path(word).suffix.lower() in SUFFIXES]
    if files:
        raise RequestError(f"{files[0]} is among the words of the prompt", f"write to it with -o {files[0]}")
    return " ".join(words)


Prompt = Annotated[
    list[str] | None,
    typer.Argument(
        help='What to see, in quotes: "a blue cube spins on the snow at night".', metavar="PROMPT", show_default=False
    ),
]
MaybePrompt = Annotated[
    list[str] | None,
    typer.Argument(
        help="What to see. Default: what the video says that it shows.", metavar="PROMPT", show_default=False
    ),
]
GivenVideo = Annotated[Path, typer.Argument(help="The video: MP4, MOV, MKV, WebM ...")]


def parse_seconds(text: str | None) -> float | None:
    """Seconds of what was said on the command line."""
    return None if text is None else Request(prompt="-", seconds=text).seconds  # type: ignore[arg-type]


def parse_keyframe(text: str) -> Keyframe:
    seconds, equals, file = text.partition("=")
    try:
        return Keyframe(float(seconds.strip().removesuffix("s")), Path(file))
    except ValueError as error:
        raise RequestError(
            f"a keyframe is written 1.5s=FILE: got {text!r}", "use --keyframe 1.5s=picture.png"
        ) from error


def parse_box(text: str) -> tuple[float, float, float, float]:
    try:
        left, top, width, height = (float(part) for part in text.split(","))
    except ValueError as error:
        raise RequestError(
            f"a region is written X,Y,WIDTH,HEIGHT in pixels: got {text!r}", "use --region 16,16,32,32"
        ) from error
    return left, top, width, height


def read_request(file: Path) -> dict[str, Any]:
    """The request in a JSON file, alone or in what `sorano show --json` printed."""
    try:
        words = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise RequestError(f"there is no file {file}") from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise RequestError(f"{file} cannot be read as JSON: {why}", 'it holds {"prompt": "..."}') from error
    words = words.get("request", words) if isinstance(words, dict) else None
    if not isinstance(words, dict):
        raise RequestError(f"{file} holds no request", 'it is an object: {"prompt": "..."}')
    unknown = [name for name in words if name not in REQUEST_FIELDS]
    if unknown:
        raise RequestError(f"{file}: a request has no {unknown[0]!r}", f"it has {', '.join(REQUEST_FIELDS)}")
    return words


def merge_saved(saved: dict[str, Any], fields: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """What was saved, with what is said now over it; options that were not given are left as saved."""
    defaults = {one.name: one.default for one in SHARED}
    defaults |= options.get("usual", {})
    said = {name: value for name, value in fields.items() if value not in (None, "", (), [])}
    kept = {name: value for name, value in saved.items() if value is not None and name not in said}
    now = {name for name in options if options[name] != defaults.get(name)}
    now |= {"num_frames"} if now & {"seconds", "fps"} else set()  # one length is said, not two
    now |= {"seconds"} if options.get("num_frames") is not None else set()
    for name in list(kept):
        if name in now:
            del kept[name]  # said on the command line
    for name in kept:
        options.pop(name, None)
    return {"prompt": "", **kept, **said}
