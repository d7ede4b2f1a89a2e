"""Log lines: one JSON object each, on stderr, with the id of the request or the job; never a key, never a body."""

from __future__ import annotations

import contextvars
import json
import sys
import threading
import time
import traceback
from typing import Any

request_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("request_id", default=None)
LEVELS = {"debug": 0, "info": 1, "warning": 2, "error": 3}
least = "info"
_turn = threading.Lock()


def log(event: str, *, level: str = "info", **words: Any) -> None:
    """Writes one line."""
    if LEVELS[level] < LEVELS[least]:
        return
    line: dict[str, Any] = {"at": round(time.time(), 3), "level": level, "event": event}
    if (name := request_id.get()) is not None:
        line["request_id"] = name
    with _turn:
        try:
            print(json.dumps({**line, **words}, ensure_ascii=True, default=str), file=sys.stderr, flush=True)
        except (OSError, ValueError):
            pass  # a terminal that is gone does not end the server


def log_traceback(error: BaseException) -> None:
    """Writes where an unforeseen error came from."""
    log("traceback", level="error", text="".join(traceback.format_exception(error)))
