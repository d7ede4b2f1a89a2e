"""What a model that knows only the words of its captions can be asked: the interface that its preset gives.

`Preset.captions` is such an object, or None for a model that takes any words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class ParsedPrompt:
    """A prompt as a model of a small vocabulary reads it."""

    text: str  # for the model: only words that it knows
    read_as: tuple[tuple[str, str], ...]  # everyday words, and what stands for them
    unknown: tuple[str, ...]  # words that are left out
    near: Mapping[str, str]  # an unknown word's nearest known one
    has_thing: bool  # whether it names a thing that the model can make


class CaptionVocabulary(Protocol):
    """The words and the grammar of the captions that a model was trained on."""

    @property
    def words(self) -> frozenset[str]:
        """Every token of the text encoder. Raises CheckpointError where its file is missing or corrupt."""

    def read(self, prompt: str) -> ParsedPrompt:
        """A prompt in the model's own words; one that has nothing else comes back as it is."""

    def things(self) -> list[str]:
        """The things that the model can make, as its captions name them; empty where that is not known."""

    def phrases(self) -> dict[str, dict[str, list[list[str]]]]:
        """The phrases of the captions: language -> field -> the phrases of each word, the plainest first."""

    def rules(self) -> dict[str, Any]:
        """What `read` does, as data for readers in other languages: words, phrases and patterns."""

    def merge(self, saved: str, change: str) -> str | None:
        """A caption with a change in it, like "it is night"; None where either is not understood."""
