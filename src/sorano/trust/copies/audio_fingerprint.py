"""A fingerprint of audio: log energies of 16 bands, 20 times a second, and how alike two of them are over time.

Bands lie evenly on a logarithmic scale between 150 and 7,000 Hz, as in Haitsma and Kalker (ISMIR 2002), with energies
in place of their bits: so that replaced speech can be told from coded speech, second by second. A constant gain of each
band (volume, equaliser) does not count; noise floors and silence do not either.

Not covered: a changed pitch or speed counts as different audio; single words quieter than what else is heard.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sorano.errors import TrustError

Array = NDArray[Any]

RATE = 16_000  # samples a second
HOP = 800  # samples: 20 frames a second
WINDOW = 1600  # samples
BANDS = 16
LOWEST, HIGHEST = 150.0, 7000.0  # Hz
STEP_DB = 1.5  # a quantisation step
FLOOR_DB = -75.0  # of full scale: silence
MOST_FRAMES = 1 << 18  # 3.6 hours; then pairs are averaged

FAR_SECONDS = 0.15  # coders shift audio by some of their frames: the search around the picture's own alignment
PARTS = {0.5: 0.55, 1.0: 0.66}  # seconds judged together, and the correlation of the same audio (docs/LOG.md)
HEARD_DB = -60.0  # audio below is silence
LEVEL_DB, MOST_DB = 2.5, 10.0  # root mean square difference: up to the first the same, above the second never


@dataclass(frozen=True)
class SoundPrint:
    """Band energies in dB of full scale, [T, 16]; T = 0 where there was no audio. `seconds` between two rows."""

    energies_TB: NDArray[np.float32]
    seconds: float = HOP / RATE

    @property
    def silent(self) -> bool:
        """Whether nothing is heard."""
        return len(self.energies_TB) == 0 or float(self.energies_TB.max()) < HEARD_DB

    def to_bytes(self, most: int) -> bytes:
        """What is signed: at most `most` bytes, with rows averaged until they fit."""
        energies, seconds = self.energies_TB, self.seconds
        while True:
            steps = np.clip(np.rint((energies - FLOOR_DB) / STEP_DB), 0, 255).astype(np.uint8)
            rows = zlib.compress(np.diff(steps, axis=0, prepend=np.zeros((1, BANDS), np.uint8)).tobytes(), 9)
            if len(rows) <= most - 16:
                return struct.pack(">If", len(steps), seconds) + rows
            energies, seconds = _halved(energies), 2 * seconds

    @classmethod
    def from_bytes(cls, data: bytes) -> SoundPrint:
        """The reverse. Raises TrustError, ValueError, struct.error or zlib.error for anything else."""
        count, seconds = struct.unpack(">If", data[:8])
        if count > MOST_FRAMES or not 0 < seconds < 1000:
            raise TrustError("a fingerprint of audio says impossible numbers")
        raw = zlib.decompressobj().decompress(data[8:], count * BANDS + 1)
        if len(raw) != count * BANDS:
            raise TrustError("a fingerprint of audio is cut off")
        steps = np.cumsum(np.frombuffer(raw, np.uint8).reshape(count, BANDS), axis=0, dtype=np.uint8)
        return cls((steps * STEP_DB + FLOOR_DB).astype(np.float32), float(seconds))


class SoundPrintBuilder:
    """Takes the fingerprint of mono audio at 16,000 samples a second, in constant memory."""

    def __init__(self) -> None:
        self.rest = np.zeros(0, np.float32)
        self.rows: list[Array] = []
        self.seconds = HOP / RATE
        self.pending: Array | None = None  # a row that waits for its pair
        self.count = 0
        frequencies = np.fft.rfftfreq(WINDOW, 1 / RATE)
        edges = np.geomspace(LOWEST, HIGHEST, BANDS + 1)
        self.bands = np.stack(
            [((frequencies >= low) & (frequencies < high)) for low, high in zip(edges, edges[1:], strict=False)], 1
        ).astype(np.float32)
        self.window = np.hanning(WINDOW).astype(np.float32)

    def add(self, samples: Array) -> None:
        """The next samples, floats in -1..1."""
        held = np.concatenate([self.rest, np.nan_to_num(np.asarray(samples, np.float32))])
        count = max(0, (len(held) - WINDOW) // HOP + 1)
        self.rest = held[count * HOP :]
        for first in range(0, count, 512):
            starts = np.arange(first, min(count, first + 512)) * HOP
            spectrum = np.fft.rfft(held[starts[:, None] + np.arange(WINDOW)] * self.window, axis=1)
            power = (np.abs(spectrum) ** 2).astype(np.float32) @ self.bands / (0.375 * WINDOW) ** 2 * 2
            self._put(10 * np.log10(power + 10 ** (FLOOR_DB / 10)))
        self.count += count

    def _put(self, rows: Array) -> None:
        self.rows.append(rows.astype(np.float32))
        if sum(map(len, self.rows)) > MOST_FRAMES and self.seconds == HOP / RATE:
            raise TrustError("audio of more than 3.6 hours has no fingerprint", "cut the file into parts")

    def print(self) -> SoundPrint:
        """The fingerprint so far."""
        if self.rows:
            return SoundPrint(np.concatenate(self.rows), self.seconds)
        return SoundPrint(np.zeros((0, BANDS), np.float32), self.seconds)


def _halved(rows: Array) -> Array:
    even = rows[: len(rows) // 2 * 2]
    return np.asarray((even[::2] + even[1::2]) / 2) if len(even) else rows


@dataclass(frozen=True)
class Difference:
    """What of a copy's audio is missing, added or different, and when; `harmless` where it is only missing."""

    words: str
    start_s: float
    end_s: float
    harmless: bool = False


