"""The words of a video that exists: what it says of itself, and changes merged into that.

"it is night" is a change: merged into "a red ball bounces on the grass at sunset" it gives "a red ball bounces on the
grass at night". For a model that knows only the words of its captions that is done by their meaning; for others the
change is said after the rest, which is how their captions are written.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.errors import CheckpointError, RequestError
from sorano.world import synonyms

if TYPE_CHECKING:
    from sorano.presets import Preset
    from sorano.request import Request

ADVICE = "for a free choice of words, use an open preset: --preset with a Wan model's diffusers folder"

CHANGES = re.compile(
    r"^\s*(it'?s|it is|now|make|turn|change|let|but|with|without|add|remove|at|in|on|把|变成|改成|现在)\b", re.I
)
FILLERS = re.compile(
    r"^\s*(now\s+)?((please\s+)?(make|turn|change)\s+(it|the \w+|everything)?\s*(to|into|be)?|"
    r"it'?s|it is|it becomes|let it be|现在是?|改成|变成|换成)\s*",
    re.I,
)
FEW_WORDS = 4
WHOLE_FIELDS = 3  # what a whole prompt of the small world says of a thing and its surroundings, at least
MOST_PHRASINGS = 300


@lru_cache(maxsize=4)
def vocabulary(folder: Path) -> frozenset[str]:
    """The words of a diffusers folder's tokenizer, read without loading it. Raises CheckpointError for a broken one."""
    file = folder / "tokenizer" / "tokenizer.json"
    try:
        words = json.loads(file.read_text(encoding="utf-8-sig"))["model"]["vocab"]
        return frozenset(words if isinstance(words, dict) else (word for word, _ in words))
    except FileNotFoundError as error:
        raise CheckpointError(f"{file} is missing", "fetch the model again") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file} is corrupt: {error}", "fetch the model again") from error


def in_its_words(preset: Preset, prompt: str) -> str:
    """The prompt as a preset's model reads it: in its own words where it knows few, else as it is."""
    if not preset.small_vocabulary or preset.folder is None or not prompt.strip():
        return prompt
    return synonyms.read(prompt, vocabulary(preset.folder)).text


def check_words(request: Request, preset: Preset) -> list[str]:
    """What a small vocabulary makes of a request's prompts, as notes, before anything is loaded.

    Raises RequestError where it knows no word of a prompt, or not what the prompt is about; with `force` only the
    former.
    """
    if not preset.small_vocabulary or preset.folder is None:
        return []
    known = vocabulary(preset.folder)
    prompts = [request.prompt, *(shot.prompt for shot in request.shots if shot.prompt)]
    notes: list[str] = []
    for name, prompt in [*(("prompt", one) for one in prompts), ("negative prompt", request.negative_prompt or "")]:
        if not prompt.strip():
            continue
        reading = synonyms.read(prompt, known)
        guesses = ", ".join(f"{word}: did you mean {near}?" for word, near in reading.near.items())
        named = ", ".join(map(repr, reading.unknown[:12])) + (" ..." if len(reading.unknown) > 12 else "")
        made = synonyms.things(known)
        if not any(char.isalnum() for char in reading.text):
            raise RequestError(f"preset {preset.name} knows no word of the {name} ({named or repr(prompt)})", ADVICE)
        if reading.unknown and made and not reading.has_thing and name == "prompt" and not request.force:
            things = f"it makes {', '.join(made[:-1])} and {made[-1]}"
            raise RequestError(
                f"preset {preset.name} cannot make {named}: {guesses or things}",
                f"{things}; --force makes it without {'that' if len(reading.unknown) == 1 else 'those'}; {ADVICE}",
            )
        if reading.unknown:
            more = f"{guesses} {ADVICE}" if guesses else ADVICE
            notes.append(f"preset {preset.name} does not know {named} and leaves it out; {more}")
        if reading.read_as:
            read = ", ".join(f"{source!r} as {target!r}" for source, target in reading.read_as)
            notes.append(f"preset {preset.name} reads {read}")
    return list(dict.fromkeys(notes))


def merged(saved: str, words: str, *, small_vocabulary: bool = False) -> str:
    """The whole prompt: the words themselves where they are one, else the saved one with the change in it."""
    if small_vocabulary:
        return _by_meaning(saved, words) or _after(saved, words)
    return _after(saved, words)


def _after(saved: str, words: str) -> str:
    if len(words.split()) > FEW_WORDS and not CHANGES.match(words):
        return words
    return f"{saved.rstrip(' .。')}, {words}"


def _by_meaning(saved: str, words: str) -> str | None:
    """The merged caption of the small world; None where it does not know the words."""
    from sorano.world import caption

    try:
        before = caption.parse(saved)
        said = _meaning(words)
    except RequestError:
        return None
    if not said:
        return None
    if {"kind", "color"} & set(said) and len(said) >= WHOLE_FIELDS:
        return words
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


def _meaning(words: str) -> dict[str, str]:
    """Field and word of each phrase; "night" is understood as "at night"."""
    from sorano.world import caption

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
