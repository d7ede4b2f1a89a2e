"""Finding a carrier in frames that were cut, scaled, mirrored, turned and coded again.

The reader keeps up to 64 frames, thinned evenly over the clip, as luma with a short side of 540. It assumes first that
nothing was cut; failing that it asks at which turn and size the frames repeat themselves as the tile does, and then
searches chip sizes, half-chip shifts and the eight orientations of the grid by correlation with the sync chips of luma
and Cr; the best are refined. Frames are not simply averaged: a coder keeps the mark in its key frames and loses it as
things move, while its errors repeat from frame to frame. So the frames are combined with the weights that make the sync
chips clearest against what all frames share (minimum variance, Capon 1969), which is worth up to 10 dB at CRF 30.

Covered: crops to half, any size, mirror images, turns by any angle (of frames that hold a tile twice), dropped and
repeated frames.
Of a video within a video the part is read (`trust/inset.py`).
Not covered: strong perspective, frames below 100 pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from sorano.trust.carrier import (
    CHIP,
    CHROMA_FLOOR,
    CHROMA_TILE,
    CODE_BITS,
    SHORT_CHIPS,
    TILE,
    Carrier,
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
SMALLEST, LARGEST = 2.8, 14.5  # pixels of a chip, were the short side 540: uncut video to half of a 256 pixel one
USUAL_SHAPE = 9 / 16  # of a video: its short side over its long one
STEP = 0.004  # of the chip size, between two that are tried
CHROMA_STEPS = 8  # of a kept chroma plane in one level of 255
WHITE_STEPS = 2048  # of a whitened value in one unit: they lie within 2.5 over the least deviation, 14 at most
CHROMA_CHIP = CHIP * TILE / CHROMA_TILE / 2  # pixels of a chroma chip at the level of its luma
CHROMA_OF_RGB = np.array([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)  # ITU-R BT.601
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
        return float(np.sqrt(abs(np.linalg.det(self.matrix_23[:, :2]))))

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
        self._white: dict[int, list[Array]] = {}
        self._white_chroma: dict[int, list[Array]] = {}
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

    def white(self, level: int, index: int) -> Array:
        """A whitened frame at half the size, `level` times, in 1 / WHITE_STEPS, int16."""
        if level < 0:
            return _white_of(self.frames[index], level)
        if level not in self._white:
            self._white[level] = in_threads(lambda frame: _white_of(frame, level), self.frames)
        return self._white[level][index]

    def white_chroma(self, level: int, index: int) -> Array:
        """Cb and Cr of a frame, whitened, [2, height, width], at the size that goes with a level of the luma."""
        if level < 0:
            return _white_chroma_of(self.colours[index], level)
        if level not in self._white_chroma:
            self._white_chroma[level] = in_threads(lambda colour: _white_chroma_of(colour, level), self.colours)
        return self._white_chroma[level][index]

    def each(self, white: Callable[[int, int], Array], level: int, function: Callable[[Array], U]) -> list[U]:
        """What a function makes of `white` (or `white_chroma`) of every frame.

        Frames at twice their size (level -1) are not kept: all of a portrait clip would take 300 MB.
        """
        white(level, 0)  # makes what is kept, once, before the threads ask for it
        return in_threads(lambda index: function(white(level, index)), range(len(self.frames)))

    def mean(self, level: int, *, red: bool = False) -> Array:
        """The mean of the whitened frames, or of their Cr, float32."""
        if (level, red) not in self._mean:
            total: Any = np.float32(0)
            for index in range(len(self.frames)):
                one = self.white_chroma(level, index)[1] if red else self.white(level, index)
                total = total + one.astype(np.float32)
            self._mean[level, red] = np.asarray(total / np.float32(len(self.frames) * WHITE_STEPS))
        return self._mean[level, red]


def _white_of(frame: Array, level: int) -> NDArray[np.int16]:
    return _stepped(whitened(at_level(frame, level)))


def _white_chroma_of(colour: Array, level: int) -> NDArray[np.int16]:
    planes = (at_level(plane, level) / CHROMA_STEPS for plane in chroma_of(colour))
    return np.stack([_stepped(whitened(plane, CHROMA_CHIP, CHROMA_FLOOR)) for plane in planes])


def _stepped(white: Array) -> NDArray[np.int16]:
    """Whitened values in 1 / WHITE_STEPS: half the memory, and OpenCV samples them as they are."""
    return np.asarray(np.rint(white * np.float32(WHITE_STEPS)), np.int16)


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


def chroma_of(colour: Array) -> NDArray[np.int16]:
    """Cb and Cr [2, height, width] of RGB, in eighths of a level, 0 for grey."""
    import cv2

    both = cv2.transform(colour.astype(np.float32), CHROMA_OF_RGB * CHROMA_STEPS)
    return np.ascontiguousarray(np.moveaxis(np.rint(both).astype(np.int16), -1, 0))


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
    return int(np.clip(np.floor(np.log2(chip / SMALLEST + 1e-9)), LEVELS[0], LEVELS[-1]))


# Sampling and correlating.


def sampled(white_YX: Array, grid: Grid, level: int) -> Array:
    """The picture at half-chip spacing on the grid, [2 rows, 2 columns]: as many as the frame holds."""
    import cv2

    height, width = white_YX.shape
    matrix = grid.matrix_23 / 2**level
    matrix[:, 2] += 0.5 / 2**level - 0.5  # pixel centres of the smaller picture
    chip = grid.chip / 2**level
    rows, columns = int(height / chip) + 1, int(width / chip) + 1
    half = matrix.copy()
    half[:, :2] /= 2
    half[:, 2] -= half[:, :2].sum(1) / 2  # samples at -1/4 and +1/4 chip
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(white_YX, half.astype(np.float32), (2 * columns, 2 * rows), flags=flags)


def chips_of(samples_YX: Array) -> Array:
    """The mean of each chip's four samples."""
    import cv2

    rows, columns = samples_YX.shape
    return cv2.resize(samples_YX, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA)


