"""A robust fingerprint of frames: small grey pictures, to tell whether what is on screen is what was signed.

A mark's id can be copied onto other pictures; a manifest that is found by the id alone proves nothing. So the
manifest carries 24 x 24 grey thumbnails of the clip, at most 32 of them, and every second on screen must look like one
of them, in their order: a fitted gain and offset allow for brightness and contrast, a search over windows for crops.

Covered: re-encoding, resizing, mirroring, cropping to 0.8 (to half where the picture is plain), trimming, other
frame rates. Not covered: changes smaller than a cell of the grid (a word, a face far away: see the tamper map),
rotation, letterboxes, picture in picture, and clips of hours, of which only a moment every few minutes is remembered.
It is no secret: it shows the clip in 24 x 24 pixels.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sorano.errors import TrustError

if TYPE_CHECKING:
    from sorano.video import Frames

Array = NDArray[Any]
Thumbs = NDArray[np.uint8]

GRID = 24
MOST_STORED = 32
STORED_SECONDS = 0.5  # between two stored thumbnails, doubled as often as the clip needs
MOST_SEEN = 4096  # frames on screen that are compared; of a longer clip every second, every fourth ...
VERSION = 1
MAX_BYTES = 200_000
CROPS = tuple(side / GRID for side in range(GRID, 12, -1))  # sides of the windows that are tried
MOST_REFINED = 2  # windows that are looked at closely
COARSE = 12  # a side of the grid in which cut pictures are compared
BLOCKS = 4  # a side of the grid in which the worst place is looked for
SAME = 0.65  # likeness of the worst block and above: the same picture (docs/LOG.md: others stay below 0.58)
SAME_CUT = 0.72  # the same for cut pictures, which are compared in a coarser grid (others: 0.65 and below)
ORDER_SLACK_SECONDS = 0.25
CHECKED_SECONDS = 1.0  # of the screen that one stored thumbnail must answer for


@dataclass(frozen=True)
class Fingerprint:
    """Thumbnails [N, 24, 24] and the seconds at which they were taken."""

    thumbs_NYX: Thumbs
    seconds_N: NDArray[np.float32]
    length: float = 0.0  # seconds of the whole clip; 0 where it is not known

    def to_bytes(self) -> bytes:
        """What is signed."""
        head = struct.pack(">BBHf", VERSION, GRID, len(self.thumbs_NYX), self.length)
        return head + self.seconds_N.astype(">f4").tobytes() + zlib.compress(self.thumbs_NYX.tobytes(), 9)


def from_bytes(data: bytes) -> Fingerprint:
    """The reverse. Raises TrustError for anything else."""
    try:
        version, grid, count, length = struct.unpack(">BBHf", data[:8])
        if version != VERSION or grid != GRID or not 1 <= count <= MOST_STORED or len(data) > MAX_BYTES:
            raise TrustError(f"a fingerprint of version {version} with {count} pictures is not known here")
        seconds = np.frombuffer(data[8 : 8 + 4 * count], ">f4").astype(np.float32)
        wanted = count * GRID * GRID
        pixels = zlib.decompressobj().decompress(data[8 + 4 * count :], wanted + 1)
    except (struct.error, zlib.error, ValueError) as error:
        raise TrustError(f"a fingerprint cannot be read: {error}") from error
    if len(pixels) != wanted or not np.isfinite(seconds).all() or not 0 <= length < 1e9:
        raise TrustError("a fingerprint is cut off")
    return Fingerprint(np.frombuffer(pixels, np.uint8).reshape(count, GRID, GRID), seconds, length)


class Taker:
    """Takes thumbnails of a stream in constant memory."""

    def __init__(self, fps: float) -> None:
        self.fps = fps if fps > 0 else 25.0
        self.count = 0
        self.stride = 1
        self.thumbs: list[Thumbs] = []
        self.places: list[int] = []

    def add(self, frames_THWC: Frames) -> None:
        """The next frames."""
        for frame_HWC in frames_THWC:
            if self.count % self.stride == 0:
                self.thumbs.append(thumb(frame_HWC))
                self.places.append(self.count)
                if len(self.thumbs) >= MOST_SEEN:
                    self.thumbs, self.places = self.thumbs[::2], self.places[::2]
                    self.stride *= 2
            self.count += 1

    def state(self) -> dict[str, Any]:
        """What it remembers, for a run that goes on later."""
        thumbs = np.stack(self.thumbs) if self.thumbs else np.zeros((0, GRID, GRID), np.uint8)
        return {"count": self.count, "stride": self.stride, "places": self.places, "thumbs": thumbs}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a `state`."""
        self.count, self.stride, self.places = state["count"], state["stride"], list(state["places"])
        self.thumbs = list(state["thumbs"])

    def seen(self) -> Fingerprint:
        """Every thumbnail that was taken."""
        if not self.thumbs:
            raise TrustError("there are no frames to take a fingerprint of")
        return Fingerprint(
            np.stack(self.thumbs), np.asarray(self.places, np.float32) / np.float32(self.fps), self.count / self.fps
        )

    def stored(self) -> Fingerprint:
        """The few that are signed: evenly spaced, the first among them."""
        seen = self.seen()
        step = max(1.0, STORED_SECONDS * self.fps / self.stride, len(self.thumbs) / MOST_STORED)
        picked = np.unique(np.arange(0, len(self.thumbs), step).astype(int))[:MOST_STORED]
        return Fingerprint(seen.thumbs_NYX[picked], seen.seconds_N[picked], seen.length)


