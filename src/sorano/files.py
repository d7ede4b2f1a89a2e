"""Files and folders, once: atomic writes, the user's folders, digests, canonical JSON.

A file appears under its own name only when it is whole: everything is written under a temporary name in the same folder
first, and renamed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

_BASES = {  # of each kind of folder: the variable of the XDG base directory specification, and its default below HOME
    "config": ("XDG_CONFIG_HOME", ".config"),
    "cache": ("XDG_CACHE_HOME", ".cache"),
    "data": ("XDG_DATA_HOME", ".local/share"),
}


def user_folder(kind: str, override: str | None = None) -> Path:
    """The folder of a kind ("config", "cache", "data"): what the variable `override` names, else the user's own.

    That is `sorano` in the XDG base directory of the kind (on Windows in APPDATA). It may not exist. Raises
    RuntimeError where there is no home folder.
    """
    if override and os.environ.get(override):
        return Path(os.environ[override])
    variable, below_home = _BASES[kind]
    base = os.environ.get(variable) or (os.environ.get("APPDATA") if sys.platform == "win32" else None)
    if base and Path(base).is_absolute():
        return Path(base) / "sorano"
    return Path.home() / below_home / "sorano"


def is_full(error: BaseException | None) -> bool:
    """Whether an error says that a disk, or what one may have of it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`: it becomes `path` when the block ends well, and vanishes otherwise."""
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, content: bytes | str, *, private: bool = False, durable: bool = False) -> None:
    """Writes a file, all or nothing.

    A `private` one is never readable by others, not for a moment; a `durable` one is on the disk when this returns.
    Raises OSError.
    """
    data = content.encode() if isinstance(content, str) else content
    with atomic(path) as temporary:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical(words: dict[str, Any]) -> bytes:
    """JSON in one spelling, that of RFC 8785: keys by UTF-16 code units, numbers as ECMAScript writes them, UTF-8.

    Integers beyond 2**53 keep all their digits, where the RFC would round them to a double. Raises ValueError for NaN,
    infinity, lone surrogates and keys that are no text; TypeError for what JSON has not.
    """
    return _canonical(words).encode()


def _canonical(value: Any) -> str:
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("keys of canonical JSON are text")
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return "{" + ",".join(f"{_canonical(key)}:{_canonical(value[key])}" for key in keys) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_canonical, value)) + "]"
    if isinstance(value, float):
        return _ecmascript(value)
    return json.dumps(value, ensure_ascii=False)


def _ecmascript(number: float) -> str:
    """A double as ECMAScript's Number::toString has it: the shortest digits that round back, with few exponents."""
    if not math.isfinite(number):
        raise ValueError(f"JSON has no {number}")
    if number == 0:
        return "0"
    sign, digits, exponent = Decimal(repr(number)).as_tuple()
    text = "".join(map(str, digits)).rstrip("0")
    point = len(digits) + int(exponent)  # the decimal point's place, counted from the first digit
    if len(text) <= point <= 21:
        shown = text + "0" * (point - len(text))
    elif 0 < point <= 21:
        shown = f"{text[:point]}.{text[point:]}"
    elif -6 < point <= 0:
        shown = f"0.{'0' * -point}{text}"
    else:
        shown = f"{text[0]}{'.' if text[1:] else ''}{text[1:]}e{point - 1:+d}"
    return "-" * sign + shown
