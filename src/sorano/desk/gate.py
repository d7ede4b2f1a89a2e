"""An upload gate: a reverse proxy that verifies media before it passes on to the server behind it.

    sorano desk gate --upstream http://127.0.0.1:9000

Every file of a form, every body that is a picture, a sound or a video, and every data URL in a body of text is verified
like `sorano verify` does it, in a child process with limits. A policy says which verdicts pass; if one file does not,
nothing of the request passes. What passes carries the header `x-sorano-verdicts`, which nobody else can set.

The server behind gets the request as it was understood here: a form is written anew from its parts, so that it cannot
be read differently there. What the gate cannot read (compressed bodies, other multipart types, forms that it cannot
parse, media that it cannot decode) does not pass.

Not covered: media inside archives and documents, uploads in several requests (resumable uploads), what comes back from
the server, and WebSockets, which are refused.
"""

from __future__ import annotations

import http.client
import io
import json
import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote_plus, urlsplit

from fastapi import FastAPI
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse

from sorano.errors import RequestError, SoranoError, VideoError
from sorano.files import sha256
from sorano.trust.provenance.containers import SNIFF_BYTES, sniff_head
from sorano.trust.verify import SUFFIXES, Verdict, verify
from sorano.web.answers import answer_problems
from sorano.web.forms import decode_base64, decode_data_url, texts_in
from sorano.web.logs import log
from sorano.web.problems import Problem

PORT = 8020
VERDICTS_HEADER = "x-sorano-verdicts"
PASSING = ("VERIFIED", "MATCHED", "UNVERIFIED")  # most media of the world is UNVERIFIED: nobody signed it
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# Of one connection, not of the message (RFC 9110, 7.6.1), and what this proxy writes itself.
HOP_BY_HOP = frozenset(
    "connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    "upgrade content-length expect forwarded x-forwarded-for".split()
)
MEDIA = ("image/", "video/", "audio/")
TEXT = re.compile(r"text/|application/(?:x-www-form-urlencoded|(?:[\w.-]+\+)?(?:json|xml))\s*(?:;|$)", re.I)
FIELD = "text/plain"  # of a form's field that is no file
DATA_URL = re.compile(  # one may follow another with nothing but a blank between them
    r"data:(?:image|video|audio)/[\w.+-]{1,40}((?:;[\w=.+-]{1,40})*),((?:(?!data:)[\w%+/=.~\s-])*)", re.I
)
BASE64 = re.compile(r"[\w+/-]{40,}(?:\s+[\w+/-]+)*=*", re.A)  # in lines, too
NO_MEDIA = ("other", "pdf", "svg")  # kinds of containers (`sniff_head`)
MOST_TEXT_BYTES = 32 << 20  # that media are looked for in
SPOOLED_BYTES = 1 << 20  # of a body that are held in memory
CHUNK = 1 << 16


@dataclass(frozen=True, kw_only=True)
class GateSettings:
    """What a gate is told. Sizes are in bytes, times in seconds."""

    upstream: str
    host: str = "127.0.0.1"
    port: int = PORT
    passing: tuple[str, ...] = PASSING
    most_body_bytes: int = 256 << 20
    most_files: int = 16
    at_once: int = 2  # child processes that verify
    seconds: float = 60.0  # for the server behind

    def __post_init__(self) -> None:
        parts = urlsplit(self.upstream)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise RequestError(f"{self.upstream!r} is no server's address", "write it like http://127.0.0.1:9000")
        known = [one.value for one in Verdict]
        wrong = [one for one in self.passing if one not in known]
        if wrong:
            raise RequestError(f"there is no verdict {wrong[0]!r}", f"verdicts are {', '.join(known)}")


@dataclass(frozen=True)
class BodyPart:
    """One part of a body: a field, or a file."""

    name: str
    content: IO[bytes]
    filename: str | None = None
    type: str = ""

    @property
    def is_media(self) -> bool:
        """Whether it says that it is a picture, a sound or a video: by its type, or by its file's name."""
        return self.type.lower().startswith(MEDIA) or suffix_of(self) in SUFFIXES


