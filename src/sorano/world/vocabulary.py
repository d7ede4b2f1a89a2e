"""The caption vocabulary of models that were trained on the world (`sorano.captions.CaptionVocabulary`)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from sorano.captions import ParsedPrompt
from sorano.errors import CheckpointError, RequestError
from sorano.world import caption, synonyms

FILLERS = re.compile(
    r"^\s*(now\s+)?((please\s+)?(make|turn|change)\s+(it|the \w+|everything)?\s*(to|into|be)?|"
    r"it'?s|it is|it becomes|let it be|现在是?|改成|变成|换成)\s*",
    re.I,
)
WHOLE_FIELDS = 3  # what a whole prompt says of a thing and its surroundings, at least
MOST_PHRASINGS = 300
FIELDS = ("color", "size", "kind", "motion", "ground", "time", "camera")


@dataclass(frozen=True)
class WorldVocabulary:
    """The words of a diffusers folder's tokenizer, read as captions of the world."""

    folder: Path

    @property
    def words(self) -> frozenset[str]:
        """Every token of the tokenizer. Raises CheckpointError where its file is missing or corrupt."""
        return read_tokens(self.folder)

    def read(self, prompt: str) -> ParsedPrompt:
        """A prompt in the model's own words: everyday words become the world's, what stays unknown is left out."""
        return synonyms.read(prompt, self.words)

    def things(self) -> list[str]:
        """The things of the world whose names the tokenizer has."""
        return synonyms.things(self.words)

    def phrases(self) -> dict[str, dict[str, list[list[str]]]]:
        """The phrases of the world's captions: language -> field -> the phrases of each word, the plainest first."""
        return _phrases()

    def rules(self) -> dict[str, Any]:
        """What `read` does, as data for readers in other languages (`sorano.export`)."""
        return synonyms.rules(self.words)

    def merge(self, saved: str, change: str) -> str | None:
        """The caption of what `saved` shows with the change in it; None where the world does not know the words."""
        try:
            before = caption.parse(saved)
            said = _meaning(change)
        except RequestError:
            return None
        if not said:
            return None
        if {"kind", "color"} & set(said) and len(said) >= WHOLE_FIELDS:
            return change
        thing = {name: said[name] for name in ("kind", "color", "size", "motion", "finish") if name in said}
        scene = {name: said[name] for name in ("ground", "time", "camera", "weather", "sun") if name in said}
        things = before.things
        if thing and things:
            which = next((i for i, one in enumerate(things) if one.kind == said.get("kind")), 0)
            changed = {name: value for name, value in thing.items() if name != "kind" or len(things) == 1}
            things = tuple(replace(one, **changed) if i == which else one for i, one in enumerate(things))
        wanted: Any = replace(before, things=things, **scene).canonical()
        for seed in range(MOST_PHRASINGS):
            text = caption.describe(wanted, seed)
            if caption.parse(text) == wanted:
                return text
        return None


@lru_cache(maxsize=4)
def read_tokens(folder: Path) -> frozenset[str]:
    """The tokens of a diffusers folder's tokenizer, unloaded. Raises CheckpointError for a broken one."""
    file = folder / "tokenizer" / "tokenizer.json"
    try:
        words = json.loads(file.read_text(encoding="utf-8-sig"))["model"]["vocab"]
        return frozenset(words if isinstance(words, dict) else (word for word, _ in words))
    except FileNotFoundError as error:
        raise CheckpointError(f"{file} is missing", "fetch the model again") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file} is corrupt: {error}", "fetch the model again") from error


@lru_cache(maxsize=1)
def _phrases() -> dict[str, dict[str, list[list[str]]]]:
    tables = {"en": caption.ENGLISH, "zh": caption.CHINESE}
    return {
        language: {field: [list(one) for one in table[field].values()] for field in FIELDS if field in table}
        for language, table in tables.items()
    }


def _meaning(words: str) -> dict[str, str]:
    """Field and word of each phrase; "night" is understood as "at night"."""
    bare = FILLERS.sub("", words).strip(" .,!。，") or words
    error: RequestError | None = None
    for text in (words, bare, f"at {bare}", f"on the {bare}", f"a {bare}", f"the camera {bare}"):
        try:
            said = {field: word for field, word in caption.phrases(text) if field != "filler"}
        except RequestError as failure:
            error = failure
            continue
        if said:
            return said
    raise error or RequestError(f"nothing is said by {words!r}")
