"""The machine as the plan sees it: what computes, how fast, and how much memory is free."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# Where Linux, and the control group that a container lives in, say what is free.
MEMINFO = Path("/proc/meminfo")
CGROUP_LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


@dataclass(frozen=True)
class Machine:
    """A device chosen for a run. `reason` says why this device and this dtype."""

    device: str  # as torch names it: "cpu", "cuda:0", "mps"
    dtype: str  # "bfloat16", "float16" or "float32": what products are computed in
    flops_per_second: float  # of a matrix product in that dtype, measured
    free_bytes: int | None  # memory that a run may take; None where the system does not say
    reason: str = ""

    @property
    def bytes_per_value(self) -> int:
        """Bytes of an activation."""
        return 4 if self.dtype == "float32" else 2

    @property
    def on_cpu(self) -> bool:
        """Whether the weights and the frames share the main memory."""
        return self.device == "cpu"


def free_memory_bytes() -> int | None:
    """Main memory that a new process could take, in a container's limit; None where nothing says."""
    known = [free for free in (_meminfo_available(), _container_free(), _sysconf_free()) if free is not None]
    return min(known) if known else None


def _meminfo_available() -> int | None:
    try:
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _container_free() -> int | None:
    for limit, used in CGROUP_LIMITS:
        try:
            most = int(limit.read_text())
            if most < 2**60:  # larger means no limit
                return max(0, most - int(used.read_text()))
        except (OSError, ValueError):
            continue
    return None


def _sysconf_free() -> int | None:
    """All of the memory where the system does not say what is free (macOS), as far as sysconf knows."""
    if MEMINFO.exists():
        return None
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
