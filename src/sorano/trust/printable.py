"""Foreign text made safe to print: names in certificates, titles, file names, tags, prompts.

Whatever comes from a file can hold control characters (escape sequences move the cursor and clear the screen), line
breaks (a forged verdict on a line of its own), bidirectional overrides and invisible characters (two names that look
alike). `printable` shows those as visible escapes, `printable_lines` does so for text that has lines of its own, and
`to_json` keeps JSON exact and its bytes harmless.

Not covered: letters of different scripts that look alike, and right-to-left letters, which terminals may reorder.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Any

MOST_MARKS = 4  # combining marks on one letter; more paint over the neighbouring lines
ELLIPSIS = "…"
# Letters and marks without a glyph (Unicode's Default_Ignorable_Code_Point beyond the format characters, and blanks
# that look like spaces): they are printable by category, and invisible.
INVISIBLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, range(0xFE00, 0xFE10)))
)


def printable(text: str, limit: int = 200) -> str:
    """Return `text` on one line, without control, bidirectional, zero-width or unassigned characters.

    They are shown as escapes (``\\n``, ``\\x1b``, ``\\u202e``); other spaces become plain ones. At most `limit`
    characters come back, the last of them an ellipsis where text was cut.
    """
    made: list[str] = []
    size = marks = 0
    for char in text[: limit + 1]:
        marks = marks + 1 if unicodedata.category(char) in ("Mn", "Me") else 0
        shown = _shown(char) if marks <= MOST_MARKS else _escape(char)
        made.append(shown)
        size += len(shown)
        if size > limit:
            break
    joined = "".join(made)
    if size <= limit and len(text) <= limit:
        return joined
    return joined[: max(0, limit - 1)] + ELLIPSIS if limit > 0 else ""


def printable_line(text: str, limit: int = 4000) -> str:
    """Return a line of our own words with foreign text in it: `printable`, with room for a sentence."""
    return printable(text, limit)


def printable_lines(text: str, limit: int = 100_000) -> str:
    """Return a text whose line breaks are its own, every line of it printable."""
    return "\n".join(printable_line(line) for line in text[:limit].split("\n"))


def to_json(words: Any, **options: Any) -> str:
    """Return `words` as JSON with every unsafe character as a ``\\u`` escape: the same value, safe to print."""
    text = json.dumps(words, ensure_ascii=False, **options)
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(char if char == "\n" or _safe(char) else _json_escape(char) for char in text)


def _safe(char: str) -> bool:
    return char.isprintable() and char not in INVISIBLE and not "\U000e0100" <= char <= "\U000e01ef"


def _shown(char: str) -> str:
    if _safe(char):
        return char
    if unicodedata.category(char) == "Zs":
        return " "
    return _escape(char)


def _escape(char: str) -> str:
    """The escape that Python shows for a character; surrogates, which stand for bytes of a file's name, too."""
    code = ord(char)
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char)
    if named:
        return named
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(char: str) -> str:
    code = ord(char)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


__all__ = ["printable", "printable_line", "printable_lines", "to_json"]
