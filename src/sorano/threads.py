"""How many threads compute, and how they wait for each other. `import sorano` sets it before torch loads.

By default, the threads of GNU's OpenMP (in torch's wheels for Linux) spin for milliseconds while they wait. As soon as
another process needs a core, each spins for a thread that does not run, and a step takes many times as long. Threads
that sleep at once wake slowly: on two quiet cores a clip then takes twice as long. So `wait_briefly` makes them spin
for a fraction of a millisecond, and `adapt`, called as often as a run takes a step, computes with as many threads as
there are cores that no other process uses (figures: `benchmarks/busy.py`). Neither overrides the user's own setting
(`OMP_WAIT_POLICY`, `GOMP_SPINCOUNT`, `KMP_BLOCKTIME`; `OMP_NUM_THREADS`, `MKL_NUM_THREADS`, `OMP_THREAD_LIMIT`,
`torch.set_num_threads`), and there are never more threads than torch would take.

Not covered: an OpenMP runtime that another library loaded before `import sorano`; it read its settings already.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path

WAIT_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
COUNT_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_THREAD_LIMIT")
SPINS = 5000  # of an idle thread before it sleeps; the runtime's own number is 300,000
LEAST_SECONDS = 0.2  # over which the use of the cores is looked at: 20 ticks of the kernel's clock
OWN_SHARE = 0.25  # of a core: a process that used less was idle, and what others did meanwhile says little about now
MOSTLY_FREE = 0.6  # a core of which others use less than 40 % counts as free

# Where Linux says what the cores do, and what share of them a container may use.
STAT = Path("/proc/stat")
QUOTA = Path("/sys/fs/cgroup/cpu.max")
OLD_QUOTA = (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"))


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let idle threads spin for a moment and then sleep, unless the user has set how they wait."""
    if any(name in environment for name in WAIT_SETTINGS):
        return
    if STAT.exists():
        environment["GOMP_SPINCOUNT"] = str(SPINS)
        environment["KMP_BLOCKTIME"] = "1"  # milliseconds: Intel's and LLVM's runtime, in other builds of torch
    else:  # where the system does not say what its cores do, threads that sleep harm least
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
        environment["KMP_BLOCKTIME"] = "0"


@dataclass(frozen=True)
class Use:
    """What the allowed cores and this process did up to a moment, in seconds."""

    when: float
    busy: float | None  # of all allowed cores together; None where the system does not say
    own: float  # by this process and its ended children

    @classmethod
    def now(cls) -> Use:
        """The counters as they are."""
        own = os.times()
        return cls(time.monotonic(), _busy_seconds(), sum(own[:4]))


def free_cores(before: Use, after: Use, cores: int) -> int:
    """How many of the cores other processes left free between two moments: at least 1."""
    seconds = after.when - before.when
    if before.busy is None or after.busy is None or seconds <= 0:
        return cores
    others = max(0.0, (after.busy - before.busy) - (after.own - before.own)) / seconds
    return max(1, min(cores, math.floor(cores - others + 1 - MOSTLY_FREE)))


def allowed_cores() -> int:
    """Cores that this process may use: its affinity, within its container's quota; at least 1."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        cores = os.cpu_count() or 1
    quota = _quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


class Adapter:
    """Sets torch's number of threads to the cores that other processes leave free, at most torch's own number.

    One for a process, for any of its threads. What the user sets in the environment or by `torch.set_num_threads`
    stays. Raises nothing: where the system does not say what its cores do, all are free.
    """

    def __init__(self) -> None:
        self._last = Use.now()
        self._most: int | None = None  # torch's own number, once it is known
        self._set = threading.local()  # `count`: what was set last; torch keeps the number by thread

    def adapt(self, environment: MutableMapping[str, str] = os.environ) -> int:
        """Looks at the cores and sets the number of threads; returns it. Cheap: within 0.2 s it does nothing.

        The first call waits until the cores have been looked at for 0.2 s.
        """
        import torch

        count: int = torch.get_num_threads()
        if any(name in environment for name in COUNT_SETTINGS) or count != getattr(self._set, "count", count):
            return count
        first = self._most is None
        most = self._most = self._most or count
        self._set.count = count
        seconds = time.monotonic() - self._last.when
        if first and self._last.busy is not None and seconds < LEAST_SECONDS:
            time.sleep(LEAST_SECONDS - seconds)
        elif seconds < LEAST_SECONDS:
            return count
        before, self._last = self._last, Use.now()
        if not first and self._last.own - before.own < OWN_SHARE * seconds:
            return count
        free = max(1, min(most, free_cores(before, self._last, allowed_cores())))
        if free != count:
            torch.set_num_threads(free)
            self._set.count = free
        return free


def _busy_seconds() -> float | None:
    """Seconds that the allowed cores were not idle since the system began."""
    try:
        allowed = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        ticks = 0
        for line in STAT.read_text(encoding="ascii").splitlines():
            name, *counts = line.split()
            if name in allowed:
                user, nice, system, _idle, _waiting, interrupts, soft, stolen = (int(count) for count in counts[:8])
                ticks += user + nice + system + interrupts + soft + stolen
        return ticks / os.sysconf("SC_CLK_TCK")
    except (AttributeError, OSError, ValueError):
        return None


def _quota() -> float | None:
    """Cores' worth of time that a control group allows; None where it sets no limit."""
    try:
        most, period = QUOTA.read_text(encoding="ascii").split()
        return None if most == "max" else int(most) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        pass
    try:
        quota, length = (int(file.read_text(encoding="ascii")) for file in OLD_QUOTA)
        return quota / length if quota > 0 and length > 0 else None
    except (OSError, ValueError):
        return None


adapt = Adapter().adapt