@dataclass
class Message:
    """A request as the gate understood it: its parts in order, and whether it was a form."""

    parts: list[BodyPart] = field(default_factory=list)
    is_form: bool = False
    type: str = ""

    def close(self) -> None:
        """Let go of what was spooled."""
        for one in self.parts:
            with suppress(OSError):
                one.content.close()


def create_gate(settings: GateSettings) -> FastAPI:
    """The application of a gate."""
    app = FastAPI(title="Sorano upload gate", docs_url=None, redoc_url=None, openapi_url=None)
    turns = threading.BoundedSemaphore(settings.at_once)

    @app.api_route("/{path:path}", methods=list(METHODS))
    async def pass_on(request: HttpRequest, path: str) -> Response:
        message = await read_message(request, settings)
        try:
            verdicts = await run_in_threadpool(judge, message, settings, turns)
            return await run_in_threadpool(forward, request, message, verdicts, settings)
        finally:
            message.close()

    answer_problems(app)
    return app


# Reading.


async def read_message(request: HttpRequest, settings: GateSettings) -> Message:
    """The body of a request in parts. Raises `Problem` for what cannot be read."""
    coded = request.headers.get("content-encoding", "identity").strip().lower()
    if coded not in ("", "identity"):
        raise Problem("unsupported_media_type", "a compressed body cannot be looked into", "send it as it is")
    types = request.headers.getlist("content-type")
    if len(types) > 1:
        raise Problem("invalid_value", "the request has two content types", "send one")
    kind = types[0] if types else ""
    name = kind.partition(";")[0].strip().lower()
    if name == "multipart/form-data":
        return await _form(request, settings, kind)
    if name.startswith("multipart/"):
        raise Problem("unsupported_media_type", f"{name[:40]} cannot be looked into", "send multipart/form-data")
    body = tempfile.SpooledTemporaryFile(SPOOLED_BYTES)
    try:
        async for chunk in _bounded(request, settings):
            body.write(chunk)
    except BaseException:
        body.close()
        raise
    return Message([BodyPart("body", body, type=kind)], type=kind)


async def _form(request: HttpRequest, settings: GateSettings, kind: str) -> Message:
    parser = MultiPartParser(
        request.headers, _bounded(request, settings), max_files=settings.most_files, max_fields=1000,
        max_part_size=8 << 20,
    )  # fmt: skip
    try:
        form = await parser.parse()
    except (MultiPartException, HTTPException, AssertionError, ValueError, KeyError) as error:
        said = getattr(error, "message", None) or str(error)
        raise Problem("invalid_value", f"the form cannot be read: {said}"[:300], "send multipart/form-data") from error
    message = Message(is_form=True)
    for name, value in form.multi_items():
        if isinstance(value, str):
            held: IO[bytes] = tempfile.SpooledTemporaryFile(SPOOLED_BYTES)
            held.write(value.encode())
            message.parts.append(BodyPart(name, held, type=FIELD))
        else:
            message.parts.append(BodyPart(name, value.file, value.filename or "", value.content_type or ""))
    message.type = kind
    return message


async def _bounded(request: HttpRequest, settings: GateSettings) -> AsyncGenerator[bytes, None]:
    total = 0
    try:
        async for chunk in request.stream():
            total += len(chunk)
            if total > settings.most_body_bytes:
                most = settings.most_body_bytes >> 20
                raise Problem("request_too_large", f"the body has more than {most} MB", "send less, or in parts")
            yield chunk
    except ClientDisconnect as error:
        raise Problem("invalid_value", "the request ended before its body", "send it again") from error


# Judging.


def judge(message: Message, settings: GateSettings, turns: threading.BoundedSemaphore) -> list[tuple[str, str]]:
    """The verdict of each piece of media, with the name of its part.

    Raises `Problem` where one may not pass, cannot be read, or where there are more of them than files are allowed.
    """
    found: list[tuple[str, str]] = []
    count = 0
    for part in message.parts:
        for content in pieces(part):
            count += 1
            if count > settings.most_files:
                raise Problem("invalid_value", f"there are more than {settings.most_files} files", "send fewer at once")
            with turns:
                looked = look(content, part.is_media or content is not part.content, suffix_of(part))
            if looked is None:
                continue
            verdict, digest = looked
            passes = verdict in settings.passing
            log("media", verdict=verdict, passed=passes, bytes=content.seek(0, 2), sha256=digest)
            if not passes:
                raise Problem(
                    "media_refused",
                    f"{part.name[:80]} is {verdict}, and this server takes {', '.join(settings.passing)}",
                    "send the file as it was signed; sorano verify FILE says what was found",
                    param=part.name[:80],
                )
            found.append((part.name, verdict))
    return found


