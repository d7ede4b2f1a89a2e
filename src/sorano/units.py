"""What people write for lengths, sizes and counts: "2s", "1:30", "50 frames", "720p", "16:9", "portrait", "30B"."""

from __future__ import annotations

import re
from contextlib import suppress

from sorano.errors import RequestError

_NUMBER = r"(\d+(?:[.,]\d+)?|[.,]\d+)"
_SECONDS = re.compile(
    rf"{_NUMBER}\s*(ms|milliseconds?|毫秒|s|secs?|seconds?|秒|m|mins?|minutes?|分钟|h|hrs?|hours?|小时)?", re.I
)
_CLOCK = re.compile(r"(\d{1,2}):([0-5]\d(?:\.\d+)?)")
_UNITS = {"ms": 1e-3, "mil": 1e-3, "毫": 1e-3, "m": 60.0, "分": 60.0, "h": 3600.0, "小": 3600.0}
_COUNT = re.compile(rf"{_NUMBER}\s*(k|thousand|m|million|b|bn|billion|t|trillion)?", re.I)
_SCALES = {"k": 1e3, "th": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
_FRAMES = re.compile(r"(\d+)\s*(frame|frames|f|帧)", re.I)
_LINES = re.compile(r"(\d{2,4})\s*p", re.I)
_ASPECT = re.compile(r"(\d{1,3}(?:\.\d+)?)\s*[:：]\s*(\d{1,3}(?:\.\d+)?)")
_NAMED_LINES = {"hd": 720, "full hd": 1080, "fhd": 1080, "2k": 1440, "qhd": 1440, "4k": 2160, "uhd": 2160}
_NAMED_ASPECTS = {
    "square": 1.0, "portrait": 9 / 16, "vertical": 9 / 16, "landscape": 16 / 9, "horizontal": 16 / 9,
    "widescreen": 16 / 9,
}  # fmt: skip
MOST_ASPECT = 8.0  # wider, or narrower, is a slip of the pen


def parse_seconds(text: str) -> float | None:
    """Seconds of "2", "2s", "500 ms", "1 min" or "1:30"; None where it is no time. Any number is one, however long."""
    with suppress(ValueError):
        return float(text)
    if clock := _CLOCK.fullmatch(text.strip()):
        return 60 * int(clock[1]) + float(clock[2])
    match = _SECONDS.fullmatch(text.strip())
    if not match:
        return None
    unit = (match[2] or "").lower()
    scale = next((scale for begins, scale in _UNITS.items() if unit.startswith(begins)), 1.0)
    return float(match[1].replace(",", ".")) * scale


def parse_count(text: str) -> float:
    """The number of "30e9", "30B", "1.3 billion" or "14 b". Raises RequestError where it is none."""
    with suppress(ValueError):
        return float(text)
    match = _COUNT.fullmatch(text.strip())
    if not match:
        raise RequestError(f"{text!r} is no number of parameters", "write it like 30e9, 30B or 1.3B")
    unit = (match[2] or "").lower()
    return float(match[1].replace(",", ".")) * next(
        (s for begins, s in _SCALES.items() if unit.startswith(begins)), 1.0
    )


def parse_frames(text: str) -> int | None:
    """The number of "50 frames"; None where it is no number of frames."""
    match = _FRAMES.fullmatch(text.strip())
    return int(match[1]) if match else None


def parse_lines(text: str) -> int | None:
    """The shorter side in pixels of "720p", "1080p" or "4K"; None where it is no such name."""
    match = _LINES.fullmatch(text.strip())
    return int(match[1]) if match else _NAMED_LINES.get(text.strip().lower())


def parse_aspect(text: str) -> float | None:
    """Width over height of "16:9" or "portrait"; None where it is neither.

    Raises RequestError for a ratio that nobody shows.
    """
    if text.strip().lower() in _NAMED_ASPECTS:
        return _NAMED_ASPECTS[text.strip().lower()]
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
