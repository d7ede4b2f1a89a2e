"""Still pictures and animations as viewers show them: upright, sRGB, 8 bits, transparent ones over a background.

Covered: EXIF orientation, ICC profiles, CMYK, palettes, 16-bit and float grey, animated WebP, APNG and AVIF, pages of
TIFF and MPO. Not covered: HDR pictures (gain maps, PQ in PNG or AVIF: the base picture is taken), raw photographs,
HEIC.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sorano.errors import VideoError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]

MAX_PIXELS = 50_000_000  # larger pictures are refused unread (decompression bombs)
MAX_BYTES = 200_000_000
MOST_FRAMES = 100_000  # of an animation
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
ANIMATED = ("PNG", "WEBP", "AVIF", "GIF")  # formats whose further pictures are shown one after the other
SHORTEST = 0.011  # seconds; shorter frames of an animation are shown for a tenth, as browsers do
USUAL_SECONDS = 0.1
DESCRIPTION = 0x010E  # EXIF's ImageDescription
MOST_COMMENT = 1_000_000  # characters
SAMPLE_RANGE = (340, 341)  # TIFF's SMinSampleValue and SMaxSampleValue
HINT = "use a PNG, JPEG or WebP file"


@dataclass(frozen=True)
class About:
    """What a picture file holds; width and height as shown."""

    format: str
    mode: str
    width: int
    height: int
    num_pictures: int
    has_alpha: bool
    is_animated: bool
    seconds: float | None
    is_deep: bool


def sniff(head: bytes) -> str | None:
    """The picture format of a file by its first 64 bytes; None where it is no picture that is read here."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "BMP"
    if head[4:8] == b"ftyp":
        brands = head[8:12], *[head[at : at + 4] for at in range(16, min(64, int.from_bytes(head[:4], "big")), 4)]
        if brands[0] in (b"avif", b"avis") or (brands[0] in (b"mif1", b"msf1") and b"avif" in brands):
            return "AVIF"
        if brands[0] in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"):
            return "HEIF"
    return None


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """A picture, opened with limits; everything that fails inside is a VideoError."""
    from PIL import Image

    try:
        if Path(path).stat().st_size > MAX_BYTES:
            raise VideoError(f"{path} is larger than {MAX_BYTES // 10**6} MB")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oversized pictures and odd metadata are judged here
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise VideoError(
                        f"{path} is {image.width}x{image.height}: over {MAX_PIXELS:,} pixels",
                        "shrink it first: a first frame needs no more pixels than the video",
                    )
                yield image
    except (OSError, ValueError, SyntaxError, EOFError, OverflowError, Image.DecompressionBombError) as error:
        text = str(getattr(error, "strerror", None) or error) or type(error).__name__
        raise VideoError(f"{path} cannot be read as a picture: {text}", HINT) from error


def about(path: str | Path) -> About:
    """What a picture file holds. Raises VideoError for one that cannot be read; the first picture is decoded."""
    with _opened(path) as image:
        count = int(getattr(image, "n_frames", 1))
        animated = count > 1 and image.format in ANIMATED
        seconds = _length(image, count) if animated else None
        image.seek(0)
        pixels = _upright(image)
        alpha = False
        if image.has_transparency_data:
            alpha = animated or pixels.convert("RGBA").getchannel("A").getextrema()[0] < 255
        width, height = pixels.size
        deep = image.mode.startswith("I") or image.mode == "F"
        return About(image.format, image.mode, width, height, count, alpha, animated, seconds, deep)


def comment(path: str | Path) -> str:
    """What a picture says of itself: a GIF's comment, EXIF's description of others. Raises VideoError."""
    with _opened(path) as image:
        said = image.info.get("comment", b"") if image.format == "GIF" else image.getexif().get(DESCRIPTION, "")
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    return text[:MOST_COMMENT]


def _length(image: Any, count: int) -> float:
    """The seconds of an animation. Frames whose length costs decoding (WebP, AVIF) are decoded."""
    total = 0.0
    for index in range(_first(image), min(count, MOST_FRAMES)):
        image.seek(index)
        if image.format in ("WEBP", "AVIF"):
            image.load()
        total += _seconds(image)
    return total


def _first(image: Any) -> int:
    """The index of an animation's first frame: an APNG may begin with a picture that is no part of it."""
    return 1 if getattr(image, "default_image", False) else 0


def _seconds(image: Any) -> float:
    stated = float(image.info.get("duration") or 0) / 1000
    return stated if stated >= SHORTEST else USUAL_SECONDS


