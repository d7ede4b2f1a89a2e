"""Bodies of requests: JSON, multipart with files, and bracketed form fields, parsed to one nested dictionary.

    loras[][id]=a  loras[][scale]=0.5  video[id]=video_1   ->   {"loras": [{"id": "a", "scale": "0.5"}], "video": {...}}

The values of a form are text or `Upload`; `sorano.serve.schema` turns text into numbers.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import parse_qsl, unquote, unquote_to_bytes

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request as HttpRequest

from sorano.web.problems import Problem

MOST_FIELDS, MOST_FILES = 500, 16
MOST_DEPTH = 6
MOST_ITEMS = 1000
MOST_VALUES = 100_000  # of a JSON body, counted by their commas
LARGE_BYTES = 1 << 16
URL_SAFE, BLANKS = bytes.maketrans(b"-_", b"+/"), b" \t\n\v\f\r"
PIECE = 1 << 20  # letters of base64 that are decoded at once; a multiple of 4
ODD_ESCAPE = re.compile(rb"\\u(?:[dD][89a-fA-F]|0000)")  # in JSON: half a character, or the character 0
PATH = re.compile(r"\[([^\[\]]*)\]")


@dataclass(frozen=True)
class Upload:
    """A file of a form."""

    name: str
    file: IO[bytes]


@asynccontextmanager
async def body_of(request: HttpRequest) -> AsyncIterator[dict[str, Any]]:
    """The body of a request as a dictionary, empty where there is none; its files are open until the block ends.

    Raises `Problem`.
    """
    try:
        yield await _read(request)
    finally:
        await request.close()


async def _read(request: HttpRequest) -> dict[str, Any]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _read_form(request)
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise Problem("unsupported_media_type", "a compressed body is not read", "send it as it is")
    if kind == "application/x-www-form-urlencoded":
        return await _parsed(_read_fields, await _body(request, b"&", MOST_FIELDS))
    body = await _body(request, b",", MOST_VALUES)
    if not body.strip():
        return {}
    if kind and kind != "application/json" and not kind.endswith("+json"):
        raise Problem("unsupported_media_type", f"a body of {kind[:80]} is not read", "send JSON or a form")
    return await _parsed(_read_json, body)


async def _body(request: HttpRequest, separator: bytes, most: int) -> bytes:
    """The body, counted while it comes: parsing many values takes the whole process long, whatever the thread."""
    parts: list[bytes] = []
    count = 0
    async for part in request.stream():
        count += part.count(separator)
        if count > most:
            raise _too_many(most)
        parts.append(part)
    return b"".join(parts)


async def _parsed(parse: Callable[[bytes], dict[str, Any]], body: bytes) -> dict[str, Any]:
    """What a body says; a large one is parsed in a thread, for the loop answers everybody else."""
    return parse(body) if len(body) <= LARGE_BYTES else await run_in_threadpool(parse, body)


def _read_json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Problem("invalid_json", f"the body is no JSON: {error}", "send an object in UTF-8") from error
    if not isinstance(found, dict):
        raise Problem("invalid_type", "the body is no object", 'send one like {"prompt": "..."}')
    if ODD_ESCAPE.search(body):
        for text in texts_in(found):
            check_text(text)
    return found


def _read_fields(body: bytes) -> dict[str, Any]:
    pairs = parse_qsl(body.decode("latin-1"), keep_blank_values=True)
    for text in (text for pair in pairs for text in pair):
        check_text(text)
    return nested(pairs)


def json_of(text: str) -> Any:
    """The JSON of a form's field. Raises ValueError or RecursionError, and `Problem` for too many values."""
    if text.count(",") > MOST_VALUES:
        raise _too_many(MOST_VALUES)
    return json.loads(text)


def _too_many(most: int) -> Problem:
    return Problem("request_too_large", f"the body has more than {most} values", "send fewer at once")


async def _read_form(request: HttpRequest) -> dict[str, Any]:
    try:
        form = await request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS, max_part_size=32 << 20)
    except (HTTPException, MultiPartException, AssertionError, ValueError, KeyError) as error:
        said = getattr(error, "detail", None) or getattr(error, "message", None) or str(error)
        raise Problem("invalid_value", f"the form cannot be read: {said}"[:300], "send multipart/form-data") from error
    pairs: list[tuple[str, Any]] = []
    for name, value in form.multi_items():
        check_text(name)
        check_text(value if isinstance(value, str) else value.filename or "")
        pairs.append((name, value if isinstance(value, str) else Upload(value.filename or "upload", value.file)))
    return nested(pairs)


