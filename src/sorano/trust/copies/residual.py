"""What differs between a copy and the original once both are aligned: regions with their times and boxes.

The finer pictures of the fingerprint are compared cell by cell. A tone curve and a colour matrix fitted to the whole
clip take out global changes; a cell may show what the copy's frames just before and after show; what is left is divided
by what coding leaves of this clip in cells of as much detail and motion. Its energy over some per cent of the picture
and two seconds says where something was put over. The same is done for the colour differences and for the energy of the
detail that is finer than a cell; and the pattern of that detail over the whole picture must be the original's, which
what is left cannot say where all of it is foreign.

Not covered: what lies below the cells' size, pictures of which most was changed (those do not align), changes that are
as weak as coding noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sorano.trust.copies.alignment import CropWindow, TimeMap, seen_through
from sorano.trust.copies.fingerprint import FINER, Fingerprint

Array = NDArray[Any]
Floats = NDArray[np.float32]

SPANS = (2.0, 0.5)  # seconds of residual energy that are added up
LAYERS = ("colour", "detail")
# Mean squared deviations, over each span, that coding never leaves, and root mean squares of the difference: levels of
# 255, of detail units of energy (docs/LOG.md).
LEAST_SCORE = {
    "picture": {2.0: 16.0, 0.5: 36.0},
    "colour": {2.0: 20.0},
    "detail": {2.0: 8.0, 0.5: 16.0},
}
LEAST_LEVEL = {"picture": 3.0, "colour": 4.0, "detail": 8.0}
MOST_LEVEL, LEAST_SEEN = 225, 12  # of a cell's mean: parts of it may be clipped
FILTERED = 0.3  # of a fitted curve's departure from a gain and an offset is left as noise
SMEARED = 1 / 3  # of what a frame changed is added again: a denoiser puts up to a quarter of the frame before into it
BLEEDS = 0.5  # of a neighbouring half cell that chroma takes in
REFINED = 12  # pictures that fix the window
BEYOND = 0.03  # by how much worse a time counts for each frame that the copy would show from beyond the original's ends
CLEARLY_BETTER = 1.15  # times the error of a window of free size, up to which one of the size that is known stays
RIDGE = 1e-4
TIMES = ((-5.0, -2.5, 2.5, 5.0), (-1.0, 1.0))  # frames around the likeliest offset, and around the best of them
RESAMPLED, RESAMPLED_LEVEL = 1.5, 2.0  # times as much energy and level is left in a cropped picture's other cells
SIDE = 5  # cells of the square over which it is
KINDS = 5  # of detail, and as many of motion
LEAST_NOISE = 0.8  # levels: quantisation
MOST = 8.0  # deviations that one cell counts at most
HALF_SIDE = 5  # of half cells: colours bleed, and energies are coarser
LEAST_DETAIL_NOISE = 2.0  # units of the signed energy (fingerprint.DETAIL_UNIT)
LEAST_PATTERN = 4.0  # units: the deviation of a pattern of detail that can be compared
SETTLED = 16  # pictures that fix the offset


@dataclass(frozen=True)
class ChangedRegion:
    """A region of a copy that differs: shown seconds, a box (left, top, right, bottom) in 0..1 of the copy, a score."""

    start_s: float
    end_s: float
    box: tuple[float, float, float, float]
    score: float
    what: str = "picture"  # or colour, or detail: what differs there


@dataclass(frozen=True)
class Pairs:
    """The original's finer pictures [K, Y, X] and the copy's at the same times, before and after: [3, K, Y, X]."""

    stored_KYX: Floats
    seen_3KYX: Floats
    chroma_3KCYX: Floats  # the copy's colour differences there, on the same cells
    stored_chroma_KCYX: Floats
    times_K: NDArray[np.float64]  # shown seconds
    rows: Array  # of the original's grid that the copy shows whole
    columns: Array
    grid: tuple[int, int]
    clipped_2KYX: Floats  # the shares of the copy's cells that are as bright, and as dark, as can be; then or nearby


def pairs(
    stored: Fingerprint,
    seen: Fingerprint,
    line: TimeMap,
    window: CropWindow,
    most: int | None = None,
    inner: bool = False,
) -> Pairs | None:
    """What both show at the times of the original's finer pictures; None where they share no time.

    `most` picks some of them; `inner` leaves out those near the copy's ends.
    """
    common = _common_times(stored, seen, line, most, inner)
    if common is None:
        return None
    inside, times, used, place = common
    rows, columns = stored.grid
    luma, in_rows, in_columns = seen_through(seen.luma_KYX[used], window, (rows, columns))
    chroma = seen.chroma_K2YX[used]
    tall, wide = stored.chroma_K2YX.shape[2:]
    flat = chroma.reshape(-1, *chroma.shape[2:])
    colour, half_rows, half_columns = seen_through(flat, window, (tall, wide))
    del half_rows, half_columns
    to_rows = np.clip(in_rows // 2 - (in_rows[0] // 2 if len(in_rows) else 0), 0, colour.shape[1] - 1)
    to_columns = np.clip(in_columns // 2 - (in_columns[0] // 2 if len(in_columns) else 0), 0, colour.shape[2] - 1)
    colour = colour[:, to_rows][:, :, to_columns].reshape(len(used), 2, len(in_rows), len(in_columns))
    kept = stored.chroma_K2YX[inside][:, :, in_rows // 2][:, :, :, in_columns // 2].astype(np.float32)
    return Pairs(
        stored.luma_KYX[inside][:, in_rows][:, :, in_columns].astype(np.float32), luma[place], colour[place], kept,
        times, in_rows, in_columns, (rows, columns), _clipped(seen, used, window, (rows, columns))[:, place].max(1),
    )  # fmt: skip


def _clipped(seen: Fingerprint, used: Array, window: CropWindow, grid: tuple[int, int]) -> Floats:
    """[2, N, Y, X]: the shares of cells that are clipped, of some of a copy's pictures, on the original's cells."""
    if seen.clipped_K2YX is None:
        shape = seen_through(seen.luma_KYX[:1], window, grid)[0].shape[1:]
        return np.zeros((2, len(used), *shape), np.float32)
    return np.stack([seen_through(seen.clipped_K2YX[used, which], window, grid)[0] / 255 for which in (0, 1)])


def _common_times(
    stored: Fingerprint, seen: Fingerprint, line: TimeMap, most: int | None = None, inner: bool = False
) -> tuple[Array, Array, Array, Array] | None:
    """Which of the original's finer pictures a copy shows [K], and when; those of the copy that are used, and [3, K]:
    which of these shows each picture, a moment before, then, and after. None where they share no time.
    """
    gap = float(np.median(np.diff(stored.starts_T))) if len(stored.starts_T) > 1 else 0.04
    times = (stored.picture_starts_K + gap / 2 - line.offset) / line.speed
    end = seen.length if not seen.still else 1.0
    edge = min(0.3, end / 4) if inner else 0.0
    inside = np.flatnonzero((times >= edge) & (times <= end - edge)) if not stored.still else np.zeros(1, np.int64)
    if most is not None and len(inside) > most:
        inside = inside[np.linspace(0, len(inside) - 1, most).astype(int)]
    if not len(inside):
        return None
    at = np.clip(np.searchsorted(seen.picture_starts_K, times[inside], side="right") - 1, 0, len(seen.luma_KYX) - 1)
    around = np.clip(at + np.array([[-1], [0], [1]]), 0, len(seen.luma_KYX) - 1)
    used, place = np.unique(around, return_inverse=True)
    return inside, times[inside], used, place.reshape(around.shape)


def toned(both: Pairs) -> tuple[Floats, tuple[float, float]]:
    """The copy's luma [3, K, Y, X] after the tone curve and the colour matrix that bring it closest to the original.

    And by how many levels the original may have been brighter than white in the copy, and darker than black, at most.
    """
    luma, colour = both.seen_3KYX, both.chroma_3KCYX
    wanted = both.stored_KYX.ravel()
    step = max(1, len(wanted) // 40_000)
    features = _features(luma[1].ravel()[::step], *(colour[1][:, c].ravel()[::step] for c in (0, 1)))
    # The departure from "as it is" is what is fitted.
    fit = _robust_fit(features, wanted[::step] - features[:, 1])
    out = np.empty_like(luma)
    for which in range(3):
        all_features = _features(luma[which].ravel(), colour[which][:, 0].ravel(), colour[which][:, 1].ravel())
        out[which] = (all_features[:, 1] + all_features @ fit).reshape(luma.shape[1:])
    ends = _features(*(np.array(part, np.float32) for part in ((0, 255), (128, 128), (128, 128))))
    black, white = (ends[:, 1] + ends @ fit).tolist()
    return out, (max(0.0, 255 - white), max(0.0, black))


def _robust_fit(features_NF: Floats, wanted_N: Array, *, from_median: bool = False) -> Floats:
    """[F]: least squares, reweighted so that what was put over does not count.

    `from_median`: what lies far from the median from the start hardly counts, so that the features do not bend to it.
    """
    power = 2 if from_median else 1

    def weights(error_N: Array) -> Array:
        return 1 / np.maximum(error_N / (1.5 * np.median(error_N) + 0.5), 1).astype(np.float32) ** power

    weight = np.ones(len(wanted_N), np.float32)
    if from_median:
        weight = weights(np.abs(wanted_N - np.median(wanted_N)))
    fit = np.zeros(features_NF.shape[1], np.float32)
    ridge = 1e-4 * len(wanted_N) * np.eye(features_NF.shape[1])
    for _ in range(6):
        heavy = features_NF * weight[:, None]
        fit = np.linalg.solve(heavy.T @ features_NF + ridge, heavy.T @ wanted_N).astype(np.float32)
        weight = weights(np.abs(wanted_N - features_NF @ fit))
    return fit


def _features(luma: Array, blue: Array, red: Array) -> Floats:
    """[N, 11]: what a tone curve and a colour look-up table are made of; the second is the luma itself."""
    y = luma
    u, b, r = ((part - 128) / 128 for part in (luma, blue, red))
    scale = 32.0
    curve = [np.full_like(y, scale), y, scale * u, scale * u * u, scale * u**3]
    colours = [4 * scale * part for part in (b, r, u * b, u * r, b * b, r * r)]
    return np.stack([*curve, *colours], 1).astype(np.float32)


def residuals(both: Pairs, luma: Floats, lost: tuple[float, float] = (0.0, 0.0), *, smeared: float = SMEARED) -> Floats:
    """[K, Y, X]: signed differences in levels from the copy's toned luma [3, K, Y, X].

    Nothing is left where the copy shows it a moment before or after, or would, had a denoiser not put a part of the
    frame before into each frame. Where the copy is as bright, or as dark, as it can
    be, the original may have been brighter, or darker; and of what all became white no curve says how bright it was, so
    that cells of which a part is clipped may differ by that part of what was `lost`.
    """
    unsure = np.maximum(lost[0] * both.clipped_2KYX[0], lost[1] * both.clipped_2KYX[1])
    sharp = luma[1] + smeared * (luma[1] - luma[0])
    over = both.stored_KYX - np.maximum(luma.max(0), sharp) - unsure
    under = both.stored_KYX - np.minimum(luma.min(0), sharp) + unsure
    white, black = _saturated(both.seen_3KYX[1], both.chroma_3KCYX[1])
    over, under = np.where(white, 0, over), np.where(black, 0, under)
    return np.asarray(np.where(over > 0, over, np.where(under < 0, under, 0)), np.float32)


def _saturated(luma: Floats, colours_KCYX: Floats) -> tuple[Array, Array]:
    """[K, Y, X] twice: the cells in which red, green or blue is at its most, and at its least."""
    blue, red = 1.8556 * (colours_KCYX[:, 0] - 128) + luma, 1.5748 * (colours_KCYX[:, 1] - 128) + luma
    green = (luma - 0.2126 * red - 0.0722 * blue) / 0.7152
    channels = np.stack([red, green, blue])
    return channels.max(0) >= MOST_LEVEL, channels.min(0) <= LEAST_SEEN


# Colour, and detail that is finer than a cell.


@dataclass(frozen=True)
class FeatureMaps:
    """Maps of the original [K, C, Y, X] and of the copy [3, K, C, Y, X] on the original's half cells.

    The channels are Cb, Cr and, where both have it and a copy of this size can show it, the energy of each band.
    """

    stored_KCYX: Floats
    seen_3KCYX: Floats
    luma_3KYX: Floats  # of the copy
    bands: tuple[int, ...]  # of the detail, the channels from the third on
    times_K: NDArray[np.float64]
    rows: Array
    columns: Array
    grid: tuple[int, int]


def layers(stored: Fingerprint, seen: Fingerprint, line: TimeMap, window: CropWindow) -> FeatureMaps | None:
    """The maps of both at the times of the original's finer pictures; None where they share no time."""
    common = _common_times(stored, seen, line)
    if common is None:
        return None
    inside, times, used, place = common
    bands = _bands(stored, seen, window)
    kept, shown = [stored.chroma_K2YX[inside]], [seen.chroma_K2YX[used]]
    if bands and stored.detail_K2YX is not None and seen.detail_K2YX is not None:
        kept.append(stored.detail_K2YX[inside][:, list(bands)])
        shown.append(seen.detail_K2YX[used][:, list(bands)])
    wanted, found = np.concatenate(kept, 1).astype(np.float32), np.concatenate(shown, 1)
    grid = (int(wanted.shape[2]), int(wanted.shape[3]))
    flat, rows, columns = seen_through(found.reshape(-1, *found.shape[2:]), window, grid)
    luma, _, _ = seen_through(seen.luma_KYX[used], window, grid)
    maps = flat.reshape(len(used), found.shape[1], len(rows), len(columns))
    wanted = wanted[:, :, rows][:, :, :, columns]
    return FeatureMaps(wanted, maps[place], luma[place], bands, times, rows, columns, grid)


