"""Videos that are given: opened with limits before any work, then read a few frames at a time.

`sorano.media.read` says what is on screen when; here that comes at one constant rate: where a phone varied its rate,
frames are shown again or left out. A file that breaks off, or that no machine should be asked to hold, is refused when
it is opened, not when hours of work depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.errors import RequestError, VideoError
from sorano.media import read

if TYPE_CHECKING:
    from sorano.video import Frames

MOST_SECONDS = 3600.0
CHUNK = 16  # frames read at once


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
    aspect: Fraction = Fraction(1)  # of a pixel, where rounding to square pixels left something
    media: read.Media | None = None
    notes: tuple[str, ...] = ()  # what is changed about it when it is read

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
        assert self.media is not None
        yield from _grouped(_decoded(self.media, self.fps, self.num_frames), start)

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
    found = read.probe(path)
    if found.is_image and not found.is_animated:
        raise VideoError(f"{path} is a picture, not a video", "use --image to start from it")
    if found.seconds is not None and found.seconds > MOST_SECONDS:
        raise VideoError(
            f"{path} is {found.seconds / 3600:.1f} hours long; at most {MOST_SECONDS / 3600:g} is taken",
            "cut the part that matters out of it first",
        )
    length = found.seconds or 0.0
    if not found.is_image:
        with read.inspected(path) as given:
            video = read.video_stream(given, path)
            length, count = read.length_of(given, video, path)
            if length > MOST_SECONDS:
                raise VideoError(f"{path} is longer than {MOST_SECONDS / 3600:g} hour", "cut the part that matters out")
            if not video.average_rate or not 0 < video.average_rate <= read.MOST_RATE:
                found = replace(found, fps=min(read.MOST_RATE, max(count / length, 1 / length)))
    next(read.pictures_of(found))  # raises where nothing can be decoded
    fps = float(Fraction(found.fps).limit_denominator(1001)) or found.fps
    count = max(1, round(length * fps))
    return Source(
        path.name,
        found.width,
        found.height,
        fps,
        count,
        path,
        None,
        found.has_audio,
        found.aspect,
        found,
        _notes(found),
    )


def _notes(found: read.Media) -> tuple[str, ...]:
    """What does not come along as it is, in words."""
    return (
        *read.notes(found),
        *read.left_out(found.num_video_tracks - 1, "further video track"),
        *read.left_out(found.num_audio_tracks - 1, "further audio track"),
        *read.left_out(found.num_text_tracks, "subtitle track"),
        *(["its transparency is left out"] if found.has_alpha else []),
    )


def _decoded(media: read.Media, fps: float, most: int) -> Iterator[Frames]:
    """Single frames [H, W, 3] at a constant rate, `most` of them: each moment shows what is on screen then."""
    count = 0
    last: Frames | None = None
    for picture in read.pictures_of(media):
        if last is not None and picture.frame_HWC.shape != last.shape:
            raise VideoError(f"{media.path} changes its size after {count} frames", "cut it there")
        while last is not None and count < min(round(picture.start * fps), most):
            yield last
            count += 1
        if count >= most:
            return
        last = picture.frame_HWC
    while last is not None and count < most:
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


def saved_prompt(path: Path) -> str | None:
    """The prompt that a video says it was made of; None where it says none."""
    from sorano.video import read_metadata

    try:
        request = read_metadata(path).get("request", {})
    except VideoError:
        return None
    prompt = request.get("prompt") if isinstance(request, dict) else None
    return prompt if isinstance(prompt, str) and prompt.strip() else None
