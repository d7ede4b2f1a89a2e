"""Finding a carrier in frames that were cut, scaled, mirrored, turned and coded again.

The reader keeps up to 64 frames, thinned evenly over the clip, as luma with a short side of 540. It assumes first that
nothing was cut; failing that it asks at which turn and size the frames repeat themselves as the tile does, and then
searches chip sizes, half-chip shifts and the eight orientations of the grid by correlation with the sync chips of luma
and Cr; the best are refined. Frames are not simply averaged: a coder keeps the mark in its key frames and loses it as
things move, while its errors repeat from frame to frame. So the frames are combined with the weights that make the sync
chips clearest against what all frames share (minimum variance, Capon 1969), which is worth up to 10 dB at CRF 30.

Covered: crops to half, any size, mirror images, turns by any angle (of frames that hold a tile twice), dropped and
repeated frames.
Of a video within a video the part is read (`trust/watermark/inset.py`).
Not covered: strong perspective, frames below 100 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import chain
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from sorano.trust.watermark.pattern import (
    CHIP,
    CHROMA_FLOOR,
    CHROMA_TILE,
    CODE_BITS,
    SHORT_CHIPS,
    TILE,
    SpreadingPattern,
    carrier,
    chip_size,
    chroma_carriers,
    folded,
    whitened,
)

Array = NDArray[Any]
T = TypeVar("T")
U = TypeVar("U")

THREADS = 2
SHORT = 540  # pixels along the short side of a kept frame, at most
MOST_FRAMES = 64  # kept at once; then every other one goes
LEVELS = (-1, 0, 1, 2)  # a kept frame twice as large, as it is, at a half, at a quarter
HELD_LEVEL = 0  # of whitened planes: at -1 those of a portrait clip would take 300 MB, from 1 on they are quickly made
SMALLEST, LARGEST = 2.8, 14.5  # pixels of a chip, were the short side 540: uncut video to half of a 256 pixel one
USUAL_SHAPE = 9 / 16  # of a video: its short side over its long one
STEP = 0.004  # of the chip size, between two that are tried
CHROMA_STEPS = 8  # of a kept chroma plane in one level of 255
WHITE_STEPS = 2048  # of a whitened value in one unit: they lie within 2.5 over the least deviation, 14 at most
WHITE_ZERO = 1 << 15  # what stands for 0: OpenCV samples uint16 twice as quickly as int16
TOGETHER = 4  # planes that are sampled as the channels of one picture, in a third more time than one of them
CHROMA_CHIP = CHIP * TILE / CHROMA_TILE / 2  # pixels of a chroma chip at the level of its luma
CHROMA_OF_RGB = np.array([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)  # ITU-R BT.601
WARPS = np.array([[[1, 0], [0, 0]], [[0, 0], [0, 1]], [[1, 0], [0, 1]], [[0, -1], [1, 0]], [[0, 1], [0, 0]]])
MOVES = 2 * (len(WARPS) + 2)  # neighbours of a grid: each warp and each shift, both ways
LEAST_SCORE = 5.0  # of a grid's score, before and after it is refined: below it no word was ever read (docs/LOG.md)
GUESS = 0.3  # of a chip's deviation is the mark, as long as nothing better is known
SHARES = (1.0, 1.0, 0.7)  # how strong a chip is in luma, Cb and Cr, for want of better knowledge
LOADING = 0.1  # how far the weights of frames are drawn towards an even share


@dataclass(frozen=True)
class Grid:
    """Where the chips lie in a kept frame: chip (row i, column j) has its centre at matrix_23 @ (j, i, 1) pixels.

    `turn` (0..7) is the orientation of the tile in it, `shift_2` the row and column at which the tile begins.
    """

    matrix_23: Array
    turn: int = 0
    shift_2: tuple[int, int] = (0, 0)
    score: float = 0.0  # of the sync chips, in deviations of chance

    @property
    def chip(self) -> float:
        """Pixels from chip to chip."""
        (a, b, _), (c, d, _) = self.matrix_23.tolist()
        return math.sqrt(abs(a * d - b * c))

    def chroma(self) -> Grid:
        """The grid of the chips in Cb and Cr, whose tile begins at the same place and is as large."""
        ratio = TILE / CHROMA_TILE
        down, right = (int(shift // ratio) for shift in self.shift_2)
        offset = [shift - 0.5 + (0.5 - whole) * ratio for shift, whole in zip(self.shift_2, (down, right), strict=True)]
        matrix = self.matrix_23.copy()
        matrix[:, 2] += matrix[:, :2] @ np.array(offset[::-1])
        matrix[:, :2] *= ratio
        return replace(self, matrix_23=matrix, shift_2=(down, right))


def turned(tile: Array, turn: int) -> Array:
    """One of the eight orientations of a square: mirrored for 4..7, then turned by quarters."""
    return np.rot90(tile[..., ::-1] if turn >= 4 else tile, turn % 4, (-2, -1))


def unturned(tile: Array, turn: int) -> Array:
    """The inverse of `turned`."""
    back = np.rot90(tile, -(turn % 4), (-2, -1))
    return back[..., ::-1] if turn >= 4 else back


class Kept:
    """Frames of a stream in constant memory: luma, short side 540, thinned evenly as more come."""

    def __init__(self) -> None:
        self.frames: list[NDArray[np.uint8]] = []
        self.colours: list[NDArray[np.uint8]] = []  # RGB of each, half as large; empty if luma is all
        self.times: list[int] = []  # the number of each frame in the stream
        self.stride = 1
        self.seen = 0
        self.size = (0, 0)  # height and width as they came
        self._white = WhitenedPlanes(self._white_of, TOGETHER)
        self._white_chroma = WhitenedPlanes(self._white_chroma_of, TOGETHER // 2)
        self._mean: dict[tuple[int, bool], Array] = {}

    def wants_next(self) -> bool:
        """Whether the next frame is one of those that are kept."""
        return self.seen % self.stride == 0

    def add(self, frame: Array) -> None:
        """The next frame of the stream: [H, W, 3] RGB or [H, W] luma, uint8."""
        import cv2

        if self.wants_next():
            self.size = self.size if self.frames else (int(frame.shape[0]), int(frame.shape[1]))
            if frame.shape[:2] != self.size:  # streams may change their size
                frame = cv2.resize(np.ascontiguousarray(frame), self.size[::-1], interpolation=cv2.INTER_AREA)
            self.frames.append(small_luma(frame))
            if frame.ndim == 3:
                self.colours.append(small_colour(frame, *self.frames[-1].shape))
            self.times.append(self.seen)
            self.forget()
            if len(self.frames) >= MOST_FRAMES:
                self.frames, self.colours, self.times = self.frames[::2], self.colours[::2], self.times[::2]
                self.stride *= 2
        self.seen += 1

    def forget(self) -> None:
        """Lets go of what was computed of the frames; it is made anew when it is asked for."""
        for made in (self._white, self._white_chroma, self._mean):
            made.clear()

    def cut(self, box: tuple[int, int, int, int]) -> Kept:
        """What is kept of a part of the frames: top, left, bottom and right, even, in pixels of a kept frame."""
        top, left, bottom, right = box
        pixels = min(self.size) / min(self.frames[0].shape)
        part = Kept()
        part.frames = [frame[top:bottom, left:right] for frame in self.frames]
        half = slice(top // 2, bottom // 2), slice(left // 2, right // 2)
        part.colours = [colour[half] for colour in self.colours]
        part.times, part.stride, part.seen = self.times, self.stride, self.seen
        part.size = (round((bottom - top) * pixels), round((right - left) * pixels))
        return part

    def _white_of(self, level: int, index: int) -> list[NDArray[np.uint16]]:
        return [_stepped(whitened(at_level(self.frames[index], level)))]

    def _white_chroma_of(self, level: int, index: int, which: slice = slice(None)) -> list[NDArray[np.uint16]]:
        planes = (at_level(plane, level) / CHROMA_STEPS for plane in chroma_of(self.colours[index], which))
        return [_stepped(whitened(plane, CHROMA_CHIP, CHROMA_FLOOR)) for plane in planes]

    def white(self, level: int, index: int) -> Array:
        """A whitened frame at half the size, `level` times, [H, W], float32."""
        return (self._white.of(level, index) - np.float32(WHITE_ZERO)) / np.float32(WHITE_STEPS)

    def folded_on(
        self, grid: Grid, level: int, side: int = TILE, some: Sequence[int] | None = None, *, chroma: bool = False
    ) -> Array:
        """The luma of every frame, or of some, folded on a grid: [T, side, side]; or Cb and Cr of each, in a row.

        `level` is that of the luma. Chroma lies at the size of the level above.
        """
        planes = self._white_chroma if chroma else self._white
        every = range(len(self.frames)) if some is None else some
        groups = [every[first : first + planes.frames] for first in range(0, len(every), planes.frames)]

        def fold(group: Sequence[int]) -> Array:
            return folded(chips_of(sampled(planes.group(level, group), grid, level + chroma)), side)

        tiles = np.concatenate([np.moveaxis(np.atleast_3d(tile), -1, 0) for tile in in_threads(fold, groups)])
        return np.asarray(tiles / np.float32(WHITE_STEPS), np.float32)

    def mean(self, level: int, *, red: bool = False) -> Array:
        """The mean of the whitened frames, or of their Cr, float32."""
        import cv2

        if (level, red) not in self._mean:
            planes = self._white_chroma if red else self._white
            every = range(len(self.frames))
            groups = [every[first : first + planes.frames] for first in range(0, len(every), planes.frames)]
            if level == HELD_LEVEL:  # made in threads; the sum is taken in order
                in_threads(lambda group: len(planes.group(level, group)), groups)
            whites = (white for group in groups for white in self._whites(level, group, red=red))
            first = next(whites)
            mean: Array = np.zeros(first.shape, np.float32)
            for white in chain([first], whites):
                cv2.accumulate(white, mean)
            mean -= len(every) * WHITE_ZERO
            mean /= len(every) * WHITE_STEPS
            self._mean[level, red] = mean
        return self._mean[level, red]

    def _whites(self, level: int, group: Sequence[int], *, red: bool) -> Iterator[NDArray[np.uint16]]:
        """The whitened luma or Cr of a few frames; no Cb is made where planes are not held."""
        import cv2

        if level != HELD_LEVEL:
            yield from (
                self._white_chroma_of(level, index, slice(1, 2))[0] if red else self._white.of(level, index)
                for index in group
            )
            return
        whites = np.atleast_3d((self._white_chroma if red else self._white).group(level, group))
        for channel in range(red, whites.shape[2], 1 + red):
            yield np.asarray(cv2.extractChannel(whites, channel), np.uint16)


class WhitenedPlanes:
    """Whitened planes of frames, made when they are asked for, a few frames as the channels of one picture.

    `make` gives the planes [H, W] of a frame at a level, uint16 in 1 / WHITE_STEPS around WHITE_ZERO.
    """

    def __init__(self, make: Callable[[int, int], list[NDArray[np.uint16]]], frames: int) -> None:
        self.frames = frames  # of a group
        self._make = make
        self._held: dict[tuple[int, int], tuple[NDArray[np.uint16], int]] = {}  # by level and frame: where it lies

    def clear(self) -> None:
        """Forgets all of them."""
        self._held.clear()

    def of(self, level: int, index: int) -> NDArray[np.uint16]:
        """The first plane of a frame, [H, W]."""
        return self._planes(level, index)[0]

    def group(self, level: int, group: Sequence[int]) -> NDArray[np.uint16]:
        """All planes of a few frames, [H, W, planes], or [H, W] where there is one."""
        import cv2

        width = TOGETHER // self.frames  # planes of a frame
        held = [self._held.get((level, index), (None, 0)) for index in group]
        one = held[0][0]
        is_whole = one is not None and (1 if one.ndim == 2 else one.shape[2]) == len(group) * width
        if one is not None and is_whole and all(a is one and place == n * width for n, (a, place) in enumerate(held)):
            return one
        planes = [plane for index in group for plane in self._planes(level, index)]
        made = planes[0] if len(planes) == 1 else np.asarray(cv2.merge(planes), np.uint16)
        if level == HELD_LEVEL:
            for number, index in enumerate(group):
                self._held[level, index] = made, number * width
        return made

    def _planes(self, level: int, index: int) -> list[NDArray[np.uint16]]:
        """The planes of one frame."""
        import cv2

        held, place = self._held.get((level, index), (None, 0))
        if held is None:
            return self._make(level, index)
        if held.ndim == 2:
            return [held]
        return [np.asarray(cv2.extractChannel(held, place + n), np.uint16) for n in range(TOGETHER // self.frames)]


def _stepped(white: Array) -> NDArray[np.uint16]:
    """Whitened values in 1 / WHITE_STEPS around WHITE_ZERO: half the memory, and OpenCV samples them as they are."""
    white *= WHITE_STEPS
    white += WHITE_ZERO + 0.5
    return white.astype(np.uint16)


def in_threads(function: Callable[[T], U], items: Sequence[T]) -> list[U]:
    """What a function makes of each item, in order, in two threads: OpenCV and NumPy let go of the interpreter."""
    if len(items) < 2:
        return [function(item) for item in items]
    size = -(-len(items) // (4 * THREADS))
    parts = [items[first : first + size] for first in range(0, len(items), size)]
    with ThreadPoolExecutor(THREADS) as pool:
        return [one for some in pool.map(lambda part: [function(item) for item in part], parts) for one in some]


def small_luma(frame: Array) -> NDArray[np.uint8]:
    """The luma of a frame, made smaller where its short side has more than 540 pixels."""
    import cv2

    luma = frame if frame.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    scale = SHORT / min(luma.shape)
    if scale >= 1:
        return np.asarray(luma, np.uint8)
    size = (max(1, round(luma.shape[1] * scale)), max(1, round(luma.shape[0] * scale)))
    return np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_AREA), np.uint8)


def small_colour(frame: Array, height: int, width: int) -> NDArray[np.uint8]:
    """An RGB frame at half the size of its luma, [height / 2, width / 2, 3]."""
    import cv2

    size = (max(1, round(width / 2)), max(1, round(height / 2)))
    return np.asarray(cv2.resize(np.ascontiguousarray(frame), size, interpolation=cv2.INTER_AREA), np.uint8)


def small_chroma(frame: Array, height: int, width: int) -> NDArray[np.int16]:
    """Cb and Cr [2, height / 2, width / 2] of an RGB frame, in eighths of a level."""
    return chroma_of(small_colour(frame, height, width))


def chroma_of(colour: Array, which: slice = slice(None)) -> NDArray[np.int16]:
    """Cb and Cr [2, height, width] of RGB, or one of them, in eighths of a level, 0 for grey."""
    import cv2

    red, green, blue = cv2.split(colour)
    planes = []
    for a, b, c in (CHROMA_OF_RGB[which] * CHROMA_STEPS).tolist():
        part = cv2.addWeighted(red, a, green, b, 0, dtype=cv2.CV_32F)
        planes.append(np.rint(cv2.addWeighted(part, 1, blue, c, 0, dtype=cv2.CV_32F)).astype(np.int16))
    return np.stack(planes)


def at_level(frame: Array, level: int) -> Array:
    """A kept plane at half the size, `level` times (-1: at twice the size), float32."""
    import cv2

    if level == 0:
        return frame.astype(np.float32)
    size = (max(1, round(frame.shape[1] // 2**level)), max(1, round(frame.shape[0] // 2**level)))
    how = cv2.INTER_AREA if level > 0 else cv2.INTER_CUBIC
    return cv2.resize(frame, size, interpolation=how).astype(np.float32)


def level_of(chip: float) -> int:
    """The level at which a chip of so many pixels (level 0) is nearest to its work size, from 2.8 to 5.6 pixels."""
    return max(LEVELS[0], min(LEVELS[-1], math.floor(math.log2(chip / SMALLEST + 1e-9))))


# Sampling and correlating.


def sampled(white: Array, grid: Grid, level: int, each: int = 2) -> Array:
    """A picture [H, W] or [H, W, C], sampled `each` times per chip and direction: [each * rows, each * columns].

    As many chips as it holds. What lies beyond it is 0, or WHITE_ZERO in whitened planes of uint16.
    """
    import cv2

    height, width = white.shape[:2]
    step = grid.matrix_23 / 2**level
    step[:, 2] += 0.5 / 2**level - 0.5  # pixel centres of the smaller picture
    chip = grid.chip / 2**level
    size = (each * (int(width / chip) + 1), each * (int(height / chip) + 1))
    step[:, :2] /= each
    step[:, 2] -= step[:, :2].sum(1) * (each - 1) / 2  # about the middle of the chip
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    beyond = (WHITE_ZERO,) * 4 if white.dtype == np.uint16 else (0,) * 4
    return cv2.warpAffine(white, step.astype(np.float32), size, flags=flags, borderValue=beyond)


def blurred_to_chips(white_YX: Array, grid: Grid, level: int) -> Array:
    """A picture in which each place is the mean of the four samples of a chip around it, so that one says the same."""
    import cv2

    out = white_YX
    for along in grid.matrix_23[:, :2].T / 2**level / 4:
        moves = [np.array([[1, 0, sign * along[0]], [0, 1, sign * along[1]]], np.float32) for sign in (-1, 1)]
        parts = [cv2.warpAffine(out, move, out.shape[::-1], flags=cv2.INTER_LINEAR) for move in moves]
        out = cv2.addWeighted(parts[0], 0.5, parts[1], 0.5, 0)
    return out


def chips_of(samples: Array) -> Array:
    """The mean of each chip's four samples, float32 or, of whitened planes, int16 around 0."""
    import cv2

    rows, columns = samples.shape[:2]
    chips: Array = cv2.resize(samples, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA)
    return (chips ^ np.uint16(WHITE_ZERO)).view(np.int16) if chips.dtype == np.uint16 else chips


