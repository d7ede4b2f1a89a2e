"""What a request may say, and its translation to the one `sorano.request.Request`.

OpenAI's fields and ours go through one table, whatever form they came in: text of a form becomes numbers, `seconds` may
be either, files come in every shape that OpenAI's clients send. Values that the table lets through are checked by
`Request` itself, so that the API refuses what the command refuses, with the same words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from sorano.request import MAX_PROMPT_CHARACTERS
from sorano.web.forms import Upload, json_of
from sorano.web.problems import Problem

MOST_DATA_URL = 20_971_520  # characters, as at OpenAI
MOST_PRIORITY = 100
MOST_DEADLINE = 30 * 86_400.0
MOST_SHOTS = 200
MOST_CONDITIONS = 64
IGNORED = (
    "user",
    "metadata",
    "response_format",
    "quality",
    "style",
)  # that other services take: nothing depends on them


@dataclass(frozen=True)
class Reference:
    """A picture or a video that a request names: an upload, a data URL, a URL, a file or a video of the server's."""

    kind: str  # upload, data, url, file, video
    value: Any
    param: str


@dataclass(frozen=True)
class Order:
    """A parsed request: `words` are fields of `Request`, their files `Reference`s; the rest is the server's."""

    words: dict[str, Any]
    model: str | None = None
    count: int = 1
    priority: int = 0
    is_paused: bool = False
    deadline_seconds: float | None = None


# Values: each takes what came and the field's name, and returns what is meant.


def text(value: Any, param: str) -> str:
    """Text. Raises `Problem`."""
    if isinstance(value, str):
        return value
    raise _wrong(param, "text", value)


def number(value: Any, param: str) -> float:
    """A finite number, also written as text."""
    try:
        found = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise _wrong(param, "a number", value)
    return int(found) if isinstance(value, int) else found


def seconds(value: Any, param: str) -> float:
    """Seconds: 4, 4.0, "4" or "4s"."""
    if isinstance(value, str):
        value = value.strip().removesuffix("s").strip()
    return number(value, param)


def whole(value: Any, param: str) -> int:
    """A whole number, also written as text."""
    if isinstance(value, str) and value.strip().lstrip("+-").isdecimal() and len(value) < 40:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) == math.inf:
        raise _wrong(param, "a whole number", value)
    if value != int(value):
        raise _wrong(param, "a whole number", value)
    return int(value)


def flag(value: Any, param: str) -> bool:
    """True or false, also written as text."""
    said = str(value).strip().lower()
    if said in ("true", "1", "yes", "on") and not isinstance(value, float):
        return True
    if said in ("false", "0", "no", "off", "") and not isinstance(value, float):
        return False
    raise _wrong(param, "true or false", value)


def reference(value: Any, param: str) -> Reference:
    """A file: an upload, {"image_url"}, {"file_id"}, {"id"} of a video, or any of these as text."""
    if isinstance(value, Upload):
        return Reference("upload", value, param)
    if isinstance(value, Mapping):
        if isinstance(value.get("image_url"), Mapping):
            value = {"image_url": value["image_url"].get("url")}
        known = [name for name in ("image_url", "video_url", "url", "file_id", "id") if value.get(name) is not None]
        if len(known) != 1 or not isinstance(value[known[0]], str):
            raise Problem(
                "invalid_value",
                f"{param} names one file",
                f'like {{"file_id": "file_..."}}: got {_shown(value)}',
                param=param,
            )
        value = value[known[0]]
    if not isinstance(value, str):
        raise _wrong(param, "a file", value)
    if value.startswith("data:"):
        if len(value) > MOST_DATA_URL:
            said = f"{param} is longer than {MOST_DATA_URL} characters"
            raise Problem("request_too_large", said, "upload it to /v1/files and send its file_id", param=param)
        return Reference("data", value, param)
    if value.startswith(("http://", "https://")):
        return Reference("url", value, param)
    for prefix in ("file", "video"):
        if value.startswith((f"{prefix}_", f"{prefix}-")):
            return Reference(prefix, value, param)
    raise Problem(
        "invalid_value",
        f"{param} names no file: {_shown(value)}",
        "send a file, a data URL, the id of an upload (file_...) or of a video (video_...)",
        param=param,
    )


