"""Foreign videos and pictures as players show them: the one place where their frames and their sound are read.

Frames come in constant memory, in RGB, upright, mirrored as the file says, with square pixels, at the times at which a
player shows them: what an edit list hides is left out, stamps that are missing, repeat or jump are counted through,
interlaced frames are deinterlaced, HDR and wide colour become sRGB.

Not covered: encrypted files, HEIC, container cropping, frames above 8192 pixels a side, closed captions.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sorano.errors import VideoError
from sorano.media import pictures
from sorano.media.colour import Colour, colour_of
from sorano.media.screen import UNTURNED, Screen, has_alpha, matrix_of, rest_of_aspect, square_size
from sorano.media.timing import JUMP, SMALL_STEP, Clock, Continued, placed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]

MOST_SIDE = 8192  # pixels
MOST_PIXELS = 36_000_000  # of a frame: 8192 x 4320 is 35.4 million
MOST_TRACKS = 64  # of picture and sound
MOST_STREAMS = 400  # with subtitles and the fonts that they need
CHUNK_BYTES = 24_000_000  # of frames at once: 15 of 540p, 1 of 4K
MOST_CHUNK = 32  # frames
MOST_TEXT = 1000  # characters of one tag
MOST_COMMENT = 1_000_000
MOST_RATE = 240.0  # frames a second; above, the number is a time base, not a rate
USUAL_RATE = 25.0
LOOKED_AT = 32  # packets that tell whether a file has display times
BROKEN_START = 300  # packets before the first frame that may fail: a recording that begins between key frames
# What is opened: no playlists or scripts, which name other files and addresses, no numbered pictures.
DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,h264,hevc,vvc,av1,obu,ivf,m4v,mjpeg,flv,ogg,asf,"
    "mxf,nut,rm,dv,gif,apng,yuv4mpegpipe,wav,w64,mp3,flac,aac,ac3,eac3,dts,aiff,au,caf,opus,amr,wtv,gxf,nsv,vc1,h261,h263,"
    "bink,smk,flic,roq,dirac,cavsvideo,swf,4xm,film_cpk,thp,tta,wv,ape"
)
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
BROADCAST = ("mpegts", "mpeg")  # their stamps may jump
MISSING_SHARE, MISSING_SECONDS = 0.1, 0.5  # that a track may lack without being called truncated
RAW = ("h264", "hevc", "vvc", "av1", "obu", "m4v", "mpegvideo", "mjpeg", "vc1", "h261", "h263", "dirac", "cavsvideo")


@dataclass(frozen=True)
class Media:
    """What a file holds: one picture, or a stream of frames. Width and height are those on screen."""

    path: Path
    width: int
    height: int
    fps: float
    codec: str
    pixel_format: str
    seconds: float | None = None  # of the picture where the file says, else of the whole
    has_audio: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    is_image: bool = False  # a picture file, animated or not
    num_video_tracks: int = 0  # without cover art and thumbnails
    num_audio_tracks: int = 0
    num_text_tracks: int = 0
    num_pictures: int = 1  # a still's pages, an animation's frames; of a video 1 and its cover art
    has_alpha: bool = False
    is_interlaced: bool = False
    is_square: bool = True  # pixels
    is_upright: bool = True
    aspect: Fraction = Fraction(1)  # what rounding to square pixels left: of a pixel, width over height
    is_deep: bool = False  # more than 8 bits a channel
    colour: Colour = field(default_factory=Colour)
    num_chapters: int = 0
    comment: str = ""  # the tag, whole

    @property
    def is_animated(self) -> bool:
        """A picture file that moves."""
        return self.is_image and self.seconds is not None

    @property
    def chunk_frames(self) -> int:
        """How many frames are read at once."""
        return max(1, min(MOST_CHUNK, CHUNK_BYTES // max(1, 3 * self.width * self.height)))


@dataclass(frozen=True)
class Shown:
    """Frames [T, H, W, 3] as displayed, and the seconds [T] from and until which each is on screen; the first is 0."""

    frames_THWC: Frames
    starts_T: NDArray[np.float64]
    ends_T: NDArray[np.float64]


@dataclass(frozen=True)
class Picture:
    """One frame on screen: pixels [H, W, 3], from when until when in seconds."""

    frame_HWC: Frames
    start: float
    end: float


def probe(path: str | Path) -> Media:
    """What a file holds. Raises VideoError, each cause with its own words."""
    path = Path(path)
    if path.is_dir():
        raise VideoError(f"{path} is a folder", "name the files in it, or give the folder to sorano verify")
    if not path.exists():
        raise VideoError(f"there is no file {path}")
    if path.stat().st_size == 0:
        raise VideoError(f"{path} is empty")
    try:
        with open(path, "rb") as stream:
            kind = pictures.sniff(stream.read(64))
    except OSError as error:
        raise VideoError(f"{path} cannot be read: {error.strerror or error}") from error
    if kind == "HEIF":
        raise VideoError(f"{path} is a HEIC picture, which is not read here", "save it as JPEG or PNG first")
    if kind is not None:
        about = pictures.about(path)
        if kind != "GIF" or not about.is_animated:
            return _image(path, about)
    return _video(path)


def _image(path: Path, about: pictures.About) -> Media:
    fps = about.num_pictures / about.seconds if about.seconds else 1.0
    return Media(
        path, about.width, about.height, fps, about.format.lower(), about.mode, about.seconds,
        is_image=True, num_pictures=about.num_pictures, has_alpha=about.has_alpha, is_deep=about.is_deep,
    )  # fmt: skip


def _video(path: Path) -> Media:
    with inspected(path) as given:
        video = video_stream(given, path)
        codec, kinds = video.codec_context, [stream.type for stream in given.streams]
        aspect = video.sample_aspect_ratio
        width, height = square_size(codec.width, codec.height, aspect)
        is_square = (width, height) == (codec.width, codec.height)
        rest = rest_of_aspect(codec.width, codec.height, aspect)
        interlaced, upright, colour = False, True, Colour()
        with suppress(VideoError):  # whether it can be decoded is found when it is read
            first, _, _ = next(_timed(given, video, path))
            width, height = Screen(aspect).size_of(first)
            interlaced, colour, matrix = bool(first.interlaced_frame), colour_of(first), matrix_of(first)
            upright, rest = matrix == UNTURNED, 1 / rest if matrix[1] else rest
        check_size(path, max(width, codec.width), max(height, codec.height))
        covers = sum(1 for stream in given.streams.video if _is_cover(stream))
        pixel_format = str(codec.pix_fmt)
        return Media(
            path, width, height, rate_of(given, video), codec.name, pixel_format, _seconds(given, video),
            "audio" in kinds, {str(name): str(value)[:MOST_TEXT] for name, value in given.metadata.items()},
            num_video_tracks=kinds.count("video") - covers, num_audio_tracks=kinds.count("audio"),
            num_text_tracks=kinds.count("subtitle"), num_pictures=1 + covers,
            has_alpha=has_alpha(pixel_format) or video.metadata.get("alpha_mode") == "1",
            is_interlaced=interlaced, is_square=is_square, is_upright=upright, aspect=rest,
            is_deep=codec.format is not None and any(part.bits > 8 for part in codec.format.components),
            colour=colour, num_chapters=len(given.chapters()),
            comment=comment_of(given),
        )  # fmt: skip


def comment_of(given: Any) -> str:
    """The comment of an opened file; Matroska writes the tag's name in capitals."""
    tags = {str(name).lower(): str(value) for name, value in given.metadata.items()}
    return tags.get("comment", "")[:MOST_COMMENT]


