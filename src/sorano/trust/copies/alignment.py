"""Which part of an original a copy shows, and when: alignment in time and in the picture, by perceptual hashes.

Time: a line `original = offset + speed * shown` is voted for by frames spread over the copy, then every frame is asked
whether the original shows the same at its time. What the first line leaves open gets further lines (cuts, pieces in
another order or at another speed); what none explains is a held frame or foreign. Picture: whole or mirrored, and
windows that a crop may have left.

Everything is judged by presentation time: a frame weighs what it is shown.

Not covered: rotated, bordered and stretched pictures, and cuts of one or two frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sorano.trust.copies.fingerprint import HASH, Fingerprint

Array = NDArray[Any]
Floats = NDArray[np.float32]

ANCHORS = 96  # frames that vote for a line
MOST_VOTED = 4096  # hashes of the original that are voted for
LIKE, LIKE_BLOCK = 0.12, 0.35  # of a hash's variance that the error of all of it, and of its worst block, may be
CODING = 6.0  # squared levels that coding may add to a hash
ALIKE, MUCH_LESS_ALIKE = 0.04, 3.0  # unlikeness that coding leaves; times that of the likest picture: another time
PLAIN = 25.0  # squared levels of variance: a plainer picture is like any other, and is no evidence
SLACK_SECONDS = 0.005
LONGEST_HOLD = 0.3  # seconds: a frame that is held for as long may have been dropped on the way
SHORTEST_PIECE = 0.3  # seconds that a further line must explain in one go
MOST_LINES = 12
STILL = 1.5  # levels of mean difference between hashes of a picture that is held
LOCAL_BLOCKS = 4  # of 16 that differ: something was put over a part
MOVING = 0.35  # of what the original changes: who shows less of it holds a picture
HARMLESS_SECONDS = 0.002  # frames shown for less count for nothing
HARMLESS_SHARE = 0.01  # of the time: unless there are many of them
SPEEDS = np.concatenate([np.geomspace(0.25, 4.0, 141), [-1.0]])
SAMPLE_SECONDS = 0.1  # of a long frame that are asked for separately


@dataclass(frozen=True)
class CropWindow:
    """The part of the original's picture that a copy shows, as shares of its sides, and whether it is mirrored."""

    top: float = 0.0
    left: float = 0.0
    height: float = 1.0
    width: float = 1.0
    flipped: bool = False

    @property
    def whole(self) -> bool:
        """Whether nothing was cut off."""
        return self.height > 0.99 and self.width > 0.99


@dataclass(frozen=True)
class TimeMap:
    """original seconds = offset + speed * shown seconds."""

    offset: float
    speed: float = 1.0

    def at(self, shown_T: Array) -> Array:
        """The original's seconds."""
        return np.asarray(self.offset + self.speed * shown_T)

    def at_second(self, shown: float) -> float:
        """The original's second."""
        return self.offset + self.speed * shown


@dataclass(frozen=True)
class ShownHashes:
    """What a copy shows: a hash [C] for each moment that is judged, when it is, and for how long."""

    hashes_SC: Floats
    times_S: NDArray[np.float64]
    seconds_S: NDArray[np.float64]
    frames_S: NDArray[np.int64]  # the number of its frame

    def only(self, chosen: Array) -> ShownHashes:
        """Some of the moments."""
        return ShownHashes(self.hashes_SC[chosen], self.times_S[chosen], self.seconds_S[chosen], self.frames_S[chosen])


@dataclass(frozen=True)
class Piece:
    """A run of a copy, in shown seconds, and the line of the original that it lies on, if any.

    Where it is not `explained` it may be `held` (what was shown before it goes on), or `near`: the original shows it
    within 0.3 s.
    """

    start: float
    end: float
    line: TimeMap | None
    explained: bool
    held: bool = False
    near: bool = False
    local: bool = False  # most of the picture is the original's


def cover(first: float, size: float, stored: int, seen: int) -> tuple[Array, Floats]:
    """Which of `stored` cells along a side a window shows whole, and [cells, seen]: how the copy's cells make them."""
    edges = (np.arange(stored + 1) / stored - first) / size * seen
    slack = 0.02 * seen / stored / size
    inside = np.flatnonzero((edges[:-1] >= -slack) & (edges[1:] <= seen + slack))
    cells = np.arange(seen)
    overlap = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    weights = np.clip(overlap, 0, None)[inside]
    return inside, np.asarray(weights / np.maximum(weights.sum(1, keepdims=True), 1e-9), np.float32)


