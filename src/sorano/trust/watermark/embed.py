"""The mark put into video and pictures: a pattern added to luma and, more faintly, to colour.

It is added to luma and, with chips twice as large, to Cb and Cr, evenly over time and over the frame. In luma it is as
strong as keeps VMAF at 93 in each frame, by how large the picture's detail is (46.5 to 51.5 dB); in colour it has a
level or two of 255, less on flat ground, where it is seen (docs/LOG.md, 2026-11-28).

Covered: streams and pictures, in constant memory. Not covered: whether the mark is read back after what happens to a
file (`trust/watermark/detect.py`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sorano.errors import RequestError
from sorano.trust.watermark.pattern import (
    CHIP,
    CHROMA_TILE,
    TILE,
    carrier,
    chip_size,
    chroma_carriers,
    drawn,
    sharpened,
    work_size,
)
from sorano.trust.watermark.payload import CODE, PUBLIC_KEY, Payload

if TYPE_CHECKING:
    from PIL.Image import Image

Frames = NDArray[np.uint8]
Array = NDArray[Any]

PSNR_BASE, PSNR_FINE, PSNR_COARSE = 62.5, 0.45, -1.05  # dB of luma by how large detail is (`Marker._rms`)
LEAST_PSNR, MOST_PSNR = 46.5, 51.5
CHROMA_RMS, CHROMA_RANGE, RED_SHARE = 1.4, (1.0, 1.7), 0.7  # levels of Cb at 540p, least and most; Cr beside Cb
FLAT_SHARES = (
    0.8,
    0.6,
)  # of the mark in colour where nothing hides it: in frames below 405 lines, which need it, above
FULL_DETAIL = 2.5  # levels of detail that hide all of it
RGB_OF_CHROMA = np.array([[0, -0.344136, 1.772], [1.402, -0.714136, 0]], np.float32)  # of Cb and Cr, ITU-R BT.601


class Marker:
    """Marks a stream of frames chunk by chunk, in constant memory; the result does not depend on the chunks."""

    def __init__(
        self,
        payload: Payload,
        *,
        height: int,
        width: int,
        fps: float,
        key: bytes = PUBLIC_KEY,
        target_psnr: float | None = None,
    ) -> None:
        """`target_psnr` is that of luma in each frame, in dB; when left out, as low as VMAF allows."""
        if height < 1 or width < 1 or not fps > 0:
            raise RequestError(f"cannot mark frames of {width}x{height} at {fps} fps")
        if target_psnr is not None and not 30 <= target_psnr <= 60:
            raise RequestError(f"the PSNR of a mark lies from 30 to 60 dB: got {target_psnr}")
        self.size = (height, width)
        self._target_psnr = target_psnr
        self._carrier, self._chroma_carriers = carrier(key), chroma_carriers(key)
        self._word = CODE.encode(payload.bits())
        self._chip = chip_size(height, width)
        self._work = work_size(height, width, self._chip)
        blue = float(np.clip(CHROMA_RMS * (540 / min(height, width)) ** 0.5, *CHROMA_RANGE))
        self._chroma_rms = (blue, blue * RED_SHARE)
        self._flat_share = FLAT_SHARES[self._chip > CHIP]
        self._draw()
        self._count = 0
        self._detail = [0.0, 0.0]  # of the frames so far

    def __call__(self, frames_THWC: Frames) -> Frames:
        """Marks the next frames, uint8 RGB [T, H, W, 3]."""
        if frames_THWC.ndim != 4 or frames_THWC.shape[1:] != (*self.size, 3) or frames_THWC.dtype != np.uint8:
            height, width = self.size
            raise ValueError(f"frames must be [T, {height}, {width}, 3] uint8: got {frames_THWC.shape}")
        marked = np.empty(frames_THWC.shape, np.uint8)  # in the usual order, however the frames lie in memory
        for frame_HWC, marked_HWC in zip(frames_THWC, marked, strict=True):
            self._frame(np.ascontiguousarray(frame_HWC), marked_HWC)
        return marked

    def state(self) -> dict[str, Any]:
        """What the next frames depend on, for a stream that goes on later."""
        return {"count": self._count, "detail": list(self._detail)}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a `state`."""
        self._count, self._detail = state["count"], list(state["detail"])

    def _frame(self, frame_HWC: Frames, marked_HWC: Frames) -> None:
        import cv2

        luma = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY)
        if self._work != self.size:
            luma = cv2.resize(luma, self._work[::-1], interpolation=cv2.INTER_AREA)
        half = _halved(luma.astype(np.float32))
        self._watch(half)
        change = (self._pattern * self._rms()).astype(np.float32)
        share = cv2.resize(textured(half, self._flat_share), self.size[::-1], interpolation=cv2.INTER_LINEAR)
        colour = cv2.multiply(self._colour, cv2.merge([share, share, share]))
        cv2.add(frame_HWC, cv2.merge([change, change, change]) + colour, dst=marked_HWC, dtype=cv2.CV_8U)
        self._count += 1

    def _watch(self, half: Array) -> None:
        """Learns how large the detail is that the mark adds to, at a half and a quarter of the work size."""
        old = 0.95 if self._count else 0.0
        for index, picture in enumerate((half, _halved(half))):
            self._detail[index] = old * self._detail[index] + (1 - old) * detail_of(picture)

    def _rms(self) -> float:
        """Levels of luma that the mark adds: what leaves the least VMAF of a frame at 93 or more."""
        decibels = self._target_psnr
        if decibels is None:
            fine, coarse = (20 * math.log10(max(value, 1.0)) for value in self._detail)
            decibels = min(max(PSNR_BASE + PSNR_FINE * fine + PSNR_COARSE * coarse, LEAST_PSNR), MOST_PSNR)
        return float(255 / 10 ** (decibels / 20))

    def _draw(self) -> None:
        """The pattern of luma, of deviation 1, and what is added to R, G and B for Cb and Cr."""
        self._pattern = _even(drawn(sharpened(self._carrier.tile(self._word)), *self.size, self._chip))
        self._colour = np.zeros((*self.size, 3), np.float32)
        for source, rms, rgb in zip(self._chroma_carriers, self._chroma_rms, RGB_OF_CHROMA, strict=True):
            plane = _even(drawn(source.tile(self._word), *self.size, self._chip * TILE / CHROMA_TILE))
            self._colour += plane[..., None] * (rms * rgb)


