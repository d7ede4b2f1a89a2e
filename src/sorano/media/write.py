"""Frames as GIF, animated WebP and WebM, beside the usual MP4 (`sorano.video`).

Frames are [H, W, 3], uint8, sRGB. Each is shown for a whole number of the format's ticks (GIF 1/100 s, WebP 1/1000 s),
counted from the beginning, so that no animation drifts from its rate by more than one tick.

Not covered: sound (GIF and WebP have none), transparency, GIF above 50 frames a second: viewers slow it down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.errors import RequestError
from sorano.media.pictures import DESCRIPTION
from sorano.media.recode import BT709, LIMITED_RANGE, VP9

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]

GIF_TICKS, WEBP_TICKS = 100, 1000  # a second
MOST_GIF_RATE = 50.0  # frames a second: browsers show what is shorter than 2 ticks for 10
MOST_BYTES = 1_000_000_000  # of all frames of an animation, which are held at once
COLOURS = 256  # of one frame of a GIF
WEBP_QUALITY = 90
SUFFIXES = (".gif", ".webp", ".webm")


def check(suffix: str, *, fps: float, width: int, height: int, num_frames: int) -> None:
    """Raises RequestError where a format cannot take a video, before work begins."""
    if suffix == ".gif" and fps > MOST_GIF_RATE:
        raise RequestError(f"a GIF shows at most {MOST_GIF_RATE:g} frames a second: got {fps:g}", "use -o NAME.webp")
    if suffix in (".gif", ".webp") and 3 * width * height * num_frames > MOST_BYTES:
        raise RequestError(
            f"{num_frames} frames of {width}x{height} are too many for a {suffix[1:].upper()}", "use -o NAME.mp4"
        )


def ticks(count: int, fps: float, per_second: int) -> list[int]:
    """How many ticks each of `count` frames is shown for."""
    rate = Fraction(fps).limit_denominator(100_000)
    at = [round(index * per_second / rate) for index in range(count + 1)]
    return [after - before for before, after in zip(at, at[1:], strict=False)]


def animation(path: Path, suffix: str, chunks: Iterable[Frames], fps: float, comment: str) -> None:
    """Writes a GIF (a palette for each frame, dithered) or a lossy WebP that plays on and on, with a `comment`."""
    from PIL import Image

    pictures = [Image.fromarray(frame_HWC) for chunk_THWC in chunks for frame_HWC in chunk_THWC]
    options: dict[str, Any]
    if suffix == ".gif":
        pictures = [_paletted(picture) for picture in pictures]
        shown = [10 * tick for tick in ticks(len(pictures), fps, GIF_TICKS)]
        options = {"format": "GIF", "comment": comment.encode(), "optimize": False, "disposal": 1}
    else:
        shown = ticks(len(pictures), fps, WEBP_TICKS)
        exif = Image.Exif()
        exif[DESCRIPTION] = comment
        options = {"format": "WEBP", "quality": WEBP_QUALITY, "method": 4, "exif": exif}
    first, *others = pictures
    with open(path, "wb") as file:
        first.save(file, save_all=True, append_images=others, duration=shown, loop=0, **options)


def _paletted(picture: Any) -> Any:
    from PIL import Image

    palette = picture.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)


def webm(path: Path, chunks: Iterable[Frames], fps: float, tags: Mapping[str, str]) -> None:
    """Writes a WebM (VP9, yuv420p, BT.709); an odd last row or column is written twice."""
    import av
    import numpy as np

    with av.open(f"file:{path}", "w", format="webm") as out:
        out.metadata.update(tags)
        stream: Any = None
        for frame_HWC in _each(chunks):
            height, width = frame_HWC.shape[:2]
            if stream is None:
                stream = out.add_stream("libvpx-vp9", rate=Fraction(fps).limit_denominator(100_000))
                codec = stream.codec_context
                codec.width, codec.height, codec.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
                codec.options = dict(VP9)
                codec.color_primaries = codec.color_trc = codec.colorspace = BT709
                codec.color_range = LIMITED_RANGE
            even = np.pad(frame_HWC, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            out.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")))
        out.mux(stream.encode())


def _each(chunks: Iterable[Frames]) -> Iterator[Frames]:
    for chunk_THWC in chunks:
        yield from chunk_THWC
