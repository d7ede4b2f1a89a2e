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
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sorano.errors import RequestError, VideoError

if TYPE_CHECKING:
    import numpy as np
    from av.container import OutputContainer
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]

CRF = 18  # x264's constant quality: visually close to the frames
BT709 = 1  # the number of the BT.709 primaries, transfer and matrix in H.264
LIMITED_RANGE = 1  # luma in 16..235, what every player expects
MAX_IMAGE_PIXELS = 50_000_000  # larger pictures are refused unread (decompression bombs)
MAX_IMAGE_BYTES = 200_000_000
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")  # what is written
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
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


def check_target(path: Path, *, overwrite: bool, suffixes: tuple[str, ...] = (".mp4",)) -> None:
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
    path = Path(path)
    if frames_THWC.ndim != 4 or frames_THWC.shape[-1] != 3 or frames_THWC.dtype != "uint8" or not len(frames_THWC):
        raise ValueError(f"frames must be [T, H, W, 3] uint8: got {frames_THWC.shape} {frames_THWC.dtype}")
    check_target(path, overwrite=overwrite)
    with whole_or_nothing(path, overwrite=overwrite) as temporary:
        _encode(temporary, frames_THWC, fps, dict(metadata or {}), title)
        if finish is not None:
            finish(temporary)
    return path


def read_video(path: str | Path) -> Clip:
    """Reads a whole video. Raises VideoError for a file that is missing, broken, or too large to hold."""
    import av
    import numpy as np

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise VideoError(f"{path} has no video in it")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise VideoError(f"{path} has video in a code that is not known here")
            pixels = max(1, stream.codec_context.width * stream.codec_context.height)
            most = min(MAX_VIDEO_FRAMES, MAX_VIDEO_PIXELS // pixels)
            frames: list[Frames] = []
            for frame in container.decode(stream):
                if len(frames) >= most:
                    raise VideoError(f"{path} has more than {most} frames of {stream.width}x{stream.height}")
                frames.append(cast("Frames", frame.to_ndarray(format="rgb24")))
            if not frames:
                raise VideoError(f"{path} has no frames in it")
            codec = stream.codec_context
            return Clip(
                np.stack(frames),
                float(stream.average_rate or 0),
                codec.name,
                str(codec.pix_fmt),
                _record(container.metadata),
            )
    except (OSError, ValueError, av.error.FFmpegError) as error:
        raise VideoError(f"{path} cannot be read as a video: {_reason(error)}") from error


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The record that `write_video` stored: the request, the preset's digests, planned and measured cost.

    Empty for a video that carries none. Raises VideoError for a file that is missing or no video.
    """
    import av

    try:
        with av.open(str(path)) as container:
            return _record(container.metadata)
    except (OSError, ValueError, av.error.FFmpegError) as error:
        raise VideoError(f"{path} cannot be read as a video: {_reason(error)}") from error


def read_image(path: str | Path) -> Frames:
    """Reads a picture as [H, W, 3], upright, over white where it is transparent; the first of an animation.

    Raises VideoError for a file that is missing, broken, of an unknown kind, or too large to be a first
    frame.
    """
    import numpy as np
    from PIL import Image, ImageOps

    try:
        if Path(path).stat().st_size > MAX_IMAGE_BYTES:
            raise VideoError(f"{path} is larger than {MAX_IMAGE_BYTES // 10**6} MB")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oversized pictures and odd metadata are judged here
            with Image.open(path, formats=IMAGE_FORMATS) as image:
                if image.width * image.height > MAX_IMAGE_PIXELS:
                    raise VideoError(
                        f"{path} is {image.width}x{image.height}: over {MAX_IMAGE_PIXELS:,} pixels",
                        "shrink it first: a first frame needs no more pixels than the video",
                    )
                upright = ImageOps.exif_transpose(image).convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise VideoError(
            f"{path} cannot be read as a picture: {_reason(error)}", "use a PNG, JPEG or WebP file"
        ) from error
    white = Image.new("RGBA", upright.size, "white")
    return np.asarray(Image.alpha_composite(white, upright).convert("RGB"))


def write_image(
    path: str | Path, frame_HWC: Frames, *, overwrite: bool = False, finish: Callable[[Path], None] | None = None
) -> Path:
    """Writes a PNG, JPEG or WebP, all or nothing; `finish` and errors are as in `write_video`."""
    from PIL import Image

    path = Path(path)
    check_target(path, overwrite=overwrite, suffixes=IMAGE_SUFFIXES)
    with whole_or_nothing(path, overwrite=overwrite) as temporary:
        kind = Image.registered_extensions()[path.suffix.lower()]
        Image.fromarray(frame_HWC).save(temporary, format=kind, quality=92)
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


def _encode(path: Path, frames_THWC: Frames, fps: float, metadata: dict[str, Any], title: str | None) -> None:
    import av
    import numpy as np

    _, height, width, _ = frames_THWC.shape
    frames_THWC = np.pad(frames_THWC, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
    try:
        if metadata:
            container.metadata["comment"] = json.dumps(metadata, ensure_ascii=False, separators=(",", ":"))
        if title:
            container.metadata["title"] = title
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(100_000))
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        stream.options = {"crf": str(CRF), "preset": "medium"}
        codec = stream.codec_context
        codec.color_primaries = codec.color_trc = codec.colorspace = BT709
        codec.color_range = LIMITED_RANGE
        for frame_HWC in frames_THWC:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    except BaseException:
        _abandon(container)
        raise
    container.close()


def _abandon(container: OutputContainer) -> None:
    """Closes a container whose file will be thrown away."""
    with suppress(Exception):
        container.close()


@contextmanager
def whole_or_nothing(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A temporary name beside `path`: it becomes `path` when the block ends well, and vanishes otherwise."""
    import av

    try:
        with beside(path) as temporary:
            yield temporary
            if overwrite:
                os.replace(temporary, path)
            else:
                _rename_to_new(temporary, path)
    except (OSError, av.error.FFmpegError) as error:
        raise VideoError(
            f"{path} cannot be written: {_reason(error)}", "free some space, or write elsewhere with -o"
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


def _record(tags: Mapping[str, str]) -> dict[str, Any]:
    """The JSON in the `comment` tag; empty where it is none of ours."""
    try:
        record = json.loads(tags.get("comment", ""))
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _reason(error: BaseException) -> str:
    """What the system says, without the path that the message names already."""
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
