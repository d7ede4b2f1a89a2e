"""The commands that make and change videos: generate, image, extend, loop, blend, edit, remix, film, resume, batch."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from sorano.cli.console import absolute, print_error, report_errors, say
from sorano.cli.options import (
    FILE,
    NOT_IN_REQUEST,
    REQUEST_FIELDS,
    WHAT,
    GivenVideo,
    MaybePrompt,
    Prompt,
    help_of,
    join_prompt,
    merge_saved,
    parse_box,
    parse_keyframe,
    parse_seconds,
    read_request,
    verb,
)  # fmt: skip
from sorano.cli.progress import ConsoleListener
from sorano.conditions import Blend, Continue, Edit, Loop, Region
from sorano.engine import generate as make_video
from sorano.errors import RequestError
from sorano.models.runtime import keep_freed_memory
from sorano.presets import DEFAULT_PRESET, find_preset
from sorano.request import Request, drawn_seed, slug
from sorano.result import Video, default_path
from sorano.settings import own_defaults
from sorano.storyboard import changes
from sorano.trust.printable import to_json

commands = typer.Typer()


@verb(commands)
def generate(
    prompt: Prompt = None,
    image: Annotated[
        Path | None,
        typer.Option(help=help_of("image"), rich_help_panel=WHAT),
    ] = None,
    last: Annotated[Path | None, typer.Option(help=help_of("last"), rich_help_panel=WHAT)] = None,
    keyframe: Annotated[
        list[str] | None,
        typer.Option(
            help="Come to this picture at a time; may be given again.", metavar="1.5s=FILE", rich_help_panel=WHAT
        ),
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(
            help="Change the prompt at a time; may be given again.", metavar="10s=PROMPT", rich_help_panel=WHAT
        ),
    ] = None,
    loop_: Annotated[
        bool, typer.Option("--loop", help="Make the end lead into the beginning.", rich_help_panel=WHAT)
    ] = False,
    request: Annotated[
        Path | None,
        typer.Option(
            help="Take what is not said here from this JSON, as sorano show --json prints it.", rich_help_panel=WHAT
        ),
    ] = None,
    *,
    options: dict[str, Any],
) -> None:
    """Make a video of a sentence.

    The plan comes first, then progress, both on stderr; stdout gets the path of the finished file and nothing else.
    """
    words = join_prompt(prompt)
    conditions: list[Any] = [parse_keyframe(text) for text in keyframe or ()]
    if loop_:
        conditions.append(Loop())
    shots = changes(words, parse_seconds(options["seconds"]), at) if at else ()
    fields: dict[str, Any] = {
        "prompt": words, "image": image, "last": last, "conditions": conditions, "shots": shots
    }  # fmt: skip
    if request is not None:
        fields = merge_saved(read_request(request), fields, options)
    _make(options, **fields)


@verb(commands, without=("seconds", "num_frames", "fps", "sheet"))
def image(
    prompt: Prompt = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where to write the picture: PNG, JPEG or WebP. Default: named after the prompt, here.",
            rich_help_panel=FILE,
        ),
    ] = None,
    *,
    options: dict[str, Any],
) -> None:
    """Make a picture of a sentence: PNG, JPEG or WebP."""
    words = join_prompt(prompt)
    folder = output if output is not None and output.is_dir() else Path.cwd() if output is None else None
    picture = output if folder is None else _free(folder / f"{slug(words)}.png")
    _make(options, is_picture=True, prompt=words, output=None, sheet=picture, seconds=None, num_frames=1)


@verb(commands)
def extend(
    video: GivenVideo,
    prompt: MaybePrompt = None,
    backward: Annotated[
        bool, typer.Option("--backward", help="Make what came before it.", rich_help_panel=WHAT)
    ] = False,
    *,
    options: dict[str, Any],
) -> None:
    """Go on with a video, or go back before it. Its own frames go in as they are, its sound is kept."""
    direction = "backward" if backward else "forward"
    _make(_named(options, video, "longer"), prompt=join_prompt(prompt), conditions=[Continue(video, direction)])


@verb(commands, "loop")
def loop_video(video: GivenVideo, prompt: MaybePrompt = None, *, options: dict[str, Any]) -> None:
    """Make a video's end lead into its beginning, so that it plays on without a seam."""
    _make(_named(options, video, "loop"), prompt=join_prompt(prompt), conditions=[Loop(video)])


@verb(commands)
def blend(
    first: GivenVideo,
    second: Annotated[Path, typer.Argument(help="The video to arrive at; of the same size and rate.")],
    prompt: MaybePrompt = None,
    *,
    options: dict[str, Any],
) -> None:
    """Lead from the end of one video to the beginning of another."""
    _make(_named(options, first, f"to-{second.stem}"), prompt=join_prompt(prompt), conditions=[Blend(first, second)])


