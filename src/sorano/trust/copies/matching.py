"""Whether a copy shows what was signed, all of it and nothing else: pictures, times and audio against a fingerprint.

    found = match(stored, seen)       # two Fingerprints, `seen` with a finer picture of every frame
    found.state                       # same, changed, other
    found.changes                     # what differs, each with its time and in words

"same" needs every moment of the copy to be answered by the original at one rate, whole or trimmed at its ends, the same
audio, and no region that differs by more than coding does. "changed" means that a good part of it is the original.

Not covered: rotation, frames around the picture, crops below 0.75 of a side, cuts and insertions below the reach of a
frame, changes that are smaller or weaker than docs/trust.md says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sorano.trust.copies import audio_fingerprint, residual
from sorano.trust.copies.alignment import SPEEDS, Aligner, CropWindow, Piece, TimeMap
from sorano.trust.copies.fingerprint import Fingerprint

Array = NDArray[Any]

ENOUGH = 0.2  # of the time shown that must be the original's and not plain: below, it is another picture
CLEARLY = 0.1  # of the time that another window must answer for beyond the one before it
ALIGNED = 0.5  # of the time: below, other windows are tried
CROPS = (0.97, 0.94, 0.91, 0.88, 0.85, 0.82, 0.79, 0.76)
SMALLEST_CROP = 0.5
TRIMMED_SECONDS = 0.15  # at an end: less is not worth saying
SPEED_SLACK = 0.011
FASTER = 0.15  # of the time that another speed must explain beyond the original's own
JITTER_SECONDS = 0.4  # a run of frames near their time for no longer is what dropped frames leave
SHORTEST_COPY = 0.5  # seconds: less of a video is no copy that can be judged
HARMLESS = 0.002  # seconds
ALIKE_DETAIL = 0.75  # correlation of the patterns of detail, below which they are not of one picture (docs/LOG.md)


@dataclass(frozen=True)
class Change:
    """One thing that differs: its kind, what it is in words, when, and where in the picture (0..1) if not all of it."""

    kind: str  # foreign, cut, order, again, held, speed, region, detail, sound
    words: str
    start_s: float = 0.0
    end_s: float = 0.0
    box: tuple[float, float, float, float] | None = None
    score: float = 0.0
    harmless: bool = False  # what an ordinary forwarding may do: no copy, but no accusation either


@dataclass(frozen=True)
class Match:
    """How a copy and a fingerprint compare. `part` is the original's seconds that are shown, where it was trimmed."""

    state: str  # same, changed, other
    share: float  # of the time shown that the original answers for
    changes: tuple[Change, ...] = ()
    part: tuple[float, float, float] | None = None  # from, to, of
    crop: CropWindow = field(default_factory=CropWindow)
    why: str = ""  # "other": what speaks against it, where there is more to say

    @property
    def same(self) -> bool:
        """Whether it is a copy, as far as this can be seen."""
        return self.state == "same"


def match(stored: Fingerprint, seen: Fingerprint, hint: tuple[float, bool] | None = None) -> Match:
    """Compares a copy with what was signed. `hint`: by how much the mark says that it was cropped, and mirrored."""
    if stored.still != seen.still:
        kinds = ("a picture", "a video")
        return Match(
            "other", 0.0, why=f"{kinds[stored.still]} made of {kinds[not stored.still]}: what was signed is one"
        )
    found = aligned(stored, seen, hint)
    if found is None:
        return Match("other", 0.0)
    aligner, line = found
    if stored.still:
        return _of_still(stored, seen, aligner, line)
    pieces = aligner.pieces(line)
    share = sum(one.end - one.start for one in pieces if one.explained) / max(seen.length, 1e-6)
    speed = _other_speed(aligner, pieces, share, seen.length)
    if speed is not None:
        return speed
    changes = list(_in_time(pieces))
    if aligner.evidence(_explained_moments(aligner, pieces)) < ENOUGH:
        return Match("other", share)
    if seen.length < min(SHORTEST_COPY, 0.9 * stored.length):
        return Match("other", share, why=f"it is too short ({seen.length:.2f} s) to be told from another")
    if not changes:
        regions, window, line = _regions(stored, seen, line, aligner.window)
        changes += regions or list(_in_parts(pieces))
        changes += _in_sound(stored, seen, line)
    else:
        window = aligner.window
    return Match("changed" if changes else "same", min(1.0, share), tuple(changes), _part(stored, seen, line), window)


def _other_speed(aligner: Aligner, pieces: list[Piece], share: float, length: float) -> Match | None:
    """That the copy is played at another speed or backwards, where that says more than pieces at the right speed do."""
    lines = len({one.line for one in pieces if one.explained})
    if share > 0.98 and lines <= 1:
        return None
    free = aligner.best_line(speeds=SPEEDS)
    good = aligner.explained(free)
    likely = 0.9 if lines > 2 else max(0.9, share + FASTER)
    if abs(free.speed - 1) <= SPEED_SLACK or aligner.share(good) < likely or aligner.evidence(good) < ENOUGH:
        return None
    return Match("changed", aligner.share(good), (_speed(free, length),), crop=aligner.window)


