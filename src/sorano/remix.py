"""The request that a video carries, ready to be made again: its files are found in the library, or beside the video."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from sorano import asset_cache
from sorano.errors import RequestError, VideoError
from sorano.request import Request
from sorano.video import read_metadata

GIVEN = ("image", "last")


def request_of(video: Path) -> dict[str, Any]:
    """The words of the request that made a video: `Request(**words)` makes it again.

    Raises RequestError for a video that carries none, or whose files are not on this machine.
    """
    try:
        record = read_metadata(video)
    except VideoError as error:
        raise RequestError(error.message, error.hint) from error
    words = record.get("request")
    if not isinstance(words, dict):
        raise RequestError(f"{video} carries no request", "only videos that Sorano made, and their copies, do")
    if "prompt" not in words:
        raise RequestError(f"{video} was made in private: it carries no prompt", "give it to sorano generate again")
    known = {field.name for field in fields(Request)}
    words = {name: value for name, value in words.items() if name in known}
    digests = record.get("files") or {}

    def found(name: str) -> str:
        if name not in digests:
            raise RequestError(f"{video} does not say which {name} it was made of")
        return str(asset_cache.find(name, digests[name], video.parent))

    for name in GIVEN:
        if words.get(name):
            words[name] = found(words[name])
    from sorano.conditions import CONDITIONS

    for given in words.get("conditions") or ():
        for name in CONDITIONS[given["kind"]].files:
            if given.get(name):
                given[name] = found(given[name])
    for shot in words.get("shots") or ():
        for name in ("image", "video"):
            if shot.get(name):
                shot[name] = found(shot[name])
    return words
