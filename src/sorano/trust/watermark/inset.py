"""Finding a video within a video: with bars around it, in a corner of another one, or on a recorded screen.

What was put in ends at straight, upright edges that stay where they are while the pictures move. For every row and
column, differences across it are averaged over time and compared with those beside it; rectangles whose four sides
stand out along all their length (or lie on the frame's own edge) are given back, those with most such sides first.

Covered: upright rectangles of a sixth of a side or more that keep their place, also with a bar across them.
Not covered: turned and rounded ones, ones that move, and ones whose ground is as dark or bright as what they hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Box = tuple[int, int, int, int]  # top, left, bottom, right, in pixels

MOST_LOOKED_AT = 12  # frames
MOST_LINES = 14  # rows, and columns, that may be sides
LEAST_SIDE = 1 / 6  # of the frame's
LEAST_CLEAR, MEAN_CLEAR = 0.07, 0.2  # of 1: by how much the faintest side stands out, and all of them
STEP_LEVELS = 1.5  # levels of 255: a difference that is taken for none
SAME_SHARE = 0.85  # of two rectangles' union that they share: they are one, seen twice
BESIDE = 4  # pixels from a line to what it is compared with


def rectangles(frames: Sequence[NDArray[np.uint8]], most: int = 3) -> list[Box]:
    """The upright rectangles in frames [H, W] that may hold a video of its own, the clearest first, rounded to even."""
    picked = [
        frames[index] for index in sorted({*np.linspace(0, len(frames) - 1, MOST_LOOKED_AT).astype(int).tolist()})
    ]
    height, width = picked[0].shape
    if min(height, width) < 96:
        return []
    down = _standing_out(picked, axis=0)  # [H + 1, W]: edges above each row
    across = _standing_out(picked, axis=1).T  # [W + 1, H]
    sums = tuple(np.concatenate([np.zeros((len(p), 1), np.float32), np.cumsum(p, 1)], 1) for p in (down, across))
    rows, columns = _lines(down), _lines(across)
    found: list[tuple[float, Box]] = []
    for top, bottom in _pairs(rows, height):
        for left, right in _pairs(columns, width):
            if (top, left, bottom, right) == (0, 0, height, width):
                continue
            sides = _clearness(sums, (top, left, bottom, right), height, width)
            if min(sides) > LEAST_CLEAR and sum(sides) > MEAN_CLEAR * len(sides):
                found.append((sum(sides), (top, left, bottom, right)))
    found.sort(key=lambda one: -one[0])
    chosen: list[Box] = []
    for _, (top, left, bottom, right) in found:
        box = (top + top % 2, left + left % 2, bottom - bottom % 2, right - right % 2)
        if len(chosen) < most and not any(_same(box, other) for other in chosen):
            chosen.append(box)
    return chosen


def _standing_out(frames: list[NDArray[np.uint8]], axis: int) -> Array:
    """-1..1 for each place between two pixels along an axis: how far the step there exceeds those beside it.

    The mean of two measures, by the size of the steps and by their mean, which what moves inside averages away.
    """
    shape = (frames[0].shape[0] - (axis == 0), frames[0].shape[1] - (axis == 1))
    size, mean = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for frame in frames:
        step = np.diff(frame.astype(np.float32), axis=axis)
        mean += step
        size += np.abs(step, out=step)
    np.abs(mean, out=mean)
    for values in (size, mean):
        values /= len(frames)
    found = _beyond(size, axis)
    found += _beyond(mean, axis)
    found /= 2
    return found


def _beyond(steps: Array, axis: int) -> Array:
    """How far steps exceed those a few pixels before and after along an axis, for lines from 0 to the axis' size."""
    along = steps if axis == 0 else steps.T
    along = np.maximum(along[:-1], along[1:])  # a side that was scaled lies over two
    padded = np.pad(along, ((BESIDE, BESIDE), (0, 0)), mode="edge")
    beside = np.maximum(padded[: -2 * BESIDE], padded[2 * BESIDE :])
    beyond = along - beside
    along += beside
    along += STEP_LEVELS
    lines = np.pad(beyond / along, ((1, 2), (0, 0)))
    return lines if axis == 0 else lines.T


def _lines(standing_LN: Array) -> list[int]:
    """The lines with the longest runs that stand out, apart from each other."""
    best = np.zeros(len(standing_LN), np.float32)
    run = np.zeros(len(standing_LN), np.float32)
    for values in standing_LN.T - 0.15:  # the largest sum of a run along each line (Kadane)
        run = np.maximum(run + values, 0)
        best = np.maximum(best, run)
    best[best < 0.03 * standing_LN.shape[1]] = 0
    lines: list[int] = []
    for _ in range(MOST_LINES):
        line = int(best.argmax())
        if best[line] <= 0:
            break
        lines.append(line)
        best[max(0, line - 3) : line + 4] = 0
    return lines


def _pairs(lines: list[int], size: int) -> list[tuple[int, int]]:
    """Two lines, or edges of the frame, that are far enough apart."""
    ends = sorted({0, *lines, size})
    return [(a, b) for a in ends for b in ends if b - a >= LEAST_SIDE * size]


def _clearness(sums: tuple[Array, ...], box: Box, height: int, width: int) -> list[float]:
    """How far each side of a rectangle that is no edge of the frame stands out, on average over its length."""
    top, left, bottom, right = box
    sides = []
    for line, first, last, of, edge in (
        (top, left, right, 0, height), (bottom, left, right, 0, height),
        (left, top, bottom, 1, width), (right, top, bottom, 1, width),
    ):  # fmt: skip
        if 0 < line < edge:
            sides.append(float(sums[of][line, last] - sums[of][line, first]) / (last - first))
    return sides


def _same(a: Box, b: Box) -> bool:
    """Whether two rectangles are nearly one: their intersection over their union."""
    top, left, bottom, right = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    both = max(0, bottom - top) * max(0, right - left)
    return both > SAME_SHARE * (_area(a) + _area(b) - both)


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])
