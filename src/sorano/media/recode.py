"""A file written anew: its picture as a player shows it, frame by frame through a function, and all else beside it.

Frames keep their times, audio, subtitles and chapters theirs. What a container cannot take is found before work begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.errors import VideoError
from sorano.files import is_full
from sorano.media import read
from sorano.media.audio import COPIED_TEXT, AudioChange, AudioTrack, Tracks, carry_chapters, is_deep
from sorano.media.timing import JUMP

if TYPE_CHECKING:
    from sorano.media.read import Frames, Media

CODER = {"crf": "18", "preset": "medium"}  # of x264: visually close to the frames
VP9 = {"crf": "24", "b": "0", "cpu-used": "4", "row-mt": "1"}
BT709 = 1  # the number of the BT.709 primaries, transfer and matrix in H.273
LIMITED_RANGE = 1  # luma in 16..235, what every player expects
FINEST = 1_000_000  # ticks a second of a time base that is kept
USUAL_TICKS = 90_000

# One frame [1, H, W, 3], its index, and the seconds from and until which it is shown; the same frame, changed.
Paint = Callable[["Frames", int, float, float], "Frames"]


@dataclass
class Recoded:
    """What was written."""

    num_frames: int = 0
    seconds: float = 0.0
    width: int = 0
    height: int = 0
    notes: list[str] = field(default_factory=list)


def losses(media: Media, kind: str) -> list[str]:
    """What a file has that another of a kind (mp4, matroska, webm) would not get, in words; before work begins."""
    lost = read.left_out(media.num_video_tracks - 1, "further video track")
    if media.has_alpha:
        lost.append("its transparency is left out")
    if media.is_image or not (media.num_audio_tracks or media.num_text_tracks):
        return lost
    with read.inspected(media.path) as given:
        for stream in given.streams.subtitles:
            name = stream.codec_context.codec.canonical_name if stream.codec_context is not None else "unknown"
            if name not in COPIED_TEXT[kind]:
                lost.append(f"a subtitle track ({name}) is left out")
        for stream in given.streams.audio:
            if stream.codec_context is None:
                lost.append("an audio track in a code that is not known here is left out")
            elif len(stream.codec_context.layout.channels) > 8:
                lost.append(f"{len(stream.codec_context.layout.channels)} audio channels become 8")
    return lost


def recode(
    media: Media,
    target: Path,
    kind: str,
    paint: Paint,
    tags: Mapping[str, str],
    change: AudioChange | None = None,
) -> Recoded:
    """Writes `target`, of a kind (mp4, matroska, webm); `change` changes what is heard, as `paint` what is shown.

    Raises VideoError; a full disk is an OSError.
    """
    import av

    done = Recoded()
    options = {"movflags": "+faststart"} if kind == "mp4" else {}
    try:
        with ExitStack() as stack:
            out = stack.enter_context(av.open(f"file:{target}", "w", format=kind, options=options))
            out.metadata.update(tags)
            tracks: Tracks | None = None
            shift = origin = 0.0
            if not media.is_image:
                given = stack.enter_context(read.opened(media.path))
                first, origin = _starts(media)
                shift = -origin
                tracks = Tracks(given, out, kind, shift=shift, change=change)
                done.notes += tracks.said
                carry_chapters(given, out, shift)
                origin = first - origin  # when the picture begins
            others = _Others(given, tracks) if tracks is not None else None
            _write_picture(media, out, kind, paint, origin, others, done)
            if others is not None:
                others.rest()
                others.tracks.close()
    except (ValueError, av.error.FFmpegError) as error:
        if is_full(error):
            raise
        where = f" after {done.num_frames} frames" if done.num_frames else ""
        reason = getattr(error, "strerror", None) or error
        raise VideoError(f"{media.path} could not be written anew{where}: {reason}") from error
    return done


def audio_losses(path: Path, kind: str) -> list[str]:
    """What a file of audio alone has that another of a kind (ipod, mp3, wav, flac) would not get, in words."""
    with read.inspected(path) as given:
        lost = read.left_out(len(given.streams.audio) - 1, "further audio track")
        lost += read.left_out(len(given.streams.video), "cover picture")
        heard = read.audio_stream(given)
        if heard is None:
            return lost
        codec = heard.codec_context
        if is_deep(codec) and kind == "flac":
            lost.append("its samples of more than 16 bits become 16")
        if len(codec.layout.channels) > (2 if kind == "mp3" else 8):
            lost.append(f"{len(codec.layout.channels)} audio channels become {2 if kind == 'mp3' else 8}")
        return lost


def recode_audio(path: Path, target: Path, kind: str, change: AudioChange) -> None:
    """Writes `target`, of a kind (ipod, mp3, wav, flac), with the audio that players choose of a file, changed, and
    with its tags. Raises VideoError; a full disk is an OSError.
    """
    import av

    try:
        with read.opened(path) as given, av.open(f"file:{target}", "w", format=kind) as out:
            heard = read.audio_stream(given)
            track = AudioTrack(heard, out, kind, shift=-_audio_start(heard), change=change)
            out.metadata.update({str(name): str(value)[: read.MOST_TEXT] for name, value in given.metadata.items()})
            for packet in given.demux(heard):
                track.pass_on(packet)
            track.close()
    except (ValueError, av.error.FFmpegError) as error:
        if is_full(error):
            raise
        raise VideoError(f"{path} could not be written anew: {getattr(error, 'strerror', None) or error}") from error


def _audio_start(heard: Any) -> float:
    return float(heard.start_time * heard.time_base) if heard.start_time and heard.time_base else 0.0


def _starts(media: Media) -> tuple[float, float]:
    """When the picture begins in the file's own time, and when the first of picture and sound does."""
    with read.inspected(media.path) as given:
        first = read.picture_start(given, media.path)
        starts = [first]
        for stream in given.streams.audio:
            if stream.start_time is not None and stream.time_base:
                starts.append(float(stream.start_time * stream.time_base))
    return first, max(min(starts), first - JUMP)


