"""The `sorano` command: one thin function per verb.

stdout is data: the path of the video, or one JSON document with `--json`. stderr is conversation: the plan, notes,
progress, errors. Exit codes are those of `sorano.errors`. Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import fields as fields_of
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sorano import _start
from sorano.conditions import Blend, Continue, Edit, Keyframe, Loop, Region
from sorano.console import Commands, asked_to_stop, close_streams, errors_said, open_streams, print_error, source_of
from sorano.engine import generate as make_video
from sorano.errors import EXIT_INTERRUPTED, EXIT_UNEXPECTED, RequestError, VideoError
from sorano.listener import Listener
from sorano.models.runtime import keep_freed_memory
from sorano.plan.cli import app as plan_app
from sorano.presets import ALL_KINDS, DEFAULT_PRESET, PRESETS, find_preset, write_card
from sorano.request import Request, slug
from sorano.result import default_path
from sorano.settings import own_defaults
from sorano.storyboard import changes
from sorano.trust.cli import mount as mount_trust
from sorano.trust.printable import printable_line, printable_lines, to_json
from sorano.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES

if TYPE_CHECKING:
    from rich.progress import Progress

    from sorano.plan import Machine, RunEstimate
    from sorano.preview import Preview
    from sorano.resolve import Job
    from sorano.result import Video

app = typer.Typer(
    name="sorano",
    cls=Commands,
    help="Text and images in, video out.",
    epilog='Start with:  sorano generate "a red ball bounces on the grass at sunset"',
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(plan_app, name="plan")
train_app = typer.Typer(help="Train a model from nothing.", no_args_is_help=True)
app.add_typer(train_app, name="train")

REQUEST_FIELDS = tuple(one.name for one in fields_of(Request))
SUFFIXES = (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES)  # of files: no word of a prompt ends so
LONG_SECONDS = 600  # a job that the plan puts over this on a CPU is not started without a yes
VERIFY_HINT = "sorano verify FILE looks for the mark and the signature of any file"
RIVALS = (("seconds", "num_frames"), ("quiet", "verbose"))  # options that exclude each other
WHAT, HOW, FILE, TALK = "What to make", "How to sample", "The file", "What is said"


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


def _shared(
    # what to make
    seconds: Annotated[
        str | None,
        typer.Option(
            help='Length, like 2 or 1.5s or "50 frames"; the nearest that the model makes. Default: the preset\'s.',
            metavar="SECONDS",
            rich_help_panel=WHAT,
        ),
    ] = None,
    num_frames: Annotated[
        str | None,
        typer.Option(help="The same in frames; 1 is a picture.", metavar="NUMBER", rich_help_panel=WHAT),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames per second. Default: the preset's.", rich_help_panel=WHAT)
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Width x height in pixels, like 64x64; or 720p, 16:9. Default: the preset's.",
            metavar="WxH",
            rich_help_panel=WHAT,
        ),
    ] = None,
    negative_prompt: Annotated[
        str | None, typer.Option(help="What to steer away from. Default: the preset's.", rich_help_panel=WHAT)
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Make what is left of a prompt whose subject the model does not know.", rich_help_panel=WHAT
        ),
    ] = False,
    # how to sample
    preset: Annotated[
        str,
        typer.Option(
            help=f"A model: {', '.join(PRESETS)}, a diffusers folder, or a pulled OWNER/NAME.", rich_help_panel=HOW
        ),
    ] = DEFAULT_PRESET,
    draft: Annotated[
        bool,
        typer.Option(
            "--draft",
            help="A quick look with a third of the steps; the same seed makes the final.",
            rich_help_panel=HOW,
        ),
    ] = False,
    variations: Annotated[
        int,
        typer.Option("--variations", "-n", help="How many, with seeds one after the other.", rich_help_panel=HOW),
    ] = 1,
    seed: Annotated[
        int | None,
        typer.Option(help="The same seed gives the same video. Default: drawn, and printed.", rich_help_panel=HOW),
    ] = None,
    num_steps: Annotated[
        int | None,
        typer.Option(help="More steps: finer and slower. Default: the preset's.", rich_help_panel=HOW),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(help="How strictly to follow the prompt; 1 is plain. Default: the preset's.", rich_help_panel=HOW),
    ] = None,
    guidance_2: Annotated[
        float | None,
        typer.Option(help="The same for the second of two experts (Wan 2.2 A14B).", rich_help_panel=HOW),
    ] = None,
    shift: Annotated[
        float | None,
        typer.Option(
            help="Spend more steps on noise, as large videos need. Default: the preset's.", rich_help_panel=HOW
        ),
    ] = None,
    settings: Annotated[
        str | None,
        typer.Option(help="A preset's other settings by name, like hub; sorano show lists them.", rich_help_panel=HOW),
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(
            help="A LoRA file to merge, and how much of it; @high or @low for one of two experts. May be given again.",
            metavar="FILE[:SCALE][@EXPERT]",
            rich_help_panel=HOW,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps or xpu.", rich_help_panel=HOW)] = "auto",
    dtype: Annotated[
        str,
        typer.Option(help="auto (the fastest there), bfloat16, or float32.", rich_help_panel=HOW),
    ] = "auto",
    memory: Annotated[
        str | None,
        typer.Option(help="The most memory to use, like 12GB. Default: what is free.", rich_help_panel=HOW),
    ] = None,
    # the file
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where to write: .mp4, .gif, .webp, .webm. Default: an MP4 named after the prompt, here.",
            rich_help_panel=FILE,
        ),
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Also write a picture of evenly spaced frames.", rich_help_panel=FILE)
    ] = None,
    upscale: Annotated[
        str,
        typer.Option(
            help="auto: to at least 256 pixels high; none or 1: as made; 2 to 16: times (Lanczos).",
            rich_help_panel=FILE,
        ),
    ] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing files.", rich_help_panel=FILE)
    ] = False,
    private: Annotated[
        bool,
        typer.Option("--private", help="Keep the prompt and the image's name out of the file.", rich_help_panel=FILE),
    ] = False,
    audience: Annotated[
        str,
        typer.Option(
            help="Whose law asks for labels: cn, in (both draw a sign), eu, us-ca, none. All is marked and signed.",
            rich_help_panel=FILE,
        ),
    ] = "none",
    visible_label: Annotated[
        bool | None,
        typer.Option(
            "--visible-label/--no-visible-label",
            help='Draw "AI-generated" on the first seconds. Default: for cn and in.',
            rich_help_panel=FILE,
        ),
    ] = None,
    producer: Annotated[
        str,
        typer.Option(help="Who the label names: a name, or a provider's 27-character code.", rich_help_panel=FILE),
    ] = "Sorano",
    # what is said
    preview: Annotated[
        bool,
        typer.Option("--preview", help="Show the first frame in the terminal while it is made.", rich_help_panel=TALK),
    ] = False,
    open_: Annotated[
        bool, typer.Option("--open", help="Show what was made with this system's player.", rich_help_panel=TALK)
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Start what takes long without asking.", rich_help_panel=TALK)
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and plan everything, and make nothing.", rich_help_panel=TALK)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of the path.", rich_help_panel=TALK)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing but errors on stderr.", rich_help_panel=TALK)
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also say what was chosen and why.", rich_help_panel=TALK)
    ] = False,
) -> None:
    """The options that every verb has: its signature is what counts."""


def verb(
    name: str | None = None, *, without: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command with its own options and most of those of `_shared`; the function gets the latter as `options`.

    `options["usual"]` are those that come from the user's own defaults.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = [one for key, one in inspect.signature(function, eval_str=True).parameters.items() if key != "options"]
        shared = [
            one for one in inspect.signature(_shared, eval_str=True).parameters.values()
            if one.name not in {*without, *(mine.name for mine in own)}
        ]  # fmt: skip
        names = {one.name for one in shared}

        def command(context: typer.Context, **given: Any) -> None:
            for one, other in RIVALS:  # what is said now puts a default of the user's aside
                for name, rival in ((one, other), (other, one)):
                    if source_of(context, rival) == "COMMANDLINE" and source_of(context, name) == "DEFAULT_MAP":
                        given[name] = False if isinstance(given[name], bool) else None
            options = {key: value for key, value in given.items() if key in names}
            own_defaults = (name for name in names if source_of(context, name) == "DEFAULT_MAP")
            options["usual"] = {name: given[name] for name in own_defaults}
            with errors_said():
                function(**{key: value for key, value in given.items() if key not in names}, options=options)

        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own, *shared)]
        parameters.insert(0, inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context))
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        command.__doc__, command.__name__ = function.__doc__, function.__name__
        app.command(name)(command)
        return function

    return register


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
        request = replace(request, seed=_drawn_seed())
    if request.output is None and not is_picture:
        request = replace(request, output=default_path(request))
    with Talk(quiet=quiet, verbose=verbose, yes=yes or dry_run, previews=previews) as talk:
        talk.memory = keep_freed_memory()
        if dry_run:
            _print_plan(request, talk, as_json)
            return
        video = make_video(request, listener=talk)
    for one in video.variations:
        print(_as_json(one, talk) if as_json else _absolute(one.sheet if is_picture else one.path), flush=True)
        if shows:
            _open(one.sheet if is_picture else one.path)


def _open(path: Path | None) -> None:
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
        _say(f"note: there is nothing here to show it with (no {opener}, or no screen)")
        return
    silent = subprocess.DEVNULL
    subprocess.Popen([opener, str(path)], stdin=silent, stdout=silent, stderr=silent, start_new_session=True)


def _print_plan(request: Request, talk: Talk, as_json: bool) -> None:
    """What would be made and what it should take; stdout gets the path that it would have."""
    from sorano.engine import placed, prepare

    request = placed(request)
    found = prepare(request, talk)
    job, machine, estimate = found.job, found.machine, found.estimate
    path = _absolute(Path(request.output or request.sheet or default_path(request)))
    planned = {
        "seconds": round(estimate.seconds * request.variations, 3),
        "peak_bytes": estimate.peak_bytes,
        "device": machine.device,
        "dtype": machine.dtype,
    }
    document = {"path": path, "request": job.request.to_dict(), "planned": planned, "notes": talk.notes}
    print(json.dumps(document, ensure_ascii=False) if as_json else path)


def _said(words: Sequence[str] | None) -> str:
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


@verb()
def generate(
    prompt: Prompt = None,
    image: Annotated[
        Path | None,
        typer.Option(help="Begin with this picture (PNG, JPEG, WebP); it is scaled to fill.", rich_help_panel=WHAT),
    ] = None,
    last: Annotated[Path | None, typer.Option(help="End with this picture.", rich_help_panel=WHAT)] = None,
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
    words = _said(prompt)
    conditions: list[Any] = [_keyframe(text) for text in keyframe or ()]
    if loop_:
        conditions.append(Loop())
    shots = changes(words, _seconds(options["seconds"]), at) if at else ()
    fields: dict[str, Any] = {
        "prompt": words, "image": image, "last": last, "conditions": conditions, "shots": shots
    }  # fmt: skip
    if request is not None:
        fields = _saved_over(_read_json(request), fields, options)
    _make(options, **fields)


@verb(without=("seconds", "num_frames", "fps", "sheet"))
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
    words = _said(prompt)
    folder = output if output is not None and output.is_dir() else Path.cwd() if output is None else None
    picture = output if folder is None else _free(folder / f"{slug(words)}.png")
    _make(options, is_picture=True, prompt=words, output=None, sheet=picture, seconds=None, num_frames=1)


@verb()
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
    _make(_named(options, video, "longer"), prompt=_said(prompt), conditions=[Continue(video, direction)])


@verb("loop")
def loop_video(video: GivenVideo, prompt: MaybePrompt = None, *, options: dict[str, Any]) -> None:
    """Make a video's end lead into its beginning, so that it plays on without a seam."""
    _make(_named(options, video, "loop"), prompt=_said(prompt), conditions=[Loop(video)])