def seen_through(pictures_NYX: Array, window: CropWindow, stored: tuple[int, int]) -> tuple[Floats, Array, Array]:
    """A copy's pictures on those of the original's cells that it shows whole, and which rows and columns these are."""
    pictures = pictures_NYX[:, :, ::-1] if window.flipped else pictures_NYX
    rows, across = cover(window.top, window.height, stored[0], pictures.shape[1])
    columns, down = cover(window.left, window.width, stored[1], pictures.shape[2])
    out = across @ pictures.astype(np.float32) @ down.T
    return np.asarray(out, np.float32), rows, columns


def hashes_through(seen: Fingerprint, window: CropWindow) -> tuple[Floats, Array]:
    """The copy's hashes [N, C] on the cells of the original's that it shows whole, and which these are.

    In a cropped picture they come from the finer pictures (the nearest one of each frame).
    """
    if window == CropWindow():
        return seen.hashes_TYX.reshape(len(seen.hashes_TYX), -1).astype(np.float32), np.arange(HASH * HASH)
    source = seen.luma_KYX if len(seen.luma_KYX) == len(seen.hashes_TYX) else seen.hashes_TYX
    out, rows, columns = seen_through(source, window, (HASH, HASH))
    chosen = (rows[:, None] * HASH + columns[None]).ravel()
    return out.reshape(len(out), -1), chosen


def moments(seen: Fingerprint, hashes_TC: Floats) -> ShownHashes:
    """What is judged of a copy: the middle of each frame; of long frames one moment for each 0.1 s.

    Frames that are shown for less than 2 ms are left out, unless they make up more than 1 % of the time.
    """
    seconds = np.diff(seen.starts_T, append=max(seen.length, float(seen.starts_T[-1])))
    if seen.still or not seconds.sum() > 0:
        return ShownHashes(hashes_TC[:1], np.zeros(1), np.ones(1), np.zeros(1, np.int64))
    brief = seconds < HARMLESS_SECONDS
    if seconds[brief].sum() > HARMLESS_SHARE * seconds.sum():
        brief = seconds <= 0
    frames = np.flatnonzero(~brief)
    parts = np.minimum(np.maximum(np.ceil(seconds[frames] / SAMPLE_SECONDS - 0.5), 1), 10_000).astype(int)
    which = np.repeat(frames, parts)
    number = np.arange(len(which)) - np.repeat(np.cumsum(parts) - parts, parts)
    share = seconds[which] / np.repeat(parts, parts)
    return ShownHashes(hashes_TC[which], seen.starts_T[which] + (number + 0.5) * share, share, which)


def unlikeness(a_NC: Floats, b_NC: Floats, step: int, cells: Array) -> tuple[Array, Array]:
    """[N], [N]: how unlike pairs of hashes are, all cells and the worst block: up to 1 they may be the same picture.

    The error that is left after a fitted gain and offset, over what coding and quantisation leave.
    """
    a = a_NC - a_NC.mean(1, keepdims=True)
    b = b_NC - b_NC.mean(1, keepdims=True)
    gain = np.clip((a * b).sum(1) / np.maximum((b * b).sum(1), 1e-3), 0.4, 2.5)
    error = (a - gain[:, None] * b) ** 2
    power = (a * a).mean(1)
    floor = CODING + step * step / 6
    return error.mean(1) / (LIKE * power + floor), _block_means(error, cells) / (LIKE_BLOCK * power + 2 * floor)


