"""Films told in shots: what is seen, for how long, and how one shot follows another.

    size = "64x64"
    [[shot]]
    prompt = "a red ball bounces on the grass at sunset"
    seconds = 4
    [[shot]]
    prompt = "a red ball bounces on the grass at night"
    seconds = 4
    join = "blend"          # goes on from what is on screen; "cut" begins anew
    [[shot]]
    video = "mine.mp4"      # copied, frame by frame

The other words of a board are those of a request: preset, seed, size, guidance ...
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from sorano.errors import RequestError

JOINS = ("cut", "blend")
MOST_SHOTS = 1000
MOST_BYTES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Shot:
    """A stretch of a film: made of a prompt (from an image, if there is one), or copied from a video."""

    prompt: str | None = None  # None: the one before
    seconds: float | None = None  # None: as long as the preset does best; of a video: all of it
    image: str | Path | None = None
    video: str | Path | None = None
    join: str = "cut"  # to the shot before

    def __post_init__(self) -> None:
        if self.join not in JOINS:
            raise RequestError(f"shots are joined by {' or '.join(JOINS)}: got {self.join!r}")
        if self.seconds is not None and (
            not isinstance(self.seconds, int | float)
            or isinstance(self.seconds, bool)
            or not 0 < self.seconds <= 36_000
        ):
            raise RequestError(f"a shot lasts some seconds: got {self.seconds!r}")
        if self.prompt is not None and (not isinstance(self.prompt, str) or not self.prompt.strip()):
            raise RequestError(f"a shot's prompt must be text: got {self.prompt!r}")
        if self.video is not None and self.image is not None:
            raise RequestError("a shot shows a video or begins with an image, not both")
        if self.image is not None and self.join == "blend":
            raise RequestError(
                "a shot that begins with an image cannot go on from what is on screen", 'use join = "cut"'
            )

    def to_dict(self, called: Callable[[Path], str] = attrgetter("name")) -> dict[str, Any]:
        """The shot as JSON, files as they are `called`: by their names, unless told."""
        words = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("image", "video"):
            if words[name] is not None:
                words[name] = called(Path(words[name]))
        return {name: value for name, value in words.items() if value is not None}

    def paths(self) -> list[Path]:
        """The files that it names."""
        return [Path(file) for file in (self.image, self.video) if file is not None]


class Storyboard(tuple[Shot, ...]):
    """The shots of a film, in order: `sorano.generate(shots=Storyboard([Shot(prompt=...), ...]))`."""

    def __new__(cls, shots: Iterable[Shot | Mapping[str, Any]]) -> Storyboard:
        return super().__new__(cls, (as_shot(shot) for shot in shots))


def as_shot(given: Shot | Mapping[str, Any]) -> Shot:
    """A shot, or one of JSON. Raises RequestError, naming what it does not know."""
    if isinstance(given, Shot):
        return given
    if not isinstance(given, Mapping):
        raise RequestError(f"a shot is an object: got {given!r}")
    known = [field.name for field in fields(Shot)]
    for word in given:
        if word not in known:
            raise RequestError(f"a shot has no {word!r}", f"it has {', '.join(known)}")
    return Shot(**given)


def changes(prompt: str, seconds: float | None, at: Sequence[str]) -> tuple[Shot, ...]:
    """The shots of a film whose prompt changes at times, each given as "10s=PROMPT"."""
    times, prompts = [0.0], [prompt]
    for text in at:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*s?\s*=\s*(.+)", text, re.DOTALL)
        if not match:
            raise RequestError(f"a change of prompt is written 10s=PROMPT: got {text!r}", 'use --at "10s=it is night"')
        times.append(float(match[1]))
        prompts.append(match[2])
    end = seconds if seconds is not None else times[-1] + max(times[-1] - times[-2], 1.0)
    times.append(end)
    if any(later <= earlier for earlier, later in zip(times, times[1:], strict=False)):
        raise RequestError(
            f"the prompts change at {', '.join(f'{time:g}' for time in times[1:-1])} s, in a film of {end:g} s",
            "give rising times before the end",
        )
    lengths = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    return tuple(
        Shot(prompt=words, seconds=length, join="blend" if index else "cut")
        for index, (words, length) in enumerate(zip(prompts, lengths, strict=True))
    )


def read_board(path: Path, known: Sequence[str]) -> dict[str, Any]:
    """The words of a request from a board. Raises RequestError naming the line of a word that is not known."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise RequestError(f"{path} is larger than {MOST_BYTES // 1000} kB: no storyboard is")
        text = path.read_text(encoding="utf-8-sig")
        board = tomllib.loads(text)
    except FileNotFoundError as error:
        raise RequestError(f"there is no file {path}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RequestError(
            f"{path} cannot be read as a storyboard: {error}", "it is TOML: [[shot]] and prompt = ..."
        ) from error
    shots = board.pop("shot", None)
    if not isinstance(shots, list) or not shots or len(shots) > MOST_SHOTS:
        raise RequestError(f"{path} has no shots", 'begin one with [[shot]] and prompt = "..."')
    for word in board:
        if word not in known:
            raise RequestError(f"{path}, line {_line(text, word)}: unknown word {word!r}", f"known: {', '.join(known)}")
    names = {field.name for field in fields(Shot)}
    made = []
    for number, words in enumerate(shots):
        for word in words:
            if word not in names:
                line = _line(text, word, number + 1)
                raise RequestError(f"{path}, line {line}: a shot has no {word!r}", f"it has {', '.join(sorted(names))}")
        try:
            shot = Shot(**words)
        except RequestError as error:
            raise RequestError(f"{path}, shot {number + 1}: {error.message}", error.hint) from error
        beside = {name: path.parent / getattr(shot, name) for name in ("image", "video") if getattr(shot, name)}
        made.append(replace(shot, **beside))
    return {**board, "shots": tuple(made)}


def _line(text: str, word: str, shot: int = 0) -> int:
    """The line of a word: of a shot, counted from 1, or before all shots."""
    seen = 0
    for number, line in enumerate(text.splitlines(), 1):
        seen += bool(re.match(r"\s*\[\[\s*shot\s*\]\]", line))
        if seen == shot and re.match(rf"\s*[\"']?{re.escape(word)}[\"']?\s*=", line):
            return number
    return 0