@verb()
def blend(
    first: GivenVideo,
    second: Annotated[Path, typer.Argument(help="The video to arrive at; of the same size and rate.")],
    prompt: MaybePrompt = None,
    *,
    options: dict[str, Any],
) -> None:
    """Lead from the end of one video to the beginning of another."""
    _make(_named(options, first, f"to-{second.stem}"), prompt=_said(prompt), conditions=[Blend(first, second)])


@verb()
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
        given = Edit(video) if strength is None else Edit(video, strength)
    else:
        box = None if region is None else _box(region)
        given = Region(video, box=box, mask=mask, start=start, end=end, strength=1.0 if strength is None else strength)
    _make(_named(options, video, "edited"), prompt=_said(prompt), conditions=[given])


@verb()
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
    from sorano.remix import request_of
    from sorano.wording import merged

    saved = request_of(video)
    fields = _saved_over(saved, {"prompt": ""}, options)
    if prompt:
        small = find_preset(saved.get("preset", DEFAULT_PRESET)).small_vocabulary
        fields["prompt"] = merged(saved.get("prompt", ""), _said(prompt), small_vocabulary=small)
    _make(_named(options, video, "remix"), **fields)


@verb()
def film(
    board: Annotated[
        Path, typer.Argument(help="A storyboard in TOML: \\[\\[shot]] with prompt, seconds, image, video, join.")
    ],
    *,
    options: dict[str, Any],
) -> None:
    """Make a film of a storyboard: shot after shot, of any length, in the memory of one."""
    from sorano.storyboard import read_board

    apart = ("as_json", "quiet", "verbose", "yes", "dry_run", "seconds", "usual", "open_", "preview")
    known = [name for name in options if name not in apart]
    fields = _saved_over(read_board(board, ["prompt", *known]), {"prompt": ""}, options)
    _make(_named(options, board, "film"), **fields)