def pieces(part: BodyPart) -> Iterator[IO[bytes]]:
    """What in a part may be media: the part itself, or what its text holds. Raises `Problem` for text that is none."""
    if not part.content.seek(0, 2):
        return
    text = text_of(part) if part.filename is None and TEXT.match(part.type) else None
    if text is None:
        yield part.content
        return
    for data in within(text):
        yield io.BytesIO(data)


def text_of(part: BodyPart) -> Iterator[str] | None:
    """The texts of a part: the strings of a JSON document, the values of a form, or all of it; None where the bytes
    are no text, or begin as media do, whatever their type says. Raises `Problem`."""
    if part.content.seek(0, 2) > MOST_TEXT_BYTES:
        raise Problem("request_too_large", f"text has more than {MOST_TEXT_BYTES >> 20} MB", "send files as files")
    part.content.seek(0)
    data = part.content.read()
    kind = part.type.lower().partition(";")[0].strip()
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return texts_in(json.loads(data))
        except (ValueError, RecursionError) as error:
            raise Problem("invalid_json", f"the body is no JSON: {error}"[:300], "send JSON in UTF-8") from error
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    if sniff_head(data[:SNIFF_BYTES]).name not in NO_MEDIA:
        return None
    return iter([unquote_plus(text) if kind == "application/x-www-form-urlencoded" else text])


def within(texts: Iterable[str]) -> Iterator[bytes]:
    """The media in texts: data URLs, and long runs of base64 that begin as media do. Raises `Problem`."""
    for text in texts:
        for match in DATA_URL.finditer(text):
            try:
                yield decode_data_url(match[1], match[2])
            except ValueError as error:
                raise Problem("invalid_file", f"a data URL is no base64: {error}", "encode it anew") from error
        for match in BASE64.finditer(DATA_URL.sub(" ", text)):
            with suppress(ValueError):
                if _is_media(decode_base64(match[0][: 4 * 16])):
                    yield decode_base64(match[0])


def look(content: IO[bytes], says_media: bool, suffix: str) -> tuple[str, str] | None:
    """The verdict on some bytes, and their SHA-256; None for what is no media and does not say that it is.

    Raises `Problem` for media that cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="sorano-gate-") as folder:
        path = Path(folder) / f"upload{suffix}"
        with open(path, "xb") as target:
            content.seek(0)
            shutil.copyfileobj(content, target)
        try:
            return verify(path).verdict.value, sha256(path)
        except VideoError as error:
            content.seek(0)
            if not says_media and not _is_media(content.read(SNIFF_BYTES)):
                return None
            said = error.message.replace(str(path), "the file").replace(folder, "")
            raise Problem(
                "invalid_file", f"media that cannot be read does not pass: {said}", error.hint or ""
            ) from error
        except SoranoError as error:
            log("gate failed", level="error", error=error.message)
            raise Problem("internal_error", "the gate cannot verify now", "see its log") from error


def _is_media(head: bytes) -> bool:
    """Whether bytes begin as files of pictures, sound or video do. MPEG audio without a tag does not count: one of
    8,000 files of anything else begins like it, and what can be read of it has a verdict anyhow."""
    return sniff_head(head).name not in NO_MEDIA and (head[:1] != b"\xff" or head[1:2] == b"\xd8")


def suffix_of(part: BodyPart) -> str:
    """The ending of a file's name, where it is one that says something: readers of media look at it."""
    ending = Path(part.filename or "").suffix.lower()
    return ending if re.fullmatch(r"\.[a-z0-9]{1,5}", ending) else ""


# Passing on.


