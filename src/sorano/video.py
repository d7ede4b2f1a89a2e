"""Frames to files and back: MP4 (H.264, yuv420p, faststart), pictures, contact sheets, sizes.

Pixels are `frames_THWC`, uint8, RGB, 0..255. A file appears under its name only when it is whole: it is
written under a temporary name in the same folder and renamed at the end, so a full disk or Ctrl-C leaves
nothing behind. The request that made a video travels in the file's `comment` as JSON; `read_metadata` gives
it back.
"""

from __future__ import annotations

import json
import os
import secrets
import struct
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sorano.errors import RequestError, VideoError
from sorano.media.recode import BT709, CODER, LIMITED_RANGE

if TYPE_CHECKING:
    import numpy as np
    from av import Packet
    from av.container import OutputContainer
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]

MOST_WAITING = 2  # parts of a video that wait to be encoded; then decoding waits
VIDEO_SUFFIXES = (".mp4", ".gif", ".webp", ".webm")  # what videos are written as
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")  # what is written
ANIMATED_SUFFIXES = (".png", ".webp")
STREAM, TABLE = "film.h264", "film.packets"  # of a film that grows
PACKET = struct.Struct("<IqB")  # bytes, when it is shown in frames, whether it is a key frame
REORDERED = 2  # frames by which x264's medium preset decodes ahead of showing
SQUARE = Fraction(1)  # a pixel's width over its height
MAX_VIDEO_FRAMES = 100_000
MAX_VIDEO_PIXELS = 4_000_000_000  # frames x height x width held in memory at once


@dataclass(frozen=True)
class Clip:
    """A video read from a file."""

    frames_THWC: Frames
    fps: float
    codec: str
    pixel_format: str
    metadata: dict[str, Any]


def check_target(path: Path, *, overwrite: bool, suffixes: tuple[str, ...] = VIDEO_SUFFIXES) -> None:
    """Raises RequestError where a file cannot be written here, or would replace one. Called before work."""
    if path.suffix.lower() not in suffixes:
        raise RequestError(f"{path} must end in {' or '.join(suffixes)}", f"use {path.with_suffix(suffixes[0])}")
    if path.is_dir():
        raise RequestError(f"{path} is a folder", f"name a file in it: {path / ('video' + suffixes[0])}")
    if path.exists() and not overwrite:
        raise RequestError(f"{path} exists and is kept", "use --overwrite, or another name with -o")
    if not path.parent.is_dir():
        raise RequestError(f"the folder {path.parent} does not exist", f"mkdir -p {path.parent}")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise RequestError(
            f"the folder {path.parent} cannot be written to: {error.strerror}", "write elsewhere with -o"
        ) from error


def write_video(
    path: str | Path,
    frames_THWC: Frames,
    fps: float,
    *,
    metadata: Mapping[str, Any] | None = None,
    title: str | None = None,
    overwrite: bool = False,
    finish: Callable[[Path], None] | None = None,
) -> Path:
    """Writes an MP4 that plays in a browser and a chat, all or nothing, and returns its path.

    `finish` gets the encoded file before it has its name: to label and sign it, and to read it back. Where it raises,
    nothing is left.

    H.264 with 4:2:0 colour needs even sizes: an odd last row or column is written twice. Raises RequestError
    where the file exists and `overwrite` is false, VideoError where it cannot be written.
    """
    with writing(path, fps, overwrite=overwrite, finish=finish) as writer:
        writer.put(frames_THWC)
        writer.label(metadata, title)
    return Path(path)