@app.command()
def resume(
    file: Annotated[Path, typer.Argument(help="The video that was to be written, as the error said.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the path.")] = False,
    device: Annotated[str | None, typer.Option(help="Another device than the run had.")] = None,
    memory: Annotated[str | None, typer.Option(help="Take at most this much memory, like 12GB.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors on stderr.")] = False,
) -> None:
    """Go on with a run that failed or was killed: a film from its last finished window, a clip from its latent."""
    with errors_said():
        from sorano.engine import resume as finish_run

        with Talk(quiet=quiet, verbose=False) as talk:
            talk.memory = keep_freed_memory()
            video = finish_run(file, device=device, memory=memory, listener=talk)
        print(_as_json(video, talk) if as_json else _absolute(video.path))


@app.command()
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
    with errors_said("what was made is kept; the same command goes on where it was"):
        from sorano import batch as batches

        folder = Path.cwd() if output is None else output
        if not folder.is_dir():
            raise RequestError(f"the folder {folder} does not exist", f"mkdir -p {folder}")
        own = {name: value for name, value in own_defaults().items() if name in REQUEST_FIELDS}
        lines = batches.read(file, folder, {**own, "preset": preset, "device": device})

        def say(outcome: batches.Outcome) -> None:
            number, path = outcome.line.number, _absolute(outcome.path)
            if outcome.error is not None:
                print_error(f"line {number}: {outcome.error.message}", outcome.error.hint)
            if as_json:
                error = outcome.error.message if outcome.error else None
                print(to_json({"line": number, "path": path, "error": error, "was_there": outcome.was_there}))
            elif path is not None:
                print(path, flush=True)

        with Talk(quiet=quiet, verbose=False) as talk:
            talk.memory = keep_freed_memory()
            outcomes = batches.make(lines, batches.done_file(file), talk, say)
        failed = [one.error for one in outcomes if one.error is not None]
        if failed:
            raise typer.Exit(failed[0].exit_code)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of lines.")] = False,
) -> None:
    """Look at this machine: device, memory, coders, keys, disk; what is missing, and the command that mends it."""
    with errors_said():
        from sorano import doctor as doctors

        checks = doctors.examine()
        if as_json:
            print(to_json({"checks": [check.to_dict() for check in checks]}))
        else:
            print("\n".join(printable_line(check.line()) for check in checks))
        if any(check.state == doctors.BAD for check in checks):
            raise typer.Exit(EXIT_UNEXPECTED)


