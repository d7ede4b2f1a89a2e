"""The inaudible mark in sound: 16 bits, put in and read back after speech and music coders.

A key draws, for each half second, a pattern of signs over 32 time steps and 98 bands from 375 to 3,440 Hz; each cell of
the spectrum is raised or lowered by 1.5 dB accordingly. A quarter of the cells are sync; the others carry a polar code
word of 512 bits, of 16 bits of payload and a CRC of 24. The pattern repeats, so that all of a recording is read as one.
Steps last 16 ms and bands are 31.25 Hz wide at every sampling rate.

Covered: coders at low rates from about ten seconds of speech on (docs/trust.md), 8 kHz telephony from three, cuts,
loudness. Read by CRC only.
Not covered: changed speed or pitch, sound without speech or music in that band (silence carries nothing), noise as loud
as the sound, recordings of a loudspeaker, and whoever has the key: it reads, removes and forges.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
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
LEAST_RATE = 7_000  # samples a second: the bands end at 3,440 Hz
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


def step_window(rate: float) -> Array:
    """The root of a Hann window of two steps: its square adds up to 1."""
    size = 2 * round(STEP_SECONDS * rate)
    return np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size))


def contrasts(magnitude: Array) -> Array:
    """How much each band stands out from the two on either side, in logarithms: [steps, bands] of spectra."""
    level = np.log(magnitude[:, BANDS.start - 2 : BANDS.stop + 2] + 1e-6)
    return np.asarray(level[:, 2:-2] - (level[:, :-4] + level[:, 1:-3] + level[:, 3:-1] + level[:, 4:]) / 4)


def _check_rate(rate: float) -> None:
    if rate < LEAST_RATE:
        raise RequestError(
            f"sound is marked from {LEAST_RATE:,} samples a second on: got {rate:g}", "resample it to 16,000 or more"
        )


def _checked(samples: Array, rate: float) -> Array:
    """Samples [N, channels] as float64; raises RequestError where they cannot be marked."""
    _check_rate(rate)
    if samples.ndim not in (1, 2) or samples.size == 0:
        raise RequestError(f"samples must be [N] or [N, channels]: got {samples.shape}")
    wide = samples.astype(np.float64)
    return wide[:, None] if wide.ndim == 1 else wide


class CellMarker:
    """Changes the cells of sound's spectrum piece by piece, in constant memory.

    Call it with samples [N, channels] (floats, -1..1) in order; it returns the marked samples that are finished, two
    windows (64 ms) late at most, and `finish` returns the rest. Where the pieces end makes no difference. The first
    two steps begin before the sound.
    """

    def __init__(self, rate: float, channels: int) -> None:
        _check_rate(rate)
        self._rate, self._window = rate, step_window(rate)
        # A window of silence before the sound: its first samples lie under two steps, as all others do.
        self._given = np.zeros((len(self._window), channels))
        self._made = np.zeros_like(self._given)
        self._start = 0  # of what is held, in samples from the beginning of that silence
        self._step = 0  # the next one
        self._length = 0  # samples that were given

    def gains(self, steps: Array) -> Array:
        """The factors of the cells of some steps, [steps, bands]."""
        raise NotImplementedError

    def __call__(self, samples_NC: Array) -> Array:
        """The next samples; returns those that are finished."""
        self._length += len(samples_NC)
        self._take(samples_NC)
        return self._finished(self._place(self._step))

    def finish(self) -> Array:
        """The samples that are left."""
        self._take(np.zeros((2 * len(self._window), self._given.shape[1])))
        return self._finished(len(self._window) + self._length)

    def _place(self, step: int | Array) -> Any:
        """Where a step's window begins, in samples."""
        return np.round(np.asarray(step) * STEP_SECONDS * self._rate).astype(np.int64)

    def _take(self, samples_NC: Array) -> None:
        self._given = np.concatenate([self._given, samples_NC.astype(np.float64)])
        self._made = np.concatenate([self._made, np.zeros(samples_NC.shape)])
        size, end = len(self._window), self._start + len(self._given)
        while self._place(self._step) + size <= end:
            steps = self._step + np.arange(BLOCK)
            places = self._place(steps)
            steps = steps[places + size <= end]
            spots = places[: len(steps), None] - self._start + np.arange(size)
            spectrum = np.fft.rfft(self._given[spots] * self._window[:, None], axis=1)  # [steps, bands, channels]
            spectrum[:, BANDS] *= self.gains(steps)[..., None]
            np.add.at(self._made, spots, np.fft.irfft(spectrum, size, axis=1) * self._window[:, None])
            self._step += len(steps)

    def _finished(self, end: int) -> Array:
        """What lies before a place, without the silence; it is forgotten."""
        count = max(0, int(end) - self._start)
        done = self._made[max(0, len(self._window) - self._start) : count]
        self._given, self._made = self._given[count:], self._made[count:]
        self._start += count
        return done


