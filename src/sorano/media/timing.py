"""When what a file holds is seen and heard: seconds from stamps that may be missing, repeat, go back or jump."""

from __future__ import annotations

import math

MOST_SECONDS = 36_000.0  # that a frame may last, or silence
JUMP = 10.0  # seconds ahead in a broadcast stream that are a splice, not a pause
SMALL_STEP = 1e-6  # seconds
SLACK_SECONDS = 0.05  # by which stamps of sound may be off before silence is put in or samples are left out


class Clock:
    """Seconds from the first frame on, from stamps that may be missing, go back, or jump."""

    def __init__(self, rate: float, is_broadcast: bool) -> None:
        self.step = 1 / rate
        self.jump = JUMP if is_broadcast else math.inf
        self.offset: float | None = None
        self.last = 0.0
        self.seconds = self.step  # of the last frame

    def __call__(self, stamp: float | None, seconds: float) -> float:
        """When a frame with this stamp, in seconds, is shown; `seconds` is its own length, 0 where it is not known."""
        first = self.offset is None
        if stamp is None:
            time = 0.0 if first else self.last + self.seconds
            self.offset = self.offset or 0.0
        elif first:
            self.offset, time = -stamp, 0.0
        else:
            assert self.offset is not None
            time = stamp + self.offset
            if time < self.last - SMALL_STEP or time > self.last + self.seconds + self.jump:
                time = self.last + self.seconds
                self.offset = time - stamp
        if not first and time > self.last and not seconds:
            self.seconds = time - self.last
        self.last = time
        self.seconds = seconds if 0 < seconds <= MOST_SECONDS else self.seconds
        return time


class Continued:
    """Stamps of sound in seconds, brought to go on where they jump: back by a second, or ahead in a broadcast."""

    def __init__(self, is_broadcast: bool) -> None:
        self.jump = JUMP if is_broadcast else math.inf
        self.offset = 0.0
        self.end: float | None = None  # of what came last

    def __call__(self, stamp: float, seconds: float) -> float:
        """When what has this stamp, and lasts for so long, is heard."""
        time = stamp + self.offset
        if self.end is not None and not self.end - 1 <= time <= self.end + self.jump:
            self.offset += self.end - time
            time = self.end
        self.end = time + seconds
        return time


def placed(stamp: float | None, count: int, rate: int, num_samples: int) -> tuple[int, int]:
    """How many of some samples to leave out, because they lie before what came, and how many silent ones to put before.

    `stamp` is their time in seconds, None where they follow; `count` is the number of samples that came, at `rate`.
    """
    if stamp is None:
        return 0, 0
    late = round(stamp * rate) - count
    if abs(late) <= (SLACK_SECONDS * rate if count else 0) or late > MOST_SECONDS * rate:
        return 0, 0
    return (0, late) if late > 0 else (min(num_samples, -late), 0)
