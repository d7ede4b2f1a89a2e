"""What clients submit: checked against the limits of their keys, and written together, each POST once."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from sorano.serve.database import CHANNEL, accounts, audit, jobs, once
from sorano.web.database import Database
from sorano.web.problems import Problem

QUEUED, RUNNING, COMPLETED, FAILED = "queued", "in_progress", "completed", "failed"
RETRY_SECONDS = 900.0  # in which a client's retried POST is the same POST
DAY = 86_400
ANEW = "the count begins anew at 00:00 UTC"
EMPTY: dict[str, Any] = {column.name: None for column in jobs.columns}

Row = sa.RowMapping | dict[str, Any]  # a row of a table, by column


@dataclass(frozen=True)
class KeyLimits:
    """What one key may have; None: no limit."""

    requests_per_day: int | None = None
    video_seconds_per_day: float | None = None
    concurrency: int | None = None
    queued: int | None = None


@dataclass(frozen=True)
class NewJob:
    """A checked request that waits to be a job."""

    model: str
    preset: str
    words: dict[str, Any]
    shown: dict[str, Any]
    video_seconds: float
    planned_seconds: float | None = None
    remixed_from: str | None = None
    priority: int = 0
    is_paused: bool = False
    deadline_seconds: float | None = None


@dataclass
class Post:
    """What one POST submits, and what comes of it."""

    new: tuple[NewJob, ...]
    owner: str
    limits: KeyLimits
    body_hash: str
    idempotency_key: str | None
    is_retry: bool
    rows: list[Row] = field(default_factory=list)
    error: BaseException | None = None
    is_done: bool = False


class Batch:
    """Some POSTs in one transaction: the repetitions among them, the limits of their keys, the rows."""

    def __init__(self, database: Database, connection: sa.Connection, posts: Sequence[Post], most_queued: int) -> None:
        self.database, self.connection, self.posts, self.most_queued = database, connection, posts, most_queued
        self.now = self.database.now(connection)
        self.day = int(self.now // DAY)
        self.made: list[dict[str, Any]] = []
        self.keys: list[dict[str, Any]] = []
        self.logged: list[dict[str, Any]] = []
        self.accounts: dict[str, dict[str, Any]] = {}
        self.queued: dict[str, int] = {}
        self.total = 0

    def write(self) -> None:
        """Writes what may be written; each POST gets its rows or its `Problem`."""
        self._read()
        for post in self.posts:
            try:
                post.rows = self._earlier(post) or self._new(post)
            except Problem as problem:
                post.error = problem
        if self.made:
            self.connection.execute(sa.insert(jobs), self.made)
            self.connection.execute(sa.insert(audit), self.logged)
            self.database.notify(self.connection, CHANNEL)
        if self.keys:
            self.connection.execute(sa.insert(once), self.keys)
        for owner, account in self.accounts.items():
            if account.pop("is_changed", False):
                values = {name: value for name, value in account.items() if name != "owner"}
                self.connection.execute(sa.update(accounts).where(accounts.c.owner == owner).values(**values))

    def _read(self) -> None:
        """The accounts of the POSTs' keys, locked, and how much waits."""
        owners = sorted({post.owner for post in self.posts})
        query = sa.select(accounts).where(accounts.c.owner.in_(owners)).order_by(accounts.c.owner)
        found = self.connection.execute(self.database.locked(query)).mappings().all()
        missing = [owner for owner in owners if owner not in {row["owner"] for row in found}]
        for owner in missing:
            self.connection.execute(self.database.upsert(accounts, {"owner": owner}))
        if missing:
            found = self.connection.execute(self.database.locked(query)).mappings().all()
        self.accounts = {row["owner"]: dict(row) for row in found}
        counts = sa.select(jobs.c.owner, sa.func.count()).where(jobs.c.status == QUEUED).group_by(jobs.c.owner)
        self.queued = {str(owner): int(count) for owner, count in self.connection.execute(counts)}
        self.total = sum(self.queued.values())

    def _new(self, post: Post) -> list[Row]:
        self._count(post)
        ids = [f"video_{secrets.token_hex(16)}" for _ in post.new]
        rows = [
            self._row(post, one, name, ids[0] if len(ids) > 1 else None, len(self.made) + number)
            for number, (one, name) in enumerate(zip(post.new, ids, strict=True))
        ]
        if post.idempotency_key:
            self.keys.append(
                {
                    "owner": post.owner,
                    "key": post.idempotency_key,
                    "body_hash": post.body_hash,
                    "job_id": ids[0],
                    "created_at": self.now,
                }
            )
        self.made += rows
        first = post.new[0]
        prompt = None if first.words.get("private") else first.shown.get("prompt")
        detail = {"prompt": prompt, "model": first.model}
        self.logged += audit_lines(self.now, post.owner, "create", ids, detail)
        return [{**EMPTY, **row} for row in rows]

    def _row(self, post: Post, one: NewJob, name: str, group: str | None, number: int) -> dict[str, Any]:
        seconds = one.deadline_seconds
        return {
            "id": name,
            "owner": post.owner,
            "group_id": group,
            "status": QUEUED,
            "is_paused": one.is_paused,
            "priority": one.priority,
            "position": self.now + 1e-6 * number,
            "model": one.model,
            "preset": one.preset,
            "words": one.words,
            "shown": one.shown,
            "remixed_from": one.remixed_from,
            "planned_seconds": one.planned_seconds,
            "video_seconds": one.video_seconds,
            "body_hash": post.body_hash,
            "idempotency_key": post.idempotency_key,
            "created_at": self.now,
            "deadline_at": None if seconds is None else self.now + seconds,
            "num_steps": one.shown.get("num_steps"),
            "epoch": 0,
            "attempts": 0,
            "progress": 0,
            "variant_attempts": 0,
        }

    def _earlier(self, post: Post) -> list[Row]:
        """The jobs of the same POST, sent before. Raises `Problem` for a key that was used for something else."""
        first: str | None = None
        key = post.idempotency_key
        if key:
            query = sa.select(once).where(once.c.owner == post.owner, once.c.key == key)
            found: Row | None = self.connection.execute(query).mappings().first()
            written = (one for one in self.keys if (one["owner"], one["key"]) == (post.owner, key))
            found = found or next(written, None)
            if found is None:
                return []
            if found["body_hash"] != post.body_hash:
                raise Problem(
                    "idempotency_mismatch",
                    f"the Idempotency-Key {key[:80]!r} was used for another request",
                    "send a new key with a new request",
                )
            first = found["job_id"]
        elif post.is_retry:
            same = (jobs.c.owner == post.owner, jobs.c.body_hash == post.body_hash)
            query = sa.select(jobs).where(*same, jobs.c.created_at > self.now - RETRY_SECONDS)
            row: Row | None = self.connection.execute(query.order_by(jobs.c.seq.desc()).limit(1)).mappings().first()
            mine = (one for one in self.made if (one["owner"], one["body_hash"]) == (post.owner, post.body_hash))
            row = row or next(mine, None)  # both may wait for the database together
            first = None if row is None else row["group_id"] or row["id"]
        if first is None:
            return []
        query = sa.select(jobs).where(sa.or_(jobs.c.id == first, jobs.c.group_id == first)).order_by(jobs.c.seq)
        rows: list[Row] = list(self.connection.execute(query).mappings())
        rows = rows or [{**EMPTY, **row} for row in self.made if first in (row["id"], row["group_id"])]
        if not rows:
            raise Problem("not_found", f"the job of this Idempotency-Key, {first}, was deleted", "send a new key")
        return rows

    def _count(self, post: Post) -> None:
        """Counts a POST against the queue and its key's quotas. Raises `Problem` where it is too much."""
        number, limits, account = len(post.new), post.limits, self.accounts[post.owner]
        own = self.queued.get(post.owner, 0)
        if self.total + number > self.most_queued:
            said = f"the queue holds {self.total} jobs, its most"
            raise Problem("queue_full", said, "try again later", retry_after=30)
        if limits.queued is not None and own + number > limits.queued:
            raise Problem("queue_full", f"{own} jobs of this key wait, its most", "try later", retry_after=30)
        fresh = account["day"] == self.day
        requests = (account["requests"] if fresh else 0) + number
        seconds = (account["video_seconds"] if fresh else 0.0) + sum(one.video_seconds for one in post.new)
        tomorrow = (self.day + 1) * DAY - self.now
        if limits.requests_per_day is not None and requests > limits.requests_per_day:
            said = f"this key makes {limits.requests_per_day} videos a day"
            raise Problem("quota_exceeded", said, ANEW, retry_after=tomorrow)
        _require_seconds(limits, seconds, self.now)
        if own == 0:
            account["served"] = max(account["served"], self._least_served(post.owner))
        account |= {"day": self.day, "requests": requests, "video_seconds": seconds, "is_changed": True}
        account["concurrency"] = limits.concurrency
        self.queued[post.owner] = own + number
        self.total += number

    def _least_served(self, owner: str) -> float:
        """Where a key that was idle begins: it does not get the time that it did not use."""
        running = sa.select(jobs.c.id).where(jobs.c.owner == owner, jobs.c.status == RUNNING).limit(1)
        if self.connection.execute(running).first() is not None:
            return 0.0
        waiting = sa.select(jobs.c.owner).where(jobs.c.status == QUEUED).distinct()
        least = sa.select(sa.func.min(accounts.c.served)).where(accounts.c.owner.in_(waiting))
        return float(self.connection.execute(least).scalar_one() or 0.0)


