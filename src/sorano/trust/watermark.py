"""The invisible mark in video and pictures: put in, and read back after coding, cutting and scaling.

    marker = Marker(Payload(1, "made", 0x123456789A), height=540, width=960, fps=24)
    marked = [marker(chunk) for chunk in chunks]      # a stream, in constant memory
    found = detect(marked, fps=24)                    # a Detection, or None

A payload is a version, a kind ("made" by AI, or "captured") and an id of 40 bits, with a CRC of 28 bits, in a polar
code of 1,024 bits on the carriers of `trust/carrier.py`. It is the same through the clip, so that it is read as one.
It is added to luma and, with chips twice as large, to Cb and Cr, evenly over time and over the frame. In luma it is as
strong as keeps VMAF at 93 in each frame, by how large the picture's detail is (46.5 to 51.5 dB); in colour it has a
level or two of 255, less on flat ground, where it is seen (docs/LOG.md, 2026-11-28). A video within a video is looked
for by its edges (`trust/inset.py`).

Covered: re-coding, crops, scaling, mirror images, dropped frames, brightness, contrast, blur, noise; how well is
measured by benchmarks/watermark.py and kept in docs/LOG.md. A mark is reported only where its CRC holds:
`false_accept_rate` of a Detection is the chance, at most, that noise passed.

Not covered: who made it. The public key ships with Sorano, so that anyone can read the mark; whoever has it can also
remove it, forge it, or copy it onto other content. A mark alone is a hint, never proof; a signature proves
(`trust/credentials.py`). No mark proves nothing either. Coarse coding (CRF 40 and more) and strong perspective often
destroy it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sorano.errors import RequestError
from sorano.trust import inset, reader
from sorano.trust.carrier import (
    CHIP,
    CHROMA_TILE,
    CODE_BITS,
    TILE,
    carrier,
    chip_size,
    chroma_carriers,
    drawn,
    sharpened,
    work_size,
)
from sorano.trust.code import LIST_SIZE, Bits, PolarCode, to_bits, to_int

if TYPE_CHECKING:
    from PIL.Image import Image

Frames = NDArray[np.uint8]
Array = NDArray[Any]

PUBLIC_KEY = hashlib.sha256(b"Sorano public carrier key, version 1").digest()
VERSION = 1
KINDS = {"made": 1, "captured": 2}  # by AI; by a camera or a screen
ID_BITS = 40
CODE = PolarCode(size=CODE_BITS, message_bits=4 + ID_BITS, crc_bits=28)
HEADER_PASSES = len(KINDS) / 16  # the share of noise whose four header bits are a known version and kind

PSNR_BASE, PSNR_FINE, PSNR_COARSE = 62.5, 0.45, -1.05  # dB of luma by how large detail is (`Marker._rms`)
LEAST_PSNR, MOST_PSNR = 46.5, 51.5
CHROMA_RMS, CHROMA_RANGE, RED_SHARE = 1.4, (1.0, 1.7), 0.7  # levels of Cb at 540p, least and most; Cr beside Cb
FLAT_SHARES = (
    0.8,
    0.6,
)  # of the mark in colour where nothing hides it: in frames below 405 lines, which need it, above
FULL_DETAIL = 2.5  # levels of detail that hide all of it
RGB_OF_CHROMA = np.array([[0, -0.344136, 1.772], [1.402, -0.714136, 0]], np.float32)  # of Cb and Cr, ITU-R BT.601
USUAL_WORDS = 36  # at most, that are decoded of an uncut frame: nine grids of four words
SLOT_SECONDS = 2.0
SLOT_SCORE = 6.0  # deviations of chance that one slot must show of the decoded word


@dataclass(frozen=True)
class Payload:
    """What a mark says. `id` has 40 bits; `kind` is "made" (by AI) or "captured"."""

    version: int
    kind: str
    id: int

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise RequestError(f"marks have version {VERSION}: got {self.version}")
        if self.kind not in KINDS:
            raise RequestError(f"a mark says {' or '.join(KINDS)}: got {self.kind!r}")
        if not 0 <= self.id < 1 << ID_BITS:
            raise RequestError(f"the id of a mark has {ID_BITS} bits: got {self.id}")

    def bits(self) -> Bits:
        """The message: version, kind, id."""
        return np.concatenate([to_bits(self.version, 2), to_bits(KINDS[self.kind], 2), to_bits(self.id, ID_BITS)])

    @classmethod
    def from_bits(cls, message: Bits) -> Payload | None:
        """The payload of a decoded message; None where it is none that this version writes."""
        kinds = {number: kind for kind, number in KINDS.items()}
        kind = kinds.get(to_int(message[2:4]))
        if to_int(message[:2]) != VERSION or kind is None:
            return None
        return cls(VERSION, kind, to_int(message[4:]))


@dataclass(frozen=True)
class Detection:
    """A mark that was read, and how the frames lay on its grid."""

    payload: Payload
    confidence: float  # deviations of chance by which the decoded word stands out
    scale: float  # the chips' size, in that of an uncut frame of this size
    shift: tuple[float, float]  # where the tile begins in the first chips: down and right, in pixels
    flipped: bool  # mirrored
    rotation: float  # degrees, counter-clockwise
    slots_read: int  # of 2 s each, those that carry this word
    slots: int
    fps: float
    false_accept_rate: float  # how often, at most, a look at unmarked frames would find some mark
    size: tuple[int, int]  # height and width of the frames
    grid: reader.Grid  # in a kept frame (`reader.SHORT`), or in the part of it that holds the marked video
    level: int
    box: inset.Box | None = None  # that part: top, left, bottom, right in pixels of a kept frame; None for all


# Putting it in.


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


# Reading it.


def detect(frames: Iterable[Array], *, fps: float, key: bytes = PUBLIC_KEY, thorough: bool = True) -> Detection | None:
    """Reads the mark of a clip that comes in chunks, [T, H, W, 3] RGB or [T, H, W] luma, uint8; None without one.

    Constant memory, whatever the length. Without `thorough` only an uncut frame is tried, at any size.
    """
    kept = reader.Kept()
    for chunk in frames:
        for frame in chunk:
            kept.add(frame)
    return read(kept, fps=fps, key=key, thorough=thorough)


def read(
    kept: reader.Kept,
    *,
    fps: float,
    key: bytes = PUBLIC_KEY,
    thorough: bool = True,
    again: bool = False,
    has_time: Callable[[], bool] = lambda: True,
) -> Detection | None:
    """Reads the mark of the frames that were kept of a clip. `again`: an uncut frame was tried before, in vain.

    The search ends where `has_time`, asked before each candidate, says no.
    """
    if not kept.frames or min(kept.size) < 16:
        return None
    tried = USUAL_WORDS if again else 0
    for part, box, grid, level in _places(kept, key, thorough, again):
        if not has_time():
            return None
        payload, tried = _decoded(part, key, grid, level, tried)
        if payload is not None:
            return replace(_described(part, key, payload, grid, level, fps, tried), size=kept.size, box=box)
    return None


def _places(
    kept: reader.Kept, key: bytes, thorough: bool, again: bool
) -> Iterator[tuple[reader.Kept, inset.Box | None, reader.Grid, int]]:
    """Where a mark may lie, the likely and cheap places first: all of the frames or a part, a grid, its level."""
    if not again:
        yield from ((kept, None, grid, level) for grid, level in _uncut(kept, key))
    if not thorough:
        return
    parts = [(kept.cut(box), box) for box in inset.rectangles(kept.frames)]
    kept.forget()  # all of one part at every size is as much as fits: the others are made anew when their turn comes
    for part, box in parts:
        yield from ((part, box, grid, level) for grid, level in _uncut(part, key))
        part.forget()
    for part, box in parts:
        yield from (
            (part, box, grid, level) for grid, level in reader.search(part, key, reader.all_chips(part), quarters=1)
        )
        part.forget()
    for grid, level in reader.search_turned(kept, key):
        yield kept, None, grid, level
    for grid, level in reader.search(kept, key, reader.all_chips(kept), quarters=1):
        yield kept, None, grid, level


def _uncut(kept: reader.Kept, key: bytes) -> Iterator[tuple[reader.Grid, int]]:
    """The grids of a clip that was not cut, but for a few rows."""
    usual = reader.usual_grid(kept)
    yield usual, reader.level_of(usual.chip)
    yield from reader.search(kept, key, reader.near_chips(usual.chip), most=2)
    tried = [usual.chip]
    for chip in reader.likely_chips(kept):
        if all(abs(math.log(chip / other)) > 0.01 for other in tried):
            yield from reader.search(kept, key, reader.near_chips(chip), most=2)
        tried.append(chip)


def _decoded(kept: reader.Kept, key: bytes, grid: reader.Grid, level: int, tried: int) -> tuple[Payload | None, int]:
    """The payload that a grid shows, if any, and how many words were tried by now."""
    soft = reader.seen_in(kept, key, grid, level).soft_values()
    for message in CODE.decode(soft):
        payload = None if message is None else Payload.from_bits(message)
        if payload is not None:
            return payload, tried + len(soft)
    return None, tried + len(soft)


def _described(
    kept: reader.Kept, key: bytes, payload: Payload, grid: reader.Grid, level: int, fps: float, tried: int
) -> Detection:
    """All that is said about a mark that was read."""
    word = CODE.encode(payload.bits())
    seen = reader.seen_in(kept, key, grid, level)
    pattern = carrier(key).tile(word)
    weight = reader.weights(seen.planes[0][1], pattern)
    clearest = np.argsort(-np.abs(weight))[:8]
    steps = np.float32(reader.WHITE_STEPS)
    white = np.asarray(sum(np.float32(weight[index]) / steps * kept.white(level, index) for index in clearest))
    picture = reader.Picture(white, None, carrier(key), chroma_carriers(key)[1], level)
    closer = reader.refined(picture, grid, [pattern])
    closer_seen = reader.seen_in(kept, key, closer, level)
    score, closer_score = seen.agreement(word), closer_seen.agreement(word)
    if closer_score > score:
        grid, seen, score = closer, closer_seen, closer_score
    slots = np.array([int(time / fps // SLOT_SECONDS) for time in kept.times])
    read_slots = [_shows(seen, word, np.flatnonzero(slots == slot)) for slot in np.unique(slots)]
    pixels = min(kept.size) / min(kept.frames[0].shape)  # of the frame for one of a kept frame
    turn = grid.turn
    a = grid.matrix_23
    lean = float(np.degrees(np.arctan2(a[1, 0] - a[0, 1], a[0, 0] + a[1, 1])))
    return Detection(
        payload=payload,
        confidence=score,
        scale=grid.chip * pixels / chip_size(*kept.size),
        shift=(grid.shift_2[0] * grid.chip * pixels, grid.shift_2[1] * grid.chip * pixels),
        flipped=turn >= 4,
        rotation=(90.0 * (turn % 4) - lean + 180) % 360 - 180,
        slots_read=sum(read_slots),
        slots=len(read_slots),
        fps=fps,
        false_accept_rate=min(1.0, CODE.false_accept_rate(tried, LIST_SIZE) * HEADER_PASSES),
        size=kept.size,
        grid=grid,
        level=level,
    )


def _shows(seen: reader.Seen, word: Array, frames: NDArray[np.int64]) -> bool:
    """Whether a slot shows the word: together, or in one frame alone.

    Weights that suit the word are found for each frame and plane, so chance alone agrees by the root of their number.
    """
    return any(
        seen.agreement(word, some) >= SLOT_SCORE + (len(some) * len(seen.planes)) ** 0.5
        for some in (frames, *(frames[i : i + 1] for i in range(len(frames))))
    )


# Pictures.


def mark_image(
    image: Image | Array, payload: Payload, *, key: bytes = PUBLIC_KEY, target_psnr: float | None = None
) -> Array:
    """A marked copy of a picture, uint8 RGB [H, W, 3], of a PIL image or an array."""
    picture = _rgb(image)
    return mark_frames(picture[None], payload, fps=1.0, key=key, target_psnr=target_psnr)[0]


def detect_image(image: Image | Array, *, key: bytes = PUBLIC_KEY, thorough: bool = True) -> Detection | None:
    """Reads the mark of a picture; None where there is none."""
    return detect([_rgb(image)[None]], fps=1.0, key=key, thorough=thorough)


def _rgb(image: Image | Array) -> Frames:
    """uint8 RGB [H, W, 3]; transparency is dropped."""
    picture = image if isinstance(image, np.ndarray) else np.asarray(image.convert("RGB"))
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, -1)
    if picture.ndim != 3 or picture.shape[2] not in (3, 4) or picture.dtype != np.uint8:
        raise ValueError(f"a picture must be [H, W, 3] uint8: got {picture.shape} {picture.dtype}")
    return np.ascontiguousarray(picture[..., :3])