@train_app.command("world")
def train_world(
    recipe: Annotated[
        str,
        typer.Option(
            help="cpu: two hours on two cores; long: a night or more of them; gpu: 25 minutes of a large GPU; smoke:"
            " seconds."
        ),
    ] = "cpu",
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the run. A run that was stopped goes on where it was.")
    ] = Path("runs/world"),
    init: Annotated[
        str | None, typer.Option(help="A preset, or a diffusers folder, whose weights the run begins from.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print every derived value and exit.")] = False,
) -> None:
    """Train the world model from nothing: render, autoencoder, flow model, and a diffusers folder at the end.

    stdout gets the path of that folder; `sorano generate --preset PATH` uses it. On several devices:
    `torchrun --nproc-per-node 8 -m sorano train world --recipe gpu` (each batch is shared out).
    """
    with errors_said():
        from sorano.train import recipes
        from sorano.train.ranks import is_first_process

        chosen = recipes.find(recipe)
        if dry_run:
            for name, value, why in recipes.describe(chosen):
                print(f"{name:<18} {value:<44} {why}".rstrip())
            return
        import numba  # noqa: F401  (what renders the world: missing, it is named before a folder is made)

        folder = recipes.run(chosen, out, init=find_preset(init).folder if init else None, log=_say)
        if not is_first_process():
            return
        write_card(
            folder,
            size=f"{chosen.size}x{chosen.size}",
            num_frames=chosen.num_frames,
            fps=chosen.fps,
            max_num_frames=chosen.clip_frames,
            max_side=2 * chosen.size,
            small_vocabulary=True,
            known=list(ALL_KINDS),
            num_steps=chosen.num_steps,
            guidance=chosen.guidance,
        )
        print(_absolute(folder))


