"""One-time codes of RFC 6238 (TOTP, SHA-1, 6 digits, 30 s): the fallback, which can be phished, for small amounts."""

from __future__ import annotations

import base64
import hmac
import secrets
import struct
from urllib.parse import quote

STEP_SECONDS, DIGITS = 30, 6
NEIGHBOURS = 1  # steps before and after that count too, for clocks that differ


def new_secret() -> str:
    """A secret of 160 bits, in base32 as authenticator apps take it."""
    return base64.b32encode(secrets.token_bytes(20)).decode()


def code_at(secret: str, step: int) -> str:
    """The code of a step of 30 seconds since 1970."""
    mac = hmac.digest(base64.b32decode(secret), struct.pack(">Q", step), "sha1")
    place = mac[-1] & 15
    return f"{(struct.unpack('>I', mac[place : place + 4])[0] & 0x7FFFFFFF) % 10**DIGITS:0{DIGITS}}"


def step_of(secret: str, code: str, now: float, last_step: int) -> int | None:
    """The step whose code was given, later than `last_step`; None where there is none."""
    middle = int(now // STEP_SECONDS)
    for step in range(middle - NEIGHBOURS, middle + NEIGHBOURS + 1):
        if step > last_step and hmac.compare_digest(code_at(secret, step).encode(), code.encode()):
            return step
    return None


def address_of(secret: str, name: str) -> str:
    """The otpauth address that an authenticator app reads."""
    return f"otpauth://totp/{quote('Sorano desk')}:{quote(name)}?secret={secret}&issuer={quote('Sorano desk')}"