def _bands(stored: Fingerprint, seen: Fingerprint, window: CropWindow) -> tuple[int, ...]:
    """The bands of detail that both could show: of the same cells, and of pictures with as many pixels."""
    if stored.detail_K2YX is None or seen.detail_K2YX is None or stored.grid != seen.grid or not window.whole:
        return ()
    pixels = min(max(stored.size), max(seen.size)) / max(stored.grid)  # of a cell
    return tuple(band for band in (0, 1) if pixels >= FINER / 2**band)


def layer_residuals(both: FeatureMaps) -> tuple[Floats, Floats]:
    """[K, C, Y, X] twice: what the copy's maps do not explain, in their units and in deviations of what coding leaves.

    Each channel is fitted from the copy's own maps; nothing is left where the copy shows it a moment before or after,
    and of colours where one is clipped.
    """
    count = both.stored_KCYX.shape[1]
    left, deviations = np.empty_like(both.stored_KCYX), np.empty_like(both.stored_KCYX)
    clipped = np.logical_or(*_saturated(both.luma_3KYX[1], both.seen_3KCYX[1][:, :2]))
    for channel in range(count):
        wanted = both.stored_KCYX[:, channel]
        features = [_layer_features(both, channel, which) for which in range(3)]
        step = max(1, wanted.size // 40_000)
        own = both.seen_3KCYX[:, :, channel]
        fit = _robust_fit(features[1][::step], (wanted - own[1]).ravel()[::step], from_median=True)
        made = own + np.stack([(one @ fit).reshape(wanted.shape) for one in features])
        high, low = made.max(0), made.min(0)
        over, under = wanted - high - _bleeding(high), wanted - low + _bleeding(-low)
        left[:, channel] = np.where(over > 0, over, np.where(under < 0, under, 0))
        least = LEAST_DETAIL_NOISE
        if channel < 2:
            left[:, channel][clipped] = 0
            least = float(np.hypot(LEAST_NOISE, FILTERED * _bend(made[1] - own[1], own[1])))
        noise = _noise(wanted, own, left[:, channel], least)
        deviations[:, channel] = np.clip(left[:, channel] / noise, -MOST, MOST)
    return left, deviations


def _bleeding(values_KYX: Floats) -> Floats:
    """[K, Y, X]: by how much a cell may be higher, because coarser chroma takes in a part of its neighbours."""
    import cv2

    around = np.stack([cv2.dilate(np.ascontiguousarray(one), np.ones((3, 3), np.uint8)) for one in values_KYX])
    return np.asarray(BLEEDS * (around - values_KYX), np.float32)


def _layer_features(both: FeatureMaps, channel: int, which: int) -> Floats:
    """[N, F]: what a channel is fitted from: colours from a matrix that depends on luma, energy from both bands."""
    y = (both.luma_3KYX[which].ravel() - 128) / 128
    maps = [both.seen_3KCYX[which][:, c].ravel() for c in range(both.stored_KCYX.shape[1])]
    one = np.full_like(y, 32.0)
    if channel < 2:
        blue, red = maps[0] - 128, maps[1] - 128
        return np.stack([one, 32 * y, 32 * y * y, blue, red, y * blue, y * red], 1).astype(np.float32)
    bands = [part for energy in maps[2:] for part in (energy, energy * energy / 64)]
    return np.stack([one, 32 * y, *bands], 1).astype(np.float32)


def layer_changes(both: FeatureMaps, window: CropWindow) -> list[ChangedRegion]:
    """The regions in which the colours, or the detail within the cells, are not the original's."""
    found: list[ChangedRegion] = []
    for what, span, energy in layer_scores(both, _much(window, RESAMPLED_LEVEL)):
        hot = energy > _much(window) * LEAST_SCORE[what][span]
        found += [replace(one, what=what) for one in _boxes(hot, energy, both, window)]
    return [one for what in LAYERS for one in _joined([some for some in found if some.what == what])]


def layer_scores(both: FeatureMaps, much: float = 1.0) -> Iterator[tuple[str, float, Floats]]:
    """The same as `picture_scores` of the colours and of the detail."""
    left, deviations = layer_residuals(both)
    for channel in range(left.shape[1]):
        what = LAYERS[channel >= 2]
        for span in LEAST_SCORE[what]:
            energy = blurred(deviations[:, channel] ** 2, both.times_K, span, HALF_SIDE)
            level = np.sqrt(blurred(left[:, channel] ** 2, both.times_K, span, HALF_SIDE))
            yield what, span, np.where(level > much * LEAST_LEVEL[what], energy, 0).astype(np.float32)


def agreement(both: FeatureMaps) -> tuple[float, float, float] | None:
    """How much the patterns of detail are alike, and from when until when, where they are so least; None: no detail.

    The correlation over cells and pictures of two seconds, of the band that speaks most for the copy. It does not mind
    that coding, scaling and filters weaken or strengthen detail; detail of other things lies elsewhere.
    """
    if not both.bands:
        return None
    gap = float(np.median(np.diff(both.times_K))) if len(both.times_K) > 1 else 0.25
    size = max(1, round(SPANS[0] / gap))
    found: list[tuple[float, float, float]] = []
    for first in range(0, max(1, len(both.times_K) - size // 2), size):
        part = slice(first, first + size)
        alike = [
            _correlation(both.stored_KCYX[part, channel], both.seen_3KCYX[1, part, channel])
            for channel in range(2, 2 + len(both.bands))
        ]
        known = [one for one in alike if one is not None]
        if known:
            times = both.times_K[part]
            found.append((max(known), float(times[0]), float(times[-1]) + gap))
    return min(found, default=None)


def _correlation(stored_KYX: Floats, seen_KYX: Floats) -> float | None:
    """Of two patterns; None where the original is too even to have one."""
    a, b = stored_KYX - stored_KYX.mean(), seen_KYX - seen_KYX.mean()
    if a.std() < LEAST_PATTERN:
        return None
    return float((a * b).mean() / max(float(a.std() * b.std()), 1e-3))


def error_of(both: Pairs) -> float:
    """How unlike the pictures are: the mean squared difference of the middle pictures after a gain and an offset."""
    return float(np.minimum(_departures(both) ** 2, 400).mean())


def _departures(both: Pairs) -> Floats:
    """[K, Y, X]: the copy's pictures less the original's, after a gain and an offset of the whole clip."""
    a, b = both.stored_KYX, both.seen_3KYX[1]
    a0, b0 = a - a.mean(), b - b.mean()
    gain = float(np.clip((a0 * b0).mean() / max(float((b0 * b0).mean()), 1e-3), 0.4, 2.5))
    return np.asarray(gain * b0 - a0, np.float32)


def settled(stored: Fingerprint, seen: Fingerprint, line: TimeMap, window: CropWindow) -> TimeMap:
    """The line whose offset, to a quarter of a frame, makes the finer pictures most alike."""
    gap = float(np.median(np.diff(stored.starts_T))) if len(stored.starts_T) > 1 else 0.04
    for reach, step in ((6.0, 1.0), (1.0, 0.25)):
        shifts = sorted(np.arange(-reach, reach + 0.01, step) * gap, key=abs)
        best = np.inf
        start = line.offset
        for shift in shifts:
            tried = replace(line, offset=start + float(shift))
            both = pairs(stored, seen, tried, window, SETTLED)
            if both is None:
                continue
            error = float(np.median(np.minimum(_departures(both) ** 2, 400).mean((1, 2))))
            if error < 0.995 * best - 1e-3:
                best, line = error, tried
    return line


def energies(both: Pairs) -> tuple[Floats, Floats]:
    """Residuals [K, Y, X] in levels and in deviations of what coding leaves."""
    luma, lost = toned(both)
    left = residuals(both, luma, lost)
    bent = _bend(luma[1] - both.seen_3KYX[1], both.seen_3KYX[1])
    coded = residuals(both, luma, lost, smeared=0)  # what coding leaves is not less because a denoiser may explain it
    noise = _noise(both.stored_KYX, both.seen_3KYX, coded, float(np.hypot(LEAST_NOISE, FILTERED * bent)))
    return left, np.clip(left / noise, -MOST, MOST)


def _bend(change_KYX: Floats, luma_KYX: Floats) -> float:
    """How far a fitted change departs from a gain and an offset, root mean square: such filters leave a part of it."""
    a, b = change_KYX - change_KYX.mean(), luma_KYX - luma_KYX.mean()
    rest = a - b * float((a * b).mean() / max(float((b * b).mean()), 1e-3))
    return float(np.sqrt((rest * rest).mean()))


def _noise(picture: Floats, seen_3KYX: Floats, left: Floats, least: float = LEAST_NOISE) -> Floats:
    """[K, Y, X]: the deviation of cells with as much detail and motion, robust against what was put over."""
    detail = np.abs(np.gradient(picture, axis=1)) + np.abs(np.gradient(picture, axis=2))
    motion = seen_3KYX.max(0) - seen_3KYX.min(0)
    kind = _ranked(detail) * KINDS + _ranked(motion)
    deviation = np.empty(KINDS**2, np.float32)
    for number in range(KINDS**2):
        some = np.abs(left[kind == number])
        deviation[number] = np.quantile(some, 0.8) / 1.2816 if len(some) else 0
    return np.asarray(np.sqrt(deviation[kind] ** 2 + least**2), np.float32)


def _ranked(values: Array) -> Array:
    edges = np.quantile(values, np.linspace(0, 1, KINDS + 1)[1:-1])
    return np.digitize(values, edges)


def blurred(values_KYX: Array, times_K: Array, span: float = SPANS[0], side: int = SIDE) -> Floats:
    """Means over squares of cells and over pictures in a span of time."""
    import cv2

    flat = np.stack([cv2.blur(np.ascontiguousarray(v, np.float32), (side, side)) for v in values_KYX])
    gap = float(np.median(np.diff(times_K))) if len(times_K) > 1 else span
    count = min(len(flat), max(1, round(span / max(gap, 1e-3))))
    sums = np.cumsum(np.concatenate([np.zeros_like(flat[:1]), flat]), axis=0)
    return np.asarray((sums[count:] - sums[:-count]) / count)


def changes(stored: Fingerprint, seen: Fingerprint, line: TimeMap, window: CropWindow) -> list[ChangedRegion]:
    """The regions in which an aligned copy differs from the original by more than coding explains."""
    both = pairs(stored, seen, line, window)
    if both is None:
        return []
    deviations = energies(both)
    found: list[ChangedRegion] = []
    for what, span, energy in picture_scores(both, deviations, _much(window, RESAMPLED_LEVEL)):
        found += _boxes(energy > _much(window) * LEAST_SCORE[what][span], energy, both, window)
    return [_tight(one, both, deviations[1], window) for one in _joined(found)]


def picture_scores(both: Pairs, found: tuple[Floats, Floats], much: float = 1.0) -> Iterator[tuple[str, float, Floats]]:
    """What, the span in seconds, and energies [T, Y, X] of the luma, 0 where the difference is weak in levels."""
    left, deviations = found
    for span in SPANS:
        energy = blurred(deviations**2, both.times_K, span)
        level = np.sqrt(blurred(left**2, both.times_K, span))
        yield "picture", span, np.where(level > much * LEAST_LEVEL["picture"], energy, 0).astype(np.float32)


def _much(window: CropWindow, resampled: float = RESAMPLED) -> float:
    """How many times as much may be left."""
    return 1.0 if window.whole else resampled


def _boxes(hot_KYX: Array, energy_KYX: Array, both: Pairs | FeatureMaps, window: CropWindow) -> list[ChangedRegion]:
    """Connected places, one for each run of times, as boxes of the copy's picture."""
    import cv2

    found = []
    for first in np.flatnonzero(hot_KYX.any((1, 2))).tolist():
        last = min(len(both.times_K) - 1, first + len(both.times_K) - len(hot_KYX))
        count, _, stats, _ = cv2.connectedComponentsWithStats(hot_KYX[first].astype(np.uint8), connectivity=8)
        for left, top, width, height, _ in stats[1:count].tolist():
            score = float(energy_KYX[first, top : top + height, left : left + width].max())
            rows = both.rows[np.array([top, top + height - 1])]
            columns = both.columns[np.array([left, left + width - 1])]
            box = _in_copy(rows, columns, both, window)
            gap = float(np.median(np.diff(both.times_K))) if len(both.times_K) > 1 else 0.0
            found.append(ChangedRegion(float(both.times_K[first]), float(both.times_K[last]) + gap, box, score))
    return found


def _in_copy(
    rows: Array, columns: Array, both: Pairs | FeatureMaps, window: CropWindow
) -> tuple[float, float, float, float]:
    """The box of some of the original's cells in the copy's picture, 0..1."""
    tall, wide = (int(both.grid[0]), int(both.grid[1]))
    top, bottom = ((rows + [0, 1]) / tall - window.top) / window.height
    left, right = ((columns + [0, 1]) / wide - window.left) / window.width
    if window.flipped:
        left, right = 1 - right, 1 - left
    out = np.clip([left, top, right, bottom], 0, 1).round(4).tolist()
    return out[0], out[1], out[2], out[3]


def _tight(one: ChangedRegion, both: Pairs, deviations: Floats, window: CropWindow) -> ChangedRegion:
    """A region at the times and in the cells that its energy is in."""
    rows, columns = both.grid
    centres = np.meshgrid(both.rows + 0.5, both.columns + 0.5, indexing="ij")
    down, across = (centres[0] / rows - window.top) / window.height, (centres[1] / columns - window.left) / window.width
    across = 1 - across if window.flipped else across
    left, top, right, bottom = one.box
    inside = (across >= left) & (across <= right) & (down >= top) & (down <= bottom)
    energy = (deviations**2)[:, inside].mean(1)
    energy = np.where((both.times_K >= one.start_s - 0.3) & (both.times_K <= one.end_s + 0.3), energy, 0)
    when = np.flatnonzero(energy > max(2.0, 0.25 * float(energy.max())))
    cells = (deviations[when] ** 2).mean(0) if len(when) else np.zeros(inside.shape)
    strong = inside & (cells > 0.15 * float(cells[inside].max()))
    if not len(when) or not strong.any():
        return one
    half = np.array([0.5 / columns / window.width, 0.5 / rows / window.height])
    low = np.array([across[strong].min(), down[strong].min()]) - half
    high = np.array([across[strong].max(), down[strong].max()]) + half
    box = np.clip([*low, *high], 0, 1).round(3).tolist()
    gap = float(np.median(np.diff(both.times_K))) if len(both.times_K) > 1 else 0.0
    times = float(both.times_K[when[0]]), float(both.times_K[when[-1]]) + gap / 2
    return ChangedRegion(max(0.0, times[0] - gap / 2), times[1], (box[0], box[1], box[2], box[3]), one.score)


def _joined(found: list[ChangedRegion]) -> list[ChangedRegion]:
    """Boxes that overlap in time and place are one region."""
    out: list[ChangedRegion] = []
    for one in found:
        for index, other in enumerate(out):
            if one.start_s <= other.end_s + 0.3 and other.start_s <= one.end_s + 0.3 and _overlap(one.box, other.box):
                a, b = np.array(one.box), np.array(other.box)
                box = (*np.minimum(a, b)[:2].tolist(), *np.maximum(a, b)[2:].tolist())
                ends = min(one.start_s, other.start_s), max(one.end_s, other.end_s)
                out[index] = ChangedRegion(*ends, box, max(one.score, other.score), one.what)
                break
        else:
            out.append(one)
    return sorted(out, key=lambda one: -one.score)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def refined(
    stored: Fingerprint, seen: Fingerprint, line: TimeMap, window: CropWindow, *, sized: bool = False
) -> tuple[TimeMap, CropWindow]:
    """The line and the window nearby in which the pictures are most alike, to a fraction of a cell.

    In a pan, a shift in time and one of the picture look the same but at the edges: so several times are tried, each
    with the window that fits it best. `sized`: how large the window is, is known; in a zoom that looks the same too.
    Then a window of another size is given back only where it fits clearly better, as in a stretched picture.
    """
    if not sized:
        return _refined(stored, seen, line, window, 4)[1:]
    held, free = (_refined(stored, seen, line, window, moving) for moving in (2, 4))
    return held[1:] if held[0] < CLEARLY_BETTER * free[0] else free[1:]


def _refined(
    stored: Fingerprint, seen: Fingerprint, line: TimeMap, window: CropWindow, moving: int
) -> tuple[float, TimeMap, CropWindow]:
    """The same with the error there. `moving` numbers of the window are free: 2, its place, or 4.

    A copy shows nothing from before the original begins or after it ends: such times count as a little worse.
    """
    gap = float(np.median(np.diff(stored.starts_T))) if len(stored.starts_T) > 1 else 0.0

    def likely(line: TimeMap, error: float) -> float:
        beyond = max(-line.offset, line.at_second(seen.length) - stored.length) - gap / 2
        return error * (1 + BEYOND * max(0.0, beyond / gap)) if gap else error

    best, window = _fitted(stored, seen, line, window, moving)
    best = likely(line, best)
    for shifts in TIMES if gap and not window.whole else ():
        start = line
        for shift in shifts:
            tried = replace(start, offset=start.offset + shift * gap)
            error, there = _fitted(stored, seen, tried, window, moving)
            error = likely(tried, error)
            if error < best:
                best, line, window = error, tried, there
    return best, line, window


def _fitted(
    stored: Fingerprint, seen: Fingerprint, line: TimeMap, window: CropWindow, moving: int
) -> tuple[float, CropWindow]:
    """The window nearby with the least error at the times of a line (Gauss-Newton), and that error."""
    here = pairs(stored, seen, line, window, REFINED, inner=True)
    best = np.inf if here is None else error_of(here)
    for _ in range(6):
        step = _newton(stored, seen, line, window, moving)
        if step is None:
            break
        tried = _moved(window, step)
        there = pairs(stored, seen, line, tried, REFINED, inner=True)
        error = error_of(there) if there is not None and len(there.rows) and len(there.columns) else np.inf
        if error >= best * 0.999:
            break
        window, best = tried, error
    return best, window


def _newton(stored: Fingerprint, seen: Fingerprint, line: TimeMap, window: CropWindow, moving: int) -> Array | None:
    """The step of top, left, height and width, or of the first two, that lowers the differences most."""
    rows, columns = stored.grid
    sizes = np.array([0.25 / rows, 0.25 / columns, 0.25 / rows, 0.25 / columns])
    views: list[Pairs] = []
    for number in range(moving + 1):
        step = np.zeros(len(sizes))
        if number:
            step[number - 1] = sizes[number - 1]
        view = pairs(stored, seen, line, _moved(window, step), REFINED, inner=True)
        if view is None or (views and len(view.times_K) != len(views[0].times_K)):
            return None
        views.append(view)
    in_rows, in_columns = _common([view.rows for view in views]), _common([view.columns for view in views])
    if len(in_rows) < 4 or len(in_columns) < 4:
        return None
    flat = []
    for view in views:
        at = np.searchsorted(view.rows, in_rows)[:, None], np.searchsorted(view.columns, in_columns)[None]
        flat.append(_departures(view)[:, at[0], at[1]].ravel())
    slopes = np.stack([one - flat[0] for one in flat[1:]], 1)  # for one step of each size
    weight = 1 / np.maximum(np.abs(flat[0]) / (2 * np.median(np.abs(flat[0])) + 0.5), 1)
    heavy = slopes * weight[:, None]
    normal = heavy.T @ slopes
    moves = np.linalg.solve(normal + (RIDGE * np.trace(normal) / moving + 1e-6) * np.eye(moving), -heavy.T @ flat[0])
    return np.asarray(np.pad(np.clip(moves, -8, 8), (0, len(sizes) - moving)) * sizes)


def _common(places: list[Array]) -> Array:
    out = places[0]
    for one in places[1:]:
        out = np.intersect1d(out, one)
    return out


def _moved(window: CropWindow, step: Array) -> CropWindow:
    top, left, height, width = (float(v) for v in step)
    return replace(
        window, top=window.top + top, left=window.left + left, height=window.height + height, width=window.width + width
    )