def differences(stored: SoundPrint | None, seen: SoundPrint | None, offset: float, length: float) -> list[Difference]:
    """Compares a copy's audio with what was signed; `offset` is where the copy begins in the original."""
    if stored is None or seen is None:
        return [Difference("its sound cannot be compared: nothing was signed about sound", 0.0, length, True)]
    if stored.silent and seen.silent:
        return []
    if stored.silent:
        return [Difference("sound was added: what was signed has none", 0.0, length)]
    rows = round(length / stored.seconds)
    a = _slice(stored.energies_TB, round(offset / stored.seconds), rows)
    if seen.silent:
        return [] if a.max() < HEARD_DB else [Difference("its sound is missing", 0.0, length, True)]
    b = _at_rate(seen, stored.seconds)
    far = max(1, round(FAR_SECONDS / stored.seconds))
    likest = max(range(-far, far + 1), key=lambda lag: _likeness(a, _slice(b, lag, rows)))
    return list(_apart(a, _slice(b, likest, rows), stored.seconds, length))


def _slice(rows_TB: Array, first: int, count: int) -> Array:
    """Rows from a place on, silence where there are none."""
    out = np.full((max(1, count), BANDS), FLOOR_DB, np.float32)
    low, high = max(0, first), min(len(rows_TB), first + count)
    if high > low:
        out[low - first : high - first] = rows_TB[low:high]
    return out


def _at_rate(seen: SoundPrint, seconds: float) -> Array:
    rows, rate = seen.energies_TB, seen.seconds
    while rate < 0.75 * seconds:
        rows, rate = _halved(rows), 2 * rate
    return rows


def _likeness(a: Array, b: Array) -> float:
    """The correlation of two stretches of band energies, each band about its own mean."""
    a0, b0 = a - a.mean(0), b - b.mean(0)
    return float((a0 * b0).sum() / np.sqrt((a0 * a0).sum() * (b0 * b0).sum() + 1e-9))


def _apart(a: Array, b: Array, seconds: float, length: float) -> list[Difference]:
    """The parts in which two stretches differ, those that follow one another as one."""
    gain = np.median((b - a)[(a > HEARD_DB) & (b > HEARD_DB)]) if ((a > HEARD_DB) & (b > HEARD_DB)).any() else 0.0
    a, b = np.maximum(a, HEARD_DB), np.maximum(b - gain, HEARD_DB)
    bands = np.median(b - a, axis=0)
    b = np.maximum(b - np.where((a.max(0) > HEARD_DB) & (b.max(0) > HEARD_DB), bands, 0), HEARD_DB)
    bad = np.zeros(len(a), bool)
    for part_seconds, same in PARTS.items():
        size = max(4, round(part_seconds / seconds))
        for first in range(0, max(1, len(a) - size // 2), max(1, size // 2)):
            part = slice(first, first + size)
            if not _alike(a[part], b[part], same):
                bad[part] = True
    if bad.mean() > 0.8:
        return [Difference("its sound is another", 0.0, length)]
    out = []
    edges = np.flatnonzero(np.diff(np.concatenate([[0], bad.astype(int), [0]])))
    for low, high in zip(edges[::2], edges[1::2], strict=True):
        start, end = low * seconds, min(length, high * seconds)
        out.append(Difference(f"its sound differs between {start:.1f} and {end:.1f} s", float(start), float(end)))
    return out


def _alike(a: Array, b: Array, same: float) -> bool:
    """Whether two parts sound the same: by their levels, else by how each band rises and falls."""
    error = float(np.sqrt(((a - b) ** 2).mean()))
    if not LEVEL_DB < error < MOST_DB:
        return error <= LEVEL_DB
    a0, b0 = a - a.mean(0), b - b.mean(0)
    return float((a0 * b0).sum()) >= same * float(np.sqrt((a0 * a0).sum() * (b0 * b0).sum()) + 1e-6)
