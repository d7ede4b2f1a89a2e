"""What a receiver concludes of a participant's tile, second by second, from its pictures and the keys that follow.

    judge = TileJudge(began)                 # the wall clock at which the participant's slot 0 began
    judge.add(luma, at)                      # each frame, with the time at which it came
    judge.disclose(slot_key, now)            # once the key of a slot is known: a SlotResult
    judge.state(now)                         # TileState.CONFIRMED, NOT_CONFIRMED, WAITING, NO_PICTURE

Three questions are asked of each slot. *Does the tile carry the mark?* By `marks.score_of`, at the best of five delays
between the sender's clock and ours; `LEAST_SCORE` is passed by chance less than once in ten million slots. *Does every
part of it?* The agreement of blocks of 8 x 8 chips with the mark over three slots is compared with what the rest of the
tile shows for as much energy; a square (or the face, where its box is known) that shows nothing where much was expected
was put over the picture.

*Are they the pictures that were marked?* A mark can be lifted off pictures and laid over others. So the sender
declares, beside the pictures, what each slot looked like in 9 x 16 cells; what came must look like it but for gain and
offset.

One bad slot is not enough: `PATIENCE` of the last `LATELY` turn a tile red, so that a coder's bad second does not; a
part for whose absence much speaks (`DECISIVE`) does at once. A second in which few frames came says nothing, and four
of them end a confirmation. Once red, a tile takes `RECOVERY` good slots to be confirmed again, and the timeline keeps
that it was.

Covered: pictures that were replaced as a whole or in part after they were marked. Not covered: what was marked; parts
smaller than 3 % of the tile; parts in which the coder left nothing of the mark's band; a mark that is lifted within its
second and laid over a picture of the same cells (another face in the same place and light).
"""

from __future__ import annotations

import enum
import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sorano.desk.call.keys import DISCLOSURE_SECONDS, SLOT_SECONDS, SlotKey
from sorano.desk.call.marks import (
    THUMB,
    chips_of,
    mismatch_of,
    repeated,
    score_of,
    slot_tile,
    thumb_of,
    whitened_chips,
)

Array = NDArray[Any]
Box = tuple[float, float, float, float]  # left, top, right, bottom in 0..1

BIN_SECONDS = 0.25
BINS = round(SLOT_SECONDS / BIN_SECONDS)
LATEST = round(DISCLOSURE_SECONDS / BIN_SECONDS)  # bins that pictures may be late by
BEFORE = 4  # slots whose mean is taken from a slot's pictures: what stands still is not the mark, which changes
LEAST_SCORE = 6.0  # exp(-6 * 6 / 2) * 5 delays = 8e-8
MOST_MISMATCH = 6.0  # levels
LEAST_FRAMES = 3  # of a slot: fewer say nothing
PATIENCE, LATELY, RECOVERY = 2, 4, 3  # bad slots, of so many, turn a tile red; good ones in a row end it
FRESH_SECONDS = 4.0  # from a good slot's key: what was confirmed before says nothing of now
WINDOWS = (3, 5, 10)  # slots that parts are judged by: large ones quickly, small ones later
BLOCK = 8  # chips on a side
SIDES = (3, 4, 6)  # blocks: the squares that are tested
DECISIVE = 60.0  # evidence of a part from which on one slot is enough
DIM = 0.5  # of the mark's usual strength there is what an intact part shows at least, but for chance
EVEN_SHARE, EVEN_STRENGTH = 0.1, 0.5  # of the blocks outside a part, so many may show less than this of the mark
LEARNING = 0.1  # of what a place usually shows, from each good slot
LEAST_EVIDENCE = 30.0  # natural logarithm of the likelihood ratio, missing against intact, less that of the places


class TileState(enum.StrEnum):
    """What is said of a tile."""

    CONFIRMED = "confirmed"
    NOT_CONFIRMED = "not_confirmed"
    WAITING = "waiting"  # too early to say, or too few frames come
    NO_PICTURE = "no_picture"  # nothing comes
    PICTURE_ONLY = "picture_only"  # nobody proved a passkey for it