def upscale(value: Any, param: str) -> int | str:
    """ "fit", "auto", "none" or a number."""
    return value if isinstance(value, str) else whole(value, param)


def box(value: Any, param: str) -> list[float]:
    """A region in pixels: [x, y, width, height], or "x,y,width,height"."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or len(parts) != 4:
        said = f"{param} is x, y, width, height in pixels: got {_shown(value)}"
        raise Problem("invalid_value", said, 'send four numbers, like "32,32,64,64"', param=param)
    return [number(part, param) for part in parts]


def conditions(value: Any, param: str) -> list[dict[str, Any]]:
    """Objects with a kind (`sorano.conditions`), their files as references."""
    from sorano.conditions import CONDITIONS

    made = []
    for index, one in enumerate(_list(value, param, MOST_CONDITIONS)):
        where = f"{param}[{index}]"
        kind = CONDITIONS.get(str(one.get("kind", "")))
        if kind is None:
            raise Problem(
                "invalid_value",
                f"{where}.kind is {_shown(one.get('kind'))}",
                f"kinds are {', '.join(CONDITIONS)}",
                param=where,
            )
        words = {name: _loose(given) for name, given in one.items() if name not in kind.files}
        words |= {name: reference(one[name], f"{where}.{name}") for name in kind.files if one.get(name) is not None}
        made.append(words)
    return made


def storyboard(value: Any, param: str) -> list[dict[str, Any]]:
    """Shots: prompt, seconds, image or video, join."""
    readers: dict[str, Callable[[Any, str], Any]] = {
        "prompt": text,
        "seconds": seconds,
        "image": reference,
        "video": reference,
        "join": text,
    }
    return [
        {
            name: readers.get(name, _as_is)(given, f"{param}[{index}].{name}")
            for name, given in one.items()
            if given is not None
        }
        for index, one in enumerate(_list(value, param, MOST_SHOTS))
    ]


@dataclass(frozen=True)
class Field:
    """One field of a body: how it is read, its JSON schema, and the field of `Request` that it becomes."""

    read: Callable[[Any, str], Any]
    schema: dict[str, Any]
    becomes: str | None = None  # None: the server's own
    about: str = ""


def _of(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, **more}


REFERENCE_SCHEMA: dict[str, Any] = {
    "anyOf": [
        _of("string"),
        _of("object", properties={"image_url": _of("string")}, required=["image_url"]),
        _of("object", properties={"file_id": _of("string")}, required=["file_id"]),
        _of("object", properties={"id": _of("string")}, required=["id"]),
    ]
}
OBJECTS = _of("array", items=_of("object"))
SECONDS_SCHEMA = {"anyOf": [_of("string"), _of("number")]}

# fmt: off
COMMON: dict[str, Field] = {
    "prompt":           Field(text, _of("string", maxLength=MAX_PROMPT_CHARACTERS), "prompt", "what to see"),
    "model":            Field(text, _of("string"), None, "a model of /v1/models; others mean the default"),
    "size":             Field(text, _of("string"), "size", "width x height: 1280x720"),
    "seconds":          Field(seconds, SECONDS_SCHEMA, "seconds", "length"),
    # ours
    "negative_prompt":  Field(text, _of("string"), "negative_prompt", "what to steer away from"),
    "seed":             Field(whole, _of("integer"), "seed", "the same seed gives the same video"),
    "fps":              Field(number, _of("number"), "fps", "frames per second"),
    "num_frames":       Field(whole, _of("integer"), "num_frames", "instead of seconds"),
    "num_steps":        Field(whole, _of("integer"), "num_steps", "denoising steps"),
    "guidance":         Field(number, _of("number"), "guidance", "how strictly to follow the prompt"),
    "guidance_2":       Field(number, _of("number"), "guidance_2", "the same of the second of two experts"),
    "shift":            Field(number, _of("number"), "shift", "more steps on noise"),
    "settings":         Field(text, _of("string"), "settings", "a model's other settings by name"),
    "draft":            Field(flag, _of("boolean"), "draft", "a third of the steps"),
    "force":            Field(flag, _of("boolean"), "force", "leave out what the model does not know"),
    "upscale":          Field(upscale, {"anyOf": [_of("string"), _of("integer")]}, "upscale", "fit, auto, none, 2-16"),
    "private":          Field(flag, _of("boolean"), "private", "keep the prompt out of the file"),
    "audience":         Field(text, _of("string"), "audience", "whose law asks for labels"),
    "visible_label":    Field(flag, _of("boolean"), "visible_label", "draw the label"),
    "producer":         Field(text, _of("string"), "producer", "who the label names"),
    "priority":         Field(whole, _of("integer"), None, "higher first, 0 unless told"),
    "paused":           Field(flag, _of("boolean"), None, "wait until it is resumed"),
    "deadline_seconds": Field(number, _of("number"), None, "fail when it is not done by then"),
    "n":                Field(whole, _of("integer"), None, "variations, with seeds one after the other"),
}
CREATE: dict[str, Field] = {
    **COMMON,
    "input_reference":  Field(reference, REFERENCE_SCHEMA, "image", "the first frame"),
    "last_frame":       Field(reference, REFERENCE_SCHEMA, "last", "the last frame"),
    "conditions":       Field(conditions, OBJECTS, "conditions", "keyframes, loops, regions ... by kind"),
    "storyboard":       Field(storyboard, OBJECTS, "shots", "shots: prompt, seconds, image, video, join"),
}
_VIDEO = Field(reference, REFERENCE_SCHEMA, None, "a file, or the id of a video")
EDIT: dict[str, Field] = {
    **COMMON,
    "video":            _VIDEO,
    "strength":         Field(number, _of("number"), None, "how much is made anew, up to 1"),
    "region":           Field(box, {"anyOf": [_of("string"), _of("array", items=_of("number"))]}, None, "x, y, w, h"),
    "mask":             Field(reference, REFERENCE_SCHEMA, None, "white where it is made anew"),
    "start":            Field(number, _of("number"), None, "a region's first second"),
    "end":              Field(number, _of("number"), None, "a region's last second"),
}
EXTEND: dict[str, Field] = {
    **COMMON,
    "video":            _VIDEO,
    "direction":        Field(text, _of("string", enum=["forward", "backward"]), None, "forward or backward"),
}
REMIX: dict[str, Field] = COMMON
CHANGE: dict[str, Field] = {name: one for name, one in CREATE.items() if name not in ("n", "deadline_seconds")}
# fmt: on


@dataclass(frozen=True)
class Parsed:
    """A body's values by name, read and checked one by one."""

    values: dict[str, Any] = field(default_factory=dict)

    def order(self, fields: Mapping[str, Field], **words: Any) -> Order:
        """The order that they are, with more fields of `Request`. Raises `Problem` for what the server cannot do."""
        given = {fields[name].becomes: value for name, value in self.values.items() if fields[name].becomes is not None}
        count = _within("n", self.values.get("n", 1), 1, 64)
        priority = _within("priority", self.values.get("priority", 0), -MOST_PRIORITY, MOST_PRIORITY)
        deadline = self.values.get("deadline_seconds")
        if deadline is not None and not 0 < deadline <= MOST_DEADLINE:
            said, hint = (
                "deadline_seconds is no time that a job can have",
                f"send one above 0 and at most {MOST_DEADLINE:g}",
            )
            raise Problem("invalid_value", said, hint, param="deadline_seconds")
        return Order(
            {**{str(name): value for name, value in given.items()}, **words},
            self.values.get("model"),
            count,
            priority,
            self.values.get("paused", False),
            deadline,
        )


