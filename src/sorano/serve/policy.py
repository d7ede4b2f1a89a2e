"""What a server refuses: a word list, a classifier of prompts and one of pictures; all are off unless told.

Classifiers are callables that are named as "module:function" and return why something is refused, or None:
`(text: str) -> str | None` for prompts, `(frames_THWC: uint8 array, RGB) -> str | None` for what is uploaded and what
is made. A refusal is code `content_policy_violation` in the API and exit code 5 of the command.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.errors import PolicyError, RequestError, SoranoError
from sorano.web.problems import Problem
from sorano.web.words import found_in

if TYPE_CHECKING:
    from sorano.sources import Source
    from sorano.video import Frames

Classifier = Callable[[str], str | None]
MOST_SHOWN = 32  # frames of a video that a classifier of pictures is shown, evenly over its time; all of shorter ones
SHOWN_SIDE = 512  # pixels of the longer side that they are reduced to


class Policy:
    """Checks the prompts of a request. Raises `Problem` for what is refused."""

    def __init__(self, words: frozenset[str] = frozenset(), classifier: Classifier | None = None) -> None:
        self.words, self.classifier = words, classifier

    @classmethod
    def read(cls, blocked: Path | None, classifier: str = "") -> Policy:
        """The policy of a file with one word or phrase a line, and of a callable. Raises RequestError."""
        words: frozenset[str] = frozenset()
        if blocked is not None:
            try:
                lines = blocked.read_text(encoding="utf-8-sig").splitlines()
            except (OSError, ValueError) as error:
                raise RequestError(f"{blocked} cannot be read: {error}", "give a text file, one word a line") from error
            words = frozenset(line for line in lines if line.strip() and not line.startswith("#"))
        if not classifier:
            return cls(words)
        return cls(words, load_classifier(classifier))

    def check_words(self, request: Mapping[str, Any]) -> None:
        """Looks at every prompt in fields of `Request`."""
        said = [
            request.get("prompt"),
            request.get("producer"),
            *(shot.get("prompt") for shot in request.get("shots", ())),
        ]
        for text in (one for one in said if isinstance(one, str)):
            if found_in(text, self.words):
                raise Problem(
                    "content_policy_violation",
                    "the prompt has words that this server refuses",
                    "say it otherwise",
                    param="prompt",
                )
            why = None if self.classifier is None else self.classifier(text)
            if why is not None:
                raise Problem(
                    "content_policy_violation", f"the prompt is refused: {why}", "say it otherwise", param="prompt"
                )


def load_classifier(name: str) -> Callable[[Any], str | None]:
    """The callable that is named as "module:function". Raises RequestError for one that is not there."""
    module, _, function = name.partition(":")
    try:
        found: Callable[[Any], str | None] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise RequestError(f"there is no classifier {name}: {error}", "name it MODULE:FUNCTION") from error
    return found


def check_frames(path: str, classifier: str, seconds: float | None) -> None:
    """Shows a classifier of pictures a picture (`seconds` None), or frames of a video evenly over its time.

    Frames are reduced to 512 pixels. Raises PolicyError for what it refuses, VideoError, and SoranoError where the
    classifier fails. Call it in a child process: the file may be anybody's.
    """
    from sorano.sources import open_source
    from sorano.video import read_image

    classify = load_classifier(classifier)
    if seconds is None:
        frames_THWC: Frames = _reduced(read_image(path)[None])
    else:
        source = open_source(path)
        count = min(MOST_SHOWN, source.num_frames)
        wanted = {round(place * (source.num_frames - 1) / max(1, count - 1)) for place in range(count)}
        frames_THWC = _frames_at(source, wanted)
    try:
        why = classify(frames_THWC)
    except Exception as error:
        raise SoranoError(f"the classifier {classifier} failed: {type(error).__name__}: {error}"[:300]) from error
    if why is not None:
        raise PolicyError(f"what it shows is refused: {why}")


def _frames_at(source: Source, wanted: set[int]) -> Frames:
    """Frames of a video by their numbers, reduced one by one: whole ones of a large video would not fit."""
    import numpy as np

    picked: list[Frames] = []
    first = 0
    for chunk in source.frames():
        picked += [_reduced(chunk[place, None]) for place in range(len(chunk)) if first + place in wanted]
        first += len(chunk)
    return np.concatenate(picked)


def _reduced(frames_THWC: Frames) -> Frames:
    from sorano.video import resize

    height, width = frames_THWC.shape[1:3]
    scale = min(1.0, SHOWN_SIDE / max(height, width))
    return resize(frames_THWC, max(1, round(width * scale)), max(1, round(height * scale)))
