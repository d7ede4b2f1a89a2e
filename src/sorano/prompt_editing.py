"""The words of a video that exists: what it says of itself, and changes merged into that.

"it is night" is a change: merged into "a red ball bounces on the grass at sunset" it gives "a red ball bounces on the
grass at night". For a model that knows only the words of its captions that is done by their meaning; for others the
change is said after the rest, which is how their captions are written.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sorano.errors import RequestError

if TYPE_CHECKING:
    from sorano.captions import CaptionVocabulary, ParsedPrompt
    from sorano.presets import Preset
    from sorano.request import Request

ADVICE = "for a free choice of words, use an open preset: --preset with a Wan model's diffusers folder"

CHANGES = re.compile(
    r"^\s*(it'?s|it is|now|make|turn|change|let|but|with|without|add|remove|at|in|on|把|变成|改成|现在)\b", re.I
)
FEW_WORDS = 4


def read_prompt(preset: Preset, prompt: str) -> ParsedPrompt | None:
    """How a preset's model reads a prompt; None where it takes any words."""
    return preset.captions.read(prompt) if preset.captions is not None and prompt.strip() else None


def replace_synonyms(preset: Preset, prompt: str) -> str:
    """The prompt as a preset's model reads it: in its own words where it knows few, else as it is."""
    reading = read_prompt(preset, prompt)
    return prompt if reading is None else reading.text


def check_words(request: Request, preset: Preset) -> list[str]:
    """What a small vocabulary makes of a request's prompts, as notes, before anything is loaded.

    Raises RequestError where it knows no word of a prompt, or not what the prompt is about; with `force` only the
    former.
    """
    captions = preset.captions
    if captions is None:
        return []
    prompts = [request.prompt, *(shot.prompt for shot in request.shots if shot.prompt)]
    notes: list[str] = []
    for name, prompt in [*(("prompt", one) for one in prompts), ("negative prompt", request.negative_prompt or "")]:
        if not prompt.strip():
            continue
        reading = captions.read(prompt)
        guesses = ", ".join(f"{word}: did you mean {near}?" for word, near in reading.near.items())
        named = ", ".join(map(repr, reading.unknown[:12])) + (" ..." if len(reading.unknown) > 12 else "")
        made = captions.things()
        if not any(char.isalnum() for char in reading.text):
            raise RequestError(f"preset {preset.name} knows no word of the {name} ({named or repr(prompt)})", ADVICE)
        if reading.unknown and made and not reading.has_thing and name == "prompt" and not request.force:
            it = "that" if len(reading.unknown) == 1 else "those"
            raise RequestError(
                f"preset {preset.name} cannot make {named}" + (f": {guesses}" if guesses else ""),
                f"it makes {', '.join(made[:-1])} and {made[-1]}; --force makes it without {it}; {ADVICE}",
            )
        if reading.unknown:
            more = f"{guesses} {ADVICE}" if guesses else ADVICE
            notes.append(f"preset {preset.name} does not know {named} and leaves it out; {more}")
        if reading.read_as:
            read = ", ".join(f"{source!r} as {target!r}" for source, target in reading.read_as)
            notes.append(f"preset {preset.name} reads {read}")
    return list(dict.fromkeys(notes))


def merged(saved: str, words: str, captions: CaptionVocabulary | None = None) -> str:
    """The whole prompt: the words themselves where they are one, else the saved one with the change in it.

    `captions` is the vocabulary of the model that makes the video (`Preset.captions`); None where it takes any words.
    """
    by_meaning = None if captions is None else captions.merge(saved, words)
    return by_meaning or _after(saved, words)


def _after(saved: str, words: str) -> str:
    if len(words.split()) > FEW_WORDS and not CHANGES.match(words):
        return words
    return f"{saved.rstrip(' .。')}, {words}"