def check_text(text: str) -> None:
    """Check that a database and an answer can hold a text. Raises `Problem` for half characters and the character 0."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Problem("invalid_value", "the body has half a character (a lone surrogate)", "send UTF-8") from error
    if "\0" in text:
        raise Problem("invalid_value", "the body has the character 0", "leave it out")


def texts_in(value: Any) -> Iterator[str]:
    """Every text of a JSON value, names too."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list):
            waiting += one


def decode_base64(text: str) -> bytes:
    """The bytes of base64 (RFC 4648), in either alphabet, with spaces and without padding too. Raises ValueError.

    A piece at a time: other threads have their turn between two.
    """
    plain = text.encode("ascii").translate(URL_SAFE, BLANKS).rstrip(b"=")
    plain += b"=" * (-len(plain) % 4)
    pieces = (plain[first : first + PIECE] for first in range(0, len(plain), PIECE))
    return b"".join(base64.b64decode(piece, validate=True) for piece in pieces)


def decode_data_url(parameters: str, data: str) -> bytes:
    """The bytes of a data URL (RFC 2397) by its parameters and what stands behind the comma. Raises ValueError."""
    if ";base64" in parameters.lower():
        return decode_base64(unquote(data))
    return unquote_to_bytes(data)


def nested(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The dictionary that bracketed names describe. Raises `Problem` for names that contradict each other."""
    top: dict[str, Any] = {}
    for name, value in pairs:
        match = re.match(r"[^\[\]]+", name)
        rest = name[match.end() :] if match else ""
        keys = PATH.findall(rest)
        if match is None or "".join(f"[{key}]" for key in keys) != rest or len(keys) > MOST_DEPTH:
            raise Problem(
                "invalid_value", f"the form's field {name[:80]!r} is no name like video[id]", "close each bracket"
            )
        _put(top, [match[0], *keys], value, name)
    return top


def _put(top: dict[str, Any], keys: list[str], value: Any, name: str) -> None:
    """Puts a value where its keys lead; "" and numbers are places of a list."""
    place: Any = top
    for index, key in enumerate(keys):
        following = keys[index + 1] if index + 1 < len(keys) else None
        fresh: Any = value if following is None else [] if following == "" or following.isdecimal() else {}
        if isinstance(place, list):
            place = _in_list(place, key, following, fresh, keys[index + 1 :], name)
        elif isinstance(place, dict) and key != "":
            if following is None and key in place:
                # a field that comes twice is a list of both, as in any form
                held = place[key]
                place[key] = [*held, value] if isinstance(held, list) else [held, value]
                return
            place = place.setdefault(key, fresh)
        else:
            raise Problem(
                "invalid_value",
                f"the form's field {name[:80]!r} contradicts another",
                "name each field once",
                param=keys[0],
            )
        if following is not None and not isinstance(place, dict | list):
            raise Problem(
                "invalid_value",
                f"the form's field {name[:80]!r} contradicts another",
                "name each field once",
                param=keys[0],
            )


def _in_list(place: list[Any], key: str, following: str | None, fresh: Any, rest: list[str], name: str) -> Any:
    """The element of a list that a key means: by its number, or with "" the last one that lacks what comes."""
    if len(place) >= MOST_ITEMS:
        raise Problem(
            "invalid_value", f"the form's field {name[:80]!r} is too long a list", f"send at most {MOST_ITEMS}"
        )
    if key.isdecimal():
        number = min(int(key), len(place))  # numbers rise by one, or a gap is closed
        if number == len(place):
            place.append(fresh)
        return place[number]
    if key != "":
        raise Problem(
            "invalid_value",
            f"the form's field {name[:80]!r} names an element of a list by a word",
            "number them from 0",
        )
    if following is not None and place and isinstance(place[-1], dict) and following not in place[-1]:
        return place[-1]
    if following is not None and place and isinstance(place[-1], dict) and len(rest) > 1:
        return place[-1]  # video[][a][b] goes on with the same element
    place.append(fresh)
    return fresh
