"""What a run says in the terminal: the plan, notes, progress bars and previews, all on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sorano.cli.console import asked_to_stop, say
from sorano.errors import RequestError
from sorano.listener import Listener

if TYPE_CHECKING:
    from rich.progress import Progress

    from sorano.cli.preview import Preview
    from sorano.plan import Machine, RunEstimate
    from sorano.resolve import Job

LONG_SECONDS = 600  # a job that the plan puts over this on a CPU is not started without a yes


class ProgressBars:
    """Bars on stderr, one for each stage, from the first moment that there is something to show."""

    def __init__(self, make: Callable[[], Progress], *, quiet: bool) -> None:
        self._make, self._quiet = make, quiet
        self._tasks: dict[str, Any] = {}
        self._progress: Progress | None = None

    def __enter__(self) -> ProgressBars:
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


class ConsoleListener(Listener):
    """Says on stderr what a run is doing: the plan, notes, and a bar with the time left."""

    def __init__(self, *, quiet: bool, verbose: bool, yes: bool = True, previews: bool = False) -> None:
        self.quiet, self.verbose, self.yes = quiet, verbose, yes
        self._preview: Preview | None = None
        if previews and not quiet and sys.stderr.isatty():
            from sorano.cli.preview import Preview

            self._preview = Preview(sys.stderr)
        self.notes: list[str] = []
        self.memory = self._film = ""
        self._bars = ProgressBars(step_bars, quiet=quiet)

    def __enter__(self) -> ConsoleListener:
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
            f"and {format_duration(estimate.seconds)} on {machine.device}"
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
            self._ask(format_duration(estimate.seconds * request.variations))
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
        if stage == "film":
            self._film = f"{done} of {total} frames, "
        if self._preview is None or stage not in ("denoise", "film"):  # a preview has a line of its own
            self._bars.show(stage, done, total)

    def preview(self, step: int, num_steps: int, look: Callable[[], Any]) -> None:
        if self._preview is not None and (self._preview.is_due or step == num_steps):
            began = time.monotonic()
            frame_HWC = look()
            self._preview.show(frame_HWC, f"{self._film}step {step} of {num_steps}", time.monotonic() - began)

    def say(self, text: str) -> None:
        if not self.quiet:
            say(text)


def step_bars() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def download_bars() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description:8}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)


def format_duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