@dataclass(frozen=True)
class SlotResult:
    """What a slot showed. `score` is in deviations of chance; `missing` the part that lacks the mark, if one does."""

    slot: int
    at: float  # when it was known
    frames: int
    score: float = 0.0
    late: int = 0  # bins by which the pictures came late
    missing: Box | None = None
    evidence: float = 0.0  # natural logarithm, of the worst part
    mismatch: float = 0.0  # levels by which pictures differ from what their sender declared, at most

    @property
    def says(self) -> bool | None:
        """Whether the mark is there, in all parts; None where too few frames came."""
        if self.frames < LEAST_FRAMES:
            return None
        return self.score >= LEAST_SCORE and self.missing is None and self.mismatch <= MOST_MISMATCH


@dataclass
class _Bin:
    chips: Array
    thumb: Array
    frames: int = 0


@dataclass
class TileJudge:
    """The judge of one tile. Memory is bounded: some seconds of chips."""

    began: float
    results: deque[SlotResult] = field(default_factory=lambda: deque(maxlen=64))
    map_YX: Array | None = None  # of the last slots: the mark's strength in that of the tile, by blocks
    is_red: bool = False
    is_sure: bool = True  # whether parts can be judged: at low rates coders leave the mark out in patches
    face: Box | None = None
    _bins: dict[int, _Bin] = field(default_factory=dict)
    _declared: dict[int, Array] = field(default_factory=dict)
    _received: dict[int, list[Array]] = field(default_factory=dict)
    _recent: deque[tuple[Array, Array]] = field(default_factory=lambda: deque(maxlen=max(WINDOWS)))
    _usual: Array | None = None
    _bad: deque[int] = field(default_factory=lambda: deque(maxlen=LATELY))
    _good: int = 0
    _last_frame: float = -math.inf
    _last_good: float = -math.inf

    def add(self, luma_YX: NDArray[np.uint8], at: float) -> None:
        """A frame's luma, uint8 [H, W], and when it came (wall clock, seconds)."""
        number = math.floor((at - self.began) / BIN_SECONDS)
        if number < 0 or min(luma_YX.shape) < 90:
            return
        chips = chips_of(luma_YX)
        held = self._bins.get(number)
        if held is None or held.chips.shape != chips.shape:  # a sender may change its size
            held = self._bins[number] = _Bin(np.zeros_like(chips), np.zeros(THUMB[::-1], np.float32))
        held.chips += chips
        held.thumb += thumb_of(luma_YX)
        held.frames += 1
        self._last_frame = at
        for old in [one for one in self._bins if one < number - (BEFORE + 4) * BINS]:
            del self._bins[old]

    def disclose(self, key: SlotKey, now: float) -> SlotResult:
        """Judge a slot whose key was disclosed; frames that came after the disclosure do not count."""
        tile = slot_tile(key)
        best: tuple[float, int, Array | None, int, bool] = (0.0, 0, None, 0, False)
        for late in range(LATEST + 1):
            first = key.slot * BINS + late
            frames, mean = self._mean(first, first + BINS)
            if mean is None:
                continue
            _, before = self._mean(first - BEFORE * BINS, first - 1)  # the bin between may hold pictures of both slots
            is_first = before is None or before.shape != mean.shape
            chips = whitened_chips(mean if before is None or is_first else mean - before)
            score = score_of(chips, tile)
            if best[2] is None or (score, frames) > (best[0], 0):
                best = (score, late, chips, frames, is_first)
        score, late, best_chips, frames, is_first = best
        missing, evidence = None, 0.0
        if best_chips is not None and score >= LEAST_SCORE:
            if not is_first:  # with what stands still in it, a slot weighs other places
                missing, evidence = self._parts(best_chips, tile)
        else:
            self._recent.clear()
            self.map_YX = None
        result = SlotResult(key.slot, now, frames, score, late, missing, evidence, self._mismatch(key.slot))
        self._take(result)
        for old in [one for one in self._bins if one < (key.slot - BEFORE) * BINS]:
            del self._bins[old]
        return result

    def declare(self, slot: int, thumb_YX: Array) -> None:
        """What the sender says the pictures of a slot looked like, before they were marked: [9, 16] levels."""
        self._declared[slot] = thumb_YX
        for old in sorted(self._declared)[:-8]:
            del self._declared[old]

    def state(self, now: float) -> TileState:
        """The tile's state."""
        if now - self._last_frame > 2 * SLOT_SECONDS and self._last_frame > -math.inf:
            return TileState.NO_PICTURE
        if self.is_red:
            return TileState.NOT_CONFIRMED
        is_fresh = now - self._last_good <= FRESH_SECONDS
        return TileState.CONFIRMED if self._good and is_fresh else TileState.WAITING

    def _mean(self, first: int, end: int) -> tuple[int, Array | None]:
        """The number of frames in some bins, and their mean; None where there is none, or where they differ in size."""
        held = [self._bins[one] for one in range(first, end) if one in self._bins]
        frames = sum(one.frames for one in held)
        if not held or any(one.chips.shape != held[-1].chips.shape for one in held):
            return frames, None
        return frames, np.asarray(sum(one.chips for one in held) / frames, np.float32)

    def _mismatch(self, slot: int) -> float:
        """The largest difference of slots that were declared since, from what came of them at the best delay.

        The delay of the mark does not say: where nothing moves, a coder brings a new pattern later than the pictures.
        """
        thumbs = [self._thumb(slot * BINS + late) for late in range(LATEST + 1)]
        self._received[slot] = [one for one in thumbs if one is not None]
        found = 0.0
        for both in self._declared.keys() & self._received.keys():
            declared, received = self._declared.pop(both), self._received.pop(both)
            found = max(found, min((mismatch_of(one, declared) for one in received), default=0.0))
        for old in [one for one in self._received if one < slot - 4]:
            del self._received[old]
        return found

    def _thumb(self, first: int) -> Array | None:
        """The mean thumb of a slot's bins from a first one on; None where no frame came."""
        held = [self._bins[one] for one in range(first, first + BINS) if one in self._bins]
        total = np.sum([one.thumb for one in held], 0)
        return np.asarray(total / sum(one.frames for one in held), np.float32) if held else None

    def _take(self, result: SlotResult) -> None:
        self.results.append(result)
        if result.says is None:
            return
        is_decisive = result.missing is not None and result.evidence > DECISIVE
        self._bad.append(0 if result.says else PATIENCE if is_decisive else 1)
        if result.says:
            self._good, self._last_good = self._good + 1, result.at
        elif self.is_red:
            self._good = 0
        if sum(self._bad) >= PATIENCE:
            self.is_red, self._good = True, 0
            self._bad.clear()
        elif self.is_red and self._good >= RECOVERY:
            self.is_red = False

    def _parts(self, chips: Array, tile: Array) -> tuple[Box | None, float]:
        """The worst part of the last slots, and the evidence that it is missing."""
        sums = (block_sums(chips * repeated(tile, *chips.shape)), block_sums(chips * chips))
        if self._recent and self._recent[-1][0].shape != sums[0].shape:
            self._recent.clear()
            self._usual = None
        self._recent.append(sums)
        worst: tuple[float, Box | None] = (-math.inf, None)
        for window in WINDOWS:
            if window <= len(self._recent):
                agree, energy = (np.sum([one[index] for one in list(self._recent)[-window:]], 0) for index in (0, 1))
                worst = max(worst, self._worst(agree, energy), key=lambda one: one[0])
        if len(self._recent) == self._recent.maxlen and not self.is_red and not sum(self._bad):
            self._learn(*self._recent[0])
        evidence, found = worst
        if found is not None and self.map_YX is not None:
            self.is_sure = _is_even(self.map_YX, found)
        return (found if evidence > LEAST_EVIDENCE and self.is_sure else None), max(evidence, -99.0)

    def _worst(self, agree: Array, energy: Array) -> tuple[float, Box | None]:
        """The part of a window for whose absence most speaks."""
        strength = float(agree.sum() / max(float(energy.sum()), 1e-9))
        self.map_YX = _local_strength(agree, energy) / max(strength, 1e-9)
        expected = DIM * strength * energy * (1.0 if self._usual is None else self._usual)
        rows, columns = agree.shape
        worst: tuple[float, Box | None] = (-math.inf, None)
        for side in SIDES:
            if side > min(rows, columns):
                continue
            told = evidence_of(*(_squares(one, side) for one in (agree, energy, expected)))
            told -= math.log(rows * columns / side**2)  # a hole may lie in so many places
            top, left = (int(one) for one in np.unravel_index(int(told.argmax()), told.shape))
            if told[top, left] > worst[0]:
                box = (left / columns, top / rows, (left + side) / columns, (top + side) / rows)
                worst = (float(told[top, left]), box)
        if self.face is not None:
            left_f, top_f, right_f, bottom_f = self.face
            part = np.s_[
                round(top_f * rows) : round(bottom_f * rows), round(left_f * columns) : round(right_f * columns)
            ]
            told_face = float(evidence_of(agree[part].sum(), energy[part].sum(), expected[part].sum()))
            worst = max(worst, (told_face, self.face), key=lambda one: one[0])
        return worst

    def _learn(self, agree: Array, energy: Array) -> None:
        """What each place usually shows, in what the tile shows: from slots that are over and were good."""
        strength = float(agree.sum() / max(float(energy.sum()), 1e-9))
        local = np.clip(_local_strength(agree, energy) / max(strength, 1e-9), 0.5, 3.0)
        self._usual = local if self._usual is None else self._usual + LEARNING * (local - self._usual)