def count_more(
    database: Database, connection: sa.Connection, owner: str, limits: KeyLimits, video_seconds: float
) -> None:
    """Counts seconds of video that a changed request has more than before, in the transaction that changes it.

    Raises `Problem` where they are more than the key may make today. What is less is not given back.
    """
    if video_seconds <= 0:
        return
    query = database.locked(sa.select(accounts).where(accounts.c.owner == owner))
    account = connection.execute(query).mappings().one()
    day = int(database.now(connection) // DAY)
    fresh = account["day"] == day
    seconds = (account["video_seconds"] if fresh else 0.0) + video_seconds
    _require_seconds(limits, seconds, database.now(connection))
    values = {"day": day, "requests": account["requests"] if fresh else 0, "video_seconds": seconds}
    connection.execute(sa.update(accounts).where(accounts.c.owner == owner).values(**values))


def _require_seconds(limits: KeyLimits, seconds: float, now: float) -> None:
    """Raises `Problem` for more seconds of video than a key makes in a day."""
    most = limits.video_seconds_per_day
    if most is not None and seconds > most:
        raise Problem(
            "quota_exceeded", f"this key makes {most:g} seconds of video a day", ANEW, retry_after=DAY - now % DAY
        )


def audit_lines(
    now: float, owner: str, action: str, ids: Sequence[str], detail: dict[str, Any]
) -> list[dict[str, Any]]:
    """Lines of the audit log."""
    return [{"at": now, "owner": owner, "action": action, "subject": name, "detail": detail} for name in ids]
