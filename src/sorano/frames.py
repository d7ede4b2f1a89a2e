"""Frames on their way to a file: another rate, soft edges, and how a new piece takes over from an old one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sorano.video import Frames

BLACK = 6  # of 255: a video that is nowhere brighter shows nothing
LEAST_FLOW_SIDE = 32  # pixels: below, nothing is moved
REACH = 6  # frames before and after a given one that are brought to it
EDGE = 0.02  # of the shorter side: how far inside a region its edge is soft


class Rate:
    """Frames at one rate shown at another: each moment shows the frame that is on screen then. Constant memory."""

    def __init__(self, from_fps: float, to_fps: float) -> None:
        self.ratio = from_fps / to_fps
        self.seen = 0  # frames that came
        self.shown = 0  # frames that went

    def __call__(self, frames_THWC: Frames) -> Frames:
        """What the next frames add."""
        if self.ratio == 1:
            self.seen, self.shown = self.seen + len(frames_THWC), self.shown + len(frames_THWC)
            return frames_THWC
        picked = []
        while (place := int(self.shown * self.ratio + 1e-6)) < self.seen + len(frames_THWC):
            picked.append(max(0, place - self.seen))
            self.shown += 1
        self.seen += len(frames_THWC)
        return frames_THWC[picked]


def resample_rate(chunks: Iterable[Frames], from_fps: float, to_fps: float, count: int) -> Iterator[Frames]:
    """A clip at another rate, `count` frames of it; the last one is held where there are too few."""
    rate, given, last = Rate(from_fps, to_fps), 0, None
    for chunk in chunks:
        last = chunk[-1:]
        shown = rate(chunk)[: count - given]
        if len(shown):
            given += len(shown)
            yield shown
    while last is not None and given < count:
        given += 1
        yield last


def feathered_alpha(mask_HW: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How much of the new shows at each pixel: 0 outside the mask, 1 well inside, rising over a few pixels between."""
    import cv2
    import numpy as np

    soft = max(1.0, EDGE * min(mask_HW.shape))
    padded = np.pad(mask_HW.astype(np.uint8), 1, mode="edge")  # the picture's own border is no edge
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    return np.clip(distance / soft, 0, 1).astype(np.float32) * mask_HW


def fade_out_error(frames_THWC: Frames, error_HWC: NDArray[np.float32], first: int, count: int) -> Frames:
    """Frames that start where others ended: what the coding of those lost is added, less and less over `count` frames.

    `error_HWC` is the last old frame less its coded self; the frames are the new piece's from the `first` on.
    """
    import numpy as np

    left = 1 - (first + 1 + np.arange(len(frames_THWC), dtype=np.float32)) / (count + 1)
    if left[0] <= 0:
        return frames_THWC
    shares = np.clip(left, 0, 1)[:, None, None, None]
    return np.clip(np.rint(frames_THWC + shares * error_HWC), 0, 255).astype(np.uint8)


def blend_into_frame(frames_THWC: Frames, coded_HWC: Frames, target_HWC: Frames) -> Frames:
    """Frames that end where a given one begins: more and more, they are moved and coloured as it differs from its coded
    self. The movement is optical flow (DIS, Kroeger et al. 2016), so that edges move instead of fading.
    """
    import cv2
    import numpy as np

    height, width = target_HWC.shape[:2]
    grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in (target_HWC, coded_HWC)]
    flow = np.zeros((height, width, 2), np.float32)
    if min(height, width) >= LEAST_FLOW_SIDE:
        finder: Any = cv2
        flow = finder.DISOpticalFlow_create(finder.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*grey, None)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)

    def moved(frame_HWC: Frames, share: float) -> NDArray[np.float32]:
        maps = x + share * flow[..., 0], y + share * flow[..., 1]
        return cv2.remap(frame_HWC, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)

    rest = target_HWC.astype(np.float32) - moved(coded_HWC, 1.0)
    made = np.empty_like(frames_THWC)
    for index, (frame_HWC, share) in enumerate(zip(frames_THWC, smooth_ramp(len(made)), strict=True)):
        made[index] = np.clip(np.rint(moved(np.ascontiguousarray(frame_HWC), share) + share * rest), 0, 255)
    return made


def smooth_ramp(count: int) -> list[float]:
    """Shares between 0 and 1, neither of them among them, smooth at both ends."""
    steps = [(index + 1) / (count + 1) for index in range(count)]
    return [step * step * (3 - 2 * step) for step in steps]


def through(frames_THWC: Frames, place: int, target_HWC: Frames) -> Frames:
    """Frames that come to a given one at its place, and leave it again: those around it are brought to it."""
    coded = frames_THWC[place].copy()
    made = frames_THWC.copy()
    first, last = max(0, place - REACH), min(len(made), place + 1 + REACH)
    if first < place:
        made[first:place] = blend_into_frame(frames_THWC[first:place], coded, target_HWC)
    if place + 1 < last:
        made[place + 1 : last] = blend_into_frame(frames_THWC[place + 1 : last][::-1], coded, target_HWC)[::-1]
    made[place] = target_HWC
    return made


def crossfade(first_THWC: Frames, second_THWC: Frames) -> Frames:
    """One picture gives way to another over as many frames as both have, gently at both ends."""
    import numpy as np

    made = np.empty_like(first_THWC)
    shares = smooth_ramp(len(made))
    for index, (one, other, share) in enumerate(zip(first_THWC, second_THWC, shares, strict=True)):
        made[index] = np.rint((1 - share) * one.astype(np.float32) + share * other)
    return made
