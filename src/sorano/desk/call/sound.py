"""The mark of a call's sound: another pattern every second, read with its key from four seconds of speech on.

The cells are those of the mark of files (`sorano.trust.watermark.audio`): steps of 16 ms, 98 bands up to 3,440 Hz,
raised or lowered by 1.5 dB. What is drawn from a slot's key is the sign of each cell; there is no message to decode, so
a third of the sound is enough. The key of sound follows from the slot's key and is disclosed with it.

    judge = SoundJudge(began)                  # the wall clock at which the participant's slot 0 began
    judge.add(mono, place, at)                 # samples, their place on the sender's clock, when they came (seconds)
    judge.disclose(slot_key)                   # once the key of a slot is known
    judge.state                                # SoundState

Only steps in which something is heard count: they are louder than `QUIET_DB` and than the noise of the room. Seconds of
them are added up until there are `SPEECH_SECONDS`, and their agreement with the patterns is taken at the best common
delay. A reading is bad where that is at chance, also with the best delay for each second alone, and the sound came as
evenly and as late as when the mark was last read: a machine that stands still moves the sound on its clock. `LOST` bad
readings in a row turn the tile red; `FOUND` good ones end that. Silence and even noise say nothing; `FRESH_SLOTS`
seconds without a good reading end a confirmation.

Covered: sound that was replaced, or resynthesized, between marker and coder. Not covered: what was marked (a
loudspeaker before the microphone); words that are cut, doubled or moved by less than is measured here; a quiet second
voice under a marked one; sound that is marked by whoever lifts the mark off within its second.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sorano.desk.call.keys import SlotKey
from sorano.trust.watermark.audio import BANDS, GAIN_DB, NUM_BANDS, STEP_SECONDS, CellMarker, contrasts, step_window

Array = NDArray[Any]

RATE = 48_000  # samples a second, of Opus
HOP = round(STEP_SECONDS * RATE)  # samples of a step; a window has two
SLOT_STEPS = 63  # of the longest slot: a second has 62.5 steps
PARTS = 4  # of a step, by which delays are tried
EARLIEST, LATEST = -0.1, 0.9  # seconds by which sound may come late
OFF = 0.5  # seconds by which a sender's clock may leave ours before it is compared anew
UNEVEN = 0.15  # seconds by which the lateness of a slot's pieces may differ, and that from when it was last read
QUIET_DB, ABOVE_NOISE_DB = -60.0, 12.0  # of full scale; above the tenth part of the last seconds that is quietest
SPEECH_SECONDS, OLDEST = 4.0, 30  # that are added up, of the last slots
PRESENT, ABSENT = 5.5, 4.5  # deviations of chance
ABSENT_ALONE = 3.2  # the mean of a second with a delay of its own: 2.7 by chance
LOST, FOUND = 3, 2  # readings in a row
FRESH_SLOTS = 10
HELD_SLOTS = 256
KEPT_SECONDS = 8  # of samples


class SoundState(enum.StrEnum):
    """What is said of a tile's sound."""

    NONE = "none"  # nothing was heard yet
    WAITING = "waiting"  # too little was heard lately to say
    CONFIRMED = "confirmed"
    NOT_CONFIRMED = "not_confirmed"


def slot_of(step: int) -> int:
    """The slot in which a step begins; steps are counted from the session's beginning."""
    return step * 2 // 125


def first_step(slot: int) -> int:
    """The first step that begins in a slot."""
    return (slot * 125 + 1) // 2


