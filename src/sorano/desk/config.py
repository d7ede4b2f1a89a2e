"""What a desk is told: its origin, its folder, its database, its policy."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sorano.errors import RequestError
from sorano.files import user_folder
from sorano.web import LOOPBACK

PORT = 8010
DATABASE_VARIABLE, DATA_VARIABLE = "SORANO_DESK_DATABASE", "SORANO_DESK_DATA"
ENDPOINT_KEY_VARIABLE = "SORANO_DESK_ENDPOINT_KEY"


@dataclass(frozen=True, kw_only=True)
class DeskSettings:
    """The settings of one desk. Times are in seconds, sizes in bytes."""

    data: Path
    database: str
    origin: str  # of the page: what people see in their browser's address bar
    host: str = "127.0.0.1"
    port: int = PORT
    policy: Path | None = None  # a TOML file; None: the policy that comes with Sorano
    anchor: Path | None = None  # where the end of the receipts is noted outside the database
    most_body_bytes: int = 64 << 10
    session_seconds: float = 900.0  # without a request
    ceremony_seconds: float = 120.0  # from the options to the assertion
    most_ceremonies: int = 10  # of one person in a minute
    endpoint: str = ""  # base URL of an OpenAI-compatible endpoint that words answers; none: fixed sentences
    endpoint_model: str = ""
    media: Path | None = None  # a folder whose media must be labelled or signed
    gate_log: Path | None = None  # what `sorano desk gate` wrote to stderr

    def __post_init__(self) -> None:
        parts = urlsplit(self.origin)
        plain = f"{parts.scheme}://{parts.netloc}"
        if parts.scheme not in ("http", "https") or not parts.hostname or self.origin != plain:
            raise RequestError(f"{self.origin!r} is no origin", "write it like https://desk.example.com")
        if parts.scheme == "http" and parts.hostname != "localhost":
            raise RequestError(
                f"browsers have no passkeys at {self.origin}", "use https, or http://localhost on one machine"
            )

        if self.endpoint and urlsplit(self.endpoint).scheme not in ("http", "https"):
            raise RequestError(f"{self.endpoint!r} is no endpoint", "write it like https://host/v1")
        if bool(self.endpoint) != bool(self.endpoint_model):
            raise RequestError("an endpoint needs a model, and a model an endpoint", "give --endpoint and --model")

    @property
    def rp_id(self) -> str:
        """The relying party's id in WebAuthn: the origin's host name."""
        return str(urlsplit(self.origin).hostname)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the desk."""
        return self.host in LOOPBACK

    @property
    def calls_on_loopback(self) -> bool:
        """Whether calls stay on this machine: its page is called by a name of this machine, so nobody else is in one.

        A proxy on this machine may bring others to a desk that only listens on loopback.
        """
        return self.rp_id in LOOPBACK

    @property
    def host_names(self) -> tuple[str, ...]:
        """The names that the desk is called by: its origin's, and on loopback the machine's own."""
        return (self.rp_id, *(LOOPBACK if self.is_loopback else ()))

    @property
    def anchor_file(self) -> Path:
        """Where the end of the receipts is noted: beside the keys by default, apart from the database."""
        return self.anchor or user_folder("config", "SORANO_CONFIG") / "desk" / "anchor.json"


def data_folder(given: Path | None = None) -> Path:
    """The folder of a desk: what is given, what SORANO_DESK_DATA names, or the user's own."""
    named = os.environ.get(DATA_VARIABLE)
    return given.absolute() if given is not None else Path(named) if named else user_folder("data") / "desk"


def database_url(given: str | None, data: Path) -> str:
    """The database: what is given, what SORANO_DESK_DATABASE says, or a file in the desk's folder."""
    return given or os.environ.get(DATABASE_VARIABLE) or f"sqlite:///{data / 'desk.sqlite3'}"
