"""Clients of a desk over HTTP: people with a device, and machines with a key. For the demonstration and the tests."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sorano.desk.fields import digits_of
from sorano.desk.soft_device import SoftDevice

Send = Callable[[str, str, dict[str, str], bytes | None], tuple[int, dict[str, str], bytes]]


class Refusal(Exception):
    """The desk said no: its status and its code."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(f"{status} {error.get('code')}: {error.get('message')}")
        self.status, self.code, self.message = status, error.get("code"), str(error.get("message"))


def over_http(address: str) -> Send:
    """Requests to a desk at an address, as `Send`."""

    def send(method: str, path: str, headers: dict[str, str], body: bytes | None) -> tuple[int, dict[str, str], bytes]:
        asked = urllib.request.Request(address + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return answer.status, dict(answer.headers.items()), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers.items()), error.read()

    return send


@dataclass
class Program:
    """A program with an API key: what files requests, and what executes them."""

    send: Send
    key: str

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """A call's JSON. Raises `Refusal`."""
        return call_api(self.send, method, path, {"authorization": f"Bearer {self.key}"}, body)[1]

    def exact(self, request: str) -> str:
        """The bytes that were approved, as text. Raises `Refusal`."""
        return str(
            call_api(
                self.send, "GET", f"/requests/{request}/exact", {"authorization": f"Bearer {self.key}"}, None, raw=True
            )[1]
        )

    def release(self, request: str) -> str:
        """Consume a request and spend its token, as an executor does. Raises `Refusal`."""
        exact = self.exact(request)
        token = self.call("POST", f"/requests/{request}/consume", {"exact": exact})["token"]
        self.call("POST", "/redeem", {"token": token, "exact": exact})
        return exact


@dataclass
class Person:
    """Somebody with a device, at the page of the desk (or at another, where `origin` says so)."""

    send: Send
    origin: str
    device: SoftDevice = field(default_factory=SoftDevice)
    cookie: str = ""

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """A call's JSON. Raises `Refusal`."""
        headers, found = call_api(self.send, method, path, {"cookie": self.cookie, "origin": self.origin}, body)
        if "set-cookie" in headers:
            self.cookie = headers["set-cookie"].partition(";")[0]
        return found

    def enrol(self, code: str) -> None:
        """Enrol the device with a whole code."""
        options = self.call("POST", "/enrol/ceremony", {"code": code})
        made = self.device.create(options, self.origin)
        self.call("POST", "/enrol", {"code": code, "ceremony": options["ceremony"], "credential": made})

    def sign_in(self) -> None:
        """Sign in."""
        options = self.call("POST", "/session/ceremony", {})
        given = {"ceremony": options["ceremony"], "credential": self.device.get(options, self.origin)}
        self.call("POST", "/session", given)

    def sponsor(self, ticket: str) -> str:
        """Vouch for a ticket; this sponsor's half of the code."""
        options = self.call("POST", f"/tickets/{ticket}/ceremony", {})
        given = {"ceremony": options["ceremony"], "credential": self.device.get(options, self.origin)}
        return str(self.call("POST", f"/tickets/{ticket}/sponsor", given)["half"])

    def approve(self, request: str, *, answer: str = "approve", digits: str | None = None) -> Any:
        """Approve a request, having read it."""
        options = self.call("POST", f"/requests/{request}/ceremony", {})
        if digits is None:
            shown = self.call("GET", f"/requests/{request}")
            digits = digits_of(shown, options["asks"])
        given = {"ceremony": options["ceremony"], "credential": self.device.get(options, self.origin), "digits": digits}
        return self.call("POST", f"/requests/{request}/{answer}", given)


def call_api(
    send: Send, method: str, path: str, headers: dict[str, str], body: Any, raw: bool = False
) -> tuple[dict[str, str], Any]:
    """An answer's headers (in small letters) and its JSON, or text where `raw`. Raises `Refusal`."""
    data = None if body is None else json.dumps(body).encode()
    told = {name: value for name, value in headers.items() if value}
    status, answered, content = send(method, path, {**told, "content-type": "application/json"}, data)
    lower = {name.lower(): value for name, value in answered.items()}
    if status >= 400:
        try:
            raise Refusal(status, json.loads(content)["error"])
        except (ValueError, KeyError, TypeError) as error:
            raise Refusal(status, {"code": None, "message": content[:200].decode("utf-8", "replace")}) from error
    return lower, content.decode() if raw else json.loads(content)