@app.command()
def score(
    preset: Annotated[str, typer.Option(help="A preset's name, or the path of a diffusers folder.")] = DEFAULT_PRESET,
    num_clips: Annotated[int, typer.Option(help="Clips to make and judge, of each split.", min=1)] = 200,
    recipe: Annotated[str, typer.Option(help="Whose aims to compare with: cpu, long or gpu.")] = "cpu",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps or xpu.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the table.")] = False,
) -> None:
    """Score a world model: does each video show what its caption says? With the judge's own errors beside it."""
    with errors_said():
        from sorano.world.score import find_silhouettes, load_sampler, score_model

        sampler = load_sampler(preset, device)
        report = score_model(
            sampler.generate,
            reconstruct=sampler.reconstruct,
            untrained=sampler.untrained().generate,
            num_clips=num_clips,
            recipe=recipe,
            size=sampler.size,
            num_frames=sampler.num_frames,
            silhouettes=find_silhouettes(),
            log=_say,
        )
        print(json.dumps(report.to_dict()) if as_json else report.table())


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="A preset, or a diffusers folder on the hub as OWNER/NAME.")],
    check: Annotated[bool, typer.Option("--check", help="Read every byte again, not only files that changed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the path.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors on stderr.")] = False,
) -> None:
    """Fetch open weights, check their digests, and keep them for use offline.

    stdout gets the path of the folder. What was interrupted goes on where it was.
    """
    with errors_said(f"what came is kept; sorano pull {name} goes on where it was"):
        from sorano import hub

        with Bars(_download_bar, quiet=quiet) as bars:
            folder = hub.pull(name, check=check, progress=bars.show, say=(lambda text: None) if quiet else _say)
        print(json.dumps(hub.show(name), ensure_ascii=False) if as_json else _absolute(folder))


@app.command("list")
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the table.")] = False,
) -> None:
    """List the models: what is on this machine, what can be pulled, and their sizes."""
    with errors_said():
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


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A preset, a pulled OWNER/NAME, or a video that Sorano made.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of lines.")] = False,
) -> None:
    """Show what a model is and needs, or how a video was made."""
    with errors_said():
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
        print(to_json(shown) if as_json else "\n".join(map(printable_line, _lines(shown))))


