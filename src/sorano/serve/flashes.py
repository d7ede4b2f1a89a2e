"""Whether a video flashes more than three times in a second (WCAG 2.2, 2.3.1), found on its pictures.

A flash is a pair of opposing changes of relative luminance by a tenth of its range or more, the darker picture below
0.8; a red flash is such a pair from or to a saturated red. It counts where a quarter of the picture does it at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Plane = NDArray[np.float32]

SIDE = 48  # pixels that a picture is looked at with
MOST_FLASHES = 3  # in any one second
LEAST_CHANGE, DARK = 0.1, 0.8  # of relative luminance
LEAST_RED, LEAST_RED_CHANGE = 0.8, 20.0  # R / (R + G + B), and (R - G - B) * 320
LEAST_AREA = 0.25


@dataclass(frozen=True)
class Flashes:
    """The most flashes in any one second of a video."""

    general: int
    red: int

    @property
    def is_safe(self) -> bool:
        """Whether it may start to play by itself."""
        return max(self.general, self.red) <= MOST_FLASHES


def flashes_of(path: Path) -> Flashes:
    """Looks at every picture of a video. Raises the errors of `media.read`."""
    from sorano.media import read

    return count((one.start, one.frame_HWC) for one in read.pictures_of(read.probe(path)))


def count(pictures: Iterable[tuple[float, NDArray[np.uint8]]]) -> Flashes:
    """The flashes of pictures [H, W, RGB] with their times in seconds."""
    general, red = _Changes(LEAST_CHANGE), _Changes(LEAST_RED_CHANGE)
    for time, rgb_HWC in pictures:
        light_HWC = _linear(rgb_HWC)
        luminance_HW = light_HWC @ _weights()
        general.see(time, luminance_HW, luminance_HW < DARK)
        total_HW = light_HWC.sum(-1) + 1e-6
        is_red_HW = light_HWC[..., 0] / total_HW >= LEAST_RED
        excess_HW = (2 * light_HWC[..., 0] - light_HWC.sum(-1)).clip(0) * 320
        red.see(time, excess_HW, is_red_HW)
    return Flashes(general.most(), red.most())


class _Changes:
    """Each pixel's last turning point, and the times at which enough of them turned the other way."""

    def __init__(self, least: float) -> None:
        self.least = least
        self.times: list[tuple[float, int]] = []
        self._extreme_HW: Plane | None = None
        self._marked_HW: NDArray[np.bool_] | None = None

    def see(self, time: float, value_HW: Plane, marked_HW: NDArray[np.bool_]) -> None:
        """The next picture; `marked_HW` is where one of a pair of pictures must be for the change to count."""
        if self._extreme_HW is None or self._marked_HW is None:
            self._extreme_HW, self._marked_HW = value_HW.copy(), marked_HW
            return
        change_HW = value_HW - self._extreme_HW
        counts_HW = (abs(change_HW) >= self.least) & (marked_HW | self._marked_HW)
        for sign in (1, -1):
            if ((change_HW * sign > 0) & counts_HW).mean() >= LEAST_AREA:
                last = self.times[-1][1] if self.times else 0
                if last != sign:
                    self.times.append((time, sign))
        self._extreme_HW[counts_HW] = value_HW[counts_HW]
        self._marked_HW = (self._marked_HW & ~counts_HW) | (marked_HW & counts_HW)

    def most(self) -> int:
        """The most pairs of opposing changes in any one second."""
        times = [time for time, _ in self.times]
        return max((sum(start <= one <= start + 1 for one in times) // 2 for start in times), default=0)


def _linear(rgb_HWC: NDArray[np.uint8]) -> Plane:
    """Linear light of a picture at a small size."""
    import cv2
    import numpy as np

    height, width = rgb_HWC.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(rgb_HWC, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    linear: Plane = np.where(small <= 0.04045, small / 12.92, ((small + 0.055) / 1.055) ** 2.4).astype(np.float32)
    return linear


def _weights() -> Plane:
    import numpy as np

    return np.array([0.2126, 0.7152, 0.0722], np.float32)
