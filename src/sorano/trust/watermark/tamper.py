"""Where a marked video was covered: a map of where the mark is missing, with times and boxes.

    found = detect(chunks, fps=24)
    tampered = tamper_map(chunks_again, found)
    tampered.regions          # (start_s, end_s, box, score), empty where nothing was found
    tampered.reach            # the smallest share of the frame that would have been found; None: the map is not sure

What is put over a marked video, such as another face, does not carry the mark. Windows of two seconds, one second
apart, are tested. The frames of a window are combined as the search does (`trust/watermark/search.py`), and the
agreement of the chips with the carriers in luma, Cb and Cr is added up over blocks of 8 x 8 chips of luma.

Two hypotheses are compared for squares of several sizes at every place. *Missing*: the agreement is zero but for
chance. *Intact*: it is what a small regression expects of blocks with this detail, band energy, motion and luminance in
this clip at this coding, times a factor that is drawn from a prior as wide as squares of this window differ, because
coders lose the mark in patches. A block in which the coder left nothing in the band of the chips is expected to show
nothing, and decides nothing. The regression, the prior and the threshold are fitted by benchmarks/tamper.py to honest
copies of clips of twelve kinds, and are kept in tamper_calibration.json; `score` of a region is log10 of the likelihood
ratio, less that of the number of places it could have lain in.

Where the coding left too little, the evidence of a region cannot pass the threshold and nothing is reported: `reach`
says how large a hole would have been found at most places of a slot. Where it is None, the map is not sure, and the
absence of regions means nothing.

In a video within a video, what lies around the marked part is not looked at, and shares are of the part.

Covered: regions of some percent of the frame that are there for most of two seconds, in video whose mark is read.
Not covered: who did it or why (captions, logos and black bars are holes too); small or brief changes; flat ground that
was put in (nothing tells it from ground that the coder flattened); changes that keep the mark, such as dubbing, colour,
or cutting frames out; a forger who knows the carrier key and marks what is put in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sorano.trust.watermark import search
from sorano.trust.watermark.detect import Detection
from sorano.trust.watermark.pattern import (
    CHIP,
    CHROMA_FLOOR,
    CHROMA_TILE,
    FLOOR,
    TILE,
    banded,
    carrier,
    chroma_carriers,
    folded,
)
from sorano.trust.watermark.payload import CODE, PUBLIC_KEY

Frames = NDArray[np.uint8]
Array = NDArray[Any]
Box = tuple[float, float, float, float]

SLOT_SECONDS = 1.0
WINDOW_SLOTS = 2
MOST_FRAMES = 32  # of a window that are looked at
BLOCK = 8  # chips on a side
SHARES = (0.02, 0.04, 0.08, 0.16, 0.32)  # of the frame: the squares that are tested
MOST_REACH = 0.3  # of the frame: a window that would find no hole so large is not sure
SURE_PLACES, SURE_CHANCE = 0.8, 1.28  # of the places, a hole would be found at this share, with 9 in 10 chances
ROUND = 2 / np.pi  # the share of a round hole that the largest square in it covers
MISSING = 0.5  # of the map: the chance from which on a place counts as a hole
LEAST_POWER = 0.05  # of a block's chips: less is not told from less
LEAST_AGREEMENT = 0.02  # of a chip, in its deviations: the regression tells no less apart
CALIBRATION = Path(__file__).with_name("tamper_calibration.json")


@dataclass(frozen=True)
class TamperedRegion:
    """Something that was put over the video: when, where (left, top, right, bottom in 0..1), and how clear it is."""

    start_s: float
    end_s: float
    box: Box
    score: float  # log10 of the likelihood ratio, missing against intact


@dataclass(frozen=True)
class TamperMap:
    """The chance that the mark is missing in each of T slots: `map_THW` from 0 (intact) over 0.5 (doubtful) to 1.

    `reaches` says for each slot what share of the frame a hole must have to be found (None: the slot is not sure).
    """

    map_THW: NDArray[np.float32]
    starts_s: tuple[float, ...]
    ends_s: tuple[float, ...]
    regions: tuple[TamperedRegion, ...]
    reaches: tuple[float | None, ...] = ()

    @property
    def reach(self) -> float | None:
        """The smallest share of the frame that would have been found in every slot; None where one is not sure."""
        shares = [share for share in self.reaches if share is not None]
        return max(shares) if shares and len(shares) == len(self.reaches) else None

    @property
    def sure(self) -> bool:
        """Whether the absence of regions says anything, all through the video."""
        return self.reach is not None


def tamper_map(frames: Iterable[Array], detection: Detection, key: bytes = PUBLIC_KEY) -> TamperMap:
    """Maps what is missing of a mark that was read, window by window, in constant memory.

    `frames` are the chunks that `detect` read, once more. Raises ValueError where there are none, or of another size.
    """
    return assembled(windows(frames, detection, key), Calibration.load())


# What is measured.


@dataclass(frozen=True)
class Blocks:
    """What a window shows of the mark, in blocks of 8 x 8 chips of luma, in each of P planes: luma, Cb, Cr.

    `agreement_PHW` is the sum over a block of the chips' agreement with the carrier, over the root of their number;
    `power_PHW` the mean of its chips' squares, so that a block without a mark shows chance of this variance. Chips are
    measured in the deviation of all chips of the plane. Blocks beyond the frame have a power of 0.
    """

    agreement_PHW: Array
    power_PHW: Array
    features_PHWF: Array
    means_P: Array  # agreement of a chip, over the whole frame
    bounds: Box  # of the blocks in the frame: left, top, right, bottom in 0..1

    @property
    def inside_HW(self) -> NDArray[np.bool_]:
        """Blocks that lie in the frame, at least by half."""
        return np.asarray(self.power_PHW[0] > 0)


FEATURES = (
    "deviation",  # log of the local deviation that the reader divides by, in levels of 255
    "least deviation",  # the same in the frame where it is least
    "combined energy",  # log of the deviation of the combined frames in the band of the chips, in levels
    "energy",  # log of the deviation of the single frames in the band, in levels
    "power",  # log of the variance of the combined chips
    "level",  # of the plane: 0..1 for luma, -0.5..0.5 for Cb and Cr
    "motion",  # log of the deviation through time, in levels
    "contrast",  # log of the deviation of the plane in the block, in levels
    "median deviation", "median combined energy", "median energy", "median motion",  # over the frame
    "mean agreement",  # log, over the frame
)  # fmt: skip


@dataclass
class _Chips:
    """The chips of a plane of a frame: raw and normalised band times the carrier's signs, deviation, level."""

    raw: Array
    normal: Array
    deviation: Array
    level: Array