def _block_means(error_NC: Array, cells_C: Array) -> Array:
    """The mean of the worst of 4 x 4 blocks."""
    block = (cells_C // HASH) // 3 * 4 + (cells_C % HASH) // 3
    sums = np.stack([error_NC[:, block == k].sum(1) for k in range(16)], 1)
    counts = np.bincount(block, minlength=16)
    return np.asarray((sums[:, counts > 2] / counts[counts > 2]).max(1))


def _blocks(a_NC: Floats, b_NC: Floats, cells_C: Array) -> Array:
    """[N, blocks]: the errors of blocks after the gain and the offset that most cells agree on."""
    a, b = a_NC - np.median(a_NC, 1, keepdims=True), b_NC - np.median(b_NC, 1, keepdims=True)
    gain = np.clip(np.median(np.abs(a), 1) / np.maximum(np.median(np.abs(b), 1), 0.5), 0.4, 2.5)
    error = (a - gain[:, None] * b) ** 2
    block = (cells_C // HASH) // 3 * 4 + (cells_C % HASH) // 3
    return np.stack([error[:, block == k].mean(1) for k in range(16) if (block == k).any()], 1)


class Aligner:
    """Aligns a copy with an original within one window of its picture."""

    def __init__(self, stored: Fingerprint, seen: Fingerprint, window: CropWindow) -> None:
        hashes, self.cells = hashes_through(seen, window)
        self.window, self.step = window, stored.hash_step
        self.shown = moments(seen, hashes)
        flat = stored.hashes_TYX.reshape(len(stored.hashes_TYX), -1).astype(np.float32)
        self.stored_MC = flat[:, self.cells]
        self.starts_M, self.length = stored.starts_T, stored.length
        self.gap = float(np.median(np.diff(self.starts_M))) if len(self.starts_M) > 1 else 0.04
        self.shown_gap = float(np.median(np.diff(seen.starts_T))) if len(seen.starts_T) > 1 else 0.04
        self.variance_S = self.shown.hashes_SC.var(1)
        self.limit_S = np.minimum(1, MUCH_LESS_ALIKE * self.likest() + ALIKE)

    def best_line(self, chosen: Array | None = None, speeds: Array | None = None) -> TimeMap:
        """The line that most of the chosen moments vote for."""
        shown = self.shown if chosen is None else self.shown.only(chosen)
        picked = np.unique(np.linspace(0, len(shown.times_S) - 1, ANCHORS).astype(int))
        shown = shown.only(picked)
        stride = -(-len(self.starts_M) // MOST_VOTED)
        stored, starts = self.stored_MC[::stride], self.starts_M[::stride]
        score = self._scores(shown.hashes_SC, stored) * shown.seconds_S[:, None]
        score *= np.minimum(1, shown.hashes_SC.var(1) / (2 * PLAIN))[:, None]
        if speeds is None:
            speeds = self._near_speeds(float(shown.times_S[-1] - shown.times_S[0]))
        best, line = -1.0, TimeMap(0.0)
        middles = starts + self.gap * stride / 2
        wide = max(self.gap * stride, 0.02)
        for speed in speeds:
            offsets = middles[None] - speed * shown.times_S[:, None]
            low = float(offsets.min())
            bins = np.rint((offsets - low) / wide).astype(np.int64)
            ballots = np.bincount(bins.ravel(), score.ravel())
            votes = np.convolve(ballots, [0.5, 1, 0.5], "same")  # a frame's neighbours are like it
            top = float(votes.max())
            if top > best * 1.001:
                near = np.flatnonzero(votes >= top * 0.999)
                place = near[np.argmin(np.abs(low + near * wide))]  # of equals, the one that starts at the beginning
                best, line = top, TimeMap(low + float(place) * wide, float(speed))
        return self._settled(line, shown)

    def _near_speeds(self, span: float) -> Array:
        count = int(np.clip(np.ceil(0.02 * span / 0.1), 1, 41)) | 1
        return np.linspace(0.99, 1.01, count) if count > 1 else np.ones(1)

    def _scores(self, shown_KC: Floats, stored_MC: Floats) -> Array:
        """[K, M]: votes for pairs of hashes: what is nearly as like as the likest counts."""
        unlike = self.table(shown_KC, stored_MC)
        best = unlike.min(1, keepdims=True)
        return np.asarray(np.minimum(1, 1 / (best + 1e-6)) / (1 + (unlike / (best + ALIKE)) ** 2))

    def table(self, shown_KC: Floats, stored_MC: Floats) -> Array:
        """[K, M]: the unlikeness of all pairs of hashes, without the worst block's."""
        a = stored_MC - stored_MC.mean(1, keepdims=True)
        b = shown_KC - shown_KC.mean(1, keepdims=True)
        power_a, power_b = (a * a).mean(1), (b * b).mean(1)[:, None] + 1e-3
        both = b @ a.T / a.shape[1]
        gain = np.clip(both / power_b, 0.4, 2.5)
        error = np.maximum(power_a - 2 * gain * both + gain * gain * power_b, 0)
        return np.asarray(error / (LIKE * power_a + CODING + self.step**2 / 6), np.float32)

    def likest(self) -> Array:
        """[S]: the unlikeness of the likest hash of the original, wherever it is."""
        out = np.empty(len(self.shown.times_S), np.float32)
        stride = -(-len(self.starts_M) // MOST_VOTED)
        for first in range(0, len(out), 1024):
            part = slice(first, first + 1024)
            out[part] = self.table(self.shown.hashes_SC[part], self.stored_MC[::stride]).min(1)
        return out

    def _settled(self, line: TimeMap, shown: ShownHashes) -> TimeMap:
        """The offset nearby at which most frames agree best, to a fraction of a frame."""
        for reach, step in ((4.0, 0.5), (0.5, 0.125)):
            shifts = np.array(sorted(np.arange(-reach, reach + 0.01, step), key=abs)) * self.gap
            tried = [replace(line, offset=line.offset + float(shift)) for shift in shifts]
            unlike = np.stack([self._unlike_at(one, shown) for one in tried])
            agree = 1 / (1 + (unlike / (unlike.min(0) + ALIKE / 4)) ** 2)
            line = tried[int(np.argmax(agree.sum(1) - 1e-3 * np.abs(shifts)))]
        return line

    def _unlike_at(self, line: TimeMap, shown: ShownHashes) -> Array:
        index = self._index(line.at(shown.times_S))
        return unlikeness(self.stored_MC[index], shown.hashes_SC, self.step, self.cells)[0]

    def _index(self, seconds: Array) -> Array:
        return np.clip(np.searchsorted(self.starts_M, seconds, side="right") - 1, 0, len(self.starts_M) - 1)

    def reach(self) -> float:
        """Seconds by which a frame may be off its line: one frame of the original and of the copy."""
        return min(max(self.gap, self.shown_gap), 0.12) + SLACK_SECONDS

    def explained(self, line: TimeMap, chosen: Array | None = None, near: float | None = None) -> Array:
        """[S]: whether the original shows what each moment shows, at its time on a line or `near` seconds from it."""
        shown = self.shown if chosen is None else self.shown.only(chosen)
        limit = self.limit_S if chosen is None else self.limit_S[chosen]
        wanted = line.at(shown.times_S)
        near = self.reach() * max(1.0, abs(line.speed)) if near is None else near
        unlike = np.full(len(wanted), np.inf, np.float32)  # relative to what it may be
        most = 2 + int(np.ceil(near / max(self.gap, 1e-3)))
        base = self._index(wanted)
        ends = np.append(self.starts_M[1:], max(self.length, float(self.starts_M[-1])))
        for shift in range(-most, most + 1):
            index = np.clip(base + shift, 0, len(self.starts_M) - 1)
            fits = (base + shift == index) & (self.starts_M[index] <= wanted + near) & (ends[index] >= wanted - near)
            if fits.any():
                some = self._over(self.stored_MC[index[fits]], shown.hashes_SC[fits], limit[fits])
                unlike[fits] = np.minimum(unlike[fits], some)
        bad = np.flatnonzero((unlike > 1) & np.isfinite(unlike))
        if len(bad) and len(self.starts_M) > 1:
            mixed = self._mixed(shown.hashes_SC[bad], wanted[bad], min(near, self.reach()), limit[bad])
            unlike[bad] = np.minimum(unlike[bad], mixed)
        return np.asarray(unlike <= 1)

    def _over(self, stored_NC: Floats, shown_NC: Floats, limit_N: Array) -> Array:
        """Unlikeness of pairs over what is allowed: up to 1 they show the same."""
        whole, blocks = unlikeness(stored_NC, shown_NC, self.step, self.cells)
        return np.maximum(whole / limit_N, blocks)

    def _mixed(self, hashes_NC: Floats, wanted_N: Array, near: float, limit_N: Array) -> Array:
        """Unlikeness to mixtures of two frames that follow one another, as converters of frame rates make them."""
        best = np.full(len(wanted_N), np.inf, np.float32)
        base = self._index(wanted_N)
        for shift in (-1, 0, 1):
            low = np.clip(base + shift, 0, len(self.starts_M) - 2)
            a, b = self.stored_MC[low], self.stored_MC[low + 1]
            along = b - a
            share = ((hashes_NC - a) * along).sum(1) / np.maximum((along * along).sum(1), 1e-3)
            mixed = a + np.clip(share, 0, 1)[:, None] * along
            fits = (self.starts_M[low] <= wanted_N + near) & (self.starts_M[low + 1] >= wanted_N - near)
            best = np.where(fits, np.minimum(best, self._over(mixed, hashes_NC, limit_N)), best)
        return best

    def share(self, good_S: Array) -> float:
        """The share of the time shown that is good."""
        seconds = self.shown.seconds_S
        return float(seconds[good_S].sum() / seconds.sum())

    def evidence(self, good_S: Array) -> float:
        """The share of the time shown that is good and not too plain to be told from others."""
        return self.share(good_S & (self.variance_S > PLAIN))

    def lines(self, line: TimeMap) -> tuple[list[TimeMap], Array]:
        """Further lines for what the first leaves open, and [L, S]: which moments each explains."""
        lines, found = [line], [self.explained(line)]
        for _ in range(MOST_LINES):
            left = np.flatnonzero(~np.any(found, 0))
            if self.shown.seconds_S[left].sum() < SHORTEST_PIECE:
                break
            further = self.best_line(left, np.ones(1))
            good = self.explained(further)
            runs = _long_runs(good[left], left, self.shown.seconds_S)
            if not runs.any() or self._held(left[runs], further):
                break
            lines.append(further)
            found.append(good)
        return lines, np.stack(found)

    def pieces(self, line: TimeMap) -> list[Piece]:
        """The whole copy as runs of one line each, of held pictures, and of what the original does not show.

        The path of least cost (Viterbi): a moment that its line does not explain costs 1, one without a line 0.6, and a
        change of lines 3.
        """
        lines, found_LS = self.lines(line)
        costs = np.concatenate([1.0 - found_LS, np.full((1, found_LS.shape[1]), 0.6)])
        total = costs[:, 0]
        came = np.empty(costs.shape, np.int64)
        for moment in range(1, costs.shape[1]):
            best = int(total.argmin())
            stay = total <= total[best] + 3
            came[:, moment] = np.where(stay, np.arange(len(total)), best)
            total = np.where(stay, total, total[best] + 3) + costs[:, moment]
        owner = np.empty(costs.shape[1], np.int64)
        owner[-1] = int(total.argmin())
        for moment in range(costs.shape[1] - 1, 0, -1):
            owner[moment - 1] = came[owner[moment], moment]
        explained = np.take_along_axis(np.concatenate([found_LS, np.zeros_like(found_LS[:1])]), owner[None], 0)[0]
        return list(self._joined(np.where(explained, owner, -1 - owner), lines))

    def _joined(self, owner_S: Array, lines: list[TimeMap]) -> Iterator[Piece]:
        """Runs of moments of one owner; what an owner does not explain is negative."""
        shown = self.shown
        edges = np.flatnonzero(np.diff(owner_S)) + 1
        for run in np.split(np.arange(len(owner_S)), edges):
            start = float(shown.times_S[run[0]] - shown.seconds_S[run[0]] / 2)
            end = float(shown.times_S[run[-1]] + shown.seconds_S[run[-1]] / 2)
            which = int(owner_S[run[0]])
            if which >= 0:
                yield Piece(start, end, lines[which], True)
            else:
                line = lines[-1 - which] if -1 - which < len(lines) else None
                near = line is not None and bool(self.explained(line, run, LONGEST_HOLD).all())
                yield Piece(start, end, line, False, self._held(run, line), near, self._local(run, line))

    def _local(self, run: Array, line: TimeMap | None) -> bool:
        """Whether all but some blocks of the picture are the original's at their time."""
        if line is None:
            return False
        shown, base = self.shown.hashes_SC[run], self._index(line.at(self.shown.times_S[run]))
        fewest = np.full(len(run), np.inf)
        for shift in (-1, 0, 1):
            stored = self.stored_MC[np.clip(base + shift, 0, len(self.starts_M) - 1)]
            wrong = _blocks(stored, shown, self.cells) > (LIKE_BLOCK * stored.var(1) + 2 * CODING)[:, None]
            fewest = np.minimum(fewest, wrong.sum(1))
        return bool((fewest <= LOCAL_BLOCKS).all())

    def _held(self, run: Array, line: TimeMap | None) -> bool:
        """Whether a run goes on showing what was shown before it, while the original moves along a line."""
        first, last = max(0, int(run[0]) - 1), int(run[-1])
        hashes = self.shown.hashes_SC[first : last + 1]
        moved = float(np.abs(hashes - hashes[:1]).mean(1).max())
        if line is None:
            return moved < STILL
        along = self.stored_MC[self._index(line.at(self.shown.times_S[first : last + 1]))]
        wanted = float(np.abs(along - along[:1]).mean(1).max())
        return moved < min(STILL, 0.2 + MOVING * wanted)


def _long_runs(found: Array, places: Array, seconds_S: Array) -> Array:
    """Those of the found places that lie in runs long enough to be a piece."""
    kept = np.zeros(len(found), bool)
    breaks = np.flatnonzero((np.diff(places) > 1) | (np.diff(found.astype(int)) != 0)) + 1
    for run in np.split(np.arange(len(found)), breaks):
        if len(run) and found[run[0]] and seconds_S[places[run]].sum() >= SHORTEST_PIECE:
            kept[run] = True
    return kept