class Writer:
    """A file that is being written: frames are encoded on a thread of their own while the caller makes the next ones.

    At most `MOST_WAITING` parts wait; then `put` waits. What fails on the thread is raised by the next call.
    """

    def __init__(self, path: Path, temporary: Path, fps: float, aspect: Fraction = SQUARE) -> None:
        self.path, self.temporary, self.fps, self.aspect = path, temporary, fps, aspect
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self.waiting: deque[Future[None]] = deque()
        self.container: OutputContainer | None = None
        self.stream: VideoStream | None = None
        self.packets: list[Packet[VideoStream]] = []  # encoded; the record before them in the file is known last
        self.tags: dict[str, str] = {}

    def put(self, frames_THWC: Frames) -> None:
        """The next frames, all of one size. They must not be changed afterwards."""
        if frames_THWC.ndim != 4 or frames_THWC.shape[-1] != 3 or frames_THWC.dtype != "uint8" or not len(frames_THWC):
            raise ValueError(f"frames must be [T, H, W, 3] uint8: got {frames_THWC.shape} {frames_THWC.dtype}")
        self._wait(MOST_WAITING - 1)
        self.waiting.append(self.thread.submit(self._encode, frames_THWC))

    def label(self, metadata: Mapping[str, Any] | None, title: str | None = None) -> None:
        """What the file says of itself."""
        self.tags = _tags(metadata, title)

    def close(self) -> None:
        """Waits for the thread and writes the file under its temporary name."""
        self._wait(0)
        if self.container is None or self.stream is None:
            raise ValueError("there are no frames to write")
        with _report_write_errors(self.path):
            self.container.metadata.update(self.tags)
            self.container.mux([*self.packets, *self.stream.encode()])
            self.container.close()

    def abandon(self) -> None:
        """Stops the thread and closes a file that will be thrown away; after `close`, nothing is left to do."""
        self.thread.shutdown(cancel_futures=True)
        if self.container is not None:
            with suppress(Exception):
                self.container.close()

    def _wait(self, most: int) -> None:
        while len(self.waiting) > most:
            with _report_write_errors(self.path):
                self.waiting.popleft().result()

    def _encode(self, frames_THWC: Frames) -> None:
        if self.stream is None:
            self.stream = self._open(*frames_THWC.shape[1:3])
        frames_THWC = _even(frames_THWC)
        for frame_HWC in frames_THWC:
            self.packets += self.stream.encode(_to_yuv(frame_HWC))

    def _open(self, height: int, width: int) -> VideoStream:
        import av

        self.container = av.open(f"file:{self.temporary}", "w", format="mp4", options={"movflags": "+faststart"})
        stream = self.container.add_stream("libx264", rate=Fraction(self.fps).limit_denominator(100_000))
        _set_coder(stream.codec_context, height, width, self.aspect)
        return stream


