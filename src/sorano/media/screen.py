"""From a decoded frame to what is on screen: RGB, turned, mirrored, with square pixels, over a background.

Not covered: display matrices that turn by other than quarters (the nearest quarter is taken), container cropping
(`clap`, PixelCrop), 3D and spherical layouts.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

from sorano.media.colour import Colour, Converter, colour_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]

NEARLY_SQUARE = Fraction(1, 100)  # pixels that are this close to square are left alone
MOST_ASPECT = 16  # a pixel that is wider or taller than this is a mistake
MOST_FORMS = 8  # a stream may change its form in every frame
BACKGROUNDS = {"white": 255, "black": 0}
ALPHA_FORMATS = ("yuva", "rgba", "argb", "bgra", "abgr", "ya8", "ya16", "yaf", "gbrap", "pal8", "vuya", "ayuv")
Matrix = tuple[int, int, int, int]  # a, b, c, d: x' = a x + c y, y' = b x + d y, y down (ISO 14496-12)
UNTURNED: Matrix = (1, 0, 0, 1)


def matrix_of(frame: Any) -> Matrix:
    """The display matrix of a frame, as signs."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX" and len(bytes(data)) >= 36:
            a, b, _, c, d, *_ = struct.unpack_from("=9i", bytes(data))
            if abs(a) + abs(d) >= abs(b) + abs(c):
                return (-1 if a < 0 else 1, 0, 0, -1 if d < 0 else 1)
            return (0, -1 if b < 0 else 1, -1 if c < 0 else 1, 0)
    return UNTURNED


def turned(frame_HWC: Frames, matrix: Matrix) -> Frames:
    """Pixels [H, W, C] as a display matrix places them; a view."""
    a, b, c, d = matrix
    if b:
        frame_HWC = frame_HWC.swapaxes(0, 1)
        return frame_HWC[:: b or 1, :: c or 1]
    return frame_HWC[::d, ::a]


def square_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """Width and height with square pixels, never fewer of them. `aspect` is a pixel's width over its height.

    The side that is scaled comes out even, as files of 4:2:0 colour need it.
    """
    if aspect is None or aspect <= 0 or not Fraction(1, MOST_ASPECT) <= aspect <= MOST_ASPECT:
        return width, height
    if abs(aspect - 1) <= NEARLY_SQUARE:
        return width, height
    if aspect > 1:
        return 2 * round(width * aspect / 2), height
    return width, 2 * round(height / aspect / 2)


def rest_of_aspect(width: int, height: int, aspect: Fraction | None) -> Fraction:
    """What `square_size` leaves of a pixel's aspect by rounding: 1, or within a few thousandths of it."""
    wide, high = square_size(width, height, aspect)
    if aspect is None or (wide, high) == (width, height):
        return Fraction(1)
    return Fraction(width, height) * aspect / Fraction(wide, high)


def has_alpha(pixel_format: str) -> bool:
    """Whether a pixel format of FFmpeg's has transparency."""
    return pixel_format.startswith(ALPHA_FORMATS)


class Screen:
    """Turns decoded frames of one stream into pixels [H, W, 3], uint8, sRGB. Tables and scalers are kept."""

    def __init__(self, aspect: Fraction | None = None, over: str = "white") -> None:
        from av.video.reformatter import VideoReformatter

        self.aspect, self.background = aspect, BACKGROUNDS[over]
        self.reformatter: Any = VideoReformatter()
        self.converters: dict[Colour, Converter] = {}
        self.said: dict[tuple[int, ...], tuple[Colour, Matrix]] = {}

    def size_of(self, frame: Any) -> tuple[int, int]:
        """The width and height on screen."""
        width, height = square_size(frame.width, frame.height, self.aspect)
        return (height, width) if matrix_of(frame)[1] else (width, height)

    def __call__(self, frame: Any) -> Frames:
        """One frame."""
        width, height = square_size(frame.width, frame.height, self.aspect)
        colour, matrix = self._said(frame)
        options: dict[str, Any] = {"src_colorspace": colour.matrix}
        if (width, height) != (frame.width, frame.height):
            options |= {"width": width, "height": height, "interpolation": "BICUBIC"}
        if has_alpha(frame.format.name):
            shown = self._flattened(self.reformatter.reformat(frame, format="rgba", **options).to_ndarray())
        elif colour.needs_table:
            shown = self._converted(frame, colour, options)
        else:
            shown = self.reformatter.reformat(frame, format="rgb24", **options).to_ndarray()
        return shown if matrix == UNTURNED else turned(shown, matrix)

    def _said(self, frame: Any) -> tuple[Colour, Matrix]:
        """Colour and display matrix, asked once a form: a frame whose side data were asked for is freed late."""
        key = (frame.width, frame.height, frame.colorspace, frame.color_trc, frame.color_primaries)
        if key not in self.said:
            if len(self.said) >= MOST_FORMS:
                self.said.clear()
            self.said[key] = colour_of(frame), matrix_of(frame)
        return self.said[key]

    def _flattened(self, rgba_HWC: Frames) -> Frames:
        import numpy as np

        alpha = rgba_HWC[..., 3:].astype(np.uint16)
        if alpha.min() == 255:
            return rgba_HWC[..., :3]
        mixed = rgba_HWC[..., :3] * alpha + np.uint16(self.background) * (255 - alpha)
        return cast("Frames", ((mixed + 127) // 255).astype(np.uint8))

    def _converted(self, frame: Any, colour: Colour, options: dict[str, Any]) -> Frames:
        converter = self.converters.get(colour)
        if converter is None:
            if len(self.converters) >= MOST_FORMS:
                self.converters.clear()
            converter = self.converters[colour] = Converter(colour)
        return converter(self.reformatter.reformat(frame, format="rgb48le", **options).to_ndarray())