def sync_pattern(source: SpreadingPattern) -> Array:
    """The sync chips of a plane in chips of luma, [64, 64]."""
    return np.asarray(np.kron(source.sync_tile(), np.ones((TILE // source.side,) * 2, np.float32)))


@lru_cache(maxsize=8)
def _templates(source: SpreadingPattern) -> Array:
    """Spectra of the eight orientations of the sync chips, [8, 64, 64, 2]."""
    import cv2

    tiles = (turned(sync_pattern(source), turn) for turn in range(8))
    return np.stack([cv2.dft(np.ascontiguousarray(tile), flags=cv2.DFT_COMPLEX_OUTPUT) for tile in tiles])


def correlated(pair: Array, source: SpreadingPattern, quarters: int = 4) -> Array:
    """Sync scores of two tiles [64, 64, 2] at every orientation and shift, in deviations of all of them.

    [2 * quarters, 64, 64, 2]: as many turns by quarters, then as many of the mirror image. The two are correlated as
    the parts of a complex one.
    """
    import cv2

    scores = np.empty((2 * quarters, TILE, TILE, 2), np.float32)
    spectrum = cv2.dft(np.ascontiguousarray(pair, np.float32))
    for number in range(2 * quarters):
        template = _templates(source)[number % quarters + 4 * (number // quarters)]
        both = cv2.mulSpectrums(spectrum, template, 0, conjB=True)
        scores[number] = cv2.dft(both, flags=cv2.DFT_INVERSE | cv2.DFT_SCALE)
    _, deviation = cv2.meanStdDev(scores.reshape(-1, TILE, 2))
    scores.reshape(-1, 2 * TILE)[:] /= np.tile(deviation.ravel().astype(np.float32) + np.float32(1e-9), TILE)
    return scores


def aligned(tiles: Array, grid: Grid) -> Array:
    """Tiles [..., 64, 64] as the key draws them: shifted back and turned back."""
    return unturned(np.roll(tiles, (-grid.shift_2[0], -grid.shift_2[1]), (-2, -1)), grid.turn)


def plain_grid(chip: float, height: int, width: int) -> Grid:
    """An upright grid of square chips, one of them at the middle of the frame."""
    y, x = (height / 2) % chip, (width / 2) % chip
    return Grid(np.array([[chip, 0, x], [0, chip, y]]))


@dataclass(frozen=True)
class SearchImage:
    """What a search looks at, at a level: whitened luma, and whitened Cr with its carrier where there is colour."""

    luma: Array
    red: Array | None
    source: SpreadingPattern
    red_source: SpreadingPattern
    level: int

    def tile(self, grid: Grid) -> Array:
        """Luma folded on a grid, [64, 64]."""
        return folded(chips_of(sampled(self.luma, grid, self.level)))

    def red_tile(self, grid: Grid) -> Array:
        """Cr folded on a grid, in chips of luma, [64, 64]."""
        return folded(chips_of(sampled(cast(Array, self.red), grid, self.level + 1)))

    @cached_property
    def coarse_red(self) -> Array:
        """Cr in which each pixel is the mean of what lies half a pixel, about a quarter of a chip, around it."""
        import cv2

        near = np.array([0.25, 0.5, 0.25], np.float32)
        return cv2.sepFilter2D(cast(Array, self.red), -1, near, near)

    def patterns(self) -> list[Array]:
        """The sync chips of luma, and of Cr if there is colour, in chips of luma."""
        planes = (self.source,) if self.red is None else (self.source, self.red_source)
        return [sync_pattern(plane) for plane in planes]


def best_in(picture: SearchImage, grid: Grid, quarters: int = 4) -> Grid:
    """The grid with the best of the four half-chip shifts, the best orientation (of as many quarters) and tile shift.

    By luma, by Cr, or by both: coders lose now the one and now the other.
    """
    import cv2

    samples = folded(sampled(picture.luma, grid, picture.level), 2 * TILE)
    around = cv2.copyMakeBorder(samples, 0, 1, 0, 1, cv2.BORDER_WRAP)
    pairs = around[:-1] + around[1:]
    chips = pairs[:, :-1] + pairs[:, 1:]  # those that begin at each of the samples
    # Those of two shifts to the right lie side by side.
    scores = [correlated(chips[down::2].reshape(TILE, TILE, 2), picture.source, quarters) for down in (0, 1)]
    if picture.red is not None:  # its chips are twice as large: a shift by half a chip of luma hardly matters
        tile = folded(sampled(picture.coarse_red, grid, picture.level + 1, 1))
        red = correlated(np.repeat(tile[..., None], 2, -1), picture.red_source, quarters)
        scores = [*scores, *((one + red) / np.sqrt(2, dtype=np.float32) for one in scores), red]
    best = max(scores, key=lambda one: float(one.max()))
    turn, y, x, right = np.unravel_index(int(best.argmax()), best.shape)
    matrix = grid.matrix_23.copy()
    number = next(number for number, one in enumerate(scores) if one is best)
    if number < 4:  # two of luma, two of both, then that of Cr alone
        matrix[:, 2] += matrix[:, :2] @ np.array([right, number % 2]) / 2
    score = float(best[turn, y, x, right])
    return Grid(matrix, int(turn % quarters + 4 * (turn // quarters)), (int(y), int(x)), score)


def refined(picture: SearchImage, grid: Grid, patterns: Sequence[Array]) -> Grid:
    """Climbs to the best stretch, turn, shear and shift near a grid; its tile shift and orientation stay.

    `patterns` are the tiles to match in luma and, if there are two, in Cr, in chips of luma.
    """
    wanted = [np.roll(turned(tile, grid.turn), grid.shift_2, (0, 1)) for tile in patterns]
    wanted = [tile / np.sqrt((tile * tile).sum()) for tile in wanted]
    planes = [(picture.luma, picture.level), (cast(Array, picture.red), picture.level + 1)][: len(wanted)]
    blurred = [(blurred_to_chips(plane, grid, level), level) for plane, level in planes]

    def score(matrix: Array) -> float:
        there = Grid(matrix)
        return clearness([folded(sampled(plane, there, level, 1)) for plane, level in blurred])

    def clearness(seen: Sequence[Array]) -> float:
        each = [
            float(np.vdot(a, b)) / (float(np.vdot(a, a)) / a.size + 1e-12) ** 0.5
            for a, b in zip(seen, wanted, strict=True)
        ]
        return sum(each) / len(each) ** 0.5

    height, width = picture.luma.shape
    level = picture.level
    reach = max(height, width) / 2 * 2**level / grid.chip  # chips from the middle to the edge
    middle = np.array([width, height]) / 2 * 2**level
    matrix = climbed(grid.matrix_23, score, lambda here, number, step: _moved(here, number, step, reach, middle))
    found = replace(grid, matrix_23=matrix)
    seen = [picture.tile(found), *([picture.red_tile(found)] if len(wanted) > 1 else [])]
    return replace(found, score=clearness(seen))


def climbed(matrix: Array, score: Callable[[Array], float], moved: Callable[[Array, int, float], Array]) -> Array:
    """Where no neighbour (of a matrix: number, step) has a better score; none is looked at twice from one place."""
    best = score(matrix)
    step = 0.5  # chips at the edge
    worse: set[int] = set()  # neighbours that were looked at from here
    while step > 0.04:
        better = False
        for number in range(MOVES):
            while number not in worse:
                if (value := score(near := moved(matrix, number, step))) > best + 1e-6:
                    matrix, best, better = near, value, True
                    worse.clear()
                else:
                    worse.add(number)
        if not better:
            step /= 2
            worse.clear()
    return matrix


def _moved(matrix: Array, number: int, step: float, reach: float, middle: Array) -> Array:
    """The neighbour of a grid in one of `MOVES` directions: stretched, turned, sheared about the middle, or shifted."""
    sign = 1 - 2 * (number % 2)
    if number >= 2 * len(WARPS):
        moved = matrix.copy()
        moved[:, 2] += sign * step / 2 * matrix[:, number // 2 - len(WARPS)]
        return moved
    warp = np.eye(2) + sign * step / reach * WARPS[number // 2]
    moved = warp @ matrix
    moved[:, 2] = warp @ (matrix[:, 2] - middle) + middle
    return moved


# What a search looks at.


def usual_grid(kept: Kept) -> Grid:
    """The grid of a clip that was not cut."""
    chip = chip_size(*kept.size) * min(kept.frames[0].shape) / min(kept.size)
    return Grid(np.array([[chip, 0, chip / 2 - 0.5], [0, chip, chip / 2 - 0.5]]))


def likely_chips(kept: Kept) -> list[float]:
    """Chip sizes of clips that were marked at 405 lines or more and fill the height, the length or the width."""
    height, width = kept.frames[0].shape
    sides = [min(height, width), max(height, width) * USUAL_SHAPE, *([width * USUAL_SHAPE] if height > width else [])]
    return [side / SHORT_CHIPS for side in sides]


def near_chips(chip: float) -> Array:
    """Chip sizes around one, in case a few rows were lost."""
    return np.asarray(chip * np.exp(np.arange(-5, 6) * STEP))


def pictures(kept: Kept, key: bytes, level: int) -> list[SearchImage]:
    """What a search looks at: the mean of the frames, and the first one, which coders treat best."""
    source, red_source = carrier(key), chroma_carriers(key)[1]
    first = kept.white(level, 0)
    red = kept.mean(level, red=True) if kept.colours else None
    found = [SearchImage(kept.mean(level), red, source, red_source, level)]
    return found if len(kept.frames) == 1 else [*found, SearchImage(first, None, source, red_source, level)]


def pictures_at(kept: Kept, key: bytes, levels: Sequence[int]) -> dict[int, list[SearchImage]]:
    """`pictures` of some levels, made side by side."""
    return dict(zip(levels, in_threads(lambda level: pictures(kept, key, level), levels), strict=True))


def all_chips(kept: Kept) -> Array:
    """Every chip size that is tried, in pixels of a kept frame."""
    return SMALLEST * np.exp(np.arange(0, np.log(LARGEST / SMALLEST), STEP)) * min(kept.frames[0].shape) / SHORT


def chips_within(kept: Kept) -> Array:
    """The chip sizes that are tried in a video within a video: what it shows was not made smaller than the part is."""
    chips = all_chips(kept)
    return np.asarray(chips[chips > 0.95 * min(likely_chips(kept))])


def search(kept: Kept, key: bytes, chips: Array, most: int = 5, quarters: int = 4) -> Iterator[tuple[Grid, int]]:
    """The best grids over some chip sizes, the best first, refined; each with its level.

    `quarters` of 1: upright or mirrored.
    """
    height, width = kept.frames[0].shape
    seen = pictures_at(kept, key, sorted({level_of(chip) for chip in chips}))

    def tried(chip: float) -> list[tuple[Grid, SearchImage]]:
        grid = plain_grid(float(chip), height, width)
        return [(best_in(picture, grid, quarters), picture) for picture in seen[level_of(chip)]]

    found = [one for some in in_threads(tried, list(chips)) for one in some]
    found.sort(key=lambda item: -item[0].score)
    good: list[tuple[Grid, SearchImage]] = []
    for grid, picture in found:
        if len(good) < most and not any(other is picture and _alike(grid, one) for one, other in good):
            good.append((grid, picture))
    yield from _refined_by_twos(good)


def _refined_by_twos(good: list[tuple[Grid, SearchImage]]) -> Iterator[tuple[Grid, int]]:
    """Grids, refined, each with its level: two at a time, so that both threads work and few are refined in vain."""
    good = [one for one in good if one[0].score >= LEAST_SCORE]
    for first in range(0, len(good), THREADS):
        some = good[first : first + THREADS]
        for grid, level in in_threads(lambda one: (refined(one[1], one[0], one[1].patterns()), one[1].level), some):
            if grid.score >= LEAST_SCORE:
                yield grid, level


def repeated(picture: Array, most: int = 12) -> list[tuple[float, float]]:
    """Tile sizes (pixels) and angles (degrees, within 45) at which a picture repeats itself, the likely first.

    The tile repeats along two directions at right angles, so its size and turn show as a pair of peaks in the picture's
    correlation with itself (Kutter, SPIE 3528, 1998), with no need to try turns one by one.
    """
    import cv2

    height, width = picture.shape
    reach = int(min(1.5 * height, 1.5 * width, 0.9 * max(height, width), 2 * TILE * SMALLEST))
    size = [cv2.getOptimalDFTSize(side + reach) for side in (height, width)]
    alike = np.zeros(size, np.float32)
    alike[:height, :width] = picture
    cv2.dft(alike, alike)
    cv2.mulSpectrums(alike, alike, 0, alike, conjB=True)
    cv2.dft(alike, alike, cv2.DFT_INVERSE | cv2.DFT_SCALE | cv2.DFT_REAL_OUTPUT)
    near = np.arange(-reach, reach + 1)
    alike = alike[near[:, None] % size[0], near % size[1]]
    rows, columns = (np.maximum(side - np.abs(near), 0).astype(np.float32) for side in (height, width))
    alike /= np.sqrt(rows[:, None] * columns + np.float32(0.02 * height * width))
    alike -= cv2.GaussianBlur(alike, (0, 0), 6)
    both = cv2.GaussianBlur(alike + np.rot90(alike), (0, 0), 1)
    length = np.hypot(near[:, None], near)
    wanted = (length >= TILE * SMALLEST) & (length <= reach) & (near > 0) & (np.abs(near)[:, None] <= near)
    peaks = (both >= cv2.dilate(both, np.ones((5, 5), np.uint8))) & wanted
    rows, columns = np.nonzero(peaks)
    order = np.argsort(-both[rows, columns])[:most]
    found = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        down, right = near[row] + _vertex(both[:, column], row), near[column] + _vertex(both[row], column)
        found.append((float(np.hypot(down, right)), float(np.degrees(np.arctan2(down, right)))))
    return found


def _vertex(values: Array, at: int) -> float:
    """Where between its neighbours a peak lies, by a parabola: -0.5..0.5."""
    if not 0 < at < len(values) - 1:
        return 0.0
    before, here, after = (float(value) for value in values[at - 1 : at + 2])
    bend = before - 2 * here + after
    return float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0


def search_turned(kept: Kept, key: bytes, most: int = 4) -> Iterator[tuple[Grid, int]]:
    """The best grids among those at which the frames repeat themselves, refined: turned by any angle."""
    height, width = kept.frames[0].shape
    usual = level_of(SMALLEST * min(height, width) / SHORT + 1e-6)
    seen = pictures_at(kept, key, (usual, usual + 1))

    def tried(picture: SearchImage) -> list[tuple[Grid, SearchImage]]:
        grids = []
        for tile, angle in repeated(picture.luma):
            plain = plain_grid(tile / TILE * 2**picture.level, height, width)
            grids.append(_rotated(plain, angle, height, width))
        return [(best_in(picture, grid), picture) for grid in grids]

    found = [one for some in in_threads(tried, [one for some in seen.values() for one in some]) for one in some]
    found.sort(key=lambda item: -item[0].score)
    yield from _refined_by_twos(found[:most])


def _alike(a: Grid, b: Grid) -> bool:
    """Whether two grids are neighbours in the search, of which refining makes one."""
    return a.turn == b.turn and abs(np.log(a.chip / b.chip)) < 3 * STEP


def _rotated(grid: Grid, degrees: float, height: int, width: int) -> Grid:
    if degrees == 0:
        return grid
    angle = np.deg2rad(degrees)
    warp = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([width, height]) / 2
    matrix = warp @ grid.matrix_23
    matrix[:, 2] = warp @ (grid.matrix_23[:, 2] - middle) + middle
    return replace(grid, matrix_23=matrix)


# Combining frames.


def tiles_of(kept: Kept, grid: Grid, level: int, some: Sequence[int] | None = None) -> Array:
    """Each kept frame, or some of them, folded on the grid, as the key draws it: [T, 64, 64]."""
    return np.asarray(aligned(kept.folded_on(grid, level, some=some), grid), np.float32)


def chroma_tiles_of(kept: Kept, grid: Grid, level: int, some: Sequence[int] | None = None) -> Array:
    """Cb and Cr of each kept frame, or of some of them, folded as the key draws them: [2, T, 32, 32]."""
    own = grid.chroma()
    tiles = kept.folded_on(own, level, CHROMA_TILE, some, chroma=True).reshape(-1, 2, CHROMA_TILE, CHROMA_TILE)
    return np.asarray(aligned(np.swapaxes(tiles, 0, 1), own), np.float32)


@dataclass(frozen=True)
class Seen:
    """What the frames show on a grid: of each plane its carrier and tiles [T, side, side]."""

    planes: tuple[tuple[SpreadingPattern, Array], ...]

    def soft_values(self, rounds: int = 2) -> Array:
        """Soft values of the code bits, [ways, 1024]: several ways to combine frames and planes.

        The weights of frames are first those that make the sync chips clearest, or the first frame alone, which coders
        treat best; then those that suit what the bits seem to be: what agrees with the rest counts more.
        """
        shares = zip(self.planes, SHARES, strict=False)
        first = [source.soft_bits(tiles[0]) * share for (source, tiles), share in shares]
        starts = [self._soft(np.zeros(CODE_BITS, np.float32)), np.asarray(sum(first), np.float32)]
        ways = []
        for soft in starts:
            scaled = soft / max(float(soft.std()), 1e-9)
            for _ in range(rounds):
                scaled = self._soft(np.tanh(np.clip(scaled, -10, 10)).astype(np.float32))
            ways.append(scaled)
        return np.stack([*ways, *starts])

    def _soft(self, belief: Array) -> Array:
        """The bits of the planes together, by weights that suit a belief."""
        parts = [source.soft_bits(weighted(tiles, source, belief)) for source, tiles in self.planes]
        return np.asarray(sum(parts), np.float32)

    def agreement(self, word: Array, frames: Array | slice = slice(None)) -> float:
        """How clearly some of the frames show a code word, in deviations of chance."""
        level = (1 - 2.0 * np.asarray(word)).astype(np.float32)
        found = [(weighted(tiles[frames], source, level) * source.tile(word)).ravel() for source, tiles in self.planes]
        every = np.concatenate(found)
        return float(every.sum() / (np.sqrt((every * every).sum()) + 1e-12))


def seen_in(kept: Kept, key: bytes, grid: Grid, level: int, some: Sequence[int] | None = None) -> Seen:
    """What kept frames, or some of them, show on a grid under a key."""
    planes = [(carrier(key), tiles_of(kept, grid, level, some))]
    if kept.colours:
        planes += zip(chroma_carriers(key), chroma_tiles_of(kept, grid, level, some), strict=True)
    return Seen(tuple(planes))


def weighted(tiles_T: Array, source: SpreadingPattern, belief_N: Array) -> Array:
    """The sum of frames, [side, side], by weights that suit the sync chips and beliefs (-1..1) about the bits."""
    known = source.sign_C * np.append(belief_N, 1.0)[source.bit_C]
    weight = weights(tiles_T, known.reshape(source.side, source.side).astype(np.float32))
    return combined(tiles_T, weight)


def weights(tiles_T: Array, pattern: Array) -> Array:
    """Weights of frames [T] that make a known pattern clearest against what the frames share (minimum variance).

    So scaled that the weighted sum of a chip is its mean, divided by its variance: what log-likelihoods are made of.
    """
    flat = tiles_T.reshape(len(tiles_T), -1)
    energy = float(np.square(pattern).sum())
    if energy > 0:
        response = (flat @ pattern.ravel()).astype(np.float64) / energy
    else:  # nothing is known: as if all frames held it alike
        response = np.full(len(flat), GUESS * float(np.sqrt((flat * flat).mean())), np.float64)
    shared = (flat @ flat.T).astype(np.float64) / flat.shape[1]
    load = LOADING * np.trace(shared) / len(flat) + 1e-12
    return np.asarray(np.linalg.solve(shared + load * np.eye(len(flat)), response))


def combined(tiles_T: Array, weight_T: Array) -> Array:
    """The weighted sum of frames, [side, side]."""
    return np.asarray(np.tensordot(weight_T, tiles_T, 1), np.float32)


def score_of(tile_YX: Array, pattern: Array) -> float:
    """How clearly a tile shows a known pattern, in deviations of chance."""
    flat = tile_YX.ravel()
    used = pattern.ravel() != 0
    spread = float(np.sqrt((flat[used] ** 2).mean() * used.sum())) + 1e-12
    return float(flat @ pattern.ravel()) / spread
