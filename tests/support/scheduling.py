"""Keep the encoder SVT-AV1 from making this process real-time.

Run by root, SVT-AV1 gives its threads and the one that calls it the policy SCHED_FIFO, priority 99. All that this
process starts afterwards inherits that, and one busy loop among it starves the machine.
"""

import ctypes
import sys

CAP_SYS_NICE = 23  # linux/capability.h
PR_CAPBSET_DROP = 24  # linux/prctl.h
CAPABILITY_VERSION_3 = 0x20080522


def give_up_real_time() -> None:
    """Drop CAP_SYS_NICE (capabilities(7)) in this thread, in threads and processes that it starts; Linux only."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)  # this thread
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then the same of capabilities 32 and above
    if libc.capget(header, sets) != 0:
        return  # a sandbox forbids to ask: then it grants no real-time either
    for which in range(3):
        sets[which] &= ~(1 << CAP_SYS_NICE)
    libc.prctl(PR_CAPBSET_DROP, CAP_SYS_NICE, 0, 0, 0)
    libc.capset(header, sets)