def read(path: str | Path, over: str = "white") -> Frames:
    """The first picture of a file, [H, W, 3], uint8, as viewers show it. Raises VideoError."""
    with _opened(path) as image:
        return _pixels(image, path, over)


def read_alpha(path: str | Path) -> tuple[Frames, Frames]:
    """The first picture, [H, W, 3], without regard to its transparency, and that, [H, W]. Raises VideoError."""
    import numpy as np

    with _opened(path) as image:
        colour, alpha = _split(image, path)
        opaque = np.full(colour.size[::-1], 255, np.uint8)
        return np.asarray(colour), opaque if alpha is None else np.asarray(alpha)


def frames(path: str | Path, over: str = "white") -> Iterator[tuple[Frames, float]]:
    """What is on screen: a still, or an animation's frames, each [H, W, 3] with its seconds. Raises VideoError."""
    with _opened(path) as image:
        count = int(getattr(image, "n_frames", 1))
        if count == 1 or image.format not in ANIMATED:
            yield _pixels(image, path, over), 1.0
            return
        if count > MOST_FRAMES:
            raise VideoError(f"{path} has {count:,} frames; at most {MOST_FRAMES:,} are read")
        for index in range(_first(image), count):
            image.seek(index)
            pixels = _pixels(image, path, over)  # WebP knows a frame's length once it is decoded
            yield pixels, _seconds(image)


def _pixels(image: Any, path: str | Path, over: str) -> Frames:
    import numpy as np
    from PIL import Image

    colour, alpha = _split(image, path)
    if alpha is None:
        return cast("Frames", np.asarray(colour))
    ground = Image.new("RGB", colour.size, over)
    ground.paste(colour, mask=alpha)
    return cast("Frames", np.asarray(ground))


def _split(image: Any, path: str | Path) -> tuple[Any, Any | None]:
    """Colour (RGB, sRGB) and alpha (L; None where there is none) of the current picture, upright."""
    pixels = _upright(image)
    if pixels.mode.startswith("I") or pixels.mode == "F":
        pixels = _eight_bits(pixels, image, path)
    alpha = None
    if image.has_transparency_data:
        whole = pixels.convert("RGBA")
        alpha = whole.getchannel("A")
        pixels = whole.convert("RGB") if pixels.mode not in ("RGB", "L") else pixels
    return _to_srgb(pixels, image.info.get("icc_profile")), alpha


def _upright(image: Any) -> Any:
    """A loaded copy of the current picture, turned as EXIF asks for."""
    from PIL import ImageOps

    with suppress(TypeError, KeyError, ZeroDivisionError):  # EXIF that is damaged turns nothing
        return ImageOps.exif_transpose(image)
    return image.copy()


def _eight_bits(pixels: Any, image: Any, path: str | Path) -> Any:
    """16-bit, 32-bit and float grey as 8 bits: full scale is white. Raises VideoError where the scale is not known."""
    import numpy as np
    from PIL import Image

    values = np.asarray(pixels)
    tags = getattr(image, "tag_v2", {})
    stated = [tags.get(tag) for tag in SAMPLE_RANGE]
    low, high = (float(v[0] if isinstance(v, tuple) else v) if v is not None else None for v in stated)
    least, most = float(np.nanmin(values)), float(np.nanmax(values))
    if pixels.mode.startswith("I;16"):
        low, high = 0.0, 65535.0
    elif low is None or high is None or not low < high:
        bits = tags.get(258, (16,))[0]
        if pixels.mode == "I" and bits <= 16 and least >= 0:
            low, high = 0.0, 65535.0
        elif pixels.mode == "F" and least >= 0 and most <= 1:
            low, high = 0.0, 1.0
        else:
            raise VideoError(
                f"{path} has values from {least:g} to {most:g} and does not say which of them is white",
                "save it with 8 or 16 bits a channel",
            )
    scaled = (np.nan_to_num(values.astype(np.float64), nan=low) - low) * (255 / (high - low))
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))


def _to_srgb(pixels: Any, profile: bytes | None) -> Any:
    """RGB in sRGB; without a profile that can be used, the plain conversion."""
    from PIL import Image, ImageCms

    if profile:
        source = pixels.convert("RGB") if pixels.mode in ("P", "RGBA", "RGBX", "1") else pixels
        source = source.convert("L") if source.mode in ("LA", "La") else source
        with suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
            given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            made = ImageCms.profileToProfile(source, given, ImageCms.createProfile("sRGB"), outputMode="RGB")
            return cast("Image.Image", made)
    return pixels.convert("RGB")
