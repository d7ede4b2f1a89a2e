"""A database: SQLite in WAL mode, or PostgreSQL by a URL, with SQLAlchemy Core.

Transactions that write are BEGIN IMMEDIATE on SQLite, one after the other within a process, so that no lock is ever
upgraded; on PostgreSQL rows are locked. What was committed with `durable` is on the disk: on SQLite that is one fsync.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, OperationalError

from sorano.errors import RequestError
from sorano.extras import install, is_installed

BUSY_SECONDS = 30


class Database:
    """Connections to one database. Raises RequestError for a URL that cannot be used."""

    def __init__(self, url: str) -> None:
        self.url = normal_url(url)
        self.is_sqlite = self.url.startswith("sqlite")
        options: dict[str, Any] = {"pool_size": 8, "max_overflow": 56, "pool_timeout": BUSY_SECONDS}
        options["hide_parameters"] = True  # errors are logged: prompts and secrets are not
        if self.is_sqlite:
            options["connect_args"] = {"timeout": BUSY_SECONDS, "check_same_thread": False}
        else:
            options["pool_pre_ping"] = True
        self.engine = sa.create_engine(self.url, **options)
        weakref.finalize(self, self.engine.dispose)  # commands end without closing it
        self._turn = threading.Lock()
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that only reads."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sa.Connection]:
        """A transaction that writes; not `durable`, the last ones may be lost with the machine's power."""
        if not self.is_sqlite:
            with self.engine.connect() as connection, connection.begin():
                if not durable:
                    connection.execute(sa.text("SET LOCAL synchronous_commit = off"))
                yield connection
            return
        with self._turn, self.engine.connect().execution_options(sorano_write=True) as connection:
            raw = connection.connection.dbapi_connection
            assert raw is not None
            raw.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            with connection.begin():
                yield connection

    def now(self, connection: sa.Connection) -> float:
        """Seconds since 1970: by the database's clock where several machines share it."""
        if self.is_sqlite:
            return time.time()
        return float(connection.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())

    def notify(self, connection: sa.Connection, channel: str) -> None:
        """Wake who listens to a channel when this transaction commits. (On SQLite they look for themselves.)"""
        if not self.is_sqlite:
            connection.execute(sa.text(f"NOTIFY {channel}"))

    def locked(self, query: sa.Select[Any], *, skip_of: sa.Table | None = None) -> sa.Select[Any]:
        """The query with its rows locked until the transaction ends, without rows of `skip_of` that others hold."""
        if self.is_sqlite:
            return query
        return query.with_for_update(skip_locked=skip_of is not None, of=skip_of)

    def upsert(self, table: sa.Table, values: dict[str, Any]) -> Any:
        """An INSERT that leaves a row of the same primary key as it is."""
        from sqlalchemy.dialects import postgresql, sqlite

        return (sqlite if self.is_sqlite else postgresql).insert(table).values(**values).on_conflict_do_nothing()

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def normal_url(url: str) -> str:
    """The URL as SQLAlchemy wants it. Raises RequestError for another kind of database, or a missing driver."""
    text = url.strip()
    if text.startswith(("postgres://", "postgresql://")):
        text = "postgresql+psycopg://" + text.split("://", 1)[1]
    if text.startswith("postgresql+psycopg://"):
        if not is_installed("psycopg"):
            raise RequestError("PostgreSQL needs psycopg", install("serve"))
        return text
    if text.startswith("sqlite:///"):
        return text
    if "://" in text:
        raise RequestError(
            f"{text.split('://')[0]} is no database for this", "use sqlite:///PATH or postgresql://USER@HOST/NAME"
        )
    return f"sqlite:///{Path(text).absolute()}"


def sqlite_path(url: str) -> str | None:
    """The file of an SQLite database."""
    return url.removeprefix("sqlite:///").partition("?")[0] if url.startswith("sqlite") else None


def is_full(error: BaseException) -> bool:
    """Whether the database's disk is full."""
    cause = getattr(error, "orig", None)
    return getattr(cause, "sqlite_errorname", "") == "SQLITE_FULL" or getattr(cause, "sqlstate", "") == "53100"


def is_unavailable(error: BaseException) -> bool:
    """Whether the database cannot be reached, is locked or full, rather than asked something wrong."""
    return isinstance(error, OperationalError | sa.exc.TimeoutError | sa.exc.InterfaceError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where `_begin_sqlite` says
    for line in ("journal_mode = WAL", f"busy_timeout = {BUSY_SECONDS * 1000}", "synchronous = FULL"):
        connection.execute(f"PRAGMA {line}")


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("sorano_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
