"""Conditions: what users give of a video beside the prompt, one file for each kind.

A condition is frozen data, with files by their paths, so that a request can be written down as JSON. Each kind knows
which conditioning latents it adds (`apply`), which segments a video of it has (`segments`), what it composes after
decoding (`compose`) and how long the video is (`length`): no other part asks what kind it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sorano.conditions.base import IN_MEMORY, Condition, picture, read_picture
from sorano.conditions.blend import Blend
from sorano.conditions.edit import Edit
from sorano.conditions.extend import Continue
from sorano.conditions.loop import Loop
from sorano.conditions.pictures import FirstFrame, Keyframe, LastFrame
from sorano.conditions.region import Region
from sorano.conditions.state import (
    ConditionEncoder,
    LatentState,
    as_channels,
    frames_to_video,
    start_state,
    unknown,
    video_to_frames,
)
from sorano.errors import RequestError

CONDITIONS: dict[str, type[Condition]] = {
    one.name: one for one in (FirstFrame, LastFrame, Keyframe, Continue, Loop, Blend, Edit, Region)
}


def as_condition(given: Condition | Mapping[str, Any]) -> Condition:
    """A condition, or one of JSON. Raises RequestError, naming what it does not know."""
    if isinstance(given, Condition):
        return given
    if not isinstance(given, Mapping):
        raise RequestError(f"a condition is an object with a kind: got {given!r}")
    words = dict(given)
    kind = CONDITIONS.get(str(words.pop("kind", "")))
    if kind is None:
        raise RequestError(f"unknown condition {given.get('kind')!r}", f"kinds are {', '.join(CONDITIONS)}")
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    for word in words:
        if word not in known:
            raise RequestError(f"a {kind.name} has no {word!r}", f"it has {', '.join(sorted(known))}")
    try:
        return kind(**words)
    except TypeError as error:
        raise RequestError(f"a {kind.name} needs more: {error}") from error


__all__ = [
    "CONDITIONS",
    "IN_MEMORY",
    "Blend",
    "Condition",
    "ConditionEncoder",
    "Continue",
    "Edit",
    "FirstFrame",
    "Keyframe",
    "LastFrame",
    "LatentState",
    "Loop",
    "Region",
    "as_channels",
    "as_condition",
    "frames_to_video",
    "picture",
    "read_picture",
    "start_state",
    "unknown",
    "video_to_frames",
]
