"""The API keys of the server: who asks, and what a key may have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import sqlalchemy as sa

from sorano.serve.database import api_keys, audit
from sorano.serve.posts import KeyLimits
from sorano.web.database import Database
from sorano.web.keys import ApiKeys
from sorano.web.problems import Problem

SCOPES = ("read", "write", "admin")  # look, make and delete one's own; everybody's, and the server's metrics
LOCAL = "local"  # the owner where no keys are needed


@dataclass(frozen=True)
class Caller:
    """Who asks."""

    owner: str
    scopes: tuple[str, ...]
    limits: KeyLimits

    @property
    def sees(self) -> str | None:
        """The owner whose jobs the caller may see; None: everybody's."""
        return None if "admin" in self.scopes and self.owner != LOCAL else self.owner

    def require(self, scope: str) -> None:
        """Raises `Problem` where the key does not have a scope."""
        if scope not in self.scopes:
            raise Problem("insufficient_scope", f"this key may not {scope}", f"its scopes are {', '.join(self.scopes)}")


class Keys(ApiKeys):
    """The keys of one database."""

    def __init__(self, database: Database, default_limits: KeyLimits | None = None) -> None:
        super().__init__(database, api_keys, SCOPES, "sorano serve keys")
        self.default_limits = default_limits or KeyLimits()

    def create(
        self,
        name: str,
        scopes: Sequence[str] = ("read", "write"),
        limits: KeyLimits | None = None,
        days: float | None = None,
    ) -> tuple[str, str]:
        """A new key: its id, and the key itself, which is shown this once. Raises RequestError."""
        return self.create_with(name, scopes, asdict(limits or KeyLimits()), days)

    def caller(self, key: str | None) -> Caller:
        """Who a key belongs to. Raises `Problem` for one that does not work."""
        row = self.find(key)
        own, usual = _limits(row["limits"]), asdict(self.default_limits)
        limits = KeyLimits(**{name: usual[name] if value is None else value for name, value in asdict(own).items()})
        return Caller(row["limits"].get("owner") or row["id"], tuple(row["scopes"]), limits)

    def local(self) -> Caller:
        """Who asks where no keys are needed: whoever can reach the loopback interface."""
        return Caller(LOCAL, SCOPES, self.default_limits)

    def log(self, connection: sa.Connection, now: float, action: str, key_id: str, detail: dict[str, Any]) -> None:
        """Write a line of the audit."""
        values = {"at": now, "owner": "operator", "action": action, "subject": key_id, "detail": detail}
        connection.execute(sa.insert(audit).values(**values))


def _limits(words: dict[str, Any]) -> KeyLimits:
    known = {one.name for one in fields(KeyLimits)}
    return KeyLimits(**{name: value for name, value in words.items() if name in known})