@verb(commands)
def edit(
    video: GivenVideo,
    prompt: Annotated[list[str], typer.Argument(help='A whole prompt, or a change: "it is night".', metavar="PROMPT")],
    strength: Annotated[
        float | None,
        typer.Option(help="How much is made anew, up to 1. Default: 0.8; a region: 1.", rich_help_panel=WHAT),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(help="Only this box, in pixels of the video.", metavar="X,Y,W,H", rich_help_panel=WHAT),
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="Only where this picture is white.", rich_help_panel=WHAT)] = None,
    start: Annotated[float, typer.Option("--from", help="A region's first second.", rich_help_panel=WHAT)] = 0.0,
    end: Annotated[float | None, typer.Option("--to", help="A region's last second.", rich_help_panel=WHAT)] = None,
    *,
    options: dict[str, Any],
) -> None:
    """Change a video by words: all of it, or a region, outside of which the picture stays."""
    given: Any
    if region is None and mask is None:
        if start or end is not None:
            raise RequestError("--from and --to are of a region", "give --region X,Y,WIDTH,HEIGHT or --mask as well")
        given = Edit(video) if strength is None else Edit(video, strength)
    else:
        box = None if region is None else parse_box(region)
        given = Region(video, box=box, mask=mask, start=start, end=end, strength=1.0 if strength is None else strength)
    _make(_named(options, video, "edited"), prompt=join_prompt(prompt), conditions=[given])


@verb(commands)
def remix(
    video: Annotated[Path, typer.Argument(help="A video that Sorano made.")],
    prompt: Annotated[
        list[str] | None,
        typer.Argument(help="A whole prompt, or a change. Default: as it was.", metavar="PROMPT", show_default=False),
    ] = None,
    *,
    options: dict[str, Any],
) -> None:
    """Make a video again from its saved request, with changes: another prompt, seed, size, number of steps ..."""
    from sorano.prompt_editing import merged
    from sorano.remix import request_of

    saved = request_of(video)
    fields = merge_saved(saved, {"prompt": ""}, options)
    if prompt:
        captions = find_preset(saved.get("preset", DEFAULT_PRESET)).captions
        fields["prompt"] = merged(saved.get("prompt", ""), join_prompt(prompt), captions)
    _make(_named(options, video, "remix"), **fields)


@verb(commands)
def film(
    board: Annotated[
        Path, typer.Argument(help="A storyboard in TOML: \\[\\[shot]] with prompt, seconds, image, video, join.")
    ],
    *,
    options: dict[str, Any],
) -> None:
    """Make a film of a storyboard: shot after shot, of any length, in the memory of one."""
    from sorano.storyboard import read_board

    known = [name for name in options if name not in (*NOT_IN_REQUEST, "seconds", "usual")]
    fields = merge_saved(read_board(board, ["prompt", *known]), {"prompt": ""}, options)
    _make(_named(options, board, "film"), **fields)


@commands.command()
def resume(
    file: Annotated[Path, typer.Argument(help="The video that was to be written, as the error said.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the path.")] = False,
    device: Annotated[str | None, typer.Option(help="Another device than the run had.")] = None,
    memory: Annotated[str | None, typer.Option(help="Take at most this much memory, like 12GB.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors on stderr.")] = False,
) -> None:
    """Go on with a run that failed or was killed: a film from its last finished window, a clip from its latent."""
    with report_errors():
        from sorano.engine import resume as finish_run

        with ConsoleListener(quiet=quiet, verbose=False) as listener:
            listener.memory = keep_freed_memory()
            video = finish_run(file, device=device, memory=memory, listener=listener)
        print(_to_document(video, listener) if as_json else absolute(video.path))