def sync_pattern(source: Carrier) -> Array:
    """The sync chips of a plane in chips of luma, [64, 64]."""
    return np.asarray(np.kron(source.sync_tile(), np.ones((TILE // source.side,) * 2, np.float32)))


@lru_cache(maxsize=8)
def _templates(source: Carrier) -> Array:
    """Conjugated spectra of the eight orientations of the sync chips, two and two as a complex pair, [4, 64, 64]."""
    spectra = [np.conj(np.fft.fft2(turned(sync_pattern(source), turn))) for turn in range(8)]
    return np.stack([spectra[turn] + 1j * spectra[turn + 4] for turn in range(4)]).astype(np.complex64)


def correlated(tiles: Array, source: Carrier, quarters: int = 4) -> Array:
    """Sync scores of tiles [B, 64, 64] at every orientation and shift, in deviations of all of them.

    [B, 2 * quarters, 64, 64]: as many turns by quarters, then as many of the mirror image.
    """
    pairs = np.fft.ifft2(np.fft.fft2(tiles)[:, None] * _templates(source)[:quarters])
    scores = np.concatenate([pairs.real, pairs.imag], 1)
    return np.asarray(scores / (scores.std((1, 2, 3), keepdims=True) + 1e-9), np.float32)


def aligned(tiles: Array, grid: Grid) -> Array:
    """Tiles [..., 64, 64] as the key draws them: shifted back and turned back."""
    return unturned(np.roll(tiles, (-grid.shift_2[0], -grid.shift_2[1]), (-2, -1)), grid.turn)


def plain_grid(chip: float, height: int, width: int) -> Grid:
    """An upright grid of square chips, one of them at the middle of the frame."""
    y, x = (height / 2) % chip, (width / 2) % chip
    return Grid(np.array([[chip, 0, x], [0, chip, y]]))


@dataclass(frozen=True)
class Picture:
    """What a search looks at, at a level: whitened luma, and whitened Cr with its carrier where there is colour."""

    luma: Array
    red: Array | None
    source: Carrier
    red_source: Carrier
    level: int

    def tile(self, grid: Grid) -> Array:
        """Luma folded on a grid, [64, 64]."""
        return folded(chips_of(sampled(self.luma, grid, self.level)))

    def red_tile(self, grid: Grid) -> Array:
        """Cr folded on a grid, in chips of luma, [64, 64]."""
        return folded(chips_of(sampled(cast(Array, self.red), grid, self.level + 1)))

    def patterns(self) -> list[Array]:
        """The sync chips of luma, and of Cr if there is colour, in chips of luma."""
        planes = (self.source,) if self.red is None else (self.source, self.red_source)
        return [sync_pattern(plane) for plane in planes]


def best_in(picture: Picture, grid: Grid, quarters: int = 4) -> Grid:
    """The grid with the best of the four half-chip shifts, the best orientation (of as many quarters) and tile shift.

    By luma, by Cr, or by both: coders lose now the one and now the other.
    """
    samples = sampled(picture.luma, grid, picture.level)
    phases = []
    for down in (0, 1):
        for right in (0, 1):
            part = samples[down : samples.shape[0] - down, right : samples.shape[1] - right]
            phases.append(folded(chips_of(part[: part.shape[0] // 2 * 2, : part.shape[1] // 2 * 2])))
    scores = correlated(np.stack(phases), picture.source, quarters)
    if picture.red is not None:  # its chips are twice as large: a shift by half a chip of luma hardly matters
        red = correlated(picture.red_tile(grid)[None], picture.red_source, quarters)
        scores = np.concatenate([scores, (scores + red) / np.sqrt(2, dtype=np.float32), red])
    which, turn, y, x = np.unravel_index(int(scores.argmax()), scores.shape)
    score = float(scores[which, turn, y, x])
    phase = int(which) % 4  # four of luma, four of both, then the only one of Cr
    matrix = grid.matrix_23.copy()
    matrix[:, 2] += matrix[:, :2] @ np.array([phase % 2, phase // 2]) / 2
    return Grid(matrix, int(turn % quarters + 4 * (turn // quarters)), (int(y), int(x)), score)


def refined(picture: Picture, grid: Grid, patterns: Sequence[Array]) -> Grid:
    """Climbs to the best stretch, turn, shear and shift near a grid; its tile shift and orientation stay.

    `patterns` are the tiles to match in luma and, if there are two, in Cr, in chips of luma.
    """
    wanted = [np.roll(turned(tile, grid.turn), grid.shift_2, (0, 1)) for tile in patterns]
    wanted = [tile / np.sqrt((tile * tile).sum()) for tile in wanted]

    def score(matrix: Array) -> float:
        there = replace(grid, matrix_23=matrix)
        seen = [picture.tile(there), *([picture.red_tile(there)] if len(wanted) > 1 else [])]
        each = [float((a * b).sum() / (np.sqrt((a * a).mean()) + 1e-9)) for a, b in zip(seen, wanted, strict=True)]
        return sum(each) / len(each) ** 0.5

    height, width = picture.luma.shape
    level = picture.level
    reach = max(height, width) / 2 * 2**level / grid.chip  # chips from the middle to the edge
    middle = np.array([width, height]) / 2 * 2**level
    matrix, best = grid.matrix_23, score(grid.matrix_23)
    step = 0.5  # chips at the edge
    while step > 0.04:
        better = False
        for move in _moves(matrix, step, reach, middle):
            value = score(move)
            if value > best + 1e-6:
                matrix, best, better = move, value, True
        if not better:
            step /= 2
    return replace(grid, matrix_23=matrix, score=best)


def _moves(matrix: Array, step: float, reach: float, middle: Array) -> Iterator[Array]:
    """Neighbours of a grid: stretched, turned and sheared about the middle of the frame, and shifted."""
    share = step / reach
    for change in ([[1, 0], [0, 0]], [[0, 0], [0, 1]], [[1, 0], [0, 1]], [[0, -1], [1, 0]], [[0, 1], [0, 0]]):
        for sign in (share, -share):
            warp = np.eye(2) + sign * np.array(change)
            moved = warp @ matrix
            moved[:, 2] = warp @ (matrix[:, 2] - middle) + middle
            yield moved
    for axis in (0, 1):
        for sign in (step / 2, -step / 2):
            moved = matrix.copy()
            moved[:, 2] += sign * matrix[:, axis]
            yield moved


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


def pictures(kept: Kept, key: bytes, level: int) -> list[Picture]:
    """What a search looks at: the mean of the frames, and the first one, which coders treat best."""
    source, red_source = carrier(key), chroma_carriers(key)[1]
    first = kept.white(level, 0).astype(np.float32) / np.float32(WHITE_STEPS)
    red = kept.mean(level, red=True) if kept.colours else None
    found = [Picture(kept.mean(level), red, source, red_source, level)]
    return found if len(kept.frames) == 1 else [*found, Picture(first, None, source, red_source, level)]


def all_chips(kept: Kept) -> Array:
    """Every chip size that is tried, in pixels of a kept frame."""
    return SMALLEST * np.exp(np.arange(0, np.log(LARGEST / SMALLEST), STEP)) * min(kept.frames[0].shape) / SHORT


def search(kept: Kept, key: bytes, chips: Array, most: int = 8, quarters: int = 4) -> Iterator[tuple[Grid, int]]:
    """The best grids over some chip sizes, the best first, refined; each with its level.

    `quarters` of 1: upright or mirrored.
    """
    height, width = kept.frames[0].shape
    seen = {level: pictures(kept, key, level) for level in {level_of(chip) for chip in chips}}

    def tried(chip: float) -> list[tuple[Grid, Picture]]:
        grid = plain_grid(float(chip), height, width)
        return [(best_in(picture, grid, quarters), picture) for picture in seen[level_of(chip)]]

    found = [one for some in in_threads(tried, list(chips)) for one in some]
    found.sort(key=lambda item: -item[0].score)
    good: list[tuple[Grid, Picture]] = []
    for grid, picture in found:
        if len(good) < most and not any(other is picture and _alike(grid, one) for one, other in good):
            good.append((grid, picture))
            yield refined(picture, grid, picture.patterns()), picture.level


def repeated(picture: Array, most: int = 12) -> list[tuple[float, float]]:
    """Tile sizes (pixels) and angles (degrees, within 45) at which a picture repeats itself, the likely first.

    The tile repeats along two directions at right angles, so its size and turn show as a pair of peaks in the picture's
    correlation with itself (Kutter, SPIE 3528, 1998), with no need to try turns one by one.
    """
    import cv2

    height, width = picture.shape
    reach = int(min(1.5 * height, 1.5 * width, 0.9 * max(height, width), 2 * TILE * SMALLEST))
    size = [cv2.getOptimalDFTSize(side + reach) for side in (height, width)]
    spectrum = np.fft.rfft2(picture.astype(np.float32), size)
    alike = np.fft.irfft2(np.abs(spectrum) ** 2, size)
    near = np.arange(-reach, reach + 1)
    pairs = np.maximum(height - np.abs(near), 0)[:, None] * np.maximum(width - np.abs(near), 0)
    alike = (alike[near[:, None] % size[0], near % size[1]] / np.sqrt(pairs + 0.02 * height * width)).astype(np.float32)
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
    found = []
    for level in (usual, usual + 1):
        for picture in pictures(kept, key, level):
            for tile, angle in repeated(picture.luma):
                grid = _rotated(plain_grid(tile / TILE * 2**level, height, width), angle, height, width)
                found.append((best_in(picture, grid), picture))
    found.sort(key=lambda item: -item[0].score)
    for grid, picture in found[:most]:
        yield refined(picture, grid, picture.patterns()), picture.level


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


def tiles_of(kept: Kept, grid: Grid, level: int) -> Array:
    """Each kept frame folded on the grid, as the key draws it: [T, 64, 64]."""
    tiles = kept.each(kept.white, level, lambda white: folded(chips_of(sampled(white, grid, level))))
    return np.asarray(aligned(np.stack(tiles) / np.float32(WHITE_STEPS), grid), np.float32)


def chroma_tiles_of(kept: Kept, grid: Grid, level: int) -> Array:
    """Cb and Cr of each kept frame folded on the grid, as the key draws them: [2, T, 48, 48]."""
    own = grid.chroma()

    def tile_pair(pair: Array) -> list[Array]:
        return [folded(chips_of(sampled(plane, own, level + 1)), CHROMA_TILE) for plane in pair]

    tiles = np.array(kept.each(kept.white_chroma, level, tile_pair), np.float32) / np.float32(WHITE_STEPS)
    return np.asarray(aligned(np.swapaxes(tiles, 0, 1), own), np.float32)


@dataclass(frozen=True)
class Seen:
    """What the frames show on a grid: of each plane its carrier and tiles [T, side, side]."""

    planes: tuple[tuple[Carrier, Array], ...]

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


def seen_in(kept: Kept, key: bytes, grid: Grid, level: int) -> Seen:
    """What kept frames show on a grid under a key."""
    planes = [(carrier(key), tiles_of(kept, grid, level))]
    if kept.colours:
        planes += zip(chroma_carriers(key), chroma_tiles_of(kept, grid, level), strict=True)
    return Seen(tuple(planes))


def weighted(tiles_T: Array, source: Carrier, belief_N: Array) -> Array:
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