class _Plane:
    """A plane's carrier as it lies in the frames, and the block that each of its chips belongs to."""

    def __init__(self, tile: Array, grid: search.Grid, level: int, shape: tuple[int, int], luma: search.Grid) -> None:
        """`shape` is that of the plane at its level; blocks are counted on the grid of `luma`."""
        self.tile, self.grid, self.level = tile, grid, level
        laid = np.roll(search.turned(tile, grid.turn), grid.shift_2, (0, 1))
        self.inside = self.chips(np.ones(shape, np.float32)) > 0.99
        rows, columns = (np.arange(side) for side in self.inside.shape)
        self.signs = laid[rows[:, None] % len(tile), columns % len(tile)]
        # A chip's place on the grid of luma; both grids lean alike, so that rows and columns go by themselves.
        across = np.linalg.solve(luma.matrix_23[:, :2], grid.matrix_23 - np.array([[0, 0, 1]]) * luma.matrix_23)
        self.row_of = np.floor((across[1, 1] * rows + across[1, 2] + 0.5) / BLOCK)
        self.column_of = np.floor((across[0, 0] * columns + across[0, 2] + 0.5) / BLOCK)

    def chips(self, picture: Array) -> Array:
        """The mean of each chip of a picture."""
        return search.chips_of(search.sampled(picture, self.grid, self.level))

    def look(self, picture: Array, chip: float, floor: float) -> _Chips:
        """The chips of a picture of the plane, in levels."""
        band, deviation = banded(picture, chip, floor)
        normal = self.chips(np.clip(band / deviation, -2.5, 2.5)) * self.signs
        return _Chips(self.chips(band) * self.signs, normal, self.chips(deviation), self.chips(picture))

    def sums(self, chips: Array, size: tuple[int, int]) -> Array:
        """Sums over blocks [rows, columns]; chips beyond them are left out."""
        down = (self.row_of == np.arange(size[0])[:, None]).astype(np.float32)
        across = (self.column_of == np.arange(size[1])[:, None]).astype(np.float32)
        return np.asarray(down @ chips.astype(np.float32) @ across.T, np.float32)


