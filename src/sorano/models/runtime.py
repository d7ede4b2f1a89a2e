"""How the process uses the machine's memory. (Device and dtype are chosen in `sorano/device.py`.)"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> str:
    """Let this process keep the memory it frees, so that every step of a loop reuses it; says what was done.

    By default, glibc returns each large tensor to the system and faults it in again at the next step, page by page: on
    two cores that was a third of a training step. Only glibc has the switch; elsewhere this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return "memory: the allocator's defaults (not glibc)"
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_MAX, 0)
    except (OSError, AttributeError):
        return "memory: the allocator's defaults (not glibc)"
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_M_TOP_PAD, 2**26)
    return "memory: freed memory is kept for the next step (glibc mallopt)"