def notes(media: Media) -> tuple[str, ...]:
    """What reading changes about the picture, in words; nothing that a player would not change too."""
    said = []
    if media.colour.is_hdr:
        said.append(f"its {media.colour.name} colour becomes SDR (BT.709)")
    elif media.colour.needs_table:
        said.append(f"its {media.colour.name} colour becomes BT.709")
    if media.is_deep:
        said.append(f"its {media.pixel_format} pixels become 8 bits")
    if media.is_interlaced:
        said.append("it is interlaced: it is deinterlaced (bwdif)")
    if not media.is_square:
        said.append(f"its pixels are not square: it becomes {media.width}x{media.height}")
    if media.num_pictures > 1 and not media.is_animated:
        said += left_out(media.num_pictures - 1, "further picture")
    return tuple(said)


def left_out(count: int, what: str) -> list[str]:
    """That some of a file's things do not come along: "2 further audio tracks are left out"; nothing for none."""
    if count < 1:
        return []
    return [f"{count} {what} is left out" if count == 1 else f"{count} {what}s are left out"]


def check_size(path: Path, width: int, height: int) -> None:
    """Raises VideoError for frames that are nothing, or too large."""
    if width < 1 or height < 1:
        raise VideoError(f"{path} does not say how large its frames are")
    if max(width, height) > MOST_SIDE:
        raise VideoError(f"{path} is {width}x{height}; at most {MOST_SIDE} pixels a side are read")
    if width * height > MOST_PIXELS:
        raise VideoError(f"{path} is {width}x{height}; at most {MOST_PIXELS:,} pixels a frame are read")


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A media file, opened with limits and as itself alone. Raises VideoError where it cannot be."""
    import av

    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file", "max_streams": str(MOST_STREAMS)}
    with _report_read_errors(path):
        given = av.open(f"file:{path}", metadata_errors="replace", options=options)
    with given:
        if len(given.streams.video) + len(given.streams.audio) > MOST_TRACKS:
            raise VideoError(f"{path} has {len(given.streams)} tracks; at most {MOST_TRACKS} are read")
        yield given


@contextmanager
def inspected(path: Path) -> Iterator[Any]:
    """`opened`, for those who only read: what FFmpeg raises inside becomes VideoError too."""
    with _report_read_errors(path), opened(path) as given:
        yield given


@contextmanager
def _report_read_errors(path: Path) -> Iterator[None]:
    import av

    try:
        yield
    except (OSError, ValueError, IndexError, av.error.FFmpegError) as error:
        raise VideoError(f"{path} cannot be read as a video: {_reason(error)}") from error


def _is_cover(stream: Any) -> bool:
    """Whether a video stream is a picture beside the video: cover art, a thumbnail."""
    from av.stream import Disposition

    aside = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    return bool(stream.disposition & aside)


def video_stream(given: Any, path: Path) -> Any:
    """The video that players choose: never cover art, the default before others. Raises VideoError where none is."""
    from av.stream import Disposition

    candidates = [stream for stream in given.streams.video if not _is_cover(stream)]
    if not candidates:
        has = "sound, but no video in it" if given.streams.audio else "no video in it"
        raise VideoError(f"{path} has {has}", "a cover picture is no video" if given.streams.video else None)
    known = [stream for stream in candidates if stream.codec_context is not None]
    if not known:
        raise VideoError(f"{path} has video in a code that is not known here")
    best = given.streams.best("video")
    default = [stream for stream in known if stream.disposition & Disposition.default]
    chosen = default or known
    picked = next((stream for stream in chosen if best is not None and stream.index == best.index), chosen[0])
    check_size(path, picked.codec_context.width, picked.codec_context.height)
    return picked


def audio_stream(given: Any) -> Any | None:
    """The sound that players choose; None where there is none that is known here."""
    best = given.streams.best("audio")
    known = [stream for stream in given.streams.audio if stream.codec_context is not None]
    picked = next((stream for stream in known if best is not None and stream.index == best.index), None)
    return picked or next(iter(known), None)


def is_audio_alone(path: str | Path) -> bool:
    """Whether a file has audio that is known here and no picture but a cover. Raises VideoError where it cannot be
    read.
    """
    with inspected(Path(path)) as given:
        moving = [stream for stream in given.streams.video if not _is_cover(stream)]
        return not moving and audio_stream(given) is not None


def is_broadcast(given: Any) -> bool:
    """Whether an opened file is of a kind whose stamps may jump."""
    return given.format.name in BROADCAST


def rate_of(given: Any, video: Any) -> float:
    """Frames a second: the mean where the file states one that can be, else what its packets say."""
    is_raw = given.format.name in RAW
    own = video.codec_context.framerate
    stated = [own, video.average_rate, video.guessed_rate] if is_raw else [video.average_rate, video.guessed_rate]
    for rate in stated:
        if rate and 0 < rate <= MOST_RATE:
            return float(rate)
    unit = video.time_base or Fraction(0)
    if video.frames and video.duration and unit:
        rate = video.frames / float(video.duration * unit)
        if 0 < rate <= MOST_RATE:
            return float(rate)
    return USUAL_RATE


def _seconds(given: Any, video: Any) -> float | None:
    """How long the picture is, as far as the file says."""
    stated = _stated_seconds(given, video)
    return _whole_seconds(given) if stated is None else stated


def _whole_seconds(given: Any) -> float | None:
    """How long everything is. Matroska states the end, not the length."""
    import av

    if not given.duration:
        return None
    starts = (given.start_time or 0) if "matroska" in given.format.name else 0
    return float(max(0, given.duration - starts) / av.time_base)


def shown(media: Media, *, over: str = "white", most_seconds: float | None = None) -> Iterator[Shown]:
    """What a player shows of a file, a few frames at a time; transparent places over "white" or "black".

    Raises VideoError where nothing can be decoded, and, after what came before, where a file breaks off.
    """
    held: list[Picture] = []
    wrong: VideoError | None = None
    coming = pictures_of(media, over=over)
    while True:
        try:
            picture = next(coming, None)
        except VideoError as error:
            picture, wrong = None, error
        if picture is None or (most_seconds is not None and picture.start >= most_seconds):
            break
        if held and (held[0].frame_HWC.shape != picture.frame_HWC.shape or len(held) >= media.chunk_frames):
            yield _stacked(held)
            held = []
        held.append(picture)
    if held:
        yield _stacked(held)
    if wrong is not None:
        raise wrong


def chunks(media: Media, most_seconds: float | None = None) -> Iterator[Frames]:
    """The frames [T, H, W, 3] of a file, a few at a time, without their times; as `shown`."""
    for part in shown(media, most_seconds=most_seconds):
        yield part.frames_THWC


def _stacked(held: list[Picture]) -> Shown:
    import numpy as np

    starts, ends = (np.array([getattr(one, name) for one in held], np.float64) for name in ("start", "end"))
    return Shown(np.stack([one.frame_HWC for one in held]), starts, ends)


def pictures_of(media: Media, *, over: str = "white") -> Iterator[Picture]:
    """What a player shows of a file, frame by frame. Raises as `shown`."""
    if media.is_image:
        time = 0.0
        for frame_HWC, seconds in pictures.frames(media.path, over):
            yield Picture(frame_HWC, time, time + seconds)
            time += seconds
        return
    with opened(media.path) as given:
        video = video_stream(given, media.path)
        video.thread_type = "AUTO"
        screen = Screen(video.sample_aspect_ratio, over)
        for frame, start, end in timed_frames(given, video, media.path):
            yield Picture(screen(frame), start, end)


def timed_frames(given: Any, video: Any, path: Path) -> Iterator[tuple[Any, float, float]]:
    """Decoded frames, deinterlaced, and the seconds from and until which a player shows each; the first is 0.

    A frame that another follows at the same time is never seen, and left out.
    """
    held: tuple[Any, float, float] | None = None
    timed = _timed(given, video, path)
    try:
        for frame, start, seconds in _progressive(timed):
            if held is not None and start - held[1] > SMALL_STEP:
                yield held[0], held[1], start
            held = frame, start, seconds
    except VideoError:
        if held is not None:  # what came is shown before what is wrong is said
            yield held[0], held[1], held[1] + held[2]
        raise
    if held is not None:
        yield held[0], held[1], held[1] + held[2]


def _decoder(video: Any) -> Callable[[Any], list[Any]]:
    """From packets of a track to frames. FFmpeg's own VP8 and VP9 leave transparency out; libvpx does not."""
    import av

    name = ALPHA_DECODERS.get(video.codec_context.name)
    if video.metadata.get("alpha_mode") != "1" or name is None or name not in av.codecs_available:
        return lambda packet: cast("list[Any]", packet.decode())
    other = cast("Any", av.CodecContext.create(name, "r"))
    other.extradata = video.codec_context.extradata
    return lambda packet: cast("list[Any]", other.decode(packet if packet.size else None))