def block_sums(chips_YX: Array) -> Array:
    """Sums over blocks of 8 x 8 chips; what is left over at the right and below goes to the last ones."""
    rows, columns = (max(1, side // BLOCK) for side in chips_YX.shape)
    down = np.minimum(np.arange(chips_YX.shape[0]) // BLOCK, rows - 1)
    across = np.minimum(np.arange(chips_YX.shape[1]) // BLOCK, columns - 1)
    sums = np.zeros((rows, columns), np.float64)
    np.add.at(sums, (down[:, None], across[None]), chips_YX)
    return sums


def evidence_of(agree: Any, energy: Any, expected: Any) -> Any:
    """The logarithm of the likelihood ratio, missing against intact, of parts of a tile.

    Agreement over the root of the energy is normal with variance 1 around 0 where the mark is missing, and around
    `expected` over the same root where it is intact (`expected` is in the units of agreement).
    """
    root = np.sqrt(np.maximum(energy, 1e-9))
    mean = expected / root
    return -(mean * (agree / root) - 0.5 * mean * mean)


def _is_even(strength_YX: Array, box: Box) -> bool:
    """Whether the mark is there nearly everywhere outside a box, so that its absence in the box says something."""
    rows, columns = strength_YX.shape
    outside = np.ones(strength_YX.shape, bool)
    left, top, right, bottom = box
    edges = (round(top * rows) - 1, round(bottom * rows) + 1, round(left * columns) - 1, round(right * columns) + 1)
    outside[max(edges[0], 0) : edges[1], max(edges[2], 0) : edges[3]] = False
    return bool(outside.any()) and float(np.quantile(strength_YX[outside], EVEN_SHARE)) >= EVEN_STRENGTH


def _squares(sums: Array, side: int) -> Array:
    """Sums over all squares of a side, by their upper left block."""
    whole = np.pad(sums.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    return np.asarray(
        whole[side:, side:] - whole[:-side, side:] - whole[side:, :-side] + whole[:-side, :-side], np.float64
    )


def _local_strength(agree: Array, energy: Array) -> Array:
    """Agreement over energy around each block."""
    import cv2

    return np.asarray(cv2.GaussianBlur(agree, (0, 0), 0.8) / np.maximum(cv2.GaussianBlur(energy, (0, 0), 0.8), 1e-9))
