"""What a server and its workers are told: addresses, folders, limits."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from sorano.files import user_folder
from sorano.plan.words import Currency
from sorano.serve.posts import KeyLimits
from sorano.web import LOOPBACK

HOST, PORT = "127.0.0.1", 8000
DATABASE_VARIABLE, DATA_VARIABLE = "SORANO_DATABASE", "SORANO_SERVE_DATA"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one server or worker. Times are in seconds, sizes in bytes."""

    data: Path
    database: str
    host: str = HOST
    port: int = PORT
    workers: int = 1
    # the queue
    most_queued: int = 5000
    most_attempts: int = 3  # leases of one job that may be lost
    lease_seconds: float = 15.0
    drain_seconds: float = 30.0  # for the job at hand when a worker is asked to stop
    keep_seconds: float | None = (
        None  # of finished jobs, and of uploads that no job needs; None: until they are deleted
    )
    limits: KeyLimits = field(default_factory=KeyLimits)  # of each key that has none of its own
    # what is taken
    most_body_bytes: int = 64 << 20
    most_kept_bytes: int = 10_000_000_000  # of one key's uploads
    most_input_seconds: float = 60.0  # of a given video
    most_input_pixels: int = 4096 * 4096  # of a given picture, or of a frame
    most_variations: int = 8
    most_video_seconds: float = 60.0
    most_listeners: int = 1000
    # what it costs
    usd_hour: float | None = None  # of a worker's device; None: not known, and plans name no amount
    currency: Currency | None = None  # that amounts are shown in; None: USD
    # who may ask, and what is fetched
    needs_keys: bool | None = False  # None: from the moment on when there is one
    remote_hosts: tuple[str, ...] = ()  # that pictures may be fetched from
    webhook_hosts: tuple[str, ...] = ()  # that webhooks may go to though they are private
    blocked_words: Path | None = None
    classifier: str = ""  # "module:function" that says why a prompt is refused
    picture_classifier: str = ""  # the same of frames: of uploads and of what is made
    # models
    models: tuple[str, ...] = ()  # folders of the operator's own, beside those that are pulled
    default_model: str | None = None
    maker: str = ""  # "module:name" of what makes the videos, instead of the engine: for tests and benchmarks

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in LOOPBACK

    @property
    def host_names(self) -> tuple[str, ...] | None:
        """The names that the server is called by: on loopback and without keys only its own, else any."""
        return (*LOOPBACK, "testserver") if self.is_loopback and not self.needs_keys else None


def data_folder(given: Path | None = None) -> Path:
    """The folder of server and workers: what is given, what SORANO_SERVE_DATA names, or the user's own."""
    if given is not None:
        return given.absolute()
    return user_folder("data", None) / "serve" if DATA_VARIABLE not in os.environ else Path(os.environ[DATA_VARIABLE])


def database_url(given: str | None, data: Path) -> str:
    """The database: what is given, what SORANO_DATABASE says, or a file in the data folder."""
    return given or os.environ.get(DATABASE_VARIABLE) or f"sqlite:///{data / 'jobs.sqlite3'}"