def packets_of(given: Any, video: Any) -> tuple[Iterator[Any], bool]:
    """The packets of a track, and whether they lack display times, so that frames take decoding times in order."""
    packets = given.demux(video)
    early = list(islice(packets, LOOKED_AT))
    lacks = all(packet.pts is None or packet.pts == packet.dts for packet in early if packet.size)
    return chain(early, packets), lacks or given.format.name == "avi"


def length_of(given: Any, video: Any, path: Path) -> tuple[float, int]:
    """Seconds for which a video is on screen, and its frames, by its packets. Raises VideoError where it breaks off."""
    unit = float(video.time_base or 0)
    rate = rate_of(given, video)
    clock = Clock(rate, is_broadcast(given))
    first, end, sent, seen, early, jumps = math.inf, -math.inf, 0, 0, 0, False
    packets, by_order = packets_of(given, video)
    before: int | None = None
    has_begun = False  # at a key frame, though an edit list may hide it
    for packet in packets:
        sent += bool(packet.size)
        has_begun |= bool(packet.size) and packet.is_keyframe
        if not packet.size or packet.is_discard:
            continue
        if not has_begun and early < BROKEN_START:
            early += 1  # a recording that begins between key frames: not shown
            continue
        seen += 1
        seconds = float((packet.duration or 0) * unit)
        decoded = None if packet.dts is None else packet.dts * unit
        clock(decoded, seconds)
        if packet.dts is not None and before is not None:
            gap = (packet.dts - before) * unit
            jumps |= gap < 0 or (gap > JUMP and is_broadcast(given))
        before = before if packet.dts is None else packet.dts
        if packet.pts is not None:
            # A packet's duration is that of its place in decoding order: of a varying rate, another frame's.
            first, end = min(first, packet.pts * unit), max(end, packet.pts * unit + min(seconds or 1 / rate, 1 / rate))
    if not seen:
        raise VideoError(f"{path} has no frames in it")
    length = clock.last + clock.seconds if by_order or jumps or end < first else end - first
    check_whole(given, video, path, length, sent)
    return length, seen


