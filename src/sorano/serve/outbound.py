"""Requests that the server makes to others (webhooks, allowed pictures), not to be turned against its own network.

The name is looked up once and the connection goes to that address; private, loopback and link-local addresses are
refused unless the host is named as allowed. Redirects are not followed, answers are bounded in size and time.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit


class Refused(Exception):
    """The request was not made, or its answer not taken; the message says why."""


@dataclass(frozen=True)
class OutboundResponse:
    """What came back."""

    status: int
    body: bytes
    headers: dict[str, str]


def check_url(url: str, allowed: Collection[str] = ()) -> SplitResult:
    """The parts of a URL that may be asked. Raises Refused for other schemes, credentials, bare private addresses."""
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in url):
        raise Refused("the URL has blanks or control characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Refused(f"the URL cannot be read: {error}") from error
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host:
        raise Refused("the URL must begin with https://")
    if parts.username is not None or parts.password is not None:
        raise Refused("the URL has a user's name in it")
    if parts.scheme == "http" and not is_allowed(host, port, allowed):
        raise Refused("the URL must begin with https://")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return parts
    if not address.is_global and not is_allowed(host, port, allowed):
        raise Refused(f"{host} is no public address")
    return parts


def is_allowed(host: str, port: int | None, allowed: Collection[str]) -> bool:
    """Whether a host is named, alone or with its port."""
    return host in allowed or f"{host}:{port}" in allowed


def ask(
    method: str,
    url: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    allowed: Collection[str] = (),
    seconds: float = 10.0,
    most_bytes: int = 64 << 10,
) -> OutboundResponse:
    """Makes one request. Raises Refused, OSError or http.client.HTTPException."""
    parts = check_url(url, allowed)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = _address(host, port, is_allowed(host, parts.port, allowed))
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    raw = socket.create_connection((address, port), timeout=seconds)
    is_over = threading.Event()
    watch = threading.Timer(seconds, _end, (raw, is_over))  # each read has its own time: this is for all of them
    watch.daemon = True
    watch.start()
    try:
        connection.sock = (
            ssl.create_default_context().wrap_socket(raw, server_hostname=host) if port_is_tls(parts) else raw
        )
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, body or None, {"user-agent": "sorano", **(headers or {})})
        answer = connection.getresponse()
        taken = b""
        while chunk := answer.read(min(65536, most_bytes + 1 - len(taken))):
            taken += chunk
            if len(taken) > most_bytes:
                raise Refused(f"the answer is larger than {most_bytes} bytes")
        return OutboundResponse(answer.status, taken, {name.lower(): value for name, value in answer.getheaders()})
    except (OSError, http.client.HTTPException) as error:
        if is_over.is_set():
            raise Refused(f"the answer took longer than {seconds:g} s") from error
        raise
    finally:
        watch.cancel()
        connection.close()
        raw.close()


def _end(raw: socket.socket, is_over: threading.Event) -> None:
    """Breaks a connection off, from another thread."""
    is_over.set()
    with suppress(OSError):
        raw.shutdown(socket.SHUT_RDWR)


def port_is_tls(parts: SplitResult) -> bool:
    """Whether the connection is encrypted."""
    return parts.scheme == "https"


def _address(host: str, port: int, is_named: bool) -> str:
    """The address of a host. Raises Refused where it has a private one: the name may have been made to point inside."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(one[4][0]) for one in found]
    if not addresses:
        raise Refused(f"{host} has no address")
    for address in addresses:
        if not is_named and not ipaddress.ip_address(address.partition("%")[0]).is_global:
            raise Refused(f"{host} is at {address}, which is no public address")
    return addresses[0]