def detail_of(luma_YX: Array) -> float:
    """How large the detail of a picture is, in levels of 255: its cubes over its squares, as VMAF's ADM pools it.

    A mark of a level or so is lost beside a few strong edges, and swamps a weak texture that is everywhere.
    """
    import cv2

    size = np.abs(luma_YX - cv2.GaussianBlur(luma_YX, (0, 0), 1.2))
    square = size * size
    return float((square * size).sum() / max(float(square.sum()), 1e-9))


def textured(luma_YX: Array, least: float) -> Array:
    """The share of the mark in colour that each place gets, [Y, X], up to 1: less on flat ground, where it is seen."""
    import cv2

    detail = np.abs(luma_YX - cv2.GaussianBlur(luma_YX, (0, 0), 1.5))
    around = cv2.GaussianBlur(detail, (0, 0), 4)
    return np.asarray(least + (1 - least) * np.minimum(around / FULL_DETAIL, 1), np.float32)


def _halved(picture: Array) -> Array:
    """A picture at half the size."""
    import cv2

    size = (max(1, picture.shape[1] // 2), max(1, picture.shape[0] // 2))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _even(pattern: Array) -> Array:
    """A pattern with deviation 1."""
    return np.asarray(pattern / max(float(pattern.std()), 1e-9), np.float32)


def mark_frames(
    frames_THWC: Frames, payload: Payload, *, fps: float, key: bytes = PUBLIC_KEY, target_psnr: float | None = None
) -> Frames:
    """Marks a whole clip, uint8 RGB [T, H, W, 3]."""
    height, width = frames_THWC.shape[1:3]
    return Marker(payload, height=height, width=width, fps=fps, key=key, target_psnr=target_psnr)(frames_THWC)


def mark_image(
    image: Image | Array, payload: Payload, *, key: bytes = PUBLIC_KEY, target_psnr: float | None = None
) -> Array:
    """A marked copy of a picture, uint8 RGB [H, W, 3], of a PIL image or an array."""
    picture = rgb_of(image)
    return mark_frames(picture[None], payload, fps=1.0, key=key, target_psnr=target_psnr)[0]


def rgb_of(image: Image | Array) -> Frames:
    """uint8 RGB [H, W, 3]; transparency is dropped."""
    picture = image if isinstance(image, np.ndarray) else np.asarray(image.convert("RGB"))
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, -1)
    if picture.ndim != 3 or picture.shape[2] not in (3, 4) or picture.dtype != np.uint8:
        raise ValueError(f"a picture must be [H, W, 3] uint8: got {picture.shape} {picture.dtype}")
    return np.ascontiguousarray(picture[..., :3])