def _timed(given: Any, video: Any, path: Path) -> Iterator[tuple[Any, float, float]]:
    """Decoded frames in the order of display, when each is shown, and its own length in seconds."""
    import av

    clock = Clock(rate_of(given, video), is_broadcast(given))
    unit = float(video.time_base or 0)
    order: deque[float | None] = deque()  # decoding times of packets whose frames have not come
    count = failed = sent = 0
    decode = _decoder(video)
    try:
        packets, by_order = packets_of(given, video)
        for packet in packets:
            sent += bool(packet.size)
            if by_order and packet.size and not packet.is_discard:
                order.append(None if packet.dts is None else packet.dts * unit)
            seconds = (packet.duration or 0) * unit
            try:
                frames = decode(packet)
            except av.error.InvalidDataError:
                failed += 1
                if count or failed > BROKEN_START:
                    raise
                order.clear()
                continue
            for frame in frames:
                stamp = frame.pts * float(frame.time_base) if frame.pts is not None and frame.time_base else None
                if by_order:
                    stamp = order.popleft() if order else None
                own = frame.duration * float(frame.time_base or 0) if frame.duration else seconds
                yield frame, clock(stamp, own), clock.seconds
                count += 1
    except (OSError, ValueError, IndexError, av.error.FFmpegError) as error:
        if not count:
            raise VideoError(f"{path} holds no frame that can be decoded: {_reason(error)}") from error
        raise VideoError(
            f"{path} breaks off after {count} frames: {_reason(error)}", "it may not have been copied whole"
        ) from error
    if not count:
        raise VideoError(f"{path} has no frames in it")
    check_whole(given, video, path, clock.last + clock.seconds, sent)