def _explained_moments(aligner: Aligner, pieces: list[Piece]) -> Array:
    times = aligner.shown.times_S
    good = np.zeros(len(times), bool)
    for one in pieces:
        if one.explained:
            good |= (times >= one.start) & (times < one.end)
    return good


# Where the copy's picture and time lie.


def aligned(stored: Fingerprint, seen: Fingerprint, hint: tuple[float, bool] | None) -> tuple[Aligner, TimeMap] | None:
    """The window and the line in which most of the copy is answered for; None where nothing fits."""
    best: tuple[float, Aligner, TimeMap] | None = None
    for window in _windows(stored, seen, hint):
        aligner = Aligner(stored, seen, window)
        if not len(aligner.cells):
            continue
        line = residual.settled(stored, seen, aligner.best_line(), window) if not stored.still else TimeMap(0.0)
        if not window.whole:
            line, window = residual.refined(stored, seen, line, window, sized=hint is not None)
            aligner = Aligner(stored, seen, window)
        good = aligner.explained(line, near=1.0) if stored.still else np.asarray(aligner.lines(line)[1].any(0))
        evidence = aligner.evidence(good)
        if best is None or evidence > best[0] + CLEARLY:
            best = (evidence, aligner, line)
        if evidence >= ALIGNED:
            break
    return None if best is None else best[1:]


def _windows(stored: Fingerprint, seen: Fingerprint, hint: tuple[float, bool] | None) -> Iterator[CropWindow]:
    """Windows to try: whole, mirrored, then the best place of each crop, the likeliest first; or as the hint says."""
    if hint is not None:
        crop = 1 / max(hint[0], 1e-3)
        if SMALLEST_CROP <= crop <= 0.994 and (found := _placed(stored, seen, crop, hint[1])) is not None:
            yield found[1]
        yield CropWindow(flipped=hint[1])
        return
    yield CropWindow()
    yield CropWindow(flipped=True)
    tried = [
        found for crop in CROPS for flipped in (False, True)
        if (found := _placed(stored, seen, crop, flipped)) is not None
    ]  # fmt: skip
    for _, window in sorted(tried, key=lambda one: -one[0])[:4]:
        yield window


def _placed(stored: Fingerprint, seen: Fingerprint, crop: float, flipped: bool) -> tuple[float, CropWindow] | None:
    """The place of a crop of a size at which the copy's pictures are like some of the original's, and how like."""
    import cv2

    rows, columns = stored.grid
    shape = seen.size[0] / seen.size[1] * stored.size[1] / stored.size[0]  # of the shares of height and width
    tall, wide = (crop, crop / shape) if shape > 1 else (crop * shape, crop)
    side = (max(4, round(wide * columns)), max(4, round(tall * rows)))
    if side[0] > columns or side[1] > rows:
        return None
    some = np.linspace(0, len(seen.luma_KYX) - 1, min(3, len(seen.luma_KYX))).astype(int)
    known = np.linspace(0, len(stored.luma_KYX) - 1, min(48, len(stored.luma_KYX))).astype(int)
    total: Array | None = None
    for picture in seen.luma_KYX[some]:
        small = cv2.resize(picture[:, ::-1] if flipped else picture, side, interpolation=cv2.INTER_AREA)
        score = np.max(
            [
                cv2.matchTemplate(np.ascontiguousarray(one), small, cv2.TM_CCOEFF_NORMED)
                for one in stored.luma_KYX[known]
            ],
            0,
        )
        total = score if total is None else total + score
    if total is None:
        return None
    row, column = np.unravel_index(int(total.argmax()), total.shape)
    window = CropWindow(float(row) / rows, float(column) / columns, tall, wide, flipped)
    return float(total.max()), window


def _regions(
    stored: Fingerprint, seen: Fingerprint, line: TimeMap, window: CropWindow
) -> tuple[list[Change], CropWindow, TimeMap]:
    """What differs in the picture, after the window was refined where regions seem to differ."""
    regions = residual.changes(stored, seen, line, window)
    if regions:
        line_there, closer = residual.refined(stored, seen, line, window)
        fewer = residual.changes(stored, seen, line_there, closer)
        if sum(one.score for one in fewer) < sum(one.score for one in regions):
            regions, window, line = fewer, closer, line_there
    changes = [_region(one) for one in regions]
    both = residual.layers(stored, seen, line, window)
    if both is None:
        return changes, window, line
    if not regions:
        changes += [_region(one) for one in residual.layer_changes(both, window)]
    alike = residual.agreement(both)
    if not changes and alike is not None and alike[0] < ALIKE_DETAIL:
        changes.append(_foreign_detail(*alike))
    return changes, window, line


