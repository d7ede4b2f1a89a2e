"""Videos that are given: opened with limits before any work, then read a few frames at a time.

Whatever the file's time stamps are, its frames come upright, in RGB, at one constant rate: where a phone varied its
rate, frames are shown again or left out. A file that breaks off, or that no machine should be asked to hold, is refused
when it is opened, not when hours of work depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.errors import RequestError, VideoError
from sorano.video import reason, upright

if TYPE_CHECKING:
    from sorano.video import Frames

MOST_SECONDS = 3600.0
MOST_SIDE = 8192  # pixels
CHUNK = 16  # frames read at once
MISSING_SHARE = 0.1  # of its length that a file may lack without being called truncated
FALLBACK_FPS = 24.0


@dataclass(frozen=True)
class Source:
    """A video at hand: a file, or frames in memory."""

    name: str
    width: int
    height: int
    fps: float
    num_frames: int
    path: Path | None = None
    frames_THWC: Frames | None = None
    has_sound: bool = False

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.num_frames / self.fps

    def frames(self, start: int = 0) -> Iterator[Frames]:
        """Its frames [T, H, W, 3] from one on, a few at a time. Raises VideoError where the file breaks off."""
        if self.frames_THWC is not None:
            for first in range(start, self.num_frames, CHUNK):
                yield self.frames_THWC[first : first + CHUNK]
            return
        assert self.path is not None
        yield from _grouped(_decoded(self.path, self.fps, self.num_frames), start)

    def sampled(self, times: list[float]) -> Frames:
        """The frames [T, H, W, 3] that are on screen at some times in seconds, which must not fall."""
        import numpy as np

        wanted = [min(self.num_frames - 1, max(0, int(time * self.fps + 1e-6))) for time in times]
        picked: list[Frames] = []
        first = 0
        for chunk in self.frames():
            while len(picked) < len(wanted) and wanted[len(picked)] < first + len(chunk):
                picked.append(chunk[wanted[len(picked)] - first])
            first += len(chunk)
            if len(picked) == len(wanted):
                break
        return np.stack(picked)


def open_source(video: Any) -> Source:
    """A file, a `Video`, or a `Clip` as a source. Raises RequestError, each cause in its own words."""
    if isinstance(video, Source):
        return video
    if isinstance(video, str | Path):
        path = Path(video)
        if not path.exists():
            raise RequestError(f"there is no file {path}")
        if path.is_dir():
            raise RequestError(f"{path} is a folder", "name a video in it")
        status = path.stat()
        try:
            return _opened(path, status.st_mtime_ns, status.st_size)
        except VideoError as error:
            raise RequestError(error.message, error.hint) from error
    frames_THWC, fps = video.frames_THWC, float(video.fps)
    if not len(frames_THWC):
        raise RequestError("this video holds no frames", "give the path of its file")
    return Source("video", frames_THWC.shape[2], frames_THWC.shape[1], fps, len(frames_THWC), None, frames_THWC)


@lru_cache(maxsize=16)
def _opened(path: Path, _changed: int, _size: int) -> Source:
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise VideoError(f"{path} has no video in it")
            stream = container.streams.video[0]
            codec = stream.codec_context
            if codec is None:
                raise VideoError(f"{path} has video in a code that is not known here")
            if max(codec.width, codec.height) > MOST_SIDE:
                raise VideoError(f"{path} is {codec.width}x{codec.height}; at most {MOST_SIDE} pixels a side are read")
            stated = float(container.duration / av.time_base) if container.duration else 0.0
            if stated > MOST_SECONDS:
                raise VideoError(
                    f"{path} is {stated / 3600:.1f} hours long; at most {MOST_SECONDS / 3600:g} is taken",
                    "cut the part that matters out of it first",
                )
            fps = float(stream.average_rate or stream.guessed_rate or FALLBACK_FPS)
            fps = float(Fraction(fps).limit_denominator(1001)) if 0 < fps <= 240 else FALLBACK_FPS
            unit = stream.time_base or Fraction(1, 1)
            stamps = [p.pts * unit for p in container.demux(stream) if p.size and p.pts is not None]
            has_sound = bool(container.streams.audio)
    except (OSError, ValueError, av.error.FFmpegError) as error:
        raise VideoError(f"{path} cannot be read as a video: {reason(error)}") from error
    if not stamps:
        raise VideoError(f"{path} has no frames in it")
    length = float(max(stamps) - min(stamps)) + 1 / fps
    if stated and length < (1 - MISSING_SHARE) * stated - 1 / fps and length < stated - 0.5:
        raise VideoError(f"{path} breaks off after {length:.1f} of {stated:.1f} s", "it may not have been copied whole")
    first = next(_decoded(path, fps, 1))
    height, width = first.shape[:2]
    return Source(path.name, width, height, fps, max(1, round(length * fps)), path, None, has_sound)


def _decoded(path: Path, fps: float, most: int) -> Iterator[Frames]:
    """Single frames [H, W, 3] at a constant rate, at most `most` of them."""
    import av

    count = 0
    last: Frames | None = None
    start: float | None = None
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                time = frame.time if frame.time is not None else count / fps
                start = time if start is None else start
                place = round((time - start) * fps)
                frame_HWC = upright(frame)
                if last is not None and frame_HWC.shape != last.shape:
                    raise VideoError(f"{path} changes its size after {count} frames", "cut it there")
                while last is not None and count < min(place, most):
                    yield last
                    count += 1
                last = frame_HWC
                if count >= most:
                    return
    except (OSError, ValueError, IndexError, av.error.FFmpegError) as error:
        raise VideoError(
            f"{path} breaks off after {count} frames: {reason(error)}", "it may not have been copied whole"
        ) from error
    if last is None:
        raise VideoError(f"{path} holds no frame that can be decoded")
    while count < most:
        yield last
        count += 1


def _grouped(frames: Iterator[Frames], start: int) -> Iterator[Frames]:
    import numpy as np

    held: list[Frames] = []
    for index, frame_HWC in enumerate(frames):
        if index < start:
            continue
        held.append(frame_HWC)
        if len(held) == CHUNK:
            yield np.stack(held)
            held = []
    if held:
        yield np.stack(held)