def check_whole(given: Any, video: Any, path: Path, length: float, num_packets: int) -> None:
    """Raises VideoError where a track has less of packets and of seconds than its header states."""
    stated = None if given.format.name in (*BROADCAST, *RAW) else _stated_seconds(given, video)  # they have no header
    if stated is None or length >= (1 - MISSING_SHARE) * stated or length >= stated - MISSING_SECONDS:
        return
    if video.frames and num_packets >= (1 - MISSING_SHARE) * video.frames:
        return
    raise VideoError(f"{path} breaks off after {length:.1f} of {stated:.1f} s", "it may not have been copied whole")


def _stated_seconds(given: Any, video: Any) -> float | None:
    """How long the header says the picture is; the container's length counts only where there is nothing else."""
    if video.duration and video.time_base:
        return float(video.duration * video.time_base)
    hours, _, rest = video.metadata.get("DURATION", "").partition(":")
    minutes, _, seconds = rest.partition(":")
    with suppress(ValueError):
        start = float((video.start_time or 0) * (video.time_base or 0))  # Matroska states the end
        return max(0.0, int(hours) * 3600 + int(minutes) * 60 + float(seconds) - start)
    return _whole_seconds(given) if len(given.streams) == 1 else None


def _progressive(timed: Iterator[tuple[Any, float, float]]) -> Iterator[tuple[Any, float, float]]:
    """Frames as they come while they are progressive, and deinterlaced (bwdif) from the first interlaced one on."""
    graph: Any = None
    key: tuple[Any, ...] = ()
    waiting: deque[tuple[float, float]] = deque()
    for frame, start, seconds in timed:
        if graph is None and not frame.interlaced_frame:
            yield frame, start, seconds
            continue
        now = (frame.width, frame.height, frame.format.name)
        if graph is None or key != now:
            if graph is not None:
                yield from _drained(graph, waiting)
            graph, key = _deinterlacer(frame), now
        waiting.append((start, seconds))
        frame.pts = len(waiting)  # the filter wants stamps that grow
        yield from _pushed(graph, frame, waiting)
    if graph is not None:
        yield from _drained(graph, waiting)


