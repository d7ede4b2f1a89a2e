"""The `sorano` command: one thin function per verb.

stdout is data: the path of the video, or one JSON document with `--json`. stderr is conversation: the plan, notes,
progress, errors. Exit codes are those of `sorano.errors`. Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sorano.errors import EXIT_INTERRUPTED, SoranoError
from sorano.generate import Listener, default_path
from sorano.generate import generate as make_video
from sorano.models.runtime import keep_freed_memory
from sorano.plan.cli import app as plan_app
from sorano.presets import DEFAULT_PRESET, PRESETS, write_card
from sorano.request import Request
from sorano.trust.cli import mount as mount_trust

if TYPE_CHECKING:
    from rich.progress import Progress

    from sorano.generate import Video
    from sorano.plan import Machine, RunEstimate
    from sorano.request import Resolved

app = typer.Typer(
    name="sorano",
    help="Text and images in, video out.",
    epilog='Start with:  sorano generate "a red ball bounces on the grass at sunset"',
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(plan_app, name="plan")
train_app = typer.Typer(help="Train a model from nothing.", no_args_is_help=True)
app.add_typer(train_app, name="train")

WHAT, HOW, FILE, TALK = "What to make", "How to sample", "The file", "What is said"


def main() -> None:
    """Runs the command line; the way out for every exit code."""
    try:
        app()
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != EXIT_INTERRUPTED:
            raise
        # Not sys.exit: Python itself ends with SIGINT's own code where the key was pressed during certain imports.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(EXIT_INTERRUPTED)


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


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help='What to see, in quotes: "a blue cube spins on the snow at night".')],
    # what to make
    image: Annotated[
        Path | None,
        typer.Option(help="Begin with this picture (PNG, JPEG, WebP); it is scaled to fill.", rich_help_panel=WHAT),
    ] = None,
    last: Annotated[
        Path | None,
        typer.Option(help="End with this picture, on models that take a first and a last one.", rich_help_panel=WHAT),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="Length; the nearest 4k + 1 frames are made. Default: the preset's.", rich_help_panel=WHAT),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames per second. Default: the preset's.", rich_help_panel=WHAT)
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Width x height in pixels, like 64x64. Default: the preset's.", metavar="WxH", rich_help_panel=WHAT
        ),
    ] = None,
    negative_prompt: Annotated[
        str | None, typer.Option(help="What to steer away from. Default: the preset's.", rich_help_panel=WHAT)
    ] = None,
    # how to sample
    preset: Annotated[
        str,
        typer.Option(help=f"A model: {', '.join(PRESETS)}, or the path of a diffusers folder.", rich_help_panel=HOW),
    ] = DEFAULT_PRESET,
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
            help="A LoRA file to merge into the transformer, and how much of it; may be given again.",
            metavar="FILE[:SCALE]",
            rich_help_panel=HOW,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps or xpu.", rich_help_panel=HOW)] = "auto",
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
            help="Where to write the MP4. Default: named after the prompt, here.",
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
            help="Whose law asks for labels: cn (draws a visible sign too), eu, none. All is marked and signed anyway.",
            rich_help_panel=FILE,
        ),
    ] = "none",
    visible_label: Annotated[
        bool | None,
        typer.Option(
            "--visible-label/--no-visible-label",
            help='Draw "AI-generated" on the first seconds. Default: for the audience cn.',
            rich_help_panel=FILE,
        ),
    ] = None,
    producer: Annotated[
        str,
        typer.Option(help="Who the label names: a name, or a provider's 27-character code.", rich_help_panel=FILE),
    ] = "Sorano",
    # what is said
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
    """Make a video of a sentence.

    The plan comes first, then progress, both on stderr; stdout gets the path of the finished file and nothing else.
    """
    with errors_said():
        request = Request(
            prompt=prompt,
            negative_prompt=negative_prompt,
            image=image,
            last=last,
            seconds=seconds,
            fps=fps,
            size=size,
            preset=preset,
            seed=seed,
            num_steps=num_steps,
            guidance=guidance,
            guidance_2=guidance_2,
            shift=shift,
            settings=settings,
            lora=lora or (),
            device=device,
            memory=memory,
            output=output,
            sheet=sheet,
            upscale=upscale,
            overwrite=overwrite,
            private=private,
            audience=audience,
            visible_label=visible_label,
            producer=producer,
        )
        if request.seed is None:
            request = replace(request, seed=_drawn_seed())
        if request.output is None:
            request = replace(request, output=default_path(request))
        with Talk(quiet=quiet, verbose=verbose) as talk:
            talk.memory = keep_freed_memory()
            video = make_video(request, listener=talk)
        print(_as_json(video, talk) if as_json else _absolute(video.path))


@app.command()
def resume(
    file: Annotated[Path, typer.Argument(help="NAME.latent.safetensors, as a failed run said.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the path.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors on stderr.")] = False,
) -> None:
    """Finish a run that failed, or was killed, while it decoded: only decoding is done again."""
    with errors_said():
        from sorano.generate import resume as finish_run

        with Talk(quiet=quiet, verbose=False) as talk:
            talk.memory = keep_freed_memory()
            video = finish_run(file, listener=talk)
        print(_as_json(video, talk) if as_json else _absolute(video.path))


@train_app.command("world")
def train_world(
    recipe: Annotated[
        str, typer.Option(help="cpu: two hours on two cores; gpu: 25 minutes of a large GPU; smoke: seconds.")
    ] = "cpu",
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the run. A run that was stopped goes on where it was.")
    ] = Path("runs/world"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print every derived value and exit.")] = False,
) -> None:
    """Train the world model from nothing: render, autoencoder, flow model, and a diffusers folder at the end.

    stdout gets the path of that folder; `sorano generate --preset PATH` uses it.
    """
    with errors_said():
        from sorano.train import recipes

        chosen = recipes.find(recipe)
        if dry_run:
            for name, value, why in recipes.describe(chosen):
                print(f"{name:<18} {value:<44} {why}".rstrip())
            return
        folder = recipes.run(chosen, out, log=_say)
        write_card(
            folder,
            size=f"{chosen.size}x{chosen.size}",
            num_frames=chosen.num_frames,
            fps=chosen.fps,
            max_num_frames=chosen.clip_frames,
            max_side=2 * chosen.size,
            small_vocabulary=True,
            num_steps=chosen.num_steps,
            guidance=chosen.guidance,
        )
        print(_absolute(folder))


@app.command()
def score(
    preset: Annotated[str, typer.Option(help="A preset's name, or the path of a diffusers folder.")] = DEFAULT_PRESET,
    num_clips: Annotated[int, typer.Option(help="Clips to make and judge, of each split.", min=1)] = 200,
    recipe: Annotated[str, typer.Option(help="Whose aims to compare with: cpu or gpu.")] = "cpu",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps or xpu.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the table.")] = False,
) -> None:
    """Score a world model: does each video show what its caption says? With the judge's own errors beside it."""
    with errors_said():
        from sorano.world.score import load_sampler, score_model

        sampler = load_sampler(preset, device)
        report = score_model(
            sampler.generate,
            reconstruct=sampler.reconstruct,
            untrained=sampler.untrained().generate,
            num_clips=num_clips,
            recipe=recipe,
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
        if Path(name).is_file() or Path(name).suffix == ".mp4":
            from sorano.video import read_metadata

            shown = read_metadata(name)
        else:
            from sorano import hub

            shown = hub.show(name)
        print(json.dumps(shown, ensure_ascii=False) if as_json else "\n".join(_lines(shown)))


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

    def __init__(self, *, quiet: bool, verbose: bool) -> None:
        self.quiet, self.verbose = quiet, verbose
        self.notes: list[str] = []
        self.memory = ""
        self._bars = Bars(_progress_bar, quiet=quiet)

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.__exit__(*exception)

    def planned(self, job: Resolved, machine: Machine, estimate: RunEstimate) -> None:
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

    def note(self, text: str) -> None:
        self.notes.append(text)
        self.say(f"note: {text}")

    def progress(self, stage: str, done: int, total: int) -> None:
        self._bars.show(stage, done, total)

    def say(self, text: str) -> None:
        if not self.quiet:
            _say(text)


@contextmanager
def errors_said(interrupted: str = "nothing was written") -> Iterator[None]:
    """Errors become a line or two on stderr and their exit code; a request to stop becomes 130."""
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    except SoranoError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        for note in getattr(error, "__notes__", ()):
            print(f"hint: {note}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        kept = "; ".join(getattr(error, "__notes__", ()))
        print(f"\ninterrupted: {kept or interrupted}", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from error
    finally:
        signal.signal(signal.SIGTERM, before)


mount_trust(app, errors_said)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    """A polite request to end is an interruption too: no partial file stays behind."""
    raise KeyboardInterrupt


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
            yield f"{indent}{name:<22} {format_bytes(value) if of_bytes else value}"


def _as_json(video: Video, talk: Talk) -> str:
    document = {
        "path": _absolute(video.path),
        "sheet": _absolute(video.sheet),
        "size": f"{video.frames_THWC.shape[2]}x{video.frames_THWC.shape[1]}",
        "num_frames": len(video.frames_THWC),
        "fps": video.fps,
        "notes": talk.notes,
        **video.record,
    }
    return json.dumps(document, ensure_ascii=False)


def _absolute(path: Path | None) -> str | None:
    return os.path.abspath(path) if path is not None else None


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _drawn_seed() -> int:
    import secrets

    return secrets.randbelow(2**32)
