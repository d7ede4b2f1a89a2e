"""Time that cannot be moved unnoticed: the wall clock beside one that only goes forward.

A wall clock that was set back would revive what has expired; one set forward would end a cooling-off early. Both are
seen, within a process and, by the anchor's note, across processes of one boot.

Not covered: a clock that is set while the machine is off (only a step back is seen then), and one that runs wrong by
less than a thousandth.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sorano.web.problems import Problem

SLACK_SECONDS = 60.0  # between the clocks at any time
MOST_DRIFT = 0.001  # of the time that has passed: twice what NTP may slew
BACK_SECONDS = 2.0  # that the wall clock may be behind the newest receipt


@dataclass(frozen=True)
class Moment:
    """A reading of both clocks: seconds since 1970, and seconds of this boot."""

    wall: float
    steady: float
    boot: str


@dataclass
class GuardedClock:
    """The clocks of one process."""

    wall: Callable[[], float] = time.time
    steady: Callable[[], float] = field(default_factory=lambda: _steady)
    boot: str = field(default_factory=lambda: _boot())

    def __post_init__(self) -> None:
        self._first = self.read()

    def read(self) -> Moment:
        """Both clocks."""
        return Moment(self.wall(), self.steady(), self.boot)

    def now(self, noted: Moment | None = None) -> Moment:
        """The time, checked against this process's first reading and a noted one. Raises `Problem`."""
        now = self.read()
        for before in (self._first, noted):
            if before is not None and _moved(before, now):
                raise Problem(
                    "clock_moved",
                    "this machine's clock was moved, and nothing is released by it",
                    "set it right, then: sorano desk accept",
                )
        return now


def _moved(before: Moment, now: Moment) -> bool:
    passed = now.wall - before.wall
    if passed < -BACK_SECONDS:
        return True
    if before.boot != now.boot:
        return False
    truly = now.steady - before.steady
    return abs(passed - truly) > SLACK_SECONDS + MOST_DRIFT * abs(truly)


def _steady() -> float:
    """Seconds of this boot, sleep included where the system counts it."""
    for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC"):  # Linux; macOS, where Python's own does not count sleep
        if hasattr(time, name):
            return time.clock_gettime(getattr(time, name))
    return time.monotonic()


def _boot() -> str:
    """A name of this boot; where the system has none, one of this process."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return secrets.token_hex(8)