def _deinterlacer(frame: Any) -> Any:
    import av.filter

    graph = av.filter.Graph()
    size = f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1000:pixel_aspect=1/1"
    matrix = f":colorspace={frame.colorspace}:range={frame.color_range}"
    steps = [
        graph.add("buffer", size + matrix),
        graph.add("bwdif", mode="send_frame", parity="auto", deint="interlaced"),
        graph.add("buffersink"),
    ]
    for one, other in zip(steps, steps[1:], strict=False):
        one.link_to(other)
    graph.configure()
    return graph


def _pushed(graph: Any, frame: Any, waiting: deque[tuple[float, float]]) -> Iterator[tuple[Any, float, float]]:
    """What a filter gives for one more frame, or for the end of them (None)."""
    import av

    graph.vpush(frame)
    while waiting:
        try:
            made = graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        yield made, *waiting.popleft()


def _drained(graph: Any, waiting: deque[tuple[float, float]]) -> Iterator[tuple[Any, float, float]]:
    yield from _pushed(graph, None, waiting)
    waiting.clear()


def sound(media: Media, rate: int = 16_000) -> Iterator[NDArray[np.float32]]:
    """The sound that players choose, mono, in pieces [N] of -1..1 at `rate`: sample 0 is heard with the first frame.

    Silence where it begins later or has a gap; what is heard before the first frame is left out. Nothing where there
    is no sound. Raises VideoError where it breaks off.
    """
    if not media.has_audio:
        return
    with inspected(media.path) as given:
        if audio_stream(given) is None:
            return
        start = picture_start(given, media.path)
    yield from joined(_samples(media.path, rate, start), rate)