def windows(
    frames: Iterable[Array], detection: Detection, key: bytes = PUBLIC_KEY
) -> Iterable[tuple[float, float, Blocks]]:
    """The blocks of each window, with its start and end in seconds: every second, over two."""
    source = _Source(detection, key)
    per_slot = max(1, round(SLOT_SECONDS * detection.fps))
    stride = -(-per_slot * WINDOW_SLOTS // MOST_FRAMES)
    held: list[tuple[int, list[_Chips]]] = []  # number, and chips of each plane
    total = first = 0  # frames seen; the first frame of the window to come
    for chunk in frames:
        for frame in chunk:
            if tuple(frame.shape[:2]) != detection.size:
                raise ValueError(f"the mark was read in frames of {detection.size}: got {frame.shape[:2]}")
            # A window is closed once half a slot follows it, so that the last one may be longer by less than that.
            if total - first >= per_slot * WINDOW_SLOTS + (per_slot + 1) // 2:
                end = first + per_slot * WINDOW_SLOTS
                yield first / detection.fps, end / detection.fps, source.blocks([f for n, f in held if n < end])
                first += per_slot
                held = [(n, f) for n, f in held if n >= first]
            if total % stride == 0:
                held.append((total, source.look(frame)))
            total += 1
    if not total:
        raise ValueError("there are no frames to look at")
    yield first / detection.fps, total / detection.fps, source.blocks([f for _, f in held])


class _Source:
    """The carriers as they lie in the frames, and what they show of them."""

    def __init__(self, detection: Detection, key: bytes) -> None:
        self.grid, self.level, self.box = detection.grid, detection.level, detection.box
        word = CODE.encode(detection.payload.bits())
        self.tiles = [source.tile(word) for source in (carrier(key), *chroma_carriers(key))]
        self.planes: list[_Plane] = []
        self.size = (1, 1)  # blocks
        self.bounds: Box = (0.0, 0.0, 1.0, 1.0)

    def look(self, frame: Array) -> list[_Chips]:
        """The chips of a frame: of luma, and of Cb and Cr where it has colours."""
        small = search.small_luma(frame)
        planes = list(search.small_chroma(frame, *small.shape)) if frame.ndim == 3 else []
        shape = small.shape
        if self.box is not None:
            top, left, bottom, right = self.box
            small = small[top:bottom, left:right]
            planes = [plane[top // 2 : bottom // 2, left // 2 : right // 2] for plane in planes]
        pictures = [(search.at_level(small, self.level), float(CHIP), FLOOR)]
        for plane in planes:
            picture = search.at_level(plane, self.level) / search.CHROMA_STEPS
            pictures.append((picture, search.CHROMA_CHIP, CHROMA_FLOOR))
        if not self.planes:
            self._lay([picture for picture, _, _ in pictures], shape)
        return [plane.look(*picture) for plane, picture in zip(self.planes, pictures, strict=True)]

    def _lay(self, pictures: list[Array], frame: tuple[int, ...]) -> None:
        """Lays the carriers over pictures of planes; `frame` is the height and width of a whole kept frame."""
        grids = [(self.grid, self.level), *[(self.grid.chroma(), self.level + 1)] * (len(pictures) - 1)]
        self.planes = [
            _Plane(tile, grid, level, (picture.shape[0], picture.shape[1]), self.grid)
            for tile, (grid, level), picture in zip(self.tiles, grids, pictures, strict=False)
        ]
        rows, columns = (max(side // BLOCK, 1) for side in self.planes[0].inside.shape)
        self.size = (rows, columns)
        height, width = pictures[0].shape
        corners = np.array([[-0.5, -0.5, 1], [columns * BLOCK - 0.5, rows * BLOCK - 0.5, 1]])
        (left, top), (right, bottom) = corners @ (self.grid.matrix_23 / 2**self.level).T / [width, height]
        first_row, first_column, last_row, last_column = self.box or (0, 0, *frame)
        tall, wide = last_row - first_row, last_column - first_column
        self.bounds = (
            float(first_column + left * wide) / frame[1],
            float(first_row + top * tall) / frame[0],
            float(first_column + right * wide) / frame[1],
            float(first_row + bottom * tall) / frame[0],
        )

    def blocks(self, frames: list[list[_Chips]]) -> Blocks:
        """The blocks of a window of frames."""
        seen = [self._plane(plane, [frame[index] for frame in frames]) for index, plane in enumerate(self.planes)]
        agreement, power, features, means = (np.stack(values) for values in zip(*seen, strict=True))
        inside = power[0] > 0
        return Blocks(agreement * inside, power, features, means, self.bounds)

    def _plane(self, plane: _Plane, frames: list[_Chips]) -> tuple[Array, Array, Array, Array]:
        normal = np.stack([chips.normal for chips in frames]) * plane.inside
        tiles = np.stack([search.aligned(folded(chips * plane.signs, len(plane.tile)), plane.grid) for chips in normal])
        weight = search.weights(tiles, plane.tile).astype(np.float32)
        agree = np.tensordot(weight, normal, 1)
        agree = agree / (float(np.sqrt(np.mean(np.square(agree[plane.inside])))) + 1e-9)
        mean = max(float(agree[plane.inside].mean()), 0.0)
        number = plane.sums(plane.inside, self.size)
        inside = number >= BLOCK * BLOCK / 2 * (len(plane.tile) / TILE) ** 2
        power = np.where(inside, plane.sums(agree * agree, self.size) / np.maximum(number, 1), 0)
        agreement = np.where(inside, plane.sums(agree, self.size) / np.sqrt(np.maximum(number, 1)), 0)
        features = self._features(plane, frames, weight, power, mean)
        return agreement, power, features, np.array(mean, np.float32)

    def _features(self, plane: _Plane, frames: list[_Chips], weight: Array, power: Array, mean: float) -> Array:
        """The features [H, W, F], in the order of `FEATURES`."""
        number = plane.sums(plane.inside, self.size)

        def mean_of(chips: Array) -> Array:
            return plane.sums(chips * plane.inside, self.size) / np.maximum(number, 1)

        share = weight / (np.abs(weight).sum() + 1e-12)
        raw, deviation, level = (
            np.stack([getattr(chips, name) for chips in frames]) for name in ("raw", "deviation", "level")
        )
        combined = np.tensordot(share, raw, 1)
        middle = level.mean(0)
        local = [
            mean_of(np.log(np.tensordot(np.abs(share), deviation, 1) + 0.05)),
            mean_of(np.log(deviation.min(0) + 0.05)),
            np.log(np.sqrt(mean_of(combined * combined)) + 0.02),
            np.log(np.sqrt(mean_of((raw * raw).mean(0))) + 0.02),
            np.log(power + 0.05),
            mean_of(middle) / 255,
            np.log(mean_of(level.std(0)) + 0.2),
            0.5 * np.log(np.maximum(mean_of(middle**2) - mean_of(middle) ** 2, 0) + 0.5),
        ]
        held = power > 0
        held = held if held.any() else np.ones_like(held)
        whole = [float(np.median(local[index][held])) for index in (0, 2, 3, 6)]
        whole.append(float(np.log(max(mean, LEAST_AGREEMENT))))
        return np.stack([*local, *(np.full(power.shape, value) for value in whole)], -1).astype(np.float32)


# What is concluded.


@dataclass(frozen=True)
class WindowScore:
    """What a window says: `matched_HW` and `information_HW` of each block, the best square, what would be found.

    With e the agreement that an intact block would show and v the variance of chance, a block's information is
    e * e / v and its matched filter z * e / v; sums of both over a region decide. Scores are natural logarithms.
    """

    matched_HW: Array
    information_HW: Array
    spread: float  # of the prior's logarithm, in this window
    score_HW: Array  # the best score of the squares that hold a block
    reach: float | None
    bounds: Box

    @property
    def score(self) -> float:
        """The best score of the window."""
        return float(self.score_HW.max())


@dataclass(frozen=True)
class Network:
    """A regression with one hidden layer: the agreement of intact blocks, in that of the whole frame."""

    centre_F: Array
    scale_F: Array
    hidden_FK: Array
    bias_K: Array
    out_K: Array
    out_bias: float

    def __call__(self, features_HWF: Array) -> Array:
        """The ratio [H, W] that is expected."""
        inputs = np.clip((features_HWF - self.centre_F) / self.scale_F, -4, 4)
        hidden = np.tanh(inputs @ self.hidden_FK + self.bias_K)
        return np.asarray(np.logaddexp(0, hidden @ self.out_K + self.out_bias))


@dataclass(frozen=True)
class Calibration:
    """What was fitted to honest copies: the regressions, the prior of their error, and the threshold of the score."""

    luma: Network
    chroma: Network
    spread: float  # of the logarithm of the factor by which a region differs from what is expected, at least
    doubt: float  # the weight of a flat prior of that factor from 0 to 1
    threshold: float  # of the best score of a window, natural
    slope: float  # what is added to it for each natural logarithm of the number of windows

    @classmethod
    @lru_cache(maxsize=1)
    def load(cls) -> Calibration:
        """The calibration that ships."""
        held: dict[str, Any] = json.loads(CALIBRATION.read_text())
        for plane in ("luma", "chroma"):
            values: dict[str, Any] = held[plane]
            arrays = {name: np.array(v, np.float32) if isinstance(v, list) else v for name, v in values.items()}
            held[plane] = Network(**cast(dict[str, Any], arrays))
        return cls(**held)

    def expected(self, blocks: Blocks) -> Array:
        """The agreement [P, H, W] that each block would show if it were intact."""
        ratios = [(self.chroma if plane else self.luma)(values) for plane, values in enumerate(blocks.features_PHWF)]
        # A block of chroma has fewer chips: the sum of their agreement over the root of their number is smaller.
        sides = np.array([BLOCK, *[BLOCK * CHROMA_TILE / TILE] * (len(ratios) - 1)])
        return np.asarray(np.stack(ratios) * (blocks.means_P * sides)[:, None, None] * blocks.inside_HW, np.float32)

    def evidence(self, matched: Array, information: Array, spread: float | None = None) -> Array:
        """The natural logarithm of the likelihood ratio, missing against intact, of sums over regions."""
        factor = np.linspace(0.02, 2.5, 60)
        prior = np.exp(-0.5 * np.square(np.log(factor) / (spread or self.spread))) / factor
        flat = (factor < 1).astype(np.float64)
        prior = (1 - self.doubt) * prior / prior.sum() + self.doubt * flat / flat.sum()
        shape = (-1, *(1,) * np.ndim(matched))
        exponent = factor.reshape(shape) * matched - 0.5 * np.square(factor).reshape(shape) * information
        most = exponent.max(0)
        total = (np.exp(exponent - most) * prior.reshape(shape)).sum(0)
        return np.asarray(-(most + np.log(total)))

    def judge(self, blocks: Blocks) -> WindowScore:
        """What a window says."""
        expected = self.expected(blocks)
        chance = np.maximum(blocks.power_PHW, LEAST_POWER)
        matched, information = (blocks.agreement_PHW * expected / chance).sum(0), (expected**2 / chance).sum(0)
        spread = float(np.hypot(self.spread, _spread(matched, information, blocks.inside_HW)))
        best = np.full(matched.shape, -np.inf)
        reach = None
        for share in SHARES:
            side = square(share, blocks.inside_HW)
            inside = _squares(blocks.inside_HW.astype(np.float64), side)
            sums = _squares(matched, side), _squares(information, side)
            full = inside >= 0.75 * side * side
            # A hole may lie in as many places as such squares fit into the frame: the smaller, the more by chance.
            places = -np.log(side * side / max(float(blocks.inside_HW.sum()), 1.0))
            score = np.where(full, self.evidence(*sums, spread) - places, -np.inf)
            best = np.maximum(best, _holding(score, side))
            # What the score of a hole would be, at the worse end of chance.
            likely = self.evidence(SURE_CHANCE * np.sqrt(sums[1]), sums[1], spread)[full] - places
            if reach is None and likely.size and np.mean(likely > self.threshold) >= SURE_PLACES:
                reach = side * side / ROUND / max(int(blocks.inside_HW.sum()), 1)
        reach = reach if reach is not None and reach <= MOST_REACH else None
        return WindowScore(matched, information, spread, best, reach, blocks.bounds)


def _spread(matched: Array, information: Array, inside_HW: Array) -> float:
    """How much the logarithm of the factor varies within a window: between squares of 4 % of the frame, robustly."""
    side = square(0.04, inside_HW)
    sums = _squares(matched, side), _squares(information, side)
    clear = (sums[1] > 15) & inside_HW
    if clear.sum() <= 8:
        return 0.0
    factors = np.log(np.clip(sums[0][clear] / sums[1][clear], 0.05, 3))
    deviation = 1.4826 * float(np.median(np.abs(factors - np.median(factors))))
    return max(deviation**2 - float(np.median(1 / sums[1][clear])), 0.0) ** 0.5


def square(share: float, inside_HW: Array) -> int:
    """The side, in blocks, of a square of a share of the frame."""
    return max(1, round(float(np.sqrt(share * inside_HW.sum()))))


def _squares(values: Array, side: int) -> Array:
    """Sums over squares, by their middles."""
    import cv2

    return cv2.boxFilter(values.astype(np.float64), -1, (side, side), normalize=False, borderType=cv2.BORDER_CONSTANT)


def _holding(scores: Array, side: int) -> Array:
    """The best score of the squares that hold each block."""
    import cv2

    # The anchor of the filter is side // 2 from the left; of what holds a block, as far from the right.
    anchor = (side - 1 - side // 2,) * 2
    least = np.where(np.isfinite(scores), scores, -1e9)
    return cv2.dilate(least, np.ones((side, side), np.uint8), anchor=anchor, borderValue=-1e9)


def assembled(seen: Iterable[tuple[float, float, Blocks]], calibration: Calibration) -> TamperMap:
    """The map by slots, and the regions, of the blocks of all windows."""
    starts, ends, looks = [], [], []
    for start_s, end_s, blocks in seen:
        starts.append(start_s)
        ends.append(end_s)
        looks.append(calibration.judge(blocks))
    threshold = calibration.threshold + calibration.slope * float(np.log(len(looks)))
    pictures, regions = [], []
    for look, start, end in zip(looks, starts, ends, strict=True):
        pictures.append(_picture(look, calibration))
        if look.score > threshold:
            regions += [
                TamperedRegion(start, end, box, score) for box, score in _regions(look, pictures[-1], threshold)
            ]
    # A slot is in up to two windows: what one of them finds counts.
    edges = [*starts, *([ends[-2]] if len(ends) > 1 else [])]
    slots = [[index for index in range(len(looks)) if starts[index] <= start < ends[index] - 1e-6] for start in edges]
    maps = [np.max([pictures[index] for index in held], 0) for held in slots]
    reaches = [min((r for r in (looks[i].reach for i in held) if r is not None), default=None) for held in slots]
    return TamperMap(
        np.stack(maps).astype(np.float32), tuple(edges), (*edges[1:], ends[-1]), tuple(_joined(regions)), tuple(reaches)
    )


def _picture(look: WindowScore, calibration: Calibration) -> Array:
    """The chance that each block is missing, of what is around it, over the whole frame."""
    import cv2

    blur = 1.2  # blocks
    reach = 4 * np.pi * blur**2  # a mean over this smoothing varies like that of so many blocks
    matched, information = (cv2.GaussianBlur(p, (0, 0), blur) * reach for p in (look.matched_HW, look.information_HW))
    chance = 1 / (1 + np.exp(-np.clip(calibration.evidence(matched, information, look.spread), -30, 30)))
    rows, columns = chance.shape
    # Where the blocks lie in a frame of as many cells as there are blocks, twice as fine.
    left, top, right, bottom = look.bounds
    move = np.array(
        [[2 * (right - left), 0, (2 * columns * left) + (right - left) - 0.5], [0, 2 * (bottom - top), 0]], np.float64
    )
    move[1, 2] = 2 * rows * top + (bottom - top) - 0.5
    return cv2.warpAffine(
        chance.astype(np.float32),
        move,
        (2 * columns, 2 * rows),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _regions(look: WindowScore, picture: Array, threshold: float) -> list[tuple[Box, float]]:
    """Boxes of connected squares that pass the threshold, closed in on what is missing in them, and their scores."""
    import cv2

    found = []
    count, labels = cv2.connectedComponents((look.score_HW > threshold).astype(np.uint8), connectivity=4)
    left, top, right, bottom = look.bounds
    rows, columns = labels.shape
    for label in range(1, count):
        inside = labels == label
        down, across = np.nonzero(inside)
        box = (
            left + across.min() / columns * (right - left),
            top + down.min() / rows * (bottom - top),
            left + (across.max() + 1) / columns * (right - left),
            top + (down.max() + 1) / rows * (bottom - top),
        )
        score = float(look.score_HW[inside].max() / np.log(10))
        found.append((_closed_in(_clipped(box), picture), score))
    return found


def _clipped(box: tuple[float, ...]) -> Box:
    left, top, right, bottom = (float(np.clip(value, 0, 1)) for value in box)
    return (min(left, right), min(top, bottom), max(left, right), max(top, bottom))


def _closed_in(box: Box, picture: Array) -> Box:
    """The part of a box that holds what is missing, where the map shows some."""
    rows, columns = picture.shape
    left, right = int(box[0] * columns), max(int(np.ceil(box[2] * columns)), int(box[0] * columns) + 1)
    top, bottom = int(box[1] * rows), max(int(np.ceil(box[3] * rows)), int(box[1] * rows) + 1)
    down, across = np.nonzero(picture[top:bottom, left:right] > MISSING)
    if not len(down):
        return box
    return (
        (left + float(across.min())) / columns,
        (top + float(down.min())) / rows,
        (left + float(across.max()) + 1) / columns,
        (top + float(down.max()) + 1) / rows,
    )


def _joined(regions: list[TamperedRegion]) -> list[TamperedRegion]:
    """Regions that go on from one window to the next at the same place are one."""
    joined: list[TamperedRegion] = []
    for region in regions:
        for index, other in enumerate(joined):
            if other.start_s <= region.start_s <= other.end_s and _overlap(other.box, region.box):
                a, b = np.array(other.box), np.array(region.box)
                box = (*np.minimum(a, b)[:2].tolist(), *np.maximum(a, b)[2:].tolist())
                joined[index] = TamperedRegion(
                    other.start_s, max(other.end_s, region.end_s), box, max(other.score, region.score)
                )
                break
        else:
            joined.append(region)
    return joined


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
