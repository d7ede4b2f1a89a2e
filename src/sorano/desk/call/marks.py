"""The mark of a call's pictures: another pattern every second, strong enough for video telephony.

The carrier and the polar code are those of the watermark of files (`sorano.trust.watermark`), on luma alone. A chip
measures 1/90 of the short side (4 pixels at 360 lines), so that 160 x 90 chips cover a tile of 16:9 whatever size it is
sent at. The pattern adds 1.5 to 5 levels of 255 (44.6 to 34 dB; 2.5 at first): a coder leaves a weak pattern out where
nothing moves and a camera has no noise, so the receiver says how clear each slot was, and the sender follows
(docs/LOG.md, benchmarks/call.py).

Covered: frames that are scaled and coded again as a whole. Not covered: tiles that a meeting program crops or mirrors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sorano.desk.call.keys import SLOT_SECONDS, KeyChain, SlotKey
from sorano.trust.watermark.pattern import CHIP, TILE, carrier, drawn, folded, sharpened
from sorano.trust.watermark.payload import CODE, VERSION, Payload

Array = NDArray[Any]
Luma = NDArray[np.uint8]

SHORT_CHIPS = 90  # along the short side of a tile
STRENGTH, LEAST_STRENGTH, MOST_STRENGTH = 2.5, 1.5, 5.0  # levels of 255, root mean square
WEAK, CLEAR = 14.0, 30.0  # scores below and above which a sender changes its strength
LOUDER, SOFTER = 1.3, 1.1  # by which it does
THUMB = (16, 9)  # columns, rows
FLOOR = 0.6  # levels: what is added to the local deviation of chips
HELD_SLOTS = 256  # whose tiles are kept: each is asked for some times, when it is sent ahead and when it is judged
TILE_SCALE = 32  # steps of a sent tile in one unit


@lru_cache(maxsize=HELD_SLOTS)
def slot_tile(key: SlotKey) -> Array:
    """The tile [64, 64] of +1 and -1 that the pictures of a slot carry, read-only."""
    payload = Payload(VERSION, "captured", key.mark_id)
    tile = np.array(carrier(key.pattern_key).tile(CODE.encode(payload.bits())))
    tile.setflags(write=False)
    return tile


def chip_of(height: int, width: int) -> float:
    """The pixels that a chip measures in a tile of this size."""
    return min(height, width) / SHORT_CHIPS


def pattern_of(sharp_YX: Array, height: int, width: int, strength: float = STRENGTH) -> Array:
    """What is added to luma, float32 [height, width], for a sharpened tile."""
    pattern = drawn(sharp_YX, height, width, chip_of(height, width))
    return np.asarray(pattern * (strength / max(float(pattern.std()), 1e-9)), np.float32)


def next_strength(strength: float, score: float) -> float:
    """The strength of the slots to come, when a slot was received with a score."""
    factor = LOUDER if score < WEAK else 1 / SOFTER if score > CLEAR else 1.0
    return min(max(strength * factor, LEAST_STRENGTH), MOST_STRENGTH)


@lru_cache(maxsize=HELD_SLOTS)
def sent_tile(key: SlotKey) -> bytes:
    """The sharpened tile of a slot as pages get it: 4,096 signed bytes, row by row, in steps of 1/32."""
    steps = np.rint(sharpened(slot_tile(key)) * TILE_SCALE)
    return np.clip(steps, -127, 127).astype(np.int8).tobytes()


def received_tile(sent: bytes) -> Array:
    """The sharpened tile [64, 64] of what was sent. Raises ValueError for another number of bytes."""
    return np.frombuffer(sent, np.int8).astype(np.float32).reshape(TILE, TILE) / TILE_SCALE


class LiveMarker:
    """Marks the luma of one participant's frames; times are seconds since the session began."""

    def __init__(self, sharp_of: Callable[[int], Array]) -> None:
        """`sharp_of` gives the sharpened tile of a slot."""
        self.sharp_of, self.strength = sharp_of, STRENGTH
        self._drawn = lru_cache(maxsize=4)(self._draw)

    @classmethod
    def of(cls, chain: KeyChain) -> LiveMarker:
        """The marker of a session's own keys."""
        return cls(lambda slot: sharpened(slot_tile(chain[slot])))

    def __call__(self, luma_YX: Luma, seconds: float) -> Luma:
        """A marked copy of a frame's luma, uint8 [H, W]. Raises IndexError when the session is over."""
        import cv2

        pattern = self._drawn(int(seconds // SLOT_SECONDS), *luma_YX.shape)
        return np.asarray(cv2.add(luma_YX, pattern, dtype=cv2.CV_8U), np.uint8)

    def on_rgb(self, frame_HWC: Luma, seconds: float) -> Luma:
        """A marked copy of an RGB frame, uint8 [H, W, 3]: the pattern is added to each channel."""
        import cv2

        pattern = self._drawn(int(seconds // SLOT_SECONDS), *frame_HWC.shape[:2])
        return np.asarray(cv2.add(frame_HWC, cv2.merge([pattern] * 3), dtype=cv2.CV_8U), np.uint8)

    def heard(self, score: float) -> None:
        """Follow what the receiver says of a slot: from the next slot on."""
        self.strength = next_strength(self.strength, score)

    def _draw(self, slot: int, height: int, width: int) -> Array:
        return pattern_of(self.sharp_of(slot), height, width, self.strength)


def chips_of(luma_YX: Luma) -> Array:
    """The band of the chips in a received frame, in levels: float32 [rows, columns], 90 along the short side."""
    import cv2

    height, width = luma_YX.shape
    chip = chip_of(height, width)
    rows, columns = round(height / chip), round(width / chip)
    size = (columns * CHIP, rows * CHIP)
    picture: Array = luma_YX.astype(np.float32)
    if (width, height) != size:
        shrinks = width > size[0]
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    band = cv2.GaussianBlur(picture, (0, 0), 0.35 * CHIP) - cv2.GaussianBlur(picture, (0, 0), 0.8 * CHIP)
    return cv2.resize(band, (columns, rows), interpolation=cv2.INTER_AREA)


def thumb_of(luma_YX: Luma) -> Array:
    """A frame's luma in 9 x 16 cells, their means, float32: what a sender says of its pictures beside the mark."""
    import cv2

    return np.asarray(cv2.resize(luma_YX, THUMB, interpolation=cv2.INTER_AREA), np.float32)


def mismatch_of(received_YX: Array, declared_YX: Array) -> float:
    """How far two thumbs differ, in levels: what is left of the best straight line from one to the other.

    Gain and offset do not count, for coders and players differ in them.
    """
    x, y = declared_YX.ravel() - declared_YX.mean(), received_YX.ravel() - received_YX.mean()
    gain = np.clip(float((x * y).sum()) / max(float((x * x).sum()), 1.0), 0.7, 1.4)
    return float(np.sqrt(np.mean(np.square(y - gain * x))))


def whitened_chips(chips_YX: Array) -> Array:
    """Chips divided by their local variance, edges clipped: the matched filter for an even mark in uneven noise."""
    import cv2

    deviation = np.sqrt(cv2.GaussianBlur(chips_YX * chips_YX, (0, 0), 1.5)) + FLOOR
    return np.asarray(np.clip(chips_YX / deviation, -2.5, 2.5) / deviation, np.float32)


def repeated(tile_YX: Array, rows: int, columns: int) -> Array:
    """The tile over a frame of chips, [rows, columns]."""
    return np.asarray(tile_YX[np.arange(rows)[:, None] % TILE, np.arange(columns) % TILE])


def score_of(chips_YX: Array, tile_YX: Array) -> float:
    """How clearly chips carry a tile, in deviations of chance.

    A tile that is drawn from an unknown key has independent signs, so that for pictures without it the score exceeds t
    with a probability of at most exp(-t * t / 2), whatever the pictures are (Hoeffding's inequality for signs).
    """
    sums = folded(chips_YX)
    return float((sums * tile_YX).sum() / max(float(np.sqrt((sums * sums).sum())), 1e-9))