def forward(
    request: HttpRequest, message: Message, verdicts: Iterable[tuple[str, str]], settings: GateSettings
) -> Response:
    """The answer of the server behind to a request that may pass. Raises `Problem` where it does not answer."""
    parts = urlsplit(settings.upstream)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(str(parts.hostname), parts.port, timeout=settings.seconds)
    headers = _headers(request)
    if message.is_form:
        boundary = secrets.token_hex(16)
        headers.append(("content-type", f"multipart/form-data; boundary={boundary}"))
        written, length = _written(message.parts, boundary)
    else:
        headers += [("content-type", message.type)] if message.type else []
        written = message.parts[0].content
        length = written.seek(0, 2)
    headers.append((VERDICTS_HEADER, ", ".join(f"{_token(name)}={verdict}" for name, verdict in verdicts)))
    target = request.scope["raw_path"].decode("ascii", "replace")
    query = request.scope["query_string"].decode("ascii", "replace")
    try:
        connection.putrequest(
            request.method, f"{target}?{query}" if query else target, skip_host=True, skip_accept_encoding=True
        )
        for name, value in headers:
            connection.putheader(name, value)
        if length or request.method in ("POST", "PUT", "PATCH"):
            connection.putheader("content-length", str(length))
        connection.endheaders()
        written.seek(0)
        while chunk := written.read(CHUNK):
            connection.send(chunk)
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException, ValueError) as error:
        connection.close()
        log("upstream away", level="warning", error=type(error).__name__)
        raise Problem(
            "upstream_unavailable", "the server behind the gate does not answer", "try again later"
        ) from error
    finally:
        if message.is_form:
            written.close()
    return _answer(connection, answer)


def _headers(request: HttpRequest) -> list[tuple[str, str]]:
    """The headers that pass on: not those of the connection, nor those that only the gate may set."""
    named = {one.strip().lower() for one in request.headers.get("connection", "").split(",")}
    left = HOP_BY_HOP | named | {"content-type", "content-encoding", VERDICTS_HEADER}
    kept = [(name, value) for name, value in request.headers.items() if name not in left and "_" not in name]
    kept = [(name, value) for name, value in kept if not name.startswith("x-sorano-")]
    return [*kept, ("x-forwarded-for", request.client.host if request.client else "")]


def _written(parts: list[BodyPart], boundary: str) -> tuple[IO[bytes], int]:
    """A form of parts (RFC 7578), and its length."""
    held: IO[bytes] = tempfile.SpooledTemporaryFile(SPOOLED_BYTES)
    for part in parts:
        head = f'--{boundary}\r\ncontent-disposition: form-data; name="{_quoted(part.name)}"'
        if part.filename is not None:
            head += f'; filename="{_quoted(part.filename)}"'
            if part.type and "\r" not in part.type and "\n" not in part.type:
                head += f"\r\ncontent-type: {part.type}"
        held.write(f"{head}\r\n\r\n".encode())
        part.content.seek(0)
        while chunk := part.content.read(CHUNK):
            held.write(chunk)
        held.write(b"\r\n")
    held.write(f"--{boundary}--\r\n".encode())
    return held, held.tell()


def _quoted(name: str) -> str:
    """A name in a form's header, as browsers write it (HTML, "multipart/form-data encoding algorithm")."""
    return name.replace("\n", "%0A").replace("\r", "%0D").replace('"', "%22")


def _token(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._\[\]-]", "_", name)[:80]


def _answer(connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> Response:
    def content() -> Iterator[bytes]:
        try:
            while chunk := answer.read(CHUNK):
                yield chunk
        finally:
            connection.close()

    made = StreamingResponse(iterate_in_threadpool(content()), status_code=answer.status)
    left = HOP_BY_HOP - {"content-length"}
    kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in left]
    made.raw_headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in kept]
    return made


def serve(settings: GateSettings, say: Any = print) -> None:
    """Answer until told to stop; `say` gets the address. Raises RequestError where the address cannot be had."""
    from sorano.web.server import Server, address_of, listen, uvicorn_config

    listening = listen(settings.host, settings.port)
    try:
        say(address_of(settings.host, listening.getsockname()[1]))
        Server(uvicorn_config(create_gate(settings))).run(sockets=[listening])
    finally:
        listening.close()
