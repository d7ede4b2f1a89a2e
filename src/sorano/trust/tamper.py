"""Where a marked video was covered: a map of where the mark is missing, with times and boxes.

    found = detect(chunks, fps=24)
    tampered = tamper_map(chunks_again, found)
    tampered.regions          # (start_s, end_s, box, score), empty where nothing was put over the video

What is put over a marked video, such as another face, does not carry the mark. For each window of two seconds the
frames are combined as the reader does (`trust/reader.py`), and each chip is asked whether it agrees with the carrier.
How well an untouched chip agrees depends on what the coder left there, so what is expected is learnt from the window
itself, by how much detail there is and how much moves; most of a frame must be untouched for that. `score` of a region
says how much less it agrees than it should, in deviations of what untouched places vary by.

Covered: regions of some percent of the frame that are there for most of a window, in video whose mark is read.
Not covered: who did it or why (captions, logos and black bars are holes too); small or brief changes; places where the
coder left nothing of the mark, which count as intact; changes that keep the mark, such as dubbing, colour, or cutting
frames out; a forger who knows the carrier key and marks what is put in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sorano.trust import reader
from sorano.trust.carrier import TILE, banded, carrier, folded
from sorano.trust.watermark import CODE, PUBLIC_KEY, Detection

Frames = NDArray[np.uint8]
Array = NDArray[Any]

WINDOW_SECONDS = 2.0
MOST_FRAMES = 32  # of a window that are looked at
SPREADS = (6.0, 14.0)  # chips: the least and the most deviation of the smoothing of the map
WANTED = 25.0  # squared deviations of evidence that the smoothing should gather at each place
KINDS_OF_GROUND = 6  # by detail, and as many by motion
LEAST_AREA = 0.02  # of the frame: smaller regions are not reported
LEAST_SCORE = 9.0  # deviations of what intact places vary by
MISSING = 0.5  # of the expected agreement: what has less is a hole
PRIOR = 4.0  # chips' worth of evidence (in squared deviations) that a place is intact


@dataclass(frozen=True)
class Region:
    """Something that was put over the video: when, where (left, top, right, bottom in 0..1), and how clear it is."""

    start_s: float
    end_s: float
    box: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True)
class TamperMap:
    """What is missing of the mark in each of T windows: `map_THW` from 0 (intact) over 0.5 (doubtful) to 1 (gone)."""

    map_THW: NDArray[np.float32]
    starts_s: tuple[float, ...]
    ends_s: tuple[float, ...]
    regions: tuple[Region, ...]

    def window_at(self, second: float) -> int:
        """The window that holds a time."""
        return int(
            np.clip(np.searchsorted(np.array(self.starts_s), second, side="right") - 1, 0, len(self.starts_s) - 1)
        )

    def overlay(self, frames_THWC: Frames, fps: float, start_s: float = 0.0) -> Frames:
        """The frames with what is missing in red, and boxes around the regions."""
        import cv2

        height, width = frames_THWC.shape[1:3]
        shown = frames_THWC.copy()
        thick = max(2, min(height, width) // 200)
        for index, frame in enumerate(shown):
            second = start_s + index / fps
            share = cv2.resize(self.map_THW[self.window_at(second)], (width, height))[..., None]
            share = 0.6 * np.clip((share - MISSING) / (1 - MISSING), 0, 1)
            frame[:] = np.rint(frame * (1 - share) + np.array([230, 20, 20]) * share)
            for region in self.regions:
                if region.start_s <= second < region.end_s:
                    left, top, right, bottom = region.box
                    corners = (round(left * width), round(top * height)), (round(right * width), round(bottom * height))
                    cv2.rectangle(frame, *corners, (230, 20, 20), thick)
        return shown

    def strip(self, width: int = 800, height: int = 48) -> Frames:
        """A picture of the time line, [height, width, 3]: grey where the video is intact, red where it is not."""
        picture = np.full((height, width, 3), 200, np.uint8)
        end = max(self.ends_s)
        for region in self.regions:
            left, right = int(region.start_s / end * width), max(int(region.end_s / end * width), 1)
            picture[:, left:right] = (215, 40, 40)
        for start in self.starts_s[1:]:
            picture[:, min(int(start / end * width), width - 1)] = 255
        return picture


def tamper_map(frames: Iterable[Array], detection: Detection, key: bytes = PUBLIC_KEY) -> TamperMap:
    """Maps what is missing of a mark that was read, window by window, in constant memory.

    `frames` are the chunks that `detect` read, once more. Raises ValueError where there are none, or of another size.
    """
    fps = detection.fps
    per_window = max(1, round(WINDOW_SECONDS * fps))
    stride = -(-per_window // MOST_FRAMES)
    maps: list[Array] = []
    regions: list[Region] = []
    starts: list[float] = []
    held: list[Array] = []
    source = _Source(detection, key)
    total = 0

    def close(end: int) -> None:
        start = len(starts) * per_window
        starts.append(start / fps)
        picture, found = source.look(held)
        maps.append(picture)
        regions.extend(Region(start / fps, end / fps, box, score) for box, score in found)
        held.clear()

    for chunk in frames:
        for frame in chunk:
            if tuple(frame.shape[:2]) != detection.size:
                raise ValueError(f"the mark was read in frames of {detection.size}: got {frame.shape[:2]}")
            if total and total % per_window == 0:
                close(total)
            if total % per_window % stride == 0:
                held.append(reader.small_luma(frame))
            total += 1
    if not total:
        raise ValueError("there are no frames to look at")
    if held and (not maps or total % per_window >= per_window // 2 or total % per_window == 0):
        close(total)
    ends = [*starts[1:], total / fps]
    return TamperMap(np.stack(maps).astype(np.float32), tuple(starts), tuple(ends), tuple(_joined(regions)))


def _joined(regions: list[Region]) -> list[Region]:
    """Regions that go on from one window to the next at the same place are one."""
    joined: list[Region] = []
    for region in regions:
        for index, other in enumerate(joined):
            if other.end_s == region.start_s and _overlap(other.box, region.box):
                a, b = np.array(other.box), np.array(region.box)
                box = (*np.minimum(a, b)[:2].tolist(), *np.maximum(a, b)[2:].tolist())
                joined[index] = Region(other.start_s, region.end_s, box, max(other.score, region.score))
                break
        else:
            joined.append(region)
    return joined


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


class _Source:
    """The carrier as it lies in the frames, and what to ask of a window."""

    def __init__(self, detection: Detection, key: bytes) -> None:
        self.grid, self.level = detection.grid, detection.level
        self.pattern = carrier(key).tile(CODE.encode(detection.payload.bits()))
        self.signs = np.roll(reader.turned(self.pattern, self.grid.turn), self.grid.shift_2, (0, 1))

    def look(self, lumas: list[Array]) -> tuple[Array, list[tuple[tuple[float, float, float, float], float]]]:
        """The map of a window, [rows, columns] of chips, and its regions: boxes and scores."""
        import cv2

        pictures = [reader.at_level(luma, self.level) for luma in lumas]
        bands = [banded(picture) for picture in pictures]
        chips = self._chips([np.clip(band / deviation, -2.5, 2.5) for band, deviation in bands])
        rows, columns = chips.shape[1:]
        signs = self.signs[np.arange(rows)[:, None] % TILE, np.arange(columns) % TILE]
        tiles = np.stack([reader.aligned(folded(chip), self.grid) for chip in chips])
        weight = reader.weights(tiles, self.pattern)
        agree = np.tensordot(weight, chips, 1) * signs
        # Beside an edge the reader hears little: its division by the deviation makes the mark small there.
        hearing = np.tensordot(np.abs(weight), self._chips([1 / deviation for _, deviation in bands]), 1)
        size = (columns, rows)
        detail = cv2.resize(_detail(pictures), size, interpolation=cv2.INTER_AREA)
        motion = cv2.resize(_motion(pictures), size, interpolation=cv2.INTER_AREA)
        asked, heard, reach = _evidence(agree, np.maximum(hearing, 0), detail, motion)
        ratio = (heard + PRIOR) / (asked + PRIOR)
        return 1 / (1 + np.exp(8 * (ratio - MISSING))), _regions(ratio, asked, heard, reach)

    def _chips(self, pictures: list[Array]) -> Array:
        """Pictures on the grid: [T, rows, columns]."""
        return np.stack([reader.chips_of(reader.sampled(picture, self.grid, self.level)) for picture in pictures])


def _detail(pictures: list[Array]) -> Array:
    """The logarithm of the local deviation in the band of the chips, the mean over a window."""
    import cv2

    some = pictures[:: max(1, len(pictures) // 4)]
    bands = [cv2.GaussianBlur(p, (0, 0), 1) - cv2.GaussianBlur(p, (0, 0), 5) for p in some]
    power = np.asarray(sum(cv2.GaussianBlur(band * band, (0, 0), 8) for band in bands))
    return np.asarray(np.log(power / len(bands) + 0.05), np.float32)


def _motion(pictures: list[Array]) -> Array:
    """The logarithm of how much a place changes through a window."""
    import cv2

    some = np.stack(pictures[:: max(1, len(pictures) // 6)])
    change = some.std(0) if len(some) > 1 else np.zeros_like(some[0])
    return np.asarray(np.log(cv2.GaussianBlur(change, (0, 0), 8) + 0.2), np.float32)


def _evidence(agree: Array, hearing: Array, detail: Array, motion: Array) -> tuple[Array, Array, float]:
    """Expected and found agreement around each chip, in squared deviations, and the number of chips around it."""
    import cv2

    kinds = _ranked(detail) * KINDS_OF_GROUND + _ranked(motion)
    intact = np.ones(agree.shape, bool)
    asked = heard = np.zeros(agree.shape, np.float32)
    reach = 1.0

    def total(values: Array) -> Array:
        """The sum over the chips of each kind."""
        return np.bincount(kinds.ravel(), values.ravel(), KINDS_OF_GROUND**2)

    held, spread = total(np.ones(agree.shape)), float(agree.var())
    mean = total(agree) / np.maximum(held, 1)
    variance = total(agree * agree) / np.maximum(held, 1) - mean**2
    noise = ((variance * held + 200 * spread) / (held + 200) + 1e-12)[kinds].astype(np.float32)
    for _ in range(4):
        heard_there, power = agree * hearing * intact, hearing**2 * intact
        some = 50 * float(power.sum()) / max(int(intact.sum()), 1)  # as much as 50 chips say of all kinds
        overall = float(heard_there.sum()) / max(float(power.sum()), 1e-12)
        strength = (total(heard_there) + some * overall) / (total(power) + some + 1e-12)
        expected = (np.maximum(strength, 0)[kinds] * hearing).astype(np.float32)
        evidence = expected**2 / noise
        blur = float(np.clip((WANTED / (4 * np.pi * max(float(evidence.mean()), 1e-9))) ** 0.5, *SPREADS))
        reach = 4 * np.pi * blur**2  # a mean over this smoothing varies like that of so many chips
        asked = cv2.GaussianBlur(evidence, (0, 0), blur) * reach
        heard = cv2.GaussianBlur((agree * expected / noise).astype(np.float32), (0, 0), blur) * reach
        intact = (heard + PRIOR) / (asked + PRIOR) > MISSING
        if intact.mean() < 0.3:  # too little is left to learn from
            intact = np.ones(agree.shape, bool)
    return asked, heard, reach


def _ranked(values: Array) -> Array:
    """Each value's place among equal shares, 0 .. KINDS_OF_GROUND - 1."""
    edges = np.quantile(values, np.linspace(0, 1, KINDS_OF_GROUND + 1)[1:-1])
    return np.digitize(values, edges)


