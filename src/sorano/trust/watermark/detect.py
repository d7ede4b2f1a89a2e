"""The invisible mark read back from video and pictures, after coding, cutting and scaling.

    marker = Marker(Payload(1, "made", 0x123456789A), height=540, width=960, fps=24)
    marked = [marker(chunk) for chunk in chunks]      # a stream, in constant memory
    found = detect(marked, fps=24)                    # a Detection, or None

A payload is a version, a kind ("made" by AI, or "captured") and an id of 40 bits, with a CRC of 28 bits, in a polar
code of 1,024 bits on the carriers of `trust/watermark/pattern.py`. It is the same through the clip, so that it is read
as one. A video within a video is looked for by its edges (`trust/watermark/inset.py`).

Covered: re-coding, crops, scaling, mirror images, dropped frames, brightness, contrast, blur, noise; how well is
measured by benchmarks/watermark.py and kept in docs/LOG.md. A mark is reported only where its CRC holds:
`false_accept_rate` of a Detection is the chance, at most, that noise passed.

Not covered: who made it. The public key ships with Sorano, so that anyone can read the mark; whoever has it can also
remove it, forge it, or copy it onto other content. A mark alone is a hint, never proof; a signature proves
(`trust/provenance/credentials.py`). No mark proves nothing either. Coarse coding (CRF 40 and more) and strong
perspective often destroy it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sorano.trust.watermark import inset, search
from sorano.trust.watermark.embed import rgb_of
from sorano.trust.watermark.pattern import carrier, chip_size, chroma_carriers
from sorano.trust.watermark.payload import CODE, HEADER_PASSES, PUBLIC_KEY, Payload
from sorano.trust.watermark.polar import LIST_SIZE

if TYPE_CHECKING:
    from PIL.Image import Image

Frames = NDArray[np.uint8]
Array = NDArray[Any]

FEW_FRAMES = 16  # that an uncut clip is read from first: four times as quick, and mostly enough
MOST_WITHIN = 3  # grids of a part of the frames that are decoded: there is less to mistake
USUAL_WORDS = 40  # at most, that are decoded of an uncut frame: ten looks of four words
SLOT_SECONDS = 2.0
SLOT_SCORE = 6.0  # deviations of chance that one slot must show of the decoded word


@dataclass(frozen=True)
class Detection:
    """A mark that was read, and how the frames lay on its grid."""

    payload: Payload
    confidence: float  # deviations of chance by which the decoded word stands out
    scale: float  # the chips' size, in that of an uncut frame of this size
    shift: tuple[float, float]  # where the tile begins in the first chips: down and right, in pixels
    flipped: bool  # mirrored
    rotation: float  # degrees, counter-clockwise
    slots_read: int  # of 2 s each, those that carry this word
    slots: int
    fps: float
    false_accept_rate: float  # how often, at most, a look at unmarked frames would find some mark
    size: tuple[int, int]  # height and width of the frames
    grid: search.Grid  # in a kept frame (`search.SHORT`), or in the part of it that holds the marked video
    level: int
    box: inset.Box | None = None  # that part: top, left, bottom, right in pixels of a kept frame; None for all

    def crop_of(self, signed: tuple[int, int]) -> float:
        """The share of a side that is shown of a frame of a size that was marked: the larger one; above 1 with bars.

        `scale` is in chips of an uncut frame of the size that is seen; in small ones a chip has 3 pixels, cut or not.
        """
        pixels = self.grid.chip * min(self.size) / min(*self.size, search.SHORT)  # of a chip in the frames
        larger = pixels / chip_size(*signed)
        return max(shown / (side * larger) for shown, side in zip(self.size, signed, strict=True))


def detect(frames: Iterable[Array], *, fps: float, key: bytes = PUBLIC_KEY, thorough: bool = True) -> Detection | None:
    """Reads the mark of a clip that comes in chunks, [T, H, W, 3] RGB or [T, H, W] luma, uint8; None without one.

    Constant memory, whatever the length. Without `thorough` only an uncut frame is tried, at any size.
    """
    kept = search.Kept()
    for chunk in frames:
        for frame in chunk:
            kept.add(frame)
    return read(kept, fps=fps, key=key, thorough=thorough)


def read(
    kept: search.Kept,
    *,
    fps: float,
    key: bytes = PUBLIC_KEY,
    thorough: bool = True,
    again: bool = False,
    has_time: Callable[[], bool] = lambda: True,
) -> Detection | None:
    """Reads the mark of the frames that were kept of a clip. `again`: an uncut frame was tried before, in vain.

    The search ends where `has_time`, asked before each candidate, says no.
    """
    if not kept.frames or min(kept.size) < 16:
        return None
    if not again and (found := _quickly(kept, key, fps)) is not None:
        return found
    tried = USUAL_WORDS if again else 0
    for part, box, grid, level in _places(kept, key, thorough, again):
        if not has_time():
            return None
        payload, tried = _decoded(part, key, grid, level, tried)
        if payload is not None:
            every = range(len(part.frames))
            return replace(_described(part, key, payload, grid, level, fps, tried, every)[0], size=kept.size, box=box)
    return None


def _quickly(kept: search.Kept, key: bytes, fps: float) -> Detection | None:
    """The mark of an uncut clip by a few of its frames, and by all of those slots in which these do not show it."""
    step = len(kept.frames) // FEW_FRAMES
    if step < 2:
        return None
    some = list(range(0, len(kept.frames), step))
    usual = search.usual_grid(kept)
    level = search.level_of(usual.chip)
    payload, tried = _decoded(kept, key, usual, level, 0, some)
    if payload is None:
        return None
    found, unread = _described(kept, key, payload, usual, level, fps, tried, some)
    if unread:
        slots = _slots_of(kept, fps)
        some = [index for index in range(len(slots)) if index % step == 0 or slots[index] in unread]
        found, _ = _described(kept, key, payload, usual, level, fps, tried, some)
    return replace(found, size=kept.size)


def _places(
    kept: search.Kept, key: bytes, thorough: bool, again: bool
) -> Iterator[tuple[search.Kept, inset.Box | None, search.Grid, int]]:
    """Where a mark may lie, the likely and cheap places first: all of the frames or a part, a grid, its level."""
    if not again:
        yield from ((kept, None, grid, level) for grid, level in _uncut(kept, key))
    if not thorough:
        return
    parts = [(kept.cut(box), box) for box in inset.rectangles(kept.frames)]
    if parts:
        kept.forget()  # all of one part at every size is as much as fits: others are made anew when their turn comes
    for part, box in parts:
        yield from ((part, box, grid, level) for grid, level in _uncut(part, key))
        part.forget()
    for part, box in parts:
        found = search.search(part, key, search.chips_within(part), most=MOST_WITHIN, quarters=1)
        yield from ((part, box, grid, level) for grid, level in found)
        part.forget()
    for grid, level in search.search_turned(kept, key):
        yield kept, None, grid, level
    for grid, level in search.search(kept, key, search.all_chips(kept), quarters=1):
        yield kept, None, grid, level


def _uncut(kept: search.Kept, key: bytes) -> Iterator[tuple[search.Grid, int]]:
    """The grids of a clip that was not cut, but for a few rows."""
    usual = search.usual_grid(kept)
    yield usual, search.level_of(usual.chip)
    yield from search.search(kept, key, search.near_chips(usual.chip), most=2)
    tried = [usual.chip]
    for chip in search.likely_chips(kept):
        if all(abs(math.log(chip / other)) > 0.01 for other in tried):
            yield from search.search(kept, key, search.near_chips(chip), most=2)
        tried.append(chip)


def _decoded(
    kept: search.Kept, key: bytes, grid: search.Grid, level: int, tried: int, some: Sequence[int] | None = None
) -> tuple[Payload | None, int]:
    """The payload that a grid shows, if any, and how many words were tried by now."""
    soft = search.seen_in(kept, key, grid, level, some).soft_values()
    for message in CODE.decode(soft):
        payload = None if message is None else Payload.from_bits(message)
        if payload is not None:
            return payload, tried + len(soft)
    return None, tried + len(soft)


def _described(
    kept: search.Kept,
    key: bytes,
    payload: Payload,
    grid: search.Grid,
    level: int,
    fps: float,
    tried: int,
    some: Sequence[int],
) -> tuple[Detection, set[int]]:
    """All that is said about a mark that was read in some of the kept frames; and the slots that do not show it."""
    word = CODE.encode(payload.bits())
    seen = search.seen_in(kept, key, grid, level, some)
    pattern = carrier(key).tile(word)
    weight = search.weights(seen.planes[0][1], pattern)
    clearest = np.argsort(-np.abs(weight))[:8]
    white = np.asarray(sum(np.float32(weight[index]) * kept.white(level, some[index]) for index in clearest))
    picture = search.SearchImage(white, None, carrier(key), chroma_carriers(key)[1], level)
    closer = search.refined(picture, grid, [pattern])
    closer_seen = search.seen_in(kept, key, closer, level, some)
    score, closer_score = seen.agreement(word), closer_seen.agreement(word)
    if closer_score > score:
        grid, seen, score = closer, closer_seen, closer_score
    slots = np.array(_slots_of(kept, fps))[list(some)]
    every = set(slots.tolist())
    unread = {slot for slot in every if not _shows(seen, word, np.flatnonzero(slots == slot))}
    pixels = min(kept.size) / min(kept.frames[0].shape)  # of the frame for one of a kept frame
    turn = grid.turn
    a = grid.matrix_23
    lean = float(np.degrees(np.arctan2(a[1, 0] - a[0, 1], a[0, 0] + a[1, 1])))
    found = Detection(
        payload=payload,
        confidence=score,
        scale=grid.chip * pixels / chip_size(*kept.size),
        shift=(grid.shift_2[0] * grid.chip * pixels, grid.shift_2[1] * grid.chip * pixels),
        flipped=turn >= 4,
        rotation=(90.0 * (turn % 4) - lean + 180) % 360 - 180,
        slots_read=len(every) - len(unread),
        slots=len(every),
        fps=fps,
        false_accept_rate=min(1.0, CODE.false_accept_rate(tried, LIST_SIZE) * HEADER_PASSES),
        size=kept.size,
        grid=grid,
        level=level,
    )
    return found, unread


def _slots_of(kept: search.Kept, fps: float) -> list[int]:
    """The slot of two seconds in which each kept frame lies."""
    return [int(time / fps // SLOT_SECONDS) for time in kept.times]


def _shows(seen: search.Seen, word: Array, frames: NDArray[np.int64]) -> bool:
    """Whether a slot shows the word: together, or in one frame alone.

    Weights that suit the word are found for each frame and plane, so chance alone agrees by the root of their number.
    """
    return any(
        seen.agreement(word, some) >= SLOT_SCORE + (len(some) * len(seen.planes)) ** 0.5
        for some in (frames, *(frames[i : i + 1] for i in range(len(frames))))
    )


def detect_image(image: Image | Array, *, key: bytes = PUBLIC_KEY, thorough: bool = True) -> Detection | None:
    """Reads the mark of a picture; None where there is none."""
    return detect([rgb_of(image)[None]], fps=1.0, key=key, thorough=thorough)
