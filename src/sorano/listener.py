"""What a run tells while it works, and how it is stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from sorano.errors import Cancelled

if TYPE_CHECKING:
    from sorano.plan import Machine, RunEstimate
    from sorano.resolve import Job
    from sorano.video import Frames


class Listener:
    """Receives the notes and the progress of a run. This one ignores them; the command's prints them."""

    def planned(self, job: Job, machine: Machine, estimate: RunEstimate) -> None:
        """Called before any work: what will be made, where, and what it should cost."""

    def note(self, text: str) -> None:
        """Something that the user should know: a value that was adjusted, a word that the model does not know."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` parts of "denoise", "decode" or "film"."""

    def preview(self, step: int, num_steps: int, look: Callable[[], Frames]) -> None:
        """After a step of a clip, or of a window of a film: `look()` decodes what its first new frame will about be,
        [H, W, 3]; only who calls it pays for it."""

    def check(self) -> None:
        """Called after every denoising step and decoded chunk, of clips and films: raise here to stop the run."""


class Cancel:
    """A request to stop a run, from any thread. The run stops after the denoising step or decoded chunk at hand."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask the run to stop."""
        self._event.set()

    @property
    def is_set(self) -> bool:
        """Whether `set` was called."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise Cancelled after `set`."""
        if self._event.is_set():
            raise Cancelled("the run was cancelled")


class CancellingListener(Listener):
    """Passes everything on, and raises Cancelled at the first `check` after a `Cancel` was set."""

    def __init__(self, inner: Listener, cancel: Cancel) -> None:
        self.inner, self.cancel = inner, cancel

    def planned(self, job: Job, machine: Machine, estimate: RunEstimate) -> None:
        self.inner.planned(job, machine, estimate)

    def note(self, text: str) -> None:
        self.inner.note(text)

    def progress(self, stage: str, done: int, total: int) -> None:
        self.inner.progress(stage, done, total)

    def preview(self, step: int, num_steps: int, look: Callable[[], Frames]) -> None:
        self.inner.preview(step, num_steps, look)

    def check(self) -> None:
        self.cancel.check()
        self.inner.check()


class OnceListener(Listener):
    """Passes previews on, each note once, and no progress: for the windows of a film, whose progress is the whole's."""

    def __init__(self, inner: Listener) -> None:
        self.inner = inner
        self.said: set[str] = set()

    def note(self, text: str) -> None:
        if text not in self.said:
            self.said.add(text)
            self.inner.note(text)

    def preview(self, step: int, num_steps: int, look: Callable[[], Frames]) -> None:
        self.inner.preview(step, num_steps, look)

    def check(self) -> None:
        self.inner.check()
