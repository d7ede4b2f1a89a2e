"""The carriers of the marks in pictures: what a key draws, and how a reader sees it.

A key stands for a tile of 64 x 64 chips. A quarter of them are sync chips, whose signs the key alone decides; the
others carry the bits of a code word, three chips a bit, each multiplied by a sign of the key. The tile repeats over the
frame, so that any crop holds what is needed, and stays the same through the clip, so that coders that copy what does
not change copy it too.

Everything is computed on a work picture in which a chip measures 3 pixels, whatever the frame's size:
`chip_size` says how many pixels that is in a frame: 3 in small ones, 4 at 540p. Smaller chips are seen less and are
more in number; larger ones outlive a picture made half as large (docs/LOG.md, 2026-11-28). Cb and Cr have tiles of
32 x 32 chips on the same ground, since coders keep what is coarse in colour: in Cb all bits, in Cr half of them, and
sync chips, by which the grid is found where luma was lost. Signs and positions come from
SHAKE-256 of the key, so that they are the same on every machine and with every version of NumPy.

Covered: a carrier that is found by correlation. Not covered: secrecy of where the carrier is, once a marked flat
picture is published under a key; that is why private keys are for one recording each.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

TILE = 64  # chips on a side
NUM_CHIPS = TILE * TILE
CHIP = 3  # pixels of the work picture
SHORT_CHIPS = 135  # chips along the short side of a large frame: 4 pixels at 540, 8 at 1080
CODE_BITS = 1024
CHROMA_TILE = (
    32  # chips on a side of the tile in Cb and Cr, which is as large as that of luma: a chip is twice as large
)
HIGH_PASS = 0.8  # chips: the deviation of what is taken from a tile
FLOOR, CHROMA_FLOOR = 0.4, 0.18  # levels of 255: what is added to the local deviation of the band


def chip_size(height: int, width: int) -> float:
    """The pixels that a chip measures in a frame that is marked: 3 or more, whatever the frame."""
    return max(float(CHIP), min(height, width) / SHORT_CHIPS)


def work_size(height: int, width: int, chip: float) -> tuple[int, int]:
    """(height, width) of the picture in which a chip of `chip` pixels measures `CHIP`."""
    return max(1, round(height * CHIP / chip)), max(1, round(width * CHIP / chip))


@dataclass(frozen=True, eq=False)
class SpreadingPattern:
    """A key's tile in one plane. `bit_C` is the code bit that each chip carries, -1 for sync; `sign_C` its sign."""

    sign_C: Array
    bit_C: NDArray[np.int64]

    @property
    def side(self) -> int:
        """Chips along a side of the tile."""
        return math.isqrt(len(self.sign_C))

    def tile(self, word: Array) -> Array:
        """The tile [side, side] of a code word of 0s and 1s."""
        level = 1 - 2 * np.asarray(word, np.float32)
        values = np.append(level, 1.0)[self.bit_C]  # sync is entry -1
        return (self.sign_C * values).astype(np.float32).reshape(self.side, self.side)

    def sync_tile(self) -> Array:
        """The tile of the sync chips alone."""
        return (self.sign_C * (self.bit_C < 0)).astype(np.float32).reshape(self.side, self.side)

    def soft_bits(self, folded_YX: Array) -> Array:
        """The sum over each bit's chips, [..., 1024], positive for 0, of tiles [..., side, side]."""
        flat = folded_YX.reshape(*folded_YX.shape[:-2], len(self.sign_C)) * self.sign_C
        flat = np.concatenate([flat, np.zeros_like(flat[..., :1])], -1)
        return np.asarray(flat[..., self._chips_by_bit].sum(-1), np.float32)

    @cached_property
    def _chips_by_bit(self) -> NDArray[np.int64]:
        """The chips of each bit, [1024, n]; the number of chips where it has fewer than others."""
        carried = np.bincount(self.bit_C[self.bit_C >= 0], minlength=CODE_BITS)
        chips = np.full((CODE_BITS, int(carried.max())), len(self.bit_C))
        order = np.argsort(self.bit_C, kind="stable")[int((self.bit_C < 0).sum()) :]
        place = np.arange(len(order)) - np.repeat(np.cumsum(carried) - carried, carried)
        chips[self.bit_C[order], place] = order
        return chips


