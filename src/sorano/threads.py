"""How many threads compute, and how they wait for each other. `import sorano` sets it before torch loads.

By default, the threads of GNU's OpenMP (in torch's wheels for Linux) spin while they wait. As soon as another process
needs a core, each spins for a thread that does not run, and a step takes many times as long. So `wait_passively` makes
them sleep, and `choose` takes as many as there are cores that no other process uses. Neither overrides the user's own
setting (`OMP_WAIT_POLICY`, `GOMP_SPINCOUNT`, `KMP_BLOCKTIME`; `OMP_NUM_THREADS`, `MKL_NUM_THREADS`), and the number of
threads is never raised.

Not covered: an OpenMP runtime that another library loaded before `import sorano`; it read its settings already.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path

WAIT_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
COUNT_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_THREAD_LIMIT")
LEAST_SECONDS = 0.2  # over which the use of the cores is looked at: 20 ticks of the kernel's clock
MOSTLY_FREE = 0.6  # a core of which others use less than 40 % counts as free

# Where Linux says what the cores do, and what share of them a container may use.
STAT = Path("/proc/stat")
QUOTA = Path("/sys/fs/cgroup/cpu.max")
OLD_QUOTA = (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"))


def wait_passively(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let idle threads sleep (OMP_WAIT_POLICY=PASSIVE), unless the user has set how they wait."""
    if not any(name in environment for name in WAIT_SETTINGS):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
        environment["KMP_BLOCKTIME"] = "0"  # Intel's and LLVM's runtime, in other builds of torch


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


def choose(default: int, environment: MutableMapping[str, str] = os.environ) -> int:
    """How many threads to compute with, at most `default`, which is torch's own number.

    Decided once in a process: later calls, and a number in the environment, leave `default` as it is. Raises nothing:
    where the system does not say what its cores do, all are free.
    """
    global _decided
    if _decided or any(name in environment for name in COUNT_SETTINGS):
        return default
    _decided = True
    after = Use.now()
    if after.busy is not None and after.when - _START.when < LEAST_SECONDS:
        time.sleep(LEAST_SECONDS - (after.when - _START.when))
        after = Use.now()
    return max(1, min(default, free_cores(_START, after, allowed_cores())))


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


_START = Use.now()
_decided = False