class ChunkWriter:
    """A film that grows in a folder, piece by piece: each is coded alone, so that a kill costs none that is finished.

    `film.h264` can be played while it grows; beside it is a table of its packets, from which `join` makes an MP4 in
    constant memory. ChunkWriter are coded on a thread of their own.
    """

    def __init__(self, folder: Path, fps: float, aspect: Fraction = SQUARE) -> None:
        self.folder, self.fps, self.aspect = folder, Fraction(fps).limit_denominator(100_000), aspect
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self.waiting: deque[Future[None]] = deque()
        self.size = (0, 0)  # height and width, even
        self.count = 0  # frames

    def put(self, frames_THWC: Frames) -> None:
        """The next frames, coded as a closed piece. They must not be changed afterwards."""
        while len(self.waiting) >= MOST_WAITING:
            self._wait()
        self.waiting.append(self.thread.submit(self._encode, frames_THWC, self.count))
        self.count += len(frames_THWC)

    def flush(self) -> None:
        """Returns when all that was put is on disk."""
        while self.waiting:
            self._wait()
        self.folder.mkdir(mode=0o700, exist_ok=True)
        for name in (STREAM, TABLE):
            with _report_write_errors(self.folder), open(self.folder / name, "ab") as file:
                os.fsync(file.fileno())

    def state(self) -> dict[str, Any]:
        """How far the files are good; after `flush`."""
        lengths = {name: (self.folder / name).stat().st_size for name in (STREAM, TABLE)}
        return {"count": self.count, "size": list(self.size), **lengths}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a `state`: what was written after it is cut off. Raises VideoError where less is there."""
        self.count, self.size = state["count"], (state["size"][0], state["size"][1])
        for name in (STREAM, TABLE):
            file = self.folder / name
            if not file.exists() or file.stat().st_size < state[name]:
                raise VideoError(f"{file} has lost what was finished", f"remove {self.folder} and begin again")
            os.truncate(file, state[name])

    def abandon(self) -> None:
        """Stops the thread."""
        self.thread.shutdown(cancel_futures=True)

    def join(
        self,
        target: Path,
        metadata: Mapping[str, Any] | None,
        title: str | None,
        sound: tuple[Path, float, float] | None = None,
    ) -> str | None:
        """Writes all pieces as one MP4; `sound` is a file, when its sound begins, and how long it lasts.

        Returns what was changed about the sound, in words.
        """
        import av

        from sorano.media import read
        from sorano.media.audio import AudioTrack

        self.flush()
        self.thread.shutdown()
        with (
            _report_write_errors(target),
            av.open(f"file:{target}", "w", format="mp4", options={"movflags": "+faststart"}) as out,
            ExitStack() as stack,
        ):
            stream = out.add_stream("libx264", rate=self.fps)
            _set_coder(stream.codec_context, *self.size, self.aspect)
            stream.codec_context.open()
            out.metadata.update(_tags(metadata, title))
            heard: AudioTrack | None = None
            packets: Iterator[Any] = iter(())
            if sound is not None:
                shift = sound[1] - read.picture_start_of(sound[0])
                given = stack.enter_context(read.opened(sound[0]))
                track = read.audio_stream(given)
                if track is not None:
                    heard = AudioTrack(track, out, "mp4", shift=shift, start=sound[1], most=sound[2])
                    packets = given.demux(track)
            ahead = next(packets, None)
            for packet in self._packets():
                shown = float(packet.dts * packet.time_base)
                while heard is not None and ahead is not None and _begins(ahead) + heard.shift <= shown:
                    heard.pass_on(ahead)
                    ahead = next(packets, None)
                packet.stream = stream
                out.mux(packet)
            while heard is not None and ahead is not None:
                heard.pass_on(ahead)
                ahead = next(packets, None)
            if heard is not None:
                heard.close()
        return heard.said if heard is not None else None

    def _packets(self) -> Iterator[Any]:
        import av

        with open(self.folder / TABLE, "rb") as table, open(self.folder / STREAM, "rb") as film:
            count = 0
            while entry := table.read(PACKET.size):
                size, pts, is_keyframe = PACKET.unpack(entry)
                packet = av.Packet(film.read(size))
                # a piece of few frames is coded without delay: counted through, decoding times never fall
                packet.pts, packet.dts, packet.time_base = pts, count - REORDERED, 1 / self.fps
                count += 1
                packet.is_keyframe = bool(is_keyframe)
                yield packet

    def _wait(self) -> None:
        with _report_write_errors(self.folder):
            self.waiting.popleft().result()

    def _encode(self, frames_THWC: Frames, first: int) -> None:
        import av

        frames_THWC = _even(frames_THWC)
        height, width = frames_THWC.shape[1:3]
        self.size = (height, width)
        coder = cast("Any", av.CodecContext.create("libx264", "w"))
        _set_coder(coder, height, width, self.aspect)
        coder.time_base, coder.framerate = 1 / self.fps, self.fps
        packets = []
        for index, frame_HWC in enumerate(frames_THWC):
            frame = _to_yuv(frame_HWC)
            frame.pts, frame.time_base = first + index, 1 / self.fps
            packets += coder.encode(frame)
        packets += coder.encode(None)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        with open(self.folder / STREAM, "ab") as film, open(self.folder / TABLE, "ab") as table:
            for packet in packets:
                film.write(bytes(packet))
                table.write(PACKET.pack(packet.size, packet.pts, packet.is_keyframe))


def _begins(packet: Any) -> float:
    return float(packet.dts * packet.time_base) if packet.dts is not None else 0.0


def _even(frames_THWC: Frames) -> Frames:
    """Frames of even sizes, as 4:2:0 colour needs them: an odd last row or column is there twice."""
    import numpy as np

    height, width = frames_THWC.shape[1:3]
    return np.pad(frames_THWC, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _to_yuv(frame_HWC: Frames) -> Any:
    import av
    import numpy as np

    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), format="rgb24")
    return frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")


def _set_coder(codec: Any, height: int, width: int, aspect: Fraction) -> None:
    """H.264 as every file of ours has it; `aspect` is a pixel's width over its height."""
    codec.sample_aspect_ratio = aspect
    codec.width, codec.height, codec.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
    codec.options = dict(CODER)
    codec.color_primaries = codec.color_trc = codec.colorspace = BT709
    codec.color_range = LIMITED_RANGE