@lru_cache(maxsize=8)
def carrier(key: bytes) -> SpreadingPattern:
    """The carrier of a key, 16 bytes or more, in luma: a quarter of the chips are sync, three carry each bit."""
    return _made(key, b"sorano carrier 1\0", TILE, NUM_CHIPS // 4)


@lru_cache(maxsize=8)
def chroma_carriers(key: bytes) -> tuple[SpreadingPattern, SpreadingPattern]:
    """The carriers of a key in Cb and Cr: a chip for each bit; a chip for half of the bits, and as many sync chips."""
    blue = _made(key, b"sorano carrier 1 Cb\0", CHROMA_TILE, 0)
    red = _made(key, b"sorano carrier 1 Cr\0", CHROMA_TILE, CHROMA_TILE**2 // 2)
    return blue, red


def _made(key: bytes, name: bytes, side: int, sync: int) -> SpreadingPattern:
    """Signs and places of the chips, by SHAKE-256 of the key."""
    if len(key) < 16:
        raise ValueError(f"a carrier key has 16 bytes or more: got {len(key)}")
    chips = side * side
    stream = hashlib.shake_256(name + key).digest(9 * chips)
    rank = np.frombuffer(stream[: 8 * chips], "<u8")
    sign = np.where(np.frombuffer(stream[8 * chips :], np.uint8) & 1, -1, 1).astype(np.float32)
    bit = np.empty(chips, np.int64)
    order = np.argsort(rank, kind="stable")
    bit[order[:sync]] = -1
    carried = np.arange(CODE_BITS)
    if chips - sync < CODE_BITS:  # some of the bits, wherever they are in the code
        choice = hashlib.shake_256(name + b"bits\0" + key).digest(8 * CODE_BITS)
        carried = np.argsort(np.frombuffer(choice, "<u8"), kind="stable")
    bit[order[sync:]] = carried[np.arange(chips - sync) % CODE_BITS]
    return SpreadingPattern(sign, bit)


def sharpened(tile_YX: Array) -> Array:
    """A tile without its lowest frequencies, which VMAF and eyes see most and a reader cannot tell from the picture."""
    import cv2

    around = np.pad(tile_YX, 4, mode="wrap")
    return np.asarray(tile_YX - cv2.GaussianBlur(around, (0, 0), HIGH_PASS)[4:-4, 4:-4], np.float32)


def drawn(tile_YX: Array, height: int, width: int, chip: float) -> Array:
    """The tile repeated over a frame, each chip `chip` pixels wide, with cubic edges: [height, width]."""
    import cv2

    side = len(tile_YX)
    rows, columns = int(height / chip) + 3, int(width / chip) + 3  # a chip of margin on each side
    big = tile_YX[np.arange(-1, rows - 1)[:, None] % side, np.arange(-1, columns - 1) % side]
    move = np.array([[1 / chip, 0, 0.5 / chip + 0.5], [0, 1 / chip, 0.5 / chip + 0.5]], np.float32)
    return cv2.warpAffine(big, move, (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)


def whitened(picture_YX: Array, chip: float = CHIP, floor: float = FLOOR) -> Array:
    """What a reader correlates: the band of the chips, divided by its local variance; edges are clipped.

    For a picture in which a chip measures `chip` pixels or a little more. The division by the variance is the matched
    filter for a mark of even strength in uneven noise: most of what coders leave of the mark lies on flat ground, where
    little hides it (docs/LOG.md, 2026-11-28).
    """
    band, deviation = banded(picture_YX, chip, floor)
    band /= deviation
    np.clip(band, -2.5, 2.5, out=band)
    band /= deviation
    return band


def banded(picture_YX: Array, chip: float = CHIP, floor: float = FLOOR) -> tuple[Array, Array]:
    """The band of the chips in a picture, and its local deviation."""
    import cv2

    band: Array = cv2.GaussianBlur(picture_YX, (0, 0), 0.35 * chip)
    band -= cv2.GaussianBlur(picture_YX, (0, 0), 0.8 * chip)
    height, width = band.shape
    size = (max(1, width // 2), max(1, height // 2))
    power = cv2.GaussianBlur(cv2.resize(band * band, size, interpolation=cv2.INTER_AREA), (0, 0), chip)
    deviation: Array = cv2.resize(np.sqrt(power), (width, height), interpolation=cv2.INTER_LINEAR)
    deviation += floor
    return band, deviation


def folded(chips_YX: Array, side: int = TILE) -> Array:
    """The sum over all repetitions of the tile: [side, side] of chips [rows, columns], or of several planes of them."""
    tile = np.zeros((side, side, *chips_YX.shape[2:]), np.float32)
    for top in range(0, chips_YX.shape[0], side):
        for left in range(0, chips_YX.shape[1], side):
            part = chips_YX[top : top + side, left : left + side]
            tile[: part.shape[0], : part.shape[1]] += part
    return tile
