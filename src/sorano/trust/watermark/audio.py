"""The inaudible mark in sound: 16 bits, put in and read back after speech and music coders.

A key draws, for each half second, a pattern of signs over 32 time steps and 98 bands from 375 to 3,440 Hz; each cell of
the spectrum is raised or lowered by 1.5 dB accordingly. A quarter of the cells are sync; the others carry a polar code
word of 512 bits, of 16 bits of payload and a CRC of 24. The pattern repeats, so that all of a recording is read as one.
Steps last 16 ms and bands are 31.25 Hz wide at every sampling rate.

Covered: coders at low rates, 8 kHz telephony, cuts, loudness; from about 3 seconds of sound on. Read by CRC only.
Not covered: changed speed or pitch, sound without speech or music in that band (silence carries nothing), noise as loud
as the sound, recordings of a loudspeaker, and whoever has the key: it reads, removes and forges.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sorano.errors import RequestError
from sorano.trust.watermark.payload import PUBLIC_KEY
from sorano.trust.watermark.polar import LIST_SIZE, PolarCode, to_bits, to_int

Array = NDArray[Any]

STEP_SECONDS = 0.016  # half a window
PERIOD = 32  # steps
BANDS = slice(12, 110)  # of 31.25 Hz
NUM_BANDS = 98
NUM_CELLS = PERIOD * NUM_BANDS
NUM_SYNC = NUM_CELLS // 4
CODE = PolarCode(size=512, message_bits=16, crc_bits=24)
GAIN_DB = 1.5
BLOCK = 512  # steps that are worked on at once: 8 seconds
OFFSETS = 4  # of a step that are tried
TRIED = 4  # alignments that are decoded


@dataclass(frozen=True)
class AudioDetection:
    """A mark that was read in sound."""

    payload: int  # 16 bits
    confidence: float  # deviations of chance by which the sync cells stand out
    false_accept_rate: float  # how often, at most, a look at unmarked sound would find some mark


@lru_cache(maxsize=8)
def _cells(key: bytes) -> tuple[Array, Array]:
    """The sign of each cell, [32, 98], and its code bit, -1 for sync."""
    if len(key) < 16:
        raise ValueError(f"a carrier key has 16 bytes or more: got {len(key)}")
    stream = hashlib.shake_256(b"sorano audio 1\0" + key).digest(9 * NUM_CELLS)
    order = np.argsort(np.frombuffer(stream[: 8 * NUM_CELLS], "<u8"), kind="stable")
    sign = np.where(np.frombuffer(stream[8 * NUM_CELLS :], np.uint8) & 1, -1.0, 1.0)
    bit = np.empty(NUM_CELLS, np.int64)
    bit[order[:NUM_SYNC]] = -1
    bit[order[NUM_SYNC:]] = np.arange(NUM_CELLS - NUM_SYNC) % CODE.size
    return sign.reshape(PERIOD, NUM_BANDS), bit.reshape(PERIOD, NUM_BANDS)


def _window(rate: float) -> Array:
    """The root of a Hann window of two steps: its square adds up to 1."""
    size = 2 * round(STEP_SECONDS * rate)
    return np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size))


def _checked(samples: Array, rate: float) -> Array:
    """Samples [N, channels] as float64; raises RequestError where they cannot be marked."""
    if rate < 7_000:
        raise RequestError(f"sound is marked from 7,000 samples a second on: got {rate:g}")
    if samples.ndim not in (1, 2) or samples.size == 0:
        raise RequestError(f"samples must be [N] or [N, channels]: got {samples.shape}")
    wide = samples.astype(np.float64)
    return wide[:, None] if wide.ndim == 1 else wide


def mark_audio(
    samples: Array, rate: float, payload16: int, key: bytes = PUBLIC_KEY, *, gain_db: float = GAIN_DB
) -> Array:
    """A marked copy of samples [N] or [N, channels], floats in -1..1 or 16-bit integers, of the same kind."""
    if not 0 <= payload16 < 1 << 16:
        raise RequestError(f"the payload of sound has 16 bits: got {payload16}")
    wide = _checked(samples, rate)
    sign, bit = _cells(key)
    level = np.append(1 - 2.0 * CODE.encode(to_bits(payload16, 16)), 1.0)[bit] * sign
    gain = 10 ** (level * gain_db / 20)
    window = _window(rate)
    size = len(window)
    padded = np.pad(wide, ((size, 2 * size), (0, 0)))
    marked = np.zeros_like(padded)
    steps = int((len(padded) - size) / (STEP_SECONDS * rate)) + 1
    for first in range(0, steps, BLOCK):
        index = np.arange(first, min(first + BLOCK, steps))
        starts = np.round(index * STEP_SECONDS * rate).astype(np.int64)
        starts = starts[starts + size <= len(padded)]
        spots = starts[:, None] + np.arange(size)
        spectrum = np.fft.rfft(padded[spots] * window[:, None], axis=1)  # [steps, bands, channels]
        spectrum[:, BANDS] *= gain[index[: len(starts)] % PERIOD][..., None]
        np.add.at(marked, spots, np.fft.irfft(spectrum, size, axis=1) * window[:, None])
    result = marked[size : size + len(wide)].reshape(samples.shape)
    if np.issubdtype(samples.dtype, np.integer):
        limits = np.iinfo(samples.dtype)
        result = np.clip(np.rint(result), limits.min, limits.max)
    return result.astype(samples.dtype)


def detect_audio(samples: Array, rate: float, key: bytes = PUBLIC_KEY) -> AudioDetection | None:
    """Reads the mark of samples [N] or [N, channels]; None where there is none."""
    mono = _checked(samples, rate).mean(1)
    sign, bit = _cells(key)
    sync = sign * (bit < 0)
    found = []
    for offset in range(OFFSETS):
        start = round(offset * STEP_SECONDS * rate / OFFSETS)
        period = _folded(mono[start:], rate)
        if period is None:
            continue
        spread = float(np.sqrt((period * period).mean() * NUM_SYNC)) + 1e-12
        spectrum = np.fft.fft(period, axis=0) * np.conj(np.fft.fft(sync, axis=0))
        scores = np.fft.ifft(spectrum.sum(1)).real / spread
        found += [(float(score), np.roll(period, -shift, 0)) for shift, score in enumerate(scores)]
    if not found:
        return None
    found.sort(key=lambda item: -item[0])
    order = np.argsort(bit.ravel(), kind="stable")[NUM_SYNC:]
    soft = np.zeros((min(TRIED, len(found)), CODE.size), np.float32)
    for row, (_, period) in zip(soft, found, strict=False):
        np.add.at(row, bit.ravel()[order], (period * sign).ravel()[order])
    for message, (score, _) in zip(CODE.decode(soft), found, strict=False):
        if message is not None:
            return AudioDetection(to_int(message), score, CODE.false_accept_rate(TRIED, LIST_SIZE))
    return None


def _folded(mono: Array, rate: float) -> Array | None:
    """How much each cell of the period stands out from its neighbours, summed over the recording: [32, 98]."""
    window = _window(rate)
    size = len(window)
    steps = int((len(mono) - size) / (STEP_SECONDS * rate)) + 1
    if steps < PERIOD:
        return None
    total = np.zeros((PERIOD, NUM_BANDS))
    for first in range(0, steps, BLOCK):
        index = np.arange(max(0, first - 1), min(first + BLOCK + 1, steps))  # a step of margin
        starts = np.round(index * STEP_SECONDS * rate).astype(np.int64)
        starts = starts[starts + size <= len(mono)]
        spectrum = np.fft.rfft(mono[starts[:, None] + np.arange(size)] * window, axis=1)
        level = np.log(np.abs(spectrum[:, BANDS.start - 2 : BANDS.stop + 2]) + 1e-6 * max(1.0, np.abs(mono).max()))
        around = (level[:, :-4] + level[:, 1:-3] + level[:, 3:-1] + level[:, 4:]) / 4
        contrast = level[:, 2:-2] - around
        if len(contrast) < 3:
            continue
        contrast = np.clip(contrast[1:-1] - (contrast[:-2] + contrast[2:]) / 2, -2, 2)
        np.add.at(total, index[1 : 1 + len(contrast)] % PERIOD, contrast)
    return total
