"""What a worker makes videos with: the engine, or (in tests and benchmarks) something of fixed cost in its place."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sorano.errors import CheckpointError, RequestError, SoranoError
from sorano.listener import Cancel, Listener
from sorano.serve.checks import machine_words, request_of
from sorano.serve.store import SPRITESHEET, THUMBNAIL, VIDEO
from sorano.shapes import parse_size

THUMBNAIL_SIDE = 360  # pixels, the longer one
SHEET_FRAMES, SHEET_COLUMNS, SHEET_GAP = 12, 6, 4
SHEET_SIDE = 160  # pixels of one frame in it


@dataclass(frozen=True)
class Made:
    """A finished video: what it is, and what making it took."""

    path: Path
    shown: dict[str, Any]
    result: dict[str, Any]


class Maker(Protocol):
    """Makes videos, one at a time."""

    @property
    def loaded(self) -> str | None:
        """The preset whose networks are in memory."""

    def machine(self) -> dict[str, Any]:
        """The device, as `sorano.plan.Machine` in JSON."""

    def make(self, words: dict[str, Any], folder: Path, listener: Listener, cancel: Cancel) -> Made:
        """Makes `folder`/video.mp4 of the fields of a `Request`, going on with what `folder` keeps of an earlier run.

        Raises the errors of the engine; Cancelled within a step after `cancel` was set.
        """

    def variants(self, words: dict[str, Any], video: Path, folder: Path) -> dict[str, Path]:
        """Makes a finished video's thumbnail and sprite sheet in a folder, marked and signed as all that leaves."""


class EngineMaker:
    """Makes videos with `sorano.Engine`: marked, signed and read back as anywhere."""

    def __init__(self) -> None:
        from sorano.engine import Engine
        from sorano.models.runtime import keep_freed_memory

        keep_freed_memory()
        self.engine = Engine()
        self._loaded: str | None = None

    @property
    def loaded(self) -> str | None:
        return self._loaded

    def machine(self) -> dict[str, Any]:
        from sorano.pipeline import choose_machine

        return machine_words(choose_machine("auto"))

    def make(self, words: dict[str, Any], folder: Path, listener: Listener, cancel: Cancel) -> Made:
        output = folder / VIDEO
        video = self._resumed(output, listener, cancel) or self._made(words, output, listener, cancel)
        self._loaded = str(words.get("preset"))
        assert video.path is not None
        made, measured = video.record["made"], video.record["measured"]
        shown = {
            "size": made["size"],
            "num_frames": made["num_frames"],
            "fps": made["fps"],
            "seconds": round(made["num_frames"] / made["fps"], 3),
        }
        result = {
            "verdict": None if video.report is None else video.report.verdict.value,
            "mark_id": None if video.report is None else video.report.mark_id,
            "seconds": measured["seconds"],
            "stages": measured["stages"],
            "peak_bytes": measured["peak_bytes"],
            "device": video.record["machine"]["device"],
        }
        return Made(video.path, shown, result)

    def _resumed(self, output: Path, listener: Listener, cancel: Cancel) -> Any:
        """The video of a run that was stopped; None where nothing was kept, or nothing whole."""
        from sorano.workfolder import STATE, parts_of

        parts = parts_of(output)
        if not (parts / STATE).exists():
            shutil.rmtree(parts, ignore_errors=True)
            return None
        try:
            return self.engine.resume(output, listener=listener, cancel=cancel)
        except (CheckpointError, RequestError) as error:
            if cancel.is_set:
                raise
            listener.note(f"what was kept cannot be used: {error.message}")
            shutil.rmtree(parts, ignore_errors=True)
            return None

    def _made(self, words: dict[str, Any], output: Path, listener: Listener, cancel: Cancel) -> Any:
        from sorano.engine import check_outputs, prepare

        request = request_of(words, output=output, overwrite=True)
        check_outputs(request)
        return self.engine.run(prepare(request, listener), listener=listener, cancel=cancel)

    def variants(self, words: dict[str, Any], video: Path, folder: Path) -> dict[str, Path]:
        from sorano.sources import open_source
        from sorano.trust.seal import write_signed_sheet
        from sorano.video import read_metadata, resize

        request, record = request_of(words), read_metadata(video)
        source = open_source(video)
        last = max(0.0, source.seconds - 0.5 / source.fps)
        times = [last * place / (SHEET_FRAMES - 1) for place in range(SHEET_FRAMES)]
        frames_THWC = source.sampled(times)
        made = {}
        for name, side, shown in (
            (THUMBNAIL, THUMBNAIL_SIDE, frames_THWC[len(frames_THWC) // 3, None]),
            (SPRITESHEET, SHEET_SIDE, frames_THWC),
        ):
            width, height = fitted(source.width, source.height, side=side)
            target = folder / name
            write_signed_sheet(
                request, resize(shown, width, height), target, fps=source.fps, record=record, overwrite=True
            )
            made[name] = target
        return made


def fitted(width: int, height: int, *, side: int) -> tuple[int, int]:
    """A size of the same aspect whose longer side is at most `side` pixels, each side even."""
    scale = min(1.0, side / max(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def sheet_layout(size: str) -> dict[str, Any]:
    """Where the frames are in a sprite sheet of a video of this size, evenly spaced from the first to the last."""
    width, height = fitted(*parse_size(size), side=SHEET_SIDE)
    return {
        "frames": SHEET_FRAMES,
        "columns": SHEET_COLUMNS,
        "gap": SHEET_GAP,
        "frame_width": width,
        "frame_height": height,
    }


def load_maker(name: str) -> Maker:
    """The maker that is named as "module:function", or the engine's. Raises RequestError for one that is not there."""
    if not name:
        return EngineMaker()
    module, _, function = name.partition(":")
    try:
        make: Callable[[], Maker] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise RequestError(f"there is no maker {name}: {error}") from error
    return make()


def error_words(error: BaseException) -> str:
    """A failure as the job says it: a cause and a next step in one line."""
    if isinstance(error, SoranoError):
        return error.message if error.hint is None else f"{error.message}; {error.hint}"
    return f"{type(error).__name__}: {error}"[:500] or type(error).__name__