def parse(body: Mapping[str, Any], fields: Mapping[str, Field], required: tuple[str, ...] = ()) -> Parsed:
    """The values of a body. Raises `Problem` naming the first that is missing, unknown or wrong."""
    values: dict[str, Any] = {}
    for name, value in body.items():
        known = fields.get(name)
        if known is None:
            if name in IGNORED:
                continue
            near = get_close_matches(name, fields, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(fields)}"
            raise Problem("unknown_parameter", f"there is no parameter {name[:80]!r}", hint, param=name[:80])
        if value is None:
            continue
        values[name] = known.read(value, name)
    for name in required:
        if name not in values or (isinstance(values[name], str) and not values[name].strip()):
            raise Problem("missing_required_parameter", f"{name} is missing", "it is required here", param=name)
    return Parsed(values)


def body_schema(fields: Mapping[str, Field], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """The OpenAPI request body of such a body, as JSON and as a form."""
    properties = {name: {**one.schema, "description": one.about} for name, one in fields.items()}
    as_json = {"type": "object", "properties": properties, "required": list(required)}
    as_form = {
        name: {"type": "string", "format": "binary"} if one.read is reference else properties[name]
        for name, one in fields.items()
    }
    form = {"type": "object", "properties": as_form, "required": list(required)}
    return {
        "required": True,
        "content": {"application/json": {"schema": as_json}, "multipart/form-data": {"schema": form}},
    }


def map_files(words: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """The same fields of `Request` with each of its files changed."""
    from sorano.conditions import CONDITIONS

    made = dict(words)
    for name in ("image", "last"):
        if made.get(name) is not None:
            made[name] = change(made[name])
    if "shots" in made:
        made["shots"] = [_changed(shot, ("image", "video"), change) for shot in made["shots"]]
    if "conditions" in made:
        made["conditions"] = [_changed(one, CONDITIONS[one["kind"]].files, change) for one in made["conditions"]]
    return made


def files_of(words: Mapping[str, Any]) -> list[Any]:
    """The files in fields of `Request`, as they stand there."""
    found: list[Any] = []
    map_files(words, found.append)
    return found


def _changed(one: Mapping[str, Any], names: tuple[str, ...], change: Callable[[Any], Any]) -> dict[str, Any]:
    return {name: change(value) if name in names and value is not None else value for name, value in one.items()}


def _list(value: Any, param: str, most: int) -> list[dict[str, Any]]:
    if isinstance(value, str):  # of a form
        try:
            value = json_of(value)
        except (ValueError, RecursionError) as error:
            raise _wrong(param, "a list of objects", value) from error
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise _wrong(param, "a list of objects", value)
    if len(value) > most:
        raise Problem("invalid_value", f"{param} has {len(value)} elements", f"send at most {most}", param=param)
    return value


def _loose(value: Any) -> Any:
    """A condition's value: text of a form that is a number is one."""
    if isinstance(value, list):
        return [_loose(one) for one in value]
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _within(name: str, value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        said = f"{name} is a whole number from {least} to {most}: got {value}"
        raise Problem("invalid_value", said, f"send {least if value < least else most}, or leave it out", param=name)
    return value


def _as_is(value: Any, _param: str) -> Any:
    return value


def _wrong(param: str, wanted: str, value: Any) -> Problem:
    name = param.partition("[")[0]
    return Problem("invalid_type", f"{param} must be {wanted}: got {_shown(value)}", f"send {wanted}", param=name)


def _shown(value: Any) -> str:
    said = value.name if isinstance(value, Upload) else repr(value)
    return said if len(said) <= 80 else said[:77] + "..."