def record_text(metadata: Mapping[str, Any]) -> str:
    """The record as it is stored in a file."""
    return json.dumps(metadata, ensure_ascii=False, separators=(",", ":"))


def _tags(metadata: Mapping[str, Any] | None, title: str | None) -> dict[str, str]:
    """What a file says of itself."""
    tags = {"title": title} if title else {}
    if metadata:
        tags["comment"] = record_text(metadata)
    return tags


@contextmanager
def writing(
    path: str | Path,
    fps: float,
    *,
    overwrite: bool = False,
    finish: Callable[[Path], None] | None = None,
    aspect: Fraction = SQUARE,
) -> Iterator[Writer]:
    """A `Writer` whose file appears, whole, when the block ends well, and of which nothing stays otherwise.

    `finish` and what is raised are as in `write_video`; `aspect` is a pixel's width over its height.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite)
    with beside(path) as temporary:
        writer = Writer(path, temporary, fps, aspect)
        try:
            yield writer
            writer.close()
        finally:
            writer.abandon()
        if finish is not None:
            finish(temporary)
        with _report_write_errors(path):
            _give_name(temporary, path, overwrite=overwrite)


def read_video(path: str | Path) -> Clip:
    """Reads a whole video. Raises VideoError for a file that is missing, broken, or too large to hold."""
    import numpy as np

    from sorano.media import read

    found = read.probe(path)
    most = min(MAX_VIDEO_FRAMES, MAX_VIDEO_PIXELS // (found.width * found.height))
    frames: list[Frames] = []
    for picture in read.pictures_of(found):
        if len(frames) >= most:
            raise VideoError(f"{path} has more than {most} frames of {found.width}x{found.height}")
        frames.append(picture.frame_HWC)
    return Clip(np.stack(frames), found.fps, found.codec, found.pixel_format, _record(found.comment))


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The record that `write_video` stored: the request, the preset's digests, planned and measured cost.

    Empty for a video that carries none. Raises VideoError for a file that is missing or no video.
    """
    from sorano.media import pictures, read

    with suppress(OSError), open(path, "rb") as file:
        if pictures.sniff(file.read(64)) in ("GIF", "WEBP", "PNG", "JPEG"):
            return _record(pictures.comment(path))
    with read.inspected(Path(path)) as given:
        return _record(read.comment_of(given))


def read_image(path: str | Path) -> Frames:
    """Reads a picture as [H, W, 3], upright, in sRGB, over white where it is transparent; the first of an animation.

    Raises VideoError for a file that is missing, broken, of an unknown kind, or too large to be a first
    frame.
    """
    from sorano.media import pictures

    return pictures.read(path)


def write_image(
    path: str | Path, frame_HWC: Frames, *, overwrite: bool = False, finish: Callable[[Path], None] | None = None
) -> Path:
    """Writes a PNG, JPEG or WebP, all or nothing; `finish` and errors are as in `write_video`."""
    from PIL import Image

    path = Path(path)
    check_target(path, overwrite=overwrite, suffixes=IMAGE_SUFFIXES)
    with whole_or_nothing(path, overwrite=overwrite) as temporary:
        kind = Image.registered_extensions()[path.suffix.lower()]
        with _report_write_errors(path):
            Image.fromarray(frame_HWC).save(temporary, format=kind, quality=92)
        if finish is not None:
            finish(temporary)
    return path


def write_animation(
    path: str | Path,
    frames: Iterable[Frames],
    seconds: Iterable[float],
    *,
    overwrite: bool = False,
    finish: Callable[[Path], None] | None = None,
) -> Path:
    """Writes an animated PNG or WebP of frames [H, W, 3], each shown for its seconds; otherwise as `write_image`."""
    from PIL import Image

    path = Path(path)
    check_target(path, overwrite=overwrite, suffixes=ANIMATED_SUFFIXES)
    with whole_or_nothing(path, overwrite=overwrite) as temporary:
        kind = Image.registered_extensions()[path.suffix.lower()]
        first, *others = [Image.fromarray(frame_HWC) for frame_HWC in frames]
        durations = [round(1000 * one) for one in seconds]
        options = {"save_all": True, "append_images": others, "duration": durations, "loop": 0, "quality": 92}
        with _report_write_errors(path):
            first.save(temporary, format=kind, **options)
        if finish is not None:
            finish(temporary)
    return path


