"""The carrier of the marks in pictures: what a key draws, how strongly a picture hides it, how a reader sees it.

A key stands for a tile of 64 x 64 chips. A quarter of them are sync chips, whose signs the key alone decides; the
others carry the bits of a code word, three chips a bit, each multiplied by a sign of the key. The tile repeats over the
frame, so that any crop holds what is needed, and stays the same through the clip, so that coders that copy what does
not change copy it too.

Everything is computed on a work picture in which a chip measures 3 pixels, whatever the frame's size:
`chip_size` says how many pixels that is in a frame. Smaller chips are seen less (VMAF) and are more in number; below
3 pixels they do not outlive a picture made half as large (docs/LOG.md, 2026-11-23). Signs and positions come from
SHAKE-256 of the key, so that they are the same on every machine and with every version of NumPy.

Covered: a carrier that is found by correlation. Not covered: secrecy of where the carrier is, once a marked flat
picture is published under a key; that is why private keys are for one recording each.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

TILE = 64  # chips on a side
NUM_CHIPS = TILE * TILE
NUM_SYNC = NUM_CHIPS // 4
CHIP = 3  # pixels of the work picture
SHORT_CHIPS = 180  # chips along the short side of a large frame: 3 pixels at 540, 6 at 1080
CODE_BITS = 1024


def chip_size(height: int, width: int) -> float:
    """The pixels that a chip measures in a frame that is marked: 3 or more, whatever the frame."""
    return max(float(CHIP), min(height, width) / SHORT_CHIPS)


def work_size(height: int, width: int, chip: float) -> tuple[int, int]:
    """(height, width) of the picture in which a chip of `chip` pixels measures `CHIP`."""
    return max(1, round(height * CHIP / chip)), max(1, round(width * CHIP / chip))


@dataclass(frozen=True, eq=False)
class Carrier:
    """A key's tile. `bit_C` is the code bit that each chip carries, -1 for sync; `sign_C` its sign."""

    sign_C: Array
    bit_C: NDArray[np.int64]

    def tile(self, word: Array, gain: Array | None = None) -> Array:
        """The tile [64, 64] of a code word of 0s and 1s, each bit as strong as its gain says."""
        level = 1 - 2 * np.asarray(word, np.float32)
        if gain is not None:
            level = level * gain
        values = np.append(level, 1.0)[self.bit_C]  # sync is entry -1
        return (self.sign_C * values).astype(np.float32).reshape(TILE, TILE)

    def sync_tile(self) -> Array:
        """The tile of the sync chips alone."""
        return (self.sign_C * (self.bit_C < 0)).astype(np.float32).reshape(TILE, TILE)

    def soft_bits(self, folded_YX: Array) -> Array:
        """The sum over each bit's chips, [..., 1024], positive for 0, of tiles [..., 64, 64]."""
        flat = folded_YX.reshape(*folded_YX.shape[:-2], NUM_CHIPS) * self.sign_C
        return np.asarray(flat[..., self._chips_by_bit].sum(-1), np.float32)

    @property
    def _chips_by_bit(self) -> NDArray[np.int64]:
        order = np.argsort(self.bit_C, kind="stable")
        return order[NUM_SYNC:].reshape(CODE_BITS, -1)


@lru_cache(maxsize=8)
def carrier(key: bytes) -> Carrier:
    """The carrier of a key: 16 bytes or more."""
    if len(key) < 16:
        raise ValueError(f"a carrier key has 16 bytes or more: got {len(key)}")
    stream = hashlib.shake_256(b"sorano carrier 1\0" + key).digest(9 * NUM_CHIPS)
    rank = np.frombuffer(stream[: 8 * NUM_CHIPS], "<u8")
    sign = np.where(np.frombuffer(stream[8 * NUM_CHIPS :], np.uint8) & 1, -1, 1).astype(np.float32)
    bit = np.empty(NUM_CHIPS, np.int64)
    order = np.argsort(rank, kind="stable")
    bit[order[:NUM_SYNC]] = -1
    bit[order[NUM_SYNC:]] = np.arange(NUM_CHIPS - NUM_SYNC) % CODE_BITS
    return Carrier(sign, bit)


def drawn(tile_YX: Array, height: int, width: int, chip: float) -> Array:
    """The tile repeated over a frame, each chip `chip` pixels wide, with cubic edges: [height, width]."""
    import cv2

    rows, columns = int(height / chip) + 3, int(width / chip) + 3  # a chip of margin on each side
    big = tile_YX[np.arange(-1, rows - 1)[:, None] % TILE, np.arange(-1, columns - 1) % TILE]
    move = np.array([[1 / chip, 0, 0.5 / chip + 0.5], [0, 1 / chip, 0.5 / chip + 0.5]], np.float32)
    return cv2.warpAffine(big, move, (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)


def hiding(luma_YX: Array) -> Array:
    """How much a work picture hides at each place, in levels of 255 that are just not seen.

    Luminance adaptation (Chou and Li, IEEE CSVT 1995) plus the texture around: the local deviation, taken where it is
    smaller in the neighbourhood, so that flat ground beside an edge counts as flat. The weight of texture is small:
    coders keep as little of the mark in texture as on flat ground, and VMAF counts it more (docs/LOG.md, 2026-11-23).
    """
    import cv2

    small = cv2.resize(luma_YX, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    mean = cv2.blur(small, (5, 5))
    spread: Array = np.sqrt(np.maximum(cv2.blur(small * small, (5, 5)) - mean * mean, 0))
    spread = np.minimum(spread, cv2.blur(cv2.erode(spread, np.ones((5, 5), np.uint8)), (5, 5)) * 2)
    dark = 17 * (1 - np.sqrt(np.minimum(mean, 127) / 127)) + 3
    seen: Array = np.where(mean <= 127, dark, 3 + 3 / 128 * (mean - 127))
    level = 1.0 + 0.03 * np.minimum(spread, 25.0) + 0.05 * seen
    smooth = cv2.GaussianBlur(level.astype(np.float32), (0, 0), 1.5)
    return cv2.resize(smooth, (luma_YX.shape[1], luma_YX.shape[0]), interpolation=cv2.INTER_LINEAR)


def whitened(luma_YX: Array) -> Array:
    """What a reader correlates: the band of the chips, divided by its local deviation, clipped to +-2.5.

    For a work picture, in which a chip measures 3 pixels or a little more. The division makes textured and flat ground
    count alike, the clip makes edges harmless.
    """
    band, deviation = banded(luma_YX)
    return np.clip(band / deviation, -2.5, 2.5)


def banded(luma_YX: Array) -> tuple[Array, Array]:
    """The band of the chips in a work picture, and its local deviation."""
    import cv2

    band = cv2.GaussianBlur(luma_YX, (0, 0), 0.35 * CHIP) - cv2.GaussianBlur(luma_YX, (0, 0), 1.6 * CHIP)
    height, width = band.shape
    size = (max(1, width // 4), max(1, height // 4))
    power = cv2.GaussianBlur(cv2.resize(band * band, size, interpolation=cv2.INTER_AREA), (0, 0), CHIP)
    return band, np.sqrt(cv2.resize(power, (width, height), interpolation=cv2.INTER_LINEAR)) + 0.7


def folded(chips_YX: Array) -> Array:
    """The sum over all repetitions of the tile: [64, 64] of chips [rows, columns]."""
    tile = np.zeros((TILE, TILE), np.float32)
    for top in range(0, chips_YX.shape[0], TILE):
        for left in range(0, chips_YX.shape[1], TILE):
            part = chips_YX[top : top + TILE, left : left + TILE]
            tile[: part.shape[0], : part.shape[1]] += part
    return tile