class AudioMarker(CellMarker):
    """Marks sound with 16 bits under a key, piece by piece."""

    def __init__(
        self, payload16: int, rate: float, channels: int, key: bytes = PUBLIC_KEY, *, gain_db: float = GAIN_DB
    ) -> None:
        if not 0 <= payload16 < 1 << 16:
            raise RequestError(f"the payload of sound has 16 bits: got {payload16}", "choose one from 0 to 65535")
        super().__init__(rate, channels)
        sign, bit = _cells(key)
        level = np.append(1 - 2.0 * CODE.encode(to_bits(payload16, 16)), 1.0)[bit] * sign
        self._gain = 10 ** (level * gain_db / 20)  # [PERIOD, NUM_BANDS]

    def gains(self, steps: Array) -> Array:
        """The factors of the cells of some steps, [steps, bands]: they repeat."""
        return np.asarray(self._gain[steps % PERIOD])


def mark_audio(
    samples: Array, rate: float, payload16: int, key: bytes = PUBLIC_KEY, *, gain_db: float = GAIN_DB
) -> Array:
    """A marked copy of samples [N] or [N, channels], floats in -1..1 or 16-bit integers, of the same kind."""
    wide = _checked(samples, rate)
    marker = AudioMarker(payload16, rate, wide.shape[1], key, gain_db=gain_db)
    result = np.concatenate([marker(wide), marker.finish()]).reshape(samples.shape)
    if np.issubdtype(samples.dtype, np.integer):
        limits = np.iinfo(samples.dtype)
        result = np.clip(np.rint(result), limits.min, limits.max)
    return result.astype(samples.dtype)


class AudioDetector:
    """Reads the mark of sound that comes piece by piece (`add`), in constant memory; `detect` reads what was heard."""

    def __init__(self, rate: float) -> None:
        _check_rate(rate)
        self._folds = [_Fold(rate, round(offset * STEP_SECONDS * rate / OFFSETS)) for offset in range(OFFSETS)]

    def add(self, mono_N: Array) -> None:
        """The next samples, floats in -1..1."""
        for fold in self._folds:
            fold.add(mono_N)

    def passing(self, pieces: Iterable[Array]) -> Iterator[Array]:
        """The same pieces, each heard on its way."""
        for piece in pieces:
            self.add(piece)
            yield piece

    def detect(self, key: bytes = PUBLIC_KEY) -> AudioDetection | None:
        """The mark under a key; None where there is none."""
        sign, bit = _cells(key)
        sync = sign * (bit < 0)
        found = []
        for fold in self._folds:
            period = fold.total()
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


def detect_audio(samples: Array, rate: float, key: bytes = PUBLIC_KEY) -> AudioDetection | None:
    """Reads the mark of samples [N] or [N, channels]; None where there is none."""
    detector = AudioDetector(rate)
    detector.add(_checked(samples, rate).mean(1))
    return detector.detect(key)


class _Fold:
    """How much each cell of the period stands out from its neighbours, summed over the recording: [32, 98].

    `offset` samples are left out at the beginning. A cell's neighbours in time are a step before and after.
    """

    def __init__(self, rate: float, offset: int) -> None:
        self.rate, self.skip, self.window = rate, offset, step_window(rate)
        self.sum = np.zeros((PERIOD, NUM_BANDS))
        self.held = np.zeros(0)
        self.start = 0  # of what is held, in samples behind the offset
        self.step = 0  # the next one that is transformed
        self.last = np.zeros((0, NUM_BANDS))  # contrasts of the last two steps

    def add(self, mono_N: Array) -> None:
        """The next samples."""
        left_out = min(self.skip, len(mono_N))
        self.skip -= left_out
        self.held = np.concatenate([self.held, mono_N[left_out:]])
        size, end = len(self.window), self.start + len(self.held)
        while True:
            steps = self.step + np.arange(BLOCK)
            places = np.round(steps * STEP_SECONDS * self.rate).astype(np.int64)
            steps = steps[places + size <= end]
            if not len(steps):
                break
            heard = np.lib.stride_tricks.sliding_window_view(self.held, size)[places[: len(steps)] - self.start]
            self._count(np.fft.rfft(heard * self.window, axis=1))
            self.step += len(steps)
        done = round(self.step * STEP_SECONDS * self.rate) - self.start
        self.held, self.start = self.held[max(0, done) :], self.start + max(0, done)

    def _count(self, spectrum: Array) -> None:
        """Spectra [steps, bands] that begin at `self.step`."""
        contrast = np.concatenate([self.last, contrasts(np.abs(spectrum))])
        middle = self.step - len(self.last) + 1  # the first that has a step before it
        self.last = contrast[-2:]
        if len(contrast) >= 3:
            beside = np.clip(contrast[1:-1] - (contrast[:-2] + contrast[2:]) / 2, -2, 2)
            np.add.at(self.sum, (middle + np.arange(len(beside))) % PERIOD, beside)

    def total(self) -> Array | None:
        """The sum; None where less than a period was heard."""
        return self.sum if self.step >= PERIOD else None