def resize(frames_THWC: Frames, width: int, height: int) -> Frames:
    """Every frame at another size, with Lanczos' filter."""
    import numpy as np
    from PIL import Image

    if frames_THWC.shape[1:3] == (height, width):
        return frames_THWC
    lanczos = Image.Resampling.LANCZOS
    return np.stack([np.asarray(Image.fromarray(f).resize((width, height), lanczos)) for f in frames_THWC])


def fill(frame_HWC: Frames, width: int, height: int) -> tuple[Frames, str]:
    """The picture scaled until it covers width x height, the rest cropped evenly, and that said in words."""
    rows, columns = frame_HWC.shape[:2]
    scale = max(width / columns, height / rows)
    keep_columns, keep_rows = min(columns, round(width / scale)), min(rows, round(height / scale))
    keep_columns, keep_rows = max(1, keep_columns), max(1, keep_rows)
    left, top = (columns - keep_columns) // 2, (rows - keep_rows) // 2
    cropped = frame_HWC[top : top + keep_rows, left : left + keep_columns]
    lost = 1 - keep_columns * keep_rows / (columns * rows)
    said = f"the image ({columns}x{rows}) is scaled to fill {width}x{height}"
    if lost >= 0.005:
        edges = "sides" if keep_columns < columns else "top and bottom"
        said += f", and {lost:.0%} of it is cropped at the {edges}"
    return resize(cropped[None], width, height)[0], said


def contact_sheet(frames_THWC: Frames, *, num_frames: int = 12, columns: int = 6, gap: int = 4) -> Frames:
    """A picture [H, W, 3] of evenly spaced frames, the first and the last among them, in reading order."""
    import numpy as np

    count = min(num_frames, len(frames_THWC))
    columns = min(columns, count)
    picked = frames_THWC[np.linspace(0, len(frames_THWC) - 1, count).round().astype(int)]
    _, height, width, _ = picked.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, np.uint8)
    for index, frame in enumerate(picked):
        top = gap + (index // columns) * (height + gap)
        left = gap + (index % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = frame
    return sheet


@contextmanager
def whole_or_nothing(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A temporary name beside `path`: it becomes `path` when the block ends well, and vanishes otherwise."""
    with _report_write_errors(path), beside(path) as temporary:
        yield temporary
        _give_name(temporary, path, overwrite=overwrite)


@contextmanager
def _report_write_errors(path: Path) -> Iterator[None]:
    """Turns the system's and the encoder's errors into VideoError."""
    import av

    try:
        yield
    except (OSError, av.error.FFmpegError) as error:
        raise VideoError(
            f"{path} cannot be written: {reason(error)}", "free some space, or write elsewhere with -o"
        ) from error


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A name in the same folder for a file in the making; what is still there at the end is removed."""
    temporary = path.with_name(f".{path.stem[:40]}.{secrets.token_hex(4)}.part")
    try:
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _give_name(temporary: Path, path: Path, *, overwrite: bool) -> None:
    if overwrite:
        os.replace(temporary, path)
    else:
        _rename_to_new(temporary, path)


def _rename_to_new(temporary: Path, path: Path) -> None:
    """Renames without replacing a file that appeared in the meantime."""
    try:
        os.link(temporary, path)  # fails where `path` exists, and in one step
    except FileExistsError as error:
        raise RequestError(f"{path} exists and is kept", "use --overwrite, or another name with -o") from error
    except OSError:  # a file system without hard links
        if path.exists():
            raise RequestError(f"{path} exists and is kept", "use --overwrite, or another name with -o") from None
        os.replace(temporary, path)


def _record(comment: str) -> dict[str, Any]:
    """The JSON in the `comment` tag; empty where it is none of ours."""
    try:
        record = json.loads(comment)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def reason(error: BaseException) -> str:
    """What the system says, without the path that the message names already."""
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
