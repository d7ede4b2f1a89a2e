"""Where a signed video lies within a larger picture, and what is shown around it.

    box = place_of(kept, detection, signed)        # pixels of a kept frame, or None: it fills the frame
    seen, around = look_within(pictures, box, ...)  # the fingerprint of that part, and "plain", "blurred" or "other"

The mark's grid says how large the signed frame is shown and, but for whole tiles, where it begins; the fingerprint says
which of these places it is. Around it, "plain" is one colour on each side that stays the same, "blurred" is the signed
video itself, enlarged to fill the frame and blurred. Anything else is "other": nobody signed it.

Covered: upright and mirrored videos that keep their place. Not covered: what lies within `MARGIN` of the video's edge,
where coding smears; turned, moving and rounded insets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sorano.trust.watermark.pattern import TILE, chip_size

if TYPE_CHECKING:
    from sorano.trust.copies.fingerprint import Fingerprint
    from sorano.trust.media import Picture
    from sorano.trust.watermark.detect import Detection
    from sorano.trust.watermark.search import Grid, Kept

Array = NDArray[Any]
Box = tuple[int, int, int, int]  # top, left, bottom, right, in pixels

FILLS = 0.97  # of a side: from there on the video fills the frame
UPRIGHT = 0.02  # of a chip that a grid may lean
NEARBY = 0.01  # of the frame's short side by which an edge may lie elsewhere than the mark's grid says
MARGIN = 0.01  # of the frame's short side around the video that is not judged
CELL = 4  # pixels: the means that are compared around the video
PLAIN_LEVELS = 8.0  # levels of 255 by which a cell may differ from its side's colour: coding, and no letters
COARSE = 24  # cells along the short side in which a blurred ground is compared
BLURS = (0.0, 1.0, 2.0, 4.0)  # of these cells: deviations of the blur that are tried
BLURRED_LEVELS, MOST_BLURRED_LEVELS = 7.0, 20.0  # by which 95 % of the coarse cells may differ, and all of them
BLURRED_ALIKE = 0.9  # their least correlation
FLAT_LEVELS = 4.0  # of a ground's deviation: there is nothing on it
DETAIL_LEVELS = 8.0  # the most that a cell of a blurred ground may differ from those around it
MOST_PLACES = 64


@dataclass(frozen=True)
class InsetPlace:
    """Where in the picture a signed video is shown, left, top, right, bottom in 0..1, and what is around it."""

    box: tuple[float, float, float, float]
    around: str  # plain, blurred, other

    @property
    def words(self) -> str:
        """The place, for people."""
        left, top, right, bottom = self.box
        return f"{left:.0%}-{right:.0%} across, {top:.0%}-{bottom:.0%} down"

    def of_frame(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """A box in 0..1 of the video as one of the whole picture."""
        left, top, right, bottom = self.box
        wide, tall = right - left, bottom - top
        return left + box[0] * wide, top + box[1] * tall, left + box[2] * wide, top + box[3] * tall


# Where it is.


def place_of(kept: Kept, detection: Detection, signed: Fingerprint) -> Box | None:
    """The part of a kept frame in which a signed video lies; None where it fills the frame or was cropped itself."""
    found = list(_places(kept.frames[0].shape[:2], detection, signed))
    if not found:
        return detection.box
    best = min(found, key=lambda box: _unlike(kept, box, detection.flipped, signed))
    return _fitted(kept, best, detection.flipped, signed)


def _fitted(kept: Kept, box: Box, flipped: bool, signed: Fingerprint) -> Box:
    """The box nearby whose pictures are most like the signed ones: a weak mark's grid may be some pixels too large."""
    best, start = _unlike(kept, box, flipped, signed), box
    reach = max(1, round(NEARBY * min(kept.frames[0].shape)))
    better = True
    while better:
        better = False
        for edge in range(4):
            for step in (-1, 1):
                top, left, bottom, right = (side + step * (number == edge) for number, side in enumerate(box))
                moved = (top, left, bottom, right)
                if abs(moved[edge] - start[edge]) > reach or not 0 <= moved[edge] <= kept.frames[0].shape[edge % 2]:
                    continue
                unlike = _unlike(kept, moved, flipped, signed)
                if unlike < best:
                    best, box, better = unlike, moved, True
    return box


