"""Many requests from a file, one JSON object a line, each with the fields of a request.

    {"prompt": "a red ball bounces on the grass", "seed": 1}
    {"prompt": "a blue cube spins on the snow", "seconds": "2s", "output": "cube.mp4"}

A .txt file has a prompt on each line.

The model is loaded once. What a line made is noted in FILE.done as soon as it is there, so that a stopped batch goes on
where it was; a line that fails is said and the others go on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sorano.engine import generate
from sorano.errors import RequestError, SoranoError
from sorano.listener import Listener
from sorano.request import Request
from sorano.result import Video, default_path

RIVALS = {"seconds": "num_frames", "num_frames": "seconds"}  # of which a line's own puts a shared one aside
MOST_LINES = 100_000
MOST_BYTES = 100_000_000


@dataclass(frozen=True)
class BatchItem:
    """One request of a batch: its number in the file, the request, and a digest of what it says."""

    number: int
    request: Request
    digest: str


@dataclass(frozen=True)
class Outcome:
    """What became of a line: the path of the file, or why there is none; `was_there` where an earlier run made it."""

    line: BatchItem
    path: Path | None = None
    error: SoranoError | None = None
    was_there: bool = False


def read(file: Path, folder: Path, shared: Mapping[str, Any]) -> list[BatchItem]:
    """The requests of a file of JSON lines, `shared` options under their own words, outputs in a folder.

    Raises RequestError naming the line that is wrong, before anything is made. A line without a seed gets one that
    follows from its words, so that the batch makes the same again.
    """
    try:
        if file.stat().st_size > MOST_BYTES:
            raise RequestError(f"{file} is larger than {MOST_BYTES // 10**6} MB", "split it into several files")
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise RequestError(f"there is no file {file}", 'it has a line like {"prompt": "..."} for each video') from error
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{file} cannot be read: {error}") from error
    known = {field.name for field in fields(Request)}
    lines: list[BatchItem] = []
    for number, words in enumerate(text.splitlines(), 1):
        if words.strip():
            words = json.dumps({"prompt": words.strip()}) if file.suffix.lower() == ".txt" else words
            lines.append(_line(file, number, words, folder, shared, known))
    if not lines or len(lines) > MOST_LINES:
        raise RequestError(f"{file} has {len(lines)} requests", 'it has a line like {"prompt": "..."} for each video')
    outputs = [str(line.request.output) for line in lines]
    twice = next((output for index, output in enumerate(outputs) if output in outputs[:index]), None)
    if twice is not None:
        raise RequestError(f"{file}: two lines write {twice}", 'give each its own "output", or its own "seed"')
    return lines


def _line(file: Path, number: int, words: str, folder: Path, shared: Mapping[str, Any], known: set[str]) -> BatchItem:
    place = f"{file}, line {number}"
    try:
        given = json.loads(words)
    except ValueError as error:
        raise RequestError(f"{place} is not JSON: {error}", 'a line is {"prompt": "..."}') from error
    if isinstance(given, str):
        given = {"prompt": given}
    if not isinstance(given, dict):
        raise RequestError(f"{place} is no object", 'a line is {"prompt": "..."}')
    unknown = [name for name in given if name not in known]
    if unknown:
        raise RequestError(f"{place}: a request has no {unknown[0]!r}", f"it has {', '.join(sorted(known))}")
    shared = {name: value for name, value in shared.items() if RIVALS.get(name) not in given}
    digest = hashlib.sha256(json.dumps({**shared, **given}, sort_keys=True, default=str).encode()).hexdigest()[:16]
    values = {**shared, "seed": int(digest[:8], 16), **given}
    try:
        request = Request(**values)
        output = Path(request.output) if request.output is not None else None
        if output is None:
            stem = default_path(request, folder).stem if request.variations == 1 else f"line-{number}"
            output = folder / f"{number:04d}-{stem}.mp4"
        elif not output.is_absolute():
            output = folder / output
        values["output"] = output
        return BatchItem(number, Request(**values), digest)
    except RequestError as error:
        raise RequestError(f"{place}: {error.message}", error.hint) from error


def done_file(file: Path) -> Path:
    """Where it is noted which lines were made."""
    return file.with_name(f"{file.name}.done")


def make(
    lines: list[BatchItem],
    noted: Path,
    listener: Listener,
    say: Callable[[Outcome], None],
    make_one: Callable[..., Video] = generate,
) -> list[Outcome]:
    """Make every line that was not made yet, and note each as it is there. Errors are outcomes; interrupts end it."""
    outcomes = []
    made = _noted(noted)
    for line in lines:
        assert line.request.output is not None
        path = Path(line.request.output)
        if made.get(line.digest) == path.name and path.is_file():
            outcome = Outcome(line, path, was_there=True)
        else:
            try:
                video = make_one(line.request, listener=listener)
                outcome = Outcome(line, video.path)
                with noted.open("a", encoding="utf-8") as log:
                    log.write(json.dumps({"digest": line.digest, "file": path.name}) + "\n")
            except SoranoError as error:
                outcome = Outcome(line, error=error)
        outcomes.append(outcome)
        say(outcome)
    return outcomes


def _noted(file: Path) -> dict[str, str]:
    """The names of the files that were made, by the digest of their lines; a half-written line is passed over."""
    made: dict[str, str] = {}
    if file.is_file():
        for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                words = json.loads(text)
                made[str(words["digest"])] = str(words["file"])
            except (ValueError, KeyError, TypeError):
                continue
    return made