def _regions(
    ratio: Array, asked: Array, heard: Array, reach: float
) -> list[tuple[tuple[float, float, float, float], float]]:
    """Boxes of connected holes, and by how many deviations each agrees less than it should."""
    import cv2

    hole = (ratio < MISSING).astype(np.uint8)
    # A coder loses the mark in patches, so that intact places vary by more than chance: that is the measure.
    intact = cv2.dilate(hole, np.ones((9, 9), np.uint8)) == 0
    varied = np.mean(np.square(heard - asked)[intact] / (asked[intact] + 1e-9)) if intact.any() else 1.0
    deviation = max(1.0, float(varied)) ** 0.5
    count, labels, stats, _ = cv2.connectedComponentsWithStats(hole, connectivity=4)
    rows, columns = hole.shape
    found = []
    for label in range(1, count):
        left, top, width, height, area = stats[label].tolist()
        if area < LEAST_AREA * rows * columns:
            continue
        inside = labels == label
        wanted, got = float(asked[inside].sum()) / reach, float(heard[inside].sum()) / reach
        score = (wanted - got) / max(wanted, 1e-9) ** 0.5 / deviation
        if score >= LEAST_SCORE:
            box = (left / columns, top / rows, (left + width) / columns, (top + height) / rows)
            found.append((box, score))
    return found
