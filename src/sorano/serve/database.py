"""The tables of the server, and how its processes learn of changes."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from sorano.web.database import BUSY_SECONDS, Database, sqlite_path
from sorano.web.keys import api_keys_table
from sorano.web.problems import not_found

POLL_SECONDS = 0.02  # between two looks at SQLite's data_version
CHANNEL = "sorano_jobs"
MIGRATIONS = Path(__file__).parent / "migrations"

metadata = sa.MetaData()
Json = sa.JSON()

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("group_id", sa.Text),  # of variations that were asked for together
    sa.Column("status", sa.Text, nullable=False),  # queued, in_progress, completed, failed
    sa.Column("is_paused", sa.Boolean, nullable=False, default=False),
    sa.Column("priority", sa.Integer, nullable=False, default=0),
    sa.Column("position", sa.Float, nullable=False),  # in the queue, among equal priorities
    # what to make
    sa.Column("model", sa.Text, nullable=False),  # as it was asked for
    sa.Column("preset", sa.Text, nullable=False),
    sa.Column("words", Json, nullable=False),  # fields of Request, files as references
    sa.Column("shown", Json, nullable=False),  # prompt, size, seconds ... as the object says them
    sa.Column("remixed_from", sa.Text),
    sa.Column("planned_seconds", sa.Float),
    sa.Column("video_seconds", sa.Float, nullable=False),
    sa.Column("body_hash", sa.Text, nullable=False),
    sa.Column("idempotency_key", sa.Text),
    # times, in seconds since 1970
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("completed_at", sa.Float),
    sa.Column("expires_at", sa.Float),
    sa.Column("deadline_at", sa.Float),
    # the lease: the epoch is the fencing token
    sa.Column("epoch", sa.Integer, nullable=False, default=0),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("worker", sa.Text),
    sa.Column("lease_until", sa.Float),
    # how far it is
    sa.Column("progress", sa.Integer, nullable=False, default=0),
    sa.Column("stage", sa.Text),
    sa.Column("step", sa.Integer),
    sa.Column("num_steps", sa.Integer),
    sa.Column("preview_step", sa.Integer),
    # how it ended
    sa.Column("files", Json),  # name -> bytes and SHA-256
    sa.Column("variants", sa.Text),  # pending, making, done, failed
    sa.Column("variant_attempts", sa.Integer, nullable=False, default=0),
    sa.Column("result", Json),  # verdict, seconds of each stage, peak memory
    sa.Column("error_code", sa.Text),
    sa.Column("error_message", sa.Text),
    sa.Index("jobs_queue", "status", "is_paused", "priority", "position"),
    sa.Index("jobs_of_owner", "owner", "seq"),
    sa.Index("jobs_of_body", "owner", "body_hash", "created_at"),
    sa.Index("jobs_once", "owner", "idempotency_key"),
    sqlite_autoincrement=True,
)
once = sa.Table(  # what was answered to an Idempotency-Key
    "once",
    metadata,
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("body_hash", sa.Text, nullable=False),
    sa.Column("job_id", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)
accounts = sa.Table(  # of each key: its share of the devices, and what it used today
    "accounts",
    metadata,
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("served", sa.Float, nullable=False, default=0.0),  # virtual time of fair queueing, in seconds
    sa.Column("day", sa.Integer, nullable=False, default=0),
    sa.Column("requests", sa.Integer, nullable=False, default=0),
    sa.Column("video_seconds", sa.Float, nullable=False, default=0.0),
    sa.Column("concurrency", sa.Integer),  # jobs at once; None: as many as there are workers
)
uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),  # as the client called it
    sa.Column("stored", sa.Text, nullable=False),  # its name in the store
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("found", Json, nullable=False),  # kind, width, height, seconds
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float),
)
workers = sa.Table(
    "workers",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("machine", Json),  # sorano.plan.Machine
    sa.Column("job_id", sa.Text),
    sa.Column("preset", sa.Text),  # loaded
    sa.Column("state", sa.Text, nullable=False),  # starting, ready, draining
    sa.Column("metrics", Json, nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("seen_at", sa.Float, nullable=False),
)
api_keys = api_keys_table(metadata)
webhook_endpoints = sa.Table(
    "webhook_endpoints",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("secret", sa.Text, nullable=False),  # signs: it cannot be kept as a hash
    sa.Column("old_secret", sa.Text),  # also signs until `old_until`
    sa.Column("old_until", sa.Float),
    sa.Column("event_types", Json, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
)
deliveries = sa.Table(  # the outbox, and the log of what was sent
    "deliveries",
    metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),  # webhook-id
    sa.Column("endpoint_id", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("next_at", sa.Float),  # None: done, or given up
    sa.Column("delivered_at", sa.Float),
    sa.Column("status_code", sa.Integer),
    sa.Column("error", sa.Text),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Index("deliveries_due", "next_at"),
)
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),  # create, cancel, delete, expire, complete, fail, ...
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("detail", Json, nullable=False),
    sa.Index("audit_subject", "subject"),
)


def owned_row(
    connection: sa.Connection,
    table: sa.Table,
    name: str,
    owner: str | None,
    what: str,
    *,
    lock: Callable[[sa.Select[Any]], sa.Select[Any]] | None = None,
) -> sa.RowMapping:
    """The row of a table with this id, of an owner or of anybody (None). Raises `Problem` where there is none, or only
    another's: nobody learns which."""
    query = sa.select(table).where(table.c.id == name)
    if owner is not None:
        query = query.where(table.c.owner == owner)
    row = connection.execute(query if lock is None else lock(query)).mappings().first()
    if row is None:
        raise not_found(what, name)
    return row


class Watcher:
    """Waits until something may have changed: PostgreSQL's NOTIFY, or SQLite's data_version, looked at often."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._connection: Any = None
        self._version = -1

    def wait(self, seconds: float) -> bool:
        """Whether something changed; False after so many seconds."""
        try:
            return self._wait_sqlite(seconds) if self.database.is_sqlite else self._wait_postgres(seconds)
        except (DBAPIError, OSError, self._errors()):
            self.close()
            time.sleep(min(seconds, 0.5))
            return True

    def close(self) -> None:
        """Let the connection go."""
        if self._connection is not None:
            with suppress(Exception):
                self._connection.close()
        self._connection = None

    def _errors(self) -> type[Exception]:
        if self.database.is_sqlite:
            import sqlite3

            return sqlite3.Error
        import psycopg

        return psycopg.Error

    def _wait_sqlite(self, seconds: float) -> bool:
        if self._connection is None:
            import sqlite3

            self._connection = sqlite3.connect(sqlite_path(self.database.url) or ":memory:", timeout=BUSY_SECONDS)
        end = time.monotonic() + seconds
        while True:
            version = int(self._connection.execute("PRAGMA data_version").fetchone()[0])
            if version != self._version:
                self._version = version
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(min(POLL_SECONDS, max(0.0, end - time.monotonic())))

    def _wait_postgres(self, seconds: float) -> bool:
        import psycopg

        if self._connection is None:
            self._connection = psycopg.connect(self.database.url.replace("+psycopg", "", 1), autocommit=True)
            self._connection.execute(f"LISTEN {CHANNEL}")
            return True  # what came before is looked for
        for _ in self._connection.notifies(timeout=0):
            return True
        ready, _, _ = select.select([self._connection.fileno()], [], [], seconds)
        return bool(ready) and any(True for _ in self._connection.notifies(timeout=0))