@commands.command()
def batch(
    file: Annotated[Path, typer.Argument(help='One JSON object a line, like {"prompt": "...", "seed": 1}.')],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A folder for the videos. Default: here.")
    ] = None,
    preset: Annotated[str, typer.Option(help="A model, for lines that name none.")] = DEFAULT_PRESET,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps or xpu.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document a line.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors on stderr.")] = False,
) -> None:
    """Make the videos of a file of requests, one after the other with one loaded model; a stopped batch goes on."""
    with report_errors("what was made is kept; the same command goes on where it was"):
        from sorano import batch as batches

        folder = Path.cwd() if output is None else output
        if not folder.is_dir():
            raise RequestError(f"the folder {folder} does not exist", f"mkdir -p {folder}")
        own = {name: value for name, value in own_defaults().items() if name in REQUEST_FIELDS}
        lines = batches.read(file, folder, {**own, "preset": preset, "device": device})

        def say(outcome: batches.Outcome) -> None:
            number, path = outcome.line.number, absolute(outcome.path)
            if outcome.error is not None:
                print_error(f"line {number}: {outcome.error.message}", outcome.error.hint)
            if as_json:
                error = outcome.error.message if outcome.error else None
                print(to_json({"line": number, "path": path, "error": error, "was_there": outcome.was_there}))
            elif path is not None:
                print(path, flush=True)

        with ConsoleListener(quiet=quiet, verbose=False) as listener:
            listener.memory = keep_freed_memory()
            outcomes = batches.make(lines, batches.done_file(file), listener, say)
        failed = [one.error for one in outcomes if one.error is not None]
        if failed:
            raise typer.Exit(failed[0].exit_code)


def _make(options: dict[str, Any], *, is_picture: bool = False, **fields: Any) -> None:
    """Makes what a verb asks for, and prints where it is. A picture has no video beside it."""
    words = dict(options)
    as_json, quiet, verbose = words.pop("as_json"), words.pop("quiet"), words.pop("verbose")
    yes, dry_run = words.pop("yes"), words.pop("dry_run")
    shows, previews = words.pop("open_"), words.pop("preview")
    del words["usual"]
    if quiet and verbose:
        raise RequestError("--quiet and --verbose exclude each other", "leave one of them out")
    words["lora"] = words.get("lora") or ()
    request = Request(**{**words, **fields})
    if request.seed is None:
        request = replace(request, seed=drawn_seed())
    if request.output is None and not is_picture:
        request = replace(request, output=default_path(request))
    with ConsoleListener(quiet=quiet, verbose=verbose, yes=yes or dry_run, previews=previews) as listener:
        listener.memory = keep_freed_memory()
        if dry_run:
            _print_plan(request, listener, as_json)
            return
        video = make_video(request, listener=listener)
    for one in video.variations:
        print(_to_document(one, listener) if as_json else absolute(one.sheet if is_picture else one.path), flush=True)
        if shows:
            show_file(one.sheet if is_picture else one.path)


def show_file(path: Path | None) -> None:
    """Show a file with the system's own player; that there is none is said and costs nothing."""
    import shutil
    import subprocess

    assert path is not None
    if sys.platform == "win32":
        os.startfile(path)
        return
    opener = "open" if sys.platform == "darwin" else "xdg-open"
    has_screen = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if shutil.which(opener) is None or not has_screen:
        say(f"note: there is nothing here to show it with (no {opener}, or no screen)")
        return
    silent = subprocess.DEVNULL
    subprocess.Popen([opener, str(path)], stdin=silent, stdout=silent, stderr=silent, start_new_session=True)


def _print_plan(request: Request, listener: ConsoleListener, as_json: bool) -> None:
    """What would be made and what it should take; stdout gets the path that it would have."""
    from sorano.engine import placed, prepare

    request = placed(request)
    found = prepare(request, listener)
    job, machine, estimate = found.job, found.machine, found.estimate
    path = absolute(Path(request.output or request.sheet or default_path(request)))
    planned = {
        "seconds": round(estimate.seconds * request.variations, 3),
        "peak_bytes": estimate.peak_bytes,
        "device": machine.device,
        "dtype": machine.dtype,
    }
    document = {"path": path, "request": job.request.to_dict(), "planned": planned, "notes": listener.notes}
    print(json.dumps(document, ensure_ascii=False) if as_json else path)


def _to_document(video: Video, listener: ConsoleListener) -> str:
    document = {
        "path": absolute(video.path),
        "sheet": absolute(video.sheet),
        "size": video.record["made"]["size"],
        "num_frames": video.record["made"]["num_frames"],
        "fps": video.fps,
        "notes": listener.notes,
        **video.record,
    }
    return to_json(document)


def _named(options: dict[str, Any], file: Path, what: str) -> dict[str, Any]:
    """The options with an output named after a file, where none is given: never the file itself."""
    if options["output"] is not None:
        if Path(options["output"]).resolve() == file.resolve():
            raise RequestError(f"{file} would be written over itself", "give another name with -o")
        return options
    return {**options, "output": _free(Path.cwd() / f"{file.stem}-{what}.mp4")}


def _free(path: Path) -> Path:
    """The path, or one with a number that is not taken."""
    stem, number = path.stem, 2
    while path.exists():
        path, number = path.with_stem(f"{stem}-{number}"), number + 1
    return path
