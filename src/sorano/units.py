"""What people write for lengths and sizes: "2s", "1.5 s", "50 frames", "720p", "16:9"."""

from __future__ import annotations

import re
from contextlib import suppress

from sorano.errors import RequestError

_NUMBER = r"(\d+(?:[.,]\d+)?|[.,]\d+)"
_SECONDS = re.compile(rf"{_NUMBER}\s*(s|sec|secs|second|seconds|秒|m|min|mins|minute|minutes|分钟)?", re.I)
_FRAMES = re.compile(r"(\d+)\s*(frame|frames|f|帧)", re.I)
_LINES = re.compile(r"(\d{2,4})\s*p", re.I)
_ASPECT = re.compile(r"(\d{1,3}(?:\.\d+)?)\s*[:：]\s*(\d{1,3}(?:\.\d+)?)")
_NAMED_LINES = {"hd": 720, "full hd": 1080, "fhd": 1080, "2k": 1440, "qhd": 1440, "4k": 2160, "uhd": 2160}
MOST_ASPECT = 8.0  # wider, or narrower, is a slip of the pen


def parse_seconds(text: str) -> float | None:
    """Seconds of "2", "2s", "1.5 s" or "1 min"; None where it is no time. Any number is one, however long."""
    with suppress(ValueError):
        return float(text)
    match = _SECONDS.fullmatch(text.strip())
    if not match:
        return None
    value = float(match[1].replace(",", "."))
    return value * 60 if (match[2] or "").lower()[:1] in ("m", "分") and match[2] else value


def parse_frames(text: str) -> int | None:
    """The number of "50 frames"; None where it is no number of frames."""
    match = _FRAMES.fullmatch(text.strip())
    return int(match[1]) if match else None


def parse_lines(text: str) -> int | None:
    """The shorter side in pixels of "720p", "1080p" or "4K"; None where it is no such name."""
    match = _LINES.fullmatch(text.strip())
    return int(match[1]) if match else _NAMED_LINES.get(text.strip().lower())


def parse_aspect(text: str) -> float | None:
    """Width over height of "16:9"; None where it is no ratio. Raises RequestError for one that nobody shows."""
    match = _ASPECT.fullmatch(text.strip())
    if not match:
        return None
    width, height = float(match[1]), float(match[2])
    if not height or not 1 / MOST_ASPECT <= width / height <= MOST_ASPECT:
        raise RequestError(f"a picture's sides are at most {MOST_ASPECT:g} to 1: got {text}", "use --size 16:9")
    return width / height


def is_size_name(text: str) -> bool:
    """Whether a size is given by a name or a ratio, which a preset turns into pixels."""
    return parse_lines(text) is not None or parse_aspect(text) is not None