def audio_alone(path: Path, rate: int = 16_000) -> Iterator[NDArray[np.float32]]:
    """The audio of a file without pictures, mono, in pieces [N] of -1..1 at `rate`, from its first sample on."""
    with inspected(path) as given:
        heard = audio_stream(given)
        start = 0.0 if heard is None or not heard.start_time else float(heard.start_time * heard.time_base)
    if heard is not None:
        yield from joined(_samples(path, rate, start), rate)


def joined(pieces: Iterable[NDArray[np.float32]], least: int) -> Iterator[NDArray[np.float32]]:
    """The same samples in fewer pieces, of `least` or more but for the last: decoders give them by the thousand."""
    import numpy as np

    held: list[NDArray[np.float32]] = []
    for piece in pieces:
        held.append(piece)
        if sum(map(len, held)) >= least:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


def _samples(path: Path, rate: int, start: float) -> Iterator[NDArray[np.float32]]:
    """`sound` of a file whose time `start` is sample 0."""
    import av
    import numpy as np

    count = 0
    with inspected(path) as given:
        heard = audio_stream(given)
        resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
        continued = Continued(is_broadcast(given))
        for frame in _heard(given, heard):
            stamp = None if frame.pts is None else float(frame.pts * (frame.time_base or 0)) - start
            stamp = None if stamp is None else continued(stamp, frame.samples / (frame.sample_rate or rate))
            for piece in resampler.resample(_untimed(frame)):
                samples = _flat(piece)
                skipped, silent = placed(stamp, count, rate, len(samples))
                samples = samples[skipped:]
                for at in range(0, silent, rate):
                    yield np.zeros(min(rate, silent - at), np.float32)
                if len(samples):
                    yield samples
                count += silent + len(samples)
                stamp = None
        for piece in resampler.resample(None):
            yield _flat(piece)


def _flat(piece: Any) -> NDArray[np.float32]:
    import numpy as np

    return np.asarray(piece.to_ndarray(), np.float32).reshape(-1)


def _untimed(frame: Any) -> Any:
    frame.pts = None
    return frame


def _heard(given: Any, heard: Any) -> Iterator[Any]:
    """Decoded frames of sound; packets that cannot be decoded are passed over, as players do."""
    import av

    for packet in given.demux(heard):
        with suppress(av.error.InvalidDataError):
            yield from packet.decode()


def picture_start(given: Any, path: Path) -> float:
    """The file's own time, in seconds, of the first frame that is shown."""
    import av

    video = video_stream(given, path)
    if given.format.name == "avi" or given.format.name in RAW:
        return 0.0
    for packet in given.demux(video):
        try:
            for frame in packet.decode():
                return 0.0 if frame.pts is None else float(frame.pts * (frame.time_base or 0))
        except av.error.InvalidDataError:
            continue
    raise VideoError(f"{path} has no frames in it")


def picture_start_of(path: Path) -> float:
    """`picture_start` of a file."""
    with inspected(path) as given:
        return picture_start(given, path)


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