class _Others:
    """The packets of all other tracks, passed on up to a time, so that they lie beside the picture's."""

    def __init__(self, given: Any, tracks: Tracks) -> None:
        self.tracks = tracks
        self.packets: Iterator[Any] = given.demux(tracks.streams) if tracks.streams else iter(())
        self.ahead = next(self.packets, None)

    def until(self, seconds: float) -> None:
        """All that begins before a time of the new file."""
        while self.ahead is not None:
            stamp = self.ahead.dts if self.ahead.dts is not None else self.ahead.pts
            shift = getattr(self.tracks.by_index[self.ahead.stream.index], "shift", 0.0)
            if stamp is not None and float(stamp * self.ahead.time_base) + shift > seconds:
                return
            self.tracks.pass_on(self.ahead)
            self.ahead = next(self.packets, None)

    def rest(self) -> None:
        """All that is left."""
        self.until(float("inf"))


def _write_picture(
    media: Media, out: Any, kind: str, paint: Paint, begins: float, others: _Others | None, done: Recoded
) -> None:
    import av
    import numpy as np

    unit = _unit(media)
    lengths: dict[int, int] = {}  # ticks of each frame that is in the encoder
    stream: Any = None
    last = -1

    def put(packets: Any) -> None:
        for packet in packets:
            packet.duration = lengths.pop(packet.pts, 0)
            if others is not None:
                others.until(float(packet.dts * packet.time_base))
            out.mux(packet)

    for picture in read.pictures_of(media):
        height, width = picture.frame_HWC.shape[:2]
        if stream is None:
            done.width, done.height = width, height
            stream = _picture_stream(out, kind, media, unit)
        elif (width, height) != (done.width, done.height):
            raise VideoError(
                f"{media.path} changes its size in frame {done.num_frames}", "cut it there, mark each part"
            )
        painted = paint(picture.frame_HWC[None], done.num_frames, picture.start, picture.end)[0]
        even = np.pad(painted, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        last = max(last + 1, round((picture.start + begins) / unit))
        frame.pts, frame.time_base = last, unit
        lengths[last] = max(1, round((picture.end + begins) / unit) - last)
        put(stream.encode(frame))
        done.num_frames, done.seconds = done.num_frames + 1, picture.end
    put(stream.encode())


def _unit(media: Media) -> Fraction:
    """The time base of the file, where it says when frames are shown and is not too fine; else a usual one."""
    if not media.is_image:
        with read.inspected(media.path) as given:
            unit = read.video_stream(given, media.path).time_base
            if unit and Fraction(1, FINEST) <= unit <= Fraction(1, 1000):
                return Fraction(unit)
            if unit and given.format.name == "avi":
                return Fraction(unit) / 1000  # a whole number of ticks for each frame
    return Fraction(1, USUAL_TICKS)


def _picture_stream(out: Any, kind: str, media: Media, unit: Fraction) -> Any:
    rate = media.fps if media.fps > 0 else read.USUAL_RATE
    stream = out.add_stream(
        "libvpx-vp9" if kind == "webm" else "libx264", rate=Fraction(rate).limit_denominator(100_000)
    )
    codec = stream.codec_context
    codec.width, codec.height, codec.pix_fmt = media.width + media.width % 2, media.height + media.height % 2, "yuv420p"
    codec.options = dict(VP9 if kind == "webm" else CODER)
    codec.color_primaries = codec.color_trc = codec.colorspace = BT709
    codec.color_range = LIMITED_RANGE
    codec.sample_aspect_ratio = media.aspect
    codec.time_base = unit
    return stream
