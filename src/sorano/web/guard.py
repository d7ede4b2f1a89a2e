"""What every request passes: an id, the size of its body, the site that it comes from, headers, a line in the log."""

from __future__ import annotations

import json
import secrets
import time
from typing import Protocol
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sorano.web.chinese import wants_chinese
from sorano.web.database import is_full, is_unavailable
from sorano.web.logs import log, log_traceback, request_id
from sorano.web.metrics import HttpMetrics
from sorano.web.problems import Problem

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; font-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "content-security-policy": CSP,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
QUIET = ("/healthz", "/readyz", "/metrics")


class Bounds(Protocol):
    """What the guard must know of a server."""

    @property
    def most_body_bytes(self) -> int:
        """Bytes of one request."""

    @property
    def host_names(self) -> tuple[str, ...] | None:
        """The names that the server is called by; None: any."""


class Guard:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, settings: Bounds, metrics: HttpMetrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, began = Headers(scope=scope), time.perf_counter()
        name = f"req_{secrets.token_hex(12)}"
        scope["sorano_request_id"] = name
        token = request_id.set(name)
        status = 0
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.settings.most_body_bytes:
                raise too_large(self.settings)
            return message

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                told = MutableHeaders(scope=message)
                told["x-request-id"] = name
                told["openai-processing-ms"] = str(round(1000 * (time.perf_counter() - began)))
                for header, value in ALWAYS.items():
                    told.setdefault(header, value)
                # a page of an older version must not stay beside an API of a newer one
                told.setdefault("cache-control", "no-store" if scope["path"].startswith("/v1") else "no-cache")
            await send(message)

        try:
            problem = self._refused(scope, headers)
            if problem is not None:
                await send_problem(problem, answer, headers)
            else:
                await self.app(scope, bounded, answer)
        except Exception as error:
            if status != 0:  # the answer has begun: the connection breaks off
                raise
            await send_problem(unforeseen(error), answer, headers)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", None) or "none"
            method = scope["method"] if scope["method"] in METHODS else "other"  # or anybody could add series
            self.metrics.request(method, route, status, seconds)
            if scope["path"] not in QUIET:
                log(
                    "request",
                    method=scope["method"],
                    path=scope["path"][:200],
                    status=status,
                    ms=round(1000 * seconds, 1),
                    caller=scope.get("sorano_caller"),
                )
            request_id.reset(token)

    def _refused(self, scope: Scope, headers: Headers) -> Problem | None:
        """Why a request is not even looked at, if it is not."""
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.settings.most_body_bytes:
            return too_large(self.settings)
        host = _name_of(headers.get("host", ""))
        names = self.settings.host_names
        if names is not None and host not in names:
            # a name that was made to point to this machine (DNS rebinding) would let any web page in
            return Problem("origin_not_allowed", f"{host[:80]!r} is not this server's name", f"use {names[0]}")
        if "\0" in scope["path"]:  # no database takes it
            return Problem("not_found", "no address has the character 0", "the routes are in /openapi.json")
        if b"%00" in scope["query_string"]:
            return Problem("invalid_value", "the address has the character 0", "leave it out")
        origin = headers.get("origin")
        if origin is not None and origin != "null" and _place_of(origin) != headers.get("host"):
            return Problem("origin_not_allowed", f"pages of {origin[:80]} may not use this server", "use its own page")
        if origin == "null" and scope["method"] not in ("GET", "HEAD"):
            return Problem("origin_not_allowed", "pages without an origin may not use this server", "use its own page")
        return None


def unforeseen(error: Exception) -> Problem:
    """The answer to an error that no route handled."""
    if isinstance(error, Problem):
        return error
    if is_full(error):
        log("database full", level="error", error=type(error).__name__)
        return Problem("storage_full", "the disk of the database is full", "try again later", retry_after=60)
    if is_unavailable(error):
        log("database away", level="error", error=type(error).__name__)
        return Problem("database_unavailable", "the database cannot be reached", "try again", retry_after=2)
    log_traceback(error)
    return Problem("internal_error", "the server met an error that nobody foresaw", "see its log")


def too_large(settings: Bounds) -> Problem:
    """The answer to a body that is too large."""
    most = settings.most_body_bytes >> 20
    return Problem("request_too_large", f"the most that is taken at once is {most} MB", "send a smaller file")


async def send_problem(problem: Problem, send: Send, asked: Headers) -> None:
    """Answers a request with these headers with a problem, without the framework."""
    in_chinese = wants_chinese(asked.get("accept-language"))
    body = json.dumps(problem.body(in_chinese)).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **problem.headers(in_chinese)}
    raw = [(key.encode(), value.encode()) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.kind.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _place_of(origin: str) -> str | None:
    """Host and port of an origin; None where it is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _name_of(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