def crop_of(box: Box, detection: Detection, signed: Fingerprint) -> float:
    """The share of a side of the signed frame that a part of a kept frame shows: the larger one, about 1 uncut."""
    top, left, bottom, right = box
    larger = detection.grid.chip / chip_size(*signed.size)
    return max((bottom - top) / (signed.size[0] * larger), (right - left) / (signed.size[1] * larger))


def _places(size: tuple[int, ...], detection: Detection, signed: Fingerprint) -> Iterator[Box]:
    """Every place in a kept frame at which the signed frame may lie by the mark's grid, if it is smaller than that."""
    grid: Grid = detection.grid
    matrix = grid.matrix_23
    if grid.turn not in (0, 4) or max(abs(matrix[0, 1]), abs(matrix[1, 0])) > UPRIGHT * grid.chip:
        return
    top, left = (0, 0) if detection.box is None else detection.box[:2]
    down, right = grid.shift_2
    x, y = matrix @ (right - 0.5, down - 0.5, 1) + (left + 0.5, top + 0.5)  # of the tile's corner
    chip = chip_size(*signed.size)
    height, width = signed.size[0] * matrix[1, 1] / chip, signed.size[1] * matrix[0, 0] / chip
    if height > FILLS * size[0] and width > FILLS * size[1]:
        return
    if grid.turn == 4:  # the tile ends where the frame began
        x -= width
    ways = [
        _starts(float(first), TILE * float(step), float(side), whole)
        for first, step, side, whole in ((y, matrix[1, 1], height, size[0]), (x, matrix[0, 0], width, size[1]))
    ]
    for number, (begins, starts) in enumerate((a, b) for a in ways[0] for b in ways[1]):
        if number >= MOST_PLACES:
            return
        ends = min(round(begins + height), size[0]), min(round(starts + width), size[1])
        yield max(0, round(begins)), max(0, round(starts)), ends[0], ends[1]


def _starts(first: float, tile: float, side: float, whole: int) -> list[float]:
    """Where along an axis a video of length `side` may start: a whole number of tiles from `first`, in the frame."""
    slack = 2 + 0.01 * whole
    low = first - tile * np.floor((first + slack) / tile)
    return [float(start) for start in np.arange(low, whole - side + slack, tile)]