@app.command("rm")
def remove(
    name: Annotated[str, typer.Argument(help="A preset, or a pulled OWNER/NAME.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Remove a pulled model from this machine."""
    with errors_said():
        from sorano import hub
        from sorano.plan.generate import format_bytes

        freed = hub.remove(name)
        _say(f"{name}: removed, {format_bytes(freed)} of disk are free again")
        if as_json:
            print(json.dumps({"name": name, "freed_bytes": freed}))


class Bars:
    """Bars on stderr, one for each stage, from the first moment that there is something to show."""

    def __init__(self, make: Callable[[], Progress], *, quiet: bool) -> None:
        self._make, self._quiet = make, quiet
        self._tasks: dict[str, Any] = {}
        self._progress: Progress | None = None

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` parts of a stage."""
        if self._quiet:
            return
        if self._progress is None:
            self._progress = self._make()
            self._progress.start()
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total)
        self._progress.update(self._tasks[stage], completed=done)


class Talk(Listener):
    """Says on stderr what a run is doing: the plan, notes, and a bar with the time left."""

    def __init__(self, *, quiet: bool, verbose: bool, yes: bool = True, previews: bool = False) -> None:
        self.quiet, self.verbose, self.yes = quiet, verbose, yes
        self._preview: Preview | None = None
        if previews and not quiet and sys.stderr.isatty():
            from sorano.preview import Preview

            self._preview = Preview(sys.stderr)
        self.notes: list[str] = []
        self.memory = ""
        self._bars = Bars(_progress_bar, quiet=quiet)

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.__exit__(*exception)
        if self._preview is not None:
            self._preview.close()

    def planned(self, job: Job, machine: Machine, estimate: RunEstimate) -> None:
        from sorano.plan.generate import format_bytes

        request, shape = job.request, job.shape
        self.say(
            f"{job.preset.name}: {shape.size}, {shape.num_frames} frames ({request.seconds:.2f} s at {job.fps:g} fps), "
            f"{request.num_steps} steps, seed {request.seed}; about {format_bytes(estimate.peak_bytes)} of memory "
            f"and {_duration(estimate.seconds)} on {machine.device}"
            + (f"; {estimate.placement.words}" if estimate.placement.in_turn else "")
        )
        if self.verbose:
            from sorano.models.attention import backend

            self.say(f"  {machine.reason}; {machine.flops_per_second / 1e9:.0f} GFLOP/s in matrix products")
            self.say(f"  attention: {backend(machine.device)}")
            self.say(f"  free memory: {format_bytes(machine.free_bytes) if machine.free_bytes else 'not known'}")
            stages = ", ".join(f"{name} {format_bytes(count)}" for name, count in estimate.stage_bytes.items())
            self.say(f"  memory by stage: {stages}; {estimate.placement.words}")
            self.say(f"  {self.memory}")
        if machine.on_cpu and estimate.seconds * request.variations > LONG_SECONDS and not self.yes:
            estimate.require()  # what does not fit is not asked for
            self._ask(_duration(estimate.seconds * request.variations))
            self.yes = True

    def _ask(self, duration: str) -> None:
        """Wait for a y at the terminal. Raises RequestError where there is no terminal, or no y."""
        hint = "--yes starts it; --draft, --num-steps, --size and --seconds make it shorter"
        if sys.stdin is None or not sys.stdin.isatty() or not sys.stderr.isatty():
            raise RequestError(f"this would take about {duration} on the CPU", hint)
        print(f"This takes about {duration} on the CPU. Start? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes", "j", "是"):
            raise RequestError("not started", hint)

    def note(self, text: str) -> None:
        self.notes.append(text)
        self.say(f"note: {text}")

    def check(self) -> None:
        if asked_to_stop.is_set():
            raise KeyboardInterrupt

    def progress(self, stage: str, done: int, total: int) -> None:
        if self._preview is None or stage != "denoise":  # a preview has a line of its own
            self._bars.show(stage, done, total)

    def preview(self, step: int, num_steps: int, look: Callable[[], Any]) -> None:
        if self._preview is not None and (self._preview.is_due or step == num_steps):
            began = time.monotonic()
            frame_HWC = look()
            self._preview.show(frame_HWC, f"step {step} of {num_steps}", time.monotonic() - began)

    def say(self, text: str) -> None:
        if not self.quiet:
            _say(text)


mount_trust(app, errors_said)

PANELS = {  # of the help, in order
    "Make": ("generate", "image", "film", "batch", "remix", "resume"),
    "Change a video": ("extend", "loop", "blend", "edit"),
    "Who made it": ("verify", "mark", "label", "keys", "trust"),
    "Models and this machine": ("list", "pull", "show", "rm", "doctor"),
    "Plan, train, judge": ("plan", "train", "score"),
}


def _group_help() -> None:
    """Put the commands of the help in groups, in the order of PANELS."""
    panel_of = {name: panel for panel, names in PANELS.items() for name in names}
    order = list(panel_of)
    for found in (app.registered_commands, app.registered_groups):
        for info in found:
            info.rich_help_panel = panel_of[_name_of(info)]
        found.sort(key=lambda info: order.index(_name_of(info)))


def _name_of(info: Any) -> str:
    return str(info.name or info.callback.__name__)


_group_help()


def _say(text: str) -> None:
    print(printable_lines(text), file=sys.stderr, flush=True)


def _progress_bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _download_bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description:8}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)


def _lines(document: dict[str, Any], indent: str = "", in_bytes: bool = False) -> Iterator[str]:
    """A JSON document for people: a name and its value a line, bytes as people read them."""
    from sorano.plan.generate import format_bytes

    for name, value in document.items():
        of_bytes = in_bytes or name.endswith("_bytes")
        if isinstance(value, dict):
            yield f"{indent}{name}"
            yield from _lines(value, indent + "  ", of_bytes)
        elif value is not None:
            words = ", ".join(map(str, value)) if isinstance(value, tuple) else value
            yield f"{indent}{name:<22} {format_bytes(value) if of_bytes else words}"


def _as_json(video: Video, talk: Talk) -> str:
    document = {
        "path": _absolute(video.path),
        "sheet": _absolute(video.sheet),
        "size": video.record["made"]["size"],
        "num_frames": video.record["made"]["num_frames"],
        "fps": video.fps,
        "notes": talk.notes,
        **video.record,
    }
    return to_json(document)


def _absolute(path: Path | None) -> str | None:
    return os.path.abspath(path) if path is not None else None


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


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


def _seconds(text: str | None) -> float | None:
    """Seconds of what was said on the command line."""
    return None if text is None else Request(prompt="-", seconds=text).seconds  # type: ignore[arg-type]


def _keyframe(text: str) -> Keyframe:
    seconds, equals, file = text.partition("=")
    try:
        return Keyframe(float(seconds.strip().removesuffix("s")), Path(file))
    except ValueError as error:
        raise RequestError(
            f"a keyframe is written 1.5s=FILE: got {text!r}", "use --keyframe 1.5s=picture.png"
        ) from error


def _box(text: str) -> tuple[float, float, float, float]:
    try:
        left, top, width, height = (float(part) for part in text.split(","))
    except ValueError as error:
        raise RequestError(
            f"a region is written X,Y,WIDTH,HEIGHT in pixels: got {text!r}", "use --region 16,16,32,32"
        ) from error
    return left, top, width, height


def _read_json(file: Path) -> dict[str, Any]:
    """The request in a JSON file, alone or in what `sorano show --json` printed."""
    try:
        words = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise RequestError(f"there is no file {file}") from error
    except (OSError, ValueError) as error:
        raise RequestError(f"{file} cannot be read as JSON: {error}") from error
    words = words.get("request", words) if isinstance(words, dict) else None
    if not isinstance(words, dict):
        raise RequestError(f"{file} holds no request", 'it is an object: {"prompt": "..."}')
    unknown = [name for name in words if name not in REQUEST_FIELDS]
    if unknown:
        raise RequestError(f"{file}: a request has no {unknown[0]!r}", f"it has {', '.join(REQUEST_FIELDS)}")
    return words


def _saved_over(saved: dict[str, Any], fields: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """What was saved, with what is said now over it; options that were not given are left as saved."""
    defaults = {one.name: one.default for one in inspect.signature(_shared).parameters.values()}
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


def _drawn_seed() -> int:
    import secrets

    return secrets.randbelow(2**32)