@lru_cache(maxsize=HELD_SLOTS)
def slot_cells(key: SlotKey) -> bytes:
    """The signs of a slot's cells, as pages get them: 63 x 98 bits, step by step; a set bit raises its cell."""
    drawn = hashlib.shake_256(b"sorano call sound 1\0" + hmac.digest(key.key, b"sound", "sha256"))
    return drawn.digest(-(-SLOT_STEPS * NUM_BANDS // 8))


def received_cells(sent: bytes) -> Array:
    """The signs [63, 98], +1 and -1, of what was sent."""
    bits = np.unpackbits(np.frombuffer(sent, np.uint8), count=SLOT_STEPS * NUM_BANDS)
    return bits.reshape(SLOT_STEPS, NUM_BANDS) * 2.0 - 1


class SoundMarker(CellMarker):
    """Marks one participant's sound, mono at 48 kHz, [N, 1]. The twin of the page's call-sound.js.

    The bands of a slot whose cells are not known are muted: without a mark they would look like somebody else's.
    """

    def __init__(self, cells_of: Callable[[int], Array | None], seconds: float = 0.0) -> None:
        """`cells_of` gives the signs of a slot; `seconds` of the session at which the sound begins."""
        super().__init__(RATE, 1)
        self.cells_of = cells_of
        self.base = round(seconds / STEP_SECONDS) - 2  # of the step 0, which begins a window before the sound

    def gains(self, steps: Array) -> Array:
        """The factors of the cells of some steps, [steps, bands]."""
        made = np.zeros((len(steps), NUM_BANDS))
        for row, step in enumerate(int(one) + self.base for one in steps):
            cells = self.cells_of(slot_of(step)) if step >= 0 else None
            if cells is not None:
                made[row] = 10 ** (cells[step - first_step(slot_of(step))] * GAIN_DB / 20)
        return made


@dataclass
class _Heard:
    """What a slot showed: agreement and energy at each delay, and the seconds in which something was heard."""

    agree: Array
    energy: Array
    seconds: float
    early: float  # how late the pieces came: at least, at most
    late: float

    def is_steady(self, reference: float | None) -> bool:
        """Whether the pieces came evenly, and as late as at another time."""
        middle = (self.early + self.late) / 2
        return self.late - self.early <= UNEVEN and (reference is None or abs(middle - reference) <= UNEVEN)


@dataclass
class SoundJudge:
    """The judge of one tile's sound. Memory is bounded: some seconds of samples."""

    began: float
    state: SoundState = SoundState.NONE
    score: float | None = None  # of the last reading
    is_red: bool = False
    _pieces: deque[tuple[int, float, Array]] = field(default_factory=deque)  # samples since `began`; how late
    _offset: float | None = None  # of our clock from the sender's
    _levels: deque[Array] = field(default_factory=lambda: deque(maxlen=10))
    _slots: deque[_Heard] = field(default_factory=lambda: deque(maxlen=OLDEST))
    _bad: int = 0
    _good: int = 0
    _unread: int = 0  # slots since a good reading
    _reference: float | None = None  # how late the sound was then

    def add(self, mono_N: Array, place: float, at: float) -> None:
        """Samples at 48 kHz, floats in -1..1; their place on the sender's clock, and when they came, in seconds."""
        if self._offset is None or abs(at - place - self._offset) > OFF:
            self._offset = at - place
            self._pieces.clear()
            self._slots.clear()
        start = round((place + self._offset - self.began) * RATE)
        self._pieces.append((start, at - place, mono_N))
        while self._pieces[0][0] < start - KEPT_SECONDS * RATE:
            self._pieces.popleft()

    def recent(self) -> Array:
        """The last seconds of samples, as they came."""
        return np.concatenate([piece for _, _, piece in self._pieces] or [np.zeros(0, np.float32)])

    def disclose(self, key: SlotKey) -> None:
        """Judge what was heard when the key of a slot is known; what comes later does not count."""
        self._unread += 1
        heard = self._read(key)
        if heard is not None:
            self._slots.append(heard)
            self._judge()
        if not self.is_red and self.state is not SoundState.NONE and self._unread > FRESH_SLOTS:
            self.state = SoundState.WAITING
        if self._unread > OLDEST:
            self._reference = None

    def _judge(self) -> None:
        chosen, seconds = [], 0.0
        for one in reversed(self._slots):
            chosen.append(one)
            seconds += one.seconds
            if seconds >= SPEECH_SECONDS:
                break
        if self.state is SoundState.NONE:
            self.state = SoundState.WAITING
        if seconds < SPEECH_SECONDS:
            return
        agree, energy = (np.array([getattr(one, name) for one in chosen]) for name in ("agree", "energy"))
        self.score = float((agree.sum(0) / np.sqrt(energy.sum(0) + 1e-9)).max())
        alone = np.average((agree / np.sqrt(energy + 1e-9)).max(1), weights=np.sqrt(energy.mean(1) + 1e-9))
        is_bad = self.score < ABSENT and alone < ABSENT_ALONE and all(one.is_steady(self._reference) for one in chosen)
        self._bad = self._bad + 1 if is_bad else 0
        self._good = self._good + 1 if self.score >= PRESENT else 0
        if self._good:
            self._unread, self._reference = 0, (chosen[0].early + chosen[0].late) / 2
        if self._bad >= LOST:
            self.is_red = True
        elif self._good >= FOUND:
            self.is_red = False
        self.state = SoundState.NOT_CONFIRMED if self.is_red else SoundState.CONFIRMED if self._good else self.state

    def _read(self, key: SlotKey) -> _Heard | None:
        """What a slot's time shows; None where nothing was heard in it."""
        first, count = first_step(key.slot), first_step(key.slot + 1) - first_step(key.slot)
        part = HOP // PARTS
        begin = first * HOP + round(EARLIEST * RATE / part) * part - HOP  # a step before, for its contrast
        delays = round((LATEST - EARLIEST) * RATE / part)
        windows = (count - 1) * PARTS + delays + 2 * PARTS
        sound, early, late = self._sound(begin, (windows - 1) * part + 2 * HOP)
        if not sound.any():
            return None
        from numpy.lib.stride_tricks import sliding_window_view

        spectrum = np.abs(np.fft.rfft(sliding_window_view(sound, 2 * HOP)[::part] * step_window(RATE), axis=1))
        power = np.square(spectrum[:, BANDS]).sum(1)[PARTS:-PARTS]
        level = 10 * np.log10(2 * power / (2 * HOP) / HOP + 1e-12)
        self._levels.append(level[::PARTS])
        floor = np.quantile(np.concatenate(self._levels), 0.1)
        is_heard = level > max(QUIET_DB, floor + ABOVE_NOISE_DB)
        if not is_heard.any():
            return None
        contrast = contrasts(spectrum)
        beside = contrast[PARTS:-PARTS] - (contrast[: -2 * PARTS] + contrast[2 * PARTS :]) / 2
        beside = np.clip(beside, -2, 2) * is_heard[:, None]
        agree = beside @ received_cells(slot_cells(key))[:count].T  # [windows, steps]
        energy = np.square(beside).sum(1)
        places = np.arange(delays)[:, None] + PARTS * np.arange(count)
        return _Heard(
            agree[places, np.arange(count)].sum(1),
            energy[places].sum(1),
            float(is_heard[places].mean()) * count * STEP_SECONDS,
            early,
            late,
        )

    def _sound(self, begin: int, length: int) -> tuple[Array, float, float]:
        """The samples from a place on, zeros where none came; how late their pieces were, at least and at most."""
        made, late = np.zeros(length), []
        for start, lateness, piece in self._pieces:
            low, high = max(start, begin), min(start + len(piece), begin + length)
            if low < high:
                made[low - begin : high - begin] = piece[low - start : high - start]
                late.append(lateness)
        return made, min(late, default=0.0), max(late, default=0.0)
