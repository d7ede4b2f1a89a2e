"""API keys: random, kept as SHA-256 digests (256 random bits need no slow hash), with scopes and limits."""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from sorano.errors import RequestError
from sorano.web.database import Database
from sorano.web.problems import Problem

PREFIX = "sk-sorano-"
CACHE_SECONDS = 2.0  # that a revoked key may still work


def api_keys_table(metadata: sa.MetaData, name: str = "api_keys") -> sa.Table:
    """The table of keys in a schema."""
    return sa.Table(
        name,
        metadata,
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False, unique=True),
        sa.Column("hint", sa.Text, nullable=False),  # its first and last characters
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("limits", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float),
        sa.Column("revoked_at", sa.Float),
    )


class ApiKeys:
    """The keys of one database. `command` is the one that makes and lists them, for hints."""

    def __init__(self, database: Database, table: sa.Table, scopes: Sequence[str], command: str) -> None:
        self.database, self.table, self.scopes, self.command = database, table, tuple(scopes), command
        self._seen: dict[str, tuple[float, sa.RowMapping | None]] = {}
        self._any = (-CACHE_SECONDS, False)

    def create_with(
        self, name: str, scopes: Sequence[str], limits: Mapping[str, Any], days: float | None = None
    ) -> tuple[str, str]:
        """Make a key; return its id, and the key itself, which is shown this once. Raises RequestError."""
        wrong = [scope for scope in scopes if scope not in self.scopes]
        if wrong or not scopes:
            raise RequestError(
                f"there is no scope {', '.join(wrong) or 'at all'}", f"scopes are {', '.join(self.scopes)}"
            )
        if not name.strip() or len(name) > 100:
            raise RequestError("a key has a name of 1 to 100 characters", "say who or what uses it")
        with self.database.write() as connection:
            now = self.database.now(connection)
            ends = None if days is None else now + days * 86_400
            return self._add(connection, now, {"name": name, "scopes": list(scopes), "limits": dict(limits)}, ends)

    def _add(
        self, connection: sa.Connection, now: float, values: Mapping[str, Any], ends: float | None
    ) -> tuple[str, str]:
        key, key_id = PREFIX + secrets.token_urlsafe(32), f"key_{secrets.token_hex(8)}"
        told = {"hash": digest(key), "hint": f"{key[:13]}...{key[-4:]}", "created_at": now, "expires_at": ends}
        connection.execute(sa.insert(self.table).values(id=key_id, **values, **told))
        self.log(connection, now, "key.create", key_id, {"name": values["name"], "scopes": values["scopes"]})
        return key_id, key

    def rotate(self, key_id: str, keep_hours: float = 24.0) -> tuple[str, str]:
        """Make a key with the same name, scopes, limits, owner and end; the old one works a while longer, and no longer
        than it would have. Raises RequestError for a key that was revoked or has ended.
        """
        row = self._row(key_id)
        # what a key made belongs to its owner, which is the first key's id
        limits = {**row["limits"], "owner": row["limits"].get("owner") or key_id}
        values = {"name": row["name"], "scopes": list(row["scopes"]), "limits": limits}
        with self.database.write() as connection:
            now, end = self.database.now(connection), row["expires_at"]
            if row["revoked_at"] is not None or (end is not None and end <= now):
                raise RequestError(f"{key_id} was revoked or has ended", f"{self.command} create makes a new one")
            new_id, key = self._add(connection, now, values, end)
            ends = min(now + keep_hours * 3600, math.inf if end is None else end)
            connection.execute(sa.update(self.table).where(self.table.c.id == key_id).values(expires_at=ends))
            self.log(connection, now, "key.rotate", key_id, {"new": new_id})
        return new_id, key

    def revoke(self, key_id: str) -> None:
        """End a key at once."""
        self._row(key_id)
        with self.database.write() as connection:
            now = self.database.now(connection)
            connection.execute(sa.update(self.table).where(self.table.c.id == key_id).values(revoked_at=now))
            self.log(connection, now, "key.revoke", key_id, {})

    def all(self) -> list[sa.RowMapping]:
        """Every key's record, without the keys."""
        with self.database.read() as connection:
            return list(connection.execute(sa.select(self.table).order_by(self.table.c.created_at)).mappings())

    def find(self, key: str | None) -> sa.RowMapping:
        """The record of a key. Raises `Problem` for one that does not work."""
        if not key:
            raise Problem("invalid_api_key", "an API key is needed", "send Authorization: Bearer sk-sorano-...")
        row = self._found(digest(key))
        now = time.time()
        if row is None or row["revoked_at"] is not None or (row["expires_at"] or now + 1) <= now:
            raise Problem("invalid_api_key", "this API key does not work", f"{self.command} create makes one")
        return row

    def any_made(self) -> bool:
        """Whether there is a key, or was one: the end of the last one does not open a server. Looked at every 2 s."""
        at, found = self._any
        if not found and time.monotonic() - at >= CACHE_SECONDS:
            with self.database.read() as connection:
                found = connection.execute(sa.select(self.table.c.id).limit(1)).first() is not None
            self._any = time.monotonic(), found
        return found

    def any_works(self) -> bool:
        """Whether there is a key that was not revoked."""
        with self.database.read() as connection:
            query = sa.select(self.table.c.id).where(self.table.c.revoked_at.is_(None))
            return connection.execute(query).first() is not None

    def log(self, connection: sa.Connection, now: float, action: str, key_id: str, detail: dict[str, Any]) -> None:
        """Called in the transaction of each change; for an audit log."""

    def _found(self, hashed: str) -> sa.RowMapping | None:
        at, row = self._seen.get(hashed, (0.0, None))
        if time.monotonic() - at < CACHE_SECONDS:
            return row
        with self.database.read() as connection:
            row = connection.execute(sa.select(self.table).where(self.table.c.hash == hashed)).mappings().first()
        if row is not None and not hmac.compare_digest(row["hash"], hashed):
            row = None
        if len(self._seen) > 10_000:
            self._seen.clear()
        self._seen[hashed] = time.monotonic(), row
        return row

    def _row(self, key_id: str) -> sa.RowMapping:
        row = next((one for one in self.all() if one["id"] == key_id), None)
        if row is None:
            raise RequestError(f"there is no key {key_id!r}", f"{self.command} list shows them")
        return row


def digest(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()
