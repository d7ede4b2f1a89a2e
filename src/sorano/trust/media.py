"""Foreign videos and pictures as frames: streamed in constant memory, whatever they are, with limits.

Not covered: sound, subtitles, HDR (10-bit and more become 8 bits), alpha (pictures over white, videos
without it), pictures of more than 50 megapixels and videos beyond 8192 pixels a side, which are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sorano.errors import VideoError
from sorano.trust import containers
from sorano.video import reason, upright

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sorano.video import Frames

MOST_SIDE = 8192
CHUNK_BYTES = 64_000_000  # of frames at once: 60 of 540p, 2 of 4K
MOST_CHUNK = 32  # frames
MOST_TEXT = 1000  # characters of one tag


@dataclass(frozen=True)
class Media:
    """What a file holds: one picture, or a stream of frames."""

    path: Path
    container: containers.Container
    width: int
    height: int
    fps: float
    codec: str
    pixel_format: str
    seconds: float | None = None
    has_audio: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    num_video_tracks: int = 1
    num_audio_tracks: int = 0
    num_text_tracks: int = 0
    num_pictures: int = 0  # of a picture file: its pages, or frames of an animation
    has_alpha: bool = False

    @property
    def is_image(self) -> bool:
        """A still picture."""
        return self.container.is_image

    @property
    def chunk_frames(self) -> int:
        """How many frames are read at once."""
        return max(1, min(MOST_CHUNK, CHUNK_BYTES // max(1, 3 * self.width * self.height)))


def probe(path: Path) -> Media:
    """What a file holds. Raises VideoError, each cause with its own words."""
    if path.is_dir():
        raise VideoError(f"{path} is a folder", "name the files in it, or give the folder to sorano verify")
    if not path.exists():
        raise VideoError(f"there is no file {path}")
    if path.stat().st_size == 0:
        raise VideoError(f"{path} is empty")
    container = containers.sniff(path)
    return _probe_image(path, container) if container.is_image else _probe_video(path, container)


def chunks(media: Media, most_seconds: float | None = None) -> Iterator[Frames]:
    """The frames [T, H, W, 3] of a file, a few at a time. Raises VideoError where none can be decoded."""
    import av
    import numpy as np

    from sorano.video import read_image

    if media.is_image:
        yield read_image(media.path)[None]
        return
    held: list[Frames] = []
    size = (0, 0)
    most = None if most_seconds is None else max(1, round(most_seconds * (media.fps or 25)))
    count = 0
    try:
        with av.open(str(media.path)) as opened:
            stream = opened.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in opened.decode(stream):
                if held and (frame.width, frame.height) != size:
                    yield np.stack(held)  # streams may change their size
                    held = []
                size = (frame.width, frame.height)
                held.append(upright(frame))
                count += 1
                if len(held) >= media.chunk_frames:
                    yield np.stack(held)
                    held = []
                if most is not None and count >= most:
                    break
    except (OSError, ValueError, IndexError, av.error.FFmpegError) as error:
        if not count:
            raise VideoError(f"{media.path} holds no frame that can be decoded: {reason(error)}") from error
        if held:
            yield np.stack(held)
        raise VideoError(
            f"{media.path} breaks off after {count} frames: {reason(error)}", "it may not have been copied whole"
        ) from error
    if not count:
        raise VideoError(f"{media.path} has no frames in it")
    if held:
        yield np.stack(held)


@dataclass(frozen=True)
class Shown:
    """Frames as they are displayed: uint8 RGB [T, H, W, 3], and when each appears and disappears, in seconds."""

    frames_THWC: Frames
    starts_T: NDArray[np.float64]
    ends_T: NDArray[np.float64]


def shown(media: Media) -> Iterator[Shown]:
    """The frames of the video track that is played, with their presentation times; the first one appears at 0.

    Raises VideoError where none can be decoded, and at its end where the file breaks off.
    """
    import numpy as np

    if media.is_image:
        for frames in chunks(media):
            yield Shown(frames, np.zeros(1), np.zeros(1))
        return
    times = _frame_times(media)
    at = 0
    for frames in chunks(media):
        starts = times[at : at + len(frames)]
        ends = times[at + 1 : at + 1 + len(frames)]
        yield Shown(frames, starts, ends)
        at += len(frames)


def _frame_times(media: Media) -> NDArray[np.float64]:
    """When each frame appears, and when the last one disappears, from the packets."""
    import av
    import numpy as np

    with av.open(str(media.path)) as opened:
        stream = opened.streams.video[0]
        base = float(stream.time_base or 0) or 1 / 90_000
        packets = [packet for packet in opened.demux(stream) if packet.size and packet.pts is not None]
        stamps = sorted(packet.pts for packet in packets if packet.pts is not None)
        last = max(packets, key=lambda packet: packet.pts or 0).duration if packets else 0
    starts = np.array(stamps, np.float64) * base
    usual = 1 / media.fps if media.fps > 0 else 0.04
    end = starts[-1] + (last * base if last else usual) if len(starts) else 0.0
    times = np.append(starts, end) - (starts[0] if len(starts) else 0.0)
    return np.append(times, times[-1] + usual * np.arange(1, 64))  # decoders may give a few more


def sound(media: Media, rate: int = 16_000) -> Iterator[NDArray[np.float32]]:
    """The audio as mono floats in -1..1 at a rate, a few at a time; nothing where there is none. Raises VideoError."""
    import av
    import numpy as np

    if media.is_image or not media.has_audio:
        return
    try:
        with av.open(str(media.path)) as opened:
            resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
            for frame in opened.decode(opened.streams.audio[0]):
                for part in resampler.resample(frame):
                    yield part.to_ndarray().reshape(-1).astype(np.float32)
            for part in resampler.resample(None):
                yield part.to_ndarray().reshape(-1).astype(np.float32)
    except (OSError, ValueError, IndexError, av.error.FFmpegError) as error:
        raise VideoError(f"{media.path} has audio that cannot be decoded: {reason(error)}") from error


def _probe_image(path: Path, container: containers.Container) -> Media:
    from PIL import Image

    from sorano.video import IMAGE_FORMATS, read_image

    height, width = read_image(path).shape[:2]
    with Image.open(path, formats=IMAGE_FORMATS) as image:
        pictures = int(getattr(image, "n_frames", 1))
        transparent = "A" in image.getbands() or "transparency" in image.info
    return Media(
        path, container, width, height, 1.0, container.name, "rgb",
        num_video_tracks=0, num_pictures=pictures, has_alpha=transparent,
    )  # fmt: skip


def _probe_video(path: Path, container: containers.Container) -> Media:
    import av

    try:
        with av.open(str(path)) as opened:
            tags = {str(name): str(value)[:MOST_TEXT] for name, value in opened.metadata.items()}
            if not opened.streams.video:
                what = "sound, but no video in it" if opened.streams.audio else "no video in it"
                raise VideoError(f"{path} has {what}")
            stream = opened.streams.video[0]
            codec = stream.codec_context
            if codec is None:
                raise VideoError(f"{path} has video in a code that is not known here")
            width, height = codec.width, codec.height
            fps = float(stream.average_rate or stream.guessed_rate or 0)
            seconds = float(opened.duration / av.time_base) if opened.duration else None
            found = Media(
                path, container, width, height, fps, codec.name, str(codec.pix_fmt), seconds,
                bool(opened.streams.audio), tags, len(opened.streams.video), len(opened.streams.audio),
                len(opened.streams.subtitles), 0, str(codec.pix_fmt).startswith(("yuva", "rgba", "argb", "bgra")),
            )  # fmt: skip
    except (OSError, ValueError, av.error.FFmpegError) as error:
        raise VideoError(f"{path} cannot be read as a video: {reason(error)}") from error
    if width < 1 or height < 1:
        raise VideoError(f"{path} does not say how large its frames are")
    if max(width, height) > MOST_SIDE:
        raise VideoError(f"{path} has frames of {width}x{height}; at most {MOST_SIDE} pixels a side are read")
    return found
