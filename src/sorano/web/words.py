"""Words and phrases found in what people typed, however it is written."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache


def plain(text: str) -> str:
    """A text for comparing: words of letters and digits with one blank between them.

    Compatibility forms (Unicode's NFKC) and case are folded; punctuation and characters that cannot be seen do not
    count; accents do.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"[^\W_]+", "".join(one for one in folded if unicodedata.category(one) != "Cf")))


def found_in(text: str, phrases: Iterable[str]) -> tuple[str, ...]:
    """The phrases of a list that a text has: as whole words, and Chinese anywhere, for it is written without blanks."""
    within = plain(text)
    return tuple(phrase for phrase in phrases if _has(within, _plain_phrase(phrase)))


@lru_cache(maxsize=16_384)
def _plain_phrase(phrase: str) -> str:
    """`plain` of a phrase, which many texts are asked for."""
    return plain(phrase)


def _has(within: str, phrase: str) -> bool:
    if not phrase:
        return False
    if phrase.isascii():
        return f" {phrase} " in f" {within} "
    return phrase.replace(" ", "") in within.replace(" ", "")