def _unlike(kept: Kept, box: Box, flipped: bool, signed: Fingerprint) -> float:
    """How unlike the signed pictures a part of some kept frames is, in all, at the likest of them."""
    import cv2

    from sorano.trust.copies import alignment
    from sorano.trust.copies.fingerprint import HASH

    top, left, bottom, right = box
    hashes = signed.hashes_TYX.reshape(len(signed.hashes_TYX), -1).astype(np.float32)
    hashes = hashes[:: -(-len(hashes) // 512)]
    total = 0.0
    for index in np.unique(np.linspace(0, len(kept.frames) - 1, 3).astype(int)):
        part = kept.frames[index][top:bottom, left:right]
        small = cv2.resize(part[:, ::-1] if flipped else part, (HASH, HASH), interpolation=cv2.INTER_AREA)
        shown = np.repeat(small.reshape(1, -1).astype(np.float32), len(hashes), 0)
        unlike, _ = alignment.unlikeness(hashes, shown, signed.hash_step, np.arange(HASH * HASH))
        total += float(unlike.min())
    return total


# What is in it, and around it.


class Ground:
    """What is shown around a box of pixels, frame by frame."""

    def __init__(self, size: tuple[int, int], box: Box) -> None:
        self.size, self.box = size, box
        short = min(size)
        self.margin = max(CELL, round(MARGIN * short))
        self.cells = max(1, size[0] // CELL), max(1, size[1] // CELL)
        self.coarse = tuple(max(4, round(COARSE * side / short)) for side in size)
        self.sides = self._sides(self.cells)
        self.outside = np.logical_or.reduce(self._sides(self.coarse)) if self.sides else np.zeros(self.coarse, bool)
        self.colours: list[Array] = []  # of each side, in the first frame
        self.plain, self.smooth = True, True
        self.blurs = np.ones(len(BLURS), bool)  # those that may have made all of the ground so far

    def _sides(self, cells: tuple[int, ...]) -> list[Array]:
        """Masks of the cells that lie above, below, left and right of the box, apart from its margin."""
        height, width = self.size
        top, left, bottom, right = self.box
        rows = np.arange(cells[0]) * height / cells[0]
        columns = np.arange(cells[1]) * width / cells[1]
        tall, wide = height / cells[0], width / cells[1]
        above, below = rows + tall <= top - self.margin, rows >= bottom + self.margin
        before, after = columns + wide <= left - self.margin, columns >= right + self.margin
        between = ~above & ~below
        every = np.ones(cells[1], bool)
        masks = [np.outer(a, b) for a, b in ((above, every), (below, every), (between, before), (between, after))]
        return [mask for mask in masks if mask.any()]

    def add(self, frame_HWC: Array) -> None:
        """The next frame."""
        import cv2

        if not self.sides or not (self.plain or self.smooth):
            return
        small = cv2.resize(frame_HWC, self.cells[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
        if not self.colours:
            self.colours = [np.median(small[side], 0) for side in self.sides]
        for side, colour in zip(self.sides, self.colours, strict=True):
            self.plain = self.plain and float(np.abs(small[side] - colour).max()) <= PLAIN_LEVELS
        if self.plain or not self.smooth:
            return
        around = cv2.GaussianBlur(small, (0, 0), 2.0)
        inner = self._inner()
        self.smooth = not inner.any() or float(np.abs(small - around)[inner].max()) <= DETAIL_LEVELS
        ground = cv2.resize(small, self.coarse[::-1], interpolation=cv2.INTER_AREA)[self.outside]
        self.blurs &= [_made_of(one.ravel(), ground.ravel()) for one in self._filled(frame_HWC)]
        self.smooth = self.smooth and bool(self.blurs.any())

    def _inner(self) -> Array:
        """The cells outside whose neighbours are outside too."""
        import cv2

        outside = np.logical_or.reduce(self.sides).astype(np.uint8)
        return cv2.erode(outside, np.ones((9, 9), np.uint8), borderValue=1).astype(bool)

    def _filled(self, frame_HWC: Array) -> Array:
        """[blurs, cells, 3]: the video in the box enlarged to cover the frame, blurred, in the coarse cells outside."""
        import cv2

        top, left, bottom, right = self.box
        height, width = self.coarse
        scale = max(self.size[0] / (bottom - top), self.size[1] / (right - left))
        tall = min(bottom - top, round(self.size[0] / scale))
        wide = min(right - left, round(self.size[1] / scale))
        y, x = top + (bottom - top - tall) // 2, left + (right - left - wide) // 2
        part = cv2.resize(frame_HWC[y : y + tall, x : x + wide], (width, height), interpolation=cv2.INTER_AREA)
        some = [part if blur == 0 else cv2.GaussianBlur(part, (0, 0), blur) for blur in BLURS]
        return np.stack(some).astype(np.float32)[:, self.outside]

    def kind(self) -> str:
        """plain, blurred or other."""
        if self.plain:
            return "plain"
        return "blurred" if self.smooth else "other"


def _made_of(fill_N: Array, ground_N: Array) -> bool:
    """Whether a ground is what an enlarged and blurred video gives there, but for a gain and an offset."""
    spread = float(ground_N.std())
    gain, offset = np.polyfit(fill_N, ground_N, 1) if fill_N.std() > 1e-3 else (0.0, float(ground_N.mean()))
    error = np.abs(ground_N - gain * fill_N - offset)
    alike = spread < FLAT_LEVELS or float(np.corrcoef(fill_N, ground_N)[0, 1]) >= BLURRED_ALIKE
    like = float(np.quantile(error, 0.95)) <= BLURRED_LEVELS and float(error.max()) <= MOST_BLURRED_LEVELS
    return bool(alike and gain >= 0 and like)


def look_within(
    pictures: Iterable[Picture], size: tuple[int, int], box: Box, fingerprinter: Any
) -> tuple[Fingerprint, InsetPlace]:
    """The fingerprint of what is shown in a box (pixels of frames of `size`), and where it lies in what.

    `fingerprinter` is a fresh `fingerprint.FingerprintBuilder`. Frames of another size make the ground "other".
    """
    ground = Ground(size, box)
    top, left, bottom, right = box
    changed = False
    for picture in pictures:
        frame = picture.frame_HWC
        if frame.shape[:2] != size:
            changed = True
            continue
        fingerprinter.add(frame[top:bottom, left:right][None], [picture.start], picture.end)
        ground.add(frame)
    height, width = size
    where = left / width, top / height, right / width, bottom / height
    return fingerprinter.stored(), InsetPlace(where, "other" if changed else ground.kind())