def take(frames_THWC: Frames, fps: float) -> Fingerprint:
    """The fingerprint of a clip at hand."""
    taker = Taker(fps)
    taker.add(frames_THWC)
    return taker.stored()


def thumb(frame_HWC: Frames) -> Thumbs:
    """A frame's luma in 24 x 24 means."""
    height, width = frame_HWC.shape[:2]
    step = max(1, min(height, width) // (8 * GRID))  # at least 8 x 8 samples a cell where there are as many
    luma = frame_HWC[::step, ::step].astype(np.float32) @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    rows = (np.arange(GRID + 1) * luma.shape[0] / GRID).astype(int)
    columns = (np.arange(GRID + 1) * luma.shape[1] / GRID).astype(int)
    if min(luma.shape) < GRID:
        luma = np.repeat(np.repeat(luma, -(-GRID // luma.shape[0]), 0), -(-GRID // luma.shape[1]), 1)
        rows = (np.arange(GRID + 1) * luma.shape[0] / GRID).astype(int)
        columns = (np.arange(GRID + 1) * luma.shape[1] / GRID).astype(int)
    sums = np.add.reduceat(np.add.reduceat(luma, rows[:-1], 0), columns[:-1], 1)
    return np.asarray(np.rint(sums / (np.diff(rows)[:, None] * np.diff(columns)[None])), np.uint8)


@dataclass(frozen=True)
class Match:
    """How well what is on screen fits a stored fingerprint."""

    same: bool
    likeness: float  # of the least like second, 0..1
    at_seconds: float  # where that is
    crop: float  # side of the window of the stored picture that is on screen


def match(stored: Fingerprint, seen: Fingerprint) -> Match:
    """Whether every second on screen is in the stored clip, in its order."""
    if stored.length and seen.length > 1.1 * stored.length + 1:
        return Match(False, 0.0, stored.length, 1.0)  # longer than what was signed: shown twice, or with more
    best: Match | None = None
    for crop, flipped, row, column in _windows(stored, seen):
        found = _match_window(stored, seen, crop, flipped, row, column)
        if best is None or found.likeness > best.likeness:
            best = found
        if best.same:
            break
    if best is None:
        raise TrustError("there is nothing to compare")
    return best


def _match_window(
    stored: Fingerprint, seen: Fingerprint, crop: float, flipped: bool, row: float, column: float
) -> Match:
    a_NYX, b_MYX = _aligned(stored, seen, crop, flipped, row, column)
    enough = SAME if crop == 1 else SAME_CUT
    like_NM = likeness(a_NYX, b_MYX)
    gaps = np.diff(stored.seconds_N)
    span = max(CHECKED_SECONDS, 2 * float(gaps.max()) if len(gaps) else CHECKED_SECONDS)
    worst, where, order = 1.0, 0.0, []
    end = float(seen.seconds_N[-1])
    for start in np.arange(0, max(end - 0.5 * span, 0) + 1e-6, span):
        inside = (seen.seconds_N >= start) & (seen.seconds_N < start + span)
        if not inside.any():
            continue
        part = like_NM[:, inside]
        first = int(part.max(1).argmax())
        score = float(part[first].max())
        order.append((start, first, part.max(1)))
        if score < worst:
            worst, where = score, float(start)
    reached = 0
    for start, _, scores in order:  # forward only: a second that is shown again does not count
        ahead = np.flatnonzero(scores[reached:] >= enough)
        if not len(ahead):
            back = float(scores[reached:].max())
            if back < worst:
                worst, where = back, float(start)
            break
        reached += int(ahead[0])
    if worst >= enough and not _in_order(a_NYX, like_NM, seen.seconds_N):
        worst, where = 0.0, 0.0
    return Match(worst >= enough, worst, where, crop)


def _in_order(a_NYX: Array, like_NM: NDArray[np.float32], seconds_M: NDArray[np.float32]) -> bool:
    """Whether the stored pictures that can be told apart are on screen in the order in which they were signed."""
    places = np.flatnonzero(like_NM.max(1) >= SAME)
    when = seconds_M[like_NM[places].argmax(1)]
    apart = likeness(a_NYX[places], a_NYX[places]) < SAME
    late = when[:, None] > when[None] + ORDER_SLACK_SECONDS
    return not bool(np.triu(apart & late, 1).any())


def likeness(a_NYX: Array, b_MYX: Array) -> NDArray[np.float32]:
    """[N, M]: how much alike the worst blocks of two pictures are, 0..1, whatever the gain and offset of the whole.

    Each block's error after a common gain and offset is compared with how much there is to see: 1 is the same, and what
    a codec does to 24 x 24 means stays near it, while a thing that is elsewhere makes its block unlike.
    """
    side = a_NYX.shape[1]
    a = a_NYX.astype(np.float32).reshape(len(a_NYX), -1)
    b = b_MYX.astype(np.float32).reshape(len(b_MYX), -1)
    edges = np.linspace(0, side, BLOCKS + 1).round().astype(int)
    block = np.searchsorted(edges, np.arange(side), side="right") - 1
    index = (block[:, None] * BLOCKS + block[None]).ravel()
    counts = np.bincount(index, minlength=BLOCKS**2).astype(np.float32)
    out = np.empty((len(a), len(b)), np.float32)
    b0 = b - b.mean(1, keepdims=True)
    power_b = (b0 * b0).mean(1) + 1e-3
    for n, picture in enumerate(a):
        a0 = picture - picture.mean()
        power_a = float((a0 * a0).mean()) + 1e-3
        gain = np.clip((b0 @ a0) / len(a0) / power_b, 0.3, 3.0)
        error = (a0[None] - gain[:, None] * b0) ** 2
        blocks = np.stack([error[:, index == k].sum(1) / counts[k] for k in range(BLOCKS**2)], 1)
        seen = 0.15 * power_a + 16.0  # a codec's own errors and the rounding of flat pictures are below this
        out[n] = 1 / (1 + blocks.max(1) / seen)
    return out


def _windows(stored: Fingerprint, seen: Fingerprint) -> Iterator[tuple[float, bool, float, float]]:
    """Windows of the stored picture to try: whole, mirrored, then the best place of each crop, the likeliest first."""
    yield 1.0, False, 0, 0
    yield 1.0, True, 0, 0
    picked = np.linspace(0, len(seen.thumbs_NYX) - 1, min(3, len(seen.thumbs_NYX))).astype(int)
    tried = []
    for crop in CROPS[1:]:
        side = round(GRID * crop)
        for flipped in (False, True):
            small = _resized(seen.thumbs_NYX[picked][:, :, ::-1] if flipped else seen.thumbs_NYX[picked], side)
            b = small - small.mean((1, 2), keepdims=True)
            b /= np.sqrt((b * b).sum((1, 2), keepdims=True)) + 1e-3
            places = np.lib.stride_tricks.sliding_window_view(
                stored.thumbs_NYX.astype(np.float32), (side, side), (1, 2)
            )
            a = places - places.mean((-2, -1), keepdims=True)
            norm = np.sqrt((a * a).sum((-2, -1))) + 1e-3
            score = np.einsum("nijyx,myx->nmij", a, b, optimize=True) / norm[:, None]
            score_ij = score.max(0).mean(0)
            place = int(score_ij.argmax())
            tried.append((float(score_ij.max()), crop, flipped, *divmod(place, score_ij.shape[1])))
    for _, crop, flipped, row, column in sorted(tried, reverse=True)[:MOST_REFINED]:
        yield _refined(stored, seen.thumbs_NYX[picked], crop, flipped, row, column)


def _refined(
    stored: Fingerprint, shown_MYX: Array, crop: float, flipped: bool, row: float, column: float
) -> tuple[float, bool, float, float]:
    """The window nearby, to a quarter of a cell, in which stored and shown pictures are most alike."""
    b = _sampled(shown_MYX[:, :, ::-1] if flipped else shown_MYX, 0, 0, GRID)
    b = b - b.mean((1, 2), keepdims=True)
    b /= np.sqrt((b * b).sum((1, 2), keepdims=True)) + 1e-3
    best = (-1.0, crop, row, column)
    for size in crop * GRID + np.arange(-0.75, 0.76, 0.25):
        for top in row + np.arange(-0.75, 0.76, 0.25):
            for left in column + np.arange(-0.75, 0.76, 0.25):
                if top < 0 or left < 0 or max(top, left) + size > GRID:
                    continue
                a = _sampled(stored.thumbs_NYX, top, left, size)
                a = a - a.mean((1, 2), keepdims=True)
                a /= np.sqrt((a * a).sum((1, 2), keepdims=True)) + 1e-3
                score = float((a.reshape(len(a), -1) @ b.reshape(len(b), -1).T).max(0).mean())
                if score > best[0]:
                    best = (score, float(size) / GRID, float(top), float(left))
    return best[1], flipped, best[2], best[3]


def _aligned(
    stored: Fingerprint, seen: Fingerprint, crop: float, flipped: bool, row: float, column: float
) -> tuple[Array, Array]:
    """What both show of the window: as they are where it is the whole picture, else in a coarser grid."""
    shown = seen.thumbs_NYX[:, :, ::-1] if flipped else seen.thumbs_NYX
    if crop == 1:
        return stored.thumbs_NYX, shown
    return _sampled(stored.thumbs_NYX, row, column, GRID * crop), _sampled(shown, 0, 0, GRID)


def _sampled(thumbs_NYX: Array, top: float, left: float, size: float) -> NDArray[np.float32]:
    """Means of a window, at fractions of a cell, in a coarser grid [N, 12, 12]."""
    rows, columns = _cover(round(top, 2), round(size, 2)), _cover(round(left, 2), round(size, 2))
    return np.asarray(np.einsum("yr,nrc,xc->nyx", rows, thumbs_NYX.astype(np.float32), columns, optimize=True))


@lru_cache(maxsize=4096)
def _cover(start: float, size: float) -> NDArray[np.float32]:
    """[12, 24]: how much of each cell each part of a window covers."""
    edges = start + np.linspace(0, size, COARSE + 1)
    cells = np.arange(GRID)
    overlap = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    weights = np.clip(overlap, 0, None)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def _resized(thumbs_NYX: Array, side: int) -> NDArray[np.float32]:
    """Means over a coarser grid."""
    edges = np.linspace(0, GRID, side + 1)
    weights = np.zeros((side, GRID), np.float32)
    for k in range(side):
        low, high = edges[k], edges[k + 1]
        for cell in range(int(low), min(GRID, int(np.ceil(high)))):
            weights[k, cell] = min(high, cell + 1) - max(low, cell)
    weights /= weights.sum(1, keepdims=True)
    return np.asarray(np.einsum("yr,nrc,xc->nyx", weights, thumbs_NYX.astype(np.float32), weights, optimize=True))