def _foreign_detail(alike: float, start: float, end: float) -> Change:
    """That what is finer than a cell is something else's. Strong filters do this too: it is no accusation."""
    when = f"between {start:.1f} and {end:.1f} s " if end - start < 1e6 else ""
    words = f"{when}its fine detail lies elsewhere than the original's ({max(alike, 0):.0%} alike)"
    return Change("detail", words, start, end, score=1 - alike, harmless=True)


def _of_still(stored: Fingerprint, seen: Fingerprint, aligner: Aligner, line: TimeMap) -> Match:
    """The same of two pictures."""
    good = aligner.explained(line, near=1.0)
    if aligner.evidence(good) < ENOUGH:
        return Match("other", 0.0)
    regions, window, _ = _regions(stored, seen, line, aligner.window)
    return Match("changed" if regions else "same", 1.0, tuple(regions), crop=window)


def _part(stored: Fingerprint, seen: Fingerprint, line: TimeMap) -> tuple[float, float, float] | None:
    """Which part of the original is shown, where an end of it is missing."""
    start, end = max(0.0, line.offset), min(stored.length, float(line.at_second(seen.length)))
    if start > TRIMMED_SECONDS or end < stored.length - TRIMMED_SECONDS:
        return round(start, 2), round(end, 2), round(stored.length, 2)
    return None


# What differs, in words.


def _speed(line: TimeMap, length: float) -> Change:
    if line.speed < 0:
        return Change("order", "it is played backwards", 0.0, length)
    return Change("speed", f"it is played at {line.speed:.0%} of its speed", 0.0, length)


def _in_time(pieces: list[Piece]) -> Iterator[Change]:
    """Cuts, insertions, held pictures, pieces in another order."""
    before: Piece | None = None
    unexplained = 0.0  # seconds since the last explained piece
    for one in pieces:
        length = one.end - one.start
        if one.explained:
            if before is not None and before.line != one.line:
                yield from _jump(before, one, unexplained)
            before, unexplained = one, 0.0
            continue
        unexplained += length
        if length <= HARMLESS or (one.near and length <= JITTER_SECONDS):
            continue
        if one.local or (one.held and length <= JITTER_SECONDS - 0.1):
            continue
        when = (
            f"between {one.start:.2f} and {one.end:.2f} s" if length < 1 else f"from {one.start:.1f} to {one.end:.1f} s"
        )
        if one.held:
            yield Change("held", f"{when} a picture is held that moves in the original", one.start, one.end)
        else:
            yield Change("foreign", f"{when} other pictures were put in", one.start, one.end)


def _in_parts(pieces: list[Piece]) -> Iterator[Change]:
    """Moments in which a part of the picture is not the original's, though no region was found."""
    for one in pieces:
        if one.local and not one.explained and not one.near and one.end - one.start > HARMLESS:
            words = f"a part of the picture is another between {one.start:.2f} and {one.end:.2f} s"
            yield Change("region", words, one.start, one.end)


def _jump(before: Piece, after: Piece, between: float) -> Iterator[Change]:
    """What a step from one line to another says, `between` unexplained seconds later."""
    if before.line is None or after.line is None:
        return
    left = float(before.line.at_second(before.end))
    entered = float(after.line.at_second(after.start))
    step = entered - left
    at = after.start
    if step > 0.02:
        words = f"at {at:.2f} s the original's {left:.2f} to {entered:.2f} s are left out"
        yield Change("cut", words, before.end, after.start)
    elif step < -max(0.02, between * 0.2):
        words = (
            f"from {at:.2f} s on it shows again, or in another order, what the original shows from {entered:.2f} s on"
        )
        yield Change("order", words, after.start, after.end)


def _region(one: residual.ChangedRegion) -> Change:
    left, top, right, bottom = one.box
    when = f" between {one.start_s:.1f} and {one.end_s:.1f} s" if one.end_s > one.start_s else ""
    where = f"{left:.0%}-{right:.0%} across, {top:.0%}-{bottom:.0%} down{when}"
    words = {
        "picture": f"something was put over {where}",
        "colour": f"the colours were changed {where}",
        "detail": f"the detail was changed {where}",
    }[one.what]
    return Change("region", words, one.start_s, one.end_s, one.box, one.score)


def _in_sound(stored: Fingerprint, seen: Fingerprint, line: TimeMap) -> list[Change]:
    """What of the audio is missing, added or different."""
    found = audio_fingerprint.differences(stored.sound, seen.sound, line.offset, seen.length)
    return [Change("sound", one.words, one.start_s, one.end_s, harmless=one.harmless) for one in found]
