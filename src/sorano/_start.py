"""The first moments of the command, while Python still imports: Ctrl-C ends it with 130 and without a traceback.

Imported before anything else by `sorano/__init__.py`. It does nothing where `sorano` is used as a library.

Not covered: the time in which Python itself starts, when no handler of ours can be there.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

NAMES = ("-m", "sorano", "sorano.exe", "sorano-script.py")  # argv[0] of the command ("-m" while it is being found)


def _end(_signal: int, _frame: FrameType | None) -> None:
    os.write(2, b"\ninterrupted: nothing was written\n")
    os._exit(130)


def begin() -> None:
    """Let Ctrl-C end the command at once, until `listen` is called."""
    if os.path.basename(sys.argv[0] if sys.argv else "") not in NAMES:
        return
    try:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _end)
    except ValueError:  # not the main thread
        pass


def listen() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


begin()
